//! The scheduler: which vCPU runs on which CPU.
//!
//! One queue for each pool of CPUs, ordered by virtual runtime: time run, divided by weight. A CPU takes the vCPU that
//! has had the least and that may run there, so CPUs are shared fairly whatever the numbers of both. Nothing ticks: a
//! CPU's turn has an end only while somebody waits for it or a domain has a cap, and a CPU with nothing to run sleeps.
//!
//! ```text
//!              wake                    pick
//!   Blocked ---------> Runnable -----------------> Running(cpu)
//!      ^                ^   |  in the queue, unless    |
//!      |                |   |  paused or out of budget |
//!      |                +---|------ leave: Preempted --+
//!      +--------------------|------ leave: Blocked ----+
//!                           |                          |
//!   Offline <---------------|------ leave: Offline ----+     until CPU_ON
//! ```
//!
//! Pausing is beside that: a paused vCPU goes on from state to state, so a wake-up is remembered, but is in no queue.
//! Whoever pauses, removes or rebinds a vCPU that runs has its CPU told ([`Demand::Leave`]), which then leaves of itself.
//!
//! **No wake-up is lost.** Whoever raises an interrupt for a vCPU first makes it visible in the vCPU's virtual
//! interrupt controller, then calls [`Scheduler::wake`]. Whoever blocks a vCPU first calls [`Scheduler::leave`], then
//! looks for interrupts again, and wakes it if there is one.
//!
//! **No CPU idles while a vCPU waits that may run there.** Whoever puts a vCPU into the queue calls an idle CPU for it;
//! who picks another one looks for an idle CPU for those that are left.
//!
//! Every call that may concern other CPUs answers which ones are to be kicked.

mod account;
mod control;
mod cpu;
mod group;
mod key;
pub mod mask;
mod placement;
mod pool;
#[cfg(test)]
mod properties;
mod state;
#[cfg(test)]
mod tests;
mod unit;

use alloc::sync::Arc;

use spin::Mutex;
use vambrace_abi::errno::Errno;

pub use self::account::{Account, CpuAccount, DomainAccount, Idleness, PoolAccount, Status, Waited};
pub use self::cpu::Demand;
pub use self::key::VcpuKey;
pub use self::mask::CpuMask;
pub use self::pool::POOL0;
pub use self::unit::DEFAULT_WEIGHT;

use self::mask::{bit, lowest};
use self::state::{Shared, State};
use self::unit::Unit;
use crate::machine::CpuId;

/// Shortest turn before another may push a vCPU aside, in microseconds, where nobody set another (Xen's default).
pub const DEFAULT_RATELIMIT_US: u32 = 1000;

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

/// A vCPU's turn on a CPU.
pub struct Turn<T> {
    /// Its name.
    pub key: VcpuKey,
    /// What it was added with.
    pub payload: Arc<T>,
    /// What it did since its last turn.
    pub waited: Waited,
}

/// The scheduler of `T`s, the vCPUs with whatever a CPU needs to run them.
pub struct Scheduler<T> {
    state: Mutex<State<T>>,
    shared: Arc<Shared>,
}

/// CPUs to kick.
type Kicks = CpuMask;

impl<T> Scheduler<T> {
    /// A scheduler for `cpus` CPUs whose counter runs at `frequency` ticks a second. No CPU is online yet.
    pub fn new(cpus: usize, frequency: u64) -> Self {
        let state = State::new(cpus, frequency);
        Self { shared: state.shared.clone(), state: Mutex::new(state) }
    }

