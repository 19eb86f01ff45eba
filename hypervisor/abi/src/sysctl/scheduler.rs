//! Schedulers and CPU pools.

use crate::domctl::XenctlBitmap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_SYSCTL_sched_id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlSchedId {
    /// Out: one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
}

/// Make a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_CREATE: u32 = 1;
/// End a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_DESTROY: u32 = 2;
/// Query the first pool from a number on.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// Add a CPU to a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_ADDCPU: u32 = 4;
/// Take a CPU out of a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_RMCPU: u32 = 5;
/// Move a domain into a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN: u32 = 6;
/// Query the CPUs that are in no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// Any pool, any CPU.
pub const XEN_SYSCTL_CPUPOOL_PAR_ANY: u32 = 0xFFFF_FFFF;

/// `XEN_SYSCTL_cpupool_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCpupoolOp {
    /// In: one of `XEN_SYSCTL_CPUPOOL_OP_*`.
    pub op: u32,
    /// In: pool; out: of a new or queried one.
    pub cpupool_id: u32,
    /// In or out: one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// In: domain to move.
    pub domid: u32,
    /// In: CPU.
    pub cpu: u32,
    /// Out: domains in the pool.
    pub n_dom: u32,
    /// Out: CPUs.
    pub cpumap: XenctlBitmap,
}

/// Longest time between two switches, in microseconds.
pub const XEN_SYSCTL_SCHED_RATELIMIT_MAX: u32 = 500_000;
/// Shortest time between two switches, in microseconds, but for 0, which is none.
pub const XEN_SYSCTL_SCHED_RATELIMIT_MIN: u32 = 100;
/// Longest time slice of credit, in milliseconds.
pub const XEN_SYSCTL_CSCHED_TSLICE_MAX: u32 = 1000;
/// Shortest time slice of credit, in milliseconds.
pub const XEN_SYSCTL_CSCHED_TSLICE_MIN: u32 = 1;
/// Longest time for which caches are held to be warm, in microseconds.
pub const XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US: u32 = 100_000;

/// Credit's parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCreditSchedule {
    /// Time slice in milliseconds.
    pub tslice_ms: u32,
    /// Shortest time between two switches, in microseconds.
    pub ratelimit_us: u32,
    /// How long a vCPU's caches are held to be warm, in microseconds.
    pub vcpu_migr_delay_us: u32,
}

/// Credit 2's parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCredit2Schedule {
    /// Shortest time between two switches, in microseconds.
    pub ratelimit_us: u32,
}

/// Set.
pub const XEN_SYSCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Get.
pub const XEN_SYSCTL_SCHEDOP_GETINFO: u32 = 1;

/// `XEN_SYSCTL_scheduler_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlSchedulerOp {
    /// In: pool.
    pub cpupool_id: u32,
    /// In: the scheduler that the caller means, one of `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// In: one of `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In or out: the scheduler's structure, in the first bytes.
    pub u: [u64; 2],
}
