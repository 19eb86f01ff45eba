//! CPUs, memory and nodes of the host.

use crate::handle::XenHandle;
use crate::physdev::PhysdevPciDevice;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Fully virtualised guests can run.
pub const XEN_SYSCTL_PHYSCAP_HVM: u32 = 1 << 0;
/// Paravirtualised guests can run; x86 only.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// Devices can be passed through behind an IOMMU.
pub const XEN_SYSCTL_PHYSCAP_DIRECTIO: u32 = 1 << 2;
/// The hardware translates guests' physical addresses.
pub const XEN_SYSCTL_PHYSCAP_HAP: u32 = 1 << 3;
/// x86 only.
pub const XEN_SYSCTL_PHYSCAP_SHADOW: u32 = 1 << 4;
/// Stage 2 and the IOMMU share tables.
pub const XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE: u32 = 1 << 5;
/// x86 only.
pub const XEN_SYSCTL_PHYSCAP_VMTRACE: u32 = 1 << 6;
/// Guests can have a performance monitoring unit.
pub const XEN_SYSCTL_PHYSCAP_VPMU: u32 = 1 << 7;
/// Version 1 of grant tables.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;
/// Version 2 of grant tables.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V2: u32 = 1 << 9;
/// In `arch_capabilities`: the longest vector of SVE for guests, divided by 128 bits. Since Xen 4.20.
pub const XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK: u32 = 0x1F;

/// `XEN_SYSCTL_physinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlPhysinfo {
    /// Out: threads of a core.
    pub threads_per_core: u32,
    /// Out: cores of a socket.
    pub cores_per_socket: u32,
    /// Out: CPUs that are online.
    pub nr_cpus: u32,
    /// Out: the highest number that a CPU can have.
    pub max_cpu_id: u32,
    /// Out: NUMA nodes that are online.
    pub nr_nodes: u32,
    /// Out: the highest number that a node can have.
    pub max_node_id: u32,
    /// Out: kHz of the system counter.
    pub cpu_khz: u32,
    /// Out: `XEN_SYSCTL_PHYSCAP_*`.
    pub capabilities: u32,
    /// Out: `XEN_SYSCTL_PHYSCAP_ARM_*`.
    pub arch_capabilities: u32,
    /// Unused.
    pub pad: u32,
    /// Out: pages of RAM.
    pub total_pages: u64,
    /// Out: free pages.
    pub free_pages: u64,
    /// Out: pages that are free but not clean yet.
    pub scrub_pages: u64,
    /// Out: pages claimed and not allocated yet.
    pub outstanding_pages: u64,
    /// Out: the highest frame number.
    pub max_mfn: u64,
    /// Out: x86 only.
    pub hw_cap: [u32; 8],
}

/// An element of `XEN_SYSCTL_getcpuinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCpuinfo {
    /// Out: nanoseconds in which the CPU had nothing to do.
    pub idletime: u64,
}

/// `XEN_SYSCTL_getcpuinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlGetcpuinfo {
    /// In: length of the list.
    pub max_cpus: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In: where it goes.
    pub info: XenHandle<XenSysctlCpuinfo>,
    /// Out: how many there were.
    pub nr_cpus: u32,
    /// Implicit in C.
    pub _pad2: [u8; 4],
}

/// `XEN_SYSCTL_availheap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlAvailheap {
    /// In: memory whose addresses have at least so many bits; 0 for all.
    pub min_bitwidth: u32,
    /// In: memory whose addresses have at most so many bits; 0 for all.
    pub max_bitwidth: u32,
    /// In: node, or -1 for all.
    pub node: i32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// Out: bytes free.
    pub avail_bytes: u64,
}

/// Bring a CPU up.
pub const XEN_SYSCTL_CPU_HOTPLUG_ONLINE: u32 = 0;
/// Take a CPU down.
pub const XEN_SYSCTL_CPU_HOTPLUG_OFFLINE: u32 = 1;
/// x86 only.
pub const XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE: u32 = 2;
/// x86 only.
pub const XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE: u32 = 3;

/// `XEN_SYSCTL_cpu_hotplug`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCpuHotplug {
    /// In: CPU.
    pub cpu: u32,
    /// In: one of `XEN_SYSCTL_CPU_HOTPLUG_*`.
    pub op: u32,
}

/// Not known.
pub const XEN_INVALID_CORE_ID: u32 = !0;
/// Not known.
pub const XEN_INVALID_SOCKET_ID: u32 = !0;
/// Not known.
pub const XEN_INVALID_NODE_ID: u32 = !0;

/// An element of `XEN_SYSCTL_cputopoinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCputopo {
    /// Out: core in the socket.
    pub core: u32,
    /// Out: socket.
    pub socket: u32,
    /// Out: NUMA node.
    pub node: u32,
}

/// `XEN_SYSCTL_cputopoinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlCputopoinfo {
    /// In: length of the list; out: how many were written, or with a null handle how many there are.
    pub num_cpus: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In: where it goes.
    pub cputopo: XenHandle<XenSysctlCputopo>,
}

/// Not known.
pub const XEN_INVALID_MEM_SZ: u32 = !0;
/// Not known.
pub const XEN_INVALID_NODE_DIST: u32 = !0;

/// An element of `XEN_SYSCTL_numainfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlMeminfo {
    /// Out: bytes.
    pub memsize: u64,
    /// Out: bytes free.
    pub memfree: u64,
}

/// `XEN_SYSCTL_numainfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlNumainfo {
    /// In: length of the list; out: how many were written, or with null handles how many there are.
    pub num_nodes: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In: where it goes, or null.
    pub meminfo: XenHandle<XenSysctlMeminfo>,
    /// In: where distances go, by rows, or null.
    pub distance: XenHandle<u32>,
}

/// The hypervisor does not know the device.
pub const XEN_INVALID_DEV: u32 = XEN_INVALID_NODE_ID - 1;

/// `XEN_SYSCTL_pcitopoinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlPcitopoinfo {
    /// In: length of both lists; out: how many were done.
    pub num_devs: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In: devices.
    pub devs: XenHandle<PhysdevPciDevice>,
    /// Out: the node of each, `XEN_INVALID_NODE_ID` or `XEN_INVALID_DEV`.
    pub nodes: XenHandle<u32>,
}
