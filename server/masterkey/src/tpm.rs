//! A master key that a TPM seals.
//!
//! The TPM holds a random key and gives it back to this machine, and if asked only in one boot state. What it is given
//! for stays in this process, so a TPM that is slow or away later stops nothing.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use coffer_core_secret::{Secret, SecretBytes};
use coffer_server_store::{MasterKey, MasterKeyError, files};
use coffer_sys_tpm::sealing::{Sealed, SealingError};
use coffer_sys_tpm::{StartupType, Tpm, TpmError};
use zeroize::Zeroizing;

use crate::{PURPOSE, TpmSource, of_file, source};

const DEVICE: &str = "/dev/tpmrm0";
const ID_LABEL: &[u8] = b"coffer master key id v1";
const FORM: u8 = 1;

/// A key that was unsealed.
pub struct TpmKey {
    key: Secret<[u8; 32]>,
    place: String,
}

enum Way<'a> {
    Device(&'a Path),
    Socket(&'a Path),
}

impl TpmKey {
    /// Unseals the key in the settings' file, if the file is there.
    pub fn open(source: &TpmSource, data: &Path) -> Result<Option<Self>, MasterKeyError> {
        let way = Way::of(source)?;
        let (blob, place) = named(source, data, &way);
        let read = files::read_private(&blob).map_err(|error| of_file(&blob, error))?;
        let Some(bytes) = read else { return Ok(None) };
        let failed = |error| failure(&place, error);
        let sealed = Sealed::parse(bytes.expose()).map_err(failed)?;
        let mut asked = source.pcrs.clone();
        asked.sort_unstable();
        asked.dedup();
        if sealed.pcrs() != asked {
            return Err(MasterKeyError::Refused {
                place,
                why: format!("it was sealed to PCRs {:?}, the settings say {asked:?}", sealed.pcrs()),
                remedy: "correct the settings, or change to a newly made key by a rotation".to_owned(),
            });
        }
        let key = way.connect().and_then(|mut tpm| tpm.unseal(&sealed)).map_err(failed)?;
        match <&[u8; 32]>::try_from(key.as_slice()) {
            Ok(key) => Ok(Some(Self { key: Secret::new(*key), place })),
            Err(_) => Err(failed(SealingError::Form("the sealed key is not 32 bytes"))),
        }
    }

    /// Seals a new key and writes its file, which must not be there.
    pub fn create(source: &TpmSource, data: &Path) -> Result<Self, MasterKeyError> {
        let way = Way::of(source)?;
        let (blob, place) = named(source, data, &way);
        if blob.exists() {
            return Err(MasterKeyError::Refused {
                place,
                why: "there is a sealed key already".to_owned(),
                remedy: "use it, or move its file away if nothing was closed with it".to_owned(),
            });
        }
        let key = Secret::<[u8; 32]>::random().map_err(|_| MasterKeyError::NoRandomness)?;
        let sealed = way.connect().and_then(|mut tpm| {
            let sealed = tpm.seal(key.expose(), &source.pcrs)?;
            // What cannot be unsealed must not be the only key of anything.
            match tpm.unseal(&sealed)?.as_slice() == key.expose() {
                true => Ok(sealed),
                false => Err(SealingError::Tampered("another secret than it was given")),
            }
        });
        let sealed = sealed.map_err(|error| failure(&place, error))?;
        files::create_private(&blob, &sealed.to_bytes()).map_err(|error| of_file(&blob, error))?;
        Ok(Self { key, place })
    }

    fn cipher(&self) -> Result<LessSafeKey, MasterKeyError> {
        UnboundKey::new(&AES_256_GCM, self.key.expose())
            .map(LessSafeKey::new)
            .map_err(|_| MasterKeyError::NoRandomness)
    }

    fn open_sealed(&self, wrapped: &[u8]) -> Result<Option<SecretBytes>, MasterKeyError> {
        let parts = wrapped.split_first().filter(|(form, _)| **form == FORM);
        let Some((nonce, body)) = parts.and_then(|(_, rest)| rest.split_first_chunk::<NONCE_LEN>()) else {
            return Ok(None);
        };
        let mut plain = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher()?.open_in_place(nonce, Aad::from(PURPOSE), &mut plain);
        let Ok(length) = opened.map(|opened| opened.len()) else { return Ok(None) };
        plain.truncate(length);
        Ok(Some(SecretBytes::new(std::mem::take(&mut *plain))))
    }
}

impl MasterKey for TpmKey {
    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| MasterKeyError::NoRandomness)?;
        let mut body = key.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut body)
            .map_err(|_| MasterKeyError::NoRandomness)?;
        Ok([&[FORM][..], &nonce, &body].concat())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        let wrong = || MasterKeyError::Wrong { place: self.place(), id: self.id() };
        self.open_sealed(wrapped)?.ok_or_else(wrong)
    }

    fn id(&self) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key.expose()), ID_LABEL);
        let short = tag.as_ref().split_at_checked(8).map(|(short, _)| short).unwrap_or_default();
        format!("tpm:{}", hex::encode(short))
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

impl<'a> Way<'a> {
    fn of(source: &'a TpmSource) -> Result<Self, MasterKeyError> {
        match (&source.device, &source.socket) {
            (Some(device), None) => Ok(Self::Device(device)),
            (None, Some(socket)) => Ok(Self::Socket(socket)),
            (None, None) => Ok(Self::Device(Path::new(DEVICE))),
            (Some(_), Some(_)) => Err(MasterKeyError::Refused {
                place: "the TPM".to_owned(),
                why: "the settings name a device and a socket".to_owned(),
                remedy: "keep one of them".to_owned(),
            }),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Device(path) | Self::Socket(path) => path,
        }
    }

    fn connect(&self) -> Result<Tpm, SealingError> {
        match self {
            // The kernel started it.
            Self::Device(path) => Ok(Tpm::open(path)?),
            Self::Socket(path) => {
                let mut tpm = Tpm::connect_unix(path)?;
                tpm.startup(StartupType::Clear)?;
                Ok(tpm)
            }
        }
    }
}

fn named(source: &TpmSource, data: &Path, way: &Way<'_>) -> (PathBuf, String) {
    let blob = source::file(source.blob.as_deref(), data, "master.tpm");
    let place = format!("the TPM {} (sealed in {})", way.path().display(), blob.display());
    (blob, place)
}

fn failure(place: &str, error: SealingError) -> MasterKeyError {
    let place = place.to_owned();
    match error {
        SealingError::NoRandomness => MasterKeyError::NoRandomness,
        SealingError::Tpm(error @ (TpmError::Open { .. } | TpmError::Io { .. })) => {
            MasterKeyError::Unavailable { place, why: error.to_string() }
        }
        // Each of these says its remedy itself.
        error => MasterKeyError::Refused {
            place,
            why: error.to_string(),
            remedy: "no key and no file was changed".to_owned(),
        },
    }
}
