//! `memory_op`: a domain's memory (`memory.h`).
//!
//! `x0` is one of `XENMEM_*`, `x1` the guest virtual address of its structure. Guest memory is counted in
//! *frames* of 4 KiB of the guest's intermediate physical space (`gfn`, in older names `gpfn` and `gmfn`);
//! frames of the machine are never shown.

use crate::domid::DomId;
use crate::handle::XenHandle;
use crate::physdev::PhysdevPciDevice;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A frame number, 64 bits for both widths of guest (`xen_pfn_t`).
pub type XenPfn = u64;
/// Xen's "unsigned long" in memory, 64 bits for both widths of guest (`xen_ulong_t`).
pub type XenUlong = u64;

/// Allocate frames: [`XenMemoryReservation`].
pub const XENMEM_INCREASE_RESERVATION: u32 = 0;
/// Give frames back: [`XenMemoryReservation`].
pub const XENMEM_DECREASE_RESERVATION: u32 = 1;
/// Answers the largest frame number of the machine's memory. No argument.
pub const XENMEM_MAXIMUM_RAM_PAGE: u32 = 2;
/// Answers a domain's frames: [`XenMemoryDomain`].
pub const XENMEM_CURRENT_RESERVATION: u32 = 3;
/// Answers how many frames a domain may have: [`XenMemoryDomain`].
pub const XENMEM_MAXIMUM_RESERVATION: u32 = 4;
/// x86 only: [`XenMachphysMfnList`].
pub const XENMEM_MACHPHYS_MFN_LIST: u32 = 5;
/// Put memory behind chosen frame numbers: [`XenMemoryReservation`].
pub const XENMEM_POPULATE_PHYSMAP: u32 = 6;
/// Map a special page at a frame number: [`XenAddToPhysmap`].
pub const XENMEM_ADD_TO_PHYSMAP: u32 = 7;
/// The caller's memory map: [`XenMemoryMap`].
pub const XENMEM_MEMORY_MAP: u32 = 9;
/// The machine's memory map: [`XenMemoryMap`].
pub const XENMEM_MACHINE_MEMORY_MAP: u32 = 10;
/// Exchange frames for others: [`XenMemoryExchange`].
pub const XENMEM_EXCHANGE: u32 = 11;
/// x86 only: [`XenMachphysMapping`].
pub const XENMEM_MACHPHYS_MAPPING: u32 = 12;
/// Set a domain's memory map: [`XenForeignMemoryMap`].
pub const XENMEM_SET_MEMORY_MAP: u32 = 13;
/// Answers the largest frame number in use by a domain: [`XenMemoryDomain`].
pub const XENMEM_MAXIMUM_GPFN: u32 = 14;
/// Unmap one frame number: [`XenRemoveFromPhysmap`].
pub const XENMEM_REMOVE_FROM_PHYSMAP: u32 = 15;
/// x86 only: [`XenPodTarget`].
pub const XENMEM_SET_POD_TARGET: u32 = 16;
/// x86 only: [`XenPodTarget`].
pub const XENMEM_GET_POD_TARGET: u32 = 17;
/// Answers frames saved by sharing; 0 on ARM. No argument.
pub const XENMEM_GET_SHARING_FREED_PAGES: u32 = 18;
/// Answers shared frames; 0 on ARM. No argument.
pub const XENMEM_GET_SHARING_SHARED_PAGES: u32 = 19;
/// x86 only.
pub const XENMEM_PAGING_OP: u32 = 20;
/// Access rights of frames for introspection: [`XenMemAccessOp`].
pub const XENMEM_ACCESS_OP: u32 = 21;
/// x86 only.
pub const XENMEM_SHARING_OP: u32 = 22;
/// Map a list of pages: [`XenAddToPhysmapBatch`].
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u32 = 23;
/// Reserve memory for a domain that will be built: [`XenMemoryReservation`].
pub const XENMEM_CLAIM_PAGES: u32 = 24;
/// x86 only: [`XenMachphysMfnList`].
pub const XENMEM_MACHPHYS_COMPAT_MFN_LIST: u32 = 25;
/// The caller's virtual NUMA: [`XenVnumaTopologyInfo`].
pub const XENMEM_GET_VNUMAINFO: u32 = 26;
/// Memory that devices claim: [`XenReservedDeviceMemoryMap`].
pub const XENMEM_RESERVED_DEVICE_MEMORY_MAP: u32 = 27;
/// Map a domain's grant table and the like: [`XenMemAcquireResource`].
pub const XENMEM_ACQUIRE_RESOURCE: u32 = 28;
/// Populate on demand; x86 only.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// From the named NUMA node only.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 1 << 17;
/// The named node is a virtual one.
pub const XENMEMF_VNODE: u32 = 1 << 18;
/// The domain's shared page; `idx` must be 0.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// Frame `idx` of the grant table, or of its status with [`XENMAPIDX_GRANT_TABLE_STATUS`].
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// Another frame of the same domain; x86 only.
pub const XENMAPSPACE_GMFN: u32 = 2;
/// A range of frames; x86 only.
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// A frame of another domain; only in the batch form.
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;
/// A frame of a device's registers, mapped as normal write-back memory.
pub const XENMAPSPACE_DEV_MMIO: u32 = 5;
/// Ask for every region, not for one device's.
pub const XENMEM_RDM_ALL: u32 = 1;

