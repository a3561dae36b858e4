//! One request from the host, from the first look to the workload's end. The order is the law (README).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_core_channel::{ImageSource, Kind, Open, RunRequest};
use coffer_core_digest::Digest;
use coffer_core_initdata::{Attestation, Overlay, Scratch, Volume};
use coffer_guest_attest::{
    Broker, Devices, KeyClient, Keys, MachineSource, Patience, RecordError, RuntimeEvent,
};
use coffer_guest_containers::{Cgroup, ContainerSpec};
use coffer_guest_gate::{Admitted, Authorized, Container, Gate, GateError, Pin};
use coffer_guest_hub::{Hub, refuse_sealed};
use coffer_guest_images::{
    BlobSource, Found, ImageError, ImageFault, ImageStore, Prepared, Progress, Registry, RegistryAccess,
};
use coffer_guest_volumes::{Mounted, mount_scratch};

use crate::boot::{IMAGES, Machine};
use crate::channel::Link;
use crate::host_blobs::HostBlobs;
use crate::init_data::{self, Owner};
use crate::outbox::{Orders, Outbox};
use crate::stop::Stop;
use crate::{memory, network, refusal, relay};

/// Where the files of secrets lie: a file system in memory, whatever the writable layer is on.
const SECRETS: &str = "/run/coffer-secrets";
/// Most processes and threads of the workload.
const MOST_PROCESSES: u64 = 4096;

/// Runs what the host asks for, if the owner allows it. Gives the workload's exit code.
pub(crate) async fn run(
    machine: &Machine,
    link: &Link,
    outbox: &Outbox,
    orders: &mut Orders,
) -> Result<i32, Stop> {
    outbox.step("boot", "the guest is up".into());
    let owner = init_data::establish()?;
    let binding = match &owner.machine {
        Some(machine) => format!("{}: {}", machine.tee(), machine.how()),
        None => "not bound: the machine has no TEE".into(),
    };
    outbox.step("init-data", format!("{}, {binding}", owner.init_data.digest()));
    let request = request(orders).await?;
    let gate = Gate::new(&owner.config);
    let admitted = gate.admit(&request)?;
    outbox.step("gate", "name, arguments, environment, input and terminal are those of init-data".into());
    network::bring_up_loopback().await?;
    if let Some(network) = &request.network {
        network::configure(network).await?;
    }
    let access = RegistryAccess::of(&owner.init_data)?;
    let (volumes, scratch) = (owner.config.volumes.clone(), owner.config.scratch);
    let keys = attest(machine, owner, outbox).await?;
    let (source, disks) = source(&request, link, &access, keys.as_deref()).await?;
    let found = Found::fetch(&*source).await?;
    let authorized = authorize(&admitted, &found)?;
    outbox.step("gate", pinned(authorized.get()));
    let place = writable_place(scratch, outbox).await?;
    let store = ImageStore::new(place, disks, keys.clone());
    let prepared = store.prepare(&*source, &found, &authorized, outbox).await?;
    let Prepared { root, mut process, integrity } = prepared;
    if scratch.overlay == Overlay::Memory {
        memory::bound_writes()?;
    }
    let mounted = open_volumes(&volumes, &root, keys.as_deref(), outbox).await?;
    match keys {
        None => refuse_sealed(&process.env)?,
        Some(keys) => {
            note_pull(&*keys, authorized.get(), outbox).await?;
            let container = authorized.get();
            let hub = Arc::new(Hub::new(keys, container.resources.clone(), container.evidence));
            process.env = hub.unseal_environment(process.env).await?;
            if !container.secrets.is_empty() {
                process.env = hub.deliver(&container.secrets, process.env, &root, Path::new(SECRETS)).await?;
                outbox.step("secrets", format!("{} put in place", container.secrets.len()));
            }
            serve_hub(hub).await?;
        }
    }
    let mut spec = ContainerSpec::new(root, process.args);
    spec.env = process.env;
    spec.cwd = process.cwd;
    spec.user = process.user;
    spec.terminal = authorized.get().terminal;
    spec.hosts = Some(network::HOSTS.into());
    let dns = request.network.as_ref().and_then(|network| network.dns.parse().ok());
    spec.resolv_conf = dns.map(network::resolv_conf);
    let path = Path::new("/sys/fs/cgroup/workload").to_owned();
    spec.cgroup = Some(Cgroup { path, memory_max: memory::for_workload(), pids_max: Some(MOST_PROCESSES) });
    let admitted = authorized.get().input;
    let ended =
        relay::run(&spec, admitted, process.stop_signal.as_deref(), integrity, link, outbox, orders).await;
    // Also where the host is gone: what the workload wrote belongs on the disk.
    let closed = mounted.close().await;
    let code = ended?;
    closed?;
    Ok(code)
}

/// Opens what init-data names below the container's root.
async fn open_volumes(
    volumes: &[Volume],
    root: &Path,
    keys: Option<&dyn Keys>,
    outbox: &Outbox,
) -> Result<Mounted, Stop> {
    let told = |line| outbox.step("volume", line);
    Ok(Mounted::open(volumes, root, keys, &told).await?)
}

