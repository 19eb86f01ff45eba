//! What a vCPU did with its time, and the page in which its guest reads that (`vcpu.h`, runstate).

use vambrace_abi::vcpu::{
    RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNABLE, RUNSTATE_RUNNING, VcpuRunstateInfo,
    XEN_RUNSTATE_UPDATE,
};
use zerocopy::IntoBytes;

use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;

const SIZE: u64 = size_of::<VcpuRunstateInfo>() as u64;
/// Byte offset of `state_entry_time`, which carries the update flag.
const ENTRY_TIME: u64 = core::mem::offset_of!(VcpuRunstateInfo, state_entry_time) as u64;

/// Where a guest's runstate area lies: one place, or two when it crosses into another page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    first: Pa,
    first_length: u64,
    second: Option<Pa>,
}

impl Area {
    /// The area at guest address `at`, of which `find` gives the physical address of a byte.
    pub fn find(at: u64, find: impl Fn(u64) -> Option<Pa>) -> Option<Self> {
        let first = find(at)?;
        let first_length = SIZE.min(PAGE_SIZE - first.page_offset());
        let second = if first_length < SIZE { Some(find(at.checked_add(first_length)?)?) } else { None };
        Some(Self { first, first_length, second })
    }

    /// The pages that it lies in, one or two.
    pub fn pages(self) -> impl Iterator<Item = Pa> {
        core::iter::once(self.first.page()).chain(self.second.map(Pa::page))
    }

    /// The physical address of byte `offset` of the area.
    fn at(&self, offset: u64) -> Pa {
        match self.second {
            Some(second) if offset >= self.first_length => second.offset(offset - self.first_length),
            _ => self.first.offset(offset),
        }
    }
}

/// A vCPU's account of its time, in nanoseconds of system time.
pub struct Runstate {
    /// Present state, when it began, time in each.
    pub info: VcpuRunstateInfo,
    /// The guest's copy.
    pub area: Option<Area>,
}

impl Runstate {
    /// An account that begins at `now` in `state` (RUNSTATE_*).
    pub fn new(state: u32, now: u64) -> Self {
        Self { info: VcpuRunstateInfo { state, state_entry_time: now, ..Default::default() }, area: None }
    }

    /// Goes over into `state` at `now`.
    pub fn enter(&mut self, state: u32, now: u64) {
        let spent = now.saturating_sub(self.info.state_entry_time);
        if let Some(time) = self.info.time.get_mut(self.info.state as usize) {
            *time += spent;
        }
        self.info.state = state;
        self.info.state_entry_time = now;
    }

    /// Goes over into running at `now`, after it was runnable and offline for that many nanoseconds since the last change,
    /// and blocked for the rest.
    pub fn run(&mut self, now: u64, runnable: u64, offline: u64) {
        let spent = now.saturating_sub(self.info.state_entry_time);
        let offline = offline.min(spent);
        let runnable = runnable.min(spent - offline);
        let parts = [
            (RUNSTATE_OFFLINE, offline),
            (RUNSTATE_RUNNABLE, runnable),
            (RUNSTATE_BLOCKED, spent - offline - runnable),
        ];
        for (state, part) in parts {
            self.info.time[state as usize] += part;
        }
        self.info.state = RUNSTATE_RUNNING;
        self.info.state_entry_time = now;
    }

    /// Writes the guest's copy, if it has one. With `update_flag` the entry time's top bit is set meanwhile, so that
    /// the guest can tell (`vcpu.h`, XEN_RUNSTATE_UPDATE). A copy that cannot be written is the guest's own loss.
    pub fn publish<M: Memory>(&self, m: &M, update_flag: bool) {
        let Some(area) = self.area else { return };
        let entry = self.info.state_entry_time;
        if update_flag {
            // The word is aligned, so it lies in one page.
            let _ = m.write_u64(area.at(ENTRY_TIME), entry | XEN_RUNSTATE_UPDATE);
        }
        let mut shown = self.info;
        if update_flag {
            shown.state_entry_time |= XEN_RUNSTATE_UPDATE;
        }
        let bytes = shown.as_bytes();
        let cut = (area.first_length as usize).min(bytes.len());
        let (head, tail) = bytes.split_at(cut);
        let _ = m.write(area.first, head);
        if let Some(second) = area.second {
            let _ = m.write(second, tail);
        }
        if update_flag {
            let _ = m.write_u64(area.at(ENTRY_TIME), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up() {
        let mut r = Runstate::new(RUNSTATE_BLOCKED, 100);
        r.enter(RUNSTATE_RUNNING, 130);
        r.enter(RUNSTATE_BLOCKED, 150);
        assert_eq!(r.info.time, [20, 0, 30, 0]);
        assert_eq!(r.info.state_entry_time, 150);
    }

    #[test]
    fn a_wait_has_parts_that_add_up() {
        let mut r = Runstate::new(RUNSTATE_BLOCKED, 100);
        r.run(200, 30, 20);
        assert_eq!((r.info.time, r.info.state), ([0, 30, 50, 20], RUNSTATE_RUNNING));
        // Ticks in nanoseconds may come out longer than the time was.
        r.enter(RUNSTATE_RUNNABLE, 210);
        r.run(220, 11, 0);
        assert_eq!(r.info.time, [10, 40, 50, 20]);
    }

    #[test]
    fn an_area_may_cross_pages() {
        let find = |at: u64| Some(Pa(if at < 0x1000 { 0x8000 + at } else { 0x2_0000 + (at - 0x1000) }));
        let area = Area::find(0xff0, find).unwrap();
        assert_eq!(area.at(0), Pa(0x8ff0));
        assert_eq!(area.at(0x10), Pa(0x2_0000));
        assert_eq!(Area::find(0x100, find).unwrap().second, None);
        assert!(Area::find(0xff0, |at| (at < 0x1000).then_some(Pa(0x8ff0))).is_none());
    }
}
