//! Addresses that cannot be mixed up: physical, intermediate physical, guest virtual.

use core::fmt;

/// log2 of the page (frame) size; Xen's ARM ABI fixes it at 4 KiB.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page (frame).
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address of frame (page) number `frame`; frames that no 64-bit address reaches saturate.
            pub const fn from_frame(frame: u64) -> Self {
                if frame > u64::MAX >> PAGE_SHIFT { Self(u64::MAX & !(PAGE_SIZE - 1)) } else { Self(frame << PAGE_SHIFT) }
            }
            /// Number of the frame (page) that holds this address.
            pub const fn frame(self) -> u64 {
                self.0 >> PAGE_SHIFT
            }
            /// Start of the page that holds this address.
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }
            /// Offset in bytes within the page.
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
            /// Whether the address is a multiple of `align`, a power of two, in bytes.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }
            /// Address `bytes` further on, or `None` past the end of the 64-bit space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) { Some(a) => Some(Self(a)), None => None }
            }
            /// Address `bytes` further on, wrapping.
            pub const fn offset(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A physical address, as the memory bus sees it (a "machine address" in Xen's words).
    Pa
}
address! {
    /// An intermediate physical address: what a guest believes to be physical; stage 2 turns it into a [`Pa`].
    Ipa
}
address! {
    /// A guest virtual address, translated by the guest's own stage 1.
    GuestVa
}

/// A range of physical addresses, `start..end` in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PaRange {
    /// First byte.
    pub start: Pa,
    /// One past the last byte.
    pub end: Pa,
}

impl PaRange {
    /// The range of `size` bytes from `start`, or `None` where it runs past the end of the 64-bit space.
    pub const fn new(start: Pa, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }
    /// Whole pages in its length.
    pub const fn pages(&self) -> u64 {
        self.size() / PAGE_SIZE
    }
    /// Length in bytes.
    pub const fn size(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.size() == 0
    }
    /// Whether `other` lies wholly within this range.
    pub const fn contains_range(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }
    /// Whether `pa` lies within this range.
    pub const fn contains(self, pa: Pa) -> bool {
        self.start.0 <= pa.0 && pa.0 < self.end.0
    }
    /// Whether the two ranges share a byte.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }
    /// The range widened to whole pages.
    pub const fn page_outer(self) -> Self {
        Self {
            start: self.start.page(),
            end: Pa(self.end.0.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_ranges() {
        assert_eq!(Pa(0x12345).frame(), 0x12);
        assert_eq!(Pa::from_frame(0x12), Pa(0x12000));
        assert_eq!(Ipa(0x12345).page_offset(), 0x345);
        let range = PaRange::new(Pa(0x1000), 0x1000).unwrap();
        assert!(range.contains(Pa(0x1fff)) && !range.contains(Pa(0x2000)));
        assert!(range.overlaps(PaRange::new(Pa(0x1fff), 1).unwrap()));
        assert!(PaRange::new(Pa(u64::MAX), 2).is_none());
        assert_eq!(Pa::from_frame(u64::MAX).page_offset(), 0);
    }
}
