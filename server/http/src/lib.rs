//! The broker: KBS protocol and admin API over HTTP.
