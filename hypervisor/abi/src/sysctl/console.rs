//! The hypervisor's console.

use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_SYSCTL_readconsole`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlReadconsole {
    /// In: not 0 to forget what was read.
    pub clear: u8,
    /// In: not 0 to start at `index`.
    pub incremental: u8,
    /// Unused.
    pub pad0: u8,
    /// Unused.
    pub pad1: u8,
    /// In: where to start; out: where the next call goes on.
    pub index: u32,
    /// In: where the bytes go.
    pub buffer: XenHandle<u8>,
    /// In: how many fit; out: how many there were.
    pub count: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
}

/// `XEN_SYSCTL_debug_keys`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenSysctlDebugKeys {
    /// In: the keys.
    pub keys: XenHandle<u8>,
    /// In: how many.
    pub nr_keys: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
}
