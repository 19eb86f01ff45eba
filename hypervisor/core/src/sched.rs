//! The scheduler: which vCPU runs on which CPU.
//!
//! One queue for all CPUs, ordered by virtual runtime: time run, divided by weight. A CPU takes the vCPU that has had
//! the least and that may run there, so CPUs are shared fairly whatever the numbers of both. Nothing ticks: a CPU's
//! time slice is armed only while somebody waits for a CPU, and a CPU with nothing to run sleeps.
//!
//! ```text
//!              wake                    pick
//!   Blocked ---------> Runnable(queue) ------> Running(cpu)
//!      ^                    ^                      |
//!      |                    +------ preempt -------+
//!      +------------------- block -----------------+          Offline: until CPU_ON, and after CPU_OFF
//! ```
//!
//! **No wake-up is lost.** Whoever raises an interrupt for a vCPU first makes it visible in the vCPU's virtual
//! interrupt controller, then calls [`Scheduler::wake`]. Whoever blocks a vCPU first calls [`Scheduler::leave`], then
//! looks for interrupts again, and wakes it if there is one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use spin::Mutex;

use crate::machine::CpuId;

/// Names a vCPU: domain identifier and index within the domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct VcpuKey {
    /// Domain identifier.
    pub domain: u16,
    /// Index of the vCPU in the domain.
    pub vcpu: u16,
}

/// The CPUs that a vCPU may run on, a bit each.
pub type CpuMask = u128;

/// Weight of a vCPU whose domain asked for nothing else (credit2's default).
pub const DEFAULT_WEIGHT: u32 = 256;

/// Time slice while others wait, in microseconds.
const SLICE_US: u64 = 10_000;
/// How far behind a waking vCPU has to be to push another off its CPU, in microseconds.
const PREEMPT_MARGIN_US: u64 = 500;

/// What a vCPU does, as the scheduler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Not brought up, or switched off.
    Offline,
    /// Waits for an interrupt or event.
    Blocked,
    /// Waits for a CPU.
    Runnable,
    /// Runs on the CPU.
    Running(CpuId),
}

/// A vCPU's account with the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// What it does.
    pub status: Status,
    /// Time it has run, in counter ticks.
    pub run_time: u64,
    /// CPU it ran on last.
    pub last_cpu: CpuId,
    /// CPUs it may run on.
    pub affinity: CpuMask,
    /// Share of a CPU relative to others.
    pub weight: u32,
}

struct Unit<T> {
    payload: Arc<T>,
    account: Account,
    /// Virtual runtime, in ticks scaled by `DEFAULT_WEIGHT / weight`.
    vruntime: u64,
}

struct CpuSlot {
    online: bool,
    current: Option<VcpuKey>,
    since: u64,
}

struct State<T> {
    units: BTreeMap<VcpuKey, Unit<T>>,
    queue: BTreeSet<(u64, VcpuKey)>,
    cpus: Vec<CpuSlot>,
    /// No vCPU that wakes starts behind this, so that sleeping earns no credit.
    floor: u64,
}

/// The scheduler of `T`s, the vCPUs with whatever a CPU needs to run them.
pub struct Scheduler<T> {
    state: Mutex<State<T>>,
    waiting: AtomicUsize,
    preempt: Vec<AtomicBool>,
    slice: u64,
    margin: u64,
}

/// What happens to the vCPU that leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It wants to go on: back into the queue.
    Preempted,
    /// It waits for an interrupt.
    Blocked,
    /// It was switched off.
    Offline,
}

impl<T> Scheduler<T> {
    /// A scheduler for `cpus` CPUs whose counter runs at `frequency` ticks a second. No CPU is online yet.
    pub fn new(cpus: usize, frequency: u64) -> Self {
        let slots = (0..cpus).map(|_| CpuSlot { online: false, current: None, since: 0 }).collect();
        let ticks = |us: u64| frequency.saturating_mul(us) / 1_000_000;
        Self {
            state: Mutex::new(State {
                units: BTreeMap::new(),
                queue: BTreeSet::new(),
                cpus: slots,
                floor: 0,
            }),
            waiting: AtomicUsize::new(0),
            preempt: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            slice: ticks(SLICE_US).max(1),
            margin: ticks(PREEMPT_MARGIN_US),
        }
    }

    /// Lets `cpu` take work.
    pub fn cpu_online(&self, cpu: CpuId) {
        if let Some(slot) = self.state.lock().cpus.get_mut(cpu) {
            slot.online = true;
        }
    }

    /// The CPUs that take work.
    pub fn online_cpus(&self) -> CpuMask {
        let state = self.state.lock();
        state.cpus.iter().enumerate().filter(|(_, c)| c.online).fold(0, |m, (i, _)| m | bit(i))
    }

    /// Makes a vCPU known, offline.
    pub fn add(&self, key: VcpuKey, payload: Arc<T>, affinity: CpuMask, weight: u32) {
        let account =
            Account { status: Status::Offline, run_time: 0, last_cpu: 0, affinity, weight: weight.max(1) };
        let unit = Unit { payload, account, vruntime: 0 };
        self.state.lock().units.insert(key, unit);
    }

