//! scratch
use coffer_tools_guest_image::*;
fn main() { let a: Vec<String> = std::env::args().collect();
 let t=std::time::Instant::now();
 let k = Kernel::download(a[1].as_ref()).unwrap_or_else(|e| panic!("{e}")); println!("{k:?} {:?}", t.elapsed());
 let b = build(&BuildSpec { agent: (&a[2]).into(), kernel: &k, modules: GUEST_MODULES }).unwrap_or_else(|e| panic!("{e}"));
 std::fs::write(&a[3], &b.initramfs).unwrap(); println!("{} {:?}", serde_json::to_string_pretty(&b.manifest).unwrap(), t.elapsed()); }
