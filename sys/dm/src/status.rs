//! What a mapping says of itself.

use crate::DmError;
use crate::control::Control;

/// Whether a verified mapping has met a block that does not match its root: its status is `C`, for ever after
/// (kernel documentation: device-mapper/verity, "Status").
///
/// # Errors
/// When there is no such mapping, or its status is none that verity gives.
pub fn verity_is_corrupt(name: &str) -> Result<bool, DmError> {
    let status = Control::open()?.status(name)?;
    match status.split(' ').next() {
        Some("V") => Ok(false),
        Some("C") => Ok(true),
        _ => Err(DmError::Invalid { name: name.to_owned(), why: format!("its status is {status:?}") }),
    }
}
