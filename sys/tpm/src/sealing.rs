//! Short secrets kept by a TPM: sealed under a storage key of the owner hierarchy, given back by the same TPM only.
//!
//! What the bus sees: the secret crosses it encrypted under a salt that only the TPM can compute, and each response is
//! authenticated. The storage key itself is not certified, so who can change bytes on the bus *at the time of sealing*
//! could put its own key in the TPM's place; at every later time its name must be the one that was written down then.
//! Left out: authorization values, and storage keys that were made persistent by others.

use coffer_core_digest::Algorithm;
use coffer_core_evidence::tpm::{PcrSelection, pcr_digest};
use zeroize::Zeroizing;

use crate::command::{Command, Parameters};
pub use crate::sealing_error::SealingError;
use crate::session::{DECRYPT, ENCRYPT, Kind, pcr_policy, put_sized};
use crate::{Hierarchy, Key, Tpm, TpmError};

/// The longest secret that every TPM seals (`MAX_SYM_DATA`).
pub const MAX_SECRET: usize = 128;

const MAGIC: &[u8; 4] = b"CTS1";
const MAX_PART: usize = 1024;
const MAX_PCRS: usize = 24;

const ATTRIBUTES_FIXED: u32 = 1 << 1 | 1 << 4;
const ATTRIBUTE_USER_WITH_AUTH: u32 = 1 << 6;
const ATTRIBUTE_NO_DA: u32 = 1 << 10;

/// `TPMT_PUBLIC` of the storage key: ECC P-256 with AES-128-CFB, as the TCG's provisioning guidance has it.
const STORAGE_KEY: [u8; 26] = [
    0x00, 0x23, // ECC
    0x00, 0x0b, // SHA-256
    0x00, 0x03, 0x04, 0x72, // fixed, made by the TPM, user with auth, no DA, restricted, decrypt
    0x00, 0x00, // no policy
    0x00, 0x06, 0x00, 0x80, 0x00, 0x43, // AES, 128 bits, CFB
    0x00, 0x10, // no scheme
    0x00, 0x03, // P-256
    0x00, 0x10, // no KDF
    0x00, 0x00, 0x00, 0x00, // no point
];

/// A sealed secret. It is no secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The name of the storage key, by which another TPM is told from a broken one.
    parent: Vec<u8>,
    public: Vec<u8>,
    private: Vec<u8>,
    pcrs: Vec<u8>,
}

impl Sealed {
    /// The registers whose values it depends on; none if it depends on none.
    pub fn pcrs(&self) -> &[u8] {
        &self.pcrs
    }

    /// The form for a file: `CTS1`, then storage key's name, public and private part, each with its length, then PCRs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for part in [&self.parent, &self.public, &self.private, &self.pcrs] {
            put_sized(&mut bytes, part);
        }
        bytes
    }

    /// Reads that form.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealingError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(SealingError::Form("it does not begin with CTS1"))?;
        let mut part = |limit: usize| {
            let (size, after) = rest.split_first_chunk::<2>().ok_or(SealingError::Form("it ends early"))?;
            let size = usize::from(u16::from_be_bytes(*size));
            if size > limit {
                return Err(SealingError::Form("a part of it is too long"));
            }
            let (part, after) = after.split_at_checked(size).ok_or(SealingError::Form("it ends early"))?;
            rest = after;
            Ok(part.to_vec())
        };
        let (parent, public) = (part(MAX_PART)?, part(MAX_PART)?);
        let (private, pcrs) = (part(MAX_PART)?, part(MAX_PCRS)?);
        if !rest.is_empty() {
            return Err(SealingError::Form("bytes follow its end"));
        }
        if !pcrs.is_sorted_by(|a, b| a < b) || pcrs.last().is_some_and(|&pcr| usize::from(pcr) >= MAX_PCRS) {
            return Err(SealingError::Form("its registers are not ascending numbers below 24"));
        }
        Ok(Self { parent, public, private, pcrs })
    }

    /// The object's name: the hash's id and the hash of the public part.
    fn name(&self) -> Vec<u8> {
        let mut name = vec![0, 0x0b];
        name.extend_from_slice(coffer_core_digest::Digest::sha256(&self.public).as_bytes());
        name
    }
}

impl Tpm {
    /// Seals a secret; with registers, for their present values in the SHA-256 bank.
    pub fn seal(&mut self, secret: &[u8], pcrs: &[u8]) -> Result<Sealed, SealingError> {
        if secret.is_empty() || secret.len() > MAX_SECRET {
            return Err(SealingError::Length(secret.len()));
        }
        let mut pcrs = pcrs.to_vec();
        pcrs.sort_unstable();
        pcrs.dedup();
        let policy = self.policy_for(&pcrs)?;
        self.with_storage_key(|tpm, parent| tpm.create_sealed(parent, secret, &policy, pcrs))
    }

    /// Gives a sealed secret back.
    pub fn unseal(&mut self, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        self.with_storage_key(|tpm, parent| {
            if parent.public.name() != sealed.parent {
                return Err(SealingError::OtherTpm);
            }
            let handle = tpm.load(parent, sealed)?;
            let unsealed = tpm.unseal_loaded(parent, handle, sealed);
            let flushed = tpm.flush(handle);
            let secret = unsealed?;
            flushed?;
            Ok(secret)
        })
    }

