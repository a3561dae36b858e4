//! `[store] postgres = { … }`.

use std::path::PathBuf;

use coffer_server_http::Pause;
use coffer_server_postgres::{ClientCertificate, Migrate, Password, PostgresConfig, Timeouts, Tls};
use serde::Deserialize;

use crate::SetupError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    url: String,
    password_file: Option<PathBuf>,
    pass_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    tls: TlsForm,
    schema: Option<String>,
    connections: Option<usize>,
    #[serde(default)]
    migrate: MigrateForm,
    #[serde(default)]
    timeouts: TimeoutsForm,
}

/// What to do without an authority; with one it is TLS always.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TlsForm {
    /// With an authority TLS; without one only this machine is spoken to.
    #[default]
    Required,
    /// Cleartext over any network.
    InsecureDisable,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MigrateForm {
    #[default]
    AtOpen,
    Apart,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsForm {
    connect: Option<Pause>,
    statement: Option<Pause>,
    wait: Option<Pause>,
    retry: Option<Pause>,
    call: Option<Pause>,
}

impl Form {
    pub(super) fn config(self) -> Result<PostgresConfig, SetupError> {
        let wrong = |why: &str| SetupError::section("store", why);
        let password = match (self.password_file, self.pass_file) {
            (None, None) => None,
            (Some(file), None) => Some(Password::File(file)),
            (None, Some(file)) => Some(Password::PassFile(file)),
            (Some(_), Some(_)) => return Err(wrong("expected password_file or pass_file, not both")),
        };
        let client = match (self.client_certificate, self.client_key) {
            (None, None) => None,
            (Some(certificate_file), Some(key_file)) => {
                Some(ClientCertificate { certificate_file, key_file })
            }
            _ => return Err(wrong("expected both client_certificate and client_key, or neither")),
        };
        let tls = match (self.ca, self.tls, client) {
            (Some(ca_file), TlsForm::Required, client) => Tls::Require { ca_file, client },
            (None, TlsForm::Required, None) => Tls::Disable,
            (None, TlsForm::InsecureDisable, None) => Tls::InsecureDisable,
            (Some(_), TlsForm::InsecureDisable, _) => {
                return Err(wrong(
                    "ca and tls = \"insecure-disable\" contradict each other; expected one of them",
                ));
            }
            (None, _, Some(_)) => {
                return Err(wrong("client_certificate needs ca, which TLS is verified with"));
            }
        };
        let usual = PostgresConfig::new(self.url);
        let of = |given: Option<Pause>, usual| given.map_or(usual, |pause| pause.0);
        let Timeouts { connect, statement, wait, retry, call } = usual.timeouts;
        Ok(PostgresConfig {
            password,
            tls,
            schema: self.schema.unwrap_or_else(|| usual.schema.clone()),
            connections: self.connections.unwrap_or(usual.connections),
            migrate: match self.migrate {
                MigrateForm::AtOpen => Migrate::AtOpen,
                MigrateForm::Apart => Migrate::Apart,
            },
            timeouts: Timeouts {
                connect: of(self.timeouts.connect, connect),
                statement: of(self.timeouts.statement, statement),
                wait: of(self.timeouts.wait, wait),
                retry: of(self.timeouts.retry, retry),
                call: of(self.timeouts.call, call),
            },
            ..usual
        })
    }
}
