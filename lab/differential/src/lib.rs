//! Our judges beside those of others on the same evidence.
//!
//! The tests hold both against real evidence and against thousands of changes of it, always the same ones. What we mean
//! to do otherwise is listed in each test with its reason. Left out: speed, which is `lab/bench`.
