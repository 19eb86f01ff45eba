//! Board descriptions: what a board is, what its hypervisor and image need, and how QEMU runs it.
//!
//! A board is a folder with a `board.toml`. Reading one gives a [`Board`] whose fields agree with one another,
//! or an [`Error`] with file, line and field. The boards of the project are compiled in; a [`Catalog`] adds
//! those of a folder of the user's own. No other crate knows any board by name.
//!
//! ```
//! let boards = vambrace_bsp::Catalog::embedded()?;
//! let board = boards.get("qemu-arm64")?;
//! assert_eq!(board.architecture.debian(), "arm64");
//! assert!(boards.get("qemu-arm46").unwrap_err().help.unwrap().contains("qemu-arm64"));
//! # Ok::<(), Box<vambrace_bsp::Error>>(())
//! ```

mod board;
mod catalog;
mod check;
mod error;
mod size;
mod suggest;
pub mod text;
mod version;

pub use board::{
    Amendment, Architecture, Board, BootMethod, Console, DeviceTree, DiskSize, Dom0, Driver, Firmware,
    FirmwareFormat, Hypervisor, LoadWindow, Loader, Memory, Method, OldUboot, Origin, Qemu, Reserved, Serial,
    Variant,
};
pub use catalog::{Catalog, Source, parse};
pub use error::{Error, Result};
pub use size::Size;
pub use suggest::{did_you_mean, nearest};
pub use version::QemuVersion;
