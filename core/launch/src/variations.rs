//! What launchers and people vary, and how it is said.

/// Numbers of processors that are tried instead of `expected`: its neighbours, half, double, and powers of two.
pub(crate) fn vcpus(expected: u32, most: u32) -> Vec<u32> {
    let near =
        [expected.saturating_sub(1), expected.saturating_add(1), expected / 2, expected.saturating_mul(2)];
    let mut all: Vec<u32> = near.into_iter().chain((0..7).map(|power| 1 << power)).collect();
    all.retain(|vcpus| (1..=most).contains(vcpus) && *vcpus != expected);
    all.sort_unstable();
    all.dedup();
    all
}

/// `2 vCPUs instead of 4`.
pub(crate) fn vcpus_detail(found: u32, expected: u32) -> String {
    let plural = if found == 1 { "" } else { "s" };
    format!("{found} vCPU{plural} instead of {expected}")
}

/// Memory sizes in MiB that are tried instead of `expected`: powers of two and their multiples by three.
pub(crate) fn memory(expected: u32, least: u32, most: u32) -> Vec<u32> {
    let powers = (8..20).map(|power| 1u32 << power);
    let thirds = (8..18).map(|power| 3u32 << power);
    let near = [expected / 2, expected.saturating_mul(2)];
    let mut all: Vec<u32> = powers.chain(thirds).chain(near).collect();
    all.retain(|memory| (least..=most).contains(memory) && *memory != expected);
    all.sort_unstable();
    all.dedup();
    all
}

/// `2048 MiB of memory instead of 4096`.
pub(crate) fn memory_detail(found: u32, expected: u32) -> String {
    format!("{found} MiB of memory instead of {expected}")
}

/// Command lines that come from common slips, each with what it is.
pub(crate) fn command_lines(expected: &str) -> Vec<(String, String)> {
    let tries = [
        (String::new(), "an empty command line"),
        (format!("{expected} "), "the command line with a blank at its end"),
        (format!("{expected}\n"), "the command line with a line feed at its end"),
        (format!("{expected} quiet"), "the command line with `quiet` added"),
        (format!("{expected} debug"), "the command line with `debug` added"),
        (expected.trim_end_matches(" quiet").to_owned(), "the command line without `quiet`"),
    ];
    tries
        .into_iter()
        .filter(|(text, _)| text != expected)
        .map(|(text, detail)| (text, detail.to_owned()))
        .collect()
}
