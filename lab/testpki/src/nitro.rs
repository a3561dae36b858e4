//! Attestation documents of enclaves that do not exist: AWS's chain in small, under a root of the test.

use coffer_core_cose::cbor::{Map, NULL, Value, encode};
use coffer_core_cose::{Curve, Sign1, SigningKey};
use coffer_core_evidence::nitro::NitroEvidence;

use crate::{Authority, Leaf};

/// An enclave: a root, a zone and an instance above it, and the key that signs its documents.
pub struct NitroFixture {
    root: Authority,
    zone: Authority,
    instance: Authority,
    key: SigningKey,
    certificate: Vec<u8>,
}

impl Default for NitroFixture {
    fn default() -> Self {
        Self::with_leaf(&Leaf { purposes: Vec::new(), ..Leaf::default() })
    }
}

impl NitroFixture {
    /// An enclave whose key's certificate has this content.
    pub fn with_leaf(leaf: &Leaf) -> Self {
        Self::with_key(leaf, SigningKey::generate(Curve::P384).expect("a P-384 key"))
    }

    /// An enclave with this key.
    pub fn with_key(leaf: &Leaf, key: SigningKey) -> Self {
        let root = Authority::root("test nitro root");
        let zone = root.intermediate("test zone");
        let instance = zone.intermediate("test instance");
        let certificate = instance.certify_with(&key.public().to_spki_der(), leaf);
        Self { root, zone, instance, key, certificate }
    }

    /// The root's certificate in DER.
    pub fn root_der(&self) -> Vec<u8> {
        self.root.der()
    }

    /// The certificates as a document has them: root first, without the leaf.
    pub fn bundle(&self) -> Vec<Vec<u8>> {
        vec![self.root.der(), self.zone.der(), self.instance.der()]
    }

    /// The leaf's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The key that signs documents.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The content of a document: sixteen registers of which 0 to 2 and 4 measure something.
    pub fn payload(&self, user_data: &[u8]) -> Map {
        let pcr = |pcr: u8| if pcr < 3 || pcr == 4 { [pcr + 1; 48] } else { [0; 48] };
        let pcrs = (0..16).fold(Map::new(), |map, at| map.with(i32::from(at), &pcr(at)[..]));
        Map::new()
            .with("module_id", "i-0123456789abcdef0-enc0123456789abcdef")
            .with("digest", "SHA384")
            .with("timestamp", Value::Unsigned(1_795_132_800_000))
            .with("pcrs", pcrs)
            .with("certificate", self.certificate.as_slice())
            .with("cabundle", Value::Array(self.bundle().into_iter().map(Value::Bytes).collect()))
            .with("public_key", NULL)
            .with("user_data", user_data)
            .with("nonce", NULL)
    }

    /// A document over any content, without a tag, as the security module gives it.
    pub fn sign(&self, payload: Map) -> Vec<u8> {
        let tagged = Sign1::sign(Map::new(), &encode(&payload.into()), &[], &self.key).expect("a signature");
        tagged[1..].to_vec()
    }

    /// The wire form of a document that is bound to this data.
    pub fn evidence(&self, user_data: &[u8]) -> serde_json::Value {
        wire(self.sign(self.payload(user_data)))
    }
}

/// The wire form of any document.
pub(crate) fn wire(document: Vec<u8>) -> serde_json::Value {
    NitroEvidence::from_document(document).expect("a document that fits").to_value()
}
