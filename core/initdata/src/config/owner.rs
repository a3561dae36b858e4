//! `UID:GID`: who something in the container belongs to.

/// Reads an owner. A number has one form only, so that the text is written as it was read.
pub(super) fn parse(text: &str) -> Result<(u32, u32), &'static str> {
    let (user, group) = text.split_once(':').unwrap_or_default();
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    match (number(user), number(group)) {
        (Some(user), Some(group)) => Ok((user, group)),
        _ => Err("owner is not of the form UID:GID, in numbers"),
    }
}
