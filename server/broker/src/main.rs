//! server/broker
fn main() {}
