//! The claims that policies may look at, by name and type: those of our judges and of upstream's verifiers.
//!
//! A path has its segments between `/`; `*` stands for any name or place. What is `Any` may have anything under it.

use std::collections::BTreeMap;

use super::Kind;

/// The type of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Number,
    Bool,
    /// Anything, with anything under it.
    Any,
}

use Type::{Any, Bool, Number, String as Text};

type Claims = &'static [(&'static str, Type)];

/// One TEE's claims.
pub(crate) struct Tee {
    /// Its name in the policy's input.
    pub(crate) name: &'static str,
    lists: &'static [Claims],
    /// Claims that tell that the host may look inside: the path, the value if it may not, and the value if it may.
    pub(crate) debug: &'static [(&'static str, &'static str, &'static str)],
}

const TDX: Claims = &[
    ("quote/header/version", Text),
    ("quote/header/att_key_type", Text),
    ("quote/header/tee_type", Text),
    ("quote/header/reserved", Text),
    ("quote/header/vendor_id", Text),
    ("quote/header/user_data", Text),
    ("quote/type", Text),
    ("quote/size", Text),
    ("quote/body/tcb_svn", Text),
    ("quote/body/mr_seam", Text),
    ("quote/body/mrsigner_seam", Text),
    ("quote/body/seam_attributes", Text),
    ("quote/body/td_attributes", Text),
    ("quote/body/xfam", Text),
    ("quote/body/mr_td", Text),
    ("quote/body/mr_config_id", Text),
    ("quote/body/mr_owner", Text),
    ("quote/body/mr_owner_config", Text),
    ("quote/body/rtmr_0", Text),
    ("quote/body/rtmr_1", Text),
    ("quote/body/rtmr_2", Text),
    ("quote/body/rtmr_3", Text),
    ("quote/body/report_data", Text),
    ("quote/body/tee_tcb_svn2", Text),
    ("quote/body/mr_servicetd", Text),
    ("quote/body/vm_id", Text),
    ("quote/body/td_id", Text),
    ("quote/body/dev_info", Text),
    ("quote/body/init_tee_fmspc", Text),
    ("quote/body/init_tee_tcb_svn", Text),
    ("quote/body/init_cpu_svn", Text),
    ("quote/body/init_servicetd_hash", Text),
    ("quote/body/init_servicetd_attributes", Text),
    ("quote/body/cur_servicetd_hash", Text),
    ("quote/body/cur_servicetd_attributes", Text),
    ("td_attributes/debug", Bool),
    ("td_attributes/key_locker", Bool),
    ("td_attributes/perfmon", Bool),
    ("td_attributes/protection_keys", Bool),
    ("td_attributes/septve_disable", Bool),
    ("td_attributes/migratable", Bool),
    ("ccel", Any),
];
const QVL: Claims = &[
    ("advisory_ids/*", Text),
    ("advisory_ids_current/*", Text),
    ("collateral_expiration_status", Text),
    ("earliest_expiration_date", Text),
    ("earliest_issue_date", Text),
    ("latest_issue_date", Text),
    ("is_cached_keys", Bool),
    ("is_dynamic_platform", Bool),
    ("is_smt_enabled", Bool),
    ("pck_crl_num", Number),
    ("root_ca_crl_num", Number),
    ("platform_instance_id", Text),
    ("platform_provider_id", Text),
    ("root_key_id", Text),
    ("sgx_type", Text),
    ("tcb_date", Text),
    ("tcb_date_current", Text),
    ("tcb_eval_num", Number),
    ("tcb_status", Text),
    ("tcb_status_current", Text),
];
const EVENTS: Claims = &[
    ("uefi_event_logs/*/index", Number),
    ("uefi_event_logs/*/event_type", Text),
    ("uefi_event_logs/*/type_name", Text),
    ("uefi_event_logs/*/digest_matches_event", Bool),
    ("uefi_event_logs/*/digests/*/alg", Text),
    ("uefi_event_logs/*/digests/*/digest", Text),
    ("uefi_event_logs/*/event", Text),
    ("uefi_event_logs/*/details/string", Text),
    ("uefi_event_logs/*/details/unicode_name", Text),
    ("uefi_event_logs/*/details/unicode_name_length", Number),
    ("uefi_event_logs/*/details/variable_data", Text),
    ("uefi_event_logs/*/details/variable_data_length", Number),
    ("uefi_event_logs/*/details/variable_name", Text),
    ("uefi_event_logs/*/details/device_paths/*", Text),
    ("uefi_event_logs/*/details/data", Any),
];
const SNP: Claims = &[
    ("version", Number),
    ("product", Text),
    ("generation", Text),
    ("signing_key", Text),
    ("csp_id", Text),
    ("guest_svn", Number),
    ("vmpl", Number),
    ("measurement", Text),
    ("host_data", Text),
    ("family_id", Text),
    ("image_id", Text),
    ("id_key_digest", Text),
    ("author_key_digest", Text),
    ("author_key_enabled", Bool),
    ("report_id", Text),
    ("report_id_ma", Text),
    ("chip_id", Text),
    ("cpuid", Any),
    ("current_tcb", Any),
    ("committed_tcb", Any),
    ("launch_tcb", Any),
    ("current_version", Any),
    ("committed_version", Any),
    ("current_mit_vector", Any),
    ("launch_mit_vector", Any),
    ("policy_abi_major", Number),
    ("policy_abi_minor", Number),
    ("policy_smt_allowed", Bool),
    ("policy_migrate_ma", Bool),
    ("policy_debug_allowed", Bool),
    ("policy_single_socket", Bool),
    ("policy_cxl_allowed", Bool),
    ("policy_mem_aes_256_xts", Bool),
    ("policy_rapl_disabled", Bool),
    ("policy_ciphertext_hiding", Bool),
    ("policy_page_swap_disabled", Bool),
    ("platform_smt_enabled", Bool),
    ("platform_tsme_enabled", Bool),
    ("platform_ecc_enabled", Bool),
    ("platform_rapl_disabled", Bool),
    ("platform_ciphertext_hiding_enabled", Bool),
    ("platform_alias_check_complete", Bool),
    ("platform_tio_enabled", Bool),
    ("reported_tcb_bootloader", Number),
    ("reported_tcb_tee", Number),
    ("reported_tcb_snp", Number),
    ("reported_tcb_microcode", Number),
    ("reported_tcb_fmc", Number),
    ("evidence/policy/abi_major", Number),
    ("evidence/policy/abi_minor", Number),
    ("evidence/policy/smt_allowed", Bool),
    ("evidence/policy/migrate_ma_allowed", Bool),
    ("evidence/policy/debug_allowed", Bool),
    ("evidence/policy/single_socket_required", Bool),
    ("evidence/policy/cxl_allowed", Bool),
    ("evidence/policy/mem_aes_256_xts", Bool),
    ("evidence/policy/rapl_dis", Bool),
    ("evidence/policy/ciphertext_hiding", Bool),
    ("evidence/policy/page_swap_disabled", Bool),
    ("evidence/plat_info/smt_enabled", Bool),
    ("evidence/plat_info/tsme_enabled", Bool),
    ("evidence/plat_info/ecc_enabled", Bool),
    ("evidence/plat_info/rapl_disabled", Bool),
    ("evidence/plat_info/ciphertext_hiding_enabled", Bool),
    ("evidence/plat_info/alias_check_complete", Bool),
    ("evidence/plat_info/tio_enabled", Bool),
    ("evidence/key_info/author_key_en", Bool),
    ("evidence/key_info/mask_chip_key", Bool),
    ("evidence/key_info/signing_key", Number),
    ("evidence/reported_tcb/fmc", Number),
    ("evidence/reported_tcb/bootloader", Number),
    ("evidence/reported_tcb/tee", Number),
    ("evidence/reported_tcb/snp", Number),
    ("evidence/reported_tcb/microcode", Number),
    ("evidence/current_tcb/fmc", Number),
    ("evidence/current_tcb/bootloader", Number),
    ("evidence/current_tcb/tee", Number),
    ("evidence/current_tcb/snp", Number),
    ("evidence/current_tcb/microcode", Number),
    ("evidence/committed_tcb/fmc", Number),
    ("evidence/committed_tcb/bootloader", Number),
    ("evidence/committed_tcb/tee", Number),
    ("evidence/committed_tcb/snp", Number),
    ("evidence/committed_tcb/microcode", Number),
    ("evidence/launch_tcb/fmc", Number),
    ("evidence/launch_tcb/bootloader", Number),
    ("evidence/launch_tcb/tee", Number),
    ("evidence/launch_tcb/snp", Number),
    ("evidence/launch_tcb/microcode", Number),
    ("evidence/current/major", Number),
    ("evidence/current/minor", Number),
    ("evidence/current/build", Number),
    ("evidence/committed/major", Number),
    ("evidence/committed/minor", Number),
    ("evidence/committed/build", Number),
    ("evidence/version", Number),
    ("evidence/guest_svn", Number),
    ("evidence/vmpl", Number),
    ("evidence/sig_algo", Number),
    ("evidence/cpu_id_fam_id", Number),
    ("evidence/cpu_id_mod_id", Number),
    ("evidence/cpu_id_step", Number),
    ("evidence/launch_mit_vector", Number),
    ("evidence/current_mit_vector", Number),
    ("evidence/measurement", Text),
    ("evidence/report_data", Text),
    ("evidence/host_data", Text),
    ("evidence/family_id", Text),
    ("evidence/image_id", Text),
    ("evidence/id_key_digest", Text),
    ("evidence/author_key_digest", Text),
    ("evidence/report_id", Text),
    ("evidence/report_id_ma", Text),
    ("evidence/chip_id", Text),
];
const VTPM: Claims = &[
    ("tpm/*", Any),
    ("event_log", Any),
    ("hardware", Bool),
    ("quote_info", Any),
    ("hcl", Any),
    ("snp", Any),
    ("tdx", Any),
];
const SGX: Claims = &[
    ("header/version", Text),
    ("header/att_key_type", Text),
    ("header/att_key_data_0", Text),
    ("header/qe_svn", Text),
    ("header/pce_svn", Text),
    ("header/vendor_id", Text),
    ("header/user_data", Text),
    ("header/reserved", Text),
    ("body/cpu_svn", Text),
    ("body/misc_select", Text),
    ("body/reserved1", Text),
    ("body/reserved2", Text),
    ("body/reserved3", Text),
    ("body/reserved4", Text),
    ("body/isv_ext_prod_id", Text),
    ("body/attributes.flags", Text),
    ("body/attributes.xfrm", Text),
    ("body/attributes/flags", Text),
    ("body/attributes/xfrm", Text),
    ("body/mr_enclave", Text),
    ("body/mr_signer", Text),
    ("body/config_id", Text),
    ("body/isv_prod_id", Text),
    ("body/isv_svn", Text),
    ("body/config_svn", Text),
    ("body/isv_family_id", Text),
    ("body/report_data", Text),
    ("is_debug", Bool),
];
const TPM: Claims = &[
    ("hardware", Bool),
    ("ak_public", Text),
    ("event_log", Any),
    ("quote/bank", Text),
    ("quote/signer", Text),
    ("quote/clock", Number),
    ("quote/reset_count", Number),
    ("quote/restart_count", Number),
    ("quote/safe", Bool),
    ("quote/firmware_version", Text),
    ("pcr##", Text),
];
const CCA: Claims = &[
    ("realm/cca_realm_personalization_value", Text),
    ("realm/cca_realm_initial_measurement", Text),
    ("realm/cca_realm_extensible_measurements/*", Text),
    ("realm/*", Any),
    ("platform/*", Any),
];
const CSV: Claims = &[
    ("version", Any),
    ("policy/nodbg", Number),
    ("policy/noks", Number),
    ("policy/es", Number),
    ("policy/nosend", Number),
    ("policy/domain", Number),
    ("policy/csv", Number),
    ("policy/csv3", Number),
    ("policy/asid_reuse", Number),
    ("policy/hsk_version", Number),
    ("policy/cek_version", Number),
    ("policy/api_major", Number),
    ("policy/api_minor", Number),
    ("user_pubkey_digest", Text),
    ("vm_id", Text),
    ("vm_version", Text),
    ("mnonce", Text),
    ("measure", Text),
    ("anonce", Text),
    ("sig_usage", Text),
    ("sig_algo", Text),
    ("serial_number", Text),
    ("build", Number),
    ("rtmr_version", Number),
    ("reserved0", Text),
    ("reserved1", Text),
    ("rtmr#", Text),
];
const NITRO: Claims = &[
    ("module_id", Text),
    ("timestamp", Any),
    ("digest", Text),
    ("pcr#", Text),
    ("pcr##", Text),
    ("pcrs", Any),
    ("public_key", Text),
    ("user_data", Text),
    ("nonce", Text),
    ("debug", Bool),
    ("certificate", Any),
];
const NVIDIA: Claims = &[
    ("verifier", Text),
    ("arch", Text),
    ("uuid", Text),
    ("kind", Text),
    ("measurements/*", Any),
    ("config/driver_version", Text),
    ("config/vbios_version", Text),
    ("config/fwid", Text),
    ("config/*", Any),
    ("secboot", Bool),
    ("dbgstat", Text),
    ("measres", Any),
    ("hwmodel", Text),
    ("oemid", Text),
    ("ueid", Text),
    ("eat_nonce", Text),
    ("x-nvidia-*", Any),
    ("x_nvidia_*", Any),
];
const SE: Claims = &[
    ("version", Number),
    ("cuid", Text),
    ("tag", Text),
    ("image_phkh", Text),
    ("attestation_phkh", Text),
    ("user_data", Text),
];
const SAMPLE: Claims = &[
    ("svn", Text),
    ("launch_digest", Text),
    ("platform_version/major", Number),
    ("platform_version/minor", Number),
    ("debug", Bool),
];
const DCU: Claims = &[("body/*", Any)];
/// What the appraisal adds to the claims of a guest that it affirms.
const REFERENCE: Claims = &[("reference/id", Text), ("reference/origin", Text)];

