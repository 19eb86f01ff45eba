//! `vambrace flash`: an image onto a card, a stick or a disk, and nothing onto any other.
//!
//! [`disk`] tells what disks there are and what uses them, the guard which of them may be written, [`transfer`] in what
//! order that is done so that a medium can be pulled out at any moment. What is written to is a [`medium::Medium`]: a
//! device, or in tests one that fails.

mod command;
mod device;
pub mod disk;
#[cfg(test)]
mod faulty;
mod guard;
mod ledger;
mod mark;
pub mod medium;
mod meter;
mod table;
pub mod transfer;

pub use command::{Flash, run};
pub use guard::Reason;
