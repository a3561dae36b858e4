//! This machine: folder, disk, clock, randomness, descriptors, ports, certificates.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use coffer_server_http::BrokerConfig;
use coffer_server_store::files;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Finding;

/// Less than this and the journal soon has no room.
const LITTLE_ROOM: u64 = 256 << 20;
const NO_ROOM: u64 = 16 << 20;
/// This program did not exist before 2025, and its certificates end before 2100.
const CLOCK: std::ops::Range<i64> = 1_735_689_600..4_102_444_800;
const DAY: i64 = 86_400;
/// What the broker needs beside its connections.
const DESCRIPTORS: u64 = 128;

pub(super) fn look(config: &BrokerConfig) -> Vec<Finding> {
    let now = jiff::Timestamp::now().as_second();
    let mut all = vec![clock(now, &config.data_dir), randomness(), descriptors(config.max_connections)];
    all.extend(folder("data folder", &config.data_dir, true));
    let collateral = config.collateral_folder();
    if collateral.exists() {
        all.extend(folder("collateral folder", &collateral, false));
    }
    all.push(documents(config, &collateral));
    all.extend(certificates(config, now));
    all.push(admin_key(&config.data_dir));
    all.extend(
        config
            .trust_anchors
            .iter()
            .map(|anchor| pem(&format!("trust anchor {}", anchor.name), &anchor.certificate)),
    );
    for (what, path) in [
        ("authority of issuers", &config.admin_issuer_ca),
        ("authority of admins' certificates", &config.tls.client_ca),
        ("authority of collateral", &config.collateral.extra_ca),
    ] {
        if !path.as_os_str().is_empty() {
            all.push(pem(what, path));
        }
    }
    all.push(port("port", config.listen, &config.data_dir));
    if let Some(listen) = config.grpc.listen {
        all.push(port("gRPC port", listen, &config.data_dir));
    }
    all
}

fn clock(now: i64, data: &Path) -> Finding {
    const WHAT: &str = "clock";
    let expected = "the present time";
    if !CLOCK.contains(&now) {
        return Finding::problem(
            WHAT,
            expected,
            time(now),
            "set the clock; certificates and tokens rest on it",
        );
    }
    let latest = fs::read_dir(data).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
    let latest = latest.map(|metadata| metadata.mtime()).max().unwrap_or(now);
    match latest > now.saturating_add(60) {
        true => Finding::warning(
            WHAT,
            expected,
            format!("{}, and a file in the data folder is from {}", time(now), time(latest)),
            "set the clock, or see that NTP runs",
        ),
        false => Finding::ok(WHAT, expected, time(now)),
    }
}

fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| format!("{at} s after 1970"), |at| at.to_string())
}

fn randomness() -> Finding {
    let mut bytes = [0; 32];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Finding::ok("randomness", "the system's source answers", "it answers"),
        Err(_) => Finding::problem(
            "randomness",
            "the system's source answers",
            "it fails",
            "see that the process may call getrandom(2)",
        ),
    }
}

fn descriptors(connections: usize) -> Finding {
    const WHAT: &str = "file descriptors";
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS);
    let expected = format!("at least {needed} for max_connections = {connections}");
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < needed => Finding::warning(
            WHAT,
            &expected,
            format!("{soft}"),
            "raise the limit (LimitNOFILE= in the unit, ulimit -n), or lower max_connections",
        ),
        Ok((soft, _)) => Finding::ok(WHAT, expected, format!("{soft}")),
        Err(error) => Finding::warning(WHAT, &expected, error.to_string(), "see what limits the process"),
    }
}

fn folder(what: &str, path: &Path, private: bool) -> Vec<Finding> {
    let expected =
        if private { "a folder of mode 0700 that can be written" } else { "a folder that can be written" };
    let place = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let found = format!("{place} is no folder");
            return vec![Finding::problem(what, expected, found, "name another one as data_dir")];
        }
        Err(error) => {
            let found = format!("{place}: {error}");
            return vec![Finding::problem(what, expected, found, "coffer-broker init makes it")];
        }
    };
    let mode = metadata.mode() & 0o7777;
    let mut all = Vec::new();
    match written(path) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => all.push(Finding::problem(
            what,
            expected,
            format!("{place} is on a file system that is mounted read-only"),
            "mount it for writing; see the kernel's log for errors of the disk",
        )),
        Err(error) => all.push(Finding::problem(
            what,
            expected,
            format!("{place} cannot be written: {error}"),
            "see that the broker's user owns it and that the disk has room",
        )),
        Ok(()) if private && mode & 0o077 != 0 => all.push(Finding::warning(
            what,
            expected,
            format!("{place} has mode {mode:04o}, so others may look into it"),
            "chmod 700 it",
        )),
        Ok(()) => all.push(Finding::ok(what, expected, format!("{place}, mode {mode:04o}"))),
    }
    if let Ok(system) = statvfs(path) {
        let free = system.blocks_available().saturating_mul(system.fragment_size());
        let (what, found) = (format!("room in the {what}"), format!("{} MiB", free >> 20));
        let expected = format!("at least {} MiB", LITTLE_ROOM >> 20);
        all.push(match free {
            ..NO_ROOM => Finding::problem(
                &what,
                &expected,
                found,
                "make room: without it no attempt is recorded and nothing released",
            ),
            NO_ROOM..LITTLE_ROOM => Finding::warning(&what, &expected, found, "make room soon"),
            _ => Finding::ok(&what, expected, found),
        });
    }
    all
}

