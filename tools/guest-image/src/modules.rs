//! Which modules a guest loads, in an order in which each finds what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::GuestImageError;
use crate::kernel::Kernel;
use crate::modinfo::{ModInfo, canonical, entries};

/// A compressed module that grows beyond this is none that a guest loads.
const LARGEST_MODULE: usize = 32 << 20;

/// A module to load.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its file name, without a directory.
    pub(crate) file_name: String,
    /// Its bytes, not compressed, with the signature that the kernel's maker appended.
    pub(crate) content: Vec<u8>,
}

/// Modules to load.
pub(crate) struct Resolved {
    /// Those without which a guest cannot start.
    pub(crate) needed: Vec<Module>,
    /// Those that the kernel happens to have.
    pub(crate) optional: Vec<Module>,
}

/// The named modules and what they need, each after what it needs; in the order of `names` where they are free. Of
/// `optional` only those that this kernel has.
pub(crate) fn resolve(
    kernel: &Kernel,
    names: &[&str],
    optional: &[&str],
) -> Result<Resolved, GuestImageError> {
    let mut search = Search { kernel, tree: Tree::read(kernel)?, done: BTreeSet::new(), order: Vec::new() };
    for name in names {
        search.visit(&canonical(name), None, &mut Vec::new())?;
    }
    let needed = std::mem::take(&mut search.order);
    for name in optional.iter().map(|name| canonical(name)) {
        if search.tree.files.contains_key(&name) {
            search.visit(&name, None, &mut Vec::new())?;
        }
    }
    Ok(Resolved { needed, optional: search.order })
}

struct Search<'a> {
    kernel: &'a Kernel,
    tree: Tree,
    done: BTreeSet<String>,
    order: Vec<Module>,
}

impl Search<'_> {
    fn visit(&mut self, name: &str, by: Option<&str>, path: &mut Vec<String>) -> Result<(), GuestImageError> {
        if self.done.contains(name) || self.tree.builtin.contains(name) {
            return Ok(());
        }
        if path.iter().any(|ancestor| ancestor == name) {
            return Err(GuestImageError::Circle(path.clone()));
        }
        let Some(file) = self.tree.files.get(name).cloned() else {
            return Err(GuestImageError::NoModule {
                kernel: self.kernel.version.clone(),
                module: name.into(),
                needed_by: by.map(str::to_owned),
            });
        };
        let (file_name, content) = read_module(&file)?;
        let info = ModInfo::read(&content)
            .map_err(|reason| GuestImageError::DamagedModule { path: file.clone(), reason })?;
        path.push(name.into());
        for wanted in &info.wants_before {
            // A wish may name an alias of something that is built in, or nothing at all: only files are followed.
            if self.tree.files.contains_key(wanted) {
                self.visit(wanted, Some(name), path)?;
            }
        }
        for needed in &info.depends {
            self.visit(needed, Some(name), path)?;
        }
        path.pop();
        self.done.insert(name.into());
        self.order.push(Module { file_name, content });
        Ok(())
    }
}

/// The module in a `.ko`, `.ko.zst` or `.ko.xz` file, and its name without a compression's ending.
fn read_module(file: &Path) -> Result<(String, Vec<u8>), GuestImageError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let content = std::fs::read(file).map_err(GuestImageError::file("read", file))?;
    let (plain, content) = match name.rsplit_once('.') {
        Some((_, "ko")) => (&*name, Ok(content)),
        Some((plain, "zst")) => (plain, zstd::bulk::decompress(&content, LARGEST_MODULE)),
        Some((plain, "xz")) => (plain, unpack_xz(&content)),
        _ => return Err(GuestImageError::CompressedModule { path: file.into() }),
    };
    if !plain.ends_with(".ko") {
        return Err(GuestImageError::CompressedModule { path: file.into() });
    }
    let damaged = |error: std::io::Error| GuestImageError::DamagedModule {
        path: file.into(),
        reason: error.to_string(),
    };
    Ok((plain.to_owned(), content.map_err(damaged)?))
}

fn unpack_xz(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let limit = u64::try_from(LARGEST_MODULE).unwrap_or(u64::MAX);
    lzma_rust2::XzReader::new(content, false).take(limit).read_to_end(&mut out)?;
    Ok(out)
}

/// The modules that a kernel has.
struct Tree {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Tree {
    fn read(kernel: &Kernel) -> Result<Self, GuestImageError> {
        let mut files = BTreeMap::new();
        collect(&kernel.modules.join("kernel"), &mut files)?;
        let list = kernel.modules.join("modules.builtin");
        let text = std::fs::read_to_string(&list).map_err(GuestImageError::file("read", &list))?;
        let mut builtin: BTreeSet<String> = text.lines().filter_map(module_name).collect();
        // Older packages do not have it; then only the file names count.
        if let Ok(info) = std::fs::read(kernel.modules.join("modules.builtin.modinfo")) {
            let aliases = entries(&info).filter(|(key, _)| key.ends_with(".alias"));
            builtin.extend(aliases.map(|(_, alias)| canonical(alias)));
        }
        Ok(Self { files, builtin })
    }
}

/// `kernel/crypto/xts.ko` and `kernel/crypto/xts.ko.xz` are `xts`.
fn module_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let (stem, compression) = name.rsplit_once(".ko")?;
    (compression.is_empty() || compression.starts_with('.')).then(|| canonical(stem))
}

fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), GuestImageError> {
    let read = || std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>();
    for entry in read().map_err(GuestImageError::file("list", directory))? {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
            files.insert(name, path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_files_compressed_or_not() {
        assert_eq!(module_name("kernel/drivers/md/dm-mod.ko").as_deref(), Some("dm_mod"));
        assert_eq!(module_name("xts.ko.xz").as_deref(), Some("xts"));
        assert_eq!(module_name("modules.order"), None);
        assert_eq!(module_name("a.korn"), None);
    }
}
