//! What the scheduler's lock guards, and how vCPUs go from one state to another.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::cpu::{CpuFlags, CpuSlot};
use super::group::{CAP_PERIOD_US, Group};
use super::mask::{bit, each};
use super::pool::{Entry, POOL0, Pool};
use super::unit::{Unit, scaled, unscaled};
use super::{CpuMask, Idleness, Leave, Status, Turn, VcpuKey};
use crate::machine::CpuId;

/// Longest turn while others wait, in microseconds.
const SLICE_US: u64 = 10_000;
/// Slices by which a vCPU may be ahead of the others when it is put into the queue: after it ran alone elsewhere.
const CEILING: u64 = 8;

/// Lengths of time in counter ticks.
#[derive(Clone, Copy)]
pub(super) struct Times {
    frequency: u64,
    pub(super) slice: u64,
    pub(super) cap_period: u64,
}

impl Times {
    fn new(frequency: u64) -> Self {
        let mut times = Self { frequency, slice: 0, cap_period: 0 };
        times.slice = times.ticks(SLICE_US).max(1);
        times.cap_period = times.ticks(CAP_PERIOD_US).max(1);
        times
    }

    pub(super) fn ticks(&self, microseconds: u64) -> u64 {
        self.frequency.saturating_mul(microseconds) / 1_000_000
    }
}

/// What is read without the lock.
pub(super) struct Shared {
    cpus: Vec<CpuFlags>,
    /// Domains that have a cap.
    capped: AtomicUsize,
    /// For numbers that are no CPU's.
    nobody: CpuFlags,
}

impl Shared {
    #[inline]
    pub(super) fn flags(&self, cpu: CpuId) -> &CpuFlags {
        self.cpus.get(cpu).unwrap_or(&self.nobody)
    }

    /// Whether the CPU's turns have no end: nobody waits, and nobody is limited.
    #[inline]
    pub(super) fn is_endless(&self, cpu: CpuId) -> bool {
        !self.flags(cpu).is_wanted() && self.capped.load(Ordering::Acquire) == 0
    }

