//! The hypervisor's own memory: ranges that no guest and no `Memory` access may reach.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;
use vambrace_core::addr::{Pa, PaRange};

const CAPACITY: usize = 16;

struct Slot {
    start: AtomicU64,
    end: AtomicU64,
}

/// Ranges are only ever added, so readers need no lock: a slot is written before the count that shows it.
static SLOTS: [Slot; CAPACITY] =
    [const { Slot { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; CAPACITY];
static COUNT: AtomicUsize = AtomicUsize::new(0);
static ADD: Mutex<()> = Mutex::new(());

/// The private physical ranges in the order of their registration: image, device tree, heap regions.
pub fn private_ranges() -> impl Iterator<Item = PaRange> {
    SLOTS.iter().take(COUNT.load(Ordering::Acquire)).map(|slot| PaRange {
        start: Pa(slot.start.load(Ordering::Relaxed)),
        end: Pa(slot.end.load(Ordering::Relaxed)),
    })
}

/// Whether a byte of `range` (physical) is private to the hypervisor.
#[inline]
pub fn is_private(range: PaRange) -> bool {
    private_ranges().any(|private| private.overlaps(range))
}

/// Registers `range`. Returns false, and registers nothing, where it overlaps a private range or no slot is left.
#[cfg_attr(
    not(any(test, target_os = "none")),
    expect(dead_code, reason = "only the bare-metal parts register")
)]
pub(crate) fn add(range: PaRange) -> bool {
    let _guard = ADD.lock();
    let count = COUNT.load(Ordering::Relaxed);
    let Some(slot) = SLOTS.get(count) else { return false };
    if range.is_empty() || is_private(range) {
        return false;
    }
    slot.start.store(range.start.0, Ordering::Relaxed);
    slot.end.store(range.end.0, Ordering::Relaxed);
    COUNT.store(count + 1, Ordering::Release);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_once_and_not_over_another() {
        let range = |start, size| PaRange::new(Pa(start), size).unwrap();
        assert!(add(range(0x1000, 0x1000)));
        assert!(!add(range(0x1fff, 0x10)));
        assert!(!add(range(0x5000, 0)));
        assert!(add(range(0x2000, 0x1000)));
        assert!(
            is_private(range(0, 0x1001)) && !is_private(range(0, 0x1000)) && !is_private(range(0x3000, 1))
        );
        assert!((0..20u64).filter(|&i| add(range(0x10000 + i * 0x1000, 0x1000))).count() == CAPACITY - 2);
        assert_eq!(private_ranges().count(), CAPACITY);
    }
}
