//! The guest's one process: PID 1.
//!
//! Wiring only. It prepares the machine, speaks with the host, and powers the machine off at the end, whatever the
//! end is. What it prints reaches the host and is public.

mod boot;
mod channel;
mod console;
mod host_blobs;
mod init_data;
mod input;
mod memory;
mod network;
mod outbox;
mod relay;
mod session;
mod stop;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use coffer_core_channel::{Frame, Kind, Refusal};
use stop::Stop;

/// How long the host may take to read the end before the machine goes off.
const FAREWELL: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if coffer_guest_containers::is_container_call() {
        return coffer_guest_containers::container_main();
    }
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("coffer-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if std::process::id() != 1 {
        eprintln!(
            "coffer-agent is the first process of a Coffer guest and does nothing elsewhere.\n\
             Build a guest with `coffer guest build` and start it with `coffer run`."
        );
        return ExitCode::FAILURE;
    }
    console::power_off_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match (boot::prepare(), runtime) {
        (Ok(machine), Ok(runtime)) => {
            runtime.block_on(serve(machine));
            // Tasks that still wait for the host must not hold the machine.
            runtime.shutdown_background();
        }
        (Err(why), _) => console::line(&format!("the guest cannot start: {why}")),
        (_, Err(why)) => console::line(&format!("the guest cannot start: {why}")),
    }
    console::line("powering off");
    let refused = coffer_sys_process::power_off();
    console::line(&format!("the machine cannot be powered off: {refused}"));
    ExitCode::FAILURE
}

/// One machine, one channel, one request.
async fn serve(machine: boot::Machine) {
    let transport = match coffer_sys_transport::open_guest(machine.channel).await {
        Ok(transport) => transport,
        Err(why) => return console::line(&format!("no channel to the host: {why}")),
    };
    let (link, mut streams) = channel::Link::start(transport);
    let Some(run) = streams.recv().await else {
        return console::line("the host closed the channel without a request");
    };
    let (outbox, writing, mut orders) = outbox::open(run);
    let end = session::run(&machine, &link, &outbox, &mut orders).await;
    let last = match &end {
        Ok(code) => Frame::json(Kind::Exit, code),
        Err(Stop::Refused(refusal)) => {
            console::refused(refusal);
            Frame::json(Kind::Refusal, &**refusal)
        }
        Err(Stop::HostGone) => return console::line("the host went away"),
    };
    match last {
        Ok(frame) => outbox.last(frame),
        Err(why) => console::line(&format!("the end cannot be told: {why}")),
    }
    drop((outbox, orders));
    let told = async {
        // The writer ends when everything is sent; the host closes the channel when it has read the end.
        let _written_or_broken = writing.await;
        link.ended().await;
    };
    if tokio::time::timeout(FAREWELL, told).await.is_err() {
        console::line("the host did not close the channel in time");
    }
}

/// A refusal that the agent itself makes.
fn refusal(code: &str, message: impl Into<String>, remedy: &str) -> Stop {
    Stop::Refused(Box::new(Refusal {
        code: code.into(),
        message: message.into(),
        expected: None,
        found: None,
        remedy: Some(remedy.into()),
        attempt: None,
    }))
}
