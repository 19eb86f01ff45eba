//! Grant tables: sharing pages between domains (`grant_table.h`).
//!
//! `x0` is one of `GNTTABOP_*`, `x1` the guest virtual address of an array of the operation's structure, `x2`
//! its length. The hypercall fails as a whole only when the array cannot be read or written; each element has
//! its own `status` (`GNTST_*`).

use crate::domid::DomId;
use crate::handle::XenHandle;
use crate::memory::XenPfn;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Index of an entry in a grant table (`grant_ref_t`).
pub type GrantRef = u32;
/// The mapping domain's number of a mapping (`grant_handle_t`).
pub type GrantHandle = u32;
/// Status word of an entry of version 2 (`grant_status_t`): `GTF_reading` and `GTF_writing`.
pub type GrantStatus = u16;

/// Map a granted page: [`GnttabMapGrantRef`].
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// Unmap one: [`GnttabUnmapGrantRef`].
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// Set the table's size and list its frames: [`GnttabSetupTable`].
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// Print the table on the console: [`GnttabDumpTable`].
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// Give a page away: [`GnttabTransfer`].
pub const GNTTABOP_TRANSFER: u32 = 4;
/// Copy between granted pages: [`GnttabCopy`].
pub const GNTTABOP_COPY: u32 = 5;
/// Present and largest size: [`GnttabQuerySize`].
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// Unmap and put another page there: [`GnttabUnmapAndReplace`].
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// Choose version 1 or 2: [`GnttabSetVersion`].
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// List the status frames of version 2: [`GnttabGetStatusFrames`].
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// Query the version: [`GnttabGetVersion`].
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// Exchange two entries: [`GnttabSwapGrantRef`].
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// Clean or invalidate caches over a foreign page: [`GnttabCacheFlush`].
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;

/// The first entries keep their content over a change of version.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Entry of the console ring, filled by the domain's builder.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// Entry of the xenstore ring, filled by the domain's builder.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// Entry grants nothing.
pub const GTF_INVALID: u16 = 0;
/// Entry lets `domid` map and copy the frame.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Entry lets `domid` transfer a page here.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Version 2: entry grants another domain's grant.
pub const GTF_TRANSITIVE: u16 = 3;
/// The type's bits.
pub const GTF_TYPE_MASK: u16 = 3;
/// Only reading is permitted.
pub const GTF_READONLY: u16 = 1 << 2;
/// Set by the hypervisor while mapped or copied from.
pub const GTF_READING: u16 = 1 << 3;
/// Set by the hypervisor while mapped writable or copied to.
pub const GTF_WRITING: u16 = 1 << 4;
/// Cache attribute; x86 only.
pub const GTF_PWT: u16 = 1 << 5;
/// Cache attribute; x86 only.
pub const GTF_PCD: u16 = 1 << 6;
/// Cache attribute; x86 only.
pub const GTF_PAT: u16 = 1 << 7;
/// Version 2: only a part of the page is granted.
pub const GTF_SUB_PAGE: u16 = 1 << 8;
/// Transfer entry: a transfer has begun.
pub const GTF_TRANSFER_COMMITTED: u16 = 1 << 2;
/// Transfer entry: `frame` is valid.
pub const GTF_TRANSFER_COMPLETED: u16 = 1 << 3;
/// `source` names a grant, not a frame.
pub const GNTCOPY_SOURCE_GREF: u16 = 1;
/// `dest` names a grant, not a frame.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// Map for devices: the IOMMU, or the address as the bus sees it.
pub const GNTMAP_DEVICE_MAP: u32 = 1;
/// Map for CPUs, at `host_addr`.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map read-only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// Also for the present user space; x86 only.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `host_addr` is a page-table entry's; x86 only.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;
/// Software bits of the page-table entry.
pub const GNTMAP_GUEST_AVAIL_MASK: u32 = 0xFFFF_0000;
/// Clean.
pub const GNTTAB_CACHE_CLEAN: u32 = 1;
/// Invalidate.
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// The page is named by grant, not by bus address.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Done.
pub const GNTST_OKAY: i16 = 0;
/// No better word for it.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// No such domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// No such grant, or not one for this.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// No such mapping.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Cannot map at that address.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Wrong bus address.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// The IOMMU is full.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// The caller may not.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// The page is not fit for it.
pub const GNTST_BAD_PAGE: i16 = -9;
/// The copy leaves the page.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// The page's address is too large for the receiver.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Not now; try again.
pub const GNTST_EAGAIN: i16 = -12;
/// Out of handles or the like.
pub const GNTST_NO_SPACE: i16 = -13;

/// Entry of version 1, in a frame that guest and hypervisor share; `flags` changes atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GrantEntryV1 {
    /// `GTF_*`.
    pub flags: u16,
    /// To whom it is granted.
    pub domid: DomId,
    /// The granted frame number.
    pub frame: u32,
}

/// Head of an entry of version 2.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GrantEntryHeader {
    /// `GTF_*`.
    pub flags: u16,
    /// To whom it is granted.
    pub domid: DomId,
}

