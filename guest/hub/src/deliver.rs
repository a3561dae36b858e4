//! Secrets that init-data puts into the workload's environment and files, before the workload starts.
//!
//! What holds: a value is in this process's memory, in the workload's environment, or in a file system in memory, and
//! nowhere else; one that cannot be had stops the start. What a sealed secret needs besides is as good as named, because
//! init-data holds the sealed text itself; its signature is verified all the same.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use coffer_core_initdata::{Secret, SecretFile, SecretPlace, SecretSource};
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_secret::SecretBytes;
use coffer_sys_mount::{Flags, MountError, bind, file_below, mount, remount};

use crate::Hub;
use crate::unseal::{Named, variable};
use crate::unseal_error::UnsealError;

/// All files together.
const ROOM: &str = "mode=0711,size=16m";

impl Hub {
    /// Gives the workload its secrets: variables are added to `env`, instead of those of the image; files appear below
    /// `root`, from a file system in memory at `store`. Gives the environment.
    ///
    /// # Errors
    /// Names the variable or file whose secret cannot be had or put there.
    pub async fn deliver(
        &self,
        secrets: &[Secret],
        mut env: Vec<String>,
        root: &Path,
        store: &Path,
    ) -> Result<Vec<String>, UnsealError> {
        if secrets.iter().any(|secret| secret.file().is_some()) {
            let made = DirBuilder::new().recursive(true).mode(0o711).create(store).map_err(setup(store));
            made.and_then(|()| {
                mount("tmpfs", store, "tmpfs", Flags::INERT, ROOM).map_err(UnsealError::Mount)
            })
            .map_err(|why| UnsealError::at("the files of secrets", why))?;
        }
        for (number, secret) in secrets.iter().enumerate() {
            match &secret.place {
                SecretPlace::Env(name) => {
                    let put = self.value(&secret.source).await.and_then(|value| variable(name, &value));
                    let entry = put.map_err(|why| UnsealError::at(&format!("the variable {name:?}"), why))?;
                    env.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
                    env.push(entry);
                }
                SecretPlace::File(file) => {
                    let kept = store.join(number.to_string());
                    let put = self.value(&secret.source).await.and_then(|value| {
                        write(&kept, &value, file)?;
                        show(&kept, root, file)
                    });
                    put.map_err(|why| UnsealError::at(&format!("the file {:?}", file.path), why))?;
                }
            }
        }
        Ok(env)
    }

    async fn value(&self, source: &SecretSource) -> Result<SecretBytes, UnsealError> {
        match source {
            SecretSource::Resource(uri) => {
                let parsed: Result<ResourceUri, _> = uri.parse();
                let path =
                    parsed.map_err(|why| UnsealError::Address { uri: uri.clone(), why: why.to_string() })?;
                self.fetch(path.path()).await
            }
            SecretSource::Sealed(text) => self.open(text, Named::ByItself).await,
        }
    }
}

fn setup(path: &Path) -> impl Fn(io::Error) -> UnsealError {
    let path = path.to_owned();
    move |source| UnsealError::Mount(MountError::Path { step: "writing", path: path.clone(), source })
}

/// Writes a file that is its owner's from its first byte on.
fn write(kept: &Path, value: &SecretBytes, file: &SecretFile) -> Result<(), UnsealError> {
    let written = || {
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
        made.write_all(value.expose())?;
        chown(kept, Some(file.owner.0), Some(file.owner.1))?;
        // After the owner: a change of owner may take bits away.
        fs::set_permissions(kept, fs::Permissions::from_mode(file.mode))
    };
    written().map_err(setup(kept))
}

