//! A real PostgreSQL server of Debian's, started for a test and broken by it: killed, restarted, frozen.
//!
//! It keeps its files in a temporary folder with fsync on, so that what it acknowledged survives a kill as it would on
//! an owner's machine. Left out: replication.

mod process;

use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(10);
/// Where Debian keeps the programs of each version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// The role that owns the server.
const OWNER: &str = "coffer";
/// The database that a new server has.
const DATABASE: &str = "postgres";

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// The server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A program of the server's ended with an error.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it wrote.
        output: String,
    },
    /// It did not become ready, or did not end.
    #[error("the server was not {expected} after {PATIENCE:?}; its log ends with: {log}")]
    Late {
        /// What was waited for.
        expected: &'static str,
        /// The end of its log.
        log: String,
    },
}

/// What the server shows to clients over TLS, all in PEM.
#[derive(Clone)]
pub struct TlsFiles {
    /// Its certificate and those above it.
    pub certificate: String,
    /// Its key, made for the test.
    pub key: String,
    /// Who signs clients' certificates; where given, TCP wants a certificate whose common name is the role.
    pub client_ca: Option<String>,
}

/// A running server.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    /// Who runs it: an unprivileged user where the test is root.
    user: Option<(u32, u32)>,
    port: u16,
    tls: bool,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Makes and starts a server; `None`, visibly, where PostgreSQL is not installed.
    ///
    /// # Panics
    /// Where PostgreSQL is installed and does not start.
    pub fn start() -> Option<Self> {
        Self::start_as(None)
    }

    /// As [`Server::start`], with TLS offered over TCP, and nothing but TLS taken there.
    ///
    /// # Panics
    /// Where PostgreSQL is installed and does not start.
    pub fn start_with_tls(files: &TlsFiles) -> Option<Self> {
        Self::start_as(Some(files))
    }

    /// The server that tests running now share; it ends with the last of them.
    ///
    /// # Panics
    /// Where PostgreSQL is installed and does not start.
    pub fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// Where it is, over its Unix socket, where no password is asked for.
    pub fn url(&self) -> String {
        format!("host={} port={} user={OWNER} dbname={DATABASE}", self.folder.path().display(), self.port)
    }

    /// Where it is, over TCP, where the password of [`Server::password_file`] is asked for.
    pub fn tcp_url(&self) -> String {
        format!("postgres://{OWNER}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file of mode 0600 that holds the owner's password and nothing else.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Runs SQL as the owner and gives the rows, fields parted by `|`.
    pub fn sql(&self, sql: &str) -> Result<String, ServerError> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        command.arg("--dbname").arg(self.url()).arg("--command").arg(sql);
        Ok(output("psql", &mut command)?.trim_end().to_owned())
    }

    /// Stops it as an operator would (connections are cut, data is written out) and starts it again.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop(Signal::SIGINT)?;
        self.run()
    }

    /// Kills every process of it at once, as a power failure would; it stays down until [`Server::start_again`].
    pub fn kill(&self) -> Result<(), ServerError> {
        let Some(mut child) = self.take() else { return Ok(()) };
        // The first is stopped before its children are counted, so that it begins none meanwhile.
        process::signal(child.id(), Signal::SIGSTOP);
        let children = process::children(child.id());
        process::signal(child.id(), Signal::SIGKILL);
        for id in &children {
            process::signal(*id, Signal::SIGKILL);
        }
        child.wait().map_err(|source| ServerError::System { what: "cannot wait for postgres", source })?;
        self.until("gone", || children.iter().all(|id| process::is_gone(*id)))
    }

    /// Starts it after [`Server::kill`] on the same files and port.
    pub fn start_again(&self) -> Result<(), ServerError> {
        self.run()
    }

    /// Stops every process of it where it stands; connections stay open and are not answered.
    pub fn freeze(&self) {
        let Some(id) = self.id() else { return };
        process::signal(id, Signal::SIGSTOP);
        for child in process::children(id) {
            process::signal(child, Signal::SIGSTOP);
        }
    }

    /// Lets it go on after [`Server::freeze`].
    pub fn thaw(&self) {
        let Some(id) = self.id() else { return };
        for child in process::children(id) {
            process::signal(child, Signal::SIGCONT);
        }
        process::signal(id, Signal::SIGCONT);
    }

    /// The time all its living processes have spent computing.
    pub fn cpu(&self) -> Duration {
        let Some(id) = self.id() else { return Duration::ZERO };
        let ids = [vec![id], process::children(id)].concat();
        ids.into_iter().map(process::cpu).sum()
    }

    fn start_as(tls: Option<&TlsFiles>) -> Option<Self> {
        let Some(programs) = newest_programs() else {
            println!("skipped: no PostgreSQL in {PROGRAMS} (Debian package postgresql)");
            return None;
        };
        match Self::make(programs, tls).and_then(|server| server.run().map(|()| server)) {
            Ok(server) => Some(server),
            Err(error) => panic!("PostgreSQL is installed and does not start: {error}"),
        }
    }

    fn make(programs: PathBuf, tls: Option<&TlsFiles>) -> Result<Self, ServerError> {
        let system = |what| move |source| ServerError::System { what, source };
        let folder = TempDir::with_prefix("coffer-postgres-").map_err(system("cannot make a folder"))?;
        let user = if nix::unistd::geteuid().is_root() { process::unprivileged() } else { None };
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).map_err(system("cannot give the folder away"))?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(system("cannot find a free port"))?.port();
        let server = Self { folder, programs, user, port, tls: tls.is_some(), child: Mutex::new(None) };

        let mut password = [0; 16];
        aws_lc_rs::rand::fill(&mut password)
            .map_err(|_| system("cannot make a password")(io::Error::other("no random bytes")))?;
        server.keep("password", &hex::encode(password))?;
        let data = server.folder.path().join("data");
        let mut initdb = server.command("initdb");
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(server.password_file());
        initdb.args(["--username", OWNER, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        output("initdb", &mut initdb)?;

        let over_tcp = match tls {
            None => "host all all 127.0.0.1/32 scram-sha-256",
            Some(TlsFiles { client_ca: None, .. }) => "hostssl all all 127.0.0.1/32 scram-sha-256",
            Some(_) => "hostssl all all 127.0.0.1/32 cert",
        };
        server.keep("data/pg_hba.conf", &format!("local all all trust\n{over_tcp}\n"))?;
        if let Some(tls) = tls {
            server.keep("server.crt", &tls.certificate)?;
            server.keep("server.key", &tls.key)?;
            server.keep("clients.crt", tls.client_ca.as_deref().unwrap_or(&tls.certificate))?;
        }
        Ok(server)
    }

    /// Starts the server's first process and waits until it takes connections.
    fn run(&self) -> Result<(), ServerError> {
        let folder = self.folder.path();
        let system = |what| move |source| ServerError::System { what, source };
        let log = File::options().append(true).create(true).open(folder.join("log"));
        let log = log.map_err(system("cannot open the log"))?;
        let errors = log.try_clone().map_err(system("cannot open the log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(folder.join("data")).arg("-p").arg(self.port.to_string());
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("unix_socket_directories", &folder.display().to_string());
        set("listen_addresses", "127.0.0.1");
        set("fsync", "on");
        set("max_connections", "100");
        set("shared_buffers", "32MB");
        if self.tls {
            set("ssl", "on");
            set("ssl_cert_file", &folder.join("server.crt").display().to_string());
            set("ssl_key_file", &folder.join("server.key").display().to_string());
            set("ssl_ca_file", &folder.join("clients.crt").display().to_string());
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(system("cannot start postgres"))?;
        let id = child.id().to_string();
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        // The eighth line of this file says `ready` when connections are taken (PostgreSQL, miscadmin.h).
        let status = folder.join("data/postmaster.pid");
        self.until("ready", || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            text.lines().next() == Some(&id) && text.lines().nth(7).is_some_and(|line| line.trim() == "ready")
        })
    }

    fn stop(&self, how: Signal) -> Result<(), ServerError> {
        self.thaw();
        let Some(mut child) = self.take() else { return Ok(()) };
        process::signal(child.id(), how);
        let ended = self.until("stopped", || matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
        if ended.is_err() {
            process::signal(child.id(), Signal::SIGKILL);
        }
        ended
    }

    fn take(&self) -> Option<Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn id(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    fn until(&self, expected: &'static str, mut is_so: impl FnMut() -> bool) -> Result<(), ServerError> {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() >= end {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let from = log.len().saturating_sub(500);
                return Err(ServerError::Late {
                    expected,
                    log: log.get(from..).unwrap_or_default().to_owned(),
                });
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env_remove("PGDATA");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Writes a file that the server's user alone may read.
    fn keep(&self, name: &str, text: &str) -> Result<(), ServerError> {
        let path = self.folder.path().join(name);
        let write = || {
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            self.user.map_or(Ok(()), |(uid, gid)| chown(&path, Some(uid), Some(gid)))
        };
        write().map_err(|source| ServerError::System { what: "cannot write a file", source })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: the folder is about to go.
        if let Err(error) = self.stop(Signal::SIGQUIT) {
            eprintln!("{error}");
        }
    }
}

fn newest_programs() -> Option<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).ok()?.flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let found = versions.filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin"))));
    found.filter(|(_, bin)| bin.join("initdb").is_file()).max().map(|(_, bin)| bin)
}

fn output(program: &'static str, command: &mut Command) -> Result<String, ServerError> {
    let done =
        command.output().map_err(|source| ServerError::System { what: "cannot run a program", source })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(ServerError::Program { program, output: String::from_utf8_lossy(&done.stderr).into_owned() })
}
