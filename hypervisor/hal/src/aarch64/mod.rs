//! AArch64 at EL2: entry, translation tables, CPUs, guests.

pub mod boot;
pub(crate) mod efi;
mod head;
pub mod mmu;
pub mod smp;
pub mod sysregs;
pub mod vectors;
pub mod world;
