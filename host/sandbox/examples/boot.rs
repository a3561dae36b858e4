//! scratch
use coffer_core_channel::*;
use coffer_host_sandbox::*;
use coffer_host_vmm::*;
use std::time::*;
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let channel = ChannelKind::detect();
    let config = SandboxConfig {
        guest: GuestFiles {
            firmware: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
            kernel: a[1].clone().into(),
            initrd: a[2].clone().into(),
        },
        accelerator: Accelerator::SoftwareEmulation,
        memory_mib: 512,
        cpus: std::env::var("CPUS").unwrap().parse().unwrap(),
        command_line: base_command_line(channel),
        channel,
        init_data_disk: vec![0; 1024],
        disks: vec![],
        layout: Some("/tmp/h8/layout".into()),
        network: Some(UserNetwork {
            forwards: vec![Forward { host: "127.0.0.1:18080".parse().unwrap(), guest_port: 80 }],
        }),
        console: ConsoleLog::Temporary,
        run_dir_root: Some("/tmp/h8/run".into()),
        vtpm_ca: "/tmp/h8/ca".into(),
        record_channel: None,
        start_timeout: Duration::from_secs(90),
        run: RunRequest {
            image: "x".into(),
            source: ImageSource::Host { manifest: std::env::var("DIG").unwrap().into(), signatures: vec![], disks: vec![] },
            args: vec![],
            env: vec![],
            terminal: None,
            network: None,
        },
    };
    let t = Instant::now();
    let mut s = match Sandbox::start(config).await {
        Ok(s) => s,
        Err(e) => {
            println!("start: {e}");
            return;
        }
    };
    let inp = s.input(); inp.stdin(b"hello guest").await;
    let mut nerr = 0usize;
    println!("started {:?} {:?} {}", t.elapsed(), s.processes(), s.run_dir().display());
    while let Some(e) = s.next().await {
        match e {
            Ok(SandboxEvent::Step(st)) => {
                println!("{:?} {} {} {} {:?}", st.side, st.at_us, st.step, st.detail, st.guest_us)
            }
            Ok(SandboxEvent::Stderr(b)) => nerr += b.len(), Ok(e) => println!("{e:?} {nerr} {:?}", t.elapsed()),
            Err(e) => println!("error {e}"),
        }
    }
    println!("end {:?}", t.elapsed());
    s.shutdown(Duration::from_secs(10)).await;
    println!("down {:?}", t.elapsed());
}
