//! `multicall`: a list of hypercalls in one (`xen.h`).
//!
//! `x0` is the guest virtual address of an array of [`MulticallEntry`], `x1` its length.

use crate::memory::XenUlong;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One call of the list. All words are 64 bits for both widths of guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MulticallEntry {
    /// In: the hypercall's number.
    pub op: XenUlong,
    /// Out: what it answered, sign-extended.
    pub result: XenUlong,
    /// In: its arguments. A hypervisor takes five.
    pub args: [XenUlong; 6],
}
