//! What a domain has mapped of what others grant: its handles.
//!
//! ```text
//!            reserve            commit
//!   (free) ----------> taken ----------> live
//!      ^                 | ^    claim      |
//!      |     release     | +---------------+
//!      +-----------------+      restore ->
//! ```
//!
//! A handle is *taken* while one CPU maps or unmaps it, which needs other locks than this one; nobody else gets at it then.

use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::{GrantHandle, GrantRef};

use super::book::{Book, RECORDS_PER_FRAME, Record};
use crate::addr::{Ipa, Pa};
use crate::machine::Memory;

/// A mapping that a domain has of another's page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The granter.
    pub granter: DomId,
    /// Its entry.
    pub reference: GrantRef,
    /// The page.
    pub page: Pa,
    /// Where it is mapped, in the mapping domain's physical space.
    pub at: Ipa,
    /// It may be written.
    pub writable: bool,
}

const GRANTER_SHIFT: u32 = 40;
const LIVE: u64 = 1 << 56;
const TAKEN: u64 = 1 << 57;
const WRITABLE: u64 = 1 << 58;
/// Entries have smaller numbers, see `MOST_FRAMES`.
const REFERENCE_BITS: u32 = 24;
/// End of the list of free handles.
const NONE: u64 = u64::MAX;

impl Mapping {
    fn record(self, state: u64) -> Record {
        let writable = if self.writable { WRITABLE } else { 0 };
        [
            self.page.frame() | u64::from(self.granter) << GRANTER_SHIFT | state | writable,
            self.at.frame() << REFERENCE_BITS | u64::from(self.reference),
        ]
    }

    fn from_record([first, second]: Record) -> Self {
        Self {
            granter: (first >> GRANTER_SHIFT) as DomId,
            reference: (second & ((1 << REFERENCE_BITS) - 1)) as GrantRef,
            page: Pa::from_frame(first & ((1 << GRANTER_SHIFT) - 1)),
            at: Ipa::from_frame(second >> REFERENCE_BITS),
            writable: first & WRITABLE != 0,
        }
    }
}

/// A domain's handles.
#[derive(Debug)]
pub struct Maptrack {
    book: Book,
    max_frames: u32,
    /// First of the free handles, each of which names the next, or [`NONE`].
    free: u64,
    /// Handles ever used; those from here on are free too.
    used: u32,
    /// Handles that are taken or live.
    busy: u32,
    /// How far [`Maptrack::sweep`] came.
    swept: u32,
}

/// What [`Maptrack::sweep`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swept {
    /// A live handle, which is taken now.
    Handle(GrantHandle, Mapping),
    /// None so far; there may be more.
    Nothing,
}

impl Maptrack {
    /// No handles yet, and at most as many as `max_frames` frames hold.
    pub fn new(max_frames: u32) -> Self {
        Self {
            book: Book::default(),
            max_frames: max_frames.min(1 << 20),
            free: NONE,
            used: 0,
            busy: 0,
            swept: 0,
        }
    }

    /// How many handles are taken or live.
    pub fn busy(&self) -> u32 {
        self.busy
    }

    /// Takes a free handle. `allocate` gives a zeroed frame. ENOMEM if there is no memory for more, or the domain has as
    /// many as it may.
    #[inline]
    pub fn reserve<M: Memory>(
        &mut self,
        memory: &M,
        mut allocate: impl FnMut() -> Option<Pa>,
    ) -> Result<GrantHandle, Errno> {
        let handle = match u32::try_from(self.free) {
            Ok(handle) => {
                self.free = self.book.get(memory, handle).ok_or(Errno::ENOMEM)?[1];
                handle
            }
            Err(_) => {
                let frames = self.used / RECORDS_PER_FRAME + 1;
                if frames > self.max_frames {
                    return Err(Errno::ENOMEM);
                }
                self.book.grow(frames, &mut allocate)?;
                self.used += 1;
                self.used - 1
            }
        };
        self.book.set(memory, handle, [TAKEN, 0]).ok_or(Errno::ENOMEM)?;
        self.busy += 1;
        Ok(handle)
    }

    /// Makes a taken handle live, with what it stands for.
    #[inline]
    pub fn commit<M: Memory>(&mut self, memory: &M, handle: GrantHandle, mapping: Mapping) {
        // The record is there: it was written when the handle was taken.
        let _ = self.book.set(memory, handle, mapping.record(LIVE));
    }

    /// Takes a live handle, to unmap it. `None` if it is not live.
    #[inline]
    pub fn claim<M: Memory>(&mut self, memory: &M, handle: GrantHandle) -> Option<Mapping> {
        let record = self.book.get(memory, handle).filter(|record| record[0] & LIVE != 0)?;
        let mapping = Mapping::from_record(record);
        self.book.set(memory, handle, mapping.record(TAKEN))?;
        Some(mapping)
    }

