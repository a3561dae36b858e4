//! Writing `coffer.toml` so that a person can judge it: each member under a sentence that says what it does.

use super::{AllowedContainer, Attestation, ConfigError, GuestConfig, Permission, SignatureRule, is_pem};
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
        for volume in &self.volumes {
            text.push_str(&volume.to_toml());
        }
        self.scratch.write(&mut text);
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
        text.push_str(match self.resources.as_slice() {
            [] => "# No resource: the workload may ask the local API for none.\n",
            _ => "# The resources that the workload may ask the local API for.\n",
        });
        text.push_str(&format!("resources = {}\n", list(&self.resources)));
        text.push_str(match self.evidence {
            Permission::Denied => "# The workload cannot attest as this guest.\n",
            Permission::Allowed => {
                "# The workload can attest as this guest: it may have whatever the broker gives this guest.\n"
            }
        });
        text.push_str(&format!("evidence = \"{}\"\n", self.evidence.name()));
        text.push_str(&format!(
            "# Whether the host's input reaches the workload, and whether it may be given a terminal.\n\
             stdin = \"{}\"\nterminal = \"{}\"\n",
            self.stdin.name(),
            self.terminal.name()
        ));
        for secret in &self.secrets {
            secret.write(text);
        }
    }
}

/// How the guest reaches registries, in the words of `cdh.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAccess {
    /// Roots (PEM) that vouch for registries, besides the public ones.
    pub roots: Vec<String>,
    /// The address at the broker of the registries' credentials (containers-auth.json).
    pub credentials: Option<String>,
    /// The proxy to reach them through, as in `http://proxy.example:3128`.
    pub proxy: Option<String>,
}

impl RegistryAccess {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The text of `cdh.toml`.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        if !self.roots.iter().all(|pem| is_pem(pem, "CERTIFICATE")) {
            return Err(ConfigError::RegistryRoot);
        }
        let plain =
            |text: &&String| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        for text in self.credentials.iter().chain(&self.proxy) {
            if !plain(&text) {
                return Err(ConfigError::RegistryAccess { found: text.chars().take(64).collect() });
            }
        }
        let mut text =
            "# How the guest reaches registries. Digest and signature decide what runs.\n[image]\n"
                .to_owned();
        if !self.roots.is_empty() {
            let roots: Vec<String> = self.roots.iter().map(|pem| lines(&ended(pem))).collect();
            text.push_str(&format!("extra_root_certificates = [\n{},\n]\n", roots.join(",\n")));
        }
        if let Some(uri) = &self.credentials {
            text.push_str("# Released by the broker, as keys are; the host has them not.\n");
            text.push_str(&format!("authenticated_registry_credentials_uri = \"{uri}\"\n"));
        }
        if let Some(proxy) = &self.proxy {
            text.push_str(&format!(
                "[image.image_pull_proxy]\nhttps_proxy = \"{proxy}\"\nhttp_proxy = \"{proxy}\"\n"
            ));
        }
        Ok(text)
    }
}

fn ended(pem: &str) -> String {
    format!("{}\n", pem.trim())
}
