//! Claims about commands, refusals and hostile responses. The exchange with a real TPM is tested in `host/vtpm`.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::*;

/// A TPM that gives the same responses, whatever it is asked.
fn answering(name: &str, responses: Vec<Vec<u8>>) -> (PathBuf, std::thread::JoinHandle<Vec<Vec<u8>>>) {
    let path = std::env::temp_dir().join(format!("coffer-tpm-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut commands = Vec::new();
        for response in responses {
            let mut header = [0; 10];
            stream.read_exact(&mut header).unwrap();
            let size = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
            let mut command = header.to_vec();
            command.resize(size, 0);
            stream.read_exact(&mut command[10..]).unwrap();
            commands.push(command);
            stream.write_all(&response).unwrap();
        }
        commands
    });
    (path, server)
}

fn response(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(10 + body.len()).unwrap();
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

#[test]
fn a_busy_tpm_is_asked_again_with_the_same_command() {
    let responses =
        vec![response(0x8001, 0x922, &[]), response(0x8001, 0x90a, &[]), response(0x8001, 0, &[])];
    let (path, server) = answering("busy", responses);
    Tpm::connect_unix(path).unwrap().startup(StartupType::Clear).unwrap();
    let commands = server.join().unwrap();
    assert_eq!(commands, vec![vec![0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]; 3]);
}

#[test]
fn a_started_tpm_is_left_as_it_is() {
    let (path, server) = answering("started", vec![response(0x8001, 0x100, &[])]);
    Tpm::connect_unix(path).unwrap().startup(StartupType::Clear).unwrap();
    server.join().unwrap();
}

#[test]
fn a_refusal_has_its_number_its_name_and_what_to_do() {
    let (path, server) = answering("refusal", vec![response(0x8001, 0x18b, &[])]);
    let refused = Tpm::connect_unix(path).unwrap().nv_read(0x01c1_0003).expect_err("refused");
    server.join().unwrap();
    assert_eq!(
        refused.to_string(),
        "TPM2_NV_ReadPublic: the TPM refused: TPM_RC_HANDLE (0x18b) about handle 1: there is nothing at this handle"
    );
    assert!(refused.code().unwrap().is_no_such_handle());
    assert_eq!(
        ResponseCode(0x9a2).to_string().split(':').next(),
        Some("TPM_RC_BAD_AUTH (0x9a2) about session 1")
    );
    assert_eq!(ResponseCode(0x2d5).name(), "TPM_RC_SIZE");
    assert!(ResponseCode(0x2d5).to_string().contains("parameter 2"));
    assert!(ResponseCode(0x1ff).to_string().contains("Part 2, section 6.6"));
}

#[test]
fn hostile_responses_are_refused_without_a_panic() {
    let pcr_read = |name, body: &[u8]| {
        let (path, server) = answering(name, vec![response(0x8001, 0, body)]);
        let read = Tpm::connect_unix(path).unwrap().pcr_read(coffer_core_digest::Algorithm::Sha256, &[0]);
        server.join().unwrap();
        read.expect_err("accepted").to_string()
    };
    assert!(pcr_read("cut", &[0, 0, 0]).contains("ends within a field"));
    let other = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b, 3, 2, 0, 0, 0, 0, 0, 1, 0, 0];
    assert!(pcr_read("other", &other).contains("other registers"));
    let short = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0, 0, 0, 0, 1, 0, 1, 9];
    assert!(pcr_read("short", &short).contains("has not the length"));
    let bank = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0c, 3, 1, 0, 0, 0, 0, 0, 0];
    assert!(pcr_read("bank", &bank).contains("another bank"));

    let (path, server) = answering("size", vec![[&[0x80, 1][..], &[0xff; 4], &[0; 4]].concat()]);
    let refused = Tpm::connect_unix(path).unwrap().get_random(4).expect_err("accepted");
    server.join().unwrap();
    assert!(matches!(refused, TpmError::Io { .. }), "{refused}");
}

#[test]
fn an_absent_bank_gives_no_registers() {
    let empty = response(0x8001, 0, &[0; 12]);
    let (path, server) = answering("absent", vec![empty]);
    let read =
        Tpm::connect_unix(path).unwrap().pcr_read(coffer_core_digest::Algorithm::Sha384, &[0, 1]).unwrap();
    server.join().unwrap();
    assert!(read.is_empty());
}

#[test]
fn concatenated_certificates_are_split_and_padding_is_left_out() {
    let one = [&[0x30, 0x81, 0x80][..], &[7; 128]].concat();
    let two = vec![0x30, 2, 5, 0];
    let all = [one.clone(), two.clone(), vec![0xff; 9]].concat();
    assert_eq!(ak::split_certificates(&all), [one, two]);
    assert!(ak::split_certificates(&[0x30, 0x82, 0xff, 0xff, 0]).is_empty());
    assert!(ak::split_certificates(&[]).is_empty());
}
