//! Non-volatile memory: indices with certificates and templates.

use coffer_core_evidence::tpm::alg_id;

use crate::command::Command;
use crate::{Hierarchy, Tpm, TpmError};

/// `TPM_PT_NV_BUFFER_MAX` of the smallest TPM in use. Larger requests are refused by some.
const CHUNK: u16 = 512;
/// An index's size is 16 bits wide, but no certificate is this long.
const MAX_INDEX: usize = 16 << 10;

/// Attributes of an index that the platform writes and everybody reads (Part 2, section 13.4):
/// PPWRITE, PPREAD, OWNERREAD, AUTHREAD, NO_DA, PLATFORMCREATE.
const PLATFORM_WRITES: u32 = 1 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 25 | 1 << 30;

/// `TPMA_NV_OWNERREAD` and `TPMA_NV_AUTHREAD` (Part 2, section 13.4).
const OWNERREAD: u32 = 1 << 17;
const AUTHREAD: u32 = 1 << 18;

/// What an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// `TPMA_NV`.
    pub attributes: u32,
    /// The size of its content.
    pub size: u16,
}

impl Tpm {
    /// TPM2_NV_ReadPublic.
    pub fn nv_read_public(&mut self, index: u32) -> Result<NvPublic, TpmError> {
        let response = self.run(&Command::new("TPM2_NV_ReadPublic", 0x169).handle(index))?;
        let mut parameters = response.parameters();
        parameters.u16()?;
        let found = parameters.u32()?;
        parameters.u16()?;
        let attributes = parameters.u32()?;
        parameters.sized()?;
        let size = parameters.u16()?;
        match found == index {
            true => Ok(NvPublic { attributes, size }),
            false => Err(parameters.malformed("it is about another index")),
        }
    }

    /// The whole content of an index (TPM2_NV_Read), read with its own empty authorization, or the owner's where the
    /// index may be read only so.
    pub fn nv_read(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        let NvPublic { attributes, size } = self.nv_read_public(index)?;
        let by =
            if attributes & (AUTHREAD | OWNERREAD) == OWNERREAD { Hierarchy::Owner.handle() } else { index };
        if usize::from(size) > MAX_INDEX {
            let found = size.into();
            return Err(TpmError::TooLong {
                command: "TPM2_NV_Read",
                what: "the index",
                limit: MAX_INDEX,
                found,
            });
        }
        let mut content = Vec::new();
        let mut offset = 0u16;
        while offset < size {
            let count = size.saturating_sub(offset).min(CHUNK);
            let command =
                Command::new("TPM2_NV_Read", 0x14e).authorized(by).handle(index).u16(count).u16(offset);
            let response = self.run(&command)?;
            let mut parameters = response.parameters();
            let bytes = parameters.sized()?;
            if bytes.len() != usize::from(count) {
                return Err(parameters.malformed("it has not as many bytes as asked"));
            }
            content.extend_from_slice(bytes);
            offset = offset.saturating_add(count);
        }
        Ok(content)
    }

    /// TPM2_NV_DefineSpace: an index that only the platform writes and everybody reads.
    pub fn nv_define(&mut self, index: u32, size: usize) -> Result<(), TpmError> {
        const NAME: &str = "TPM2_NV_DefineSpace";
        let too_long =
            TpmError::TooLong { command: NAME, what: "the content", limit: MAX_INDEX, found: size };
        let size = u16::try_from(size).ok().filter(|&size| usize::from(size) <= MAX_INDEX).ok_or(too_long)?;
        let public = [
            index.to_be_bytes().as_slice(),
            &alg_id(coffer_core_digest::Algorithm::Sha256).to_be_bytes(),
            &PLATFORM_WRITES.to_be_bytes(),
            // No policy.
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let command = Command::new(NAME, 0x12a)
            .authorized(Hierarchy::Platform.handle())
            // No authorization value.
            .u16(0)
            .sized("the public area", &public);
        self.run(&command).map(drop)
    }

    /// TPM2_NV_Write of the whole content, in pieces, as the platform.
    pub fn nv_write(&mut self, index: u32, content: &[u8]) -> Result<(), TpmError> {
        let mut offset = 0u16;
        for piece in content.chunks(CHUNK.into()) {
            let command = Command::new("TPM2_NV_Write", 0x137)
                .authorized(Hierarchy::Platform.handle())
                .handle(index)
                .sized("the piece", piece)
                .u16(offset);
            self.run(&command)?;
            offset = offset.saturating_add(CHUNK);
        }
        Ok(())
    }
}
