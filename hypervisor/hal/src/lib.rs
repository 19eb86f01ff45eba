//! What touches the machine: CPU state, translation tables, interrupt controllers, UARTs, timers, firmware calls.
//!
//! `hal` does, and decides nothing: it implements the traits of `vambrace_core::machine`. All `unsafe` of the
//! hypervisor is here, each block with the reason why it is sound. What does not depend on the CPU (table formats,
//! the configuration file, boot-time device tree) is plain safe code, and is tested on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

// What drives a machine is compiled for bare metal alone, the rest for any host.
#[cfg(any(test, target_os = "none"))]
mod aarch32;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub mod aarch64;
#[cfg(all(target_os = "none", target_arch = "arm"))]
pub mod armv7;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod devices;
pub mod early_uart;
#[cfg(not(target_arch = "arm"))]
pub mod efi;
#[cfg(target_os = "none")]
pub mod firmware;
pub mod gic;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod machine;
#[cfg(target_os = "none")]
mod memory;
pub mod mmio;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod panic;
pub mod private;
#[cfg(target_os = "none")]
pub mod sequence;
#[cfg(target_os = "none")]
pub mod smp;
pub mod stage1;
#[cfg(target_os = "none")]
mod syndrome;
#[cfg(target_os = "none")]
pub mod timer;
pub mod uart;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use aarch64 as cpu;
#[cfg(all(target_os = "none", target_arch = "arm"))]
pub use armv7 as cpu;
