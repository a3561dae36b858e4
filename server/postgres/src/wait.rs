//! Waiting for a future on the calling thread, for so long and no longer.
//!
//! The calls of a client need no runtime of their own: the runtime's thread moves the bytes and wakes the caller. So
//! this works on any thread, also one of an async runtime, where entering another runtime would panic.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }
}

/// What `future` gives, or nothing where it gave nothing until `end`.
pub(crate) fn until<F: Future>(end: Instant, future: F) -> Option<F::Output> {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            rung = bell.heard.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
    }
}

/// Begins a future and does not wait for its end: what it sends is sent, what is answered is dropped.
pub(crate) fn begin<F: Future>(future: F) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::thread;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_another_thread_sends_is_received() {
        let (sender, receiver) = oneshot::channel();
        let other = thread::spawn(move || sender.send(7));
        let received = until(Instant::now() + Duration::from_secs(10), receiver);
        assert_eq!(received, Some(Ok(7)));
        other.join().unwrap().unwrap();
    }

    #[test]
    fn what_never_comes_is_waited_for_until_the_end_only() {
        let end = Instant::now() + Duration::from_millis(20);
        assert_eq!(until(end, future::pending::<()>()), None);
        assert!(Instant::now() >= end);
    }
}
