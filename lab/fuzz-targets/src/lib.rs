//! One function for each parser of hostile bytes, for fuzzers and for plain tests.
