//! The virtual TPM's quote: signed by the key that the paravisor names, for this challenge, over the registers sent.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::azure::{AzureQuote, RsaKey};
use coffer_core_evidence::eventlog::init_data_in_bank;
use coffer_core_evidence::tpm::{Attest, AttestBody, GENERATED, TpmError, pcr_digest};
use coffer_verify_api::Check;

const TPM: &str = "TPM 2.0 Library, Part 3, TPM2_Quote";
/// The one bank that attesters on Azure quote.
const BANK: Algorithm = Algorithm::Sha256;
/// The register that init-data is extended into (KBS protocol, "init-data").
const INIT_DATA_PCR: u8 = 8;

/// Quoted registers by number. They exist only if the quote's digest covers them.
pub(crate) type Registers = BTreeMap<u8, Digest>;

/// A quote, parsed.
pub(crate) struct Quote {
    pub(crate) attest: Attest,
    message: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Registers,
}

pub(crate) fn parse(tee: Tee, quote: &AzureQuote) -> Result<Quote, Box<Check>> {
    let unreadable = |found: String| {
        let failed = Check::failed(format!("{tee}.quote.format"), "The TPM's quote cannot be read");
        Box::new(failed.found(found).source("TPM 2.0 Library, Part 2, 10.12.8"))
    };
    let attest = Attest::parse(&quote.message).map_err(|cause| match cause {
        TpmError::Magic { found } => {
            let failed = Check::failed(format!("{tee}.quote.magic"), "No TPM generated the quote")
                .expected(format!("{GENERATED:#010x}"))
                .found(format!("{found:#010x}"))
                .source("TPM 2.0 Library, Part 2, 6.2");
            Box::new(failed)
        }
        other => unreadable(other.to_string()),
    })?;
    let pcr = |(number, bytes): (u8, &Vec<u8>)| {
        let digest = Digest::from_bytes(BANK, bytes);
        digest.map(|digest| (number, digest)).map_err(|cause| unreadable(format!("PCR {number}: {cause}")))
    };
    let pcrs = (0..).zip(&quote.pcrs).map(pcr).collect::<Result<_, _>>()?;
    Ok(Quote { attest, message: quote.message.clone(), signature: quote.signature.clone(), pcrs })
}

impl Quote {
    /// Verifies the signature with the key that the runtime data names.
    pub(crate) fn signature(&self, tee: Tee, key: &RsaKey) -> Check {
        let code = format!("{tee}.quote.signature");
        let RsaKey { modulus, exponent } = key;
        let key = RsaPublicKeyComponents { n: modulus, e: exponent };
        match key.verify(&RSA_PKCS1_2048_8192_SHA256, &self.message, &self.signature) {
            Ok(()) => Check::passed(code, "The TPM's attestation key signed the quote (RSASSA with SHA-256)")
                .source(TPM),
            Err(_) => Check::failed(code, "The TPM's attestation key did not sign the quote")
                .expected("a signature by the key HCLAkPub of the runtime data over the quote")
                .found("a signature by another key, or over another quote")
                .source(TPM),
        }
    }

    /// One comparison proves both, because the hash is over nonce and key together.
    pub(crate) fn freshness_and_binding(&self, tee: Tee, expected: &[u8]) -> [Check; 2] {
        const SOURCE: &str = "KBS protocol 0.4, report data; TPM 2.0 Library, Part 3, TPM2_Quote";
        let (freshness, binding) = (format!("{tee}.quote.freshness"), format!("{tee}.key.binding"));
        let found = match self.attest.extra_data.as_slice() {
            [] => "no qualifying data".to_owned(),
            data => hex::encode(data),
        };
        if !expected.is_empty() && self.attest.extra_data == expected {
            let fresh = Check::passed(freshness, "The quote was made for this challenge")
                .expected(hex::encode(expected))
                .found(found)
                .source(SOURCE);
            let bound = Check::passed(
                binding,
                "The quote is bound to the key that secrets will be encrypted to: its qualifying data hashes that key",
            );
            return [fresh, bound.source(SOURCE)];
        }
        let stale = Check::failed(freshness, "The quote was made for another challenge or another key")
            .expected(hex::encode(expected))
            .found(found)
            .source(SOURCE)
            .remedy("attest again, with the nonce of this challenge and the key of this session");
        let unbound = Check::unavailable(binding, "Not told, because the qualifying data is another hash");
        [stale, unbound.source(SOURCE)]
    }

    /// The registers that the quote covers, or the check that says why there are none.
    pub(crate) fn registers(&self, tee: Tee) -> Result<(Registers, Vec<Check>), Box<Check>> {
        let AttestBody::Quote { selections, pcr_digest: quoted } = &self.attest.body;
        let mut used = selections.iter().filter(|selection| !selection.pcrs.is_empty());
        let bank = format!("{tee}.quote.bank");
        let selection = match (used.next(), used.next()) {
            (Some(one), None) if one.bank == BANK => one,
            (first, second) => {
                let names: Vec<&str> =
                    [first, second].into_iter().flatten().map(|one| one.bank.name()).collect();
                let failed = Check::failed(bank, "The quote is not over registers of the SHA-256 bank alone")
                    .expected("sha256")
                    .found(if names.is_empty() { "no register".to_owned() } else { names.join(", ") })
                    .source("TPM 2.0 Library, Part 2, 10.9.7");
                return Err(Box::new(failed));
            }
        };
        let code = format!("{tee}.pcrs.digest");
        const SOURCE: &str = "TPM 2.0 Library, Part 2, 10.12.1";
        let digest = pcr_digest(Algorithm::Sha256, selection, &self.pcrs).map_err(|pcr| {
            let failed = Check::failed(code.clone(), "A quoted register was not sent");
            Box::new(failed.expected(format!("PCR {pcr}")).found("not sent").source(SOURCE))
        })?;
        if digest.as_bytes() != quoted {
            let failed = Check::failed(code, "The registers sent are not the quoted ones")
                .expected(hex::encode(quoted))
                .found(digest.hex())
                .source(SOURCE);
            return Err(Box::new(failed));
        }
        let checks = vec![
            Check::passed(bank, "The SHA-256 bank was quoted"),
            Check::passed(code, "The registers sent are the quoted ones").source(SOURCE),
        ];
        let covered = self.pcrs.iter().filter(|(pcr, _)| selection.pcrs.contains(pcr));
        Ok((covered.map(|(pcr, value)| (*pcr, *value)).collect(), checks))
    }
}

/// The register holds init-data's digest and nothing else.
pub(crate) fn init_data(tee: Tee, digest: &Digest, registers: &Registers) -> Check {
    let code = format!("{tee}.init-data.binding");
    const SOURCE: &str = "KBS protocol, init-data; PCR 8";
    let Some(found) = registers.get(&INIT_DATA_PCR) else {
        return Check::failed(code, "The quote does not cover the register of the init-data")
            .expected("PCR 8")
            .found("not quoted")
            .source(SOURCE);
    };
    let expected = Digest::zero(BANK).extend(init_data_in_bank(digest, BANK).as_bytes());
    let title = match expected == *found {
        true => "The init-data sent is the one that the guest was started with",
        false => "The guest was started with other init-data than the one sent",
    };
    Check::equal(code, title, &expected.to_string(), &found.to_string()).source(SOURCE)
}
