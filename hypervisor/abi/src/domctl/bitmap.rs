//! A set of small numbers (CPUs, nodes) in the caller's memory (`xen.h`, `struct xenctl_bitmap`).

use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A bitmap: bit n of the set is bit n % 8 of byte n / 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenctlBitmap {
    /// The bytes.
    pub bitmap: XenHandle<u8>,
    /// Bits that they hold.
    pub nr_bits: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
}
