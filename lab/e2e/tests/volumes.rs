//! Volumes over the lives of several machines: written, the machine killed, grown, opened again; old copies refused,
//! changed bytes noticed; and what goes with each machine: scratch disks and secrets.
//!
//! A boot is dear, so that each looks at several things.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coffer_lab_e2e::{Ends, Outcome, World, children_of, name_of};

const REFUSED: Option<i32> = Some(120);
/// What the workload writes; the host's file must not have it.
const WRITTEN: &str = "canary-b1946ac9-of-the-volume";
/// What is in the sealed data set.
const SEALED: &str = "canary-5d41402a-of-the-data-set";
const DONE: &str = "it-is-on-the-disk";
const RUN: &str = "run oci:sealed/web:latest --signer image.pub --enroll \
    --mount name=data,key=kbs:///lab/volume-key/data,path=/srv/data";
/// A volume whose sectors have MACs.
const SAFE: &str = "--mount name=safe,key=kbs:///lab/volume-key/safe,path=/srv/safe --volume safe=safe.vol";

fn holds(file: &Path, text: &str) -> Result<bool> {
    Ok(Command::new("grep").args(["-qaF", text]).arg(file).status()?.success())
}

/// Seals a folder and gives the words for `--mount`.
fn data_set(world: &World) -> Result<String> {
    fs::create_dir_all(world.path("set/deep"))?;
    fs::write(world.path("set/words"), format!("{SEALED}\n"))?;
    fs::write(world.path("set/deep/large"), (0..1_200_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>())?;
    let told = world.done("volume seal set --file set.vol --key kbs:///lab/data-key/set --output json")?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    ensure!(!holds(&world.path("set.vol"), SEALED)?, "the sealed file has what was sealed");
    Ok(told["mount"].as_str().context("no words to mount it")?.to_owned())
}

/// The first life: everything is there, and ends with the machine being killed without warning.
fn first(world: &World, set: &str) -> Result<()> {
    let mut command = world.command(&format!(
        "{RUN} --volume data=data.vol {SAFE} --mount {set} --volume set=set.vol \
         --scratch 1G --mount name=tmp,kind=ephemeral,path=/work,owner=7:8 --scratch tmp=300M \
         --secret env=GREETING,resource=kbs:///lab/config/greeting \
         --secret file=/run/secrets/greeting,resource=kbs:///lab/config/greeting,mode=0440,owner=7:8 --"
    ));
    let script = format!(
        "cat /srv/set/words; cmp /srv/set/deep/large /srv/set/deep/large && echo all-is-read; \
         echo \"variable: $GREETING\"; cat /run/secrets/greeting; stat -c 'secret %a %u %g' /run/secrets/greeting; \
         echo x 2>/dev/null > /run/secrets/greeting || echo secret-is-not-written; \
         df -P -m / | awk 'NR == 2 {{ print \"root\", ($2 > 900) ? \"disk\" : \"memory\" }}'; \
         df -P -m /work | awk 'NR == 2 {{ print \"work\", ($2 > 200 && $2 < 310) ? \"disk\" : $2 }}'; \
         stat -c 'work %u %g' /work; \
         dd if=/dev/urandom of=/large bs=1M count=20 2>/dev/null; cp /large /work/large; cmp /large /work/large && echo same; \
         dd if=/dev/zero of=/srv/safe/large bs=1M count=20 conv=fsync 2>/dev/null; \
         echo safe-words | dd of=/srv/safe/words conv=fsync 2>/dev/null; \
         echo {WRITTEN} | dd of=/srv/data/file conv=fsync 2>/dev/null && echo {DONE}; sleep 600"
    );
    command.args(["sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guest = Ends(command.spawn()?);
    let mut lines = BufReader::new(guest.0.stdout.take().context("no standard output")?).lines();
    let mut out = String::new();
    while let Some(line) = lines.next().transpose()? {
        out.push_str(&line);
        out.push('\n');
        if line == DONE {
            let machine = children_of(guest.0.id())?.into_iter().find(|id| name_of(*id).starts_with("qemu"));
            let machine = machine.context("no machine runs")?;
            ensure!(Command::new("kill").args(["-9", &machine.to_string()]).status()?.success(), "kill");
        }
    }
    let mut said = String::new();
    std::io::Read::read_to_string(&mut guest.0.stderr.take().context("no standard error")?, &mut said)?;
    guest.0.wait()?;
    let expected = [
        SEALED,
        "all-is-read",
        "variable: the workload's own secret",
        "\nthe workload's own secret\nsecret 440 7 8\n",
        "secret-is-not-written",
        "root disk",
        "work disk",
        "work 7 8",
        "same",
        DONE,
    ];
    for part in expected {
        ensure!(out.contains(part), "{part:?} is not in\n{out}\n{said}");
    }
    ensure!(!holds(&world.path("data.vol"), WRITTEN)?, "the host's file has what the workload wrote");
    ensure!(!holds(&world.path("data.vol"), "lost+found")?, "the host's file has the file system's names");
    let left = fs::read_dir(world.path("tmp"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// The second life: the volume is whole and larger; a byte of the data set was changed, and is never read.
fn second(world: &World, set: &str) -> Result<()> {
    world.done("volume grow data.vol --size 400M")?;
    let mut blob = fs::read(world.path("set.vol"))?;
    // The midst of the data belongs to the large file.
    let midst = (blob.len() / 2) & !4095;
    blob[midst + 17] ^= 1;
    fs::write(world.path("changed.vol"), blob)?;
    change_file_with_macs(&world.path("safe.vol"))?;
    let script = "cat /srv/data/file; echo more >> /srv/data/file; \
        df -P -m /srv/data | awk 'NR == 2 { print \"data\", ($2 > 300) ? \"grown\" : $2 }'; \
        cat /srv/set/words; cat /srv/set/deep/large > /dev/null || echo unreadable; \
        cat /srv/safe/words; cat /srv/safe/large > /dev/null || echo damage-is-noticed";
    let mut command = world.command(&format!(
        "{RUN} --volume data=data.vol {SAFE} --mount {set} --volume set=changed.vol --timeline --"
    ));
    let ended = World::ended(command.args(["sh", "-c", script]))?;
    let said = format!("{}{}", ended.out, ended.err);
    for part in [
        WRITTEN,
        "data grown",
        SEALED,
        "unreadable",
        "grown from 67108864 to ",
        "safe-words",
        "damage-is-noticed",
    ] {
        ensure!(said.contains(part), "{part:?} is not in\n{said}");
    }
    refused(&ended, "volume.corrupt")
}

/// Changes bytes in the midst of the data, most of which is one large file's.
fn change_file_with_macs(volume: &Path) -> Result<()> {
    let mut bytes = fs::read(volume)?;
    for at in (30 << 20..34 << 20).step_by(64 << 10) {
        bytes[at] ^= 1;
    }
    fs::write(volume, bytes).context("the volume cannot be changed")
}

fn refused(outcome: &Outcome, code: &str) -> Result<()> {
    let said = &outcome.err;
    ensure!(
        outcome.code == REFUSED && said.contains(code),
        "expected {code}, got {:?}:\n{said}",
        outcome.code
    );
    Ok(())
}

#[test]
fn volumes_outlast_a_killed_guest_and_grow_and_old_copies_and_changed_bytes_are_refused() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    world.done("volume create data --size 64M --file data.vol --key kbs:///lab/volume-key/data")?;
    world.done(
        "volume create safe --size 32M --file safe.vol --key kbs:///lab/volume-key/safe --integrity hmac-sha256",
    )?;
    fs::copy(world.path("data.vol"), world.path("made.vol"))?;
    let set = data_set(&world)?;
    refused(&world.run(&format!("{RUN} -- true"))?, "volume.missing")?;
    first(&world, &set)?;
    second(&world, &set)?;

    let old = world.run(&format!("{RUN} --volume data=made.vol -- true"))?;
    refused(&old, "volume.rolled-back")?;
    // The owner says that the copy is the good one, and then that it is not: each time that one opens.
    world.done("volume accept made.vol --key kbs:///lab/volume-key/data")?;
    let script = "test -d /srv/data/lost+found && test ! -e /srv/data/file";
    let mut command = world.command(&format!("{RUN} --volume data=made.vol --"));
    let restored = World::ended(command.args(["sh", "-c", script]))?;
    ensure!(restored.code == Some(0), "{:?}\n{}{}", restored.code, restored.out, restored.err);
    world.done("volume accept data.vol --key kbs:///lab/volume-key/data")?;
    // What the second life wrote was closed; the writable layer is in memory, and has a bound.
    let script = "tail -1 /srv/data/file; dd if=/dev/zero of=/large bs=1M count=2000 2>&1 | grep -o 'No space'; rm /large; \
        echo alive";
    let mut command = world.command(&format!("{RUN} --volume data=data.vol --"));
    let closed = World::ended(command.args(["sh", "-c", script]))?;
    ensure!(closed.code == Some(0), "{:?}\n{}{}", closed.code, closed.out, closed.err);
    ensure!(closed.out.contains("more\nNo space\nalive"), "{}{}", closed.out, closed.err);
    Ok(())
}
