//! The program that a container runs: found in the image as the user it runs as, and executed.

use crate::user::User;
use crate::{ContainerSpec, Failure};
use coffer_sys_process::execute;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to be executed.
pub(crate) struct Workload {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<String>,
}

impl Workload {
    /// Enters the working directory and finds the program.
    pub(crate) fn prepare(spec: &ContainerSpec, user: &User) -> Result<Self, Failure> {
        let Some(name) = spec.args.first() else {
            return Err(Failure::spec("neither the image nor the request names a program to run"));
        };
        let environment = environment(spec, user)?;
        let cwd = directory(&spec.cwd);
        std::env::set_current_dir(cwd)
            .map_err(|e| Failure::setup(&format!("entering the working directory {}", cwd.display()), e))?;
        let search = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let program = look_up(name, search)?;
        refuse_own_program(&program)?;
        Ok(Self { program, arguments: spec.args.clone(), environment })
    }

    /// Becomes the program; returns only with the reason why it could not.
    pub(crate) fn execute(self) -> Failure {
        let error = execute(&self.program, &self.arguments, &self.environment);
        let program = self.program.display();
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(format!(
                "`{program}` cannot run: the interpreter or loader it names is not in the image"
            )),
            io::ErrorKind::ArgumentListTooLong => Failure::not_executable(format!(
                "`{program}` cannot run: its arguments and environment are too long"
            )),
            _ => Failure::not_executable(format!("`{program}` cannot be executed: {error}")),
        }
    }
}

/// Makes the working directory if the image lacks it, as container tools do.
pub(crate) fn make_directory(cwd: &str) -> Result<(), Failure> {
    let path = directory(cwd);
    if !path.is_absolute() {
        return Err(Failure::spec(format!("the working directory `{cwd}` is not an absolute path")));
    }
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| Failure::setup(&format!("making the working directory {cwd}"), e))
}

fn directory(cwd: &str) -> &Path {
    Path::new(if cwd.is_empty() { "/" } else { cwd })
}

fn environment(spec: &ContainerSpec, user: &User) -> Result<Vec<String>, Failure> {
    let named = |entry: &str| entry.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    if let Some(index) = spec.env.iter().position(|entry| !named(entry) || entry.contains('\0')) {
        // Its text may be a secret: only its place is told.
        return Err(Failure::spec(format!("entry {index} of the environment is not of the form NAME=VALUE")));
    }
    let mut entries = spec.env.clone();
    let mut default = |name: &str, value: &str| {
        if !entries.iter().any(|entry| entry.split_once('=').is_some_and(|(other, _)| other == name)) {
            entries.push(format!("{name}={value}"));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOME", &user.home);
    if spec.terminal.is_some() {
        default("TERM", "xterm");
    }
    Ok(entries)
}

fn look_up(name: &str, search: &str) -> Result<PathBuf, Failure> {
    if name.is_empty() || name.contains('\0') {
        return Err(Failure::spec("the program's name is empty or has a zero byte"));
    }
    if name.contains('/') {
        return check(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let mut worst = Failure::not_found(format!("`{name}` is in none of the directories of PATH ({search})"));
    for directory in search.split(':') {
        let path = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(failure) if failure.code == "workload.not-executable" => worst = failure,
            Err(_) => {}
        }
    }
    Err(worst)
}

fn check(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::not_executable(format!("`{shown}` cannot be reached by the user: {error}"))
        }
        _ => Failure::not_found(format!("the image has no program `{shown}`")),
    })?;
    if !found.is_file() {
        return Err(Failure::not_executable(format!("`{shown}` is not a file")));
    }
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK)
        .map_err(|_| Failure::not_executable(format!("`{shown}` may not be executed by the user")))
}

/// An image whose program is a link to `/proc/self/exe` would run the agent as the workload.
fn refuse_own_program(program: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    match (identity(program), identity(Path::new("/proc/self/exe"))) {
        (Some(one), Some(other)) if one == other => {
            Err(Failure::not_executable(format!("`{}` is the container runtime itself", program.display())))
        }
        _ => Ok(()),
    }
}
