//! The workload's local API on 127.0.0.1:8006.
