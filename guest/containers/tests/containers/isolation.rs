//! What a container sees, holds and may do.

use super::Test;
use super::world::{World, output, output_of, run};
use coffer_guest_containers::{Cgroup, RootAccess};
use std::fs;
use std::path::Path;

pub(crate) const TESTS: &[Test] = &[
    ("user_groups_and_home_are_those_of_the_image", user_groups_and_home),
    ("environment_is_exactly_the_given_one_with_path_and_home", environment),
    ("working_directory_is_entered_and_made_if_missing", working_directory),
    ("host_name_and_files_in_etc_are_the_given_ones", host_name_and_files),
    ("workload_is_process_1_and_sees_no_others", process_1),
    ("mounts_of_the_host_are_not_seen", mounts),
    ("masked_files_read_as_empty", masked),
    ("kernel_settings_cannot_be_written", kernel_settings),
    ("capabilities_are_exactly_the_default_ones", capabilities),
    ("user_other_than_root_holds_no_capability", user_capabilities),
    ("no_new_privileges_and_a_filter_are_in_force", privileges),
    ("mount_unshare_and_the_like_are_refused", refused_calls),
    ("device_nodes_made_by_the_workload_have_no_effect", device_nodes),
    ("standard_devices_work", devices),
    ("no_other_descriptor_is_open", descriptors),
    ("read_only_root_refuses_writes", read_only_root),
    ("runtime_program_cannot_be_written_through_proc", runtime_program),
    ("control_group_is_joined_and_limits", control_group),
];

fn user_groups_and_home() {
    let world = World::new();
    let ids = |user: &str| {
        let mut spec = world.shell("echo $(id -u) $(id -g) $(id -G) $HOME");
        spec.user = user.to_owned();
        output_of(&spec)
    };
    assert_eq!(ids(""), "0 0 0 /root\n");
    assert_eq!(ids("app"), "1000 1001 1001 29 /home\n");
    assert_eq!(ids("1000:29"), "1000 29 29 /home\n");
    assert_eq!(ids("4242"), "4242 0 0 /\n");
}

fn environment() {
    let world = World::new();
    let mut spec = world.spec(&["env"]);
    spec.env = vec!["GREETING=hello = world".to_owned(), "EMPTY=".to_owned()];
    let text = output_of(&spec);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["EMPTY=", "GREETING=hello = world", "HOME=/root", path]);
}

fn working_directory() {
    let world = World::new();
    for cwd in ["/", "/bin", "/work/deep"] {
        let mut spec = world.spec(&["pwd"]);
        spec.cwd = cwd.to_owned();
        assert_eq!(output_of(&spec), format!("{cwd}\n"));
    }
}

fn host_name_and_files() {
    let world = World::new();
    fs::write(world.outside().join("victim"), "untouched").unwrap();
    // Links in the image, also dangling and absolute ones, are replaced and not followed.
    std::os::unix::fs::symlink("../../victim", world.root().join("etc/hosts")).unwrap();
    std::os::unix::fs::symlink("/run/none/resolv.conf", world.root().join("etc/resolv.conf")).unwrap();
    let mut spec = world.shell("hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf");
    spec.host_name = "safe".to_owned();
    spec.hosts = Some("127.0.0.1 localhost\n".to_owned());
    spec.resolv_conf = Some("nameserver 10.0.2.3\n".to_owned());
    assert_eq!(output_of(&spec), "safe\nsafe\n127.0.0.1 localhost\nnameserver 10.0.2.3\n");
    assert_eq!(fs::read_to_string(world.outside().join("victim")).unwrap(), "untouched");
    let here = nix::unistd::gethostname().unwrap();
    assert_ne!(here.to_str(), Some("safe"));
}

fn process_1() {
    let world = World::new();
    assert_eq!(output(&world, "echo $$; ls -d /proc/[0-9]* | grep -v '^/proc/[1-9]$'; true"), "1\n");
}

fn mounts() {
    let world = World::new();
    let text = output(&world, "cat /proc/mounts");
    let outside = world.outside().to_str().unwrap();
    assert!(!text.contains(outside), "{text}");
    let expected = ["/", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc", "/sys", "/proc/sys"];
    let targets: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for target in expected {
        assert!(targets.contains(&target), "{target} is missing in {text}");
    }
    for target in targets {
        let known = ["/dev", "/proc", "/sys"].iter().any(|prefix| Path::new(target).starts_with(prefix));
        assert!(target == "/" || known, "{target} is mounted");
    }
    let root = text.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.contains("nodev"), "{root}");
}

fn masked() {
    let world = World::new();
    let read =
        "for f in kcore keys timer_list; do test -e /proc/$f && head -c 1 /proc/$f; done; ls /sys/firmware";
    assert_eq!(output(&world, read), "");
}

fn kernel_settings() {
    let world = World::new();
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"] {
        let outcome = run(&world.shell(&format!("echo x > {path}")));
        assert_ne!(outcome.exit.code, 0, "{path}");
        assert!(
            outcome.err.contains("Read-only") || outcome.err.contains("nonexistent"),
            "{path}: {outcome:?}"
        );
    }
}

/// The fourteen: CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8,
/// NET_BIND_SERVICE 10, NET_RAW 13, SYS_CHROOT 18, MKNOD 27, AUDIT_WRITE 29, SETFCAP 31.
const FOURTEEN: &str = "00000000a80425fb";
const NOTHING: &str = "0000000000000000";

fn status(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key}")).split('\t').nth(1).unwrap().to_owned()
}

