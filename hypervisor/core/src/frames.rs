//! The frame allocator: all RAM that is neither the hypervisor's own nor handed out.
//!
//! A binary buddy system over 4 KiB frames, up to 1 GiB a block. Its books lie in the hypervisor's heap, twelve bytes a
//! frame, and never in the frames, so a guest that scribbles over memory it has given back damages nothing.
//!
//! A frame that a domain has is *owned*: it counts references. The first is the domain's own; each mapping in another
//! domain, each page registered with the hypervisor and each copy under way has one more. It is free with the last one,
//! so memory that a domain gives back, or leaves behind at its end, goes to nobody while somebody still reaches it.
//!
//! ```text
//!   bank 0 (RAM)            bank 1 (RAM)
//!   +----+----+----+---     +----+----+
//!   |info|info|info|...     |info|info|...   one `Info` a frame; index = bank offset + frame - first
//!   +----+----+----+---     +----+----+
//!      ^ next/prev link the first frames of free blocks, one list an order
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pa, PaRange};

/// Largest block: 2^18 frames, 1 GiB, the largest stage-2 mapping with 4 KiB pages.
pub const MAX_ORDER: u8 = 18;

const NONE: u32 = u32::MAX;
/// Numbers of significant bits that a frame's number can have: those of 52-bit physical addresses, and none.
const WIDTHS: usize = 52 - PAGE_SHIFT as usize + 1;

/// What the allocator knows of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Not the allocator's to give: reserved, the hypervisor's, or dom0's from the start.
    #[default]
    Outside,
    /// First frame of a free block.
    FreeHead,
    /// Inside of a free block.
    FreeBody,
    /// First frame of an allocated block.
    Allocated,
    /// Inside of an allocated block.
    AllocatedBody,
    /// A domain's: `next` counts references, `prev` is the domain.
    Owned,
}

#[derive(Clone, Copy, Default)]
struct Info {
    next: u32,
    prev: u32,
    state: State,
    order: u8,
}

struct Bank {
    first: u64,
    offset: u32,
    infos: Vec<Info>,
}

/// A frame or block was given back that is not handed out: a defect of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAllocated(pub Pa);

impl fmt::Display for NotAllocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical address {} is not the start of an allocated block", self.0)
    }
}

/// A frame does not belong to the domain that was named, or has as many references as can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotOwned(pub Pa);

impl fmt::Display for NotOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "physical address {} is not the domain's", self.0)
    }
}

/// A range cannot become free memory: it is not within one bank of RAM, or became free memory before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotReleasable(pub PaRange);

impl fmt::Display for NotReleasable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} is not RAM of one bank, or was free memory before", self.0.start, self.0.end)
    }
}

/// Free physical memory.
pub struct Frames {
    banks: Vec<Bank>,
    free_lists: [u32; MAX_ORDER as usize + 1],
    released: Vec<PaRange>,
    free: u64,
    /// The same by the significant bits of the frames' numbers, for who asks by those: the blocks are not walked.
    free_of_width: [u64; WIDTHS],
    total: u64,
    /// Frames that belong to each domain that has any.
    owned: BTreeMap<u16, u64>,
    /// Dead domains, whose last frames others hold.
    watched: BTreeSet<u16>,
    /// One of those has but one frame left.
    left: bool,
}

impl Frames {
    /// Books for the given banks of RAM, nothing free yet; see [`Frames::release`].
    pub fn new(ram: &[PaRange]) -> Self {
        let mut banks = Vec::with_capacity(ram.len());
        let mut offset = 0u32;
        for range in ram {
            let first = range.start.0.div_ceil(PAGE_SIZE);
            let count = (range.end.frame().saturating_sub(first)).min(u64::from(NONE - 1 - offset));
            let mut infos = Vec::new();
            infos.resize(count as usize, Info::default());
            banks.push(Bank { first, offset, infos });
            offset += count as u32;
        }
        Self {
            banks,
            free_lists: [NONE; MAX_ORDER as usize + 1],
            released: Vec::new(),
            free: 0,
            free_of_width: [0; WIDTHS],
            total: u64::from(offset),
            owned: BTreeMap::new(),
            watched: BTreeSet::new(),
            left: false,
        }
    }

