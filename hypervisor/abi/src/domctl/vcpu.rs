//! What is asked and set of one vCPU.

use super::bitmap::XenctlBitmap;
use crate::arch_arm::VcpuGuestContext;
use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The CPUs that the vCPU may run on.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// The CPUs on which it would best run.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// End what `SCHEDOP_pin_override` did.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;

/// `XEN_DOMCTL_setvcpucontext`, `XEN_DOMCTL_getvcpucontext`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlVcpucontext {
    /// In: which.
    pub vcpu: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// Its registers.
    pub ctxt: XenHandle<VcpuGuestContext>,
}

/// `XEN_DOMCTL_getvcpuinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlGetvcpuinfo {
    /// In: which.
    pub vcpu: u32,
    /// Out: 1 if switched on.
    pub online: u8,
    /// Out: 1 if it waits.
    pub blocked: u8,
    /// Out: 1 if it runs.
    pub running: u8,
    /// Implicit in C.
    pub _pad: [u8; 1],
    /// Out: nanoseconds that it ran.
    pub cpu_time: u64,
    /// Out: CPU that it runs on, or ran on last.
    pub cpu: u32,
    /// Implicit in C.
    pub _pad2: [u8; 4],
}

/// `XEN_DOMCTL_setvcpuaffinity`, `XEN_DOMCTL_getvcpuaffinity`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlVcpuaffinity {
    /// In: which.
    pub vcpu: u32,
    /// In: `XEN_VCPUAFFINITY_*`.
    pub flags: u32,
    /// In and out: what was set; after a set, what of it is effective.
    pub cpumap_hard: XenctlBitmap,
    /// As `cpumap_hard`.
    pub cpumap_soft: XenctlBitmap,
}

/// `XEN_DOMCTL_setnodeaffinity`, `XEN_DOMCTL_getnodeaffinity`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlNodeaffinity {
    /// In or out: NUMA nodes.
    pub nodemap: XenctlBitmap,
}
