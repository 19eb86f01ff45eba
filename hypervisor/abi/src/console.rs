//! `console_io` (`xen.h`, `CONSOLEIO_*`) and the console ring of a guest (`io/console.h`).
//!
//! `console_io` takes the operation in `x0`, a count of bytes in `x1` and the guest virtual address of a
//! buffer in `x2`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Write bytes to the hypervisor's console.
pub const CONSOLEIO_WRITE: u32 = 0;
/// Read at most so many bytes; answers how many there were.
pub const CONSOLEIO_READ: u32 = 1;

/// The page of a guest's console. Indexes run freely, modulo the ring's size when used.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenconsInterface {
    /// To the guest.
    pub input: [u8; 1024],
    /// From the guest.
    pub output: [u8; 2048],
    /// Read by the guest up to here.
    pub in_cons: u32,
    /// Written by the console's back end up to here.
    pub in_prod: u32,
    /// Read by the back end up to here.
    pub out_cons: u32,
    /// Written by the guest up to here.
    pub out_prod: u32,
}