/// In `idx`: the status frames of grant table version 2.
pub const XENMAPIDX_GRANT_TABLE_STATUS: u64 = 0x8000_0000;

/// Pages of an ioreq server.
pub const XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0;
/// Frames of a grant table.
pub const XENMEM_RESOURCE_GRANT_TABLE: u16 = 1;
/// Trace buffer; x86 only.
pub const XENMEM_RESOURCE_VMTRACE_BUF: u16 = 2;

/// `id`: the grant entries.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0;
/// `id`: the status words of version 2.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1;

/// `frame`: the buffered ring.
pub const XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ: u64 = 0;

/// Set the rights of a range.
pub const XENMEM_ACCESS_OP_SET_ACCESS: u8 = 0;
/// Get the rights of one frame.
pub const XENMEM_ACCESS_OP_GET_ACCESS: u8 = 1;
/// Set the rights of a list of frames.
pub const XENMEM_ACCESS_OP_SET_ACCESS_MULTI: u8 = 4;

/// Extents of frames to allocate, free or populate.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemoryReservation {
    /// In: first frame of each extent. Out: what was allocated, where the operation says so.
    pub extent_start: XenHandle<XenPfn>,
    /// How many extents. The answer is how many were done.
    pub nr_extents: XenUlong,
    /// Each extent is `2^extent_order` frames, aligned to its size.
    pub extent_order: u32,
    /// Bits 0 to 7: address bits; 8 to 15: NUMA node + 1; above: `XENMEMF_*`.
    pub mem_flags: u32,
    /// Whose memory; an unprivileged caller must say `DOMID_SELF`.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad: [u8; 6],
}

/// `XENMEM_exchange`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemoryExchange {
    /// Frames to give.
    pub input: XenMemoryReservation,
    /// Frames to get.
    pub output: XenMemoryReservation,
    /// Out: how many input extents were exchanged; 0 on input.
    pub nr_exchanged: XenUlong,
}

/// Argument of the queries about a domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemoryDomain {
    /// Whose memory.
    pub domid: DomId,
}

/// `XENMEM_machphys_mfn_list`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMachphysMfnList {
    /// In: room.
    pub max_extents: u32,
    /// Implicit in C.
    pub _pad0: [u8; 4],
    /// The list.
    pub extent_start: XenHandle<XenPfn>,
    /// Out: entries.
    pub nr_extents: u32,
    /// Implicit in C.
    pub _pad1: [u8; 4],
}

/// `XENMEM_machphys_mapping`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMachphysMapping {
    /// Out.
    pub v_start: XenUlong,
    /// Out.
    pub v_end: XenUlong,
    /// Out.
    pub max_mfn: XenUlong,
}

/// `XENMEM_add_to_physmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenAddToPhysmap {
    /// Whose map to change.
    pub domid: DomId,
    /// Pages, for `XENMAPSPACE_gmfn_range` only.
    pub size: u16,
    /// One of `XENMAPSPACE_*`.
    pub space: u32,
    /// Index in that space.
    pub idx: XenUlong,
    /// Frame number to map at.
    pub gpfn: XenPfn,
}

