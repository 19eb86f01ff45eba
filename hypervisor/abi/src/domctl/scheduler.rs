//! `XEN_DOMCTL_scheduler_op`: what a scheduler knows of a domain. Every scheduler has its own structure, at the
//! same place.

use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Credit.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Credit 2.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// ARINC 653.
pub const XEN_SCHEDULER_ARINC653: u32 = 7;
/// Real time, deferrable server.
pub const XEN_SCHEDULER_RTDS: u32 = 8;
/// One vCPU for each CPU.
pub const XEN_SCHEDULER_NULL: u32 = 9;

/// Set for the domain.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Get for the domain.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;
/// Set for some vCPUs.
pub const XEN_DOMCTL_SCHEDOP_PUTVCPUINFO: u32 = 2;
/// Get for some vCPUs.
pub const XEN_DOMCTL_SCHEDOP_GETVCPUINFO: u32 = 3;

/// In [`XenDomctlSchedRtds::flags`]: may run beyond its budget.
pub const XEN_DOMCTL_SCHEDRT_EXTRA: u32 = 1;

/// Credit's parameters of a domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedCredit {
    /// Share relative to others', 256 by default.
    pub weight: u16,
    /// Per cent of a CPU that it may have, 0 for no limit.
    pub cap: u16,
}

/// Credit 2's parameters of a domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedCredit2 {
    /// Share relative to others', 256 by default.
    pub weight: u16,
    /// Per cent of a CPU that it may have, 0 for no limit.
    pub cap: u16,
}

/// The real-time scheduler's parameters of a vCPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedRtds {
    /// Microseconds.
    pub period: u32,
    /// Microseconds in each period.
    pub budget: u32,
    /// `XEN_DOMCTL_SCHEDRT_*`.
    pub flags: u32,
}

/// A vCPU's parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedparamVcpu {
    /// In or out; credit's and credit 2's lie in its first bytes.
    pub rtds: XenDomctlSchedRtds,
    /// In: which.
    pub vcpuid: u32,
}

/// `XEN_DOMCTL_scheduler_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedulerOp {
    /// In: the scheduler that the caller means, one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// In: one of `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// In or out: the scheduler's structure in the first bytes, or for single vCPUs the handle of a list of
    /// [`XenDomctlSchedparamVcpu`], their number (32 bits) and padding.
    pub u: [u64; 2],
}

/// [`XenDomctlSchedulerOp::u`] for single vCPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSchedVcpus {
    /// The list.
    pub vcpus: XenHandle<XenDomctlSchedparamVcpu>,
    /// In: length of the list; out: how many were done.
    pub nr_vcpus: u32,
    /// Unused.
    pub padding: u32,
}