const TD_DEBUG: &[(&str, &str, &str)] = &[
    ("td_attributes/debug", "false", "true"),
    ("quote/body/td_attributes", "\"0000001000000000\"", "\"0100001000000000\""),
];
const SNP_DEBUG: &[(&str, &str, &str)] =
    &[("policy_debug_allowed", "false", "true"), ("evidence/policy/debug_allowed", "false", "true")];
const SGX_DEBUG: &[(&str, &str, &str)] = &[
    ("is_debug", "false", "true"),
    ("body/attributes.flags", "\"0500000000000000\"", "\"0700000000000000\""),
    ("body/attributes/flags", "\"0500000000000000\"", "\"0700000000000000\""),
];

/// Every TEE whose claims have names here.
pub(crate) const TEES: &[Tee] = &[
    Tee { name: "tdx", lists: &[TDX, QVL, EVENTS, REFERENCE], debug: TD_DEBUG },
    Tee { name: "snp", lists: &[SNP, EVENTS, REFERENCE], debug: SNP_DEBUG },
    Tee { name: "az-snp-vtpm", lists: &[SNP, EVENTS, VTPM, REFERENCE], debug: SNP_DEBUG },
    Tee { name: "az-tdx-vtpm", lists: &[TDX, QVL, EVENTS, VTPM, REFERENCE], debug: TD_DEBUG },
    Tee { name: "sgx", lists: &[SGX, QVL, REFERENCE], debug: SGX_DEBUG },
    Tee { name: "tpm", lists: &[TPM, EVENTS, REFERENCE], debug: &[] },
    Tee { name: "cca", lists: &[CCA, EVENTS, REFERENCE], debug: &[] },
    Tee { name: "csv", lists: &[CSV, EVENTS, REFERENCE], debug: &[("policy/nodbg", "1", "0")] },
    Tee { name: "nitro", lists: &[NITRO, REFERENCE], debug: &[("debug", "false", "true")] },
    Tee {
        name: "nvidia",
        lists: &[NVIDIA, REFERENCE],
        debug: &[("dbgstat", "\"disabled\"", "\"enabled\""), ("secboot", "true", "false")],
    },
    Tee { name: "se", lists: &[SE], debug: &[] },
    Tee { name: "sample", lists: &[SAMPLE], debug: &[("debug", "false", "true")] },
    Tee { name: "sampledevice", lists: &[&[("svn", Text)]], debug: &[] },
    Tee { name: "hygondcu", lists: &[DCU], debug: &[] },
];

