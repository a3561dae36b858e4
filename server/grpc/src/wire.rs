//! The messages, with the tags of `proto/`. Written by hand, so that nothing runs at build time.
//!
//! Unknown fields are skipped, as proto3 asks; bodies of plugins may be secret, so their messages have no `Debug`.

/// Package `attestation`.
pub mod attestation {
    /// The service's name in paths.
    pub const SERVICE: &str = "attestation.AttestationService";

    /// Evidence of one attester.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AttestationRequest {
        /// The TEE's evidence and that of devices.
        #[prost(message, repeated, tag = "1")]
        pub verification_requests: Vec<IndividualAttestationRequest>,
        /// The policies to appraise by.
        #[prost(string, repeated, tag = "2")]
        pub policy_ids: Vec<String>,
    }

    /// One piece of evidence.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct IndividualAttestationRequest {
        /// The TEE's name.
        #[prost(string, tag = "1")]
        pub tee: String,
        /// JSON in base64url.
        #[prost(string, tag = "3")]
        pub evidence: String,
        /// What the report data is bound to.
        #[prost(oneof = "RuntimeData", tags = "4, 5")]
        pub runtime_data: Option<RuntimeData>,
        /// What the attester was configured with.
        #[prost(oneof = "InitData", tags = "6, 7")]
        pub init_data: Option<InitData>,
        /// The hash's name.
        #[prost(string, tag = "8")]
        pub runtime_data_hash_algorithm: String,
    }

    /// What the report data is bound to.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum RuntimeData {
        /// Bytes in base64url.
        #[prost(string, tag = "4")]
        RawRuntimeData(String),
        /// Text of a JSON object.
        #[prost(string, tag = "5")]
        StructuredRuntimeData(String),
    }

    /// What the attester was configured with.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum InitData {
        /// A digest in base64url.
        #[prost(string, tag = "6")]
        InitDataDigest(String),
        /// TOML text.
        #[prost(string, tag = "7")]
        InitDataToml(String),
    }

    /// The attestation result.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AttestationResponse {
        /// A JWT.
        #[prost(string, tag = "1")]
        pub attestation_token: String,
    }

    /// A policy to store.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SetPolicyRequest {
        /// Its name.
        #[prost(string, tag = "1")]
        pub policy_id: String,
        /// Rego text in base64url.
        #[prost(string, tag = "2")]
        pub policy: String,
    }

    /// Nothing: the policy is stored.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SetPolicyResponse {}

    /// What a challenge is asked for.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChallengeRequest {
        /// Such as `tee` and `tee_params`.
        #[prost(btree_map = "string, string", tag = "1")]
        pub inner: std::collections::BTreeMap<String, String>,
    }

    /// A challenge.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChallengeResponse {
        /// What must be in the evidence.
        #[prost(string, tag = "1")]
        pub attestation_challenge: String,
    }
}

/// Package `reference`.
pub mod reference {
    /// The service's name in paths.
    pub const SERVICE: &str = "reference.ReferenceValueProviderService";

    /// Which value is asked for.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReferenceValueQueryRequest {
        /// Its name.
        #[prost(string, tag = "1")]
        pub reference_value_id: String,
    }

    /// The value.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReferenceValueQueryResponse {
        /// JSON text, if there is such a value.
        #[prost(string, optional, tag = "1")]
        pub reference_value_results: Option<String>,
    }

    /// Values to store.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReferenceValueRegisterRequest {
        /// JSON text.
        #[prost(string, tag = "1")]
        pub message: String,
    }

    /// Nothing: the values are stored.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReferenceValueRegisterResponse {}
}

/// Package `kbs.plugin.v1`.
pub mod plugin {
    /// The service's name in paths.
    pub const SERVICE: &str = "kbs.plugin.v1.KbsPlugin";

    /// An HTTP request, for each of the three calls: `PluginRequest`, `ValidateAuthRequest`, `NeedsEncryptionRequest`.
    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(skip_debug)]
    pub struct PluginRequest {
        /// The body.
        #[prost(bytes = "vec", tag = "1")]
        pub body: Vec<u8>,
        /// The query's members.
        #[prost(btree_map = "string, string", tag = "2")]
        pub query: std::collections::BTreeMap<String, String>,
        /// Segments after the plugin's name.
        #[prost(string, repeated, tag = "3")]
        pub path: Vec<String>,
        /// As in `GET`.
        #[prost(string, tag = "4")]
        pub method: String,
    }

    /// The plugin's answer.
    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(skip_debug)]
    pub struct PluginResponse {
        /// The body.
        #[prost(bytes = "vec", tag = "1")]
        pub body: Vec<u8>,
        /// An HTTP status, or 0.
        #[prost(int32, tag = "2")]
        pub status_code: i32,
        /// A media type, or nothing.
        #[prost(string, tag = "3")]
        pub content_type: String,
    }

    /// Who the request is for.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ValidateAuthResponse {
        /// Whether it is for admins.
        #[prost(bool, tag = "1")]
        pub requires_admin_auth: bool,
    }

    /// How the answer travels.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NeedsEncryptionResponse {
        /// Whether it is encrypted to the guest's key.
        #[prost(bool, tag = "1")]
        pub requires_payload_encryption: bool,
    }
}

#[cfg(test)]
mod tests;
