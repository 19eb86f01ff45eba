//! Memory-mapped device registers.
//!
//! The hypervisor maps devices where they are (virtual = physical), so one address serves as both. All accesses are
//! single plain load or store instructions written in assembly: a compiler may turn a volatile access into one with
//! writeback, whose syndrome an outer hypervisor or model cannot emulate.

#[cfg(target_arch = "aarch64")]
use core::arch::asm;

use vambrace_core::addr::PaRange;

/// A region of device registers, mapped for as long as the hypervisor runs. Every access is checked against its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mmio {
    base: usize,
    size: usize,
}

/// An access outside of its region is an error of the driver, never of a guest or of a device tree: drivers check
/// sizes when they are made and interrupt numbers when they are called.
#[cold]
#[inline(never)]
fn outside(offset: usize) -> ! {
    panic!("device access at offset {offset:#x}, outside of its region");
}

macro_rules! accessors {
    ($read:ident, $write:ident, $type:ty, $load:literal, $store:literal, $bits:literal) => {
        #[doc = concat!("Reads the ", $bits, "-bit register at byte `offset`, which is aligned to its size.")]
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            let address = self.address(offset, size_of::<$type>());
            #[cfg(target_arch = "aarch64")]
            {
                let value: $type;
                // SAFETY: `address` checked that the register lies in the region, which `new`'s caller promised to be
                // mapped device registers for good.
                unsafe {
                    asm!($load, value = out(reg) value, address = in(reg) address,
                         options(nostack, preserves_flags));
                }
                value
            }
            #[cfg(not(target_arch = "aarch64"))]
            // SAFETY: as above; here the region is memory of a test, or registers on a CPU without the form above.
            unsafe {
                (address as *const $type).read_volatile()
            }
        }

        #[doc = concat!("Writes the ", $bits, "-bit register at byte `offset`, which is aligned to its size.")]
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            let address = self.address(offset, size_of::<$type>());
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `address` checked that the register lies in the region, which `new`'s caller promised to be
            // mapped device registers for good.
            unsafe {
                asm!($store, value = in(reg) value, address = in(reg) address, options(nostack, preserves_flags));
            }
            #[cfg(not(target_arch = "aarch64"))]
            // SAFETY: as above; here the region is memory of a test, or registers on a CPU without the form above.
            unsafe {
                (address as *mut $type).write_volatile(value);
            }
        }
    };
}

impl Mmio {
    /// The device registers at `range` (physical, and virtual: devices are mapped where they are).
    ///
    /// # Safety
    ///
    /// The region is mapped as device memory, readable and writable, from now on and for ever, and nothing in it is
    /// memory that Rust code uses. What the device does on a write must not break memory safety (no DMA is started
    /// through it).
    pub const unsafe fn new(range: PaRange) -> Self {
        Self { base: range.start.0 as usize, size: range.end.0.saturating_sub(range.start.0) as usize }
    }

    /// Address of the first byte (virtual = physical).
    pub const fn base(&self) -> usize {
        self.base
    }

    /// Bytes in the region.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The part of this region of `size` bytes from `offset`, or `None` where it does not fit.
    pub const fn part(&self, offset: usize, size: usize) -> Option<Self> {
        match offset.checked_add(size) {
            Some(end) if end <= self.size => Some(Self { base: self.base + offset, size }),
            _ => None,
        }
    }

    #[inline]
    fn address(&self, offset: usize, width: usize) -> usize {
        if self.size < width || offset > self.size - width {
            outside(offset);
        }
        debug_assert!(offset.is_multiple_of(width));
        self.base + offset
    }

    accessors!(read8, write8, u8, "ldrb {value:w}, [{address}]", "strb {value:w}, [{address}]", "8");
    accessors!(read16, write16, u16, "ldrh {value:w}, [{address}]", "strh {value:w}, [{address}]", "16");
    accessors!(read32, write32, u32, "ldr {value:w}, [{address}]", "str {value:w}, [{address}]", "32");
    #[cfg(target_pointer_width = "64")]
    accessors!(read64, write64, u64, "ldr {value:x}, [{address}]", "str {value:x}, [{address}]", "64");
}

/// Waits until every earlier memory access is complete (DSB SY): before an interrupt that announces data, and between
/// device writes whose effects must be seen in order by another agent.
#[inline]
pub fn barrier() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes no state.
    unsafe {
        asm!("dsb sy", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Wakes CPUs that wait for an event (SEV).
#[inline]
pub fn send_event() {
    #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
    // SAFETY: a hint, which changes no state that code depends on.
    unsafe {
        core::arch::asm!("sev", options(nostack, preserves_flags));
    }
}

/// How often a device is asked before it is given up.
pub const PATIENCE: u32 = if cfg!(test) { 100 } else { 1_000_000 };

/// Asks `ready` until it holds, at most a million times. False means that the device never got there.
pub fn wait_for(ready: impl FnMut() -> bool) -> bool {
    wait_at_most(PATIENCE, ready)
}

/// Asks `ready` until it holds, at most `polls` times. False means that the device did not get there.
pub fn wait_at_most(polls: u32, mut ready: impl FnMut() -> bool) -> bool {
    for _ in 0..polls {
        if ready() {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use vambrace_core::addr::Pa;

    use super::*;

    /// A range of addresses for a test: of an array, or of nothing at all.
    pub(crate) fn range(base: usize, size: usize) -> PaRange {
        PaRange { start: Pa(base as u64), end: Pa((base + size) as u64) }
    }

    #[test]
    fn parts_stay_inside() {
        // SAFETY: never accessed.
        let region = unsafe { Mmio::new(range(0x1000, 0x100)) };
        assert_eq!(region.part(0x80, 0x80).map(|part| (part.base(), part.size())), Some((0x1080, 0x80)));
        assert_eq!(region.part(0x80, 0x81), None);
        assert_eq!(region.part(usize::MAX, 2), None);
    }

    #[test]
    fn widths_and_bounds() {
        let mut words = [0u64; 2];
        // SAFETY: the region is the array, which outlives it.
        let region = unsafe { Mmio::new(range(words.as_mut_ptr() as usize, 16)) };
        region.write32(12, 0x0102_0304);
        region.write8(0, 0xff);
        assert_eq!(region.read16(14), 0x0102);
        assert_eq!(region.read64(0), 0xff);
        assert_eq!(region.read8(12), 4);
    }

    #[test]
    #[should_panic(expected = "outside of its region")]
    fn access_past_the_end() {
        let word = 0u32;
        // SAFETY: the access is refused before it happens.
        let region = unsafe { Mmio::new(range(&raw const word as usize, 4)) };
        region.read32(4);
    }
}
