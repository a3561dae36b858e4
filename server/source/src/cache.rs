//! A cache before a source: bounded in time, in number and in bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coffer_core_secret::SecretBytes;

use crate::{Answer, Source};

/// How much is kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How long a value is given without asking again.
    pub time: Duration,
    /// How many values.
    pub values: usize,
    /// How many bytes in all.
    pub bytes: usize,
}

impl Kept {
    /// A time, with room for a thousand values of together 16 MiB.
    pub const fn for_time(time: Duration) -> Self {
        Self { time, values: 1000, bytes: 16 << 20 }
    }
}

/// A source whose values are kept for a while.
pub struct Cached<S> {
    source: S,
    kept: Kept,
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    by_path: HashMap<String, (Instant, SecretBytes)>,
    bytes: usize,
}

impl<S: Source> Cached<S> {
    /// Puts a cache before `source`.
    pub fn new(source: S, kept: Kept) -> Self {
        Self { source, kept, values: Mutex::default() }
    }

    /// Forgets a value, as after it was revoked.
    pub fn forget(&self, path: &str) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.values.lock().unwrap_or_else(PoisonError::into_inner) = Values::default();
    }

    fn find(&self, path: &str, now: Instant) -> Option<SecretBytes> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = values.by_path.get(path)?;
        if *until > now {
            return Some(SecretBytes::copy_of(value.expose()));
        }
        values.remove(path);
        None
    }

    fn keep(&self, path: &str, value: &SecretBytes, now: Instant) {
        let length = value.expose().len();
        let Some(until) = now.checked_add(self.kept.time) else { return };
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.remove(path);
        if values.is_full(&self.kept, length) {
            values.remove_ended(now);
        }
        // What is live is not pushed out by what comes: a flood of names costs itself the cache, not others.
        if !values.is_full(&self.kept, length) {
            values.bytes = values.bytes.saturating_add(length);
            values.by_path.insert(path.to_owned(), (until, SecretBytes::copy_of(value.expose())));
        }
    }
}

impl Values {
    fn is_full(&self, kept: &Kept, more: usize) -> bool {
        self.by_path.len() >= kept.values || self.bytes.saturating_add(more) > kept.bytes
    }

    fn remove(&mut self, path: &str) {
        if let Some((_, value)) = self.by_path.remove(path) {
            self.bytes = self.bytes.saturating_sub(value.expose().len());
        }
    }

    fn remove_ended(&mut self, now: Instant) {
        self.by_path.retain(|_, (until, _)| *until > now);
        self.bytes = self.by_path.values().map(|(_, value)| value.expose().len()).sum();
    }
}

impl<S: Source> Source for Cached<S> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
        Box::pin(async move {
            if let Some(value) = self.find(path, Instant::now()) {
                return Ok(Some(value));
            }
            // The time counts from before the question, so that no value is given for longer than was chosen.
            let asked = Instant::now();
            let found = self.source.get(path).await?;
            if let Some(value) = &found {
                self.keep(path, value, asked);
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::SourceError;

    /// Gives each path's own name, counts, and has nothing under `absent`.
    #[derive(Default)]
    struct Echo(AtomicUsize);

    impl Source for Echo {
        fn name(&self) -> &str {
            "echo"
        }

        fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match path {
                    "absent" => Ok(None),
                    "down" => Err(SourceError::Unavailable { name: "echo".into(), why: "down".into() }),
                    path => Ok(Some(SecretBytes::copy_of(path.as_bytes()))),
                }
            })
        }
    }

    const KEPT: Kept = Kept { time: Duration::from_secs(60), values: 2, bytes: 8 };

    #[tokio::test]
    async fn a_value_is_asked_for_once_and_what_is_absent_or_failed_each_time() {
        let cached = Cached::new(Echo::default(), KEPT);
        for _ in 0..3 {
            assert_eq!(cached.get("a").await.unwrap().unwrap().expose(), b"a");
        }
        assert_eq!(cached.source.0.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            assert!(cached.get("absent").await.unwrap().is_none());
            assert!(cached.get("down").await.is_err());
        }
        assert_eq!(cached.source.0.load(Ordering::SeqCst), 5);
        cached.forget("a");
        cached.get("a").await.unwrap();
        cached.clear();
        cached.get("a").await.unwrap();
        assert_eq!(cached.source.0.load(Ordering::SeqCst), 7);
    }

    #[test]
    fn a_value_ends_at_its_time_and_the_bounds_hold() {
        let cached = Cached::new(Echo::default(), KEPT);
        let start = Instant::now();
        let value = |text: &str| SecretBytes::copy_of(text.as_bytes());
        cached.keep("a", &value("1"), start);
        assert!(cached.find("a", start + Duration::from_secs(59)).is_some());
        assert!(cached.find("a", start + Duration::from_secs(60)).is_none());

        cached.keep("a", &value("1"), start);
        cached.keep("b", &value("1"), start);
        cached.keep("c", &value("1"), start);
        assert!(cached.find("c", start).is_none(), "a third was kept");
        let later = start + Duration::from_secs(61);
        cached.keep("c", &value("12345678"), later);
        assert!(cached.find("c", later).is_some(), "what had ended kept its room");
        cached.keep("d", &value("1"), later);
        assert!(cached.find("d", later).is_none(), "a ninth byte was kept");
    }
}
