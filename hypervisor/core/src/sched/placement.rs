//! Which CPU a vCPU is put on, and which vCPU a CPU takes.
//!
//! A CPU with nothing to run that is allowed takes a vCPU at once. Otherwise the vCPU that waits pushes aside the one
//! that is furthest ahead of it in virtual runtime, if that is a slice or more, and it has had its shortest turn; or that
//! one's turn gets an end. A vCPU that sleeps keeps up to a slice of credit, so what wakes often and runs little comes on
//! at once, and never waits longer than the shortest turn.

use super::mask::{bit, each, lowest};
use super::pool::{Entry, Place, Pool};
use super::state::State;
use crate::machine::CpuId;

impl<T> State<T> {
    /// Finds a CPU for a vCPU that was just put into the pool's queue.
    pub(super) fn place(&mut self, pool: u32, entry: Entry, vruntime: u64, last: CpuId, now: u64) {
        let free = self.idle & !self.called;
        for among in [entry.preferred & free, entry.allowed & free] {
            let chosen = if among & bit(last) != 0 { Some(last) } else { lowest(among) };
            if let Some(cpu) = chosen {
                self.call(cpu);
                return;
            }
        }
        let ratelimit = self.pools.get(&pool).map_or(0, |pool| self.times.ticks(pool.ratelimit_us.into()));
        let enough = vruntime.saturating_add(self.times.slice);
        let candidate = |cpu: CpuId| {
            let slot = self.cpus.get(cpu)?;
            slot.current.filter(|_| !self.shared.flags(cpu).wants_leave())?;
            let ahead = slot.vruntime_at(now);
            let gives_way = ahead >= enough && now.saturating_sub(slot.since) >= ratelimit;
            Some((gives_way, ahead, cpu))
        };
        let best = |among| each(among).filter_map(candidate).max();
        if let Some((true, _, cpu)) = best(entry.preferred) {
            self.push_off(cpu);
        } else if let Some((gives_way, _, cpu)) = best(entry.allowed) {
            if gives_way {
                self.push_off(cpu);
            } else {
                // Nobody to push aside: the turn of the one that is furthest ahead has an end now.
                self.shared.flags(cpu).set_rearm();
                self.kick(cpu);
            }
        }
    }

    /// Has an idle CPU come and pick.
    fn call(&mut self, cpu: CpuId) {
        self.called |= bit(cpu);
        self.kick(cpu);
    }

    /// Has the vCPU on `cpu` leave.
    pub(super) fn push_off(&mut self, cpu: CpuId) {
        if self.cpus.get(cpu).is_some_and(|slot| slot.current.is_some()) {
            self.shared.flags(cpu).set_leave();
            self.kick(cpu);
        }
    }

    /// Calls idle CPUs for vCPUs that wait, if there are any for them.
    pub(super) fn call_idle(&mut self, pool: u32) {
        let Some(pool) = self.pools.get(&pool) else { return };
        let mut free = self.idle & !self.called & pool.cpus;
        if free == 0 {
            return;
        }
        let mut called = 0;
        for entry in pool.queue.values() {
            // One that it prefers is on its way; if that takes another, it looks here again.
            if entry.preferred & self.idle & (self.called | called) != 0 {
                continue;
            }
            if let Some(cpu) = lowest(entry.preferred & free).or(lowest(entry.allowed & free)) {
                free &= !bit(cpu);
                called |= bit(cpu);
            }
        }
        each(called).for_each(|cpu| self.call(cpu));
    }

    /// The vCPU that `cpu` is to take: the one with the least virtual runtime, but one that prefers another CPU is left to
    /// that if it is idle, and gives way to one that prefers this CPU and is at most a slice behind.
    pub(super) fn choose(&self, pool: &Pool, cpu: CpuId) -> Option<(Place, Entry)> {
        let mut stranger: Option<(Place, Entry)> = None;
        for (&place, &entry) in &pool.queue {
            if let Some((first, _)) = stranger
                && place.0 > first.0.saturating_add(self.times.slice)
            {
                break;
            }
            if entry.allowed & bit(cpu) == 0 {
                continue;
            }
            if entry.preferred & bit(cpu) != 0 {
                return Some((place, entry));
            }
            if entry.preferred & self.idle == 0 && stranger.is_none() {
                stranger = Some((place, entry));
            }
        }
        stranger
    }
}
