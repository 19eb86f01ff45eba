//! `sysctl`: the toolstack's control of the whole machine (`sysctl.h`): command numbers, versions, head of
//! the argument, and the commands' structures.
//!
//! `x0` is the guest virtual address of a [`XenSysctl`]. Layouts of the commands belong to an interface
//! version; a call of a version that is not served gets [`Errno::EACCES`](crate::errno::Errno::EACCES).
//! Xen 4.17 and 4.20 have the same version, and of the commands that ARM has the same layouts. What changed
//! under that one number is CPU frequency scaling's, which no ARM build of either has.

mod console;
mod domains;
mod machine;
mod scheduler;

pub use console::*;
pub use domains::*;
pub use machine::*;
pub use scheduler::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The interface version of Xen 4.17.
pub const XEN_SYSCTL_INTERFACE_VERSION_4_17: u32 = 0x15;
/// The interface version of Xen 4.20.
pub const XEN_SYSCTL_INTERFACE_VERSION_4_20: u32 = 0x15;

/// Read the console ring.
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;
/// Trace buffers.
pub const XEN_SYSCTL_TBUF_OP: u32 = 2;
/// Facts about the machine.
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// The default scheduler.
pub const XEN_SYSCTL_SCHED_ID: u32 = 4;
/// Performance counters.
pub const XEN_SYSCTL_PERFC_OP: u32 = 5;
/// State of a range of domains.
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// Act as if keys were typed on the hypervisor's console.
pub const XEN_SYSCTL_DEBUG_KEYS: u32 = 7;
/// Idle time of each CPU.
pub const XEN_SYSCTL_GETCPUINFO: u32 = 8;
/// Free memory in an address range.
pub const XEN_SYSCTL_AVAILHEAP: u32 = 9;
/// CPU power statistics.
pub const XEN_SYSCTL_GET_PMSTAT: u32 = 10;
/// Bring CPUs up and down.
pub const XEN_SYSCTL_CPU_HOTPLUG: u32 = 11;
/// CPU power policy.
pub const XEN_SYSCTL_PM_OP: u32 = 12;
/// x86 only.
pub const XEN_SYSCTL_PAGE_OFFLINE_OP: u32 = 14;
/// Lock profile.
pub const XEN_SYSCTL_LOCKPROF_OP: u32 = 15;
/// Cores, sockets and nodes of CPUs.
pub const XEN_SYSCTL_CPUTOPOINFO: u32 = 16;
/// NUMA nodes.
pub const XEN_SYSCTL_NUMAINFO: u32 = 17;
/// CPU pools.
pub const XEN_SYSCTL_CPUPOOL_OP: u32 = 18;
/// A scheduler's parameters.
pub const XEN_SYSCTL_SCHEDULER_OP: u32 = 19;
/// Code coverage.
pub const XEN_SYSCTL_COVERAGE_OP: u32 = 20;
/// x86 only.
pub const XEN_SYSCTL_PSR_CMT_OP: u32 = 21;
/// NUMA nodes of PCI devices.
pub const XEN_SYSCTL_PCITOPOINFO: u32 = 22;
/// x86 only.
pub const XEN_SYSCTL_PSR_ALLOC: u32 = 23;
/// x86 only.
pub const XEN_SYSCTL_GET_CPU_LEVELLING_CAPS: u32 = 25;
/// x86 only.
pub const XEN_SYSCTL_GET_CPU_FEATURESET: u32 = 26;
/// Live patches.
pub const XEN_SYSCTL_LIVEPATCH_OP: u32 = 27;
/// x86 only.
pub const XEN_SYSCTL_GET_CPU_POLICY: u32 = 29;
/// Add or remove a device-tree overlay of the host. Since Xen 4.20.
pub const XEN_SYSCTL_DT_OVERLAY: u32 = 30;

/// The argument of `sysctl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctl {
    /// One of `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// Version of the layouts that the caller uses.
    pub interface_version: u32,
    /// The command's structure, at the start of these bytes; some commands answer here.
    pub u: [u64; 16],
}
