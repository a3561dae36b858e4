//! `coffer model mount`: in the foreground, until somebody asks it to end.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Result, anyhow};
use coffer_guest_model_mount::{Log, MountError, Mounted, Reach, Tree, mount};
use serde_json::json;

use super::read::{From, coded, on_signal};
use crate::Context;

/// How often it is looked whether somebody else unmounted it.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(
    context: &Context,
    from: &From,
    folder: &Path,
    key_file: &Path,
    reach: Reach,
) -> Result<()> {
    let model = from.model(key_file)?;
    let (statement, remote) = (*model.artifact().verified().digest(), model.is_remote());
    let count = model.artifact().manifest().files().len();
    let tree = Arc::new(Tree::new(model));
    if !remote {
        tree.check_roots().map_err(coded)?;
    }
    let log: Arc<Log> = Arc::new(|line: &str| eprintln!("coffer: {line}"));
    let (asked, wait) = channel();
    on_signal(move || {
        let _ = asked.send(());
    })?;
    let mounted = mount(tree, folder, reach, log).map_err(refused)?;
    context.output.show(&json!({"folder": folder, "statement": statement, "files": count}), |_| {
        format!("mounted {count} files at {}; Ctrl-C unmounts", folder.display())
    })?;
    loop {
        match wait.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) if mounted.is_gone() => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                return Mounted::unmount(mounted).map_err(refused);
            }
        }
    }
}

fn refused(error: MountError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}
