//! Archives that `docker save` and skopeo make (`docker-archive:`), read into a temporary layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::{Descriptor, ImageConfig, Manifest, media};
use serde::Deserialize;
use tempfile::TempDir;

use crate::error::{ImageError, at};
use crate::layout::Layout;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads an archive of one image.
pub(crate) fn import(file: &Path) -> Result<(Layout, TempDir), ImageError> {
    let refuse = |why: String| ImageError::Archive { file: file.into(), why };
    let (list, links) = survey(file)?;
    let list = list.ok_or_else(|| refuse("it has no manifest.json".into()))?;
    let saved: Vec<Saved> =
        serde_json::from_slice(&list).map_err(|error| refuse(format!("manifest.json: {error}")))?;
    let [saved] = saved.as_slice() else {
        return Err(ImageError::NotFound {
            name: "(one image expected)".into(),
            place: format!("docker-archive:{}", file.display()),
            found: saved
                .iter()
                .flat_map(|image| image.repo_tags.iter().flatten())
                .take(16)
                .cloned()
                .collect(),
        });
    };
    let follow = |name: &str| links.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let mut wanted: BTreeMap<String, Option<Descriptor>> =
        saved.layers.iter().chain([&saved.config]).map(|name| (follow(name), None)).collect();
    let (layout, temporary) = Layout::create_temporary()?;
    let mut archive = open(file)?;
    for entry in archive.entries().map_err(at(file))? {
        let mut entry = entry.map_err(at(file))?;
        let name = clean(&entry.path_bytes());
        if let Some(slot) = wanted.get_mut(&name) {
            *slot = Some(store(&layout, &mut entry, file)?);
        }
    }
    let take = |name: &str| {
        wanted.get(&follow(name)).cloned().flatten().ok_or_else(|| refuse(format!("it has no file {name}")))
    };
    let mut config = take(&saved.config)?;
    ImageConfig::parse(&layout.document(&config.digest)?)?;
    config.media_type = media::OCI_CONFIG.into();
    let layers = saved.layers.iter().map(|name| take(name)).collect::<Result<_, _>>()?;
    let manifest = Manifest::new(config, layers).to_bytes()?;
    let descriptor = layout.put(media::OCI_MANIFEST, &manifest)?;
    layout.tag(&descriptor, "saved")?;
    Ok((layout, temporary))
}

/// The list of images, and the links of the legacy names: layers come before both.
type Survey = (Option<Vec<u8>>, BTreeMap<String, String>);

fn survey(file: &Path) -> Result<Survey, ImageError> {
    let (mut list, mut links) = (None, BTreeMap::new());
    let mut archive = open(file)?;
    for entry in archive.entries().map_err(at(file))? {
        let mut entry = entry.map_err(at(file))?;
        let name = clean(&entry.path_bytes());
        let kind = entry.header().entry_type();
        if name == "manifest.json" && kind.is_file() {
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_DOCUMENT as u64).read_to_end(&mut bytes).map_err(at(file))?;
            list = Some(bytes);
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
            let base = match kind.is_symlink() {
                true => Path::new(&name).parent().unwrap_or(Path::new("")).to_path_buf(),
                false => PathBuf::new(),
            };
            links.insert(name, resolve(&base, &clean(&target)));
        }
        if links.len() > 100_000 {
            return Err(ImageError::Archive { file: file.into(), why: "it has too many links".into() });
        }
    }
    Ok((list, links))
}

fn open(file: &Path) -> Result<tar::Archive<Box<dyn Read>>, ImageError> {
    use std::io::BufRead;
    let mut reader = BufReader::new(File::open(file).map_err(at(file))?);
    let gzip = reader.fill_buf().map_err(at(file))?.starts_with(&[0x1f, 0x8b]);
    Ok(tar::Archive::new(match gzip {
        true => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        false => Box::new(reader),
    }))
}

fn clean(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// The name that a relative link stands for, within the archive.
fn resolve(base: &Path, target: &str) -> String {
    let mut parts: Vec<&str> =
        base.to_str().unwrap_or_default().split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Writes a file of the archive as a blob; its first bytes say how it is compressed.
fn store(layout: &Layout, content: &mut impl Read, file: &Path) -> Result<Descriptor, ImageError> {
    let mut head = Vec::new();
    content.by_ref().take(4).read_to_end(&mut head).map_err(at(file))?;
    let media_type = match head.as_slice() {
        [0x1f, 0x8b, ..] => media::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::OCI_LAYER_ZSTD,
        _ => media::OCI_LAYER,
    };
    let mut writer = layout.writer()?;
    io::copy(&mut head.as_slice().chain(content), &mut writer).map_err(at(layout.directory()))?;
    let (digest, size) = writer.commit(None)?;
    Ok(Descriptor::new(media_type, digest, size))
}
