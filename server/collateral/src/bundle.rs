//! Bundles: a folder or tar of documents with a manifest that says what each is. And the other forms in which owners
//! have collateral: the JSON of quote libraries, files of the cache, and single documents that say what they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use coffer_verify_api::{CollateralKey, Document, PckCa};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{IdentityAnswer, TcbAnswer, crl_der, crl_key, identity_key, intel_key, vcek_key};
use crate::error::ImportError;
use crate::kept::Kept;
use crate::service::{CollateralService, Listed};

const MANIFEST: &str = "manifest.json";
const VERSION: u32 = 1;
/// What one import may hold.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 256 << 20;
const MAX_DEPTH: usize = 4;

/// The manifest of a bundle.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// 1.
    version: u32,
    documents: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: CollateralKey,
    /// The file of the document.
    file: String,
    /// The file of the issuer's certificates, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    /// Over document and chain, as the cache lists it.
    digest: String,
    #[serde(default)]
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetched: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until: Option<Timestamp>,
}

/// What is to be put into the cache.
struct Found {
    key: CollateralKey,
    document: Document,
    origin: String,
    fetched: Option<Timestamp>,
}

/// The files of an import by name.
type Files = BTreeMap<String, Vec<u8>>;

impl CollateralService {
    /// Puts what a file or folder holds into the cache: a bundle (folder or tar), collateral JSON, or documents.
    pub fn import(&self, path: &Path) -> Result<Vec<Listed>, ImportError> {
        let files = read(path)?;
        self.import_files(files)
    }

    /// As [`CollateralService::import`], from the bytes of one file.
    pub fn import_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<Listed>, ImportError> {
        let mut files = Files::new();
        add(&mut files, name.to_owned(), bytes)?;
        self.import_files(files)
    }

    fn import_files(&self, files: Files) -> Result<Vec<Listed>, ImportError> {
        let mut listed = Vec::new();
        for Found { key, document, origin, fetched } in found(&files)? {
            let name = key.to_string();
            let put = self.put(key.clone(), document, &origin, fetched);
            let put = put.map_err(|source| ImportError::Store { key, source })?;
            listed.push(put.map_err(|why| ImportError::Wrong { name, why })?);
        }
        Ok(listed)
    }

    /// The cache as a bundle in a tar.
    pub fn export_tar(&self, keys: Option<&[CollateralKey]>) -> Result<Vec<u8>, ImportError> {
        let files = self.exported(keys)?;
        let wrong =
            |error: std::io::Error| ImportError::Wrong { name: "bundle".into(), why: error.to_string() };
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in &files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes.as_slice()).map_err(wrong)?;
        }
        builder.into_inner().map_err(wrong)
    }

    /// Writes the cache as a bundle: a tar if the path ends in `.tar`, a folder otherwise. Gives how many documents.
    pub fn export(&self, path: &Path, keys: Option<&[CollateralKey]>) -> Result<usize, ImportError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ImportError::File { path, source }
        };
        let files = self.exported(keys)?;
        let documents = files.keys().filter(|name| name.ends_with(".document")).count();
        if path.extension().is_some_and(|extension| extension == "tar") {
            let bytes = self.export_tar(keys)?;
            let mut file = fs::File::create(path).map_err(failed(path))?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed(path))?;
            return Ok(documents);
        }
        fs::create_dir_all(path).map_err(failed(path))?;
        for (name, bytes) in &files {
            let path = path.join(name);
            fs::write(&path, bytes).map_err(failed(&path))?;
        }
        Ok(documents)
    }

    fn exported(&self, keys: Option<&[CollateralKey]>) -> Result<Files, ImportError> {
        let wrong = |why: String| ImportError::Wrong { name: "cache".into(), why };
        let mut files = Files::new();
        let mut documents = Vec::new();
        for listed in self.list().map_err(|error| wrong(error.to_string()))? {
            if keys.is_some_and(|keys| !keys.contains(&listed.key)) {
                continue;
            }
            let Some((listed, document)) = self.stored(&listed.key) else { continue };
            let stem = listed.key.to_string().replace('/', "+");
            let file = format!("{stem}.document");
            let chain = (!document.issuer_chain().is_empty()).then(|| format!("{stem}.chain.pem"));
            files.insert(file.clone(), document.body().to_vec());
            if let Some(chain) = &chain {
                files.insert(chain.clone(), document.issuer_chain().to_vec());
            }
            documents.push(Entry {
                key: listed.key,
                file,
                chain,
                digest: listed.digest,
                origin: listed.origin,
                fetched: Some(listed.fetched),
                valid_until: listed.valid_until,
            });
        }
        let manifest = serde_json::to_vec_pretty(&Manifest { version: VERSION, documents });
        files.insert(MANIFEST.to_owned(), manifest.map_err(|error| wrong(error.to_string()))?);
        Ok(files)
    }
}

