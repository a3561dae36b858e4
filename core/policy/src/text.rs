//! What a policy's text mentions, without its comments.
//!
//! Left out: what the text means, which the engine knows. So a mention is no proof of use.

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the comments.
    Code,
    /// Also without what stands in quotes.
    Unquoted,
}

/// The text without comments, line for line (Rego's grammar: `#`, `"…"` with escapes, and raw strings).
pub(crate) fn without_comments(rego: &str, part: Part) -> String {
    let mut kept = String::with_capacity(rego.len());
    let mut within: Option<char> = None;
    let mut characters = rego.chars();
    while let Some(c) = characters.next() {
        let mut keep = |c: char| {
            if c == '\n' || part == Part::Code {
                kept.push(c);
            }
        };
        match (within, c) {
            (Some('#'), '\n') => {
                keep(c);
                within = None;
            }
            (Some('#'), _) => {}
            (Some('"'), '\\') => {
                keep(c);
                characters.next().into_iter().for_each(keep);
            }
            (Some(quote), _) => {
                keep(c);
                if c == quote {
                    within = None;
                }
            }
            (None, '#') => within = Some(c),
            (None, '"' | '`') => {
                keep(c);
                within = Some(c);
            }
            (None, _) => kept.push(c),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_quoted_signs_begin_none() {
        let rego = "a := \"#\\\"#\" # b\nc := `#\\` # \"d\ne # ` \n`f\n`g";
        assert_eq!(without_comments(rego, Part::Code), "a := \"#\\\"#\" \nc := `#\\` \ne \n`f\n`g");
        assert_eq!(without_comments(rego, Part::Unquoted), "a :=  \nc :=  \ne \n\ng");
    }
}