/// Where the image is made ready, and what the workload changes of it lies.
async fn writable_place(scratch: Scratch, outbox: &Outbox) -> Result<PathBuf, Stop> {
    let place = match scratch.overlay {
        Overlay::Memory => PathBuf::from(IMAGES),
        Overlay::Disk => {
            let disk = Path::new(IMAGES).join("scratch");
            let size = mount_scratch(&disk).await?;
            outbox.step("scratch", format!("{size} bytes of a disk, under a key that was drawn here"));
            disk
        }
    };
    Ok(place.join("image"))
}

/// The run stream's first frame.
async fn request(orders: &mut Orders) -> Result<RunRequest, Stop> {
    let frame = orders.next().await?.ok_or(Stop::HostGone)?;
    match (frame.kind, frame.parse()) {
        (Kind::Open, Ok(Open::Run(request))) => Ok(request),
        _ => Err(refusal(
            "channel.request",
            "the host's first frame asks for nothing to run",
            "Use a launcher of the same version as the guest.",
        )),
    }
}

/// Attests once, before anything is fetched, and says how it went. Gives the way to the owner's keys.
async fn attest(machine: &Machine, owner: Owner, outbox: &Outbox) -> Result<Option<Arc<dyn Keys>>, Stop> {
    if owner.config.attestation == Attestation::InsecureNone {
        outbox.step("attestation", "insecure-none: nobody is asked and there are no keys".into());
        return Ok(None);
    }
    let (Some(broker), Some(bound)) = (owner.config.broker, owner.machine) else {
        return Err(refusal(
            "attestation.no-tee",
            "init-data requires attestation, and there is no broker or no TEE to attest with",
            "Name a broker in init-data, and start a confidential machine or one with a TPM.",
        ));
    };
    let way = Broker::new(&broker.url, &broker.certificate, Patience::default())?;
    let source = Arc::new(MachineSource::new(bound, machine.command_line.clone(), Devices::default()));
    let client = KeyClient::new(way, source, owner.init_data.text().to_owned());
    let attested = client.attest_as_expected().await?;
    let status = serde_json::to_string(&attested.status).unwrap_or_default();
    let detail = format!("{} by {}, attempt {}", status.trim_matches('"'), broker.url, attested.attempt);
    outbox.step("attestation", detail);
    Ok(Some(Arc::new(client)))
}

type Source = (Box<dyn BlobSource>, HashMap<Digest, String>);

/// Where the request says that the image is, and which of its blobs are disks.
async fn source(
    request: &RunRequest,
    link: &Link,
    access: &RegistryAccess,
    keys: Option<&dyn Keys>,
) -> Result<Source, Stop> {
    match &request.source {
        ImageSource::Registry { reference, plain_http } => {
            let credentials = access.credentials(keys).await?;
            Ok((Box::new(Registry::new(reference, *plain_http, access, &credentials)?), HashMap::new()))
        }
        ImageSource::Host { manifest, signatures, disks } => {
            let manifest = digest(manifest)?;
            let signatures = signatures.iter().map(|text| digest(text)).collect::<Result<_, _>>()?;
            let disk = |(text, serial): &(String, String)| Ok::<_, Stop>((digest(text)?, serial.clone()));
            let disks = disks.iter().map(disk).collect::<Result<_, _>>()?;
            Ok((Box::new(HostBlobs::new(link.clone(), manifest, signatures)), disks))
        }
    }
}

fn digest(text: &str) -> Result<Digest, Stop> {
    let wrong = |why: String| -> ImageError { Box::new(ImageFault::Reference { why }) };
    text.parse().map_err(|why| wrong(format!("the request's digest: {why}")).into())
}

/// The gate's word on what was found: the document that was named, or the manifest within it.
fn authorize(admitted: &Admitted<'_>, found: &Found) -> Result<Authorized<Container>, Stop> {
    let mut refusal: Option<GateError> = None;
    for candidate in found.candidates() {
        match admitted.authorize(candidate) {
            Ok(authorized) => return Ok(authorized),
            // What was named is what the user knows.
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.map_or(Stop::HostGone, Stop::from))
}

fn pinned(container: &Container) -> String {
    match &container.pin {
        Pin::Digest => format!("{} is pinned by init-data", container.manifest),
        Pin::Signature(key) => format!("{} is signed by key {key}", container.manifest),
    }
}

/// Measures which image was pulled, where the machine has a register for it.
async fn note_pull(keys: &dyn Keys, image: &Container, outbox: &Outbox) -> Result<(), Stop> {
    let event = RuntimeEvent::image_pulled(&image.image, &image.manifest).map_err(RecordError::from)?;
    match keys.record(event).await {
        Ok(()) => outbox.step("runtime-event", format!("PullImage {} is measured", image.manifest)),
        Err(RecordError::NotSupported(why)) => outbox.step("runtime-event", format!("not measured: {why}")),
        Err(why) => return Err(why.into()),
    }
    Ok(())
}

/// The workload's local API, for as long as the machine is on.
async fn serve_hub(hub: Arc<Hub>) -> Result<(), Stop> {
    let listener = tokio::net::TcpListener::bind(coffer_guest_hub::ADDRESS).await.map_err(|why| {
        refusal("hub.listen", format!("{}: {why}", coffer_guest_hub::ADDRESS), "Start the machine again.")
    })?;
    tokio::spawn(async move {
        if let Err(why) = coffer_guest_hub::serve(listener, hub).await {
            crate::console::line(&format!("the local API ended: {why}"));
        }
    });
    Ok(())
}