/// Writes a few bytes durably and removes them.
fn written(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".doctor.{}", std::process::id()));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(b"doctor\n")?;
        file.sync_all()
    };
    let result = write();
    let removed = fs::remove_file(&path);
    result.and(removed)
}

fn documents(config: &BrokerConfig, folder: &Path) -> Finding {
    const WHAT: &str = "collateral";
    let found = fs::read_dir(folder).map_or(0, |entries| entries.flatten().count());
    match config.collateral.offline && found == 0 {
        true => Finding::warning(
            WHAT,
            "documents, because nothing is fetched (offline = true)",
            format!("none in {}", folder.display()),
            "import some: coffer collateral import",
        ),
        false => Finding::ok(WHAT, "fetched when needed, or imported", format!("{found} files")),
    }
}

/// The certificate that clients see, or the authority that signs it.
fn certificates(config: &BrokerConfig, now: i64) -> Vec<Finding> {
    let tls = &config.tls;
    if tls.certificate.as_os_str().is_empty() && tls.key.as_os_str().is_empty() {
        let path = config.data_dir.join("tls/ca.pem");
        let what = "certificate of the broker's authority";
        return match path.exists() {
            true => vec![end_of(
                what,
                &path,
                now,
                "restore it from a copy, or remove tls/ and tell clients the new one",
            )],
            false => vec![Finding::warning(
                what,
                "made at the first start",
                "not made yet",
                "coffer-broker init makes it",
            )],
        };
    }
    let mut all = vec![end_of(
        "TLS certificate",
        &tls.certificate,
        now,
        "have it renewed; the broker reads the file anew each hour",
    )];
    let what = "TLS key";
    let expected = "a private key (PEM, mode 0600) that fits the certificate";
    let remedy = "name certificate and key that belong together in [tls]";
    all.push(match fits(&tls.certificate, &tls.key) {
        Ok(()) => Finding::ok(what, expected, "it fits"),
        Err(why) => Finding::problem(what, expected, why, remedy),
    });
    all
}

fn fits(certificate: &Path, key: &Path) -> Result<(), String> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(|error| error.to_string())?.collect();
    let chain = chain.map_err(|error| error.to_string())?;
    let pem = files::read_private(key).map_err(|error| error.to_string())?;
    let pem = pem.ok_or_else(|| format!("{} is not there", key.display()))?;
    let key = PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|error| error.to_string())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let fits = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    fits.map(drop).map_err(|error| error.to_string())
}

fn end_of(what: &str, path: &Path, now: i64, remedy: &str) -> Finding {
    let expected = "a certificate that is valid for 14 days at least";
    let der = CertificateDer::from_pem_file(path).map_err(|error| error.to_string());
    let times = der.and_then(|der| match x509_parser::parse_x509_certificate(&der) {
        Ok((_, certificate)) => {
            let validity = certificate.validity();
            Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
        }
        Err(error) => Err(error.to_string()),
    });
    match times {
        Err(why) => Finding::problem(what, expected, format!("{}: {why}", path.display()), remedy),
        Ok((begin, end)) if now < begin || now >= end => {
            let found = format!("valid from {} until {}", time(begin), time(end));
            Finding::problem(what, expected, found, remedy)
        }
        Ok((_, end)) if end.saturating_sub(now) < 14 * DAY => {
            Finding::warning(what, expected, format!("it ends at {}", time(end)), remedy)
        }
        Ok((_, end)) => Finding::ok(what, expected, format!("it ends at {}", time(end))),
    }
}

fn pem(what: &str, path: &Path) -> Finding {
    match CertificateDer::from_pem_file(path) {
        Ok(_) => Finding::ok(what, "a certificate (PEM)", path.display().to_string()),
        Err(error) => {
            let found = format!("{}: {error}", path.display());
            Finding::problem(what, "a certificate (PEM)", found, "correct the path or the file")
        }
    }
}

fn admin_key(data: &Path) -> Finding {
    const WHAT: &str = "admin key";
    let path = data.join("admin.key");
    let expected = "with the admin, not on this machine";
    match files::read_private(&path) {
        Err(error) => Finding::problem(WHAT, "of mode 0600", error.to_string(), "chmod 600 it"),
        Ok(None) => Finding::ok(WHAT, expected, "not on this machine"),
        Ok(Some(_)) => {
            Finding::ok(WHAT, expected, format!("{} is here; move it to the admin", path.display()))
        }
    }
}

fn port(what: &str, address: SocketAddr, data: &Path) -> Finding {
    let expected = format!("{address} is free, or this broker serves there");
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(what, expected, format!("{address} is free")),
        // The file is there while the broker of this folder serves.
        Err(error) if error.kind() == ErrorKind::AddrInUse && data.join("url").exists() => {
            Finding::ok(what, expected, format!("{address} is served by the broker of this folder"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::problem(
            what,
            &expected,
            format!("{address} is in use"),
            "stop the program that listens there (ss -ltnp), or name another port",
        ),
        Err(error) => Finding::problem(
            what,
            &expected,
            format!("{address}: {error}"),
            "name an address of this machine",
        ),
    }
}
