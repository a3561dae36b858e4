//! Modules: shared libraries that are loaded and initialized once in a process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use crate::Pkcs11Error;
use crate::error::words;

/// Never emptied: C_Finalize would end the sessions of everybody else in the process.
static MODULES: OnceLock<Mutex<HashMap<PathBuf, Pkcs11>>> = OnceLock::new();

/// The module at a path, initialized.
pub(crate) fn open(path: &Path) -> Result<Pkcs11, Pkcs11Error> {
    let failed = |why: String| Pkcs11Error::Module { path: path.into(), why };
    // The same library under two names would be initialized twice.
    let path = std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
    let mut modules = MODULES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(&path).map_err(|error| failed(words(&error)))?;
    initialize(&module).map_err(|error| failed(words(&error)))?;
    modules.insert(path, module.clone());
    Ok(module)
}

/// C_Initialize, also where somebody did it before us.
pub(crate) fn initialize(module: &Pkcs11) -> Result<(), Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}
