//! The form of Hyp mode's tables, and the stacks of secondary CPUs, which lie in the image: all virtual space is physical.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};

use super::window;
use crate::mmu::MapError;
use crate::stage1::Format;

/// 32 bits of virtual address, 40 of physical (ARMv7 ARM, B3.6).
pub(crate) const FORMAT: Format = Format { start_level: 1, virtual_bits: 32, physical_bits: 40 };

/// A GICv2 serves eight.
pub(super) const CPUS: usize = 8;
const SECONDARIES: usize = CPUS - 1;
const PAGE: usize = 4096;
/// Bytes of a secondary CPU's stack.
const STACK_SIZE: usize = 16 << 10;
/// Distance of the stacks: a page that is never mapped lies below each.
const STRIDE: usize = STACK_SIZE + PAGE;

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<MaybeUninit<[u8; STRIDE * SECONDARIES]>>);

// SAFETY: only its address is used; each stack is one CPU's.
unsafe impl Sync for Stacks {}

// SAFETY: the linker script places the section into writable memory of the image that is neither loaded nor zeroed,
// which is what `MaybeUninit` allows.
#[unsafe(link_section = ".bss.uninit")]
static STACKS: Stacks = Stacks(UnsafeCell::new(MaybeUninit::uninit()));

const HOLES: usize = SECONDARIES + 1;

/// CPUs whose stack is given, a bit each.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// What of the image's writable memory is not mapped with it, besides the page below the boot CPU's stack, in order:
/// pages below the other CPUs' stacks, and the windows.
pub(crate) fn holes() -> [(u64, u64); HOLES] {
    let first = STACKS.0.get() as usize as u64;
    let mut holes = core::array::from_fn(|i| {
        let guard = first + (i * STRIDE) as u64;
        (guard, guard + PAGE as u64)
    });
    holes[SECONDARIES] = window::region();
    // The linker puts the one or the other first.
    if holes[SECONDARIES] < holes[0] {
        holes.rotate_right(1);
    }
    holes
}

/// The top of the stack of CPU number `cpu`. A second stack for the same CPU is [`MapError::Occupied`].
pub(crate) fn map_stack(cpu: usize) -> Result<u64, MapError> {
    if !(1..=SECONDARIES).contains(&cpu) {
        return Err(MapError::OutOfRange);
    }
    let top = (STACKS.0.get() as usize + cpu * STRIDE) as u64;
    if GIVEN.fetch_or(1 << cpu, Ordering::Relaxed) & 1 << cpu != 0 {
        return Err(MapError::Occupied(top));
    }
    Ok(top)
}