impl Tee {
    /// Its claims with paths below its name.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &(&'static str, Type)> {
        self.lists.iter().flat_map(|list| list.iter())
    }
}

/// What stands beside the TEE's claims.
const BESIDE: Claims = &[
    ("init_data", Text),
    ("report_data", Text),
    ("init_data_claims", Any),
    ("runtime_data_claims/nonce", Text),
    ("runtime_data_claims/additional-evidence", Text),
    ("runtime_data_claims/tee-pubkey", Any),
    ("runtime_data_claims/*", Any),
];
/// SPEC: kbs-protocol, "EAR token claims".
const TOKEN: Claims = &[
    ("eat_profile", Text),
    ("iat", Number),
    ("exp", Number),
    ("nbf", Number),
    ("iss", Text),
    ("ear.verifier-id/developer", Text),
    ("ear.verifier-id/build", Text),
    ("submods/*/ear.status", Text),
    ("submods/*/ear.appraisal-policy-id", Text),
    ("submods/*/ear.trustworthiness-vector/*", Number),
    ("submods/*/ear.trustee.identifiers", Any),
];
/// What our broker adds to the annotated evidence.
const OURS: Claims = &[
    ("coffer/attempt", Text),
    ("coffer/hardware", Bool),
    ("coffer/causes/*/code", Text),
    ("coffer/causes/*/title", Text),
    ("coffer/causes/*/expected", Text),
    ("coffer/causes/*/found", Text),
    ("coffer/causes/*/remedy", Text),
    ("coffer/*", Any),
];
/// Where the annotated evidence is in a token.
pub(crate) const EVIDENCE: &str = "submods/*/ear.veraison.annotated-evidence";

