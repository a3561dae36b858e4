//! Real virtual machines: what runs, what is refused and by which code, and what is left behind.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_lab_e2e::{
    CANARY, Counted, Ends, Outcome, PAGE, Registry, World, busybox_layout, children_of, lives, name_of,
    wait_for,
};

/// What `coffer run` ends with when guest or broker refused.
const REFUSED: Option<i32> = Some(120);
const BOOT: Duration = Duration::from_secs(300);

fn refused(outcome: &Outcome, code: &str) -> Result<()> {
    let said = &outcome.err;
    ensure!(
        outcome.code == REFUSED && said.contains(code),
        "expected {code}, got {:?}:\n{said}",
        outcome.code
    );
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn fetch(port: u16, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn serves(port: u16, page: &str) -> bool {
    fetch(port, "/").is_ok_and(|answer| String::from_utf8_lossy(&answer).contains(page))
}

/// Starts the sealed web server and waits for its page.
fn serving(world: &World, words: &str) -> Result<(Ends, u16)> {
    let port = free_port()?;
    let mut command = world.command(&format!("{words} -p 127.0.0.1:{port}:80"));
    let mut child = Ends(command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?);
    let begun = std::time::Instant::now();
    while !serves(port, PAGE) {
        if begun.elapsed() > BOOT || child.0.try_wait()?.is_some() {
            let _ = child.0.kill();
            let mut said = String::new();
            child.0.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
            anyhow::bail!("the page did not come:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok((child, port))
}

#[test]
fn a_sealed_image_serves_its_page_and_the_canary_is_nowhere_on_the_host() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let channel = world.path("channel.bin");
    let words = format!(
        "run oci:sealed/web:latest --init-data init-data.toml --timeline --record-channel {}",
        channel.display()
    );
    let (guest, _port) = serving(&world, &words)?;
    let plain = world.path("plain");
    let found = world.files_holding(CANARY, &[&plain])?;
    ensure!(found.is_empty(), "while the guest runs the canary is in {found:?}");
    drop(guest);
    ensure!(fs::metadata(&channel)?.len() > 1000, "the channel was not recorded");
    let found = world.files_holding(CANARY, &[&plain])?;
    ensure!(found.is_empty(), "after the guest ran the canary is in {found:?}");
    // The search itself can fail: the plain image, excepted above, holds the page's words in a layer.
    let control = world.path("control.txt");
    fs::write(&control, CANARY)?;
    ensure!(world.files_holding(CANARY, &[&plain])? == [control.clone()], "the search finds nothing");
    fs::remove_file(control)?;
    let explained = world.done("explain")?;
    ensure!(explained.contains("affirming") && explained.contains("software"), "{explained}");
    ensure!(explained.contains("lab/image-key/web: released"), "{explained}");
    Ok(())
}

#[test]
fn a_workload_has_its_image_arguments_confinement_and_local_api() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let script = "id -u; echo $FROM_IMAGE $ADDED; cut -d: -f1 /etc/passwd | head -1; \
        wget -qO- http://127.0.0.1:8006/cdh/resource/lab/config/greeting; \
        wget -qO- http://127.0.0.1:8006/aa/token?token_type=kbs | cut -c1-8; echo; \
        grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ls /proc | grep -c '^[0-9]'; \
        cat /sys/firmware/x 2>&1 | head -1; echo to-stderr >&2; exit 37";
    let mut command = world.command(
        "run oci:sealed/web:latest --signer image.pub --enroll -e ADDED=by-user \
            --resource kbs:///lab/config/greeting --allow-workload-evidence --",
    );
    let outcome = World::ended(command.args(["sh", "-c", script]))?;
    let said = format!("{}{}", outcome.out, outcome.err);
    ensure!(outcome.code == Some(37), "{:?}\n{said}", outcome.code);
    let expected =
        ["0\n", "yes by-user\n", "root\n", "the workload's own secret\n", "NoNewPrivs:\t1", "Seccomp:\t2"];
    for part in expected {
        ensure!(outcome.out.contains(part), "{part:?} is not in\n{said}");
    }
    ensure!(outcome.err.contains("to-stderr"), "{said}");
    Ok(())
}

#[test]
fn an_unsealed_image_from_a_registry_runs_by_its_pinned_digest_with_input() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let Some(registry) = Registry::start(&world.path("registry"))? else { return Ok(()) };
    let copy = format!("docker://127.0.0.1:{}/lab/web:1", registry.port);
    let pushed = std::process::Command::new("skopeo")
        .args(["copy", "--dest-tls-verify=false", "oci:plain/web:latest", &copy])
        .current_dir(world.path(""))
        .output()
        .context("skopeo is not installed")?;
    ensure!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let mut command = world.command(&format!("run {copy} --plain-http --enroll -i -- sha256sum"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(b"abc")?;
    let out = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&out.stdout);
    ensure!(
        said.contains("ba7816bf8f01cfea414140de5dae2223"),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

#[test]
fn a_sealed_image_of_a_registry_runs_from_the_host_s_cache_is_transferred_once_and_a_lying_cache_is_caught()
-> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let Some(registry) = Registry::start(&world.path("registry-cached"))? else { return Ok(()) };
    let counted = Counted::to(registry.port)?;
    let image = format!("docker://127.0.0.1:{}/lab/web:1", counted.port);
    world.done(&format!("image seal oci:plain/web:latest --to {image} --key kbs:///lab/image-key/cached"))?;
    world.done(&format!("image sign {image} --key image.key"))?;
    let run = format!(
        "run {image} --signer image.pub --enroll --timeline --cache-dir cached -- cat /srv/index.html"
    );
    let pushed = counted.bytes();

    // The first guest reads the disk while it comes.
    let outcome = world.run(&run)?;
    ensure!(outcome.code == Some(0) && outcome.out.contains(PAGE), "{}{}", outcome.out, outcome.err);
    let first = counted.bytes() - pushed;
    world.done(&format!("cache fill {image} --cache-dir cached"))?;
    let listed: serde_json::Value =
        serde_json::from_str(&world.done("cache list --cache-dir cached --output json")?)?;
    let sizes = || listed.as_array().into_iter().flatten().filter_map(|entry| entry["size"].as_u64());
    let sealed = sizes().max().context("the cache is empty")?;
    ensure!(first > 100_000, "the first guest read {first} bytes, which is no image");
    let filled = counted.bytes() - pushed;
    ensure!(filled < sealed + sealed / 20 + 100_000, "{filled} bytes came for an image of {sealed}");

    // The second one has a file, and the registry is only asked what the tags stand for.
    let before = counted.bytes();
    let outcome = world.run(&run)?;
    ensure!(outcome.code == Some(0) && outcome.out.contains(PAGE), "{}{}", outcome.out, outcome.err);
    let second = counted.bytes() - before;
    ensure!(second < 4096, "the second guest's start transferred {second} bytes");

    let digest = listed.as_array().into_iter().flatten().find(|entry| entry["size"].as_u64() == Some(sealed));
    let digest = digest.and_then(|entry| entry["digest"].as_str()).context("no digest")?.to_owned();
    let blob = world.path("cached/blobs").join(digest.replace(':', "/"));
    let mut changed = fs::read(&blob)?;
    changed[1024] ^= 1;
    fs::remove_file(&blob)?;
    fs::write(&blob, &changed)?;
    refused(&world.run(&run)?, "image.corrupt")?;
    let removed = world.done("cache verify --cache-dir cached")?;
    ensure!(removed.contains(&digest), "{removed}");
    Ok(())
}

#[test]
fn a_sealed_image_of_a_registry_is_fetched_as_it_is_read_where_the_host_has_no_cache() -> Result<()> {
    const FAR: usize = 20 << 20;
    let Some(world) = World::enter() else { return Ok(()) };
    let Some(registry) = Registry::start(&world.path("registry-lazy"))? else { return Ok(()) };
    let counted = Counted::to(registry.port)?;
    let (image, folder) = (format!("docker://127.0.0.1:{}/lab/far:1", counted.port), world.path("far"));
    fs::create_dir_all(folder.join("bin"))?;
    fs::copy("/bin/busybox", folder.join("bin/busybox")).context("busybox-static is not installed")?;
    let content: Vec<u8> =
        (0..32_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    fs::write(folder.join("content"), &content)?;
    world.done(&format!("image seal rootfs:far --to {image} --key kbs:///lab/image-key/far"))?;
    world.done(&format!("image sign {image} --key image.key"))?;
    let pushed = counted.bytes();

    let blocks = FAR / 4096;
    let outcome = world.run(&format!(
        "run {image} --plain-http --no-cache --signer image.pub --enroll --timeline -- \
            /bin/busybox dd if=/content bs=4096 skip={blocks} count=1"
    ))?;
    let far = content.get(FAR..FAR + 4096).context("no content")?;
    let read = outcome.out.as_bytes();
    let said = format!("{}{}", outcome.out, outcome.err);
    ensure!(outcome.code == Some(0) && said.contains("are fetched as they are read"), "{said}");
    ensure!(outcome.out == String::from_utf8_lossy(far), "{} other bytes\n{}", read.len(), outcome.err);
    let came = counted.bytes() - pushed;
    ensure!(came < 16 << 20, "{came} bytes came for a page of an image of 33 MiB");
    Ok(())
}

#[test]
fn an_ocicrypt_image_is_decrypted_with_a_key_from_the_broker() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    world.done(
        "image seal oci:plain/web:latest --to oci:ocicrypt/web:latest --format ocicrypt \
         --key kbs:///lab/image-key/ocicrypt",
    )?;
    world.done("image sign oci:ocicrypt/web:latest --key image.key")?;
    let outcome =
        world.run("run oci:ocicrypt/web:latest --signer image.pub --enroll -- cat /srv/index.html")?;
    ensure!(outcome.code == Some(0) && outcome.out.contains(PAGE), "{}{}", outcome.out, outcome.err);
    Ok(())
}

#[test]
fn a_changed_command_line_is_refused_by_name() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let outcome = world.run("run oci:sealed/web:latest --init-data init-data.toml --append init=/bin/sh")?;
    refused(&outcome, "measurement.command-line")?;
    ensure!(outcome.err.contains("init=/bin/sh"), "the word that was added is not named:\n{}", outcome.err);
    Ok(())
}

#[test]
fn a_changed_initial_ramdisk_is_refused_by_name() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let initrd = world.home().join("guest/initramfs.cpio.zst");
    let kept = fs::read(&initrd)?;
    // Four zero bytes after the archive: the kernel ignores them, the measurement does not.
    fs::write(&initrd, [kept.as_slice(), &[0; 4]].concat())?;
    let outcome = world.run("run oci:sealed/web:latest --init-data init-data.toml");
    fs::write(&initrd, kept)?;
    refused(&outcome?, "measurement.initrd")
}

#[test]
fn changed_init_data_is_refused_by_name() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let init_data = fs::read_to_string(world.path("init-data.toml"))?;
    fs::write(world.path("changed.toml"), format!("# one comment more\n{init_data}"))?;
    let outcome = world.run("run oci:sealed/web:latest --init-data changed.toml")?;
    refused(&outcome, "measurement.init-data")
}

#[test]
fn an_image_signed_with_another_key_is_refused_before_any_key_is_asked_for() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    world
        .done("image seal oci:plain/web:latest --to oci:other/web:latest --key kbs:///lab/image-key/other")?;
    world.done("image sign oci:other/web:latest --key other.key")?;
    let outcome = world.run("run oci:other/web:latest --init-data init-data.toml")?;
    refused(&outcome, "image.signature.untrusted-key")?;
    ensure!(!world.done("explain")?.contains("lab/image-key/other"), "the key was asked for");
    Ok(())
}

