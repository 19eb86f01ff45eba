//! Deadlines on a CPU: what the hypervisor's timer is armed for.

use alloc::collections::BTreeSet;

use crate::sched::VcpuKey;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    /// The virtual timer of a blocked vCPU: it has to run to take the interrupt.
    Wake,
    /// The emulated physical timer of a vCPU.
    PhysicalTimer,
    /// The end of a vCPU's SCHEDOP_poll.
    Poll,
    /// A watchdog of the domain (SCHEDOP_watchdog); the key's vCPU is the watchdog's index.
    Watchdog,
}

/// Deadlines, each a physical counter value, of one CPU. The owner holds it in a lock.
#[derive(Default)]
pub struct Timers {
    queue: BTreeSet<(u64, VcpuKey, Due)>,
}

impl Timers {
    /// Nothing due.
    pub const fn new() -> Self {
        Self { queue: BTreeSet::new() }
    }

    /// Adds a deadline.
    pub fn arm(&mut self, deadline: u64, vcpu: VcpuKey, due: Due) {
        self.queue.insert((deadline, vcpu, due));
    }

    /// Removes a deadline, if it is still there.
    pub fn cancel(&mut self, deadline: u64, vcpu: VcpuKey, due: Due) {
        self.queue.remove(&(deadline, vcpu, due));
    }

    /// Removes every deadline of a domain's.
    pub fn forget(&mut self, domain: u16) {
        self.queue.retain(|(_, key, _)| key.domain != domain);
    }

    /// The next deadline.
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|&(deadline, ..)| deadline)
    }

    /// Takes one deadline that has passed.
    pub fn pop_due(&mut self, now: u64) -> Option<(VcpuKey, Due)> {
        let &(deadline, vcpu, due) = self.queue.first()?;
        if deadline > now {
            return None;
        }
        self.queue.pop_first();
        Some((vcpu, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_cancelled_ones_never() {
        let key = |vcpu| VcpuKey { domain: 1, vcpu };
        let mut t = Timers::new();
        t.arm(30, key(0), Due::Wake);
        t.arm(10, key(1), Due::PhysicalTimer);
        t.arm(20, key(2), Due::Watchdog);
        t.cancel(20, key(2), Due::Watchdog);
        assert_eq!(t.next(), Some(10));
        assert_eq!(t.pop_due(9), None);
        assert_eq!(t.pop_due(30), Some((key(1), Due::PhysicalTimer)));
        assert_eq!(t.pop_due(30), Some((key(0), Due::Wake)));
        assert_eq!(t.next(), None);
    }
}
