//! Two slots for what boots: a hypervisor, a kernel and a ramdisk that are known to be good, and another set of them that
//! is tried and kept only if dom0 comes up on it.
//!
//! ```text
//!   boot.scr                  chooses; written once, when the image is built         (chooser)
//!   vambrace/good, good.copy  which slot is good; dom0 or the host writes them       (state)
//!   vambrace/trial            which slot is on trial, and how many tries are left;
//!                             U-Boot counts here, in place, and nowhere else
//!   vambrace/a/, vambrace/b/  slot.scr, hypervisor, kernel, ramdisk, ... and slot.txt  (listing)
//! ```
//!
//! Load addresses follow from sizes, so each slot brings the script that has them. That names its own files through
//! `${vambrace_slot}`: the same files are a slot in either place, and a [`Bundle`] of them fits both.

mod bundle;
pub mod chooser;
mod command;
mod layout;
mod listing;
mod medium;
mod name;
mod state;

pub use bundle::Bundle;
pub use command::{SlotCommand, run};
pub(crate) use layout::check_slots;
pub use layout::with_slots;
pub use listing::{Listed, Listing};
pub use medium::{Medium, install};
pub use name::SlotName;
pub use state::{STATE_SIZE, State, Trial};

/// The folder on the boot partition that has everything of slots but `boot.scr`.
pub const FOLDER: &str = "vambrace";
/// A slot's script, in its folder.
pub const SCRIPT: &str = "slot.scr";
/// What a slot has, in its folder.
pub const LISTING: &str = "slot.txt";
/// The tries that a slot is given where nobody says how many.
pub const TRIES: u8 = 1;
/// The most tries: the script counts them one by one.
pub const MOST_TRIES: u8 = 3;

/// The path on the boot partition of what is called `name` in the slot.
pub fn path(slot: SlotName, name: &str) -> String {
    format!("{FOLDER}/{slot}/{name}")
}
