//! Redistributors, one for each CPU (IHI 0069, 12.10): where they are, and the interrupts that are a CPU's own.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use vambrace_core::machine::CpuId;

use super::super::distributor::reset_own;
use super::super::{GicError, MAX_CPUS};
use super::{GROUPS, read64};
use crate::mmio::{Mmio, wait_for};

/// Bytes of a redistributor: an RD frame, an SGI frame, each 64 KiB.
pub(super) const BYTES: usize = 0x2_0000;
const SGI_FRAME: usize = 0x1_0000;

const CTLR: usize = 0x0000;
const TYPER: usize = 0x0008;
const WAKER: usize = 0x0014;

/// GICR_CTLR: a write is on its way.
const CTLR_BUSY: u32 = 1 << 3;
const WAKER_SLEEP: u32 = 1 << 1;
const WAKER_ASLEEP: u32 = 1 << 2;

/// Runs of redistributors, as the device tree lists them.
pub type Regions = ArrayVec<Mmio, 16>;

/// The redistributors of all CPUs.
#[derive(Debug)]
pub(super) struct Redistributors {
    regions: Regions,
    /// Bytes between two, where the device tree says.
    stride: Option<usize>,
    slots: [Slot; MAX_CPUS],
}

/// The redistributor of one of our CPUs.
#[derive(Debug)]
struct Slot {
    /// Address of its RD frame, 0 until its CPU's `init_cpu`.
    base: AtomicUsize,
    /// Affinity of its CPU.
    mpidr: AtomicU64,
}

impl Redistributors {
    /// The redistributors in these regions.
    ///
    /// # Errors
    ///
    /// [`GicError::Region`] where a region is too small, there is none, or `stride` (bytes) is none.
    pub(super) fn new(regions: Regions, stride: Option<usize>) -> Result<Self, GicError> {
        let bad = |region: &Mmio| region.size() < BYTES || !region.base().is_multiple_of(8);
        if regions.is_empty() || regions.iter().any(bad) {
            return Err(GicError::Region("GICR"));
        }
        if stride.is_some_and(|stride| stride < BYTES || !stride.is_multiple_of(SGI_FRAME)) {
            return Err(GicError::Region("GICR (redistributor-stride)"));
        }
        let slots = [const { Slot { base: AtomicUsize::new(0), mpidr: AtomicU64::new(0) } }; MAX_CPUS];
        Ok(Self { regions, stride, slots })
    }

    /// Wakes the redistributor of `cpu`, which executes this and has affinity `mpidr`, and resets what is its own.
    ///
    /// # Errors
    ///
    /// [`GicError::TooManyCpus`], [`GicError::NoRedistributor`], [`GicError::Timeout`] where it does not wake.
    pub(super) fn init_cpu(&self, cpu: CpuId, mpidr: u64) -> Result<(), GicError> {
        let slot = self.slots.get(cpu).ok_or(GicError::TooManyCpus(cpu))?;
        let frame = self.find(mpidr).ok_or(GicError::NoRedistributor(mpidr))?;
        let sgi_frame = sgi_frame(frame).ok_or(GicError::NoRedistributor(mpidr))?;
        let waker = frame.read32(WAKER);
        frame.write32(WAKER, waker & !WAKER_SLEEP);
        if !wait_for(|| frame.read32(WAKER) & WAKER_ASLEEP == 0) {
            return Err(GicError::Timeout("GICR_WAKER"));
        }
        reset_own(sgi_frame, GROUPS, || {
            if settle(frame) { Ok(()) } else { Err(GicError::Timeout("GICR_CTLR.RWP")) }
        })?;
        slot.mpidr.store(mpidr, Ordering::Relaxed);
        slot.base.store(frame.base(), Ordering::Release);
        Ok(())
    }

    /// Both frames of the redistributor of the CPU with this affinity.
    fn find(&self, mpidr: u64) -> Option<Mmio> {
        // GICR_TYPER packs the affinity into its upper half, Aff3 first.
        let wanted = mpidr >> 32 << 24 | mpidr & 0xff_ffff;
        for region in &self.regions {
            let mut offset = 0;
            while let Some(frame) = region.part(offset, BYTES) {
                let typer = read64(frame, TYPER);
                if typer >> 32 == wanted {
                    return Some(frame);
                }
                // The last one of the region.
                if typer & 1 << 4 != 0 {
                    break;
                }
                // GICv4 redistributors (VLPIS) have two frames more.
                offset += self.stride.unwrap_or(BYTES << (typer >> 1 & 1));
            }
        }
        None
    }

