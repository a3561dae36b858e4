//! tools/cli
fn main() {}
