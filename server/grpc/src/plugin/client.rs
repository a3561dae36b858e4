//! The broker's end: one plugin, called by name.

use std::time::{Duration, Instant};

use super::{PluginCall, PluginConfigError, PluginError, PluginReply, wire};
use crate::channel::{CallOptions, Channel};
use crate::endpoint::{ClientIdentity, Endpoint, Plaintext};

const MAX_NAME: usize = 63;
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Where a plugin is and how it is trusted.
pub struct PluginConfig {
    /// Its name in paths.
    pub name: String,
    /// `https://host:port`, `http://127.0.0.1:port` or `unix:/path`.
    pub endpoint: String,
    /// The authority of its certificate, in PEM; for `https://`.
    pub authority_pem: Option<Vec<u8>>,
    /// What the broker shows of itself; for `https://`.
    pub identity: Option<ClientIdentity>,
    /// Whether `http://` may leave the machine.
    pub plaintext: Plaintext,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// A plugin that is called.
#[derive(Clone)]
pub struct PluginClient {
    name: String,
    timeout: Duration,
    channel: Channel,
}

impl PluginClient {
    /// Checks the configuration. The connection is made by the first call.
    pub fn connect(config: &PluginConfig) -> Result<Self, PluginConfigError> {
        let name = config.name.clone();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'));
        if !good {
            return Err(PluginConfigError::Name { found: name.chars().take(MAX_NAME).collect() });
        }
        if !TIMEOUT.contains(&config.timeout) {
            return Err(PluginConfigError::Timeout { plugin: name, found: config.timeout });
        }
        let endpoint = Endpoint::parse(
            &config.endpoint,
            config.authority_pem.as_deref(),
            config.identity.as_ref(),
            config.plaintext,
        )
        .map_err(|source| PluginConfigError::Endpoint { plugin: name.clone(), source })?;
        if config.plaintext == Plaintext::InsecureAllowed && config.endpoint.starts_with("http://") {
            tracing::warn!(plugin = %name, "the plugin is reached in cleartext: secrets can be read on the way");
        }
        Ok(Self { name, timeout: config.timeout, channel: Channel::lazy(endpoint) })
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Answers a request. `deadline` is the caller's; the plugin is told what is left of it.
    pub async fn handle(
        &self,
        call: &PluginCall,
        deadline: Option<Instant>,
    ) -> Result<PluginReply, PluginError> {
        let message: wire::PluginResponse = self.ask("Handle", call, deadline).await?;
        PluginReply::from_wire(message).map_err(|found| PluginError::status(&self.name, found))
    }

    /// Whether the request is for admins. If not, it is for attested guests.
    pub async fn requires_admin(
        &self,
        call: &PluginCall,
        deadline: Option<Instant>,
    ) -> Result<bool, PluginError> {
        let answer: wire::ValidateAuthResponse = self.ask("ValidateAuth", call, deadline).await?;
        Ok(answer.requires_admin_auth)
    }

    /// Whether the answer must be encrypted to the guest's key.
    pub async fn needs_encryption(
        &self,
        call: &PluginCall,
        deadline: Option<Instant>,
    ) -> Result<bool, PluginError> {
        let answer: wire::NeedsEncryptionResponse = self.ask("NeedsEncryption", call, deadline).await?;
        Ok(answer.requires_payload_encryption)
    }

    async fn ask<R: prost::Message + Default + 'static>(
        &self,
        method: &str,
        call: &PluginCall,
        deadline: Option<Instant>,
    ) -> Result<R, PluginError> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let within = left.map_or(self.timeout, |left| left.min(self.timeout));
        let options = CallOptions { within, bearer: None, tenant: None };
        self.channel.unary(wire::SERVICE, method, call.to_wire(), options).await.map_err(|error| {
            let error = PluginError::of(&self.name, &error);
            let (plugin, code, detail) = (&self.name, error.code(), error.detail());
            tracing::warn!(%plugin, method, code, detail, "a plugin gave no answer");
            error
        })
    }
}
