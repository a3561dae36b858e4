//! The signature inside a manifest (XML Signature 1.1): enveloped, one reference to the whole document, ECDSA.
//!
//! Exactly one form is read, so that what is signed is the whole document but the signature itself. Left out: the
//! certificates' chain, which is `chain`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_verify_x509::Certificate;

use crate::xml::{Element, Form, Scope};

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const MAX_CERTIFICATES: usize = 8;

/// Why the signature is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is not exactly one, in the root element.
    #[error("the document has {0} signatures; expected one, in its root element")]
    Count(usize),
    /// A part is missing, there twice, or not of the one form.
    #[error("the signature's {0} is missing or not of the form that manifests have")]
    Form(&'static str),
    /// An algorithm is not known here, or too weak.
    #[error("the signature's {what} is {found:?}, which is not accepted")]
    Algorithm {
        /// What it is for.
        what: &'static str,
        /// Its name.
        found: String,
    },
    /// A certificate cannot be read.
    #[error("certificate {0} of the signature cannot be read: {1}")]
    Certificate(usize, String),
    /// The document is not what was signed.
    #[error("the document's digest is {found}; signed was {expected}")]
    Digest {
        /// What was signed.
        expected: String,
        /// What the document has.
        found: String,
    },
    /// The key did not sign.
    #[error("the signature is not by the key of the first certificate")]
    Value,
}

/// The certificates of the signer, the signer's first. They are only read.
pub(crate) fn certificates(root: &Element) -> Result<Vec<Certificate>, SignatureError> {
    let signature = signature(root)?;
    let form = || SignatureError::Form("X509Data");
    let info = signature.only(DSIG, "KeyInfo").ok_or(SignatureError::Form("KeyInfo"))?;
    let data = info.only(DSIG, "X509Data").ok_or_else(form)?;
    let mut found = Vec::new();
    for (index, element) in data.named(DSIG, "X509Certificate").enumerate() {
        if index >= MAX_CERTIFICATES {
            return Err(form());
        }
        let wrong = |cause: String| SignatureError::Certificate(index, cause);
        let der = base64(element).ok_or_else(|| wrong("not base64".into()))?;
        found.push(Certificate::parse(&der).map_err(|cause| wrong(cause.to_string()))?);
    }
    match found.is_empty() {
        true => Err(form()),
        false => Ok(found),
    }
}

/// Verifies that the signer's key signed the whole document.
pub(crate) fn verify(root: &Element, signer: &Certificate) -> Result<(), SignatureError> {
    let signature = signature(root)?;
    let form = SignatureError::Form;
    let info = signature.only(DSIG, "SignedInfo").ok_or(form("SignedInfo"))?;
    if signature
        .elements()
        .any(|child| !["SignedInfo", "SignatureValue", "KeyInfo"].iter().any(|name| child.is(DSIG, name)))
    {
        return Err(form("content"));
    }
    let canonical = algorithm(info.only(DSIG, "CanonicalizationMethod"), "canonicalization")?;
    let info_form = canonical_form(canonical)?;
    let method = algorithm(info.only(DSIG, "SignatureMethod"), "signature method")?;
    let reference = info.only(DSIG, "Reference").ok_or(form("Reference"))?;
    if reference.attribute("", "URI") != Some("") || info.elements().count() != 3 {
        return Err(form("Reference"));
    }
    let transforms = reference.only(DSIG, "Transforms").ok_or(form("Transforms"))?;
    let names: Vec<&str> = transforms
        .elements()
        .map(|transform| algorithm(Some(transform).filter(|one| one.is(DSIG, "Transform")), "transform"))
        .collect::<Result<_, _>>()?;
    let document_form = match names.as_slice() {
        // XML Signature 1.1, section 4.4.3.2: without another, Canonical XML 1.0.
        [ENVELOPED] => Form::Inclusive,
        [ENVELOPED, canonical] => canonical_form(canonical)?,
        _ => return Err(form("Transforms")),
    };
    let hash = digest_algorithm(algorithm(reference.only(DSIG, "DigestMethod"), "digest method")?)?;
    let expected = reference.only(DSIG, "DigestValue").and_then(base64).ok_or(form("DigestValue"))?;
    let found = Digest::of(hash, &root.canonical(document_form, &Scope::new(), Some(signature)));
    if found.as_bytes() != expected {
        return Err(SignatureError::Digest { expected: hex::encode(expected), found: found.hex() });
    }
    let value = signature.only(DSIG, "SignatureValue").and_then(base64).ok_or(form("SignatureValue"))?;
    let outer = signature.scope(&root.scope(&Scope::new()));
    let signed = info.canonical(info_form, &outer, None);
    let algorithm = signature_algorithm(method, signer)?;
    UnparsedPublicKey::new(algorithm, signer.public_key())
        .verify(&signed, &value)
        .map_err(|_| SignatureError::Value)
}

fn signature(root: &Element) -> Result<&Element, SignatureError> {
    let count = root.count(DSIG, "Signature");
    root.only(DSIG, "Signature").filter(|_| count == 1).ok_or(SignatureError::Count(count))
}

fn algorithm<'a>(element: Option<&'a Element>, what: &'static str) -> Result<&'a str, SignatureError> {
    let element = element.filter(|element| element.elements().next().is_none());
    element.and_then(|element| element.attribute("", "Algorithm")).ok_or(SignatureError::Form(what))
}

fn canonical_form(name: &str) -> Result<Form, SignatureError> {
    match name {
        "http://www.w3.org/2006/12/xml-c14n11" | "http://www.w3.org/TR/2001/REC-xml-c14n-20010315" => {
            Ok(Form::Inclusive)
        }
        "http://www.w3.org/2001/10/xml-exc-c14n#" => Ok(Form::Exclusive),
        other => Err(SignatureError::Algorithm { what: "canonicalization", found: short(other) }),
    }
}

fn digest_algorithm(name: &str) -> Result<Algorithm, SignatureError> {
    match name {
        "http://www.w3.org/2001/04/xmlenc#sha256" => Ok(Algorithm::Sha256),
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => Ok(Algorithm::Sha384),
        "http://www.w3.org/2001/04/xmlenc#sha512" => Ok(Algorithm::Sha512),
        other => Err(SignatureError::Algorithm { what: "digest method", found: short(other) }),
    }
}

/// The two numbers of the signature stand one behind the other (RFC 6931, section 2.3.6).
fn signature_algorithm(
    name: &str,
    signer: &Certificate,
) -> Result<&'static EcdsaVerificationAlgorithm, SignatureError> {
    match (name, signer.public_key().len()) {
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", 97) => Ok(&ECDSA_P384_SHA384_FIXED),
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", 65) => Ok(&ECDSA_P256_SHA256_FIXED),
        (other, _) => Err(SignatureError::Algorithm { what: "signature method", found: short(other) }),
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

/// An element's text as base64, with the line breaks and spaces that manifests have in it.
fn base64(element: &Element) -> Option<Vec<u8>> {
    let text: String = element.text()?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}
