//! Launch arithmetic: from the artifacts of a guest to the measurements it will show.
