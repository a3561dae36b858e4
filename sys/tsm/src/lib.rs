//! TEE reports from the kernel: configfs-tsm and the older device files.