    /// Does something under the lock; with the CPUs to kick for it.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> (R, Kicks) {
        let mut state = self.state.lock();
        let result = f(&mut state);
        (result, state.take_kicks())
    }

    // --- What a CPU does ---

    /// Lets `cpu` take work, of pool 0.
    pub fn cpu_online(&self, cpu: CpuId) {
        // The one that says so looks at the queue next.
        let _ = self.with(|state| state.cpu_online(cpu, 0));
    }

    /// What the CPU has to do before it goes back to its guest. Cheap: this is asked each time.
    #[inline]
    pub fn demand(&self, cpu: CpuId) -> Demand {
        self.shared.flags(cpu).demand()
    }

    /// Whether the CPU's vCPU has to leave it.
    #[cfg(test)]
    pub fn should_leave(&self, cpu: CpuId) -> bool {
        self.shared.flags(cpu).wants_leave()
    }

    /// Whether anybody waits who may run on this CPU. Cheap.
    #[inline]
    pub fn anyone_waiting(&self, cpu: CpuId) -> bool {
        self.shared.flags(cpu).is_wanted()
    }

    /// Takes the vCPU that runs on `cpu` off it. What it does from now on (`None` if it was removed), and the CPUs to
    /// kick.
    pub fn leave(&self, cpu: CpuId, how: Leave, now: u64) -> (Option<Idleness>, CpuMask) {
        self.with(|state| state.leave(cpu, how, now))
    }

    /// Gives `cpu`, which runs nothing, the vCPU that has had the least, if there is one for it; and the CPUs to kick.
    pub fn pick(&self, cpu: CpuId, now: u64) -> (Option<Turn<T>>, CpuMask) {
        self.with(|state| state.pick(cpu, now))
    }

    /// When the CPU has to look again whether its vCPU's turn is over, as a counter value, if ever.
    #[inline]
    pub fn slice_end(&self, cpu: CpuId) -> Option<u64> {
        if self.shared.is_endless(cpu) {
            return None;
        }
        self.state.lock().slice_end(cpu)
    }

    /// The CPU's timer fired: it will leave at the next chance if its vCPU's turn is over. The CPUs to kick.
    pub fn slice_over(&self, cpu: CpuId, now: u64) -> CpuMask {
        if self.shared.is_endless(cpu) {
            return 0;
        }
        self.with(|state| state.slice_over(cpu, now)).1
    }

    // --- Life of vCPUs ---

    /// Makes a domain known that has no vCPU yet, in a pool. ESRCH without such a pool, ENODEV for one without CPUs.
    pub fn add_domain(&self, domain: u16, pool: u32) -> Result<(), Errno> {
        self.state.lock().join(domain, pool)
    }

    /// Makes a vCPU known, offline. The domain, if it is not known, is put into pool 0 with the weight.
    pub fn add(&self, key: VcpuKey, payload: Arc<T>, affinity: CpuMask, weight: u32) {
        let mut state = self.state.lock();
        let weight = weight.clamp(1, u16::MAX.into()) as u16;
        state.enter(key.domain, POOL0, weight);
        let Some(group) = state.groups.get_mut(&key.domain) else { return };
        let unit = Unit::new(payload, affinity, group.weight.into());
        if state.units.insert(key, unit).is_none()
            && let Some(group) = state.groups.get_mut(&key.domain)
        {
            group.units += 1;
        }
    }

    /// Forgets a vCPU: at once, or if it runs, when it has left the CPU, which is to be kicked.
    pub fn remove(&self, key: VcpuKey) -> Option<CpuId> {
        lowest(self.with(|state| state.remove(key)).1)
    }

    /// Makes a vCPU runnable that was blocked, and says which CPU has to be kicked for it. For a running vCPU that is the
    /// CPU it runs on: it leaves the guest and sees what was raised.
    pub fn wake(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        lowest(self.with(|state| state.wake(key, now, false)).1)
    }

    /// As [`Scheduler::wake`] for a vCPU that is offline: CPU_ON.
    pub fn bring_online(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        lowest(self.with(|state| state.wake(key, now, true)).1)
    }

    /// Takes a vCPU offline, until [`Scheduler::bring_online`]. One that is on a CPU stays as it is: pause it first.
    pub fn take_offline(&self, key: VcpuKey, now: u64) {
        self.state.lock().take_offline(key, now);
    }

    /// Keeps a vCPU from running until [`Scheduler::unpause`] was called as often. If it runs, it leaves the CPU, which is
    /// to be kicked; it has left when [`Scheduler::is_running`] says so.
    pub fn pause(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        lowest(self.with(|state| state.pause(key, now)).1)
    }

    /// Takes one [`Scheduler::pause`] back. The CPU to kick.
    pub fn unpause(&self, key: VcpuKey, now: u64) -> Option<CpuId> {
        lowest(self.with(|state| state.unpause(key, now)).1)
    }

    /// Whether a vCPU is on a CPU, or a CPU is about to load it.
    pub fn is_running(&self, key: VcpuKey) -> bool {
        self.state.lock().units.get(&key).is_some_and(|unit| matches!(unit.status, Status::Running(_)))
    }

    // --- What a toolstack sets ---

    /// Sets a vCPU's hard affinity, its soft one, or both; a vCPU that runs elsewhere moves at once. The CPU to kick.
    /// ESRCH without such a vCPU; EINVAL for a hard one without a CPU of the vCPU's pool.
    pub fn set_affinity(
        &self,
        key: VcpuKey,
        hard: Option<CpuMask>,
        soft: Option<CpuMask>,
        now: u64,
    ) -> Result<Option<CpuId>, Errno> {
        let (result, kicks) = self.with(|state| state.set_affinity(key, hard, soft, now));
        result.map(|()| lowest(kicks))
    }

    /// Sets the weight of a domain's vCPUs, 1 to 65535. The CPUs to kick. ESRCH without such a domain, EINVAL for 0.
    pub fn set_weight(&self, domain: u16, weight: u16, now: u64) -> Result<CpuMask, Errno> {
        let (result, kicks) = self.with(|state| state.set_weight(domain, weight, now));
        result.map(|()| kicks)
    }

    /// Limits all vCPUs of a domain together to `cap` per cent of a CPU, in each period of 10 ms; 0 ends that. The CPUs to
    /// kick. ESRCH without such a domain.
    pub fn set_cap(&self, domain: u16, cap: u16, now: u64) -> Result<CpuMask, Errno> {
        let (result, kicks) = self.with(|state| state.set_cap(domain, cap, now));
        result.map(|()| kicks)
    }

    /// Sets the shortest turn in a pool, in microseconds (credit2's ratelimit): 100 to 500000, or 0 for none. ESRCH
    /// without such a pool, EINVAL out of bounds.
    pub fn set_ratelimit(&self, pool: u32, microseconds: u32) -> Result<(), Errno> {
        self.state.lock().set_ratelimit(pool, microseconds)
    }

    // --- Pools ---

    /// Creates a pool without CPUs, of the number or of any; its number. EEXIST, ENOSPC for more than two for each CPU.
    pub fn create_pool(&self, wanted: Option<u32>) -> Result<u32, Errno> {
        self.state.lock().create_pool(wanted)
    }

    /// Destroys a pool. ENOENT without such a pool, EBUSY while it has domains or CPUs.
    pub fn destroy_pool(&self, pool: u32) -> Result<(), Errno> {
        self.state.lock().destroy_pool(pool)
    }

    /// Gives a CPU that is in no pool, or any such, to a pool. The CPUs to kick. ENOENT without such a pool, EINVAL for no
    /// CPU's number, ENODEV for one that is not free.
    pub fn add_pool_cpu(&self, pool: u32, cpu: Option<CpuId>, now: u64) -> Result<CpuMask, Errno> {
        let (result, kicks) = self.with(|state| state.add_cpu(pool, cpu, now));
        result.map(|()| kicks)
    }

    /// Takes a CPU, or the last one, from a pool. The CPUs to kick. vCPUs that could run on no other CPU of the pool may
    /// run on all of them then. ENOENT without such a pool; EINVAL for no CPU's number, a pool without CPUs, and the boot
    /// CPU in pool 0; EADDRNOTAVAIL for a CPU that is not in it; EBUSY for the last one while there are domains.
    pub fn remove_pool_cpu(&self, pool: u32, cpu: Option<CpuId>, now: u64) -> Result<CpuMask, Errno> {
        let (result, kicks) = self.with(|state| state.remove_cpu(pool, cpu, now));
        result.map(|()| kicks)
    }

    /// Moves a domain to another pool, where its vCPUs may run on every CPU. The CPUs to kick. ESRCH without such a
    /// domain, ENOENT without such a pool or for one without CPUs.
    pub fn move_domain(&self, domain: u16, pool: u32, now: u64) -> Result<CpuMask, Errno> {
        let (result, kicks) = self.with(|state| state.move_domain(domain, pool, now));
        result.map(|()| kicks)
    }

    /// The pool with the lowest number from `at_least` on.
    pub fn pool(&self, at_least: u32) -> Option<PoolAccount> {
        self.state.lock().pool_account(at_least)
    }

    /// CPUs in no pool.
    pub fn free_cpus(&self) -> CpuMask {
        self.state.lock().free_cpus()
    }

    // --- Accounts ---

    /// The CPUs that are online.
    pub fn online_cpus(&self) -> CpuMask {
        let state = self.state.lock();
        state.cpus.iter().enumerate().filter(|(_, c)| c.online).fold(0, |m, (i, _)| m | bit(i))
    }

    /// A vCPU's account.
    pub fn account(&self, key: VcpuKey) -> Option<Account> {
        let state = self.state.lock();
        state.units.get(&key).map(|unit| state.account_of(unit))
    }

    /// A domain's account.
    pub fn domain(&self, domain: u16) -> Option<DomainAccount> {
        self.state.lock().groups.get(&domain).map(|group| group.account())
    }

    /// A CPU's account at the counter value `now`.
    pub fn cpu(&self, cpu: CpuId, now: u64) -> Option<CpuAccount> {
        self.state.lock().cpus.get(cpu).map(|slot| slot.account(now))
    }

    /// Calls `f` with the key and account of each of a domain's vCPUs, in order. It must not call the scheduler.
    pub fn for_each_of(&self, domain: u16, mut f: impl FnMut(VcpuKey, &Account)) {
        let state = self.state.lock();
        for (key, unit) in state.units.range(VcpuKey::all_of(domain)) {
            f(*key, &state.account_of(unit));
        }
    }
}

impl<T> State<T> {
    fn account_of(&self, unit: &Unit<T>) -> Account {
        let slot = match unit.status {
            Status::Running(cpu) => self.cpus.get(cpu),
            _ => None,
        };
        unit.account(slot.map(|slot| slot.charged))
    }
}