/// Entry of version 2 of a whole page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GrantEntryV2FullPage {
    /// The head.
    pub hdr: GrantEntryHeader,
    /// Unused.
    pub pad0: u32,
    /// The granted frame number.
    pub frame: u64,
}

/// Entry of version 2 of a part of a page ([`GTF_SUB_PAGE`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GrantEntryV2SubPage {
    /// The head.
    pub hdr: GrantEntryHeader,
    /// First byte in the page.
    pub page_off: u16,
    /// How many bytes.
    pub length: u16,
    /// The granted frame number.
    pub frame: u64,
}

/// Entry of version 2 of another domain's grant ([`GTF_TRANSITIVE`]).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GrantEntryV2Transitive {
    /// The head.
    pub hdr: GrantEntryHeader,
    /// The other domain.
    pub trans_domid: DomId,
    /// Unused.
    pub pad0: u16,
    /// Its entry.
    pub gref: GrantRef,
    /// The union's end.
    pub _pad: [u8; 4],
}

/// `GNTTABOP_map_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabMapGrantRef {
    /// In: on ARM the intermediate physical address to map at, page-aligned.
    pub host_addr: u64,
    /// In: `GNTMAP_*`.
    pub flags: u32,
    /// In: the granter's entry.
    pub gref: GrantRef,
    /// In: the granter.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: number of the mapping.
    pub handle: GrantHandle,
    /// Out: address of the page on the bus.
    pub dev_bus_addr: u64,
}

/// `GNTTABOP_unmap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabUnmapGrantRef {
    /// In: where it was mapped for CPUs, or 0 to leave that.
    pub host_addr: u64,
    /// In: where it was mapped for devices, or 0 to leave that.
    pub dev_bus_addr: u64,
    /// In: number of the mapping.
    pub handle: GrantHandle,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad: [u8; 2],
}

/// `GNTTABOP_setup_table`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabSetupTable {
    /// In: whose table.
    pub dom: DomId,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// In: wanted frames.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad1: [u8; 6],
    /// Out: the frames.
    pub frame_list: XenHandle<XenPfn>,
}

/// `GNTTABOP_dump_table`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabDumpTable {
    /// In: whose table.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
}

/// `GNTTABOP_transfer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabTransfer {
    /// In: the page to give.
    pub mfn: XenPfn,
    /// In: to whom.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// In: the receiver's entry.
    pub gref: GrantRef,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad1: [u8; 6],
}

/// One end of a copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabCopyPtr {
    /// Frame number, or in the low 32 bits the grant (`GNTCOPY_*_GREF`).
    pub addr: u64,
    /// Whose frame or grant.
    pub domid: DomId,
    /// First byte in the page.
    pub offset: u16,
    /// Implicit in C.
    pub _pad: [u8; 4],
}

/// `GNTTABOP_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabCopy {
    /// In: from here.
    pub source: GnttabCopyPtr,
    /// In: to here.
    pub dest: GnttabCopyPtr,
    /// In: bytes; neither end may leave its page.
    pub len: u16,
    /// In: `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad: [u8; 2],
}

/// `GNTTABOP_query_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabQuerySize {
    /// In: whose table.
    pub dom: DomId,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// Out: present frames.
    pub nr_frames: u32,
    /// Out: largest number of frames.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad1: [u8; 2],
}

/// `GNTTABOP_unmap_and_replace`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabUnmapAndReplace {
    /// In: where it is mapped.
    pub host_addr: u64,
    /// In: whose page to put there.
    pub new_addr: u64,
    /// In: number of the mapping.
    pub handle: GrantHandle,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad: [u8; 2],
}

/// `GNTTABOP_set_version`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabSetVersion {
    /// In: wanted version. Out: the version in force.
    pub version: u32,
}

/// `GNTTABOP_get_status_frames`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabGetStatusFrames {
    /// In: room.
    pub nr_frames: u32,
    /// In: whose table.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: the frames.
    pub frame_list: XenHandle<u64>,
}

/// `GNTTABOP_get_version`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabGetVersion {
    /// In: whose table.
    pub dom: DomId,
    /// Unused.
    pub pad: u16,
    /// Out: 1 or 2.
    pub version: u32,
}

/// `GNTTABOP_swap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabSwapGrantRef {
    /// In.
    pub ref_a: GrantRef,
    /// In.
    pub ref_b: GrantRef,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Implicit in C.
    pub _pad: [u8; 2],
}

/// `GNTTABOP_cache_flush`. This one's result is the hypercall's answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct GnttabCacheFlush {
    /// Bus address, or in the low 32 bits the grant ([`GNTTAB_CACHE_SOURCE_GREF`]).
    pub addr: u64,
    /// First byte in the page.
    pub offset: u16,
    /// How many bytes; 0 only asks whether the operation exists.
    pub length: u16,
    /// `GNTTAB_CACHE_*`.
    pub op: u32,
}
