//! Pools of CPUs: their queues, and how CPUs and domains go from one to another (`sysctl.h`, cpupool_op).
//!
//! A CPU is in one pool or in none, where it idles. A domain is in one pool, and its vCPUs run on that pool's CPUs only.
//! Pool 0 has all CPUs at first, keeps the boot CPU, and is there for ever. Errors are those of Xen's calls.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use vambrace_abi::errno::Errno;

use super::group::Group;
use super::mask::{bit, lowest};
use super::state::State;
use super::unit::DEFAULT_WEIGHT;
use super::{CpuMask, DEFAULT_RATELIMIT_US, PoolAccount, VcpuKey};
use crate::machine::CpuId;

/// The pool that all CPUs are in at first.
pub const POOL0: u32 = 0;
/// Not the number of a pool: `XEN_SYSCTL_CPUPOOL_PAR_ANY`.
const NO_POOL: u32 = u32::MAX;

/// A vCPU's place in a queue: its virtual runtime, then who came first.
pub(super) type Place = (u64, u64);

/// A vCPU in a queue.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: VcpuKey,
    /// CPUs that may take it.
    pub(super) allowed: CpuMask,
    /// Those of them that it prefers.
    pub(super) preferred: CpuMask,
}

#[derive(Default)]
pub(super) struct Pool {
    pub(super) cpus: CpuMask,
    pub(super) domains: u32,
    pub(super) queue: BTreeMap<Place, Entry>,
    /// What the vCPU with the least virtual runtime among those that run or wait had at last.
    pub(super) floor: u64,
    pub(super) ratelimit_us: u32,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { ratelimit_us: DEFAULT_RATELIMIT_US, ..Self::default() }
    }

    fn account(&self, id: u32) -> PoolAccount {
        PoolAccount { id, cpus: self.cpus, domains: self.domains, ratelimit_us: self.ratelimit_us }
    }
}

impl<T> State<T> {
    /// Puts a domain that is new into a pool. ESRCH without such a pool, ENODEV for one without CPUs.
    pub(super) fn join(&mut self, domain: u16, pool: u32) -> Result<(), Errno> {
        if self.pools.get(&pool).ok_or(Errno::ESRCH)?.cpus == 0 {
            return Err(Errno::ENODEV);
        }
        self.enter(domain, pool, DEFAULT_WEIGHT as u16);
        Ok(())
    }

    /// Makes a domain known in a pool that exists, unless it is known.
    pub(super) fn enter(&mut self, domain: u16, pool: u32, weight: u16) {
        if !self.groups.contains_key(&domain)
            && let Some(home) = self.pools.get_mut(&pool)
        {
            home.domains += 1;
            self.groups.insert(domain, Group::new(pool, weight));
        }
    }

    /// Forgets a domain that has no vCPU any more.
    pub(super) fn forget(&mut self, domain: u16) {
        let Some(group) = self.groups.remove(&domain) else { return };
        self.exhausted.remove(&domain);
        if group.cap != 0 {
            self.shared.capped_less();
        }
        if let Some(pool) = self.pools.get_mut(&group.pool) {
            pool.domains -= 1;
        }
    }

    pub(super) fn pool_account(&self, at_least: u32) -> Option<PoolAccount> {
        self.pools.range(at_least..).next().map(|(id, pool)| pool.account(*id))
    }

    /// CPUs that are online and in no pool.
    pub(super) fn free_cpus(&self) -> CpuMask {
        let free = self.cpus.iter().enumerate().filter(|(_, slot)| slot.online && slot.pool.is_none());
        free.fold(0, |mask, (cpu, _)| mask | bit(cpu))
    }

    pub(super) fn create_pool(&mut self, wanted: Option<u32>) -> Result<u32, Errno> {
        if self.pools.len() >= 2 * self.cpus.len() {
            return Err(Errno::ENOSPC);
        }
        let id = match wanted.filter(|id| *id != NO_POOL) {
            Some(id) if self.pools.contains_key(&id) => return Err(Errno::EEXIST),
            Some(id) => id,
            None => {
                let after = self.pools.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
                let mut ids = (after..NO_POOL).chain(0..after);
                ids.find(|id| !self.pools.contains_key(id)).ok_or(Errno::ENOSPC)?
            }
        };
        self.pools.insert(id, Pool::new());
        Ok(id)
    }

    pub(super) fn destroy_pool(&mut self, id: u32) -> Result<(), Errno> {
        let pool = self.pools.get(&id).ok_or(Errno::ENOENT)?;
        if pool.domains != 0 || pool.cpus != 0 {
            return Err(Errno::EBUSY);
        }
        self.pools.remove(&id);
        Ok(())
    }

