//! AMD's key distribution service ("VCEK Certificate and KDS Interface Specification", section 4).

use coffer_verify_api::CollateralKey;

use super::{Fetched, Web};
use crate::document::crl_der;
use crate::error::FetchError;
use crate::settings::Amd;

pub(super) async fn fetch(web: &Web, settings: &Amd, key: &CollateralKey) -> Result<Fetched, FetchError> {
    let base = settings.kds.trim_end_matches('/');
    let url = match key {
        CollateralKey::AmdVcek { product, chip, tcb } => {
            format!("{base}/vcek/v1/{product}/{}?{}", hex::encode(chip), levels(product, *tcb))
        }
        CollateralKey::AmdVcekChain(product) => format!("{base}/vcek/v1/{product}/cert_chain"),
        CollateralKey::AmdVlekChain(product) => format!("{base}/vlek/v1/{product}/cert_chain"),
        CollateralKey::AmdCrl(product) => format!("{base}/vcek/v1/{product}/crl"),
        _ => return Err(FetchError::NotServed("it is not of AMD's service")),
    };
    let mut answer = web.get(&url).await?;
    if matches!(key, CollateralKey::AmdCrl(_)) {
        answer.body = crl_der(answer.body);
    }
    Ok(answer.into_fetched(Vec::new()))
}

/// The levels of a TCB as the service's parameters. From Turin on the first byte is the FMC's and the others stand one
/// further (SEV-SNP firmware ABI, "TCB_VERSION").
fn levels(product: &str, tcb: u64) -> String {
    let [b0, b1, b2, b3, _, _, b6, b7] = tcb.to_le_bytes();
    match product {
        "Milan" | "Genoa" | "Bergamo" | "Siena" => {
            format!("blSPL={b0:02}&teeSPL={b1:02}&snpSPL={b6:02}&ucodeSPL={b7:02}")
        }
        _ => format!("fmcSPL={b0:02}&blSPL={b1:02}&teeSPL={b2:02}&snpSPL={b3:02}&ucodeSPL={b7:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcb_is_asked_for_as_its_generation_has_it() {
        let tcb = u64::from_le_bytes([3, 1, 0, 0, 0, 0, 8, 115]);
        assert_eq!(levels("Milan", tcb), "blSPL=03&teeSPL=01&snpSPL=08&ucodeSPL=115");
        let tcb = u64::from_le_bytes([1, 2, 3, 4, 0, 0, 0, 71]);
        assert_eq!(levels("Turin", tcb), "fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=71");
    }
}
