//! An Arm CCA realm: tokens through configfs-tsm.

use coffer_core_cose::cbor::{self, Value as Cbor};
use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_evidence::cca::CcaEvidence;
use coffer_sys_tsm::{REPORT_DATA, Tsm};
use serde_json::Value;

use super::{Platform, Request, field};
use crate::runtime::Registers;
use crate::{AttestError, BindError};

/// SPEC: RMM specification, "attestation token": the collection's realm token, and the personalization value in it.
const REALM_TOKEN: i64 = 44241;
const PERSONALIZATION: i64 = 44235;

pub(super) struct Realm(pub(super) Tsm);

impl Platform for Realm {
    fn tee(&self) -> Tee {
        Tee::Cca
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        let report = self.0.report(&[0; REPORT_DATA]).map_err(BindError::Report)?;
        let found = personalization(&report.outblob);
        let found = found.ok_or(BindError::NoReport("the token has no personalization value".into()))?;
        field::compare("the realm personalization value", &found, init_data)?;
        Ok("it is the realm personalization value")
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let report = self.0.report(&request.report_data.field::<REPORT_DATA>())?;
        let form = |why: String| AttestError::Evidence { what: "the CCA token", why };
        CcaEvidence::from_token(report.outblob)
            .map(|evidence| evidence.to_value())
            .map_err(|why| form(why.to_string()))
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        Err("this kernel lets no realm extend its measurements (RSI_MEASUREMENT_EXTEND has no user interface)".into())
    }
}

/// The personalization value in a token, whose signatures nobody needs to check here: it came from this realm's own
/// manager.
fn personalization(token: &[u8]) -> Option<Vec<u8>> {
    let token = cbor::decode(token).ok()?;
    let collection = untagged(&token).as_map()?;
    let signed = cbor::decode(collection.at(REALM_TOKEN)?.as_bytes()?).ok()?;
    let payload = untagged(&signed).as_array()?.get(2)?.as_bytes()?;
    let claims = cbor::decode(payload).ok()?;
    Some(claims.as_map()?.at(PERSONALIZATION)?.as_bytes()?.to_vec())
}

fn untagged(value: &Cbor) -> &Cbor {
    value.as_tag().map_or(value, |(_, inner)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_personalization_value_is_found_in_recorded_tokens_and_in_no_other_bytes() {
        assert_eq!(personalization(b""), None);
        assert_eq!(personalization(&[0xa0]), None);
        let folder = std::env::var("COFFER_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        for name in ["tfrmm_cca_token.cbor", "trustee_cca-example-token.cbor"] {
            let Ok(token) = std::fs::read(format!("{folder}/cca/{name}")) else {
                println!("skipped: no vectors");
                return;
            };
            assert_eq!(personalization(&token).map(|value| value.len()), Some(64), "{name}");
        }
    }
}