    pub(super) fn add_cpu(&mut self, id: u32, cpu: Option<CpuId>, now: u64) -> Result<(), Errno> {
        if !self.pools.contains_key(&id) {
            return Err(Errno::ENOENT);
        }
        let free = self.free_cpus();
        let cpu = cpu.or(lowest(free)).ok_or(Errno::ENODEV)?;
        if cpu >= self.cpus.len() {
            return Err(Errno::EINVAL);
        }
        if free & bit(cpu) == 0 {
            return Err(Errno::ENODEV);
        }
        self.give_cpu(id, cpu, now);
        Ok(())
    }

    /// Gives a CPU that is in no pool to a pool that exists.
    pub(super) fn give_cpu(&mut self, id: u32, cpu: CpuId, now: u64) {
        let (Some(pool), Some(slot)) = (self.pools.get_mut(&id), self.cpus.get_mut(cpu)) else { return };
        pool.cpus |= bit(cpu);
        slot.pool = Some(id);
        if slot.current.is_none() {
            self.idle |= bit(cpu);
        }
        self.requeue(id, now);
        // It may have taken its last look at the queue.
        self.kick(cpu);
    }

    pub(super) fn remove_cpu(&mut self, id: u32, cpu: Option<CpuId>, now: u64) -> Result<(), Errno> {
        let pool = self.pools.get_mut(&id).ok_or(Errno::ENOENT)?;
        let highest = || pool.cpus.checked_ilog2().map(|bit| bit as CpuId);
        let cpu = cpu.or_else(highest).ok_or(Errno::EINVAL)?;
        let slot = self.cpus.get_mut(cpu).ok_or(Errno::EINVAL)?;
        if !slot.online || (id == POOL0 && cpu == 0) {
            return Err(Errno::EINVAL);
        }
        if pool.cpus & bit(cpu) == 0 {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if pool.cpus == bit(cpu) && pool.domains != 0 {
            return Err(Errno::EBUSY);
        }
        let left = pool.cpus & !bit(cpu);
        pool.cpus = left;
        slot.pool = None;
        self.idle &= !bit(cpu);
        self.called &= !bit(cpu);
        // Who was bound to this CPU alone may now run on all of the pool, as with Xen.
        let groups = &self.groups;
        let inhabitants =
            self.units.iter_mut().filter(|(key, _)| groups.get(&key.domain).is_some_and(|g| g.pool == id));
        for (_, unit) in inhabitants {
            if unit.hard & left == 0 {
                unit.hard = CpuMask::MAX;
            }
        }
        self.push_off(cpu);
        self.requeue(id, now);
        Ok(())
    }

    /// Moves a domain to another pool, where its vCPUs may run on every CPU. ESRCH without such a domain, ENOENT without
    /// such a pool or for one without CPUs.
    pub(super) fn move_domain(&mut self, domain: u16, to: u32, now: u64) -> Result<(), Errno> {
        let group = self.groups.get(&domain).ok_or(Errno::ESRCH)?;
        let from = group.pool;
        if from == to {
            return Ok(());
        }
        if self.pools.get(&to).is_none_or(|pool| pool.cpus == 0) {
            return Err(Errno::ENOENT);
        }
        let keys: Vec<VcpuKey> = self.units.range(VcpuKey::all_of(domain)).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.dequeue(*key));
        let mut floors = (0, 0);
        if let Some(pool) = self.pools.get_mut(&from) {
            pool.domains -= 1;
            floors.0 = pool.floor;
        }
        if let Some(pool) = self.pools.get_mut(&to) {
            pool.domains += 1;
            floors.1 = pool.floor;
        }
        if let Some(group) = self.groups.get_mut(&domain) {
            group.pool = to;
        }
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].current.is_some_and(|key| key.domain == domain) {
                self.charge(cpu, now);
                self.push_off(cpu);
            }
        }
        for key in keys {
            if let Some(unit) = self.units.get_mut(&key) {
                (unit.hard, unit.soft) = (CpuMask::MAX, CpuMask::MAX);
                // As far before or behind the others as it was.
                unit.vruntime = floors.1.saturating_add(unit.vruntime.saturating_sub(floors.0));
            }
            self.ready(key, now);
        }
        Ok(())
    }

    /// Follows a change of a pool's CPUs in its queue.
    fn requeue(&mut self, id: u32, now: u64) {
        let Some(pool) = self.pools.get(&id) else { return };
        let keys: Vec<VcpuKey> = pool.queue.values().map(|entry| entry.key).collect();
        keys.iter().for_each(|key| self.dequeue(*key));
        keys.into_iter().for_each(|key| self.ready(key, now));
    }
}