    /// Bytes of heap that the books for these banks take.
    pub fn book_bytes(ram: &[PaRange]) -> u64 {
        ram.iter().map(|bank| bank.size() / PAGE_SIZE * size_of::<Info>() as u64).sum()
    }

    /// Frames free now.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Free frames whose physical addresses have from `min` to `max` significant bits: those of a frame's last byte.
    pub fn free_frames_of_width(&self, min: u32, max: u32) -> u64 {
        let widths = (PAGE_SHIFT..).zip(&self.free_of_width);
        widths.filter(|(width, _)| (min..=max).contains(width)).map(|(_, free)| free).sum()
    }

    /// Frames of RAM in all, free or not.
    pub fn total_frames(&self) -> u64 {
        self.total
    }

    /// Adds the whole pages of `range` to the free memory, each page once ever.
    pub fn release(&mut self, range: PaRange) -> Result<(), NotReleasable> {
        let range =
            PaRange { start: Pa(range.start.0.div_ceil(PAGE_SIZE) * PAGE_SIZE), end: range.end.page() };
        if range.is_empty() {
            return Ok(());
        }
        let bank = self.bank(range.start.frame());
        if bank.is_none()
            || bank != self.bank(range.end.frame() - 1)
            || self.released.iter().any(|r| r.overlaps(range))
        {
            return Err(NotReleasable(range));
        }
        self.released.push(range);
        self.free_run(range.start.frame(), range.end.frame());
        Ok(())
    }

    /// Takes a block of 2^`order` frames, aligned to its size. Its contents are whatever was there.
    pub fn allocate(&mut self, order: u8) -> Option<Pa> {
        let mut have = (order..=MAX_ORDER).find(|&o| self.free_lists[usize::from(o)] != NONE)?;
        let frame = self.frame_of(self.free_lists[usize::from(have)])?;
        self.unlink(frame, have);
        while have > order {
            have -= 1;
            self.link(frame + (1 << have), have);
        }
        self.mark(frame, order, State::Allocated, State::AllocatedBody);
        self.count(frame, order, |free, block| *free -= block);
        Some(Pa::from_frame(frame))
    }

    /// Gives a block back that [`Frames::allocate`] returned.
    pub fn deallocate(&mut self, pa: Pa) -> Result<(), NotAllocated> {
        let order = match self.info(pa.frame()) {
            Some(info) if info.state == State::Allocated && pa.page_offset() == 0 => info.order,
            _ => return Err(NotAllocated(pa)),
        };
        self.free_block(pa.frame(), order);
        Ok(())
    }

    /// Takes a block as [`Frames::allocate`] does for domain `domain`. From here on its frames are apart, each with one
    /// reference, the domain's own.
    pub fn allocate_for(&mut self, domain: u16, order: u8) -> Option<Pa> {
        let pa = self.allocate(order)?;
        self.own(pa.frame(), 1 << order, domain);
        Some(pa)
    }

    /// Makes RAM that was never free memory a domain's own: where it is mapped one to one. Each frame has one reference.
    /// Refuses a range that is not whole pages of one bank, or has a frame that is free memory or somebody's.
    pub fn adopt(&mut self, range: PaRange, domain: u16) -> Result<(), NotReleasable> {
        let (first, count) = (range.start.frame(), range.size() / PAGE_SIZE);
        let whole = range.start.is_aligned(PAGE_SIZE) && range.end.is_aligned(PAGE_SIZE);
        let untouched = self
            .slice(first, count)
            .is_some_and(|infos| infos.iter().all(|info| info.state == State::Outside));
        if !whole || !untouched {
            return Err(NotReleasable(range));
        }
        self.own(first, count, domain);
        Ok(())
    }

    /// One reference more to the frame of `pa`, which belongs to `domain`.
    #[inline]
    pub fn hold(&mut self, pa: Pa, domain: u16) -> Result<(), NotOwned> {
        match self.info_mut(pa.frame()) {
            Some(info)
                if info.state == State::Owned && info.prev == u32::from(domain) && info.next != u32::MAX =>
            {
                info.next += 1;
                Ok(())
            }
            _ => Err(NotOwned(pa)),
        }
    }

