//! Claims about sealing, shown with a software TPM (swtpm) and with somebody on the bus before it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coffer_core_digest::Digest;

use super::*;
use crate::command::Command;

const SECRET: &[u8] = b"a key of thirty-two bytes, sealed";

/// A software TPM that ends with the test.
struct Swtpm {
    child: Child,
    folder: tempfile::TempDir,
}

impl Swtpm {
    /// `None`, and a word about it, where swtpm is not installed.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let child = Process::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", "dir=.", "--server", "type=unixio,path=data"])
            .args(["--flags", "not-need-init,startup-clear"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self { child, folder }),
            Err(_) => {
                println!("skipped: swtpm is not installed");
                None
            }
        }
    }

    fn stream(&self) -> UnixStream {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(self.folder.path().join("data")) {
                Ok(stream) => return stream,
                Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("no swtpm: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn tpm(&self) -> Tpm {
        Tpm::from_stream(self.stream()).unwrap()
    }

    /// A TPM behind somebody who sees every message and may change it: `(number of the response, bytes)`.
    fn behind(&self, change: impl Fn(usize, &mut Vec<u8>) + Send + 'static) -> (Tpm, Arc<Mutex<Vec<u8>>>) {
        let (own, mut near) = UnixStream::pair().unwrap();
        let mut far = self.stream();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        std::thread::spawn(move || {
            for number in 0.. {
                let Some(command) = message(&mut near) else { return };
                record.lock().unwrap().extend_from_slice(&command);
                far.write_all(&command).unwrap();
                let Some(mut response) = message(&mut far) else { return };
                record.lock().unwrap().extend_from_slice(&response);
                change(number, &mut response);
                near.write_all(&response).unwrap();
            }
        });
        (Tpm::from_stream(own).unwrap(), seen)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 10];
    stream.read_exact(&mut message).ok()?;
    let size = u32::from_be_bytes(message[2..6].try_into().unwrap()) as usize;
    message.resize(size, 0);
    stream.read_exact(&mut message[10..]).ok()?;
    Some(message)
}

/// TPM2_Clear by the platform, as the firmware's menu does it.
fn clear(tpm: &mut Tpm) {
    tpm.run(&Command::new("TPM2_Clear", 0x126).authorized(Hierarchy::Platform.handle())).unwrap();
}

/// How many transient objects and loaded sessions the TPM holds (TPM2_GetCapability, `TPM_CAP_HANDLES`).
fn held(tpm: &mut Tpm) -> u32 {
    [0x8000_0000, 0x0200_0000, 0x0300_0000]
        .into_iter()
        .map(|first| {
            let command = Command::new("TPM2_GetCapability", 0x17a).u32(1).u32(first).u32(16);
            let response = tpm.run(&command).unwrap();
            let mut parameters = response.parameters();
            parameters.take(5).unwrap();
            parameters.u32().unwrap()
        })
        .sum()
}

#[test]
fn a_secret_comes_back_from_the_tpm_that_sealed_it_and_from_no_other() {
    let (Some(one), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };
    let mut tpm = one.tpm();
    let sealed = Sealed::parse(&tpm.seal(SECRET, &[]).unwrap().to_bytes()).unwrap();
    assert!(!sealed.to_bytes().windows(8).any(|bytes| SECRET.starts_with(bytes)));
    for _ in 0..5 {
        assert_eq!(*tpm.unseal(&sealed).unwrap(), SECRET);
    }
    let longest = vec![7; MAX_SECRET];
    let sealed_longest = tpm.seal(&longest, &[]).unwrap();
    assert_eq!(*tpm.unseal(&sealed_longest).unwrap(), longest);
    assert!(matches!(tpm.seal(&[7; MAX_SECRET + 1], &[]), Err(SealingError::Length(129))));
    assert!(matches!(tpm.seal(&[], &[]), Err(SealingError::Length(0))));

    let mut foreign = other.tpm();
    assert!(matches!(foreign.unseal(&sealed), Err(SealingError::OtherTpm)));
    assert_eq!((held(&mut tpm), held(&mut foreign)), (0, 0), "something was left in the TPM");
}

#[test]
fn a_cleared_tpm_says_that_it_is_another_one() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut tpm = swtpm.tpm();
    let sealed = tpm.seal(SECRET, &[]).unwrap();
    clear(&mut tpm);
    let refused = tpm.unseal(&sealed).unwrap_err();
    assert!(matches!(refused, SealingError::OtherTpm), "{refused}");
    assert!(refused.to_string().contains("cleared"));
}

