//! AArch64 at EL2: entry, translation tables, CPUs, guests.

pub mod boot;
mod head;
pub mod mmu;
pub mod smp;
pub mod sysregs;
pub mod vectors;
pub mod world;
