//! `vcpu_op`: what a guest asks about one of its vCPUs (`vcpu.h`).
//!
//! `x0` is one of `VCPUOP_*`, `x1` the vCPU's number, `x2` the guest virtual address of the operation's
//! structure.

use crate::handle::XenHandle;
use crate::shared_info::VcpuTimeInfo;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// x86 only: initialise registers. On ARM a vCPU starts through PSCI.
pub const VCPUOP_INITIALISE: u32 = 0;
/// x86 only.
pub const VCPUOP_UP: u32 = 1;
/// x86 only.
pub const VCPUOP_DOWN: u32 = 2;
/// Answers 1 when the vCPU is up.
pub const VCPUOP_IS_UP: u32 = 3;
/// Fills [`VcpuRunstateInfo`].
pub const VCPUOP_GET_RUNSTATE_INFO: u32 = 4;
/// Have a [`VcpuRunstateInfo`] in guest memory kept up to date: [`VcpuRegisterRunstateMemoryArea`].
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// x86 only: [`VcpuSetPeriodicTimer`].
pub const VCPUOP_SET_PERIODIC_TIMER: u32 = 6;
/// x86 only.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;
/// x86 only: [`VcpuSetSingleshotTimer`].
pub const VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8;
/// x86 only.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9;
/// Place this vCPU's [`VcpuInfo`](crate::shared_info::VcpuInfo) in guest memory: [`VcpuRegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;
/// x86 only.
pub const VCPUOP_SEND_NMI: u32 = 11;
/// x86 only: [`VcpuGetPhysid`].
pub const VCPUOP_GET_PHYSID: u32 = 12;
/// Have a time area in guest memory kept up to date: [`VcpuRegisterTimeMemoryArea`].
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
/// As `VCPUOP_register_runstate_memory_area`, the address being intermediate physical. Since Xen 4.19.
pub const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u32 = 14;
/// As `VCPUOP_register_vcpu_time_memory_area`, the address being intermediate physical. Since Xen 4.19.
pub const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u32 = 15;
/// Runs on a physical CPU.
pub const RUNSTATE_RUNNING: u32 = 0;
/// Could run, waits for a physical CPU.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// Idle.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// Not runnable, not idle: paused, offline.
pub const RUNSTATE_OFFLINE: u32 = 3;
/// Refuse a timeout that has passed (`ETIME`).
pub const VCPU_SSHOTTMR_FUTURE: u32 = 1;

/// Bit of `state_entry_time` that is set while the area is being written (with
/// [`crate::vm_assist::VMASST_TYPE_RUNSTATE_UPDATE_FLAG`]).
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

/// What a vCPU did with its time. Times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuRunstateInfo {
    /// One of `RUNSTATE_*`.
    pub state: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// System time at which `state` was entered.
    pub state_entry_time: u64,
    /// Time spent in each state, indexed by `RUNSTATE_*`; their sum follows system time.
    pub time: [u64; 4],
}

/// `VCPUOP_register_runstate_memory_area`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuRegisterRunstateMemoryArea {
    /// Guest virtual address (intermediate physical for the `phys_area` form); null ends it.
    pub addr: XenHandle<VcpuRunstateInfo>,
}

/// `VCPUOP_set_periodic_timer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuSetPeriodicTimer {
    /// Period in nanoseconds.
    pub period_ns: u64,
}

/// `VCPUOP_set_singleshot_timer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuSetSingleshotTimer {
    /// System time in nanoseconds.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_FUTURE` or 0.
    pub flags: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
}

/// `VCPUOP_register_vcpu_info`; once per vCPU. The structure must lie in one page and be 8-byte aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuRegisterVcpuInfo {
    /// Guest frame number of the page.
    pub mfn: u64,
    /// Byte offset in the page.
    pub offset: u32,
    /// Unused.
    pub rsvd: u32,
}

/// `VCPUOP_get_physid`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuGetPhysid {
    /// Out: the physical CPU's identifiers.
    pub phys_id: u64,
}

/// `VCPUOP_register_vcpu_time_memory_area`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuRegisterTimeMemoryArea {
    /// Guest virtual address (intermediate physical for the `phys_area` form); null ends it.
    pub addr: XenHandle<VcpuTimeInfo>,
}
