//! What the collateral service is told: where documents come from, how long it waits, how much it keeps.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A commented example, which is also the default.
pub const EXAMPLE: &str = include_str!("../collateral.example.toml");

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder of the cache. Empty: the program's own choice, beside its other data.
    pub folder: PathBuf,
    /// Nothing is fetched; only what is in the cache is given, whatever its dates. Judges decide about those.
    pub offline: bool,
    /// How long after its own end a document is still given while its source gives no newer one. Zero: not at all.
    pub stale_for: Period,
    /// How long before its own end a document is fetched anew; at most half of its lifetime.
    pub refresh_ahead: Period,
    /// When a document that states no end is fetched anew.
    pub refresh_undated: Period,
    /// How long one document may take, with all attempts.
    pub timeout: Period,
    /// How often a source that fails is asked for one document.
    pub attempts: u32,
    /// How long a source that failed, or that has no such document, is not asked for it again.
    pub failed_for: Period,
    /// How many documents are fetched at once.
    pub concurrent: usize,
    /// How many documents a minute are asked for that only evidence names, before anything of it is verified.
    pub unproven_per_minute: usize,
    /// How many of those at once.
    pub unproven_concurrent: usize,
    /// The longest document, in bytes.
    pub max_document: usize,
    /// What the cache may hold on disk, in bytes.
    pub max_disk: u64,
    /// What the cache may hold in memory, in bytes.
    pub max_memory: usize,
    /// Certificates in PEM that are trusted beside the public authorities when fetching. Empty: none.
    pub extra_ca: PathBuf,
    /// Whether proxies of the environment are used.
    pub proxy: Proxy,
    /// Intel's services.
    pub intel: Intel,
    /// AMD's service.
    pub amd: Amd,
    /// NVIDIA's services.
    pub nvidia: Nvidia,
    /// Hygon's service.
    pub hygon: Hygon,
}

/// Which proxies are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// Those of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    #[default]
    Environment,
    /// None.
    None,
}

/// Where Intel's documents are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intel {
    /// The certification service (PCS API v4), or a caching service (PCCS) that answers the same calls.
    pub pcs: String,
    /// The root's revocation list: a document's whole address.
    pub root_crl: String,
    /// Which TCB levels are asked for: `standard` or `early`.
    pub update: Update,
}

/// Which of Intel's TCB levels are asked for (PCS API v4, parameter `update`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Update {
    /// Those that every platform is expected to have.
    #[default]
    Standard,
    /// Those that were just published.
    Early,
}

/// Where AMD's documents are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amd {
    /// The key distribution service.
    pub kds: String,
}

/// Where NVIDIA's documents are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nvidia {
    /// The service of reference integrity manifests.
    pub rim: String,
    /// The OCSP responder: the whole address that requests are posted to.
    pub ocsp: String,
}

/// Where Hygon's documents are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hygon {
    /// The key distribution service.
    pub kds: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            offline: false,
            stale_for: Period::seconds(0),
            refresh_ahead: Period::seconds(24 * 3600),
            refresh_undated: Period::seconds(24 * 3600),
            timeout: Period::seconds(20),
            attempts: 3,
            failed_for: Period::seconds(10),
            concurrent: 16,
            unproven_per_minute: 30,
            unproven_concurrent: 4,
            max_document: 8 << 20,
            max_disk: 256 << 20,
            max_memory: 64 << 20,
            extra_ca: PathBuf::new(),
            proxy: Proxy::default(),
            intel: Intel::default(),
            amd: Amd::default(),
            nvidia: Nvidia::default(),
            hygon: Hygon::default(),
        }
    }
}

impl Default for Intel {
    fn default() -> Self {
        Self {
            pcs: "https://api.trustedservices.intel.com".into(),
            root_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".into(),
            update: Update::default(),
        }
    }
}

impl Default for Amd {
    fn default() -> Self {
        Self { kds: "https://kdsintf.amd.com".into() }
    }
}

impl Default for Nvidia {
    fn default() -> Self {
        Self { rim: "https://rim.attestation.nvidia.com".into(), ocsp: "https://ocsp.ndis.nvidia.com".into() }
    }
}

impl Default for Hygon {
    fn default() -> Self {
        Self { kds: "https://cert.hygon.cn".into() }
    }
}

/// A length of time, written as `90s`, `15m`, `6h` or `7d`; `none` is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// In whole seconds.
    pub(crate) fn whole_seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::default());
        }
        let unit = text.chars().next_back()?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        let count = text.strip_suffix(unit)?;
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = count.parse().ok().filter(|_| digits)?;
        // A century is as good as for ever, and all sums with it fit.
        let seconds = count.checked_mul(seconds).filter(|seconds| *seconds <= 100 * 366 * 24 * 3600)?;
        Some(Self::seconds(seconds))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let why = || format!("{text:?} is not a length of time; expected as in 90s, 15m, 6h, 7d or none");
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(why()))
    }
}

/// The settings' text is not one.
#[derive(Debug, thiserror::Error)]
#[error("the collateral settings are not as expected: {0}")]
pub struct SettingsError(String);

impl Settings {
    /// Reads TOML; a member that is not known is refused.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| SettingsError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_example_is_the_default() {
        assert_eq!(Settings::from_toml(EXAMPLE).ok(), Some(Settings::default()));
    }

    #[test]
    fn a_misspelt_member_is_refused_by_name() {
        for (text, word) in [("stale-for = \"1h\"", "stale-for"), ("[intel]\npccs = \"\"", "pccs")] {
            let found = Settings::from_toml(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(word), "{found}");
        }
    }

    #[test]
    fn periods_are_a_count_and_a_unit() {
        for (text, seconds) in
            [("0s", 0), ("none", 0), ("90s", 90), ("15m", 900), ("6h", 21600), ("2d", 172_800)]
        {
            assert_eq!(Period::parse(text), Some(Period::seconds(seconds)), "{text}");
        }
        for text in ["", "s", "1", "-1s", "+1s", "1.5h", "1 h", "99999999999999d", "37000d", "1é", "1w"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }
}
