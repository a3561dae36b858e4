//! One container from a mounted image: isolation, process, exit.