#[test]
fn a_secret_for_a_boot_state_is_kept_from_another_one() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut tpm = swtpm.tpm();
    let sealed = tpm.seal(SECRET, &[16, 7, 7]).unwrap();
    assert_eq!(sealed.pcrs(), [7, 16]);
    assert_eq!(*tpm.unseal(&sealed).unwrap(), SECRET);
    // A register that was not chosen may change.
    tpm.pcr_extend(8, &[Digest::sha256(b"else")]).unwrap();
    assert_eq!(*tpm.unseal(&sealed).unwrap(), SECRET);
    tpm.pcr_extend(16, &[Digest::sha256(b"other software")]).unwrap();
    let refused = tpm.unseal(&sealed).unwrap_err();
    assert!(matches!(refused, SealingError::Registers { .. }), "{refused}");
    assert_eq!(held(&mut tpm), 0, "something was left in the TPM");
    // Who drops the registers from the file does not get around them: the object itself asks for the policy.
    let without = Sealed { pcrs: Vec::new(), ..sealed.clone() };
    assert!(tpm.unseal(&without).is_err());
    let others = Sealed { pcrs: vec![8], ..sealed };
    assert!(matches!(tpm.unseal(&others), Err(SealingError::Registers { .. })));
    assert!(matches!(tpm.seal(SECRET, &[24]), Err(SealingError::NoRegister(24))));
    assert_eq!(held(&mut tpm), 0, "something was left in the TPM");
}

#[test]
fn a_changed_object_is_refused_whichever_byte_was_changed() {
    let Some(swtpm) = Swtpm::start() else { return };
    let mut tpm = swtpm.tpm();
    let bytes = tpm.seal(SECRET, &[]).unwrap().to_bytes();
    // Each byte would take minutes; every seventh meets every field.
    for index in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        let opened = Sealed::parse(&changed).and_then(|sealed| tpm.unseal(&sealed));
        assert!(opened.is_err(), "byte {index}");
    }
    assert_eq!(held(&mut tpm), 0, "something was left in the TPM");
}

#[test]
fn who_listens_on_the_bus_sees_no_secret() {
    let Some(swtpm) = Swtpm::start() else { return };
    let (mut tpm, seen) = swtpm.behind(|_, _| {});
    for pcrs in [&[][..], &[16]] {
        let sealed = tpm.seal(SECRET, pcrs).unwrap();
        assert_eq!(*tpm.unseal(&sealed).unwrap(), SECRET);
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 1000);
    assert!(!seen.windows(8).any(|bytes| SECRET.windows(8).any(|secret| secret == bytes)));
}

#[test]
fn who_changes_bytes_on_the_bus_is_found_out() {
    let Some(swtpm) = Swtpm::start() else { return };
    let sealed = swtpm.tpm().seal(SECRET, &[]).unwrap();
    // The fourth response is TPM2_Unseal's: primary, load, session, unseal. Its last byte is the authorization's.
    for place in [16, 40] {
        let (mut tpm, _) = swtpm.behind(move |number, response| {
            if number == 3 {
                let index = if place == 40 { response.len() - 1 } else { place };
                response[index] ^= 1;
            }
        });
        let refused = tpm.unseal(&sealed).unwrap_err();
        assert!(matches!(refused, SealingError::Tampered(_)), "{refused}");
    }
    // Another storage key than the one that was written down.
    let (mut tpm, _) = swtpm.behind(|number, response| {
        if number == 0 {
            let last_of_public = 14 + 4 + 2 + 26 + 64 - 1;
            response[last_of_public] ^= 1;
        }
    });
    assert!(matches!(tpm.unseal(&sealed), Err(SealingError::OtherTpm | SealingError::Tpm(_))));
}

#[test]
fn a_file_that_is_no_sealed_object_is_refused() {
    let sealed = Sealed { parent: vec![1; 34], public: vec![2; 50], private: vec![3; 100], pcrs: vec![0, 7] };
    let bytes = sealed.to_bytes();
    assert_eq!(Sealed::parse(&bytes).unwrap(), sealed);
    for length in 0..bytes.len() {
        assert!(Sealed::parse(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(Sealed::parse(&[&bytes[..], &[0]].concat()).is_err());
    for pcrs in [vec![7, 0], vec![7, 7], vec![24], vec![0; 25]] {
        assert!(Sealed::parse(&Sealed { pcrs, ..sealed.clone() }.to_bytes()).is_err());
    }
    let long = Sealed { private: vec![0; MAX_PART + 1], ..sealed };
    assert!(Sealed::parse(&long.to_bytes()).is_err());
}
