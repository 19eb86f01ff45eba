//! `vambrace flash`: an image onto a card, a stick or a disk, and nothing onto any other.
//!
//! [`disk`] tells what disks there are and what uses them, the guard which of them may be written, [`transfer`] in what
//! order that is done so that a medium can be pulled out at any moment. What is written to is a [`medium::Medium`]: a
//! device, or in tests one that fails. What has been put onto a medium is kept as a memory; from
//! that and the medium's evidence follows what the next flash may trust without reading it.

mod command;
mod device;
pub mod disk;
mod evidence;
#[cfg(test)]
mod faulty;
mod guard;
mod ledger;
mod mark;
pub mod medium;
mod memory;
mod meter;
mod order;
mod past;
mod spans;
mod table;
pub mod transfer;
mod trust;

pub use command::{Flash, run};
pub use guard::Reason;
pub(crate) use memory::FOLDER;
pub use order::Update;
