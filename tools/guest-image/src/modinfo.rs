//! What a kernel module says of itself in its `.modinfo` section: `key=value` strings, each ended by a zero.

use object::{Object, ObjectSection};

/// A module's own words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ModInfo {
    /// Modules without which it cannot be loaded.
    pub(crate) depends: Vec<String>,
    /// Modules that it wants before itself, if they are there.
    pub(crate) wants_before: Vec<String>,
}

impl ModInfo {
    /// Reads the section from a module file.
    pub(crate) fn read(module: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(module).map_err(|error| error.to_string())?;
        let section = file.section_by_name(".modinfo").ok_or("it has no .modinfo section")?;
        Ok(Self::parse(section.data().map_err(|error| error.to_string())?))
    }

    fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for (key, value) in entries(section) {
            match key {
                "depends" => info.depends.extend(names(value.split(','))),
                "softdep" => info.wants_before.extend(pre(value)),
                _ => {}
            }
        }
        info
    }
}

/// The entries of a `.modinfo` section, or of a kernel's `modules.builtin.modinfo`.
pub(crate) fn entries(section: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    section
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .filter_map(|entry| entry.split_once('='))
}

/// A module's name as the kernel compares it: `-` and `_` are one letter.
pub(crate) fn canonical(name: &str) -> String {
    name.trim().replace('-', "_")
}

fn names<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    words.map(canonical).filter(|name| !name.is_empty())
}

/// The modules after `pre:`, up to `post:` (modprobe.d(5), `softdep`).
fn pre(value: &str) -> impl Iterator<Item = String> {
    let words = value.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
    names(words.take_while(|word| *word != "post:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_in_their_canonical_names() {
        let info = ModInfo::parse(b"license=GPL\0depends=dm-mod,dm-bufio\0softdep=pre: ecb crc32c post: x\0");
        assert_eq!(info.depends, ["dm_mod", "dm_bufio"]);
        assert_eq!(info.wants_before, ["ecb", "crc32c"]);
    }

    #[test]
    fn no_dependencies_are_no_names() {
        assert_eq!(ModInfo::parse(b"depends=\0softdep=post: x\0"), ModInfo::default());
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(ModInfo::read(b"\x7fELF").is_err());
        assert!(ModInfo::read(b"").is_err());
    }
}
