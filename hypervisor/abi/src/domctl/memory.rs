//! A domain's memory as the toolstack sees it: caches, tables, colours, dirty pages.

use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_DOMCTL_cacheflush`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlCacheflush {
    /// In: first frame of the domain's.
    pub start_pfn: u64,
    /// In: frames.
    pub nr_pfns: u64,
}

/// `XEN_DOMCTL_get_paging_mempool_size`, `XEN_DOMCTL_set_paging_mempool_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlPagingMempool {
    /// In or out: bytes, of whole pages.
    pub size: u64,
}

/// `XEN_DOMCTL_set_llc_colors`. Since Xen 4.20.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlSetLlcColors {
    /// In: length of the list.
    pub num_llc_colors: u32,
    /// In: 0.
    pub pad: u32,
    /// In: colours.
    pub llc_colors: XenHandle<u32>,
}

/// `XEN_DOMCTL_SHADOW_OP_*`: stop.
pub const XEN_DOMCTL_SHADOW_OP_OFF: u32 = 0;
/// Start.
pub const XEN_DOMCTL_SHADOW_OP_ENABLE: u32 = 32;
/// Get the dirty pages and forget them.
pub const XEN_DOMCTL_SHADOW_OP_CLEAN: u32 = 11;
/// Get the dirty pages.
pub const XEN_DOMCTL_SHADOW_OP_PEEK: u32 = 12;
/// Superseded by `XEN_DOMCTL_get_paging_mempool_size`.
pub const XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION: u32 = 30;
/// Superseded by `XEN_DOMCTL_set_paging_mempool_size`.
pub const XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION: u32 = 31;
