//! Guest handles: the pointers of the ABI as they lie in memory (`arch-arm.h`, `XEN_GUEST_HANDLE`).

use core::fmt;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A pointer to `T` (or to the first of many) in the caller's memory: a guest virtual address, 8 bytes and
/// 8-byte aligned for both widths of guest.
///
/// It is a claim of the guest's, nothing more: it may be null, unmapped, misaligned or another's, and only
/// the code that copies through it can tell. A 32-bit guest sets the upper half to 0.
#[repr(transparent)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenHandle<T> {
    address: u64,
    pointee: PhantomData<fn() -> T>,
}

impl<T> XenHandle<T> {
    /// The handle that points nowhere.
    pub const NULL: Self = Self::new(0);

    /// A handle of a guest virtual address.
    pub const fn new(address: u64) -> Self {
        Self { address, pointee: PhantomData }
    }

    /// The guest virtual address.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Whether it points nowhere.
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The handle of element `index` of an array that starts here, or `None` when its address does not fit 64
    /// bits.
    pub const fn element(self, index: u64) -> Option<Self> {
        match index.checked_mul(size_of::<T>() as u64) {
            Some(bytes) => match self.address.checked_add(bytes) {
                Some(address) => Some(Self::new(address)),
                None => None,
            },
            None => None,
        }
    }

    /// The same address as a handle of another type.
    pub const fn cast<U>(self) -> XenHandle<U> {
        XenHandle::new(self.address)
    }
}

// By hand, for a derive would ask the same of `T`.
impl<T> Clone for XenHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for XenHandle<T> {}
impl<T> PartialEq for XenHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}
impl<T> Eq for XenHandle<T> {}
impl<T> Default for XenHandle<T> {
    fn default() -> Self {
        Self::NULL
    }
}
impl<T> fmt::Debug for XenHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_never_wrap() {
        let list = XenHandle::<u64>::new(0x1000);
        assert_eq!(list.element(3), Some(XenHandle::new(0x1018)));
        assert_eq!(list.element(u64::MAX), None);
        assert_eq!(XenHandle::<u8>::new(u64::MAX).element(1), None);
    }

    #[test]
    fn eight_bytes_in_memory() {
        assert_eq!((size_of::<XenHandle<u8>>(), align_of::<XenHandle<u8>>()), (8, 8));
        assert_eq!(XenHandle::<u8>::new(0x0102).as_bytes(), [2, 1, 0, 0, 0, 0, 0, 0]);
    }
}
