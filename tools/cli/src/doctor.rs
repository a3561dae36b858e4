//! `coffer doctor`: what this machine can and cannot do, each line with its remedy.

use std::process::ExitCode;

use anyhow::Result;
use coffer_host_vmm::doctor;

use crate::{Context, guest};
