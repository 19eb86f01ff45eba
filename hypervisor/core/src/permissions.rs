//! Hardware that a domain may have: what a toolstack lets it have before it maps it, and what dom0 may give away.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use vambrace_abi::errno::Errno;

use crate::addr::PaRange;
use crate::machine::Intid;

/// Most separate ranges of memory: tools name a handful.
const MAX_RANGES: usize = 4096;

/// Physical interrupts and device memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// Sorted, apart from each other.
    memory: Vec<PaRange>,
    interrupts: BTreeSet<Intid>,
}

impl Permissions {
    /// Permission for the ranges, in any order, and the interrupts.
    pub fn new(
        memory: impl IntoIterator<Item = PaRange>,
        interrupts: impl IntoIterator<Item = Intid>,
    ) -> Self {
        let mut permissions = Self::default();
        // One by one: to collect them would bring a sort into the image, for a list that is in order.
        interrupts.into_iter().for_each(|intid| {
            permissions.interrupts.insert(intid);
        });
        for range in memory {
            // A tree with more ranges than that loses the last.
            let _ = permissions.allow_memory(range);
        }
        permissions
    }

    /// Whether all of the range is permitted.
    pub fn has_memory(&self, range: PaRange) -> bool {
        self.memory.iter().any(|permitted| permitted.contains_range(range))
    }

    /// Permits a range of physical addresses. ENOMEM for more separate ones than anybody needs.
    pub fn allow_memory(&mut self, range: PaRange) -> Result<(), Errno> {
        let touches = |old: &PaRange| old.start.0 <= range.end.0 && range.start.0 <= old.end.0;
        let first = self.memory.partition_point(|old| old.end.0 < range.start.0);
        let count = self.memory.iter().skip(first).take_while(|old| touches(old)).count();
        if count == 0 && self.memory.len() >= MAX_RANGES {
            return Err(Errno::ENOMEM);
        }
        let joined = self
            .memory
            .drain(first..first + count)
            .fold(range, |all, old| PaRange { start: all.start.min(old.start), end: all.end.max(old.end) });
        self.memory.insert(first, joined);
        Ok(())
    }

    /// Takes the permission for a range back.
    pub fn forbid_memory(&mut self, range: PaRange) {
        let old = core::mem::take(&mut self.memory);
        for kept in old {
            let before = PaRange { start: kept.start, end: kept.end.min(range.start) };
            let behind = PaRange { start: kept.start.max(range.end), end: kept.end };
            for rest in [before, behind] {
                if rest.start < rest.end {
                    self.memory.push(rest);
                }
            }
        }
    }

    /// Whether the physical interrupt is permitted.
    pub fn has_interrupt(&self, intid: Intid) -> bool {
        self.interrupts.contains(&intid)
    }

    /// Permits a physical interrupt, or takes that back.
    pub fn set_interrupt(&mut self, intid: Intid, permitted: bool) {
        if permitted {
            self.interrupts.insert(intid);
        } else {
            self.interrupts.remove(&intid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Pa;

    fn range(start: u64, end: u64) -> PaRange {
        PaRange { start: Pa(start), end: Pa(end) }
    }

    #[test]
    fn ranges_join_and_part() {
        let mut p = Permissions::new([range(0x5000, 0x6000), range(0x1000, 0x2000)], [40]);
        assert!(!p.has_memory(range(0x1000, 0x3000)));
        p.allow_memory(range(0x2000, 0x3000)).unwrap();
        assert!(p.has_memory(range(0x1000, 0x3000)));
        p.allow_memory(range(0x2800, 0x5800)).unwrap();
        assert_eq!(p.memory, [range(0x1000, 0x6000)]);
        p.forbid_memory(range(0x2000, 0x3000));
        assert_eq!(p.memory, [range(0x1000, 0x2000), range(0x3000, 0x6000)]);
        p.forbid_memory(range(0, 0x1800));
        p.forbid_memory(range(0x5000, 0x9000));
        assert_eq!(p.memory, [range(0x1800, 0x2000), range(0x3000, 0x5000)]);
        p.forbid_memory(range(0, u64::MAX));
        assert_eq!(p.memory, []);
        assert!(p.has_interrupt(40) && !p.has_interrupt(41));
        p.set_interrupt(40, false);
        assert!(!p.has_interrupt(40));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut p = Permissions::default();
        for n in 0..MAX_RANGES as u64 {
            p.allow_memory(range(n * 0x2000, n * 0x2000 + 0x1000)).unwrap();
        }
        assert_eq!(p.allow_memory(range(1 << 40, 2 << 40)), Err(Errno::ENOMEM));
        p.allow_memory(range(0x1000, 0x2000)).unwrap();
    }
}
