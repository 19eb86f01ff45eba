//! What touches the machine: CPU state, translation tables, interrupt controllers, UARTs, timers, firmware calls.
//!
//! `hal` does, and decides nothing: it implements the traits of `vambrace_core::machine`. All `unsafe` of the
//! hypervisor is here, each block with the reason why it is sound. What does not depend on the CPU (table formats,
//! the configuration file, boot-time device tree) is plain safe code, and is tested on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod early_uart;
pub mod efi;
pub mod gic;
pub mod mmio;
pub mod private;
pub mod stage1;
pub mod timer;
pub mod uart;

#[cfg(target_arch = "aarch64")]
pub mod aarch64;
#[cfg(target_arch = "aarch64")]
pub mod devices;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_arch = "aarch64")]
pub mod machine;
#[cfg(target_arch = "aarch64")]
mod memory;
#[cfg(target_arch = "aarch64")]
pub mod panic;
