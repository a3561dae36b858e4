//! guest/agent
fn main() {}
