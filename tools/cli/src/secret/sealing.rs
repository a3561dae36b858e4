//! Sealed secrets on the owner's workstation: a key that signs them, the sealing, and a look at what was sealed.
//!
//! A value comes from a file or from standard input, never from the command line.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_protocol::jws::{SigningKey, VerifyingKey};
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_sealed_secret::{Form, KEY_LEN, MAX_TEXT, Sealing, Unverified, signer_key};
use coffer_core_secret::{Secret, SecretBytes};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{path_of, read_secret};
use crate::key_file::{pem, write_private};
use crate::{Context, block_on};

pub(super) const KEYGEN_HELP: &str = "\
Whoever has the private key can write secrets that your guests will use. Keep it where you keep your signing keys;
the broker gets only the public part, from which guests take it by name.

  coffer secret keygen --out sealing.pem --put kbs:///default/sealing-key/1";

pub(super) const SEAL_HELP: &str = "\
Two forms:
  --resource      names a secret that is in the broker already; the text holds no value at all
  --envelope-key  brings a value, encrypted under a new key that is put into the broker at that address

  coffer secret seal --signing-key sealing.pem --key-id kbs:///default/sealing-key/1 \\
      --resource kbs:///default/database/password
  coffer secret seal --signing-key sealing.pem --key-id kbs:///default/sealing-key/1 \\
      --envelope-key kbs:///default/sealing-kek/1 --file password.txt

The text goes into the workload's environment as it is (NAME=sealed.…): the guest opens it before the workload starts.
A running workload can post it to http://127.0.0.1:8006/cdh/unseal. Both addresses that a text names must be allowed to
the workload: `coffer init-data --resource URI`, once for each.";

pub(super) const UNSEAL_HELP: &str = "\
  coffer secret unseal --check --key sealing.pub.jwk secret.txt

The key is the one that signed, as it is in the broker: a public JWK, or PEM. The signer's private key will do as well.";

