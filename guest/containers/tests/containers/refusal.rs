//! Containers that are not started, and images that reach for what is outside.

use super::Test;
use super::world::{World, run, run_with};
use coffer_guest_containers::ContainerSpec;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub(crate) const TESTS: &[Test] = &[
    ("missing_program_is_127_and_says_so", missing_program),
    ("program_that_cannot_be_executed_is_126_and_says_so", not_executable),
    ("missing_interpreter_is_127_and_says_so", missing_interpreter),
    ("unknown_user_is_refused", unknown_user),
    ("malformed_specifications_are_refused", malformed),
    ("passwd_that_links_outside_is_not_read", passwd_links_outside),
    ("etc_that_links_to_the_root_stays_inside", etc_links_to_root),
    ("passwd_that_is_a_pipe_is_not_waited_for", passwd_is_a_pipe),
    ("mount_points_that_are_links_are_refused", linked_mount_points),
    ("working_directory_that_links_outside_stays_inside", linked_working_directory),
];

/// The code, exit code and message of a container that must not start.
fn refused(spec: &ContainerSpec) -> (String, i32, String) {
    match run_with(spec, b"") {
        Ok(outcome) => panic!("it started: {outcome:?}"),
        Err(error) => (error.code().to_owned(), error.exit_code(), error.to_string()),
    }
}

fn missing_program() {
    let world = World::new();
    for name in ["nothing", "/bin/nothing", "./nothing"] {
        let (code, exit, message) = refused(&world.spec(&[name]));
        assert_eq!((code.as_str(), exit), ("workload.not-found", 127));
        assert!(message.contains(name), "{message}");
    }
}

fn not_executable() {
    let world = World::new();
    fs::write(world.root().join("bin/data"), "no program").unwrap();
    fs::write(world.root().join("bin/junk"), [0x7f, b'E', b'L', b'F', 9, 9]).unwrap();
    fs::set_permissions(world.root().join("bin/junk"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["data", "/bin/data", "/bin", "/bin/junk"] {
        let (code, exit, message) = refused(&world.spec(&[name]));
        assert_eq!((code.as_str(), exit), ("workload.not-executable", 126), "{name}: {message}");
    }
}

fn missing_interpreter() {
    let world = World::new();
    fs::write(world.root().join("bin/script"), "#!/no/such/shell\n").unwrap();
    fs::set_permissions(world.root().join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, exit, message) = refused(&world.spec(&["/bin/script"]));
    assert_eq!((code.as_str(), exit), ("workload.not-found", 127));
    assert!(message.contains("interpreter"), "{message}");
}

fn unknown_user() {
    let world = World::new();
    let mut spec = world.spec(&["id"]);
    spec.user = "mallory".to_owned();
    let (code, exit, message) = refused(&spec);
    assert_eq!((code.as_str(), exit), ("workload.user-unknown", 125));
    assert!(message.contains("mallory"), "{message}");
}

fn malformed() {
    let world = World::new();
    let broken: [fn(&mut ContainerSpec); 6] = [
        |spec| spec.args.clear(),
        |spec| spec.args = vec![String::new()],
        |spec| spec.env = vec!["SECRET-WITHOUT-EQUALS".to_owned()],
        |spec| spec.cwd = "relative".to_owned(),
        |spec| spec.capabilities = vec!["CAP_ALL".to_owned()],
        |spec| spec.masked_paths = vec!["etc/passwd".to_owned()],
    ];
    for (index, break_it) in broken.iter().enumerate() {
        let mut spec = world.spec(&["id"]);
        break_it(&mut spec);
        let (code, exit, message) = refused(&spec);
        assert_eq!((code.as_str(), exit), ("container.spec", 125), "{index}: {message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
    let mut spec = world.spec(&["id"]);
    spec.rootfs = world.outside().join("nowhere");
    assert_eq!(refused(&spec).0, "container.setup");
}

fn passwd_links_outside() {
    let world = World::new();
    fs::write(world.outside().join("passwd"), "mallory:x:77:77::/:/bin/sh\n").unwrap();
    let passwd = world.root().join("etc/passwd");
    let absolute = world.outside().join("passwd");
    for target in ["../../passwd".into(), "../../../../../../../..".into(), absolute] {
        let target: std::path::PathBuf = target;
        fs::remove_file(&passwd).unwrap();
        symlink(&target, &passwd).unwrap();
        let mut spec = world.spec(&["id"]);
        spec.user = "mallory".to_owned();
        assert_eq!(refused(&spec).0, "workload.user-unknown", "{}", target.display());
    }
}

fn etc_links_to_root() {
    let world = World::new();
    fs::remove_dir_all(world.root().join("etc")).unwrap();
    symlink("/", world.root().join("etc")).unwrap();
    fs::write(world.root().join("passwd"), "inside:x:88:88::/:/bin/sh\n").unwrap();
    let mut spec = world.shell("busybox id -u; cat /hostname");
    spec.user = "inside".to_owned();
    spec.host_name = "within".to_owned();
    assert_eq!(run(&spec).out, "88\nwithin\n");
    assert_eq!(fs::read_to_string(world.root().join("hostname")).unwrap(), "within\n");
}

fn passwd_is_a_pipe() {
    let world = World::new();
    let passwd = world.root().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let mut spec = world.spec(&["echo", "up"]);
    spec.user = "5".to_owned();
    assert_eq!(run(&spec).out, "up\n");
}

fn linked_mount_points() {
    for name in ["proc", "sys", "dev"] {
        let world = World::new();
        symlink("/bin", world.root().join(name)).unwrap();
        let (code, _, message) = refused(&world.spec(&["id"]));
        assert_eq!(code, "container.spec");
        assert!(message.contains(&format!("/{name}")), "{message}");
    }
}

fn linked_working_directory() {
    let world = World::new();
    fs::create_dir(world.outside().join("private")).unwrap();
    symlink(world.outside().join("private"), world.root().join("work")).unwrap();
    let mut spec = world.spec(&["id"]);
    spec.cwd = "/work".to_owned();
    // The link's target does not exist inside, and outside is out of reach.
    assert_eq!(refused(&spec).0, "container.setup");
    spec.cwd = "/work/new".to_owned();
    let _made_inside_or_refused = run_with(&spec, b"");
    assert!(fs::read_dir(world.outside().join("private")).unwrap().next().is_none());
}