    pub(super) fn capped_more(&self) {
        self.capped.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn capped_less(&self) {
        self.capped.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) struct State<T> {
    pub(super) units: BTreeMap<VcpuKey, Unit<T>>,
    pub(super) groups: BTreeMap<u16, Group>,
    pub(super) pools: BTreeMap<u32, Pool>,
    pub(super) cpus: Vec<CpuSlot>,
    /// CPUs of pools with nothing to run.
    pub(super) idle: CpuMask,
    /// Those of them that have been told to pick and have not yet.
    pub(super) called: CpuMask,
    /// Domains whose cap keeps their vCPUs from running.
    pub(super) exhausted: BTreeSet<u16>,
    pub(super) times: Times,
    pub(super) shared: Arc<Shared>,
    /// vCPUs that were put into queues so far.
    arrivals: u64,
    /// CPUs that the caller has to kick.
    kicks: CpuMask,
}

impl<T> State<T> {
    pub(super) fn new(cpus: usize, frequency: u64) -> Self {
        let shared = Shared {
            cpus: (0..cpus).map(|_| CpuFlags::new()).collect(),
            capped: AtomicUsize::new(0),
            nobody: CpuFlags::new(),
        };
        Self {
            units: BTreeMap::new(),
            groups: BTreeMap::new(),
            pools: BTreeMap::from([(POOL0, Pool::new())]),
            cpus: (0..cpus).map(|_| CpuSlot::new()).collect(),
            idle: 0,
            called: 0,
            exhausted: BTreeSet::new(),
            times: Times::new(frequency),
            shared: Arc::new(shared),
            arrivals: 0,
            kicks: 0,
        }
    }

    pub(super) fn kick(&mut self, cpu: CpuId) {
        self.kicks |= bit(cpu);
    }

    /// CPUs to kick for what was done since the last call.
    #[inline]
    pub(super) fn take_kicks(&mut self) -> CpuMask {
        core::mem::take(&mut self.kicks)
    }

    pub(super) fn cpu_online(&mut self, cpu: CpuId, now: u64) {
        if let Some(slot) = self.cpus.get_mut(cpu)
            && !slot.online
        {
            slot.online = true;
            self.give_cpu(POOL0, cpu, now);
        }
    }

    /// Puts a vCPU that would run into its pool's queue, if nothing keeps it from running, and finds a CPU for it.
    pub(super) fn ready(&mut self, key: VcpuKey, now: u64) {
        let Some(group) = self.groups.get(&key.domain).filter(|group| !group.exhausted) else { return };
        let id = group.pool;
        let waits =
            |unit: &Unit<T>| unit.status == Status::Runnable && unit.pauses == 0 && unit.place.is_none();
        if !self.units.get(&key).is_some_and(waits) {
            return;
        }
        let floor = self.raise_floor(id, now);
        let (Some(unit), Some(pool)) = (self.units.get_mut(&key), self.pools.get_mut(&id)) else { return };
        // Who did not want to run for a while, or was not allowed to, has a slice of credit at most.
        let ceiling = scaled(CEILING * self.times.slice, unit.weight);
        let bounds = (floor.saturating_sub(self.times.slice), floor.saturating_add(ceiling));
        unit.vruntime = unit.vruntime.clamp(bounds.0, bounds.1);
        // Of equals, the first comes first: who leaves is behind who waits.
        self.arrivals += 1;
        let place = (unit.vruntime, self.arrivals);
        unit.place = Some(place);
        // An affinity that names no CPU of the pool is none.
        let among = |wish: CpuMask, all: CpuMask| if wish & all != 0 { wish & all } else { all };
        let allowed = among(unit.hard, pool.cpus);
        let entry = Entry { key, allowed, preferred: among(unit.soft, allowed) };
        pool.queue.insert(place, entry);
        each(allowed).for_each(|cpu| self.shared.flags(cpu).waits(true));
        let (vruntime, last) = (unit.vruntime, unit.last_cpu);
        self.place(id, entry, vruntime, last, now);
    }

    /// Takes a vCPU out of its pool's queue, if it is there.
    pub(super) fn dequeue(&mut self, key: VcpuKey) {
        let Some(place) = self.units.get_mut(&key).and_then(|unit| unit.place.take()) else { return };
        let pool = self.groups.get(&key.domain).and_then(|group| self.pools.get_mut(&group.pool));
        if let Some(entry) = pool.and_then(|pool| pool.queue.remove(&place)) {
            each(entry.allowed).for_each(|cpu| self.shared.flags(cpu).waits(false));
        }
    }

    /// Makes a vCPU runnable that was blocked (or offline, with `from_offline`). For a running one, its CPU is kicked.
    pub(super) fn wake(&mut self, key: VcpuKey, now: u64, from_offline: bool) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        match unit.status {
            Status::Running(cpu) => return self.kick(cpu),
            Status::Runnable => return,
            Status::Offline if !from_offline => return,
            Status::Offline | Status::Blocked => {}
        }
        unit.status = Status::Runnable;
        unit.note_waiting(now);
        self.ready(key, now);
    }

    /// Has a pool's floor follow the least virtual runtime there is, and answers it.
    fn raise_floor(&mut self, id: u32, now: u64) -> u64 {
        let Some(pool) = self.pools.get_mut(&id) else { return 0 };
        let waiting = pool.queue.first_key_value().map(|(place, _)| place.0);
        let running = each(pool.cpus & !self.idle).filter_map(|cpu| {
            let slot = self.cpus.get(cpu)?;
            slot.current?;
            Some(slot.vruntime_at(now))
        });
        if let Some(least) = running.chain(waiting).min() {
            pool.floor = pool.floor.max(least);
        }
        pool.floor
    }

    pub(super) fn pause(&mut self, key: VcpuKey, now: u64) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        unit.pauses = unit.pauses.saturating_add(1);
        match unit.status {
            Status::Running(cpu) => self.push_off(cpu),
            _ => {
                unit.note_waiting(now);
                self.dequeue(key);
            }
        }
    }

