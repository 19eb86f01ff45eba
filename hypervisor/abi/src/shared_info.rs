//! The page that a domain shares with the hypervisor, and the per-vCPU part of it (`xen.h`, `arch-arm.h`).
//!
//! A guest maps the page by [`XENMEM_ADD_TO_PHYSMAP`](crate::memory::XENMEM_ADD_TO_PHYSMAP) of
//! [`XENMAPSPACE_SHARED_INFO`](crate::memory::XENMAPSPACE_SHARED_INFO), and moves each `vcpu_info` (that of
//! vCPU 0 too) into its own memory by [`VCPUOP_REGISTER_VCPU_INFO`](crate::vcpu::VCPUOP_REGISTER_VCPU_INFO).
//! Both sides write these words at the same time, so the hypervisor reaches them by atomic accesses at the
//! offsets below rather than by copying the structures.

use crate::memory::XenUlong;
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System time of a vCPU; on ARM guests read the generic timer, and these fields stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuTimeInfo {
    /// Odd while the fields are being written; guests read again when it changed.
    pub version: u32,
    /// Unused.
    pub pad0: u32,
    /// Counter at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at the last update.
    pub system_time: u64,
    /// Nanoseconds per tick as a 32.32 fraction, after shifting.
    pub tsc_to_system_mul: u32,
    /// Shift of a tick difference before multiplying; to the right when negative.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`.
    pub flags: u8,
    /// Unused.
    pub pad1: [u8; 2],
}

/// Per-vCPU state of event delivery.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuInfo {
    /// Set non-zero by the hypervisor when an event is pending; cleared by the guest before it looks for
    /// events.
    pub evtchn_upcall_pending: u8,
    /// Where x86 has the upcall mask; on ARM the interrupt controller masks.
    pub pad0: u8,
    /// Implicit in C.
    pub _pad: [u8; 6],
    /// 2-level: bit `n` set when word `n` of `evtchn_pending` holds an unmasked event.
    pub evtchn_pending_sel: XenUlong,
    /// System time.
    pub time: VcpuTimeInfo,
}

/// The shared page's contents. It fits one page; the rest of the page is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SharedInfo {
    /// Only vCPU 0 has one here ([`XEN_LEGACY_MAX_VCPUS`]).
    pub vcpu_info: [VcpuInfo; 1],
    /// 2-level: bit `p % 64` of word `p / 64` set when port `p` is pending.
    pub evtchn_pending: [XenUlong; 64],
    /// 2-level: the same for masked ports; only the guest writes it.
    pub evtchn_mask: [XenUlong; 64],
    /// Odd while the wall-clock fields are being written.
    pub wc_version: u32,
    /// Wall clock at system time 0: seconds since 1970, low 32 bits.
    pub wc_sec: u32,
    /// Nanoseconds.
    pub wc_nsec: u32,
    /// Seconds, high 32 bits.
    pub wc_sec_hi: u32,
}

/// vCPUs with a `vcpu_info` in the shared page.
pub const XEN_LEGACY_MAX_VCPUS: usize = 1;

/// The counters of all CPUs agree.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1;
/// The guest was stopped by its host.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

/// Bytes of [`VcpuInfo`]; a registered one must lie in one page.
pub const VCPU_INFO_SIZE: usize = size_of::<VcpuInfo>();
/// Byte offset of `evtchn_upcall_pending` in [`VcpuInfo`].
pub const VCPU_INFO_UPCALL_PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
/// Byte offset of `evtchn_pending_sel` in [`VcpuInfo`].
pub const VCPU_INFO_PENDING_SEL: usize = offset_of!(VcpuInfo, evtchn_pending_sel);
/// Byte offset of `vcpu_info[0]` in [`SharedInfo`].
pub const SHARED_INFO_VCPU_INFO: usize = offset_of!(SharedInfo, vcpu_info);
/// Byte offset of `evtchn_pending` in [`SharedInfo`].
pub const SHARED_INFO_EVTCHN_PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
/// Byte offset of `evtchn_mask` in [`SharedInfo`].
pub const SHARED_INFO_EVTCHN_MASK: usize = offset_of!(SharedInfo, evtchn_mask);
/// Byte offset of `wc_version` in [`SharedInfo`].
pub const SHARED_INFO_WC_VERSION: usize = offset_of!(SharedInfo, wc_version);
/// Byte offset of `wc_sec` in [`SharedInfo`].
pub const SHARED_INFO_WC_SEC: usize = offset_of!(SharedInfo, wc_sec);
/// Byte offset of `wc_nsec` in [`SharedInfo`].
pub const SHARED_INFO_WC_NSEC: usize = offset_of!(SharedInfo, wc_nsec);
/// Byte offset of `wc_sec_hi` in [`SharedInfo`].
pub const SHARED_INFO_WC_SEC_HI: usize = offset_of!(SharedInfo, wc_sec_hi);
