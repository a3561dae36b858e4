//! `coffer image key-provider`: skopeo, podman and buildah ask it to wrap layer keys as our guests unwrap them.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use coffer_core_keywrap::provider::{KeyChoice, MAX_REQUEST, Request, unwrapped, wrapped};
use coffer_core_seal::ocicrypt::{OcicryptError, unwrap_options, wrap_options};

use super::read_key;

pub(super) const HELP: &str = "\
These tools find it through a file that OCICRYPT_KEYPROVIDER_CONFIG names:

  {\"key-providers\": {\"attestation-agent\": {\"cmd\": {\"path\": \"/usr/bin/coffer\", \"args\": [\"image\", \"key-provider\"]}}}}

and then:

  skopeo copy --encryption-key provider:attestation-agent:keypath=KEY::keyid=kbs:///default/image-key/app FROM TO
  skopeo copy --decryption-key provider:attestation-agent:keypath=KEY FROM TO

KEY is a file with 32 bytes; put the same bytes into the broker under the address.";

pub(super) fn answer() -> Result<()> {
    let mut request = zeroize::Zeroizing::new(Vec::new());
    std::io::stdin().take(MAX_REQUEST as u64 + 1).read_to_end(&mut request)?;
    let mut out = std::io::stdout().lock();
    match Request::parse(&request)? {
        Request::Wrap { key: KeyChoice { file, name }, options } => {
            let Some(name) = name else {
                bail!("the key has no name at the broker; add ::keyid=kbs:///repository/type/tag");
            };
            let key = read_key(Path::new(&file))?;
            let packet = wrap_options(&options, &name, &key).with_context(|| file.clone())?;
            out.write_all(&wrapped(&packet))?;
        }
        Request::Unwrap { keys, packet } => {
            let mut refusal = OcicryptError::WrongKey("no key at all".into());
            for KeyChoice { file, .. } in keys {
                match unwrap_options(&packet, &read_key(Path::new(&file))?) {
                    Ok(options) => {
                        out.write_all(&unwrapped(&options))?;
                        return Ok(out.flush()?);
                    }
                    Err(error) => refusal = error,
                }
            }
            return Err(refusal.into());
        }
    }
    Ok(out.flush()?)
}
