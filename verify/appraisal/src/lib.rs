//! Claims against reference values: the verdict tree that decides and explains.
