//! Starting as an EFI application: `firmware` talks to the firmware, [`config`] reads the configuration file, [`tree`]
//! adds what was loaded to the device tree. From there on everything is as with any other loader.

pub mod config;
#[cfg(target_os = "none")]
pub(crate) mod firmware;
pub mod tree;
