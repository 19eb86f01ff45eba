//! A Debian system of unmodified packages, made without root, without mounting anything, and without running a program of
//! another architecture on this machine.
//!
//! dpkg does it in two steps, and so does this. *Unpacking* (deb(5), dpkg(1)) puts files in their places and writes into
//! dpkg's records what is there: that needs no program of the package's and happens in memory, owners and all.
//! *Configuring* runs the packages' own scripts: that happens in a machine of the right architecture that QEMU emulates, with
//! Debian's kernel and the very file system. What comes out of it is read back, and all that is different each time, or
//! belongs to one machine, is taken away.

mod database;
mod machine;
mod modules;
mod normalise;
mod readback;
mod unpack;

pub(crate) use machine::Machine;
pub(crate) use modules::add_modules;
pub(crate) use normalise::normalise;
pub(crate) use readback::read_ext4;
pub(crate) use unpack::{Rules, Unpacked, unpack};

/// What the machine's first process does: `init` of its ramdisk.
pub(crate) const INIT: &str = include_str!("init.sh");
/// What it runs inside of the new system: the packages' scripts, in dpkg's order.
pub(crate) const CONFIGURE: &str = include_str!("configure.sh");