/// Lets the file appear in the container.
fn show(kept: &Path, root: &Path, file: &SecretFile) -> Result<(), UnsealError> {
    let target = file_below(root, &file.path).map_err(|why| match why.kind() {
        io::ErrorKind::NotADirectory => UnsealError::Place { path: file.path.clone() },
        _ => setup(Path::new(&file.path))(why),
    })?;
    bind(kept, &target, false).map_err(UnsealError::Mount)?;
    remount(&target, Flags::INERT | Flags::READ_ONLY).map_err(UnsealError::Mount)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::Arc;

    use coffer_core_initdata::Permission;
    use coffer_sys_mount::unmount;

    use super::*;
    use crate::tests::{OneSecret, sealed};

    const GREETING: &str = "kbs:///default/config/greeting";

    fn resource(uri: &str, place: SecretPlace) -> Secret {
        Secret { source: SecretSource::Resource(uri.into()), place }
    }

    fn env(name: &str) -> SecretPlace {
        SecretPlace::Env(name.into())
    }

    fn file(path: &str) -> SecretPlace {
        SecretPlace::File(SecretFile { path: path.into(), mode: 0o440, owner: (7, 8) })
    }

    struct World(std::path::PathBuf);

    impl World {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("coffer-deliver-{}-{name}", std::process::id()));
            fs::create_dir_all(place.join("root")).expect("folders");
            Self(place)
        }

        /// Nothing of the API is allowed: what init-data delivers needs no such word.
        async fn deliver(&self, secrets: &[Secret]) -> Result<Vec<String>, UnsealError> {
            let hub = Hub::new(Arc::new(OneSecret), vec![], Permission::Denied);
            let env = vec!["A=of-the-image".to_owned(), "B=2".to_owned()];
            hub.deliver(secrets, env, &self.0.join("root"), &self.0.join("store")).await
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            for mounted in ["root/run/secrets/x", "store"] {
                let _not_mounted = unmount(&self.0.join(mounted));
            }
            let _for_people_to_look_at = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn variables_replace_those_of_the_image() {
        let world = World::new("env");
        let sealed = Secret { source: SecretSource::Sealed(sealed("envelope")), place: env("C") };
        let env = world.deliver(&[resource(GREETING, env("A")), sealed]).await.expect("delivered");
        assert_eq!(env[..2], ["B=2", "A=hello"]);
        assert!(env[2].starts_with("C=") && env[2].len() > 2);
    }

    #[tokio::test]
    async fn file_is_its_owner_s_in_memory_and_cannot_be_written() {
        let world = World::new("file");
        let secrets = [resource(GREETING, file("/run/secrets/x"))];
        match world.deliver(&secrets).await {
            Err(UnsealError::Delivery { why, .. }) if matches!(*why, UnsealError::Mount(_)) => {
                return println!("skipped: {why}");
            }
            other => assert_eq!(other.expect("delivered").len(), 2),
        }
        let path = world.0.join("root/run/secrets/x");
        let found = fs::metadata(&path).expect("a file");
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o440, 7, 8));
        assert_eq!(fs::read(&path).expect("read"), b"hello");
        assert!(fs::write(&path, "other").is_err());
        unmount(&path).expect("it is a mount");
        assert_eq!(fs::read(&path).expect("read"), b"", "nothing of it is in the image's own layer");
    }

    #[tokio::test]
    async fn what_cannot_be_had_or_put_there_stops_the_start_and_is_named() {
        let world = World::new("refused");
        let code = async |secrets: &[Secret]| {
            let refused = world.deliver(secrets).await.expect_err("refused").refusal();
            let _not_mounted = unmount(&world.0.join("store"));
            (refused.code, refused.message)
        };
        let (found, message) = code(&[resource("kbs:///default/config/absent", env("A"))]).await;
        assert!(found == "broker.unreachable" && message.contains("\"A\""), "{found} {message}");
        let not_text = resource("kbs:///default/database/password", env("A"));
        assert_eq!(code(&[not_text]).await.0, "sealed-secret.not-text");
        assert_eq!(code(&[resource("kbs:///a/../c", env("A"))]).await.0, "secret.address");
        let changed = sealed("envelope").replace("sealed.", "sealed.x");
        let changed = Secret { source: SecretSource::Sealed(changed), place: env("A") };
        assert!(code(&[changed]).await.0.starts_with("sealed-secret."));
        symlink("/etc", world.0.join("root/link")).expect("a link");
        let (found, message) = code(&[resource(GREETING, file("/link/x"))]).await;
        assert!(found == "secret.path" || found == "secret.file", "{found} {message}");
        assert!(message.contains("/link/x") && !message.contains("hello"), "{message}");
    }
}