    /// A taken handle is live again: it could not be unmapped.
    pub fn restore<M: Memory>(&mut self, memory: &M, handle: GrantHandle, mapping: Mapping) {
        self.commit(memory, handle, mapping);
    }

    /// A taken handle is free.
    #[inline]
    pub fn release<M: Memory>(&mut self, memory: &M, handle: GrantHandle) {
        if self.book.set(memory, handle, [0, self.free]).is_some() {
            self.free = handle.into();
            self.busy = self.busy.saturating_sub(1);
        }
    }

    /// Takes the next live handle, for the domain's end: it looks at `count` more each time. `None` when there are no more.
    pub fn sweep<M: Memory>(&mut self, memory: &M, count: u32) -> Option<Swept> {
        if self.swept >= self.used {
            return None;
        }
        let to = self.swept.saturating_add(count).min(self.used);
        let found = self.book.find(memory, self.swept, to, |record| record[0] & LIVE != 0);
        let Some(handle) = found else {
            self.swept = to;
            return Some(Swept::Nothing);
        };
        self.swept = handle + 1;
        Some(self.claim(memory, handle).map_or(Swept::Nothing, |mapping| Swept::Handle(handle, mapping)))
    }

    /// How many frames it takes.
    pub(super) fn frames(&self) -> u32 {
        self.book.frames()
    }

    /// Takes the memory out, to give it back, at the domain's end: there are no handles then, and will be none.
    pub(super) fn take_frames(&mut self) -> impl Iterator<Item = Pa> + '_ {
        (self.free, self.used, self.max_frames) = (NONE, 0, 0);
        self.book.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGE_SIZE;
    use crate::fake::FakeMachine;

    const RAM: u64 = 0x4000_0000;

    fn mapping(n: u32) -> Mapping {
        Mapping {
            granter: 0x7ff0 + n as u16,
            reference: (1 << REFERENCE_BITS) - 1 - n,
            page: Pa((1 << 48) - PAGE_SIZE * (u64::from(n) + 1)),
            at: Ipa((1 << 48) - PAGE_SIZE * (u64::from(n) + 1)),
            writable: n.is_multiple_of(2),
        }
    }

    #[test]
    fn handles_come_and_go() {
        let m = FakeMachine::with_ram(RAM, 1 << 20);
        let mut frames = (0..4).map(|n| Pa(RAM + n * PAGE_SIZE));
        let mut track = Maptrack::new(2);
        let handles = 2 * RECORDS_PER_FRAME;
        for n in 0..handles {
            assert_eq!(track.reserve(&m, || frames.next()), Ok(n));
            assert_eq!(track.claim(&m, n), None, "it is taken");
            track.commit(&m, n, mapping(n % 8));
        }
        assert_eq!(track.reserve(&m, || frames.next()), Err(Errno::ENOMEM), "as many as it may");
        assert_eq!(track.busy(), handles);
        assert_eq!(track.claim(&m, 5), Some(mapping(5)));
        assert_eq!(track.claim(&m, 5), None, "another CPU unmaps it");
        track.restore(&m, 5, mapping(5));
        for n in [5, 300] {
            assert_eq!(track.claim(&m, n), Some(mapping(n % 8)));
            track.release(&m, n);
            assert_eq!(track.claim(&m, n), None, "it is free");
        }
        assert_eq!(track.reserve(&m, || None), Ok(300));
        assert_eq!(track.reserve(&m, || None), Ok(5));
        for n in [5, 300] {
            track.release(&m, n);
        }
        assert_eq!(track.claim(&m, u32::MAX), None);
        let mut seen = 0;
        while let Some(step) = track.sweep(&m, 100) {
            if let Swept::Handle(handle, found) = step {
                assert_eq!(found, mapping(handle % 8));
                track.release(&m, handle);
                seen += 1;
            }
        }
        assert_eq!((seen, track.busy()), (handles - 2, 0));
        assert_eq!(track.take_frames().count(), 2);
        assert_eq!(track.reserve(&m, || Some(Pa(RAM))), Err(Errno::ENOMEM), "the domain has ended");
    }

    #[test]
    fn no_memory_is_no_handle() {
        let m = FakeMachine::with_ram(RAM, 1 << 20);
        let mut track = Maptrack::new(1);
        assert_eq!(track.reserve(&m, || None), Err(Errno::ENOMEM));
        assert_eq!(track.reserve(&m, || Some(Pa(RAM))), Ok(0));
        assert_eq!(Maptrack::new(0).reserve(&m, || Some(Pa(RAM))), Err(Errno::ENOMEM));
    }
}
