//! Namespaces, capabilities, seccomp, terminals and process ends.
