//! VMIDs: the tags of domains' TLB entries (Arm ARM D8.16.3).

/// VMIDs that every CPU has: eight bits, of which 0 is for no domain.
const LAST: u16 = 255;

/// The VMIDs that domains have.
#[derive(Debug, Default)]
pub(crate) struct Vmids {
    taken: [u64; 4],
}

impl Vmids {
    /// The lowest one that no domain has.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let vmid = (1..=LAST).find(|v| self.taken[usize::from(v / 64)] & 1 << (v % 64) == 0)?;
        self.taken[usize::from(vmid / 64)] |= 1 << (vmid % 64);
        Some(vmid)
    }

    /// Takes one back whose TLB entries are gone.
    pub(crate) fn give_back(&mut self, vmid: u16) {
        if let Some(word) = self.taken.get_mut(usize::from(vmid / 64)) {
            *word &= !(1 << (vmid % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_had_by_one() {
        let mut vmids = Vmids::default();
        for expected in 1..=255 {
            assert_eq!(vmids.take(), Some(expected));
        }
        assert_eq!(vmids.take(), None);
        vmids.give_back(77);
        vmids.give_back(u16::MAX);
        assert_eq!((vmids.take(), vmids.take()), (Some(77), None));
    }
}
