//! End-to-end cases: few boots, many checks each.
