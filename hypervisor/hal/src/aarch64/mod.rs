//! AArch64 at EL2: entry, translation tables, CPUs, guests.

mod aarch32;
pub(crate) mod boot;
pub(crate) mod bytes;
pub(crate) mod efi;
pub(crate) mod firmware;
mod head;
pub(crate) mod mmu;
pub(crate) mod smp;
pub(crate) mod sysregs;
pub(crate) mod tlb;
mod vectors;
pub(crate) mod window;
pub mod world;
