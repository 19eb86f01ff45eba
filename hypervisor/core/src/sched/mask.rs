//! Sets of CPUs.

use crate::machine::CpuId;

/// A set of physical CPUs, a bit each.
pub type CpuMask = u128;

/// The set of one CPU; empty for a number that no set can hold.
#[inline]
pub const fn bit(cpu: CpuId) -> CpuMask {
    if cpu < CpuMask::BITS as usize { 1 << cpu } else { 0 }
}

/// The lowest CPU of a set.
#[inline]
pub const fn lowest(mask: CpuMask) -> Option<CpuId> {
    if mask == 0 { None } else { Some(mask.trailing_zeros() as CpuId) }
}

/// The CPUs of a set, in order.
pub fn each(mut mask: CpuMask) -> impl Iterator<Item = CpuId> {
    core::iter::from_fn(move || {
        let cpu = lowest(mask)?;
        mask &= mask - 1;
        Some(cpu)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn sets_list_their_members() {
        assert_eq!(each(0b1010 | bit(127)).collect::<Vec<_>>(), [1, 3, 127]);
        assert_eq!((bit(128), lowest(0), lowest(bit(64))), (0, None, Some(64)));
    }
}
