//! Certificate paths to a root of ours, at a given time.