    /// Makes a vCPU runnable that was offline or blocked, and says which CPU has to be kicked for it. For a running
    /// vCPU that is the CPU it runs on: it leaves the guest and sees what was raised.
    pub fn wake(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        self.make_runnable(key, now, false)
    }

    /// As [`Scheduler::wake`] for a vCPU that is offline: CPU_ON.
    pub fn bring_online(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        self.make_runnable(key, now, true)
    }

    fn make_runnable(&self, key: VcpuKey, now: u64, from_offline: bool) -> Option<CpuId> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let floor = state.floor;
        let unit = state.units.get_mut(&key)?;
        match unit.account.status {
            Status::Running(cpu) => return Some(cpu),
            Status::Runnable => return None,
            Status::Offline if !from_offline => return None,
            Status::Offline | Status::Blocked => {}
        }
        unit.account.status = Status::Runnable;
        unit.vruntime = unit.vruntime.max(floor);
        state.queue.insert((unit.vruntime, key));
        let (affinity, last, vruntime) = (unit.account.affinity, unit.account.last_cpu, unit.vruntime);
        self.waiting.store(state.queue.len(), Ordering::Release);
        let (cpu, preempt) = state.place(affinity, last, vruntime, now, self.margin)?;
        if preempt {
            self.preempt[cpu].store(true, Ordering::Release);
        }
        Some(cpu)
    }

    /// Whether the CPU should offer its vCPU's place to others now ([`Scheduler::leave`], then [`Scheduler::pick`]).
    /// Cheap: this is asked before each return to a guest.
    #[inline]
    pub fn should_leave(&self, cpu: CpuId) -> bool {
        self.preempt.get(cpu).is_some_and(|p| p.load(Ordering::Acquire))
    }

    /// Whether anybody waits for a CPU. Cheap.
    #[inline]
    pub fn anyone_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) != 0
    }

    /// The CPU's slice is over: it will leave at the next chance if somebody waits.
    pub fn slice_over(&self, cpu: CpuId) {
        if self.anyone_waiting()
            && let Some(preempt) = self.preempt.get(cpu)
        {
            preempt.store(true, Ordering::Release);
        }
    }

    /// Takes the vCPU that runs on `cpu` off it.
    pub fn leave(&self, cpu: CpuId, how: Leave, now: u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(slot) = state.cpus.get_mut(cpu) else { return };
        let Some(key) = slot.current.take() else { return };
        let ran = now.saturating_sub(slot.since);
        let Some(unit) = state.units.get_mut(&key) else { return };
        unit.account.run_time += ran;
        unit.vruntime += ran.saturating_mul(u64::from(DEFAULT_WEIGHT)) / u64::from(unit.account.weight);
        unit.account.status = match how {
            Leave::Preempted => Status::Runnable,
            Leave::Blocked => Status::Blocked,
            Leave::Offline => Status::Offline,
        };
        if how == Leave::Preempted {
            state.queue.insert((unit.vruntime, key));
        }
        self.waiting.store(state.queue.len(), Ordering::Release);
    }

    /// Gives `cpu`, which runs nothing, the vCPU that has had the least; `None` when there is none for it.
    pub fn pick(&self, cpu: CpuId, now: u64) -> Option<(VcpuKey, Arc<T>)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        self.preempt.get(cpu)?.store(false, Ordering::Release);
        let units = &mut state.units;
        let &(vruntime, key) = state
            .queue
            .iter()
            .find(|(_, k)| units.get(k).is_some_and(|u| u.account.affinity & bit(cpu) != 0))?;
        state.queue.remove(&(vruntime, key));
        self.waiting.store(state.queue.len(), Ordering::Release);
        let unit = units.get_mut(&key)?;
        unit.account.status = Status::Running(cpu);
        unit.account.last_cpu = cpu;
        state.floor = state.floor.max(vruntime);
        let slot = state.cpus.get_mut(cpu)?;
        slot.current = Some(key);
        slot.since = now;
        Some((key, unit.payload.clone()))
    }

    /// When the CPU's slice ends, as a counter value, if somebody waits for a CPU.
    pub fn slice_end(&self, cpu: CpuId) -> Option<u64> {
        if !self.anyone_waiting() {
            return None;
        }
        self.state.lock().cpus.get(cpu).map(|slot| slot.since + self.slice)
    }

    /// A vCPU's account.
    pub fn account(&self, key: VcpuKey) -> Option<Account> {
        self.state.lock().units.get(&key).map(|u| u.account)
    }

    /// Calls `f` with every vCPU's key and account, in order.
    pub fn for_each(&self, mut f: impl FnMut(VcpuKey, &Account)) {
        for (key, unit) in &self.state.lock().units {
            f(*key, &unit.account);
        }
    }
}

