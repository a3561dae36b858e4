//! Virtual machines: from a typed MachineSpec to a process that cannot outlive its owner.
