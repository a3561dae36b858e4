//! What every engine must hold, for the tests of engines. Not for use outside of tests.
