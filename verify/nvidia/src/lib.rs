//! The judge for NVIDIA GPUs and switches.