#[test]
fn software_evidence_is_refused_by_a_policy_that_asks_for_hardware() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    world.done("policy set --preset default")?;
    let outcome = world.run("run oci:sealed/web:latest --init-data init-data.toml");
    world.done("policy set --preset insecure-lab")?;
    refused(&outcome?, "policy.software-evidence")
}

#[test]
fn a_changed_byte_is_an_error_and_never_other_content() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let blob = sealed_blob(&world.path("sealed/web"))?;
    let kept = fs::read(&blob)?;
    // The first block holds EROFS's superblock: the mount itself must fail.
    let mut changed = kept.clone();
    changed[1024] ^= 1;
    fs::write(&blob, &changed)?;
    let outcome = world.run("run oci:sealed/web:latest --init-data init-data.toml");
    fs::write(&blob, &kept)?;
    refused(&outcome?, "image.corrupt")?;

    // A byte of a data block: all other files read, this one gives an error.
    let mut changed = kept.clone();
    let tree = kept.len() / 128;
    let data = kept.len() - tree;
    // The pattern's file is 16 KiB in the midst of the image; changing every block would show nothing.
    let block = (data / 4096) * 3 / 4;
    changed[block * 4096 + 17] ^= 0x10;
    fs::write(&blob, &changed)?;
    let script =
        "cat /srv/index.html; for f in /bin/busybox /srv/*; do cat $f >/dev/null || echo unreadable $f; done";
    let mut command = world.command("run oci:sealed/web:latest --signer image.pub --enroll --");
    let outcome = World::ended(command.args(["sh", "-c", script]));
    fs::write(&blob, &kept)?;
    let outcome = outcome?;
    let said = format!("{}{}", outcome.out, outcome.err);
    let noticed = said.contains("unreadable") || said.contains("image.corrupt");
    ensure!(noticed, "nobody noticed the changed byte:\n{said}");
    Ok(())
}

