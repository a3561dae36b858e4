//! The guest's network: loopback always, the first device as the request says.
//!
//! The host chooses the addresses; whom the guest believes over them is decided by certificates and digests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use coffer_core_channel::Network;
use futures::TryStreamExt;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::refusal;
use crate::stop::Stop;

const DEVICE: &str = "eth0";
const DEVICE_PATIENCE: Duration = Duration::from_secs(5);

/// Brings loopback up.
pub(crate) async fn bring_up_loopback() -> Result<(), Stop> {
    let handle = handle()?;
    let index = index(&handle, "lo", Duration::ZERO).await?;
    up(&handle, "lo", index).await
}

/// Gives the first device its address, and the machine its route and name server.
pub(crate) async fn configure(network: &Network) -> Result<(), Stop> {
    let wrong = |what: &str| {
        let remedy = "Correct the network in the request; the launcher fills it where it is left out.";
        refusal("network.request", format!("the request's network has no usable {what}"), remedy)
    };
    let (address, prefix) = network.address.split_once('/').ok_or_else(|| wrong("address"))?;
    let address: IpAddr = address.parse().map_err(|_| wrong("address"))?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong("prefix length"))?;
    let gateway: IpAddr = network.gateway.parse().map_err(|_| wrong("gateway"))?;
    let dns: IpAddr = network.dns.parse().map_err(|_| wrong("name server"))?;
    let handle = handle()?;
    let index = index(&handle, DEVICE, DEVICE_PATIENCE).await?;
    handle.address().add(index, address, prefix).execute().await.map_err(failed("setting its address"))?;
    up(&handle, DEVICE, index).await?;
    let route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
    };
    handle.route().add(route).execute().await.map_err(failed("setting the route"))?;
    let written = std::fs::write("/etc/resolv.conf", resolv_conf(dns))
        .and_then(|()| std::fs::write("/etc/hosts", HOSTS));
    written.map_err(|why| {
        refusal("network.files", format!("writing /etc/resolv.conf: {why}"), "Build the guest again.")
    })
}

/// The names of this machine.
pub(crate) const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The resolver's configuration.
pub(crate) fn resolv_conf(dns: IpAddr) -> String {
    format!("nameserver {dns}\n")
}

fn handle() -> Result<Handle, Stop> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|why| refusal("network.netlink", why.to_string(), "Build the guest again."))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// A device's number, waiting for it while its driver comes up.
async fn index(handle: &Handle, name: &str, patience: Duration) -> Result<u32, Stop> {
    let until = Instant::now() + patience;
    loop {
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link: Result<Option<LinkMessage>, _> = links.try_next().await;
        if let Ok(Some(link)) = link {
            return Ok(link.header.index);
        }
        if Instant::now() >= until {
            let remedy = "Start the machine with a network device, or without a network in the request.";
            return Err(refusal("network.device", format!("there is no network device {name}"), remedy));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn up(handle: &Handle, name: &str, index: u32) -> Result<(), Stop> {
    let message = LinkUnspec::new_with_index(index).up().build();
    let done = handle.link().set(message).execute().await;
    done.map_err(|why| failed(if name == "lo" { "bringing loopback up" } else { "bringing it up" })(why))
}

fn failed(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Stop {
    move |why| refusal("network.setup", format!("the network: {what}: {why}"), "Build the guest again.")
}
