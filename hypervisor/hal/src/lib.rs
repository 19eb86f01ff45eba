//! What touches the machine: CPU state, translation tables, interrupt controllers, UARTs, timers, firmware calls.
//!
//! `hal` does, and decides nothing: it implements the traits of `vambrace_core::machine`. All `unsafe` of the
//! hypervisor is here, each block with the reason why it is sound. What does not depend on the CPU (table formats,
//! the configuration file, boot-time device tree) is plain safe code, and is tested on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(target_arch = "aarch64")]
pub mod aarch64;
#[cfg(target_arch = "arm")]
pub mod armv7;
#[cfg(target_arch = "aarch64")]
pub use aarch64 as cpu;
#[cfg(target_arch = "arm")]
pub use armv7 as cpu;

#[cfg(any(test, target_arch = "arm", target_arch = "aarch64"))]
mod aarch32;
pub mod early_uart;
#[cfg(not(target_arch = "arm"))]
pub mod efi;
pub mod gic;
pub mod mmio;
pub mod private;
pub mod stage1;
pub mod uart;

/// What needs a CPU of one of the two widths beneath.
macro_rules! on_arm {
    ($($visibility:vis mod $name:ident;)*) => {
        $(
            #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
            $visibility mod $name;
        )*
    };
}

on_arm! {
    pub mod boot;
    pub mod devices;
    pub mod firmware;
    pub mod machine;
    mod memory;
    pub mod mmu;
    pub mod panic;
    pub mod sequence;
    pub mod smp;
    mod syndrome;
    pub mod timer;
}
#[cfg(target_os = "none")]
pub mod heap;