/// The documents that one file holds, by their keys. Nothing is stored, and nothing is believed.
pub fn documents(name: &str, bytes: Vec<u8>) -> Result<Vec<(CollateralKey, Document)>, ImportError> {
    let mut files = Files::new();
    add(&mut files, name.to_owned(), bytes)?;
    Ok(found(&files)?.into_iter().map(|found| (found.key, found.document)).collect())
}

fn found(files: &Files) -> Result<Vec<Found>, ImportError> {
    match files.get(MANIFEST) {
        Some(manifest) => bundled(manifest, files),
        None => loose(files),
    }
}

fn read(path: &Path) -> Result<Files, ImportError> {
    let failed = |source| ImportError::File { path: path.to_path_buf(), source };
    let mut files = Files::new();
    if fs::metadata(path).map_err(failed)?.is_dir() {
        folder(path, "", 0, &mut files)?;
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = bounded(fs::File::open(path).map_err(failed)?, MAX_BYTES).map_err(failed)?;
        add(&mut files, name, bytes)?;
    }
    Ok(files)
}

fn folder(path: &Path, prefix: &str, depth: usize, files: &mut Files) -> Result<(), ImportError> {
    let failed = |path: &Path, source| ImportError::File { path: path.to_path_buf(), source };
    if depth > MAX_DEPTH {
        return Err(ImportError::TooMuch("4 folders one in another"));
    }
    for entry in fs::read_dir(path).map_err(|error| failed(path, error))? {
        let entry = entry.map_err(|error| failed(path, error))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let own = entry.path();
        let kind = entry.file_type().map_err(|error| failed(&own, error))?;
        if kind.is_dir() {
            folder(&own, &format!("{name}/"), depth + 1, files)?;
        } else if kind.is_file() {
            let file = fs::File::open(&own).map_err(|error| failed(&own, error))?;
            let bytes = bounded(file, MAX_BYTES).map_err(|error| failed(&own, error))?;
            insert(files, name, bytes)?;
        }
    }
    Ok(())
}

fn bounded(reader: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A tar is taken apart; anything else is a file.
fn add(files: &mut Files, name: String, bytes: Vec<u8>) -> Result<(), ImportError> {
    // POSIX ustar: the magic stands at 257.
    if bytes.get(257..262) != Some(b"ustar") {
        return insert(files, name, bytes);
    }
    let wrong = |error: std::io::Error| ImportError::Wrong { name: name.clone(), why: error.to_string() };
    let mut archive = tar::Archive::new(Cursor::new(&bytes));
    for entry in archive.entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
        let own = path.trim_start_matches("./").to_owned();
        let content = bounded(entry, MAX_BYTES).map_err(wrong)?;
        insert(files, own, content)?;
    }
    Ok(())
}

fn insert(files: &mut Files, name: String, bytes: Vec<u8>) -> Result<(), ImportError> {
    files.insert(name, bytes);
    let total: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    match () {
        () if files.len() > MAX_FILES => Err(ImportError::TooMuch("10,000 files")),
        () if total > MAX_BYTES => Err(ImportError::TooMuch("256 MiB")),
        () => Ok(()),
    }
}