/// `XENMEM_add_to_physmap_batch`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenAddToPhysmapBatch {
    /// Whose map to change.
    pub domid: DomId,
    /// One of `XENMAPSPACE_*`.
    pub space: u16,
    /// Pages in the lists.
    pub size: u16,
    /// For `XENMAPSPACE_gmfn_foreign` the domain that owns the pages, else 0.
    pub foreign_domid: DomId,
    /// In: index of each page.
    pub idxs: XenHandle<XenUlong>,
    /// In: frame number to map each at.
    pub gpfns: XenHandle<XenPfn>,
    /// Out: 0 or a negative errno for each.
    pub errs: XenHandle<i32>,
}

/// `XENMEM_remove_from_physmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenRemoveFromPhysmap {
    /// Whose map to change.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad: [u8; 6],
    /// Frame number to unmap.
    pub gpfn: XenPfn,
}

/// `XENMEM_memory_map`, `XENMEM_machine_memory_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemoryMap {
    /// In: room in entries. Out: entries.
    pub nr_entries: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// Entries of the E820 form.
    pub buffer: XenHandle<u8>,
}

/// `XENMEM_set_memory_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenForeignMemoryMap {
    /// Whose map.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad: [u8; 6],
    /// The map.
    pub map: XenMemoryMap,
}

/// `XENMEM_set_pod_target`, `XENMEM_get_pod_target`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenPodTarget {
    /// In.
    pub target_pages: u64,
    /// Out.
    pub tot_pages: u64,
    /// Out.
    pub pod_cache_pages: u64,
    /// Out.
    pub pod_entries: u64,
    /// In.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad: [u8; 6],
}

/// `XENMEM_access_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemAccessOp {
    /// One of `XENMEM_ACCESS_OP_*`.
    pub op: u8,
    /// The rights (`xenmem_access_t`, whose last values differ between releases).
    pub access: u8,
    /// Whose frames.
    pub domid: DomId,
    /// How many.
    pub nr: u32,
    /// First frame, or all ones for the domain's default.
    pub pfn: u64,
    /// Frames of the `multi` form.
    pub pfn_list: XenHandle<u64>,
    /// Rights of the `multi` form.
    pub access_list: XenHandle<u8>,
}

/// One region of [`XenReservedDeviceMemoryMap`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenReservedDeviceMemory {
    /// First frame.
    pub start_pfn: XenPfn,
    /// How many.
    pub nr_pages: XenUlong,
}

/// `XENMEM_reserved_device_memory_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenReservedDeviceMemoryMap {
    /// `XENMEM_RDM_ALL` or 0.
    pub flags: u32,
    /// In: room. Out: entries, or with `ERANGE` the entries needed.
    pub nr_entries: u32,
    /// The regions.
    pub buffer: XenHandle<XenReservedDeviceMemory>,
    /// The device, unless all are asked for.
    pub pci: PhysdevPciDevice,
    /// Implicit in C.
    pub _pad: [u8; 4],
}

/// `XENMEM_acquire_resource`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenMemAcquireResource {
    /// Whose resource.
    pub domid: DomId,
    /// One of `XENMEM_RESOURCE_*`.
    pub kind: u16,
    /// Which of that kind.
    pub id: u32,
    /// In: frames to map. With a null `frame_list` and 0 frames: out, how many there are.
    pub nr_frames: u32,
    /// Must be 0.
    pub pad: u32,
    /// First frame of the resource.
    pub frame: u64,
    /// In: frame numbers to map them at.
    pub frame_list: XenHandle<XenPfn>,
}

/// A range of memory of a virtual NUMA node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenVmemrange {
    /// First byte, intermediate physical.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Must be 0.
    pub flags: u32,
    /// The virtual node.
    pub nid: u32,
}

/// `XENMEM_get_vnumainfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenVnumaTopologyInfo {
    /// Whose.
    pub domid: DomId,
    /// Unused.
    pub pad: u16,
    /// In: room. Out: nodes.
    pub nr_vnodes: u32,
    /// In: room. Out: vCPUs.
    pub nr_vcpus: u32,
    /// In: room. Out: ranges.
    pub nr_vmemranges: u32,
    /// Out: distances, nodes by nodes.
    pub vdistance: XenHandle<u32>,
    /// Out: node of each vCPU.
    pub vcpu_to_vnode: XenHandle<u32>,
    /// Out: ranges.
    pub vmemrange: XenHandle<XenVmemrange>,
}
