//! A Nitro enclave: documents of its security module.
//!
//! SPEC: report data is the document's user data (`verify/nitro`). Init-data is extended into register 16, the first
//! that the enclave may use, and the register is locked, since documents quote locked registers only.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::nitro::NitroEvidence;
use coffer_sys_nsm::{Nsm, NsmError};
use serde_json::Value;

use super::{Platform, Request};
use crate::runtime::Registers;
use crate::{AttestError, BindError};

const REGISTER: u16 = 16;
const BANK: Algorithm = Algorithm::Sha384;

pub(super) struct Enclave(Nsm);

impl Enclave {
    pub(super) const fn new(nsm: Nsm) -> Self {
        Self(nsm)
    }

    fn value(&self) -> Result<(Digest, bool), BindError> {
        let register = self.0.register(REGISTER).map_err(failed)?;
        let value = Digest::from_bytes(BANK, &register.value);
        value.map(|value| (value, register.locked)).map_err(|why| BindError::NoReport(why.to_string()))
    }
}

fn failed(why: NsmError) -> BindError {
    BindError::NoReport(why.to_string())
}

impl Platform for Enclave {
    fn tee(&self) -> Tee {
        Tee::Nitro
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        let zero = Digest::zero(BANK);
        let (found, locked) = self.value()?;
        if found != zero || locked {
            return Err(BindError::AlreadyBound { register: REGISTER.into(), found: Box::new(found) });
        }
        self.0.extend(REGISTER, init_data.as_bytes()).map_err(failed)?;
        self.0.lock(REGISTER).map_err(failed)?;
        let expected = zero.extend(init_data.as_bytes());
        match self.value()? {
            (found, true) if found == expected => Ok("bound to PCR 16"),
            (found, _) => Err(BindError::NotBound {
                register: REGISTER.into(),
                expected: Box::new(expected),
                found: Box::new(found),
            }),
        }
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let wrong = |why: String| AttestError::Evidence { what: "the attestation document", why };
        let document = self.0.document(&request.report_data.field::<64>());
        let document = document.map_err(|why| wrong(why.to_string()))?;
        NitroEvidence::from_document(document)
            .map(|evidence| evidence.to_value())
            .map_err(|why| wrong(why.to_string()))
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        Err("documents of the Nitro Security Module carry no log and quote only locked registers".into())
    }
}