/// Names by path, with their types.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// The type, where a claim ends here.
    kind: Option<Type>,
    children: BTreeMap<String, Schema>,
}

/// What a schema says of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// A claim of this type, or none if it is an object or a list.
    Claim(Option<Type>),
    /// No such name; the nearest that there is at that place.
    Unknown {
        /// The place of the unknown name in the path.
        at: usize,
        /// A name that is alike.
        nearest: Option<String>,
    },
}

impl Schema {
    /// The schema of a kind of policy's input.
    pub(crate) fn of(kind: Kind) -> Self {
        let mut schema = Self::default();
        let prefix = match kind {
            Kind::Appraisal => String::new(),
            Kind::Resource => {
                TOKEN.iter().for_each(|(path, kind)| schema.add(path, *kind));
                OURS.iter().for_each(|(path, kind)| schema.add(&format!("{EVIDENCE}/{path}"), *kind));
                format!("{EVIDENCE}/")
            }
        };
        BESIDE.iter().for_each(|(path, kind)| schema.add(&format!("{prefix}{path}"), *kind));
        for tee in TEES {
            tee.claims().for_each(|(path, kind)| schema.add(&format!("{prefix}{}/{path}", tee.name), *kind));
        }
        schema
    }

    fn add(&mut self, path: &str, kind: Type) {
        let leaf = path.split('/').fold(self, |node, name| node.children.entry(name.to_owned()).or_default());
        leaf.kind = Some(kind);
    }

