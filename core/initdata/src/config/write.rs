//! Writing `coffer.toml` so that a person can judge it: each member under a sentence that says what it does.

use super::{AllowedContainer, Attestation, ConfigError, GuestConfig, SignatureRule};
use crate::toml_text::{basic, lines, list};

impl GuestConfig {
    /// The entry's text. The same configuration gives the same bytes.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        self.check()?;
        let attestation = match self.attestation {
            Attestation::Required => "required",
            Attestation::InsecureNone => "insecure-none",
        };
        let mut text = format!(
            "# \"required\": nothing runs before the broker has accepted the evidence.\n\
             # \"insecure-none\": nobody is asked and there are no keys; for experiments only.\n\
             attestation = \"{attestation}\"\n"
        );
        if let Some(broker) = &self.broker {
            text.push_str(&format!(
                "\n# Who judges the evidence and releases keys. TLS must end in this certificate and no other.\n\
                 [broker]\nurl = {}\ncertificate = {}\n",
                basic(&broker.url),
                lines(&ended(&broker.certificate))
            ));
        }
        for container in &self.containers {
            container.write(&mut text);
        }
        match Self::parse(&text) {
            Ok(read) if read.normalized() == self.normalized() => Ok(text),
            Ok(_) => Err(ConfigError::Toml("the text does not read back the same".into())),
            Err(error) => Err(error),
        }
    }

    /// PEM texts with one line feed at their end, as they are written.
    fn normalized(&self) -> Self {
        let mut config = self.clone();
        if let Some(broker) = &mut config.broker {
            broker.certificate = ended(&broker.certificate);
        }
        for signer in config.containers.iter_mut().flat_map(|container| &mut container.signers) {
            *signer = ended(signer);
        }
        config
    }
}

impl AllowedContainer {
    fn write(&self, text: &mut String) {
        text.push_str(&format!(
            "\n# A container that may run.\n[[containers]]\nimage = {}\n",
            basic(&self.image)
        ));
        text.push_str(match self.signature {
            SignatureRule::Required => {
                "# One of the signers must have signed the manifest's digest.\nsignature = \"required\"\n"
            }
            SignatureRule::DigestOnly => "# The digest alone pins the image.\nsignature = \"digest-only\"\n",
        });
        if let Some(digest) = &self.digest {
            text.push_str(&format!("# The manifest that may run, and no other.\ndigest = \"{digest}\"\n"));
        }
        if !self.signers.is_empty() {
            let keys: Vec<String> = self.signers.iter().map(|key| lines(&ended(key))).collect();
            text.push_str(&format!("signers = [\n{},\n]\n", keys.join(",\n")));
        }
        match &self.args {
            Some(args) => {
                text.push_str(&format!("# The arguments that must be asked for.\nargs = {}\n", list(args)));
            }
            None => text.push_str("# No args: only the image's own command may run.\n"),
        }
        if !self.env.is_empty() {
            text.push_str(&format!("# What may be added to the environment.\nenv = {}\n", list(&self.env)));
        }
        if let Some(resource) = &self.resource {
            text.push_str(&format!(
                "# The one resource that the workload may ask for.\nresource = {}\n",
                basic(resource)
            ));
        }
    }
}

fn ended(pem: &str) -> String {
    format!("{}\n", pem.trim())
}