    /// Both frames of the redistributor of the CPU that executes this, whose affinity is `mpidr`, once its `init_cpu`
    /// has run.
    fn own(&self, mpidr: u64) -> Option<Mmio> {
        let own = |slot: &&Slot| {
            slot.base.load(Ordering::Acquire) != 0 && slot.mpidr.load(Ordering::Relaxed) == mpidr
        };
        let base = self.slots.iter().find(own)?.base.load(Ordering::Relaxed);
        self.regions
            .iter()
            .find_map(|region| base.checked_sub(region.base()).and_then(|offset| region.part(offset, BYTES)))
    }

    /// The registers of the SGIs and PPIs of the CPU that executes this, whose affinity is `mpidr`.
    pub(super) fn own_registers(&self, mpidr: u64) -> Option<Mmio> {
        self.own(mpidr).and_then(sgi_frame)
    }

    /// Waits until writes to the registers of the CPU that executes this have taken effect.
    pub(super) fn settle_own(&self, mpidr: u64) {
        if let Some(frame) = self.own(mpidr) {
            settle(frame);
        }
    }

    /// The affinity of a CPU of ours, once its `init_cpu` has run.
    pub(super) fn affinity(&self, cpu: CpuId) -> Option<u64> {
        let slot = self.slots.get(cpu)?;
        (slot.base.load(Ordering::Acquire) != 0).then(|| slot.mpidr.load(Ordering::Relaxed))
    }
}

fn sgi_frame(frames: Mmio) -> Option<Mmio> {
    frames.part(SGI_FRAME, BYTES - SGI_FRAME)
}

fn settle(frame: Mmio) -> bool {
    wait_for(|| frame.read32(CTLR) & CTLR_BUSY == 0)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::mmio::tests::range;

    /// Registers of `count` redistributors, `stride` bytes apart, for CPUs 0x100, 0x101 and so on.
    fn registers(count: usize, stride: usize, typer: u64) -> Vec<u64> {
        let mut words = vec![0u64; count * stride / 8];
        for i in 0..count {
            let last = u64::from(i == count - 1) << 4;
            words[(i * stride + TYPER) / 8] = (0x100 + i as u64) << 32 | last | typer;
        }
        words
    }

    fn over(words: &mut [u64], stride: Option<usize>) -> Redistributors {
        // SAFETY: the region is the slice, which outlives it in these tests.
        let region = unsafe { Mmio::new(range(words.as_mut_ptr() as usize, words.len() * 8)) };
        Redistributors::new([region].into_iter().collect(), stride).unwrap()
    }

    #[test]
    fn each_cpu_finds_its_own_and_no_other() {
        for (apart, stride, typer) in
            [(BYTES, None, 0), (2 * BYTES, None, 2), (3 * BYTES, Some(3 * BYTES), 0)]
        {
            let mut words = registers(3, apart, typer);
            let base = words.as_ptr() as usize;
            let all = over(&mut words, stride);
            assert_eq!(all.affinity(2), None);
            for cpu in 0..3 {
                let mpidr = 0x100 + cpu as u64;
                all.init_cpu(cpu, mpidr).unwrap();
                assert_eq!(all.affinity(cpu), Some(mpidr));
                let own = all.own_registers(mpidr).unwrap();
                assert_eq!((own.base(), own.size()), (base + cpu * apart + SGI_FRAME, SGI_FRAME));
            }
            assert_eq!(all.init_cpu(3, 0x103), Err(GicError::NoRedistributor(0x103)));
            assert_eq!(all.init_cpu(MAX_CPUS, 0x100), Err(GicError::TooManyCpus(MAX_CPUS)));
            assert!(all.own_registers(0x103).is_none());
        }
    }

    #[test]
    fn the_walk_ends_where_no_redistributor_is_the_last() {
        let mut words = vec![0u64; 2 * BYTES / 8];
        assert_eq!(over(&mut words, None).init_cpu(0, 7), Err(GicError::NoRedistributor(7)));
    }

    #[test]
    fn one_that_does_not_wake_is_told_of() {
        let mut words = registers(1, BYTES, 0);
        words[WAKER / 8] = u64::from(WAKER_ASLEEP) << 32;
        assert_eq!(over(&mut words, None).init_cpu(0, 0x100), Err(GicError::Timeout("GICR_WAKER")));
    }
}
