//! One sandbox on the untrusted node: disks, machine, channel, ports, clean-up.
