//! Runs the command in a folder of its own.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder and a home.
pub(crate) struct Case(TempDir);

/// What the command did.
pub(crate) struct Done {
    pub(crate) out: String,
    pub(crate) err: String,
    code: Option<i32>,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, b"")
    }

    /// With words on its standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
        let names = [
            "COFFER_BROKER",
            "COFFER_BROKER_CA",
            "COFFER_ADMIN_KEY",
            "COFFER_OUTPUT",
            "COFFER_TENANT",
            "COFFER_TOKEN_FILE",
        ];
        names.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.env("COFFER_HOME", self.path("home")).args(arguments);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // A program that reads nothing of it may have ended already.
        let _ended = child.stdin.take().unwrap().write_all(input);
        let done = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { out: text(done.stdout), err: text(done.stderr), code: done.status.code() }
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A page of firmware with the table and metadata of edk2's builds for SEV-SNP: a page of secrets, one of CPUID and
/// one of kernel hashes.
pub(crate) fn snp_firmware() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let sections = [[0x80_0000, 0x1000, 2], [0x80_1000, 0x1000, 3], [0x80_2000, 0x1000, 0x10]].concat();
    let metadata = [&b"ASEV"[..], &words(&[52, 1, 3]), &words(&sections)].concat();
    let entry = |data: u32, guid: [u8; 16]| [&data.to_le_bytes()[..], &22u16.to_le_bytes(), &guid].concat();
    // GUIDs as stored: SEV metadata, table of kernel hashes, reset block, footer.
    let entries = [
        entry(
            0xf00,
            [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc],
        ),
        entry(
            0x80_2000,
            [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54],
        ),
        entry(
            0x80_b004,
            [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e],
        ),
    ]
    .concat();
    let footer =
        [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
    let size = u16::try_from(entries.len() + 18).unwrap();
    let tail = [&entries[..], &size.to_le_bytes(), &footer, &[0; 32]].concat();
    let mut file = vec![0; 0x1000];
    file[0x100..0x100 + metadata.len()].copy_from_slice(&metadata);
    let at = file.len() - tail.len();
    file[at..].copy_from_slice(&tail);
    file
}