    /// Makes the storage key, which is the same each time, and takes it away again.
    fn with_storage_key<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Key) -> Result<T, SealingError>,
    ) -> Result<T, SealingError> {
        let parent = self.create_primary(Hierarchy::Owner, &STORAGE_KEY)?;
        let done = work(self, &parent);
        let flushed = self.flush(parent.handle);
        let done = done?;
        flushed?;
        Ok(done)
    }

    fn create_sealed(
        &mut self,
        parent: &Key,
        secret: &[u8],
        policy: &[u8],
        pcrs: Vec<u8>,
    ) -> Result<Sealed, SealingError> {
        const NAME: &str = "TPM2_Create";
        let mut sensitive = Zeroizing::new(Vec::with_capacity(MAX_SECRET.saturating_add(8)));
        // No authorization value, then the secret.
        put_sized(&mut sensitive, &[]);
        put_sized(&mut sensitive, secret);
        let command = Command::new(NAME, 0x153)
            .authorized(parent.handle)
            .sized("the secret", &sensitive)
            .sized("the public part", &object(policy))
            .u16(0)
            .u32(0);
        let session = self.start_session(Kind::Hmac, parent)?;
        let parameters = self.run_in(session, command, &[&parent.public.name()], DECRYPT)?;
        let mut parameters = Parameters::new(NAME, &parameters);
        let (private, public) = (parameters.sized()?.to_vec(), parameters.sized()?.to_vec());
        // All but the size of the unique part, which the TPM fills.
        let mut asked = object(policy);
        asked.truncate(asked.len().saturating_sub(2));
        if !public.starts_with(&asked) || private.len() > MAX_PART || public.len() > MAX_PART {
            return Err(SealingError::Tampered("another object than it was asked to make"));
        }
        Ok(Sealed { parent: parent.public.name(), public, private, pcrs })
    }

    fn load(&mut self, parent: &Key, sealed: &Sealed) -> Result<u32, SealingError> {
        let command = Command::new("TPM2_Load", 0x157)
            .authorized(parent.handle)
            .giving_handle()
            .sized("the private part", &sealed.private)
            .sized("the public part", &sealed.public);
        match self.run(&command) {
            Ok(response) => Ok(response.handle()),
            Err(error) if error.code().is_some_and(crate::ResponseCode::is_foreign_object) => {
                Err(SealingError::Foreign)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn unseal_loaded(
        &mut self,
        parent: &Key,
        handle: u32,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        const NAME: &str = "TPM2_Unseal";
        let kind = if sealed.pcrs.is_empty() { Kind::Hmac } else { Kind::Policy };
        let session = self.start_session(kind, parent)?;
        if kind == Kind::Policy
            && let Err(error) = self.policy_pcr(session.handle, &sealed.pcrs)
        {
            let _ = self.flush(session.handle);
            return Err(error.into());
        }
        let command = Command::new(NAME, 0x15e).authorized(handle);
        let parameters = match self.run_in(session, command, &[&sealed.name()], ENCRYPT) {
            Err(SealingError::Tpm(error))
                if error.code().is_some_and(crate::ResponseCode::is_policy_failure) =>
            {
                return Err(SealingError::Registers { pcrs: sealed.pcrs.clone() });
            }
            other => other?,
        };
        let mut parameters = Parameters::new(NAME, &parameters);
        let secret = Zeroizing::new(parameters.sized()?.to_vec());
        parameters.end()?;
        Ok(secret)
    }

    /// TPM2_PolicyPCR for the present values.
    fn policy_pcr(&mut self, session: u32, pcrs: &[u8]) -> Result<(), TpmError> {
        let command = Command::new("TPM2_PolicyPCR", 0x17f).handle(session).u16(0).raw(&selection_list(pcrs));
        self.run(&command).map(drop)
    }

    fn policy_for(&mut self, pcrs: &[u8]) -> Result<Vec<u8>, SealingError> {
        if pcrs.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(&pcr) = pcrs.iter().find(|&&pcr| usize::from(pcr) >= MAX_PCRS) {
            return Err(SealingError::NoRegister(pcr));
        }
        let values = self.pcr_read(Algorithm::Sha256, pcrs)?;
        let digest =
            pcr_digest(Algorithm::Sha256, &selection(pcrs), &values).map_err(SealingError::NoRegister)?;
        Ok(pcr_policy(&selection_list(pcrs), &digest))
    }
}

fn selection(pcrs: &[u8]) -> PcrSelection {
    PcrSelection { bank: Algorithm::Sha256, pcrs: pcrs.iter().copied().collect() }
}

/// A `TPML_PCR_SELECTION` of one bank.
fn selection_list(pcrs: &[u8]) -> Vec<u8> {
    let mut list = 1_u32.to_be_bytes().to_vec();
    list.extend(selection(pcrs).to_bytes());
    list
}

/// `TPMT_PUBLIC` of a keyed-hash object that only holds data. With a policy, nothing else gives it back.
fn object(policy: &[u8]) -> Vec<u8> {
    let access = if policy.is_empty() { ATTRIBUTE_USER_WITH_AUTH } else { 0 };
    let attributes = ATTRIBUTES_FIXED | ATTRIBUTE_NO_DA | access;
    let mut public = vec![0x00, 0x08, 0x00, 0x0b];
    public.extend(attributes.to_be_bytes());
    put_sized(&mut public, policy);
    // No scheme, and the unique part is the TPM's to fill.
    public.extend([0x00, 0x10, 0x00, 0x00]);
    public
}

#[cfg(test)]
mod tests;