/// Waits until none of these processes lives.
fn gone(processes: &[u32]) -> Result<()> {
    wait_for("the end of the machine's processes", Duration::from_secs(10), || {
        !processes.iter().any(|id| lives(*id))
    })
}

#[test]
fn a_killed_command_leaves_no_process_and_the_next_run_works() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    // At moments of the start, under load or not: preparing, in the firmware, in the kernel, attesting.
    for milliseconds in [300, 2000, 6000, 9000] {
        let mut command = world.command("run oci:sealed/web:latest --init-data init-data.toml");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        let started = children_of(child.id())?;
        child.kill()?;
        child.wait()?;
        gone(&started)?;
    }
    let (mut guest, _) = serving(&world, "run oci:sealed/web:latest --init-data init-data.toml")?;
    let started = children_of(guest.0.id())?;
    let names: Vec<String> = started.iter().map(|id| name_of(*id)).collect();
    let both = ["qemu", "swtpm"].iter().all(|name| names.iter().any(|found| found.starts_with(name)));
    ensure!(both, "a machine and its TPM should run, but these do: {names:?}");
    guest.0.kill()?;
    guest.0.wait()?;
    gone(&started)?;
    let outcome = world.run("run oci:sealed/web:latest --signer image.pub --enroll -- true")?;
    ensure!(outcome.code == Some(0), "{}", outcome.err);
    let left = fs::read_dir(world.runtime_folder().join("coffer"))?.collect::<Result<Vec<_>, _>>()?;
    // The console of the last guest that failed is kept on purpose, one file for all runs.
    let left: Vec<_> = left.iter().filter(|entry| entry.path().is_dir()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[test]
fn a_killed_machine_is_reported_and_takes_its_tpm_along() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let (mut guest, _) = serving(&world, "run oci:sealed/web:latest --init-data init-data.toml")?;
    let started = children_of(guest.0.id())?;
    let machine = started.iter().find(|id| name_of(**id).starts_with("qemu")).context("no machine runs")?;
    ensure!(
        std::process::Command::new("kill").args(["-9", &machine.to_string()]).status()?.success(),
        "kill"
    );
    let mut said = String::new();
    guest.0.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
    let code = guest.0.wait()?.code();
    ensure!(code == Some(125), "expected the exit code of a failed sandbox, got {code:?}:\n{said}");
    gone(&started)
}

