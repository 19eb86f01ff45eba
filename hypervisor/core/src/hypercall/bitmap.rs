//! Sets of CPUs and nodes in the caller's memory (`xen.h`, `struct xenctl_bitmap`).

use vambrace_abi::domctl::XenctlBitmap;
use vambrace_abi::errno::Errno;

use super::Caller;
use crate::machine::Machine;
use crate::sched::CpuMask;

/// Most bits of a set that is filled with zeroes to its end; tools have one bit for each CPU.
const MAX_BITS: u32 = 1 << 16;
const MASK_BYTES: usize = size_of::<CpuMask>();

/// Reads a set. What a mask has no bit for is left out. EFAULT.
pub(super) fn read<M: Machine>(caller: &Caller<'_, M>, bitmap: &XenctlBitmap) -> Result<CpuMask, Errno> {
    let mut bytes = [0; MASK_BYTES];
    let length = (bitmap.nr_bits.div_ceil(8) as usize).min(MASK_BYTES);
    let part = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    caller.memory().read_bytes(bitmap.bitmap.address(), part)?;
    let mask = CpuMask::from_le_bytes(bytes);
    // The last byte may have bits that are not the set's.
    Ok(if bitmap.nr_bits < CpuMask::BITS { mask & ((1 << bitmap.nr_bits) - 1) } else { mask })
}

/// Writes a set, as much of it as the caller has room for, and zeroes behind it. EFAULT, EINVAL for a room that nobody
/// needs.
pub(super) fn write<M: Machine>(
    caller: &Caller<'_, M>,
    bitmap: &XenctlBitmap,
    mask: CpuMask,
) -> Result<(), Errno> {
    if bitmap.nr_bits > MAX_BITS {
        return Err(Errno::EINVAL);
    }
    let mut bytes = mask.to_le_bytes();
    let (mut at, mut left) = (bitmap.bitmap.address(), bitmap.nr_bits.div_ceil(8) as usize);
    while left > 0 {
        let length = left.min(MASK_BYTES);
        caller.memory().write_bytes(at, bytes.get(..length).ok_or(Errno::EINVAL)?)?;
        at = at.checked_add(length as u64).ok_or(Errno::EFAULT)?;
        left -= length;
        bytes = [0; MASK_BYTES];
    }
    Ok(())
}
