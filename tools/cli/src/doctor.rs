//! `coffer doctor`: what this machine can and cannot do, each line with its remedy.

use std::process::ExitCode;

use anyhow::Result;
use coffer_host_vmm::Qemu;
use coffer_host_vmm::doctor::{Examination, Finding, State, examine};

use crate::output::Output;
use crate::{Context, guest};

/// Look at this machine. Ends with 1 if guests cannot run here.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also see whether this registry answers, as in registry.example:443.
    #[arg(long, value_name = "HOST:PORT")]
    registry: Option<String>,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<ExitCode> {
    let files = guest::files(&context.home);
    let findings = examine(&Examination {
        qemu: Qemu::default(),
        kernel: files.kernel,
        initramfs: files.initrd,
        cache_dir: context.home.cache(),
        run_root: std::env::temp_dir(),
        registry: options.registry.clone(),
    });
    context.output.show(&findings, |findings| text(context.output, findings))?;
    let broken = findings.iter().any(|finding| finding.required && finding.state != State::Ok);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(output: Output, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Ok => output.paint("32", "✓"),
            State::Degraded => output.paint("33", "~"),
            State::Missing if finding.required => output.paint("31", "✗"),
            State::Missing => output.paint("33", "-"),
        };
        text.push_str(&format!("{mark} {:<12}{}\n", finding.name, finding.detail));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("  {:<12}→ {remedy}\n", ""));
        }
    }
    let broken = findings.iter().any(|finding| finding.required && finding.state != State::Ok);
    text.push_str(match broken {
        true => "\nGuests cannot run here yet: mend what is marked ✗.\n",
        false => "\nGuests can run here. What is marked ~ or - makes them faster or protects them, where it can be had.\n",
    });
    text
}
