//! The guest's local API, as programs inside the guest ask it for resources.

use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;

use crate::{Http, SourceError};

/// Where it is unless somebody says otherwise.
pub const LOCAL_API: &str = "http://127.0.0.1:8006";
const MAX_RESOURCE: u64 = 1 << 20;

/// Asks for resources that the measured init-data lists.
pub struct LocalApi {
    http: Http,
    address: String,
}

impl LocalApi {
    /// `address` must be one of this machine: see [`Http::loopback`].
    pub fn new(address: &str) -> Result<Self, SourceError> {
        let http = Http::loopback(address)?;
        Ok(Self { http, address: address.trim_end_matches('/').into() })
    }

    /// A resource, byte for byte.
    pub fn resource(&self, path: &ResourcePath) -> Result<SecretBytes, SourceError> {
        let what = format!("resource {}/{}/{}", path.repository(), path.kind(), path.tag());
        let url =
            format!("{}/cdh/resource/{}/{}/{}", self.address, path.repository(), path.kind(), path.tag());
        let bytes = self.http.get(&url, MAX_RESOURCE)?;
        match bytes.len() as u64 {
            found if found > MAX_RESOURCE => {
                Err(SourceError::Length { place: self.address.clone(), what, expected: MAX_RESOURCE, found })
            }
            _ => Ok(SecretBytes::new(bytes)),
        }
    }
}
