//! What is asked and set of a whole domain.

use super::create::XenArchDomainconfig;
use crate::domid::{DomId, DomainHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Destroyed, and only waiting for its last pages to be given back.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// Fully virtualised.
pub const XEN_DOMINF_HVM_GUEST: u32 = 1 << 1;
/// Shut down by itself.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// Paused by a toolstack.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// All its vCPUs wait.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// A vCPU of it runs.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// Being debugged.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// Runs xenstored.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Has stage-2 translation by hardware.
pub const XEN_DOMINF_HAP: u32 = 1 << 8;
/// The reason of `XEN_DOMINF_SHUTDOWN` (`SHUTDOWN_*`), once shifted down.
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;
/// Where it lies.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// In `max_vcpu_id`: the domain has no vCPU.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = !0;

/// `XEN_DOMCTL_getdomaininfo`, and each element of `XEN_SYSCTL_getdomaininfolist`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlGetdomaininfo {
    /// Out: whose.
    pub domain: DomId,
    /// Unused.
    pub pad1: u16,
    /// Out: `XEN_DOMINF_*`.
    pub flags: u32,
    /// Out: pages it has.
    pub tot_pages: u64,
    /// Out: pages it may have.
    pub max_pages: u64,
    /// Out: pages claimed and not allocated yet.
    pub outstanding_pages: u64,
    /// Out: pages shared copy-on-write; x86 only.
    pub shr_pages: u64,
    /// Out: pages paged out; x86 only.
    pub paged_pages: u64,
    /// Out: guest frame of its shared_info, all ones where it has not mapped it.
    pub shared_info_frame: u64,
    /// Out: nanoseconds that its vCPUs ran.
    pub cpu_time: u64,
    /// Out: vCPUs that are switched on.
    pub nr_online_vcpus: u32,
    /// Out: highest number of a vCPU.
    pub max_vcpu_id: u32,
    /// Out: security label.
    pub ssidref: u32,
    /// Out: UUID.
    pub handle: DomainHandle,
    /// Out: CPU pool.
    pub cpupool: u32,
    /// Out: bits of an intermediate physical address.
    pub gpaddr_bits: u8,
    /// Unused.
    pub pad2: [u8; 7],
    /// Out.
    pub arch_config: XenArchDomainconfig,
    /// Implicit in C.
    pub _pad: [u8; 4],
}

/// `XEN_DOMCTL_max_mem`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlMaxMem {
    /// In: KiB.
    pub max_memkb: u64,
}

/// `XEN_DOMCTL_max_vcpus`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlMaxVcpus {
    /// In: the number that the domain was created with.
    pub max: u32,
}

/// `XEN_DOMCTL_setdomainhandle`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetdomainhandle {
    /// In: UUID.
    pub handle: DomainHandle,
}

/// `XEN_DOMCTL_setdebugging`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetdebugging {
    /// In: not 0 for yes.
    pub enable: u8,
}

/// `XEN_DOMCTL_settimeoffset`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSettimeoffset {
    /// In: seconds that the domain's wall clock is ahead of the host's.
    pub time_offset_seconds: i64,
}

/// `XEN_DOMCTL_set_address_size`, `XEN_DOMCTL_get_address_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlAddressSize {
    /// In or out: 32 or 64.
    pub size: u32,
}

/// `XEN_DOMCTL_SENDTRIGGER_*`: interrupt that cannot be masked.
pub const XEN_DOMCTL_SENDTRIGGER_NMI: u32 = 0;
/// Reset.
pub const XEN_DOMCTL_SENDTRIGGER_RESET: u32 = 1;
/// INIT.
pub const XEN_DOMCTL_SENDTRIGGER_INIT: u32 = 2;
/// The power button.
pub const XEN_DOMCTL_SENDTRIGGER_POWER: u32 = 3;
/// The sleep button.
pub const XEN_DOMCTL_SENDTRIGGER_SLEEP: u32 = 4;

/// `XEN_DOMCTL_sendtrigger`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSendtrigger {
    /// In: one of `XEN_DOMCTL_SENDTRIGGER_*`.
    pub trigger: u32,
    /// In: whose.
    pub vcpu: u32,
}

/// `XEN_DOMCTL_set_target`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetTarget {
    /// In: the domain for which the other acts.
    pub target: DomId,
}

/// `XEN_DOMCTL_subscribe`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSubscribe {
    /// In: the domain's own port that an event is sent to when it suspends; 0 for none.
    pub port: u32,
}

/// `XEN_DOMCTL_set_virq_handler`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetVirqHandler {
    /// In: a global `VIRQ_*`.
    pub virq: u32,
}

/// `XEN_DOMCTL_set_access_required`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetAccessRequired {
    /// In: not 0 for yes.
    pub access_required: u8,
}
