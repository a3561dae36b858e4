//! A thread that lasts as long as the process, for starting children that die with it.
//!
//! The kernel ties a child's death signal to the thread that started it. Threads of a pool end when they are idle,
//! and would take a running machine with them; this one ends only with the process.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// Queues `job` on the lasting thread. Jobs run one after the other, in order.
pub fn on_lasting_thread(job: impl FnOnce() + Send + 'static) {
    static THREAD: OnceLock<Sender<Job>> = OnceLock::new();
    let sender = THREAD.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::Builder::new()
            .name("starter".into())
            .spawn(move || {
                for job in jobs {
                    // A panic is the job's own: its caller sees that no result comes, and the thread must last.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            })
            .expect("the process can start one thread");
        sender
    });
    sender.send(Box::new(job)).expect("the lasting thread ends only with the process");
}

/// Runs `job` on the lasting thread and waits for its result; `None` if it panicked.
pub fn lasting<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = channel();
    on_lasting_thread(move || {
        let _ = sender.send(job());
    });
    receiver.recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_share_one_thread_and_a_panic_does_not_end_it() {
        let first = lasting(|| std::thread::current().id());
        assert_eq!(lasting(|| if true { panic!("a job's own") } else { 1 }), None);
        assert_eq!(lasting(|| std::thread::current().id()), first);
    }
}
