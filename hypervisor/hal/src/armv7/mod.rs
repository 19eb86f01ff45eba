//! ARMv7-A with virtualization extensions, in Hyp mode: entry, translation tables, CPUs, guests.

pub(crate) mod boot;
pub(crate) mod bytes;
pub(crate) mod firmware;
mod head;
pub(crate) mod mmu;
mod simd;
pub(crate) mod smp;
pub(crate) mod sysregs;
pub(crate) mod tlb;
mod vectors;
pub(crate) mod window;
pub mod world;
