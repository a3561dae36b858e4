//! Replicas that share a database and the cluster's keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffer_lab_load::{Admin, Endpoint, Guests, Patience, Plan, Report, Tls, Until, run};
use coffer_lab_postgres::Server;
use tempfile::TempDir;

use crate::program::Program;
use crate::world::{OFFLINE, UNLIMITED};

/// What the first replica makes at its first start and an operator gives to the others: the master key, the admin's
/// key, and the TLS authority, so that clients know all replicas by one certificate.
const SHARED: [&str; 3] = ["master.key", "admin.key", "tls"];

/// One replica, running or not.
pub struct Replica {
    folder: PathBuf,
    port: u16,
    program: Option<Program>,
}

/// All of them.
pub struct Cluster {
    /// What they share.
    pub database: Arc<Server>,
    /// In the order of their start.
    pub replicas: Vec<Replica>,
    /// Guests that an admin may welcome.
    pub guests: Arc<Guests>,
    /// TLS with the authority that they share.
    pub tls: Tls,
    configuration: String,
    folder: TempDir,
}

/// How long an admin goes on: longer than any failure that the rounds make.
pub fn patience() -> Patience {
    Patience {
        per_call: Duration::from_secs(3),
        deadline: Duration::from_secs(90),
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_secs(1),
    }
}

impl Cluster {
    /// Starts the replicas; they know no guests yet.
    pub async fn start(database: Server, count: usize) -> Result<Self> {
        let folder = TempDir::with_prefix("coffer-lab-replicas-")?;
        let (url, password) = (database.tcp_url(), database.password_file());
        let store = format!(
            "[store]\npostgres = {{ url = \"{url}\", password_file = \"{}\" }}\n",
            password.display()
        );
        let configuration = format!("{store}\n{UNLIMITED}\n{OFFLINE}");
        let mut replicas = Vec::new();
        for number in 0..count {
            let replica =
                Replica::make(&folder.path().join(number.to_string()), replicas.first(), &configuration)?;
            replicas.push(replica);
        }
        let first = replicas.first().context("no replica")?;
        let tls = Tls::pinned(&std::fs::read_to_string(first.folder.join("tls/ca.pem"))?)?;
        let (database, guests) = (Arc::new(database), Arc::new(Guests::new()));
        Ok(Self { database, replicas, guests, tls, configuration, folder })
    }

    /// An admin who knows all replicas.
    pub fn admin(&self) -> Result<Admin> {
        self.admin_at(&self.endpoints()?)
    }

    /// An admin who knows these replicas.
    pub fn admin_at(&self, endpoints: &[Endpoint]) -> Result<Admin> {
        let first = self.replicas.first().context("no replica")?;
        let key = std::fs::read_to_string(first.folder.join("admin.key"))?;
        Admin::new(endpoints, &self.tls, &key, patience())
    }

    /// One guest at one replica.
    pub async fn guest_at(&self, endpoint: &Endpoint, resource: &str) -> Result<Report> {
        let resources = vec![resource.to_string()];
        let plan =
            Plan { at_once: 1, until: Until::Count(1), resources, patience: patience(), ..Plan::default() };
        let endpoints = std::slice::from_ref(endpoint);
        run(plan, self.guests.clone(), endpoints, &self.tls, Arc::default(), |_| ()).await
    }

    /// Waits until each replica serves guests.
    pub async fn agreed(&self, resource: &str) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        for endpoint in self.endpoints()? {
            while self.guest_at(&endpoint, resource).await?.keys == 0 {
                ensure!(Instant::now() < until, "{} serves no guests", endpoint.authority());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    /// Where the replicas are, also while they are not.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.replicas.iter().map(|one| Endpoint::parse(&format!("https://127.0.0.1:{}", one.port))).collect()
    }

    /// Kills a replica.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let replica = self.replicas.get_mut(number).context("no such replica")?;
        replica.program.take().map_or(Ok(()), |mut program| program.kill())
    }

    /// Asks a replica to end, which drains it.
    pub fn terminate(&mut self, number: usize) -> Result<()> {
        let replica = self.replicas.get_mut(number).context("no such replica")?;
        let Some(mut program) = replica.program.take() else { return Ok(()) };
        let status = program.terminate()?;
        ensure!(status.success(), "replica {number} did not end in order: {status}: {}", program.log());
        Ok(())
    }

    /// Stops a replica where it stands, or lets it go on.
    pub fn freeze(&self, number: usize, frozen: bool) -> Result<()> {
        match &self.replicas.get(number).context("no such replica")?.program {
            Some(program) if frozen => program.freeze(),
            Some(program) => program.thaw(),
            None => Ok(()),
        }
    }

    /// Starts what does not run. None may have ended by itself.
    pub fn recover(&mut self) -> Result<()> {
        for replica in &mut self.replicas {
            match &mut replica.program {
                Some(program) => program.must_live()?,
                None => {
                    replica.program =
                        Some(Program::start(&replica.folder, &self.configuration, replica.port)?);
                }
            }
        }
        Ok(())
    }

    /// The processes of those that run.
    pub fn pids(&self) -> Vec<u32> {
        self.replicas.iter().filter_map(|one| one.program.as_ref().map(Program::pid)).collect()
    }

    /// A replica that was never there before, for whoever checks what the others left. It alone is asked.
    pub fn fresh(&self) -> Result<(Replica, Admin, Endpoint)> {
        let folder = self.folder.path().join("fresh");
        let replica = Replica::make(&folder, self.replicas.first(), &self.configuration)?;
        let endpoint = Endpoint::parse(&format!("https://127.0.0.1:{}", replica.port))?;
        let key = std::fs::read_to_string(folder.join("admin.key"))?;
        let admin = Admin::new(std::slice::from_ref(&endpoint), &self.tls, &key, patience())?;
        Ok((replica, admin, endpoint))
    }
}

impl Replica {
    /// Makes a folder with the keys of another replica, if there is one, and starts on it.
    fn make(folder: &Path, other: Option<&Self>, configuration: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        if let Some(other) = other {
            for name in SHARED {
                let mut copy = std::process::Command::new("cp");
                let done = copy
                    .arg("--recursive")
                    .arg("--preserve")
                    .arg(other.folder.join(name))
                    .arg(folder)
                    .status()?;
                ensure!(done.success(), "{name} of the first replica cannot be copied");
            }
        }
        let program = Program::start(folder, configuration, 0)?;
        Ok(Self { folder: folder.to_path_buf(), port: program.port()?, program: Some(program) })
    }
}
