//! Whether a disk's records and a broker's counter are of one history.
//!
//! The number says how often the volume was opened for writing, the mark who opened it last. Both must agree: two
//! copies that were opened from one state have the same number and different marks, and the broker knows one of them.

use coffer_core_luks::{Generation, Record};
use coffer_core_protocol::counter::Counter;
use coffer_core_secret::Secret;

use crate::VolumeError;

/// The generation that disk and broker agree on.
///
/// The newest record may be one ahead, by a guest that ended before the broker heard of it: then the record before is
/// the counter's own, and nothing was written to the volume since.
pub(crate) fn base(name: &str, record: &Record, known: &Counter) -> Result<Generation, VolumeError> {
    let is_known = |generation: &Generation| counter(generation) == *known;
    if is_known(&record.newest) {
        return Ok(record.newest);
    }
    if let Some(before) = record.before.filter(is_known) {
        return Ok(before);
    }
    let (name, expected, found) = (name.to_owned(), known.number, record.newest.number);
    Err(match found > expected {
        true => VolumeError::CounterBehind { name, expected, found },
        false => VolumeError::RolledBack { name, expected, found },
    })
}

/// The one after, with a mark of its own.
pub(crate) fn next(name: &str, base: &Generation) -> Result<Generation, VolumeError> {
    let none = || VolumeError::NoNext { name: name.to_owned() };
    let mark = Secret::random().map_err(|_| none())?;
    Ok(Generation { number: base.number.checked_add(1).ok_or_else(none)?, mark: *mark.expose() })
}

pub(crate) fn counter(generation: &Generation) -> Counter {
    Counter { number: generation.number, mark: hex::encode(generation.mark) }
}

#[cfg(test)]
mod tests {
    use coffer_core_luks::{GenerationKey, RECORDS};

    use super::*;

    /// A disk's records, written as the guest writes them.
    #[derive(Clone)]
    struct Disk(Vec<u8>);

    fn key() -> GenerationKey {
        GenerationKey::derive(&Secret::new([7; 64]), "uuid").unwrap()
    }

    impl Disk {
        fn new() -> Self {
            let mut disk = Self(vec![0; RECORDS]);
            disk.write(&Generation::default());
            disk
        }

        fn write(&mut self, generation: &Generation) {
            let (at, block) = key().encode(generation);
            self.0[at as usize..at as usize + block.len()].copy_from_slice(&block);
        }

        /// Opens for writing up to the moment before the broker is told; gives what it would be told.
        fn begin(&mut self, known: &Counter) -> Result<Generation, &'static str> {
            let base = base("v", &key().decode(&self.0).unwrap(), known).map_err(|why| why.code())?;
            let next = next("v", &base).unwrap();
            self.write(&next);
            Ok(next)
        }

        fn open(&mut self, known: &mut Counter) -> Result<(), &'static str> {
            *known = counter(&self.begin(known)?);
            Ok(())
        }
    }

    #[test]
    fn disk_opens_again_and_again_and_an_old_copy_never() {
        let (mut disk, mut known) = (Disk::new(), Counter::default());
        let mut copies = vec![disk.clone()];
        for _ in 0..5 {
            disk.open(&mut known).unwrap();
            copies.push(disk.clone());
        }
        assert!(copies.pop().unwrap().open(&mut known.clone()).is_ok(), "the last copy is the disk");
        for mut copy in copies {
            assert_eq!(copy.open(&mut known), Err("volume.rolled-back"));
        }
    }

    #[test]
    fn guest_that_ends_between_disk_and_broker_leaves_a_disk_that_opens() {
        let (mut disk, mut known) = (Disk::new(), Counter::default());
        disk.open(&mut known).unwrap();
        for _ in 0..3 {
            disk.begin(&known).unwrap();
        }
        disk.open(&mut known).unwrap();
        assert_eq!(known.number, 2);
    }

    #[test]
    fn of_two_copies_that_count_on_from_one_state_the_broker_takes_one() {
        let (mut disk, mut known) = (Disk::new(), Counter::default());
        disk.open(&mut known).unwrap();
        let mut stopped = disk.clone();
        stopped.begin(&known).unwrap();
        disk.open(&mut known).unwrap();
        // Both have number 2; only one has the mark that the broker knows.
        assert_eq!(stopped.open(&mut known), Err("volume.rolled-back"));
        assert!(disk.open(&mut known).is_ok());
    }

    #[test]
    fn broker_that_was_restored_from_an_older_backup_is_told_apart() {
        let (mut disk, mut known) = (Disk::new(), Counter::default());
        disk.open(&mut known).unwrap();
        let backup = known.clone();
        (0..3).for_each(|_| disk.open(&mut known).unwrap());
        assert_eq!(disk.open(&mut backup.clone()), Err("volume.counter-behind"));
    }
}
