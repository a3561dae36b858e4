//! What can go wrong with a master key.

/// A master key that does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// Another key closed this.
    #[error("the master key {id} in {place} did not close this; name the master key that did")]
    Wrong {
        /// Where the key is.
        place: String,
        /// Its name.
        id: String,
    },
    /// It cannot be reached now.
    #[error("the master key in {place} cannot be reached: {why}; it may be tried again, nothing was changed")]
    Unavailable {
        /// Where it is.
        place: String,
        /// What happened.
        why: String,
    },
    /// It is reached and will not do it, or is not what the settings say.
    #[error("the master key in {place} cannot be used: {why}; {remedy}")]
    Refused {
        /// Where it is.
        place: String,
        /// What was found.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// No random bytes.
    #[error("the system's random number source failed; nothing was wrapped")]
    NoRandomness,
}
