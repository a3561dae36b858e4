//! The comparisons.

use coffer_core_channel::{Input, RunRequest};
use coffer_core_digest::Digest;
use coffer_core_initdata::{AllowedContainer, Permission, SignatureRule};
use coffer_core_oci::Reference;
use coffer_core_oci::cosign::{self, PublicKey, SignatureError};
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};

use crate::{Candidate, GateError, Pin};

/// More signatures than an honest image has.
const MAX_SIGNATURES: usize = 64;

/// The entries that allow the request as far as it can be judged without the image.
pub(crate) fn admit<'a>(
    allowed: &'a [AllowedContainer],
    request: &RunRequest,
) -> Result<Vec<&'a AllowedContainer>, GateError> {
    if allowed.is_empty() {
        return Err(GateError::Nothing { image: short(&request.image) });
    }
    let expected = || allowed.iter().map(|entry| short(&entry.image)).collect();
    let mut furthest = GateError::Image { expected: expected(), found: short(&request.image) };
    let mut entries = Vec::new();
    for entry in allowed.iter().filter(|entry| entry.image == request.image) {
        match fits(entry, request) {
            Ok(()) => entries.push(entry),
            Err(refusal) if refusal.stage() > furthest.stage() => furthest = refusal,
            Err(_) => {}
        }
    }
    if entries.is_empty() { Err(furthest) } else { Ok(entries) }
}

fn fits(entry: &AllowedContainer, request: &RunRequest) -> Result<(), GateError> {
    let expected = entry.args.as_deref().unwrap_or_default();
    if request.args != expected {
        return Err(GateError::Args {
            image: short(&request.image),
            expected: entry.args.clone(),
            found: request.args.iter().take(16).map(|arg| short(arg)).collect(),
        });
    }
    if request.env != entry.env {
        let difference = difference(&entry.env, &request.env);
        return Err(GateError::Env { image: short(&request.image), difference });
    }
    if request.terminal.is_some() && entry.terminal == Permission::Denied {
        return Err(GateError::Terminal { image: short(&request.image) });
    }
    if request.input == Input::Sent && entry.stdin == Permission::Denied {
        return Err(GateError::Stdin { image: short(&request.image) });
    }
    Ok(())
}

/// Which variable differs first, by name only: a value may be a secret that the owner put there.
fn difference(expected: &[String], found: &[String]) -> String {
    let name = |entry: &str| short(entry.split_once('=').map_or(entry, |(name, _)| name));
    let mut pairs = expected.iter().zip(found);
    if let Some((expected, found)) = pairs.find(|(expected, found)| expected != found) {
        return match name(expected) == name(found) {
            true => format!("{} has another value", name(expected)),
            false => format!("{} where {} is expected", name(found), name(expected)),
        };
    }
    let missing = expected.get(found.len()).map(|entry| format!("{} is missing", name(entry)));
    let surplus = found.get(expected.len()).map(|entry| format!("{} is not allowed", name(entry)));
    missing.or(surplus).unwrap_or_default()
}

/// The first entry whose pin the image has.
pub(crate) fn pinned<'a>(
    entries: &[&'a AllowedContainer],
    candidate: &Candidate,
) -> Result<(Pin, &'a AllowedContainer), GateError> {
    let mut furthest = GateError::Policy { why: "no entry is left".into() };
    for entry in entries {
        match pin(entry, candidate) {
            Ok(pin) => return Ok((pin, entry)),
            Err(refusal) if refusal.stage() >= furthest.stage() => furthest = refusal,
            Err(_) => {}
        }
    }
    Err(furthest)
}

fn pin(entry: &AllowedContainer, candidate: &Candidate) -> Result<Pin, GateError> {
    let pin = match entry.signature {
        SignatureRule::Required => Pin::Signature(signed(entry, candidate)?),
        SignatureRule::DigestOnly => Pin::Digest,
    };
    match (&entry.digest, &pin) {
        (Some(expected), _) if *expected != candidate.manifest => {
            Err(GateError::Digest { expected: Box::new(*expected), found: Box::new(candidate.manifest) })
        }
        // `GuestConfig` refuses this too; the gate does not rely on it.
        (None, Pin::Digest) => Err(GateError::Policy { why: "an entry pins neither digest nor key".into() }),
        _ => Ok(pin),
    }
}

/// The fingerprint of a named key that signed this image.
fn signed(entry: &AllowedContainer, candidate: &Candidate) -> Result<Digest, GateError> {
    let unusable = |why: SignatureError| GateError::Policy { why: why.to_string() };
    let keys: Vec<PublicKey> = entry
        .signers
        .iter()
        .map(|pem| PublicKey::from_pem(pem).map_err(unusable))
        .collect::<Result<_, _>>()?;
    if candidate.signatures.is_empty() {
        return Err(GateError::Unsigned { manifest: Box::new(candidate.manifest) });
    }
    let mut furthest = GateError::UntrustedKey {
        expected: keys.iter().map(|key| key.fingerprint().to_string()).collect(),
        found: candidate.signatures.len(),
    };
    for found in candidate.signatures.iter().take(MAX_SIGNATURES) {
        for key in &keys {
            match cosign::verify_with(&found.payload, &found.signature, key, &candidate.manifest) {
                Ok(signed) if entry.digest.is_some() || same_name(&entry.image, signed.identity()) => {
                    return Ok(*signed.key());
                }
                Ok(signed) => {
                    let (expected, found) = (short(&entry.image), short(signed.identity()));
                    further(&mut furthest, GateError::OtherName { expected, found });
                }
                Err(SignatureError::WrongDigest { expected: found, found: expected }) => {
                    further(&mut furthest, GateError::OtherDigest { expected, found });
                }
                Err(SignatureError::Malformed(why)) if candidate.signatures.len() == 1 => {
                    further(&mut furthest, GateError::Malformed { why });
                }
                Err(_) => {}
            }
        }
    }
    Err(furthest)
}

fn further(furthest: &mut GateError, other: GateError) {
    if other.stage() >= furthest.stage() {
        *furthest = other;
    }
}

/// Whether an image was signed under the name that is asked for: the same text, or the same repository.
fn same_name(image: &str, identity: &str) -> bool {
    let name = |text: &str| Reference::parse(text).ok().map(|reference| reference.name());
    image == identity || name(image).is_some_and(|image| name(identity) == Some(image))
}

/// The resources of an entry.
pub(crate) fn resources(uris: &[String]) -> Result<Vec<ResourcePath>, GateError> {
    let path = |uri: &String| {
        let uri: Result<ResourceUri, _> = uri.parse();
        uri.map(|uri| uri.path().clone()).map_err(|why| GateError::Policy { why: why.to_string() })
    };
    uris.iter().map(path).collect()
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}
