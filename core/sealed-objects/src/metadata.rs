//! Headers that clients keep beside an object: sealed as one, because they say what it is.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_sealed_stream::SegmentSealer;

use crate::bound::SEGMENT;
use crate::index::open_small;
use crate::keys::about_metadata;
use crate::{ObjectError, ObjectKeys, ObjectName};

/// The longest readable form, so that the sealed one fits into what stores keep.
pub const MAX_METADATA: usize = 1200;
const LONGEST_SEALED: usize = 2048;

impl ObjectKeys {
    /// The value of one header that holds all of these.
    pub fn seal_metadata(
        &self,
        name: &ObjectName,
        headers: &BTreeMap<String, String>,
    ) -> Result<String, ObjectError> {
        let mut text =
            serde_json::to_vec(headers).map_err(|_| ObjectError::Metadata("it cannot be written"))?;
        if text.len() > MAX_METADATA {
            return Err(ObjectError::LongMetadata { found: text.len() });
        }
        let own = SegmentSealer::new(&self.content, &about_metadata(name), SEGMENT)?;
        let mut sealed = own.header().as_bytes().to_vec();
        own.seal_last(&mut text)?;
        sealed.append(&mut text);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed. That it is of this version of the object, nothing says.
    pub fn open_metadata(
        &self,
        name: &ObjectName,
        value: &str,
    ) -> Result<BTreeMap<String, String>, ObjectError> {
        if value.len() > LONGEST_SEALED {
            return Err(ObjectError::Metadata("it is longer than any that is sealed"));
        }
        let sealed = URL_SAFE_NO_PAD.decode(value).map_err(|_| ObjectError::Metadata("it is not base64"))?;
        let text = open_small(&self.content, &about_metadata(name), &sealed)?;
        serde_json::from_slice(&text).map_err(|_| ObjectError::Metadata("it is not the JSON of headers"))
    }
}
