//! What a toolstack sets: affinity, weight, cap, the shortest turn.

use vambrace_abi::errno::Errno;

use super::mask::bit;
use super::state::State;
use super::{CpuMask, Status, VcpuKey};

/// Bounds of the shortest turn in microseconds (`sysctl.h`, XEN_SYSCTL_SCHED_RATELIMIT_MIN and _MAX).
const RATELIMIT_US: core::ops::RangeInclusive<u32> = 100..=500_000;

impl<T> State<T> {
    /// Sets a vCPU's hard affinity, its soft one, or both. ESRCH without such a vCPU; EINVAL for a hard one without a CPU
    /// of the vCPU's pool.
    pub(super) fn set_affinity(
        &mut self,
        key: VcpuKey,
        hard: Option<CpuMask>,
        soft: Option<CpuMask>,
        now: u64,
    ) -> Result<(), Errno> {
        let group = self.groups.get(&key.domain).ok_or(Errno::ESRCH)?;
        let cpus = self.pools.get(&group.pool).map_or(0, |pool| pool.cpus);
        let unit = self.units.get_mut(&key).ok_or(Errno::ESRCH)?;
        if hard.is_some_and(|hard| hard & cpus == 0) {
            return Err(Errno::EINVAL);
        }
        unit.hard = hard.unwrap_or(unit.hard);
        unit.soft = soft.unwrap_or(unit.soft);
        let (hard, soft) = (unit.hard, unit.soft);
        match unit.status {
            Status::Running(cpu) => {
                let better = soft & hard & self.idle != 0 && soft & hard & bit(cpu) == 0;
                if hard & bit(cpu) == 0 || better {
                    self.push_off(cpu);
                }
            }
            _ => {
                self.dequeue(key);
                self.ready(key, now);
            }
        }
        Ok(())
    }

    /// Sets the weight of a domain's vCPUs. ESRCH without such a domain, EINVAL for 0.
    pub(super) fn set_weight(&mut self, domain: u16, weight: u16, now: u64) -> Result<(), Errno> {
        if weight == 0 {
            return Err(Errno::EINVAL);
        }
        // What its vCPUs ran so far counts by the old weight.
        self.charge_all(domain, now);
        self.groups.get_mut(&domain).ok_or(Errno::ESRCH)?.weight = weight;
        for slot in self.cpus.iter_mut().filter(|slot| slot.current.is_some_and(|key| key.domain == domain)) {
            slot.weight = weight.into();
        }
        for (_, unit) in self.units.range_mut(VcpuKey::all_of(domain)) {
            unit.weight = weight.into();
        }
        Ok(())
    }

    /// Charges those of a domain's vCPUs that run.
    fn charge_all(&mut self, domain: u16, now: u64) {
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].current.is_some_and(|key| key.domain == domain) {
                self.charge(cpu, now);
            }
        }
    }

    /// Limits a domain to `cap` per cent of a CPU; 0 ends that. ESRCH without such a domain.
    pub(super) fn set_cap(&mut self, domain: u16, cap: u16, now: u64) -> Result<(), Errno> {
        self.charge_all(domain, now);
        let group = self.groups.get_mut(&domain).ok_or(Errno::ESRCH)?;
        match (group.cap, cap) {
            (0, 0) => return Ok(()),
            (0, _) => self.shared.capped_more(),
            (_, 0) => self.shared.capped_less(),
            _ => {}
        }
        group.set_cap(cap, now, self.times.cap_period);
        self.go_on_after_cap(domain, now);
        // From now on, or no more, its turns end with its budget.
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].current.is_some_and(|key| key.domain == domain) {
                self.shared.flags(cpu).set_rearm();
                self.kick(cpu);
            }
        }
        Ok(())
    }

    /// Sets a pool's shortest turn, in microseconds; 0 for none. ESRCH without such a pool, EINVAL out of bounds.
    pub(super) fn set_ratelimit(&mut self, pool: u32, microseconds: u32) -> Result<(), Errno> {
        let pool = self.pools.get_mut(&pool).ok_or(Errno::ESRCH)?;
        if microseconds != 0 && !RATELIMIT_US.contains(&microseconds) {
            return Err(Errno::EINVAL);
        }
        pool.ratelimit_us = microseconds;
        Ok(())
    }
}
