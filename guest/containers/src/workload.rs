//! The program that a container runs: found in the image as the user it runs as, and executed.

use crate::user::User;
use crate::{ContainerSpec, Failure};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to be executed.
pub(crate) struct Workload(Command, PathBuf);

impl Workload {
    /// Enters the working directory and finds the program.
    pub(crate) fn prepare(spec: &ContainerSpec, user: &User) -> Result<Self, Failure> {
        let Some((name, arguments)) = spec.args.split_first() else {
            return Err(Failure::spec("neither the image nor the request names a program to run"));
        };
        let environment = environment(spec, user)?;
        let cwd = directory(&spec.cwd);
        std::env::set_current_dir(cwd)
            .map_err(|e| Failure::setup(&format!("entering the working directory {}", cwd.display()), e))?;
        let search =
            environment.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let program = look_up(name, search)?;
        refuse_own_program(&program)?;
        let mut command = Command::new(&program);
        command.arg0(name).args(arguments).env_clear();
        command.envs(environment.iter().map(|(key, value)| (OsString::from(key), OsString::from(value))));
        Ok(Self(command, program))
    }

    /// Becomes the program; returns only with the reason why it could not.
    pub(crate) fn execute(mut self) -> Failure {
        let error = self.0.exec();
        let program = self.1.display();
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

fn environment(spec: &ContainerSpec, user: &User) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = Vec::new();
    for (index, entry) in spec.env.iter().enumerate() {
        let (key, value) = entry
            .split_once('=')
            .filter(|(key, value)| !key.is_empty() && !key.contains('\0') && !value.contains('\0'))
            // Its text may be a secret: only its place is told.
            .ok_or_else(|| {
                Failure::spec(format!("entry {index} of the environment is not of the form NAME=VALUE"))
            })?;
        pairs.push((key.to_owned(), value.to_owned()));
    }
    let mut default = |key: &str, value: &str| {
        if !pairs.iter().any(|(name, _)| name == key) {
            pairs.push((key.to_owned(), value.to_owned()));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOME", &user.home);
    if spec.terminal.is_some() {
        default("TERM", "xterm");
    }
    Ok(pairs)
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
