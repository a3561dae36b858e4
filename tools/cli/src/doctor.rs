//! `coffer doctor`: what this machine can and cannot do, each line with its remedy.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use coffer_host_vmm::Qemu;
use coffer_host_vmm::doctor::{Examination, Finding, State, examine};
use coffer_server_collateral::State as CacheState;

use crate::output::Output;
use crate::source::open;
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
    let mut findings = examine(&Examination {
        qemu: Qemu::default(),
        kernel: files.kernel,
        initramfs: files.initrd,
        cache_dir: context.home.cache(),
        run_root: std::env::temp_dir(),
        registry: options.registry.clone(),
    });
    findings.push(inside());
    findings.push(collateral(context));
    context.output.show(&findings, |findings| text(context.output, findings))?;
    let broken = findings.iter().any(|finding| finding.required && finding.state != State::Ok);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether this machine is itself a guest that can be attested.
fn inside() -> Finding {
    let devices = [
        ("/dev/tdx_guest", "TDX"),
        ("/dev/sev-guest", "SEV-SNP"),
        ("/dev/nsm", "Nitro"),
        ("/sys/kernel/config/tsm/report", "configfs-tsm"),
    ];
    let found: Vec<&str> =
        devices.iter().filter(|(path, _)| Path::new(path).exists()).map(|(_, name)| *name).collect();
    let (state, detail) = match found.as_slice() {
        [] => {
            (State::Missing, "this machine is no confidential guest; its own evidence is software's".into())
        }
        found => (State::Ok, format!("this machine can show evidence of {}", found.join(", "))),
    };
    Finding { name: "tee", state, required: false, detail, remedy: None }
}

/// What is at hand for judging evidence without a network.
fn collateral(context: &Context) -> Finding {
    let listed = open(context, true).and_then(|cache| Ok(cache.list()?));
    let (state, detail, remedy) = match listed {
        Err(error) => (State::Degraded, format!("the cache cannot be used: {error:#}"), None),
        Ok(listed) if listed.is_empty() => {
            let remedy = "`coffer collateral fetch --evidence FILE`, or `coffer collateral import`";
            (State::Missing, "the cache holds no documents".to_owned(), Some(remedy.to_owned()))
        }
        Ok(listed) => {
            let ended = listed.iter().filter(|one| one.state == CacheState::Ended).count();
            let state = if ended == 0 { State::Ok } else { State::Degraded };
            let remedy = "`coffer collateral list` names them; fetch or import them again".to_owned();
            let detail = format!("the cache holds {} documents, {ended} past their end", listed.len());
            (state, detail, (ended > 0).then_some(remedy))
        }
    };
    Finding { name: "collateral", state, required: false, detail, remedy }
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
