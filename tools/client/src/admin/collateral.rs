//! The broker's cache of collateral.

use coffer_core_admin::{
    CollateralDocument, CollateralFetch, CollateralFetched, CollateralList, CollateralResult,
};
use reqwest::Method;

use super::AdminClient;
use crate::error::ClientError;

impl AdminClient {
    /// What the broker has, and whether it is offline.
    pub async fn list_collateral(&self) -> Result<CollateralList, ClientError> {
        self.get("/collateral").await
    }

    /// Has the broker fetch documents anew, by their keys as in `intel/tdx/tcb-info/b0c06f000000`.
    pub async fn fetch_collateral(&self, keys: &[String]) -> Result<Vec<CollateralResult>, ClientError> {
        let body = CollateralFetch { keys: keys.to_vec() };
        Ok(self.post::<_, CollateralFetched>("/collateral/fetch", &body).await?.results)
    }

    /// Gives the broker a bundle (tar), collateral in JSON, or one document.
    pub async fn import_collateral(&self, file: Vec<u8>) -> Result<Vec<CollateralDocument>, ClientError> {
        let path = "/collateral";
        let request = self.owned(Method::POST, path)?.body(file);
        Ok(self.read::<CollateralList>(path, request).await?.documents)
    }

    /// The broker's whole cache as a bundle (tar).
    pub async fn export_collateral(&self) -> Result<Vec<u8>, ClientError> {
        let request = self.owned(Method::GET, "/collateral/bundle")?;
        Ok(self.server.send_bounded(request, MAX_BUNDLE).await?.body)
    }

    /// Removes a document from the broker's cache.
    pub async fn remove_collateral(&self, key: &str) -> Result<(), ClientError> {
        // A key's slashes are part of the path; what is no key is refused by the broker.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        if key.is_empty()
            || !key.chars().all(plain)
            || key.split('/').any(|part| part.trim_matches('.').is_empty())
        {
            let why = "expected as in intel/tdx/tcb-info/b0c06f000000".to_string();
            return Err(ClientError::Path { found: key.to_string(), why });
        }
        self.delete(&format!("/collateral/documents/{key}")).await
    }
}

/// What a broker's cache holds at most, unless it is set otherwise.
const MAX_BUNDLE: usize = 300 << 20;
