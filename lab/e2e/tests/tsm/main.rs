//! The agent on a real kernel with configfs-tsm, whose provider is a module that answers with recorded evidence; and its
//! runtime events in a TPM's register.
//!
//! Linux 6.12 of Debian's backports is booted as a guest, the agent being PID 1, and `lab/tsm-module` registers as the
//! driver of a TEE. What is shown: the agent mounts configfs, loads the driver, finds the TEE before the TPM that is there
//! too, compares its launch-time field with init-data before it contacts anybody (I-5), collects evidence and sends it;
//! and the broker refuses evidence that was recorded for another challenge by that name. What is not: a TEE.

mod archive;
mod kernel;

use std::fs;

use anyhow::{Context, Result, ensure};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{EventLog, RuntimeEvent};
use coffer_core_evidence::wire::TpmEvidence;
use coffer_core_initdata::InitData;
use coffer_lab_e2e::{Outcome, World};
use coffer_lab_testpki::dcap::{DcapFixture, TrustDomain};
use coffer_tools_guest_image::Manifest;

use archive::Archive;
use kernel::Prepared;

/// What `coffer run` ends with when guest or broker refused.
const REFUSED: Option<i32> = Some(120);
const RUN: &str = "run oci:sealed/web:latest --init-data init-data.toml --timeline";

/// A guest whose driver answers with what it is given.
struct LabGuest<'a> {
    world: &'a World,
    kernel: &'a Prepared,
    initramfs: Vec<u8>,
    manifest: Manifest,
}

impl<'a> LabGuest<'a> {
    fn build(world: &'a World, kernel: &'a Prepared) -> Result<Self> {
        let agent = std::env::var("COFFER_E2E_AGENT").context("no agent was built")?;
        let folder = kernel.root.to_string_lossy();
        let guest = world.home().join("guest");
        fs::rename(&guest, world.path("kept-guest"))?;
        world.done(&format!("guest build --agent {agent} --kernel {folder}"))?;
        let initramfs = fs::read(guest.join("initramfs.cpio.zst"))?;
        let manifest: Manifest = serde_json::from_slice(&fs::read(guest.join("guest.json"))?)?;
        let names: Vec<_> = manifest.modules.iter().map(|module| module.name.as_str()).collect();
        for driver in ["tsm.ko", "tdx-guest.ko", "sev-guest.ko"] {
            ensure!(names.contains(&driver), "the guest has no {driver}: {names:?}");
        }
        Ok(Self { world, kernel, initramfs, manifest })
    }

    /// Runs the sealed image in a guest whose driver has this name and this answer.
    fn run(&self, provider: &str, outblob: &[u8], others: &[(&str, &[u8])]) -> Result<Outcome> {
        let mut drivers: Vec<String> =
            self.manifest.modules.iter().map(|module| format!("/lib/modules/{}\n", module.name)).collect();
        drivers.push("/lib/modules/coffer_lab_tsm.ko\n".into());
        let mut added = Archive::default();
        for folder in ["etc", "lib", "lib/modules", "lib/coffer-lab"] {
            added.folder(folder);
        }
        // The kernel unpacks archives one after another, and what comes later stays.
        added.file("etc/modules.tee", drivers.concat().as_bytes());
        added.file("lib/modules/coffer_lab_tsm.ko", &self.kernel.module);
        added.file("lib/coffer-lab/provider", provider.as_bytes());
        added.file("lib/coffer-lab/outblob", outblob);
        for (name, content) in others {
            added.file(&format!("lib/coffer-lab/{name}"), content);
        }
        let mut initramfs = self.initramfs.clone();
        initramfs.resize(initramfs.len().next_multiple_of(4), 0);
        initramfs.extend(added.finish());
        let mut manifest = self.manifest.clone();
        manifest.initramfs.size = initramfs.len() as u64;
        manifest.initramfs.digest = Digest::sha256(&initramfs);
        let guest = self.world.home().join("guest");
        fs::write(guest.join("initramfs.cpio.zst"), &initramfs)?;
        fs::write(guest.join("guest.json"), serde_json::to_vec(&manifest)?)?;
        self.world.run(RUN)
    }
}

impl Drop for LabGuest<'_> {
    /// The other cases' guest is put back.
    fn drop(&mut self) {
        let guest = self.world.home().join("guest");
        let _ = fs::remove_dir_all(&guest);
        let _ = fs::rename(self.world.path("kept-guest"), guest);
    }
}

