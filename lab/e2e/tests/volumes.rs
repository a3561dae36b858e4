//! A volume over the lives of several machines: written, its machine killed, opened again; old copies refused.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffer_lab_e2e::{Ends, World, children_of, name_of};

const REFUSED: Option<i32> = Some(120);
/// What the workload writes; the host's file must not have it.
const WRITTEN: &str = "canary-b1946ac9-of-the-volume";
const RUN: &str = "run oci:sealed/web:latest --signer image.pub --enroll \
    --mount name=data,key=kbs:///lab/volume-key/data,path=/srv/data";

/// Runs a script in a guest with this file as the volume.
fn script(world: &World, volume: &str, script: &str) -> Result<coffer_lab_e2e::Outcome> {
    let mut command = world.command(&format!("{RUN} {volume} --"));
    World::ended(command.args(["sh", "-c", script]))
}

fn holds(file: &Path, text: &str) -> Result<bool> {
    Ok(Command::new("grep").args(["-qaF", text]).arg(file).status()?.success())
}

#[test]
fn volume_of_a_killed_guest_opens_again_and_an_old_copy_is_refused() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    world.done("volume create data --size 64M --file data.vol --key kbs:///lab/volume-key/data")?;
    fs::copy(world.path("data.vol"), world.path("old.vol"))?;

    let missing = script(&world, "", "true")?;
    ensure!(missing.code == REFUSED && missing.err.contains("volume.missing"), "{}", missing.err);

    // The workload says when what it wrote is on the disk; then the machine is killed without warning.
    let mut command = world.command(&format!("{RUN} --volume data=data.vol --"));
    let write =
        format!("echo {WRITTEN} | dd of=/srv/data/file conv=fsync && echo it-is-on-the-disk; sleep 600");
    command.args(["sh", "-c", &write]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guest = Ends(command.spawn()?);
    let mut line = String::new();
    BufReader::new(guest.0.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let machine = children_of(guest.0.id())?.into_iter().find(|id| name_of(*id).starts_with("qemu"));
    if line.trim() == "it-is-on-the-disk" {
        let machine = machine.context("no machine runs")?;
        ensure!(Command::new("kill").args(["-9", &machine.to_string()]).status()?.success(), "kill");
    }
    let mut said = String::new();
    std::io::Read::read_to_string(&mut guest.0.stderr.take().context("no standard error")?, &mut said)?;
    guest.0.wait()?;
    ensure!(line.trim() == "it-is-on-the-disk", "nothing was written:\n{said}");
    ensure!(!holds(&world.path("data.vol"), WRITTEN)?, "the host's file has what the workload wrote");
    ensure!(!holds(&world.path("data.vol"), "lost+found")?, "the host's file has the file system's names");

    let again = script(&world, "--volume data=data.vol", "cat /srv/data/file; echo more >> /srv/data/file")?;
    ensure!(again.code == Some(0) && again.out.contains(WRITTEN), "{}{}", again.out, again.err);
    let closed = script(&world, "--volume data=data.vol", "tail -1 /srv/data/file")?;
    ensure!(closed.code == Some(0) && closed.out.contains("more"), "{}{}", closed.out, closed.err);

    let old = script(&world, "--volume data=old.vol", "true")?;
    ensure!(old.code == REFUSED && old.err.contains("volume.rolled-back"), "{}", old.err);
    // The owner says that the copy is the good one; from then on the other is refused.
    world.done("volume accept old.vol --key kbs:///lab/volume-key/data")?;
    let restored =
        script(&world, "--volume data=old.vol", "test -d /srv/data/lost+found && test ! -e /srv/data/file")?;
    ensure!(restored.code == Some(0), "{}", restored.err);
    Ok(())
}
