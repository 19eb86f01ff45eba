//! The Xen public interface on ARM as Rust types and numbers.
//!
//! This crate is what a guest and a hypervisor have to agree on, and nothing more: the numbers of hypercalls
//! and of their operations, the structures they pass, error values, and the fixed facts of the platform a
//! guest finds. It has no
//! `unsafe`, no logic and no allocation, so that the hypervisor, a test guest and a tool can all share it.
//!
//! # Where things are
//!
//! One module for each noun of the interface, named after its header:
//!
//! | module | hypercall | header |
//! |---|---|---|
//! | [`hypercall`], [`errno`], [`domid`], [`virq`], [`handle`] | all | `xen.h`, `errno.h` |
//! | [`arch_arm`], [`smccc`] | all | `arch-arm.h`, `arch-arm/smccc.h` |
//! | [`version`] | `xen_version` | `version.h`, `features.h` |
//! | [`memory`] | `memory_op` | `memory.h` |
//! | [`event_channel`], [`shared_info`] | `event_channel_op` | `event_channel.h`, `xen.h` |
//! | [`grant_table`] | `grant_table_op` | `grant_table.h` |
//! | [`vcpu`] | `vcpu_op` | `vcpu.h` |
//! | [`sched`] | `sched_op` | `sched.h` |
//! | [`hvm`] | `hvm_op` | `hvm/hvm_op.h`, `hvm/params.h` |
//! | [`console`], [`multicall`], [`vm_assist`] | of the same names | `xen.h`, `io/console.h` |
//! | [`physdev`], [`platform`] | `physdev_op`, `platform_op` | `physdev.h`, `platform.h` |
//! | [`domctl`], [`sysctl`] | of the same names | `domctl.h`, `sysctl.h` |
//!
//! # Names
//!
//! A number keeps its C name in capitals: `EVTCHNOP_bind_virq` is [`event_channel::EVTCHNOP_BIND_VIRQ`]. A
//! structure has its C name in camel case, `struct evtchn_bind_virq` is [`event_channel::EvtchnBindVirq`],
//! and its fields keep theirs, except where C's is a Rust keyword. Numbers are plain integers and not enums,
//! because a guest can pass any value; errors are an enum, [`errno::Errno`], because only the hypervisor
//! makes them.
//!
//! # Layout
//!
//! Every structure is little-endian AAPCS64 for 64-bit and for 32-bit guests: pointers are 8 bytes
//! ([`handle::XenHandle`]), frame numbers and Xen's `unsigned long` too ([`memory::XenPfn`],
//! [`memory::XenUlong`]). Padding is explicit, in fields whose names start with `_` where C leaves it
//! unnamed, so that no byte of the hypervisor's memory can leak through it. Where C has a union there is
//! either a field wide enough for every member, or one structure for each. Structures are read from and
//! written to bytes through [`zerocopy`]'s traits:
//!
//! ```
//! use vambrace_abi::errno::{Errno, HypercallResult, to_register};
//! use vambrace_abi::event_channel::EvtchnBindVirq;
//! use vambrace_abi::virq::{NR_VIRQS, VIRQ_CONSOLE};
//! use zerocopy::{FromBytes, IntoBytes};
//!
//! /// Binds a virtual interrupt to port 5; `memory` is what the guest's handle points at.
//! fn bind_virq(memory: &mut [u8]) -> HypercallResult {
//!     let (mut bind, _) = EvtchnBindVirq::read_from_prefix(memory).map_err(|_| Errno::EFAULT)?;
//!     if bind.virq >= NR_VIRQS {
//!         return Err(Errno::EINVAL);
//!     }
//!     bind.port = 5;
//!     bind.write_to_prefix(memory).map_err(|_| Errno::EFAULT)?;
//!     Ok(0)
//! }
//!
//! let mut memory = EvtchnBindVirq { virq: VIRQ_CONSOLE, vcpu: 0, port: 0 };
//! assert_eq!(to_register(bind_virq(memory.as_mut_bytes())), 0);
//! assert_eq!(memory.port, 5);
//!
//! memory.virq = NR_VIRQS;
//! assert_eq!(to_register(bind_virq(memory.as_mut_bytes())), Errno::EINVAL.to_register());
//! assert_eq!(to_register(bind_virq(&mut [])) as i64, -14);
//! ```
//!
//! # How it is known to be right
//!
//! The test `conformance` compares every number, size and offset with the C headers of Debian's `libxen-dev`,
//! read as the ARM ABI; `ci/abi-conformance/run` does so for each release of Xen whose toolstack is served.
//! An item that the test does not compare is an error. What a later release added says so ("Since Xen ..."),
//! and [`domctl`] and [`sysctl`] name the interface version of each release.
#![no_std]
#![forbid(unsafe_code)]

pub mod arch_arm;
pub mod console;
pub mod domctl;
pub mod domid;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod handle;
pub mod hvm;
pub mod hypercall;
pub mod memory;
pub mod multicall;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod shared_info;
pub mod smccc;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod virq;
pub mod vm_assist;
