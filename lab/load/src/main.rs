//! The load generator's program: arguments in, figures out. All it does is in the library.

use std::io::Write;

use anyhow::Result;
use clap::Parser;
use coffer_lab_load::{Arguments, raise_descriptors};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let found = runtime.block_on(arguments.act())?;
    Ok(std::io::stdout().write_all(found.as_bytes())?)
}