/// Waits for the end of a run and gives its exit code; nothing that it started may live on.
fn ended(mut child: std::process::Child, started: &[u32]) -> Result<Option<i32>> {
    let ended = wait_for("the end of the run", BOOT, || !matches!(child.try_wait(), Ok(None)));
    let _ = child.kill();
    let code = child.wait()?.code();
    ended?;
    gone(started)?;
    Ok(code)
}

#[test]
fn a_tpm_or_a_broker_killed_during_the_start_ends_the_run_and_leaves_nothing() -> Result<()> {
    let Some(mut world) = World::enter() else { return Ok(()) };
    let words = "run oci:sealed/web:latest --init-data init-data.toml --start-timeout 60";
    let start = |world: &World| {
        let mut command = world.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("coffer cannot be started")
    };
    let child = start(&world)?;
    std::thread::sleep(Duration::from_secs(3));
    let started = children_of(child.id())?;
    let tpm = started.iter().find(|id| name_of(**id).starts_with("swtpm")).context("no software TPM runs")?;
    ensure!(std::process::Command::new("kill").args(["-9", &tpm.to_string()]).status()?.success(), "kill");
    let code = ended(child, &started)?;
    ensure!(code == REFUSED || code == Some(125), "a guest without its TPM ended with {code:?}");

    let child = start(&world)?;
    std::thread::sleep(Duration::from_secs(5));
    let started = children_of(child.id())?;
    world.kill_broker()?;
    let code = ended(child, &started);
    world.start_broker()?;
    ensure!(code? == REFUSED, "a guest without its broker was not refused");
    let outcome = world.run("run oci:sealed/web:latest --signer image.pub --enroll -- true")?;
    ensure!(outcome.code == Some(0), "{}", outcome.err);
    Ok(())
}

