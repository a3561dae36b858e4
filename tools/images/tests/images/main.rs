//! Images made by other tools are sealed, signed, copied and read back; other tools check what is made.
//!
//! Tests that need umoci, skopeo, openssl, docker-registry or root say so and return where these are absent.
#![allow(clippy::unwrap_used)]

mod converting;
mod places;
mod sealing;
mod signing;
mod support;