    pub(super) fn unpause(&mut self, key: VcpuKey, now: u64) {
        let Some(unit) = self.units.get_mut(&key).filter(|unit| unit.pauses > 0) else { return };
        unit.pauses -= 1;
        if unit.pauses == 0 && !matches!(unit.status, Status::Running(_)) {
            unit.note_waiting(now);
            self.ready(key, now);
        }
    }

    /// Takes a vCPU offline that is not on a CPU.
    pub(super) fn take_offline(&mut self, key: VcpuKey, now: u64) {
        self.dequeue(key);
        let Some(unit) = self.units.get_mut(&key) else { return };
        if !matches!(unit.status, Status::Running(_)) {
            unit.status = Status::Offline;
            unit.note_waiting(now);
        }
    }

    /// Forgets a vCPU: at once, or when it leaves the CPU that it is pushed off.
    pub(super) fn remove(&mut self, key: VcpuKey) {
        self.dequeue(key);
        let Some(unit) = self.units.get_mut(&key) else { return };
        if let Status::Running(cpu) = unit.status {
            unit.removed = true;
            self.push_off(cpu);
            return;
        }
        self.units.remove(&key);
        let Some(group) = self.groups.get_mut(&key.domain) else { return };
        group.units -= 1;
        if group.units == 0 {
            self.forget(key.domain);
        }
    }

    /// Charges the vCPU that runs on `cpu` for its time until now.
    pub(super) fn charge(&mut self, cpu: CpuId, now: u64) {
        let Some(slot) = self.cpus.get_mut(cpu) else { return };
        let Some(key) = slot.current else { return };
        let ran = now.saturating_sub(slot.charged);
        slot.charged = now;
        if let Some(unit) = self.units.get_mut(&key) {
            unit.charge(ran);
            slot.vruntime = unit.vruntime;
        }
        let Some(group) = self.groups.get_mut(&key.domain).filter(|group| group.cap != 0) else { return };
        let before = group.exhausted;
        match (before, group.charge(ran, now, self.times.cap_period)) {
            (false, true) => self.stop_for_cap(key.domain),
            (true, false) => self.go_on_after_cap(key.domain, now),
            _ => {}
        }
    }

