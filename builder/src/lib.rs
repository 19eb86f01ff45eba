//! The image builder: board, root file system and layout in, one bootable disk image out.
//!
//! Data flows one way: a [`decision`] from the request and the descriptions, [`parts`] each made once for the same
//! inputs and kept in the [`cache`], a [`plan`] with every address and size, a [`disk`] image, [`verify`]. See
//! [`mod@build`] for the whole of it and [`boot`] for what happens to the image afterwards.

mod acl;
pub mod apt;
pub mod boot;
pub mod build;
mod bytes;
pub mod cache;
mod calendar;
mod checksums;
pub mod chosen;
pub mod cli;
pub mod companions;
pub mod compare;
pub mod compile;
pub mod config;
pub mod deb;
pub mod decision;
pub mod diagnosis;
pub mod disk;
pub mod doctor;
pub mod draw;
pub mod error;
pub mod explain;
pub mod fdt;
mod firmware;
pub mod flash;
mod groups;
pub mod guest;
pub mod guide;
pub mod hypervisor;
pub mod image;
mod inodes;
pub mod inspect;
mod install;
pub mod kernel;
pub mod layout;
mod lock;
pub mod modules;
pub mod nightly;
mod own;
mod parallel;
pub mod parts;
pub mod persistent;
pub mod pins;
pub mod plan;
pub mod port;
pub mod profile;
pub mod progress;
mod provenance;
pub mod qemu;
pub mod record;
pub mod report;
pub mod reproduce;
pub mod rootfs;
mod sbom;
pub mod signature;
pub mod slot;
pub mod sources;
mod staged;
mod starter;
#[cfg(test)]
#[path = "../tests/support/ti.rs"]
mod ti;
pub mod toolchain;
pub mod tree;
pub mod uboot;
pub mod verify;
pub mod workspace;
