//! The judges for SNP and TDX guests under Azure's paravisor.
