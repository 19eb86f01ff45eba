//! A vCPU as the scheduler keeps it.

use alloc::sync::Arc;

use super::pool::Place;
use super::{Account, CpuMask, Idleness, Status, Waited};
use crate::machine::CpuId;

/// Weight at which virtual runtime is time (credit2's default weight).
pub const DEFAULT_WEIGHT: u32 = 256;

/// Ticks of virtual runtime that `ran` ticks of time are for a vCPU of the weight.
#[inline]
pub(super) fn scaled(ran: u64, weight: u32) -> u64 {
    match weight {
        DEFAULT_WEIGHT => ran,
        weight => ran.saturating_mul(u64::from(DEFAULT_WEIGHT)) / u64::from(weight),
    }
}

/// Ticks of time in which the virtual runtime of a vCPU of the weight grows by `vruntime` or a little more.
pub(super) fn unscaled(vruntime: u64, weight: u32) -> u64 {
    match weight {
        DEFAULT_WEIGHT => vruntime,
        weight => {
            vruntime.saturating_mul(u64::from(weight)).div_ceil(u64::from(DEFAULT_WEIGHT)).saturating_add(1)
        }
    }
}

pub(super) struct Unit<T> {
    pub(super) payload: Arc<T>,
    pub(super) status: Status,
    pub(super) pauses: u32,
    /// To be forgotten when it leaves its CPU.
    pub(super) removed: bool,
    /// Its place in its pool's queue, if it is there.
    pub(super) place: Option<Place>,
    pub(super) hard: CpuMask,
    pub(super) soft: CpuMask,
    pub(super) last_cpu: CpuId,
    pub(super) weight: u32,
    pub(super) run_time: u64,
    /// Ticks run, scaled by `DEFAULT_WEIGHT / weight`.
    pub(super) vruntime: u64,
    idleness: Idleness,
    idle_since: u64,
    waited: Waited,
}

impl<T> Unit<T> {
    /// A vCPU that is offline.
    pub(super) fn new(payload: Arc<T>, hard: CpuMask, weight: u32) -> Self {
        Self {
            payload,
            status: Status::Offline,
            pauses: 0,
            removed: false,
            place: None,
            hard,
            soft: CpuMask::MAX,
            last_cpu: 0,
            weight: weight.max(1),
            run_time: 0,
            vruntime: 0,
            idleness: Idleness::Offline,
            idle_since: 0,
            waited: Waited::default(),
        }
    }

    pub(super) fn account(&self, running_since: Option<u64>) -> Account {
        Account {
            status: self.status,
            pauses: self.pauses,
            run_time: self.run_time,
            running_since,
            last_cpu: self.last_cpu,
            affinity: self.hard,
            soft_affinity: self.soft,
            weight: self.weight,
        }
    }

    /// Charges it for time on a CPU.
    #[inline]
    pub(super) fn charge(&mut self, ran: u64) {
        self.run_time += ran;
        self.vruntime = self.vruntime.saturating_add(scaled(ran, self.weight));
    }

    /// What it does while it is not on a CPU.
    pub(super) fn idleness(&self) -> Idleness {
        match self.status {
            Status::Offline => Idleness::Offline,
            Status::Blocked => Idleness::Blocked,
            Status::Runnable | Status::Running(_) if self.pauses > 0 => Idleness::Offline,
            Status::Runnable | Status::Running(_) => Idleness::Runnable,
        }
    }

    /// Starts the account of its waiting, when it leaves a CPU.
    #[inline]
    pub(super) fn start_waiting(&mut self, now: u64) -> Idleness {
        self.idleness = self.idleness();
        self.idle_since = now;
        self.waited = Waited::default();
        self.idleness
    }

    /// Follows a change of status or pauses while it is not on a CPU.
    #[inline]
    pub(super) fn note_waiting(&mut self, now: u64) {
        let spent = now.saturating_sub(self.idle_since);
        match self.idleness {
            Idleness::Runnable => self.waited.runnable += spent,
            Idleness::Offline => self.waited.offline += spent,
            Idleness::Blocked => {}
        }
        self.idleness = self.idleness();
        self.idle_since = now;
    }

    /// Ends the account of its waiting, when it gets a CPU.
    #[inline]
    pub(super) fn end_waiting(&mut self, now: u64) -> Waited {
        self.note_waiting(now);
        self.waited
    }
}
