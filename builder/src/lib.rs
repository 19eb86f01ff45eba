//! The image builder: board, root file system and layout in, one bootable disk image out.

pub mod error;
pub mod deb;
pub mod progress;