    /// One reference less to the frame of `pa`; with the last one it is free memory. One that nobody owns is let be: a
    /// device, or memory that the firmware keeps.
    #[inline]
    pub fn put(&mut self, pa: Pa) {
        self.put_range(pa, 1);
    }

    /// [`Frames::put`] of `pages` frames from `pa` on. What becomes free together is freed in blocks.
    pub fn put_range(&mut self, pa: Pa, pages: u64) {
        let (mut frame, end) = (pa.frame(), pa.frame() + pages);
        while frame < end {
            let Some((owner, last)) = self.put_run(frame, end - frame) else {
                frame += 1;
                continue;
            };
            if let Some(count) = self.owned.get_mut(&owner) {
                *count -= last;
                self.left |= *count <= 1 && self.watched.contains(&owner);
                if *count == 0 {
                    self.owned.remove(&owner);
                }
            }
            self.free_run(frame, frame + last);
            frame += last;
        }
    }

    /// Takes the references to as many of `most` frames from `first` on as lie in one bank, belong to one domain and have
    /// no other: that domain, and how many they are. Where the first of them is not one, it has one reference less.
    fn put_run(&mut self, first: u64, most: u64) -> Option<(u16, u64)> {
        let bank = self.bank(first)?;
        let bank = &mut self.banks[bank];
        let infos = bank.infos.get_mut((first - bank.first) as usize..)?;
        let head = infos.first_mut().filter(|info| info.state == State::Owned)?;
        if head.next > 1 {
            head.next -= 1;
            return None;
        }
        let (owner, mut count) = (head.prev, 0);
        let last = |info: &&mut Info| info.state == State::Owned && info.prev == owner && info.next == 1;
        for info in infos.iter_mut().take(most as usize).take_while(last) {
            info.state = State::FreeBody;
            count += 1;
        }
        Some((owner as u16, count))
    }

    /// The domain that the frame of `pa` belongs to.
    pub fn owner(&self, pa: Pa) -> Option<u16> {
        self.info(pa.frame()).filter(|info| info.state == State::Owned).map(|info| info.prev as u16)
    }

    /// References to the frame of `pa`, 0 for one that is nobody's.
    #[cfg(test)]
    pub fn references(&self, pa: Pa) -> u32 {
        self.info(pa.frame()).filter(|info| info.state == State::Owned).map_or(0, |info| info.next)
    }

    /// Frames that belong to the domain, whoever else holds them.
    pub fn owned_by(&self, domain: u16) -> u64 {
        self.owned.get(&domain).copied().unwrap_or(0)
    }

    /// Has [`Frames::take_left`] tell when a dead domain has but one frame left, which it may have already.
    pub fn watch(&mut self, domain: u16) {
        self.watched.insert(domain);
        self.left |= self.owned_by(domain) <= 1;
    }

    /// Takes a [`Frames::watch`] back.
    pub fn unwatch(&mut self, domain: u16) {
        self.watched.remove(&domain);
    }

    /// Whether a watched domain has come down to one frame since the last call.
    pub fn take_left(&mut self) -> bool {
        core::mem::take(&mut self.left)
    }

    fn own(&mut self, first: u64, count: u64, domain: u16) {
        let info = Info { next: 1, prev: domain.into(), state: State::Owned, order: 0 };
        if let Some(infos) = self.slice(first, count) {
            infos.fill(info);
            *self.owned.entry(domain).or_default() += count;
        }
    }

    /// The books of `count` frames from `first` on, all of one bank.
    fn slice(&mut self, first: u64, count: u64) -> Option<&mut [Info]> {
        let bank = self.bank(first)?;
        let bank = &mut self.banks[bank];
        let from = (first - bank.first) as usize;
        bank.infos.get_mut(from..from.checked_add(count as usize)?)
    }

    fn info_mut(&mut self, frame: u64) -> Option<&mut Info> {
        let bank = self.bank(frame)?;
        let bank = &mut self.banks[bank];
        bank.infos.get_mut((frame - bank.first) as usize)
    }

