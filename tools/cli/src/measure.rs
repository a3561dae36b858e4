//! `coffer measure`: what a guest will show, computed from its files before it boots.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use coffer_core_digest::Algorithm;
use coffer_core_initdata::InitData;
use coffer_core_launch::{ReferenceValues, TpmLaunch, predict_tpm};
use coffer_host_sandbox::{ChannelKind, base_command_line};
use jiff::{Timestamp, ToSpan};

use crate::Context;
use crate::guest::Guest;
use crate::output::table;

/// The machine's shape, on which measurements depend.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Machine {
    /// The guest's memory in MiB. Measured: the firmware's register depends on it.
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    pub(crate) memory: u32,
    /// The guest's processors. Measured.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cpus: u32,
}

/// What is predicted.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The platform.
    #[arg(long, value_enum, default_value_t = Platform::Tpm)]
    platform: Platform,
    /// The init-data that the guest will get.
    #[arg(long, value_name = "FILE")]
    init_data: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// Words that will be added to the kernel's command line.
    #[arg(long, value_name = "WORDS")]
    append: Option<String>,
    /// The channel that the guest's host will have [default: what this machine would use].
    #[arg(long, value_enum)]
    channel: Option<Channel>,
    /// How many days the reference values are valid.
    #[arg(long, default_value_t = 90, value_name = "DAYS")]
    valid: u32,
    /// The file to write; standard output if none is named.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Platform {
    /// A machine with OVMF and a TPM: PCRs 0 to 9, SHA-256.
    Tpm,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Channel {
    /// vsock, where the host has vhost-vsock.
    Vsock,
    /// A virtio-serial port, elsewhere.
    Virtio,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<()> {
    let Platform::Tpm = options.platform;
    let guest = Guest::built(&context.home)?;
    let init_data = match &options.init_data {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            Some(InitData::parse(&text).with_context(|| format!("{} is no init-data", file.display()))?)
        }
        None => None,
    };
    let channel = match options.channel {
        Some(Channel::Vsock) => ChannelKind::Vsock,
        Some(Channel::Virtio) => ChannelKind::VirtioSerial,
        None => ChannelKind::detect(),
    };
    let mut command_line = base_command_line(channel);
    if let Some(words) = &options.append {
        command_line = format!("{command_line} {words}");
    }
    let expected = predicted(
        &guest,
        &options.machine,
        init_data.as_ref(),
        "coffer measure",
        &command_line,
        options.valid,
    )?;
    let Some(out) = &options.out else {
        println!("{}", expected.to_json());
        return Ok(());
    };
    std::fs::write(out, expected.to_json())
        .with_context(|| format!("{} cannot be written", out.display()))?;
    context.output.show(&expected, |expected| {
        let rows: Vec<_> = expected
            .registers()
            .iter()
            .map(|(name, digest)| {
                let number = name.trim_start_matches("pcr").parse().unwrap_or(u32::MAX);
                let parts = expected.components(number);
                let parts: Vec<_> = parts.iter().map(|component| component.noun().to_string()).collect();
                vec![name.clone(), digest.hex(), parts.join(", ")]
            })
            .collect();
        format!(
            "{}\npredicted before any boot, as {}; written to {}",
            table(&["REGISTER", "SHA-256", "OF"], &rows),
            expected.id(),
            out.display()
        )
    })
}

/// What this machine's `coffer run` will show.
pub(crate) fn predict(
    guest: &Guest,
    machine: &Machine,
    init_data: Option<&InitData>,
    append: Option<&str>,
    origin: &str,
) -> Result<ReferenceValues> {
    let mut command_line = base_command_line(ChannelKind::detect());
    if let Some(words) = append {
        command_line = format!("{command_line} {words}");
    }
    predicted(guest, machine, init_data, origin, &command_line, 90)
}

fn predicted(
    guest: &Guest,
    machine: &Machine,
    init_data: Option<&InitData>,
    origin: &str,
    command_line: &str,
    valid_days: u32,
) -> Result<ReferenceValues> {
    let files = guest.files();
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let (firmware, kernel, initrd) = (read(&files.firmware)?, read(&files.kernel)?, read(&files.initrd)?);
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let expires = now.checked_add((i64::from(valid_days) * 24).hours())?;
    let values = predict_tpm(&TpmLaunch {
        firmware: &firmware,
        kernel: &kernel,
        initrd: &initrd,
        command_line,
        memory_mib: machine.memory,
        vcpus: machine.cpus,
        address_width: Default::default(),
        init_data: init_data.map(InitData::digest),
        bank: Algorithm::Sha256,
    })?;
    let entries = init_data.map(InitData::entry_digests).unwrap_or_default();
    Ok(values
        .with_origin(origin)
        .with_times(Some(now.to_string()), Some(expires.to_string()))
        .with_init_data_entries(entries))
}
