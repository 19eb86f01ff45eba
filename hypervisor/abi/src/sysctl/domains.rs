//! All domains.

use crate::domctl::XenDomctlGetdomaininfo;
use crate::domid::DomId;
use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_SYSCTL_getdomaininfolist`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlGetdomaininfolist {
    /// In: the lowest number to be listed.
    pub first_domain: DomId,
    /// Implicit in C.
    pub _pad: [u8; 2],
    /// In: length of the list.
    pub max_domains: u32,
    /// In: where it goes.
    pub buffer: XenHandle<XenDomctlGetdomaininfo>,
    /// Out: how many there were.
    pub num_domains: u32,
    /// Implicit in C.
    pub _pad2: [u8; 4],
}
