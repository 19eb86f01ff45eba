//! A domain as the scheduler keeps it: what its vCPUs have in common.

use super::DomainAccount;

/// How often a cap is looked at, in microseconds (credit2's budget period).
pub(super) const CAP_PERIOD_US: u64 = 10_000;

pub(super) struct Group {
    pub(super) pool: u32,
    pub(super) weight: u16,
    pub(super) cap: u16,
    /// Its vCPUs.
    pub(super) units: u32,
    /// With a cap: it has used up its budget, and its vCPUs wait for the next period.
    pub(super) exhausted: bool,
    /// Ticks that it may still run in this period; below 0 after it ran longer.
    budget: i64,
    /// When the next period begins.
    pub(super) renewal: u64,
}

impl Group {
    pub(super) fn new(pool: u32, weight: u16) -> Self {
        Self { pool, weight, cap: 0, units: 0, exhausted: false, budget: 0, renewal: 0 }
    }

    pub(super) fn account(&self) -> DomainAccount {
        DomainAccount { weight: self.weight, cap: self.cap, pool: self.pool }
    }

    fn quota(&self, period: u64) -> i64 {
        i64::try_from(period.saturating_mul(u64::from(self.cap)) / 100).unwrap_or(i64::MAX).max(1)
    }

    /// Limits it to `cap` per cent of a CPU from now on; 0 ends the limit.
    pub(super) fn set_cap(&mut self, cap: u16, now: u64, period: u64) {
        self.cap = cap;
        self.exhausted = false;
        self.budget = self.quota(period);
        self.renewal = now.saturating_add(period);
    }

    /// Begins the period that `now` lies in.
    pub(super) fn renew(&mut self, now: u64, period: u64) {
        let Some(late) = now.checked_sub(self.renewal).filter(|_| self.cap != 0) else { return };
        let periods = late / period + 1;
        let quota = self.quota(period);
        // What was run too much is paid back; what was not run is lost.
        let credit = quota.saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
        self.budget = self.budget.saturating_add(credit).min(quota);
        self.renewal = self.renewal.saturating_add(periods.saturating_mul(period));
        self.exhausted = self.budget <= 0;
    }

    /// Takes time that one of its vCPUs ran; whether the budget is used up by it.
    #[inline]
    pub(super) fn charge(&mut self, ran: u64, now: u64, period: u64) -> bool {
        if self.cap == 0 {
            return false;
        }
        self.budget = self.budget.saturating_sub(i64::try_from(ran).unwrap_or(i64::MAX));
        self.renew(now, period);
        self.exhausted = self.budget <= 0;
        self.exhausted
    }

    /// Ticks until the budget is used up if `running` of its vCPUs run on.
    pub(super) fn time_left(&self, running: u64) -> u64 {
        u64::try_from(self.budget).unwrap_or(0) / running.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_comes_again() {
        let mut group = Group::new(0, 256);
        assert!(!group.charge(1 << 40, 5, 10_000), "no cap");
        group.set_cap(50, 1000, 10_000);
        assert!(!group.charge(4000, 5000, 10_000));
        assert_eq!(group.time_left(2), 500);
        assert!(group.charge(2000, 6000, 10_000));
        group.renew(10_999, 10_000);
        assert!(group.exhausted);
        group.renew(11_000, 10_000);
        assert_eq!(
            (group.exhausted, group.time_left(1), group.renewal),
            (false, 4000, 21_000),
            "debt is paid"
        );
        group.renew(65_000, 10_000);
        assert_eq!((group.time_left(1), group.renewal), (5000, 71_000), "nothing is saved up");
    }
}
