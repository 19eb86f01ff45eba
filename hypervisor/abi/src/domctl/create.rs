//! `XEN_DOMCTL_createdomain`: two layouts, for Xen 4.17 and for 4.20.

use crate::domid::DomainHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Runs as a fully virtualised guest. Every ARM guest does.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// Has stage-2 translation by hardware. Every ARM guest has.
pub const XEN_DOMCTL_CDF_HAP: u32 = 1 << 1;
/// x86 only.
pub const XEN_DOMCTL_CDF_S3_INTEGRITY: u32 = 1 << 2;
/// x86 only.
pub const XEN_DOMCTL_CDF_OOS_OFF: u32 = 1 << 3;
/// Runs xenstored.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// May have devices behind an IOMMU.
pub const XEN_DOMCTL_CDF_IOMMU: u32 = 1 << 5;
/// x86 only.
pub const XEN_DOMCTL_CDF_NESTED_VIRT: u32 = 1 << 6;
/// Sees a performance monitoring unit.
pub const XEN_DOMCTL_CDF_VPMU: u32 = 1 << 7;

/// In `iommu_opts`: stage 2 and the IOMMU have tables of their own.
pub const XEN_DOMCTL_IOMMU_NO_SHAREPT: u32 = 1;
/// In `grant_opts`: the highest version of grant table that the domain may use.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xF;

/// Interrupt controller as the host's.
pub const XEN_DOMCTL_CONFIG_GIC_NATIVE: u8 = 0;
/// A GICv2.
pub const XEN_DOMCTL_CONFIG_GIC_V2: u8 = 1;
/// A GICv3.
pub const XEN_DOMCTL_CONFIG_GIC_V3: u8 = 2;
/// No mediator for a trusted execution environment.
pub const XEN_DOMCTL_CONFIG_TEE_NONE: u16 = 0;
/// OP-TEE.
pub const XEN_DOMCTL_CONFIG_TEE_OPTEE: u16 = 1;
/// FF-A. Since Xen 4.20.
pub const XEN_DOMCTL_CONFIG_TEE_FFA: u16 = 2;

/// What is ARM's own in a domain's configuration (`arch-arm.h`). Both releases lay it out alike; 4.17 has
/// padding where `sve_vl` is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenArchDomainconfig {
    /// In and out: one of `XEN_DOMCTL_CONFIG_GIC_*`; the answer is never `NATIVE`.
    pub gic_version: u8,
    /// In: vector length of SVE divided by 128 bits, 0 for none. Since Xen 4.20.
    pub sve_vl: u8,
    /// In: one of `XEN_DOMCTL_CONFIG_TEE_*`.
    pub tee_type: u16,
    /// In: shared peripheral interrupts that the domain's controller has.
    pub nr_spis: u32,
    /// Out: the counter's frequency in hertz where its register cannot be trusted, else 0.
    pub clock_frequency: u32,
}

/// `XEN_DOMCTL_createdomain` of Xen 4.17.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlCreatedomain417 {
    /// In: security label, 0 without XSM.
    pub ssidref: u32,
    /// In: UUID.
    pub handle: DomainHandle,
    /// In: `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// In: `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// In: vCPUs the domain has.
    pub max_vcpus: u32,
    /// In: highest event channel the domain may use.
    pub max_evtchn_port: u32,
    /// In: frames of grant table the domain may have; negative for the hypervisor's own limit.
    pub max_grant_frames: i32,
    /// In: frames of grants the domain may map; negative for the hypervisor's own limit.
    pub max_maptrack_frames: i32,
    /// In: `XEN_DOMCTL_GRANT_VERSION_MASK`.
    pub grant_opts: u32,
    /// In: bytes of trace buffer for each vCPU; x86 only.
    pub vmtrace_size: u32,
    /// In: CPU pool.
    pub cpupool_id: u32,
    /// In and out.
    pub arch: XenArchDomainconfig,
}

/// `XEN_DOMCTL_createdomain` of Xen 4.20: `altp2m_opts` came before `vmtrace_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlCreatedomain420 {
    /// In: security label, 0 without XSM.
    pub ssidref: u32,
    /// In: UUID.
    pub handle: DomainHandle,
    /// In: `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// In: `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// In: vCPUs the domain has.
    pub max_vcpus: u32,
    /// In: highest event channel the domain may use.
    pub max_evtchn_port: u32,
    /// In: frames of grant table the domain may have; negative for the hypervisor's own limit.
    pub max_grant_frames: i32,
    /// In: frames of grants the domain may map; negative for the hypervisor's own limit.
    pub max_maptrack_frames: i32,
    /// In: `XEN_DOMCTL_GRANT_VERSION_MASK`.
    pub grant_opts: u32,
    /// In: alternate views of memory; x86 only.
    pub altp2m_opts: u32,
    /// In: bytes of trace buffer for each vCPU; x86 only.
    pub vmtrace_size: u32,
    /// In: CPU pool.
    pub cpupool_id: u32,
    /// In and out.
    pub arch: XenArchDomainconfig,
}
