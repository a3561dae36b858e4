//! How much each tenant and each client may ask for: rates, shares and quotas, in bounded memory.
//!
//! Holds true: memory does not depend on who calls or how often; a tenant's calls do not take another's share.
//! Left out: counting what is stored, which is the store's, and HTTP.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bucket;
mod quotas;
mod rates;
mod shares;
mod turns;

pub use bucket::Rate;
pub use quotas::{OverQuota, Quantity, Quotas, QuotasError};
pub use rates::{Class, ClassRates, Decision, RateLimits, Rates};
pub use shares::{Busy, Place, Shares};
pub use turns::Share;
