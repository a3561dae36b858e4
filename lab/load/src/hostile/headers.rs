//! Heads that are longer, or have more members, than any call needs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::LONGEST;
use super::raw::{self, Answers};
use crate::endpoint::{Loopback, Tls};

/// No bomb is larger, in headers or in bytes.
const LARGEST: usize = 64 << 20;

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HeaderBomb {
    /// So many headers.
    Many,
    /// One header of so many bytes.
    Long,
    /// A path of so many bytes.
    Path,
    /// A cookie of so many bytes with a call of attest.
    Cookie,
    /// A bearer token of so many bytes with an admin call.
    Token,
}

/// Sends one; gives the status, or none if the connection was ended without an answer.
pub async fn header_bomb(
    target: &Loopback,
    tls: &Tls,
    bomb: HeaderBomb,
    size: usize,
    limit: Duration,
) -> Result<Option<u16>> {
    ensure!(size <= LARGEST, "at most {LARGEST}");
    let long = || "a".repeat(size);
    let head = match bomb {
        HeaderBomb::Many => {
            let headers: String = (0..size.min(1 << 20)).map(|number| format!("x-{number}: a\r\n")).collect();
            raw::head(target, "GET", "/healthz", &headers)
        }
        HeaderBomb::Long => raw::head(target, "GET", "/healthz", &format!("x-long: {}\r\n", long())),
        HeaderBomb::Path => raw::head(target, "GET", &format!("/kbs/v0/resource/a/b/{}", long()), ""),
        HeaderBomb::Cookie => {
            let cookie = format!("cookie: kbs-session-id={}\r\ncontent-length: 2\r\n", long());
            [raw::head(target, "POST", "/kbs/v0/attest", &cookie), b"{}".to_vec()].concat()
        }
        HeaderBomb::Token => {
            raw::head(target, "GET", "/coffer/v1/info", &format!("authorization: Bearer {}\r\n", long()))
        }
    };
    let send = async {
        let mut answers = Answers::new(raw::connect(target, tls).await?);
        // The broker may answer and close before all of it is sent.
        let _ = answers.write(&head).await;
        answers.status().await
    };
    Ok(tokio::time::timeout(limit.min(LONGEST), send).await?.unwrap_or(None))
}
