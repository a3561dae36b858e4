//! What this machine can and cannot do, each with its remedy.