    /// A domain has used up what its cap allows it in this period.
    fn stop_for_cap(&mut self, domain: u16) {
        self.exhausted.insert(domain);
        let keys: Vec<VcpuKey> = self.units.range(VcpuKey::all_of(domain)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.dequeue(key));
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].current.is_some_and(|key| key.domain == domain) {
                self.push_off(cpu);
            }
        }
    }

    pub(super) fn go_on_after_cap(&mut self, domain: u16, now: u64) {
        self.exhausted.remove(&domain);
        let keys: Vec<VcpuKey> = self.units.range(VcpuKey::all_of(domain)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.ready(key, now));
    }

    /// Begins the period of the domains whose time has come.
    fn renew(&mut self, now: u64) {
        let due: Vec<u16> = self.exhausted.iter().copied().collect();
        for domain in due {
            let Some(group) = self.groups.get_mut(&domain) else { continue };
            group.renew(now, self.times.cap_period);
            if !group.exhausted {
                self.go_on_after_cap(domain, now);
            }
        }
    }

    /// Takes the vCPU that runs on `cpu` off it; what it does from now on, unless it is gone.
    pub(super) fn leave(&mut self, cpu: CpuId, how: Leave, now: u64) -> Option<Idleness> {
        self.charge(cpu, now);
        let slot = self.cpus.get_mut(cpu)?;
        let key = slot.current.take()?;
        if slot.pool.is_some() {
            self.idle |= bit(cpu);
        }
        slot.idle_since = Some(now);
        let unit = self.units.get_mut(&key)?;
        unit.status = match how {
            Leave::Preempted => Status::Runnable,
            Leave::Blocked => Status::Blocked,
            Leave::Offline => Status::Offline,
        };
        if unit.removed {
            self.remove(key);
            return None;
        }
        let idleness = unit.start_waiting(now);
        if how == Leave::Preempted {
            self.ready(key, now);
        }
        Some(idleness)
    }

    /// Gives `cpu`, which runs nothing, a vCPU.
    pub(super) fn pick(&mut self, cpu: CpuId, now: u64) -> Option<Turn<T>> {
        self.shared.flags(cpu).clear();
        self.called &= !bit(cpu);
        let slot = self.cpus.get_mut(cpu)?;
        slot.idle_since.get_or_insert(now);
        let id = slot.pool?;
        let chosen = self.choose(self.pools.get(&id)?, cpu);
        let Some((place, Entry { key, allowed, .. })) = chosen else {
            self.idle |= bit(cpu);
            self.call_idle(id);
            return None;
        };
        self.idle &= !bit(cpu);
        self.raise_floor(id, now);
        let pool = self.pools.get_mut(&id)?;
        pool.queue.remove(&place);
        each(allowed).for_each(|cpu| self.shared.flags(cpu).waits(false));
        let unit = self.units.get_mut(&key)?;
        unit.place = None;
        unit.status = Status::Running(cpu);
        unit.last_cpu = cpu;
        let waited = unit.end_waiting(now);
        let (weight, payload) = (unit.weight, unit.payload.clone());
        let slot = self.cpus.get_mut(cpu)?;
        let idled = slot.idle_since.take().map_or(0, |since| now.saturating_sub(since));
        slot.idle_time += idled;
        slot.current = Some(key);
        (slot.since, slot.charged) = (now, now);
        (slot.vruntime, slot.weight) = (place.0, weight);
        self.call_idle(id);
        Some(Turn { key, payload, waited })
    }

    /// When `cpu` has to look again ([`State::slice_over`]), as a counter value.
    pub(super) fn slice_end(&self, cpu: CpuId) -> Option<u64> {
        let slot = self.cpus.get(cpu)?;
        let renewals = self.exhausted.iter().filter_map(|domain| Some(self.groups.get(domain)?.renewal));
        let mut ends = [renewals.min(), None, None];
        if let (Some(key), Some(pool)) = (slot.current, slot.pool.and_then(|id| self.pools.get(&id))) {
            let group = self.groups.get(&key.domain).filter(|group| group.cap != 0);
            ends[1] = group.map(|group| {
                let running = self.cpus.iter().filter(|s| s.current.is_some_and(|k| k.domain == key.domain));
                // Not one tick after another while several vCPUs share what is left.
                let left = group.time_left(running.count() as u64).max(self.times.slice / 100);
                slot.charged.saturating_add(left)
            });
            ends[2] = self.choose(pool, cpu).map(|((head, _), _)| {
                let behind = head.saturating_add(self.times.slice).saturating_sub(slot.vruntime);
                let rest = unscaled(behind, slot.weight).min(self.times.slice);
                let shortest = slot.since.saturating_add(self.times.ticks(pool.ratelimit_us.into()));
                slot.charged.saturating_add(rest).max(shortest)
            });
        }
        ends.into_iter().flatten().min()
    }

    /// The CPU's timer fired: begins periods that are due, and has the vCPU leave if its turn is over.
    pub(super) fn slice_over(&mut self, cpu: CpuId, now: u64) {
        self.renew(now);
        self.charge(cpu, now);
        let Some(slot) = self.cpus.get(cpu).filter(|slot| slot.current.is_some()) else { return };
        let Some(pool) = slot.pool.and_then(|id| self.pools.get(&id)) else { return };
        let Some(((head, _), _)) = self.choose(pool, cpu) else { return };
        let turn = now.saturating_sub(slot.since);
        let slice = self.times.slice;
        if turn >= self.times.ticks(pool.ratelimit_us.into())
            && (slot.vruntime >= head.saturating_add(slice) || (turn >= slice && slot.vruntime >= head))
        {
            self.shared.flags(cpu).set_leave();
        }
    }
}
