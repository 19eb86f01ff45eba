//! What a Vambrace hypervisor does on every CPU.
//!
//! This crate holds every decision the hypervisor takes: which domain runs, what a trapped instruction means, what a
//! hypercall answers, what device tree dom0 finds. It never reads a register and never touches memory by itself: it
//! speaks to a machine through the traits in [`machine`], which `vambrace-hal` implements for real CPUs and
//! `fake` (feature `fake`) implements for tests on the host. There is no `unsafe` here.
//!
//! One direction of flow: the machine runs a vCPU until it traps, `hal` decodes the trap into a [`trap::Trap`], this
//! crate handles it and tells the machine what to do, and the vCPU (or another) runs again.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod boot;
pub mod bootmap;
pub mod cmdline;
pub mod console;
pub mod console_page;
pub mod console_ring;
mod coprocessor;
pub mod dom0;
pub mod dom0_tree;
pub mod domain;
pub mod domain_spec;
pub mod domu;
mod emulate;
pub mod event;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frames;
pub mod grant;
mod hypercall;
pub mod hypervisor;
pub mod idregs;
pub mod image;
mod interrupt;
mod keys;
pub mod life;
pub mod machine;
pub mod p2m;
pub mod page;
mod permissions;
pub mod platform;
pub mod poll;
pub mod run;
pub mod runstate;
pub mod sched;
pub mod static_guest;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod timers;
pub mod trap;
pub mod umem;
pub mod vgic;
mod virtual_uart;
mod vmid;
pub mod vpl011;
pub mod vpsci;
mod word;
