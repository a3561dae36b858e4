//! What is written down of an attempt, and what became of it.

/// An attempt as it is kept.
#[derive(Clone, Debug)]
pub struct AttemptEntry {
    /// Its name.
    pub id: String,
    /// Whether it counts among the refused ones.
    pub refused: bool,
    /// When it was made, in milliseconds since 1970: its place in the ring, after all that was there before.
    pub at_ms: i64,
    /// What the broker knows of it.
    pub body: Vec<u8>,
}

/// One thing to write down.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    /// An attempt; replaces one of the same name.
    Attempt(AttemptEntry),
    /// What was decided on a request made with an attempt's token, where nothing is released.
    Decision {
        /// The attempt's name.
        attempt: String,
        /// What was decided.
        body: Vec<u8>,
    },
    /// The evidence that an attempt was made with, where evidence is kept.
    Evidence {
        /// The attempt's name.
        attempt: String,
        /// When, in milliseconds since 1970: its place in the ring.
        at_ms: i64,
        /// What was sent.
        body: Vec<u8>,
        /// How many are kept, with this one; the oldest go.
        keep: u64,
    },
    /// A resource is about to be released. It may be, if and only if the answer is [`Written::Kept`]; of any other
    /// answer nothing is written, and the caller writes the decision of its refusal.
    Release {
        /// The attempt's name.
        attempt: String,
        /// The resource's path.
        path: String,
        /// The version that is released; none if the value is not from this store.
        version: Option<u64>,
        /// The tenant's revision that the decision was made under.
        revision: u64,
        /// Now, in seconds since 1970.
        at: i64,
        /// What was decided.
        body: Vec<u8>,
    },
}

/// What became of an entry. A decision that was not kept was not made: nothing may be released on it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the store.
    Kept,
    /// It is not: its attempt is no longer kept, so nobody could tell what the decision was about.
    AttemptGone,
    /// It is not: its attempt has as many decisions as are kept.
    AttemptFull,
    /// It is not: the tenant was removed.
    TenantGone,
    /// It is not: policies, standards or the resource changed since the decision; decide again.
    Stale,
    /// It is not: the version may be released no longer.
    Expired,
    /// It is not: the version was revoked.
    Revoked,
    /// It is not: the version was released to as many attempts as it may be.
    Spent,
    /// It is not: a row that it rests on is damaged.
    Damaged,
}