#[derive(clap::Args)]
pub(crate) struct KeygenOptions {
    /// Where to write the private key (PEM, readable by you only). An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Put the public part into the broker at this address, as in kbs:///default/sealing-key/1.
    #[arg(long, value_name = "URI")]
    put: Option<String>,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct SealOptions {
    /// The private key that signs: P-256, as PEM or private JWK. `coffer secret keygen` makes one.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Where guests find its public part, as in kbs:///default/sealing-key/1.
    #[arg(long, value_name = "URI")]
    key_id: String,
    /// The secret in the broker that the text will stand for.
    #[arg(long, value_name = "URI", group = "what")]
    resource: Option<String>,
    /// Where the new key goes that opens the value in the text. The address must be free or unused: what was sealed
    /// under an older key there is not opened any more.
    #[arg(long, value_name = "URI", group = "what")]
    envelope_key: Option<String>,
    /// The file that holds the value; standard input if none is named.
    #[arg(long, short, value_name = "FILE", conflicts_with = "resource")]
    file: Option<PathBuf>,
    /// Write the new key into this file instead of the broker; put it there later with `coffer secret put`.
    #[arg(long, value_name = "FILE", conflicts_with = "resource")]
    key_out: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct UnsealOptions {
    /// Verify and describe. There is nothing else to be had outside of an attested guest.
    #[arg(long, required = true)]
    check: bool,
    /// The key that signed: a public JWK or PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file with the sealed text; standard input if none is named.
    file: Option<PathBuf>,
}

pub(super) fn keygen(context: &Context, options: &KeygenOptions) -> Result<()> {
    let path = options.put.as_deref().map(path_of).transpose()?;
    let admin = match &path {
        Some(_) => Some(context.home.broker_access(&context.broker)?.admin()?),
        None => None,
    };
    let key = SigningKey::generate()?;
    write_private(&options.out, &pem(&key.to_pkcs8()?))?;
    let public = serde_json::to_value(key.verifying_key())?;
    if let (Some(admin), Some(path)) = (admin, path) {
        let document = SecretBytes::new(public.to_string().into_bytes());
        let stored = block_on(async { Ok(admin.put_resource(&path, document).await?) });
        stored.with_context(|| {
            let kept = options.out.display();
            format!("the private key is in {kept}, but its public part did not get into the broker")
        })?;
    }
    let result = json!({"private_key": options.out, "public_key": public, "stored": options.put});
    context.output.show(&result, |_| match &options.put {
        Some(uri) => format!("wrote {}, stored its public part at {uri}", options.out.display()),
        // The public key alone, so that it can go into a file.
        None => public.to_string(),
    })
}

pub(super) fn seal(context: &Context, options: &SealOptions) -> Result<()> {
    let signer = signing_key(&options.signing_key)?;
    let key_id = resource(&options.key_id)?;
    let sealing = Sealing::new(&signer, &key_id)?;
    let (text, form, named) = match (&options.resource, &options.envelope_key) {
        (Some(uri), None) => (sealing.vault(&resource(uri)?)?, "vault", uri),
        (None, Some(uri)) => (envelope(context, options, &sealing, uri)?, "envelope", uri),
        _ => bail!("name either --resource or --envelope-key"),
    };
    eprintln!("The workload needs `--resource {} --resource {named}` in its init-data.", options.key_id);
    let result = json!({"sealed": text, "form": form, "key_id": options.key_id, "resource": named});
    context.output.show(&result, |_| text.clone())
}

fn envelope(context: &Context, options: &SealOptions, sealing: &Sealing<'_>, uri: &str) -> Result<String> {
    let path = resource(uri)?;
    let admin = match &options.key_out {
        Some(_) => None,
        None => Some(context.home.broker_access(&context.broker)?.admin()?),
    };
    let value = read_secret(options.file.as_deref())?;
    let key = Secret::<[u8; KEY_LEN]>::random()?;
    let text = sealing.envelope(&value, &key, &path)?;
    // The key first: a text whose key is nowhere would be lost.
    match (admin, &options.key_out) {
        (Some(admin), _) => {
            let key = SecretBytes::copy_of(key.expose());
            block_on(async { Ok(admin.put_resource(&path.to_string(), key).await?) })?;
        }
        (None, Some(file)) => write_private(file, &SecretBytes::copy_of(key.expose()))?,
        (None, None) => bail!("there is nowhere for the key to go"),
    }
    Ok(text)
}

pub(super) fn unseal(context: &Context, options: &UnsealOptions) -> Result<()> {
    let text = match &options.file {
        Some(path) => std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?,
        None => {
            let mut text = Vec::new();
            let bound = u64::try_from(MAX_TEXT)?.saturating_add(2);
            std::io::stdin().take(bound).read_to_end(&mut text).context("standard input cannot be read")?;
            text
        }
    };
    let text = String::from_utf8(text).context("a sealed secret is text")?;
    let sealed = Unverified::parse(text.trim())?.verify(&public_key(&options.key)?)?;
    let (form, cipher) = match sealed.form() {
        Form::Vault => ("vault", None),
        Form::Envelope(wrap) => ("envelope", Some(wrap.name())),
    };
    let (key_id, resource) = (sealed.key_id().to_string(), sealed.resource().to_uri());
    let result = json!({
        "signature": "verified", "form": form, "key_id": key_id, "resource": resource, "cipher": cipher,
    });
    context.output.show(&result, |_| {
        let what = match cipher {
            None => format!("it stands for the secret {resource}"),
            Some(cipher) => format!("it holds a value under {cipher}, which the key {resource} opens"),
        };
        format!("the signature is good, by the key {key_id}\n{what}")
    })
}

fn resource(uri: &str) -> Result<ResourcePath> {
    Ok(path_of(uri)?.parse()?)
}

fn read_key(path: &Path) -> Result<SecretBytes> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(SecretBytes::new(bytes))
}

/// A private key on P-256: PEM (PKCS #8 or SEC 1) or private JWK.
fn signing_key(path: &Path) -> Result<SigningKey> {
    let document = read_key(path)?;
    private_key(&document).with_context(|| {
        let path = path.display();
        format!("{path} is no private key on P-256 in PEM or JWK; make one with `coffer secret keygen`")
    })
}

fn private_key(document: &SecretBytes) -> Result<SigningKey> {
    if document.expose().trim_ascii_start().starts_with(b"{") {
        return Ok(SigningKey::from_ec_jwk(document)?);
    }
    let der = PrivateKeyDer::from_pem_slice(document.expose()).map_err(|why| anyhow!("{why}"))?;
    Ok(SigningKey::from_ec_der(&SecretBytes::copy_of(der.secret_der()))?)
}

/// The key that verifies, from whatever its owner has of it.
fn public_key(path: &Path) -> Result<VerifyingKey> {
    let document = read_key(path)?;
    if let Ok(key) = private_key(&document) {
        return Ok(key.verifying_key().clone());
    }
    let text = std::str::from_utf8(document.expose()).unwrap_or_default();
    if text.contains("BEGIN PUBLIC KEY") {
        let key = coffer_core_cose::PublicKey::from_pem(text)
            .with_context(|| format!("{} is no public key", path.display()))?;
        let point = key.as_bytes();
        let (x, y) = match point.split_first() {
            Some((4, rest)) if rest.len() == 64 => rest.split_at(32),
            _ => bail!("{} is no public key on P-256", path.display()),
        };
        let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
        return Ok(signer_key(jwk.to_string().as_bytes())?);
    }
    signer_key(document.expose()).with_context(|| format!("{} is no public key", path.display()))
}