#[test]
fn a_killed_broker_is_reported_and_keeps_what_it_acknowledged() -> Result<()> {
    let Some(mut world) = World::enter() else { return Ok(()) };
    let before = world.done("secret list")?;
    world.kill_broker()?;
    let outcome = world.run("run oci:sealed/web:latest --init-data init-data.toml");
    world.start_broker()?;
    refused(&outcome?, "broker.unreachable")?;
    ensure!(world.done("secret list")? == before, "the broker lost a secret");
    Ok(())
}

#[test]
fn a_workload_in_a_terminal_sees_one_and_ends_with_its_signal() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    let script = "tty; stty size; kill -TERM $$; sleep 100";
    let mut command = world.command("run oci:sealed/web:latest --signer image.pub --enroll -t --");
    let outcome = World::ended(command.args(["sh", "-c", &format!("sh -c '{script}'; exit $?")]))?;
    ensure!(outcome.code == Some(128 + 15), "{:?}\n{}{}", outcome.code, outcome.out, outcome.err);
    ensure!(outcome.out.contains("/dev/pts/"), "{}", outcome.out);
    Ok(())
}

#[test]
fn an_image_of_another_tool_is_sealed_the_same_way_twice() -> Result<()> {
    let Some(world) = World::enter() else { return Ok(()) };
    fs::write(world.path("fixed.key"), (0..64).collect::<Vec<u8>>())?;
    busybox_layout(&world.path("again/web"))?;
    for to in ["twice/a", "twice/b"] {
        world.done(&format!(
            "image seal oci:again/web:latest --to oci:{to}:latest --key kbs:///lab/image-key/fixed --key-file fixed.key"
        ))?;
    }
    let [a, b] = ["twice/a", "twice/b"].map(|layout| sealed_blob(&world.path(layout)));
    ensure!(fs::read(a?)? == fs::read(b?)?, "the same image and key gave two blobs");
    Ok(())
}

/// The largest blob of a layout, which is the sealed one.
fn sealed_blob(layout: &Path) -> Result<std::path::PathBuf> {
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?.collect::<Result<Vec<_>, _>>()?;
    let largest = blobs.iter().max_by_key(|blob| blob.metadata().map(|m| m.len()).unwrap_or(0));
    Ok(largest.context("the layout has no blobs")?.path())
}
