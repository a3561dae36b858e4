//! Volumes: what a host's disk says of itself.

use std::io::Cursor;

use coffer_core_luks::{DATA_OFFSET, Options, Volume};
use coffer_core_secret::SecretBytes;

/// Opens a volume's header, and tries its slots where that takes no long derivation.
pub fn luks_header(data: &[u8]) {
    let mut volume = Cursor::new(data);
    if let Ok(header) = Volume::open(&mut volume) {
        assert!(header.data_offset() >= 32_768 && matches!(header.sector_size(), 512 | 4096));
    }
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let mut out = Cursor::new(vec![0; DATA_OFFSET as usize]);
    let options = Options {
        uuid: [7; 16],
        label: "data".into(),
        key_address: Some("kbs:///default/volume-key/data".into()),
    };
    Volume::create(&mut out, &options, &SecretBytes::new(vec![7; 32])).unwrap();
    // Headers and metadata; the key area is noise.
    vec![out.into_inner()[..32_768].to_vec()]
}
