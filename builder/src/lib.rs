//! The image builder: board, root file system and layout in, one bootable disk image out.

pub mod error;
pub mod deb;
pub mod progress;
pub mod apt;
pub mod cpio;
pub mod disk;
pub mod kernel;
pub mod qemu;
pub mod uboot;
pub mod verify;
pub mod toolchain;
pub mod compile;