fn refused(outcome: &Outcome, codes: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.out, outcome.err);
    ensure!(outcome.code == REFUSED, "expected a refusal, got {:?}:\n{said}", outcome.code);
    for code in codes {
        ensure!(said.contains(code), "{code} is not in\n{said}");
    }
    Ok(())
}

/// A quote of the test authority's for a TD with this MRCONFIGID, made for somebody else's challenge.
fn recorded_quote(config: &Digest) -> Vec<u8> {
    let mut domain = TrustDomain { report_data: [0x5a; 64], ..TrustDomain::default() };
    domain.mr_config_id[..config.as_bytes().len()].copy_from_slice(config.as_bytes());
    DcapFixture::tdx().quote(4, &domain.body(2))
}

#[test]
fn the_agent_finds_the_tee_checks_its_binding_and_sends_evidence_that_the_broker_refuses_by_name()
-> Result<()> {
    let Some(mut world) = World::enter() else { return Ok(()) };
    let Some(kernel) = Prepared::get()? else { return Ok(()) };
    let init_data = InitData::parse(&fs::read(world.path("init-data.toml"))?)?;

    // A TD that the host started with other init-data. The broker is dead, and nobody notices: nobody is asked.
    world.kill_broker()?;
    let guest = LabGuest::build(&world, &kernel)?;
    let outcome = guest.run("tdx_guest", &recorded_quote(&Digest::sha256(b"other init-data")), &[])?;
    refused(&outcome, &["init-data.not-bound", "MRCONFIGID", &init_data.digest().hex()])?;
    drop(guest);
    world.start_broker()?;

    // The right init-data, and a quote for another challenge.
    let guest = LabGuest::build(&world, &kernel)?;
    let outcome = guest.run("tdx_guest", &recorded_quote(&init_data.digest()), &[])?;
    refused(&outcome, &["it is what MRCONFIGID holds", "tdx.quote.freshness"])?;

    // SEV-SNP, bound to the live challenge and signed by nobody. HOST_DATA is checked before, too.
    let mut report = vec![0u8; 1184];
    report[0] = 2;
    report[0xc0..0xe0].copy_from_slice(&init_data.digest().as_bytes()[..32]);
    let outcome = guest.run("sev_guest", &report, &[("bind-at", b"80")])?;
    refused(&outcome, &["it is what HOST_DATA holds", "snp.report.algorithm"])?;
    ensure!(!outcome.err.contains("snp.report.freshness"), "the binding was live:\n{}", outcome.err);
    Ok(())
}

#[test]
fn runtime_events_are_in_the_register_and_in_the_log_that_the_evidence_carries() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let script = r#"wget -qO- --post-data '{"domain":"lab.example","operation":"start","content":"of the workload"}' \
        http://127.0.0.1:8006/aa/aael; echo; wget -qO- http://127.0.0.1:8006/coffer/evidence?runtime_data=x"#;
    let mut command =
        world.command("run oci:sealed/web:latest --signer image.pub --enroll --timeline -- sh -c");
    let outcome = World::ended(command.arg(script))?;
    let said = format!("{}{}", outcome.out, outcome.err);
    ensure!(outcome.code == Some(0), "{:?}\n{said}", outcome.code);
    ensure!(outcome.err.contains("PullImage"), "{said}");
    let json = outcome.out.lines().last().context("the workload said nothing")?;
    let evidence = TpmEvidence::parse(&serde_json::from_str(json)?)?;
    let log = EventLog::parse(&evidence.event_log.clone().context("there is no log")?)?;
    let events: Vec<_> = log.events().iter().filter_map(RuntimeEvent::of).collect();
    let [pulled, own] = events.as_slice() else { anyhow::bail!("two events were expected: {events:?}") };
    ensure!(pulled.text().starts_with("github.com/confidential-containers PullImage {"), "{}", pulled.text());
    ensure!(own.text() == "lab.example start of the workload", "{}", own.text());
    let replayed = log.replay(Algorithm::Sha256).get(&15).copied();
    ensure!(
        replayed.is_some() && replayed == evidence.registers()?.get(15).copied(),
        "the log leads elsewhere"
    );
    Ok(())
}
