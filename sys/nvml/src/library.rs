//! A shared library that is opened at run time.

use std::ffi::{CStr, CString, c_void};

use crate::NvidiaError;

/// An open library. It stays open: its threads and handlers may outlive its last user.
pub(crate) struct Library {
    handle: *mut c_void,
    name: String,
}

impl Library {
    /// Opens the library of this name or path.
    pub(crate) fn open(name: &str) -> Result<Self, NvidiaError> {
        let absent = |why: String| NvidiaError::Absent { library: name.to_owned(), why };
        let path = CString::new(name).map_err(|_| absent("its name has a NUL".into()))?;
        // SAFETY: the name is a NUL-terminated string that outlives the call. The library's initialisers run, which is
        // what this crate is for.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(absent(last_error()));
        }
        Ok(Self { handle, name: name.to_owned() })
    }

    /// The address of a function.
    pub(crate) fn function(&self, name: &'static CStr) -> Result<*mut c_void, NvidiaError> {
        // SAFETY: the handle is an open library's and never closed; the name is NUL-terminated.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        match address.is_null() {
            true => Err(NvidiaError::NoFunction {
                library: self.name.clone(),
                function: name.to_str().unwrap_or("?"),
            }),
            false => Ok(address),
        }
    }
}

fn last_error() -> String {
    // SAFETY: `dlerror` gives a NUL-terminated string of this thread's, or null, and it is copied at once.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() { return String::new() } else { CStr::from_ptr(text) }
    };
    text.to_string_lossy().into_owned()
}

/// A function of the library, under the type that its header gives it.
macro_rules! function {
    ($library:expr, $name:literal as $type:ty) => {{
        let address = $library.function($name)?;
        // SAFETY: the address is that of the function of this name, which has this type in the library's header, and
        // the library is never closed.
        unsafe { std::mem::transmute::<*mut std::ffi::c_void, $type>(address) }
    }};
}

pub(crate) use function;
