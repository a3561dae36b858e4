//! How much each tenant and each client may ask for: rates, shares and quotas, in bounded memory.
//!
//! Holds true: memory does not depend on who calls or how often; a tenant's calls do not take another's share.
//! Left out: counting what is stored, which is the store's, and HTTP but for one header that says who asks.

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
mod forwarded;
mod quotas;
mod rates;
mod shares;
mod turns;

pub use bucket::Rate;
pub use forwarded::{NotANetwork, TrustedProxies};
pub use quotas::{OverQuota, Quantity, Quotas, QuotasError};
pub use rates::{Class, ClassRates, Decision, RateLimits, Rates};
pub use shares::{Busy, Place, Shares};
pub use turns::Share;
