//! Device mapper, loop devices and kernel keys: mapping of sealed blocks.