    /// Looks a path up; a segment without a name is any.
    pub(crate) fn look_up(&self, path: &[Option<String>]) -> Known {
        self.walk(path, 0)
    }

    fn walk(&self, path: &[Option<String>], at: usize) -> Known {
        if self.kind == Some(Any) {
            return Known::Claim(Some(Any));
        }
        let Some((segment, rest)) = path.split_first() else { return Known::Claim(self.kind) };
        let fits = |pattern: &str| segment.as_deref().is_none_or(|name| matches(pattern, name));
        let mut deepest: Option<Known> = None;
        // Names of their own come before patterns.
        let mut children: Vec<(&String, &Self)> =
            self.children.iter().filter(|(name, _)| fits(name)).collect();
        children.sort_by_key(|(name, _)| is_pattern(name));
        for (_, child) in children {
            match child.walk(rest, at.saturating_add(1)) {
                known @ Known::Claim(_) => return known,
                unknown => {
                    let deeper = |known: &Known| matches!((known, &unknown), (Known::Unknown { at: one, .. }, Known::Unknown { at: other, .. }) if one >= other);
                    if !deepest.as_ref().is_some_and(deeper) {
                        deepest = Some(unknown);
                    }
                }
            }
        }
        deepest.unwrap_or_else(|| Known::Unknown {
            at,
            nearest: segment.as_deref().and_then(|name| self.nearest(name)),
        })
    }

