//! The paravisor's TPM as it answers on the wire, with a report and a key of the test authority's.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use coffer_core_digest::Algorithm;
use coffer_core_evidence::ReportData;
use coffer_lab_testpki::AzureFixture;

use super::*;

const SHA256: [u8; 2] = [0, 0x0b];

/// The TPM's end of the stream.
struct FakeTpm {
    fixture: AzureFixture,
    report: Vec<u8>,
    pcrs: [Digest; 24],
    has_key: bool,
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Three bytes of a selection as register numbers.
fn selected(select: &[u8]) -> Vec<usize> {
    (0..24).filter(|pcr| select[pcr / 8] >> (pcr % 8) & 1 == 1).collect()
}

impl FakeTpm {
    fn serve(mut self, mut stream: UnixStream) {
        let mut header = [0; 10];
        while stream.read_exact(&mut header).is_ok() {
            let size = u32::from_be_bytes(header[2..6].try_into().expect("4")) as usize;
            let code = u32::from_be_bytes(header[6..10].try_into().expect("4"));
            let mut body = vec![0; size - 10];
            stream.read_exact(&mut body).expect("a whole command");
            let with_session = header[1] == 2;
            let (response, parameters) = self.answer(code, &body);
            let parameters = match with_session && response == 0 {
                // Its length before, and an empty session behind.
                true => {
                    [&(parameters.len() as u32).to_be_bytes()[..], &parameters, &[0, 0, 0, 0, 0]].concat()
                }
                false => parameters,
            };
            let tag = [0x80, if with_session && response == 0 { 2 } else { 1 }];
            let size = (10 + parameters.len() as u32).to_be_bytes();
            let bytes = [&tag[..], &size, &response.to_be_bytes(), &parameters].concat();
            stream.write_all(&bytes).expect("written");
        }
    }

    fn answer(&mut self, code: u32, body: &[u8]) -> (u32, Vec<u8>) {
        match code {
            // TPM2_NV_ReadPublic: readable by its owner only, as the strictest platform has it.
            0x169 => {
                let size = (self.report.len() as u16).to_be_bytes();
                let public = [&body[..4], &SHA256, &(1u32 << 17).to_be_bytes(), &[0, 0], &size].concat();
                (0, [sized(&public), sized(&[])].concat())
            }
            // TPM2_NV_Read: two handles, the authorization of 13 bytes, count and offset.
            0x14e => {
                assert_eq!(body[..4], 0x4000_0001u32.to_be_bytes(), "the owner reads");
                let number = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                let (count, offset) = (number(21), number(23));
                (0, sized(&self.report[offset..offset + count]))
            }
            // TPM2_GetCapability: one bank, all registers.
            0x17a => {
                let list = [&[0, 0, 0, 0, 5, 0, 0, 0, 1][..], &SHA256, &[3, 0xff, 0xff, 0xff]].concat();
                (0, list)
            }
            // TPM2_PCR_Read, eight at once as real ones.
            0x17e => {
                let pcrs: Vec<_> = selected(&body[7..10]).into_iter().take(8).collect();
                let mut select = [0u8; 3];
                pcrs.iter().for_each(|pcr| select[pcr / 8] |= 1 << (pcr % 8));
                let mut out = [&[0, 0, 0, 1, 0, 0, 0, 1][..], &SHA256, &[3], &select].concat();
                out.extend((pcrs.len() as u32).to_be_bytes());
                pcrs.iter().for_each(|pcr| out.extend(sized(self.pcrs[*pcr].as_bytes())));
                (0, out)
            }
            // TPM2_PCR_Extend: handle, authorization, count, algorithm, digest.
            0x182 => {
                let pcr = usize::from(body[3]);
                self.pcrs[pcr] = self.pcrs[pcr].extend(&body[body.len() - 32..]);
                (0, Vec::new())
            }
            // TPM2_Quote: handle, authorization, qualifying data.
            0x158 if self.has_key => {
                assert_eq!(body[..4], KEY.to_be_bytes());
                let length = usize::from(u16::from_be_bytes([body[17], body[18]]));
                let quote = self.fixture.quote(&body[19..19 + length], &self.pcrs);
                let signature = [&[0, 0x14][..], &SHA256, &sized(&quote.signature)].concat();
                (0, [sized(&quote.message), signature].concat())
            }
            // TPM_RC_HANDLE.
            _ => (0x18b, Vec::new()),
        }
    }
}

fn machine(is_tdx: bool, has_key: bool) -> (Azure, Vec<u8>) {
    let fixture = AzureFixture::default();
    let runtime = fixture.runtime_data(&[0; 64]);
    let report = AzureFixture::hcl_report(is_tdx, &[7; 1024], &runtime);
    let fake =
        FakeTpm { fixture, report: report.clone(), pcrs: [Digest::zero(Algorithm::Sha256); 24], has_key };
    let (ours, theirs) = UnixStream::pair().expect("a stream");
    std::thread::spawn(move || fake.serve(theirs));
    let mut tpm = Tpm::from_stream(ours).expect("a TPM");
    let found = Azure::report(&mut tpm).expect("read").expect("a report");
    let places = Places { imds: "http://127.0.0.1:1".into(), ..Places::default() };
    (Azure::new(tpm, &found, &places).expect("Azure's"), report)
}

fn report_data() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

#[tokio::test]
async fn evidence_of_a_guest_under_the_paravisor_has_its_report_quote_and_bound_init_data() {
    let (mut azure, report) = machine(false, true);
    assert_eq!(azure.tee(), Tee::AzSnpVtpm);
    let init_data = Digest::sha256(b"init-data");
    assert_eq!(azure.bind(&init_data).expect("bound"), "bound to PCR 8");
    let again = azure.bind(&init_data).expect_err("bound already");
    assert_eq!(again.refusal().code, "init-data.already-bound");
    let collected = tokio::task::spawn_blocking(move || {
        let data = report_data();
        azure.evidence(&Request { report_data: &data, log: None, command_line: "" })
    });
    let evidence = collected.await.expect("ran").expect("evidence");
    let evidence = AzureEvidence::parse_snp(&evidence).expect("the form");
    assert_eq!(evidence.hcl_report, report);
    // Nobody answered for the chip's certificate: the broker fetches it.
    assert_eq!(evidence.proof, PlatformProof::Snp(None));
    let zero = Digest::zero(Algorithm::Sha256);
    assert_eq!(evidence.quote.pcrs[8], zero.extend(init_data.as_bytes()).as_bytes());
    let attest = coffer_core_evidence::tpm::Attest::parse(&evidence.quote.message).expect("a quote");
    assert_eq!(attest.extra_data, report_data().digest().as_bytes());
}

#[tokio::test]
async fn a_td_without_a_quote_and_a_tpm_without_the_key_give_no_evidence() {
    for (is_tdx, has_key, reason) in [(true, true, "the TD's quote"), (false, false, "TPM2_Quote")] {
        let (mut azure, _) = machine(is_tdx, has_key);
        let collected = tokio::task::spawn_blocking(move || {
            let data = report_data();
            azure.evidence(&Request { report_data: &data, log: None, command_line: "" })
        });
        let error = collected.await.expect("ran").expect_err("none");
        assert_eq!(error.code(), "attestation.evidence");
        assert!(error.to_string().contains(reason), "{error}");
    }
}