fn bundled(manifest: &[u8], files: &Files) -> Result<Vec<Found>, ImportError> {
    let wrong = |name: &str, why: String| ImportError::Wrong { name: name.to_owned(), why };
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|error| wrong(MANIFEST, error.to_string()))?;
    if manifest.version != VERSION {
        return Err(wrong(MANIFEST, format!("version {}; expected {VERSION}", manifest.version)));
    }
    let mut found = Vec::new();
    for entry in manifest.documents {
        let file = |name: &String| {
            files
                .get(name)
                .cloned()
                .ok_or_else(|| wrong(name, "the manifest names it and it is not there".into()))
        };
        let chain = entry.chain.as_ref().map(file).transpose()?.unwrap_or_default();
        let document = Document::new(file(&entry.file)?, chain);
        if document.digest().to_string() != entry.digest {
            let why = format!("its digest is {}; the manifest says {}", document.digest(), entry.digest);
            return Err(wrong(&entry.file, why));
        }
        let origin = if entry.origin.is_empty() { entry.file } else { entry.origin };
        found.push(Found { key: entry.key, document, origin, fetched: entry.fetched });
    }
    Ok(found)
}

/// Files without a manifest: each says what it is. Certificates beside them may be issuer chains.
fn loose(files: &Files) -> Result<Vec<Found>, ImportError> {
    let chains: Vec<&Vec<u8>> = files
        .values()
        .filter(|bytes| bytes.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE"))
        .collect();
    let mut found = Vec::new();
    let mut unknown = None;
    for (name, bytes) in files {
        let one = recognised(name, bytes, &chains)?;
        if one.is_empty() && !chains.contains(&bytes) {
            unknown = Some(name);
        }
        found.extend(one);
    }
    // One file that is nothing is a mistake; a folder may hold other things, too.
    match unknown {
        Some(name) if found.is_empty() => Err(ImportError::Unknown { name: name.clone() }),
        _ if found.is_empty() => Err(ImportError::Unknown { name: "the import".to_owned() }),
        _ => Ok(found),
    }
}

/// Collateral for one quote, as quote libraries write it.
#[derive(Deserialize)]
struct QuoteCollateral {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
}

fn recognised(name: &str, bytes: &[u8], chains: &[&Vec<u8>]) -> Result<Vec<Found>, ImportError> {
    if let Some(kept) = Kept::from_file(bytes) {
        let document = kept.document.as_ref().clone();
        return Ok(vec![Found {
            key: kept.about.key,
            document,
            origin: kept.about.origin,
            fetched: Some(kept.about.fetched),
        }]);
    }
    let one = |key: CollateralKey, body: Vec<u8>, chain: &[u8]| Found {
        key,
        document: Document::new(body, chain.to_vec()),
        origin: name.to_owned(),
        fetched: None,
    };
    if let Ok(collateral) = serde_json::from_slice::<QuoteCollateral>(bytes) {
        return of_quote(name, collateral);
    }
    let signer =
        |name: &str| chains.iter().find(|chain| has_subject(chain, name)).map(|chain| chain.as_slice());
    if let Ok(answer) = serde_json::from_slice::<TcbAnswer<'_>>(bytes)
        && let Some(key) = intel_key(answer.tcb_info.get())
    {
        let chain = signer("SGX TCB Signing").ok_or_else(|| no_chain(name))?;
        return Ok(vec![one(key, bytes.trim_ascii().to_vec(), chain)]);
    }
    if let Ok(answer) = serde_json::from_slice::<IdentityAnswer<'_>>(bytes)
        && let Some(key) = identity_key(answer.enclave_identity.get())
    {
        let chain = signer("SGX TCB Signing").ok_or_else(|| no_chain(name))?;
        return Ok(vec![one(key, bytes.trim_ascii().to_vec(), chain)]);
    }
    let der = crl_der(bytes.to_vec());
    if let Some(key) = crl_key(&der) {
        let chain = match &key {
            CollateralKey::PckCrl(PckCa::Processor) => {
                signer("PCK Processor CA").ok_or_else(|| no_chain(name))?
            }
            CollateralKey::PckCrl(PckCa::Platform) => {
                signer("PCK Platform CA").ok_or_else(|| no_chain(name))?
            }
            _ => &[],
        };
        return Ok(vec![one(key, der, chain)]);
    }
    if let Some(key) = vcek_key(bytes) {
        return Ok(vec![one(key, bytes.to_vec(), &[])]);
    }
    if let Some(id) = manifest_id(name) {
        return Ok(vec![one(CollateralKey::NvidiaRim(id), bytes.to_vec(), &[])]);
    }
    Ok(Vec::new())
}

/// A manifest does not say its id; its file's name does: whole (`NV_….xml`), or as NVIDIA's verifier ships firmware's
/// (`1010_0200_882_96005E0001_PROD.swidtag`: project, SKU, chip's SKU and version).
fn manifest_id(name: &str) -> Option<String> {
    let name = name.rsplit('/').next()?;
    let stem = name.strip_suffix(".xml").or_else(|| name.strip_suffix(".swidtag"))?;
    let id = match stem.find("NV_").and_then(|from| stem.get(from..)) {
        Some(id) => id.to_owned(),
        None => {
            let parts: Vec<&str> = stem.strip_suffix("_PROD").unwrap_or(stem).split('_').collect();
            let is_part = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
            match parts.as_slice() {
                [_, _, _, _] if parts.iter().all(is_part) => {
                    format!("NV_GPU_VBIOS_{}", parts.join("_").to_ascii_uppercase())
                }
                _ => return None,
            }
        }
    };
    CollateralKey::is_name(&id).then_some(id)
}

fn no_chain(name: &str) -> ImportError {
    let why = "its issuer's certificates are not beside it; put them into the same folder, in PEM".to_owned();
    ImportError::Wrong { name: name.to_owned(), why }
}

fn has_subject(pem: &[u8], name: &str) -> bool {
    let leaf = crate::document::certificates_in_pem(pem).and_then(|chain| chain.into_iter().next());
    leaf.as_deref()
        .and_then(crate::der::Certificate::parse)
        .is_some_and(|leaf| leaf.subject.windows(name.len()).any(|part| part == name.as_bytes()))
}

fn of_quote(name: &str, collateral: QuoteCollateral) -> Result<Vec<Found>, ImportError> {
    let wrong = |why: &str| ImportError::Wrong { name: name.to_owned(), why: why.to_owned() };
    let found = |key: CollateralKey, body: Vec<u8>, chain: &str| Found {
        key,
        document: Document::new(body, chain.as_bytes().to_vec()),
        origin: name.to_owned(),
        fetched: None,
    };
    // As the service sends it: the signature is over the object's exact text.
    let answer = |member: &str, text: &str, signature: &str| {
        format!("{{\"{member}\":{text},\"signature\":\"{signature}\"}}").into_bytes()
    };
    let info_key = intel_key(&collateral.tcb_info).ok_or_else(|| wrong("its tcb_info is none"))?;
    let qe_key = identity_key(&collateral.qe_identity).ok_or_else(|| wrong("its qe_identity is none"))?;
    let pck_crl = crl_der(collateral.pck_crl.into_bytes());
    let root_crl = crl_der(collateral.root_ca_crl.into_bytes());
    let ca = match crl_key(&pck_crl) {
        Some(CollateralKey::PckCrl(ca)) => ca,
        _ => return Err(wrong("its pck_crl is of no PCK CA")),
    };
    Ok(vec![
        found(
            info_key,
            answer("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature),
            &collateral.tcb_info_issuer_chain,
        ),
        found(
            qe_key,
            answer("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature),
            &collateral.qe_identity_issuer_chain,
        ),
        found(CollateralKey::PckCrl(ca), pck_crl, &collateral.pck_crl_issuer_chain),
        found(CollateralKey::IntelRootCrl, root_crl, ""),
    ])
}

#[cfg(test)]
mod tests {
    use super::manifest_id;

    #[test]
    fn a_manifests_id_is_read_from_the_names_that_its_makers_use() {
        let id = |name| manifest_id(name);
        let vbios = Some("NV_GPU_VBIOS_1010_0200_882_96005E0001".to_owned());
        assert_eq!(id("rims/1010_0200_882_96005E0001_PROD.swidtag"), vbios);
        assert_eq!(id("NV_GPU_VBIOS_1010_0200_882_96005E0001.xml"), vbios);
        let driver = Some("NV_GPU_DRIVER_GH100_550.144.03".to_owned());
        assert_eq!(id("sdk_NV_GPU_DRIVER_GH100_550.144.03.xml"), driver);
        for other in ["readme.xml", "a_b_c_d.txt", "a_b_c_.xml", "1_2_3_4_5.swidtag"] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