impl<T> State<T> {
    /// The CPU to kick for a vCPU that just woke, and whether it should give way: its last one if idle, any idle one, or
    /// the one whose vCPU is furthest ahead.
    fn place(
        &self,
        affinity: CpuMask,
        last: CpuId,
        vruntime: u64,
        now: u64,
        margin: u64,
    ) -> Option<(CpuId, bool)> {
        let usable = |&i: &usize| affinity & bit(i) != 0 && self.cpus[i].online;
        let idle = |&i: &usize| usable(&i) && self.cpus[i].current.is_none();
        if last < self.cpus.len() && idle(&last) {
            return Some((last, true));
        }
        if let Some(cpu) = (0..self.cpus.len()).find(idle) {
            return Some((cpu, true));
        }
        (0..self.cpus.len())
            .filter(usable)
            .filter_map(|cpu| {
                let slot = &self.cpus[cpu];
                let unit = self.units.get(&slot.current?)?;
                let ran = now.saturating_sub(slot.since);
                let ahead = unit.vruntime + ran * u64::from(DEFAULT_WEIGHT) / u64::from(unit.account.weight);
                (ahead > vruntime + margin).then_some((ahead, cpu))
            })
            .max()
            .map(|(_, cpu)| (cpu, true))
            // Nobody to push aside: whoever runs on the last CPU learns that its slice now has an end.
            .or_else(|| (0..self.cpus.len()).find(usable).map(|cpu| (cpu, false)))
    }
}

fn bit(cpu: CpuId) -> CpuMask {
    1u128.checked_shl(cpu as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vcpu: u16) -> VcpuKey {
        VcpuKey { domain: 0, vcpu }
    }

    fn scheduler(cpus: usize, vcpus: u16) -> Scheduler<()> {
        let s = Scheduler::new(cpus, 1_000_000);
        (0..cpus).for_each(|c| s.cpu_online(c));
        for v in 0..vcpus {
            s.add(key(v), Arc::new(()), CpuMask::MAX, DEFAULT_WEIGHT);
            s.bring_online(key(v), 0);
        }
        s
    }

    #[test]
    fn three_vcpus_share_two_cpus_fairly() {
        let s = scheduler(2, 3);
        let mut now = 0;
        for _ in 0..300 {
            for cpu in 0..2 {
                s.pick(cpu, now).unwrap();
            }
            now += 10_000;
            for cpu in 0..2 {
                s.leave(cpu, Leave::Preempted, now);
            }
        }
        for v in 0..3 {
            let ran = s.account(key(v)).unwrap().run_time;
            assert!((1_980_000..=2_020_000).contains(&ran), "vCPU {v} ran {ran}");
        }
    }

    #[test]
    fn a_sleeper_earns_no_credit() {
        let s = scheduler(1, 2);
        let (first, _) = s.pick(0, 0).unwrap();
        s.leave(0, Leave::Blocked, 1);
        let mut now = 1;
        for _ in 0..100 {
            let (k, _) = s.pick(0, now).unwrap();
            assert_ne!(k, first);
            now += 10_000;
            s.leave(0, Leave::Preempted, now);
        }
        s.wake(first, now);
        let mut runs = 0;
        for _ in 0..10 {
            if s.pick(0, now).unwrap().0 == first {
                runs += 1;
            }
            now += 10_000;
            s.leave(0, Leave::Preempted, now);
        }
        assert!((4..=6).contains(&runs), "{runs} of 10");
    }

    #[test]
    fn weight_and_affinity_hold() {
        let s = Scheduler::new(2, 1_000_000);
        (0..2).for_each(|c| s.cpu_online(c));
        s.add(key(0), Arc::new(()), 0b01, DEFAULT_WEIGHT * 3);
        s.add(key(1), Arc::new(()), 0b01, DEFAULT_WEIGHT);
        assert_eq!(s.bring_online(key(0), 0), Some(0));
        s.bring_online(key(1), 0);
        assert!(s.pick(1, 0).is_none());
        let mut now = 0;
        for _ in 0..400 {
            s.pick(0, now).unwrap();
            now += 1000;
            s.leave(0, Leave::Preempted, now);
        }
        let ran = s.account(key(0)).unwrap().run_time;
        assert!((295_000..=305_000).contains(&ran), "{ran}");
    }

    #[test]
    fn wake_names_the_cpu_to_kick() {
        let s = scheduler(2, 2);
        let (a, _) = s.pick(0, 0).unwrap();
        assert_eq!(s.wake(a, 0), Some(0), "running: its own CPU");
        let (b, _) = s.pick(1, 0).unwrap();
        s.leave(1, Leave::Blocked, 5);
        assert_eq!(s.wake(b, 5), Some(1), "idle again on its last CPU");
        assert_eq!(s.wake(b, 5), None, "already runnable");
        s.pick(1, 5).unwrap();
        s.leave(1, Leave::Offline, 6);
        assert_eq!(s.wake(b, 6), None, "offline stays off");
        assert_eq!(s.account(b).unwrap().status, Status::Offline);
        assert!(s.bring_online(b, 6).is_some());
    }

    #[test]
    fn nobody_waits_means_no_slice() {
        let s = scheduler(1, 1);
        s.pick(0, 0).unwrap();
        assert_eq!(s.slice_end(0), None);
        s.slice_over(0);
        assert!(!s.should_leave(0));
    }
}
