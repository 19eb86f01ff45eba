//! A physical CPU as the scheduler keeps it.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::unit::{DEFAULT_WEIGHT, scaled};
use super::{CpuAccount, VcpuKey};

pub(super) struct CpuSlot {
    pub(super) online: bool,
    pub(super) pool: Option<u32>,
    pub(super) current: Option<VcpuKey>,
    /// When the vCPU's turn began.
    pub(super) since: u64,
    /// Up to when the vCPU has been charged.
    pub(super) charged: u64,
    /// The vCPU's virtual runtime at that time.
    pub(super) vruntime: u64,
    /// The vCPU's weight.
    pub(super) weight: u32,
    pub(super) idle_since: Option<u64>,
    pub(super) idle_time: u64,
}

impl CpuSlot {
    pub(super) const fn new() -> Self {
        Self {
            online: false,
            pool: None,
            current: None,
            since: 0,
            charged: 0,
            vruntime: 0,
            weight: DEFAULT_WEIGHT,
            idle_since: None,
            idle_time: 0,
        }
    }

    /// The virtual runtime of the vCPU that runs here, as it is now.
    #[inline]
    pub(super) fn vruntime_at(&self, now: u64) -> u64 {
        self.vruntime.saturating_add(scaled(now.saturating_sub(self.charged), self.weight))
    }

    pub(super) fn account(&self, now: u64) -> CpuAccount {
        let idling = self.idle_since.map_or(0, |since| now.saturating_sub(since));
        CpuAccount { online: self.online, idle_time: self.idle_time + idling, pool: self.pool }
    }
}

/// What a CPU has to do before it goes back to its guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Nothing.
    None,
    /// Arm its timer anew: its vCPU's turn has another end now.
    Rearm,
    /// Give its vCPU up.
    Leave,
}

/// What is read without the scheduler's lock.
pub(super) struct CpuFlags {
    demand: AtomicU8,
    /// vCPUs in the queue that may run here.
    waiting: AtomicU32,
}

const REARM: u8 = 1;
const LEAVE: u8 = 2;

impl CpuFlags {
    pub(super) const fn new() -> Self {
        Self { demand: AtomicU8::new(0), waiting: AtomicU32::new(0) }
    }

    /// What is demanded. A demand to arm the timer is taken by this, one to leave stays until the CPU picks.
    #[inline]
    pub(super) fn demand(&self) -> Demand {
        match self.demand.load(Ordering::Acquire) {
            0 => Demand::None,
            demand if demand & LEAVE != 0 => Demand::Leave,
            _ => {
                self.demand.fetch_and(!REARM, Ordering::AcqRel);
                Demand::Rearm
            }
        }
    }

    pub(super) fn wants_leave(&self) -> bool {
        self.demand.load(Ordering::Acquire) & LEAVE != 0
    }

    pub(super) fn set_rearm(&self) {
        self.demand.fetch_or(REARM, Ordering::AcqRel);
    }

    pub(super) fn set_leave(&self) {
        self.demand.fetch_or(LEAVE, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn clear(&self) {
        self.demand.store(0, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) != 0
    }

    pub(super) fn waits(&self, more: bool) {
        if more {
            self.waiting.fetch_add(1, Ordering::AcqRel);
        } else {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
