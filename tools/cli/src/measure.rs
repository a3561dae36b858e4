//! `coffer measure`: what a guest will show, computed from its files before it boots.

mod platform;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use coffer_core_cose::SigningKey;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_initdata::InitData;
use coffer_core_launch::{ReferenceValues, TpmLaunch, predict_tpm, register_index};
use coffer_host_sandbox::{ChannelKind, base_command_line};
use jiff::{Timestamp, ToSpan};

use crate::Context;
use crate::guest::Guest;
use crate::output::{plain, table};

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
#[command(after_help = AFTER_HELP)]
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
    #[command(flatten)]
    artifacts: platform::Artifacts,
    /// How many days the reference values are valid.
    #[arg(long, default_value_t = 90, value_name = "DAYS")]
    valid: u32,
    /// The file to write; standard output if none is named.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write CoRIM (draft-ietf-rats-corim) instead of JSON; signed if --sign-key is given.
    #[arg(long, requires = "out")]
    corim: bool,
    /// The key that signs the CoRIM (PEM, PKCS #8, P-256 or P-384).
    #[arg(long, value_name = "FILE", requires = "corim")]
    sign_key: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  coffer measure -o guest.json                                   the guest of `coffer run`, with a TPM
  coffer measure --platform snp --firmware OVMF.amdsev.fd --kernel vmlinuz --initrd initrd.img \\
      --command-line 'console=ttyS0' --cpus 4 --cpu-type EPYC-Genoa -o guest.json
  coffer measure --platform tdx --firmware OVMF.inteltdx.fd --kernel vmlinuz --cpus 4 --memory 4096 -o guest.json
  coffer measure --platform sgx --enclave app.sgxs --sigstruct app.sig -o enclave.json";

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Platform {
    /// A machine with OVMF and a TPM: PCRs 0 to 9, SHA-256.
    Tpm,
    /// AMD SEV-SNP: the launch measurement and HOST_DATA.
    Snp,
    /// Intel TDX: MRTD, MRCONFIGID and RTMR0 to RTMR2.
    Tdx,
    /// An Intel SGX enclave: MRENCLAVE, MRSIGNER and its versions.
    Sgx,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Channel {
    /// vsock, where the host has vhost-vsock.
    Vsock,
    /// A virtio-serial port, elsewhere.
    Virtio,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<()> {
    let init_data = match &options.init_data {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            Some(InitData::parse(&text).with_context(|| format!("{} is no init-data", file.display()))?)
        }
        None => None,
    };
    let digest = init_data.as_ref().map(InitData::digest);
    let values = match options.platform {
        Platform::Tpm => {
            options.artifacts.only_elsewhere()?;
            predict_guest(
                &Guest::built(&context.home)?,
                &options.machine,
                digest,
                &command_line(options.channel, options.append.as_deref()),
            )?
        }
        Platform::Snp => options.artifacts.snp(&options.machine, digest)?,
        Platform::Tdx => options.artifacts.tdx(&options.machine, digest)?,
        Platform::Sgx => options.artifacts.sgx(digest)?,
    };
    let expected = stamped(values, init_data.as_ref(), "coffer measure", options.valid)?;
    let Some(out) = &options.out else {
        return plain(&expected.to_json());
    };
    let bytes = match options.corim {
        false => expected.to_json().into_bytes(),
        true => corim(&expected, options.sign_key.as_deref())?,
    };
    std::fs::write(out, bytes).with_context(|| format!("{} cannot be written", out.display()))?;
    context.output.show(&expected, |expected| {
        let rows: Vec<_> =
            expected.registers().iter().map(|(name, digest)| row(expected, name, digest)).collect();
        format!(
            "{}\npredicted before any boot, as {}; written to {}",
            table(&["REGISTER", "VALUE", "OF"], &rows),
            expected.id(),
            out.display()
        )
    })
}

fn row(values: &ReferenceValues, name: &str, digest: &Digest) -> Vec<String> {
    let parts =
        register_index(values.platform(), name).map(|index| values.components(index)).unwrap_or_default();
    let parts: Vec<_> = parts.iter().map(|component| component.noun().to_string()).collect();
    vec![name.to_owned(), digest.hex(), parts.join(", ")]
}

fn corim(values: &ReferenceValues, key: Option<&Path>) -> Result<Vec<u8>> {
    let unsigned = coffer_core_corim::to_corim(values)?;
    let Some(key) = key else { return Ok(unsigned) };
    let pem = std::fs::read_to_string(key).with_context(|| format!("{} cannot be read", key.display()))?;
    let signer =
        SigningKey::from_pem(&pem).with_context(|| format!("{} is no signing key", key.display()))?;
    Ok(coffer_core_corim::sign(&unsigned, &signer, "coffer measure")?)
}

fn command_line(channel: Option<Channel>, append: Option<&str>) -> String {
    let channel = match channel {
        Some(Channel::Vsock) => ChannelKind::Vsock,
        Some(Channel::Virtio) => ChannelKind::VirtioSerial,
        None => ChannelKind::detect(),
    };
    let base = base_command_line(channel);
    append.map_or_else(|| base.clone(), |words| format!("{base} {words}"))
}

/// What this machine's `coffer run` will show.
pub(crate) fn predict(
    guest: &Guest,
    machine: &Machine,
    init_data: Option<&InitData>,
    append: Option<&str>,
    origin: &str,
) -> Result<ReferenceValues> {
    let values = predict_guest(guest, machine, init_data.map(InitData::digest), &command_line(None, append))?;
    stamped(values, init_data, origin, 90)
}

fn predict_guest(
    guest: &Guest,
    machine: &Machine,
    init_data: Option<Digest>,
    command_line: &str,
) -> Result<ReferenceValues> {
    let files = guest.files();
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let (firmware, kernel, initrd) = (read(&files.firmware)?, read(&files.kernel)?, read(&files.initrd)?);
    Ok(predict_tpm(&TpmLaunch {
        firmware: &firmware,
        kernel: &kernel,
        initrd: &initrd,
        command_line,
        memory_mib: machine.memory,
        vcpus: machine.cpus,
        address_width: Default::default(),
        init_data,
        bank: Algorithm::Sha256,
    })?)
}

/// Says where the values come from and how long they are good.
fn stamped(
    values: ReferenceValues,
    init_data: Option<&InitData>,
    origin: &str,
    valid_days: u32,
) -> Result<ReferenceValues> {
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let expires = now.checked_add((i64::from(valid_days) * 24).hours())?;
    let entries = init_data.map(InitData::entry_digests).unwrap_or_default();
    Ok(values
        .with_origin(origin)
        .with_times(Some(now.to_string()), Some(expires.to_string()))
        .with_init_data_entries(entries))
}