    fn nearest(&self, name: &str) -> Option<String> {
        nearest(name, self.children.keys().map(String::as_str).filter(|name| !is_pattern(name)))
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '#'])
}

/// `*` stands for the rest of a name, `#` for a digit.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((prefix, _)) => name.starts_with(prefix),
        None if pattern.contains('#') => {
            let same = |(own, other): (char, char)| own == other || (own == '#' && other.is_ascii_digit());
            pattern.chars().count() == name.chars().count() && pattern.chars().zip(name.chars()).all(same)
        }
        None => pattern == name,
    }
}

/// The most alike of some names, if it is alike enough to be meant.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let most = name.len().div_ceil(3).max(2);
    names
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, other)| other.to_owned())
}

/// How many letters must be changed, added or left out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(96).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().take(96).enumerate() {
        let mut corner = line;
        let mut left = line.saturating_add(1);
        let mut next = vec![left];
        for (own, above) in other.iter().zip(row.iter().skip(1)) {
            let changed = corner.saturating_add(usize::from(letter != *own));
            let moved = left.min(*above).saturating_add(1);
            corner = *above;
            left = changed.min(moved);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Option<String>> {
        text.split('/').map(|name| (name != "_").then(|| name.to_owned())).collect()
    }

    #[test]
    fn names_are_known_with_their_types_and_unknown_ones_have_a_nearest() {
        let schema = Schema::of(Kind::Appraisal);
        assert_eq!(schema.look_up(&path("tdx/td_attributes/debug")), Known::Claim(Some(Bool)));
        assert_eq!(schema.look_up(&path("tdx/quote/body")), Known::Claim(None));
        assert_eq!(schema.look_up(&path("tdx/uefi_event_logs/_/details/string")), Known::Claim(Some(Text)));
        assert_eq!(schema.look_up(&path("tpm/pcr11")), Known::Claim(Some(Text)));
        assert_eq!(schema.look_up(&path("_/measurement")), Known::Claim(Some(Text)));
        assert_eq!(schema.look_up(&path("init_data_claims/x/y")), Known::Claim(Some(Any)));
        let unknown = |text: &str| match schema.look_up(&path(text)) {
            Known::Unknown { at, nearest } => (at, nearest.unwrap_or_default()),
            known => panic!("{text}: {known:?}"),
        };
        assert_eq!(unknown("tdx/quote/body/mrtd"), (3, "mr_td".to_owned()));
        assert_eq!(unknown("snp/mesurement"), (1, "measurement".to_owned()));
        assert_eq!(unknown("snq"), (0, "snp".to_owned()));
        assert_eq!(unknown("tdx/tcb_status/x"), (2, String::new()));
        assert_eq!(unknown("tpm/pcr1"), (1, String::new()));
    }

    #[test]
    fn a_tokens_evidence_is_known_below_every_submodule() {
        let schema = Schema::of(Kind::Resource);
        let evidence = "submods/cpu0/ear.veraison.annotated-evidence";
        assert_eq!(
            schema.look_up(&path(&format!("{evidence}/snp/policy_debug_allowed"))),
            Known::Claim(Some(Bool))
        );
        assert_eq!(schema.look_up(&path(&format!("{evidence}/coffer/hardware"))), Known::Claim(Some(Bool)));
        assert_eq!(schema.look_up(&path("submods/gpu0/ear.status")), Known::Claim(Some(Text)));
        assert!(matches!(schema.look_up(&path("submods/cpu0/ear.statis")), Known::Unknown { at: 2, .. }));
    }
}