fn capabilities() {
    let world = World::new();
    let text = output(&world, "cat /proc/self/status");
    for (set, expected) in [
        ("CapInh", NOTHING),
        ("CapPrm", FOURTEEN),
        ("CapEff", FOURTEEN),
        ("CapBnd", FOURTEEN),
        ("CapAmb", NOTHING),
    ] {
        assert_eq!(status(&text, set), expected, "{set}");
    }
    let mut spec = world.spec(&["cat", "/proc/self/status"]);
    spec.capabilities = vec!["CAP_KILL".to_owned()];
    let text = output_of(&spec);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&text, set), "0000000000000020", "{set}");
    }
}

fn user_capabilities() {
    let world = World::new();
    let mut spec = world.spec(&["cat", "/proc/self/status"]);
    spec.user = "app".to_owned();
    let text = output_of(&spec);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&text, set), NOTHING, "{set}");
    }
    assert_eq!(status(&text, "CapBnd"), FOURTEEN);
}

fn privileges() {
    let world = World::new();
    let text = output(&world, "cat /proc/self/status");
    assert_eq!(status(&text, "NoNewPrivs"), "1");
    assert_eq!(status(&text, "Seccomp"), "2");
}

fn refused_calls() {
    let world = World::new();
    for script in ["mount -t tmpfs none /tmp", "unshare -m true", "mount -o remount,rw /proc/sys"] {
        let outcome = run(&world.shell(script));
        assert_ne!(outcome.exit.code, 0, "{script}");
        assert!(
            outcome.err.contains("permission denied") || outcome.err.contains("not permitted"),
            "{script}: {outcome:?}"
        );
    }
}

fn device_nodes() {
    let world = World::new();
    for directory in ["/tmp", "/dev", "/dev/shm"] {
        let script = format!("mknod {directory}/zero2 c 1 5 && head -c 1 {directory}/zero2");
        let outcome = run(&world.shell(&script));
        assert!(outcome.err.contains("Permission denied"), "{directory}: {outcome:?}");
    }
}

fn devices() {
    let world = World::new();
    let script = "head -c 3 /dev/zero | wc -c; echo lost > /dev/null; head -c 4 /dev/urandom | wc -c; \
        echo x > /dev/full; ls -A /dev";
    fs::hard_link(world.root().join("bin/busybox"), world.root().join("bin/wc")).unwrap();
    let outcome = run(&world.shell(script));
    let words: Vec<&str> = outcome.out.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "3", "4", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero"
        ],
        "{outcome:?}"
    );
    assert!(outcome.err.contains("No space left"), "{outcome:?}");
}

fn descriptors() {
    let world = World::new();
    // The fourth is the one that `ls` reads the directory by.
    assert_eq!(output_of(&world.spec(&["ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
}

fn read_only_root() {
    let world = World::new();
    let mut spec = world.shell("touch /new || touch /dev/shm/new && echo shm");
    spec.root = RootAccess::ReadOnly;
    let outcome = run(&spec);
    assert_eq!(outcome.out, "shm\n");
    assert!(outcome.err.contains("Read-only"), "{outcome:?}");
    assert!(!world.root().join("new").exists());
}

fn runtime_program() {
    let world = World::new();
    std::os::unix::fs::symlink("/proc/self/exe", world.root().join("bin/agent")).unwrap();
    let error = super::world::run_with(&world.spec(&["/bin/agent"]), b"").unwrap_err();
    assert_eq!(error.code(), "workload.not-executable", "{error}");
    // By way of an interpreter the kernel does execute it. It finds no descriptors and ends; a workload that kept
    // it running could still not write to it, because its mount is read-only.
    fs::write(world.root().join("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(world.root().join("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let before = fs::metadata("/proc/self/exe").unwrap().modified().unwrap();
    let _whatever = super::world::run_with(&world.spec(&["/bin/script"]), b"");
    assert_eq!(fs::metadata("/proc/self/exe").unwrap().modified().unwrap(), before);
}

fn control_group() {
    let version_2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|path| Path::new(path).join("cgroup.controllers").exists());
    let Some(hierarchy) = version_2 else {
        println!("skipped: no control groups of version 2 are mounted");
        return;
    };
    let hierarchy = Path::new(hierarchy);
    let controllers = fs::read_to_string(hierarchy.join("cgroup.controllers")).unwrap();
    let has = |name: &str| controllers.split_whitespace().any(|found| found == name);
    let limits = has("memory") && has("pids");
    let path = hierarchy.join(format!("coffer-test-{}", std::process::id()));

    let world = World::new();
    let mut spec =
        world.shell("grep ^0: /proc/self/cgroup; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max");
    spec.cgroup = Some(Cgroup {
        path: path.clone(),
        memory_max: limits.then_some(64 << 20),
        pids_max: limits.then_some(16),
    });
    let outcome = run(&spec);
    assert!(!path.exists(), "the group is removed at the end");
    if !limits {
        println!("skipped: the controllers memory and pids are not in version 2 here; joined without limits");
        assert_eq!(outcome.out, "0::/\n");
        return;
    }
    assert_eq!(outcome.out, "0::/\n16\n67108864\n");

    spec.args = vec!["sh".into(), "-c".into(), "for i in $(busybox seq 40); do sleep 9 & done".into()];
    let outcome = run(&spec);
    assert!(outcome.err.contains("fork"), "{outcome:?}");

    spec.args = vec!["sh".into(), "-c".into(), "x=0123456789abcdef; while true; do x=$x$x; done".into()];
    let outcome = run(&spec);
    assert_eq!((outcome.exit.code, outcome.exit.out_of_memory), (137, true), "{outcome:?}");
}
