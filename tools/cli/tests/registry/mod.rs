//! Debian's registry on loopback, for as long as a test holds it.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cli::Case;

/// A program that ends with this.
pub(crate) struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A registry and its address; none where it is not installed.
pub(crate) fn registry(case: &Case) -> Option<(Ends, String)> {
    if Command::new("docker-registry").arg("--version").output().is_err() {
        println!("skipped: docker-registry is not installed");
        return None;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        case.path("registry")
    );
    let config = case.write("registry.yml", text.as_bytes());
    let mut command = Command::new("docker-registry");
    command.args(["serve", &config]).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Ends(command.spawn().unwrap());
    for _ in 0..500 {
        if TcpStream::connect(&address).is_ok() {
            return Some((process, address));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("docker-registry does not listen on {address}");
}