    /// Frees the frames from `frame` on and below `end`, in the largest blocks that there are.
    fn free_run(&mut self, mut frame: u64, end: u64) {
        while frame < end {
            let fits = (end - frame).ilog2() as u8;
            let order = MAX_ORDER.min(frame.trailing_zeros() as u8).min(fits);
            self.free_block(frame, order);
            frame += 1 << order;
        }
    }

    fn free_block(&mut self, mut frame: u64, mut order: u8) {
        self.count(frame, order, |free, block| *free += block);
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            let same_bank = self.bank(frame).zip(self.bank(buddy)).is_some_and(|(a, b)| a == b);
            let mergeable =
                same_bank && self.info(buddy).is_some_and(|i| i.state == State::FreeHead && i.order == order);
            if !mergeable {
                break;
            }
            self.unlink(buddy, order);
            self.set(buddy.max(frame), |i| i.state = State::FreeBody);
            frame = frame.min(buddy);
            order += 1;
        }
        self.link(frame, order);
    }

    /// Counts a block that is free from now on, or no more.
    fn count(&mut self, frame: u64, order: u8, change: impl Fn(&mut u64, u64)) {
        change(&mut self.free, 1 << order);
        let (mut at, end) = (frame, frame + (1 << order));
        while at < end {
            // As a block is aligned to its size, all of its frames have as many bits, but in the one at 0.
            let part = if frame == 0 { at.max(1) } else { 1 << order };
            let width = (u64::BITS - at.leading_zeros()) as usize;
            if let Some(free) = self.free_of_width.get_mut(width) {
                change(free, part);
            }
            at += part;
        }
    }

    /// Only the head of a block is looked at, so only the head is marked, whatever the block's size; `body` is for
    /// the second frame, so that a wrong address is told apart from memory that was never the allocator's.
    fn mark(&mut self, frame: u64, order: u8, head: State, body: State) {
        self.set(frame, |i| {
            i.state = head;
            i.order = order;
        });
        if order > 0 {
            self.set(frame + 1, |i| i.state = body);
        }
    }

    fn link(&mut self, frame: u64, order: u8) {
        let Some(index) = self.index(frame) else { return };
        let head = self.free_lists[usize::from(order)];
        self.set(frame, |i| *i = Info { next: head, prev: NONE, state: State::FreeHead, order });
        if order > 0 {
            self.set(frame + 1, |i| i.state = State::FreeBody);
        }
        if let Some(next) = self.frame_of(head) {
            self.set(next, |i| i.prev = index);
        }
        self.free_lists[usize::from(order)] = index;
    }

    fn unlink(&mut self, frame: u64, order: u8) {
        let Some(info) = self.info(frame) else { return };
        match self.frame_of(info.prev) {
            Some(prev) => self.set(prev, |i| i.next = info.next),
            None => self.free_lists[usize::from(order)] = info.next,
        }
        if let Some(next) = self.frame_of(info.next) {
            self.set(next, |i| i.prev = info.prev);
        }
    }

    fn bank(&self, frame: u64) -> Option<usize> {
        self.banks.iter().position(|b| frame >= b.first && frame - b.first < b.infos.len() as u64)
    }

    fn info(&self, frame: u64) -> Option<Info> {
        let bank = &self.banks[self.bank(frame)?];
        bank.infos.get((frame - bank.first) as usize).copied()
    }

    fn set(&mut self, frame: u64, change: impl FnOnce(&mut Info)) {
        if let Some(info) = self.info_mut(frame) {
            change(info);
        }
    }

    fn index(&self, frame: u64) -> Option<u32> {
        let bank = &self.banks[self.bank(frame)?];
        Some(bank.offset + (frame - bank.first) as u32)
    }

    fn frame_of(&self, index: u32) -> Option<u64> {
        let bank = self.banks.iter().rfind(|b| b.offset <= index)?;
        let within = index - bank.offset;
        (u64::from(within) < bank.infos.len() as u64).then_some(bank.first + u64::from(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn range(start: u64, size: u64) -> PaRange {
        PaRange::new(Pa(start), size).unwrap()
    }

    #[test]
    fn whole_memory_comes_back_as_one_block() {
        let ram = range(0x4000_0000, 64 << 20);
        let mut frames = Frames::new(&[ram]);
        frames.release(ram).unwrap();
        assert_eq!(frames.free_frames(), 16384);
        let mut taken = vec![];
        while let Some(pa) = frames.allocate(0) {
            taken.push(pa);
        }
        assert_eq!(taken.len(), 16384);
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 16384);
        for pa in taken {
            frames.deallocate(pa).unwrap();
        }
        assert_eq!(frames.free_frames(), 16384);
        assert_eq!(frames.allocate(14), Some(Pa(0x4000_0000)));
    }

    #[test]
    fn wrong_frees_are_refused() {
        let ram = range(0x1000, 0x10000);
        let mut frames = Frames::new(&[ram]);
        frames.release(ram).unwrap();
        let pa = frames.allocate(1).unwrap();
        assert!(frames.deallocate(pa.offset(PAGE_SIZE)).is_err());
        assert!(frames.deallocate(pa.offset(1)).is_err());
        frames.deallocate(pa).unwrap();
        assert_eq!(frames.deallocate(pa), Err(NotAllocated(pa)));
        assert!(frames.deallocate(Pa(u64::MAX)).is_err());
    }

    #[test]
    fn reserved_holes_are_never_handed_out_and_banks_never_merge() {
        let (low, high) = (range(0, 0x8000), range(0x8000, 0x8000));
        let mut frames = Frames::new(&[low, high]);
        frames.release(range(0, 0x3000)).unwrap();
        frames.release(range(0x5000, 0x3000)).unwrap();
        frames.release(high).unwrap();
        assert!(frames.release(range(0x2000, 0x2000)).is_err(), "twice");
        assert!(frames.release(range(0x3000, 0x6000)).is_err(), "across banks");
        assert!(frames.release(range(0x10_0000, 0x1000)).is_err(), "not RAM");
        assert_eq!(frames.free_frames(), 14);
        // Frames 0, 1, 2; 5, 6, 7; 8 to 15.
        assert_eq!([12, 13, 14, 15, 16, 17].map(|n| frames.free_frames_of_width(n, n)), [1, 1, 1, 3, 8, 0]);
        assert_eq!(frames.free_frames_of_width(0, u32::MAX), 14);
        assert_eq!([(0, 11), (14, 13), (14, 15)].map(|(a, b)| frames.free_frames_of_width(a, b)), [0, 0, 4]);
        assert_eq!(frames.allocate(4), None);
        assert_eq!(frames.allocate(3), Some(Pa(0x8000)));
        assert_eq!(frames.allocate(3), None);
        while let Some(pa) = frames.allocate(0) {
            assert!(pa != Pa(0x3000) && pa != Pa(0x4000));
        }
    }

    #[test]
    fn a_frame_is_free_with_its_last_reference() {
        let ram = range(0x8000_0000, 4 << 20);
        let mut frames = Frames::new(&[ram]);
        frames.release(range(0x8010_0000, 3 << 20)).unwrap();
        let block = frames.allocate_for(7, 4).unwrap();
        assert_eq!((frames.owned_by(7), frames.free_frames()), (16, 768 - 16));
        let one = block.offset(3 * PAGE_SIZE);
        assert_eq!(frames.owner(one), Some(7));
        assert_eq!(frames.hold(one, 8), Err(NotOwned(one)));
        frames.hold(one.offset(5), 7).unwrap();
        for page in 0..16 {
            frames.put(block.offset(page * PAGE_SIZE));
        }
        assert_eq!((frames.owned_by(7), frames.references(one)), (1, 1), "one is held still");
        assert!(frames.deallocate(one).is_err());
        frames.put(one);
        assert_eq!((frames.owned_by(7), frames.free_frames()), (0, 768));
        frames.put(one);
        assert_eq!((frames.free_frames(), frames.owner(one)), (768, None), "nobody's any more");
        assert!(frames.hold(one, 7).is_err());
        assert!(frames.allocate(8).is_some(), "the pieces are a block again");
    }

    #[test]
    fn a_range_is_put_as_its_frames_are() {
        let ram = [range(0x8000_0000, 1 << 20), range(0x8010_0000, 1 << 20)];
        let books = || {
            let mut frames = Frames::new(&ram);
            frames.release(ram[0]).unwrap();
            frames.release(range(0x8010_4000, 0x1000)).unwrap();
            frames.adopt(range(0x8010_0000, 0x3000), 7).unwrap();
            assert_eq!(frames.allocate_for(7, 7), Some(Pa(0x8000_0000)));
            assert_eq!(frames.allocate(0), Some(Pa(0x8010_4000)));
            for (order, owner) in [(3, 8), (3, 7), (4, 7), (5, 8)] {
                frames.allocate_for(owner, order).unwrap();
            }
            for held in [0x8000_0000, 0x8000_3000, 0x8009_f000, 0x8010_2000] {
                frames.hold(Pa(held), 7).unwrap();
            }
            frames
        };
        let all = |frames: &Frames| -> Vec<_> {
            let infos = (0..512).map(|page| {
                let pa = Pa(0x8000_0000 + page * PAGE_SIZE);
                let free = frames.info(pa.frame()).filter(|info| info.state == State::FreeHead);
                (frames.owner(pa), frames.references(pa), free.map(|info| info.order))
            });
            infos.collect()
        };
        // Whole blocks, parts of some, both banks, what nobody has, what lies beyond memory.
        for (first, pages) in
            [(0, 512), (0, 64), (5, 250), (128, 128), (130, 3), (250, 12), (256, 6), (500, 40), (7, 0)]
        {
            let (mut whole, mut single) = (books(), books());
            whole.put_range(Pa(0x8000_0000 + first * PAGE_SIZE), pages);
            (first..first + pages).for_each(|page| single.put(Pa(0x8000_0000 + page * PAGE_SIZE)));
            let counts = |frames: &Frames| (frames.owned_by(7), frames.owned_by(8), frames.free_frames());
            assert_eq!(
                (all(&whole), counts(&whole)),
                (all(&single), counts(&single)),
                "{pages} from {first} on"
            );
        }
    }

    #[test]
    fn only_untouched_memory_is_adopted() {
        let ram = range(0x8000_0000, 4 << 20);
        let mut frames = Frames::new(&[ram]);
        frames.release(range(0x8010_0000, 1 << 20)).unwrap();
        frames.adopt(range(0x8000_0000, 1 << 20), 0).unwrap();
        assert_eq!(frames.owned_by(0), 256);
        assert!(frames.adopt(range(0x800f_f000, 0x1000), 0).is_err(), "twice");
        assert!(frames.adopt(range(0x8010_0000, 0x1000), 0).is_err(), "free");
        assert!(frames.adopt(range(0x803f_f000, 0x2000), 0).is_err(), "not RAM");
        assert!(frames.adopt(range(0x8030_0800, 0x1000), 0).is_err(), "half a page");
    }

    #[test]
    fn random_use_never_overlaps() {
        let ram = range(0x8000_0000, 4 << 20);
        let mut frames = Frames::new(&[ram]);
        frames.release(ram).unwrap();
        let mut seed = 1u64;
        let mut held: Vec<(Pa, u8)> = vec![];
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if seed >> 63 == 0 && !held.is_empty() {
                let (pa, _) = held.swap_remove((seed >> 33) as usize % held.len());
                frames.deallocate(pa).unwrap();
            } else if let Some(pa) = frames.allocate((seed >> 40) as u8 % 6) {
                let order = (seed >> 40) as u8 % 6;
                assert!(pa.is_aligned(PAGE_SIZE << order));
                let new = range(pa.0, PAGE_SIZE << order);
                assert!(ram.contains_range(new));
                assert!(held.iter().all(|&(p, o)| !range(p.0, PAGE_SIZE << o).overlaps(new)));
                held.push((pa, order));
            }
        }
        assert_eq!(frames.free_frames_of_width(32, 32), frames.free_frames());
        for (pa, _) in held {
            frames.deallocate(pa).unwrap();
        }
        assert_eq!((frames.free_frames(), frames.free_frames_of_width(32, 32)), (1024, 1024));
        assert!(frames.allocate(10).is_some());
    }
}
