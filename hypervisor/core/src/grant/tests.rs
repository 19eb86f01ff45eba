use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;
use vambrace_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;
use zerocopy::IntoBytes;

use super::*;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::fake::FakeMachine;
use crate::machine::Memory;

const RAM: u64 = 0x4000_0000;
/// The granter's pages, by frame number; an odd number is of a page that may only be read.
const PAGES: u64 = RAM + 0x100_0000;
/// Who maps.
const USER: u16 = 5;

/// A machine, and an allocator of its first `count` frames.
fn machine(count: u64) -> (FakeMachine, impl FnMut() -> Option<Pa>) {
    let mut next = 0;
    let allocate = move || {
        next += 1;
        (next <= count).then(|| Pa(RAM + (next - 1) * PAGE_SIZE))
    };
    (FakeMachine::with_ram(RAM, 64 << 20), allocate)
}

/// A granter of sixteen pages, that counts references.
#[derive(Default)]
struct Granter {
    references: BTreeMap<u64, u32>,
}

impl Pages for Granter {
    fn hold(&mut self, frame: u64, write: bool) -> Result<Pa, i16> {
        if frame >= 16 || write && frame % 2 == 1 {
            return Err(GNTST_BAD_PAGE);
        }
        *self.references.entry(PAGES + frame * PAGE_SIZE).or_default() += 1;
        Ok(Pa(PAGES + frame * PAGE_SIZE))
    }

    fn put(&mut self, page: Pa) {
        let count = self.references.get_mut(&page.0);
        let count = count.filter(|count| **count > 0).expect("a page that is held");
        *count -= 1;
    }
}

impl Granter {
    fn held(&self, frame: u64) -> u32 {
        self.references.get(&(PAGES + frame * PAGE_SIZE)).copied().unwrap_or(0)
    }
}

/// A table of two frames and its granter, with ways to look at entries as the guest does.
struct World {
    m: FakeMachine,
    table: GrantTable,
    granter: Granter,
}

impl World {
    fn new(version: u32) -> Self {
        let (m, mut allocate) = machine(100);
        let mut table = GrantTable::new(4, 4);
        table.frame(1, &mut allocate).unwrap();
        table.set_version(&m, version, &mut allocate).unwrap();
        Self { m, table, granter: Granter::default() }
    }

    /// Shared frame `n`, in the order in which they are listed.
    fn frame(&self, n: usize) -> Pa {
        self.table.frames().nth(n).unwrap()
    }

    fn grant(&self, index: u32, flags: u16, domid: u16, frame: u64) {
        let at = |size: u64| {
            let byte = u64::from(index) * size;
            self.frame((byte / PAGE_SIZE) as usize).offset(byte % PAGE_SIZE)
        };
        let written = match self.table.version() {
            Version::V1 => {
                let entry = GrantEntryV1 { flags, domid, frame: frame as u32 };
                self.m.write(at(8), entry.as_bytes())
            }
            Version::V2 => {
                let hdr = GrantEntryHeader { flags, domid };
                // The pad of a whole page is the place of a part.
                self.m.write(at(16), GrantEntryV2SubPage { hdr, page_off: 64, length: 32, frame }.as_bytes())
            }
        };
        written.unwrap();
    }

    /// The flags that say that an entry is in use.
    fn in_use(&self, index: u32) -> u16 {
        let word = match self.table.version() {
            Version::V1 => self.m.word(self.frame((index / 512) as usize).offset(u64::from(index % 512) * 8)),
            Version::V2 => {
                let status = self.frame(2).offset(u64::from(index & !1) * 2);
                self.m.word(status) >> (16 * (index % 2))
            }
        };
        word as u16 & (GTF_READING | GTF_WRITING)
    }

    fn pin(&mut self, index: u32, write: bool, whole: bool) -> Result<Granted, i16> {
        self.table.pin(&self.m, index, Want { by: USER, write, whole }, &mut self.granter)
    }

    fn unpin(&mut self, index: u32, write: bool) -> bool {
        self.table.unpin(&self.m, index, write, &mut self.granter)
    }
}

#[test]
fn grows_on_demand_up_to_the_maximum() {
    let (_, mut allocate) = machine(100);
    let mut table = GrantTable::new(4, 0);
    assert_eq!(table.size(), (0, 4));
    let third = table.frame(2, &mut allocate).unwrap();
    assert_eq!(table.size(), (3, 4));
    assert_eq!(table.frames().nth(2), Some(third));
    assert_ne!(table.frame(0, &mut allocate), Ok(third));
    assert_eq!(table.frame(4, &mut allocate), Err(Errno::EINVAL));
    assert_eq!(table.frame(u64::MAX, &mut allocate), Err(Errno::EINVAL));
    assert_eq!(table.frame(1 << 40, &mut allocate), Err(Errno::EINVAL));
    assert_eq!(table.frame(XENMAPIDX_GRANT_TABLE_STATUS, &mut allocate), Err(Errno::EINVAL));
    assert_eq!(table.size(), (3, 4));
    assert_eq!(table.frames().count(), 3);
}

#[test]
fn memory_may_run_out() {
    // Each frame comes with two for records.
    let (_, mut allocate) = machine(6);
    let mut table = GrantTable::new(DEFAULT_MAX_FRAMES, 0);
    assert_eq!(table.frame(1, &mut allocate).map(drop), Ok(()));
    assert_eq!(table.frame(7, &mut allocate), Err(Errno::ENOMEM));
    assert_eq!(table.size(), (2, 64));
    assert!(table.frame(1, &mut allocate).is_ok());
    assert!(table.setup(3, &mut allocate).is_err());
    assert_eq!(table.take_frames().count(), 6);
    assert_eq!(table.size(), (0, 64));
}

#[test]
fn setup_lists_where_frames_are_mapped() {
    let (machine, mut allocate) = machine(100);
    let mut table = GrantTable::new(8, 0);
    table.frame(0, &mut allocate).unwrap();
    table.set_mapped(0, Ipa(0x3800_0000));
    table.set_mapped(77, Ipa(0x3800_0000));
    let list: Vec<u64> = table.setup(2, &mut allocate).unwrap().collect();
    assert_eq!(list, [0x38000, UNMAPPED_GFN]);
    assert_eq!(table.setup(9, &mut allocate).err(), Some(GNTST_GENERAL_ERROR));
    assert_eq!(table.status_frames(0).unwrap().count(), 0);
    assert_eq!(table.status_frames(1).err(), Some(GNTST_GENERAL_ERROR));
    table.set_version(&machine, 2, &mut allocate).unwrap();
    table.set_mapped(XENMAPIDX_GRANT_TABLE_STATUS, Ipa(0x3900_0000));
    assert_eq!(table.status_frames(1).unwrap().collect::<Vec<_>>(), [0x39000]);
    assert_eq!(table.status_frames(2).err(), Some(GNTST_GENERAL_ERROR));
}

#[test]
fn status_frames_follow_shared_ones() {
    let (machine, mut allocate) = machine(100);
    let mut table = GrantTable::new(20, 0);
    table.set_version(&machine, 2, &mut allocate).unwrap();
    // Status frame 1 holds the words of shared frames 8 to 15, so they come with it.
    table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 1, &mut allocate).unwrap();
    assert_eq!(table.size(), (16, 20));
    assert_eq!(table.frames().count(), 18);
    table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 2, &mut allocate).unwrap();
    assert_eq!(table.size(), (20, 20));
    let beyond = table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 3, &mut allocate);
    assert_eq!(beyond, Err(Errno::EINVAL));
}

#[test]
fn frames_are_a_resource() {
    let (machine, mut allocate) = machine(100);
    let mut table = GrantTable::new(20, 0);
    assert_eq!(table.resource_frames(0), Ok(20));
    assert_eq!(table.resource_frames(1), Ok(3));
    assert_eq!(table.resource_frames(2), Err(Errno::EINVAL));
    let frame = table.resource_frame(0, 1, &mut allocate).unwrap();
    assert_eq!(table.frame(1, &mut allocate), Ok(frame));
    for (id, index) in [(0, 20), (0, u64::MAX), (1, 0), (2, 0), (0, XENMAPIDX_GRANT_TABLE_STATUS)] {
        assert_eq!(table.resource_frame(id, index, &mut allocate), Err(Errno::EINVAL), "{id} {index}");
    }
    table.set_version(&machine, 2, &mut allocate).unwrap();
    assert!(table.resource_frame(1, 2, &mut allocate).is_ok());
    assert_eq!(table.size(), (20, 20));
    assert_eq!(table.resource_frame(0, 3, || None).map(drop), Ok(()));
}

#[test]
fn a_change_of_version_keeps_reserved_entries_alone() {
    let mut world = World::new(1);
    world.grant(0, GTF_PERMIT_ACCESS | GTF_READONLY, USER, 3);
    world.grant(7, GTF_ACCEPT_TRANSFER, USER, 0);
    world.grant(8, GTF_PERMIT_ACCESS, USER, 4);
    assert_eq!(world.pin(0, false, true).map(|g| g.page), Ok(Pa(PAGES + 3 * PAGE_SIZE)));
    for version in [2, 1, 1, 2] {
        world.table.set_version(&world.m, version, || Some(Pa(RAM + 0x80_0000))).unwrap();
        assert_eq!(world.table.version().number(), version);
        assert_eq!((world.in_use(0), world.in_use(1)), (GTF_READING, 0), "it stays in use");
        assert_eq!(world.pin(0, false, true).map(|g| g.page), Ok(Pa(PAGES + 3 * PAGE_SIZE)));
        assert_eq!(world.pin(8, false, true), Err(GNTST_GENERAL_ERROR));
        assert!(world.unpin(0, false));
    }
    assert!(world.unpin(0, false));
    assert_eq!((world.in_use(0), world.granter.held(3)), (0, 0));
    assert_eq!(world.table.set_version(&world.m, 3, || None), Err(Errno::EINVAL));
    world.table.limit_version(Version::V1);
    assert_eq!(world.table.set_version(&world.m, 1, || None), Ok(()));
    assert_eq!(world.table.set_version(&world.m, 2, || None), Err(Errno::ENOSYS));
}

#[test]
fn a_change_of_version_refuses_what_it_cannot_express() {
    let mut world = World::new(2);
    world.grant(1, GTF_PERMIT_ACCESS, USER, 1 << 32);
    assert_eq!(world.table.set_version(&world.m, 1, || None), Err(Errno::ERANGE));
    for flags in [GTF_PERMIT_ACCESS | GTF_SUB_PAGE, GTF_TRANSITIVE] {
        world.grant(1, flags, USER, 1);
        assert_eq!(world.table.set_version(&world.m, 1, || None), Err(Errno::ERANGE));
    }
    world.grant(1, 0, USER, u64::MAX);
    world.grant(9, GTF_PERMIT_ACCESS, USER, 2);
    world.pin(9, true, true).unwrap();
    assert_eq!(world.table.set_version(&world.m, 1, || None), Err(Errno::EBUSY));
    assert_eq!(world.table.version(), Version::V2);
    assert!(world.unpin(9, true));
    assert_eq!(world.table.set_version(&world.m, 1, || None), Ok(()));
}

#[test]
fn an_entry_says_that_it_is_in_use_as_long_as_it_is() {
    for version in [1, 2] {
        let mut world = World::new(version);
        for index in [20, 21, 300] {
            world.grant(index, GTF_PERMIT_ACCESS, USER, 4);
            assert_eq!(world.pin(index, false, true).map(|g| g.page.0), Ok(PAGES + 4 * PAGE_SIZE));
            assert_eq!((world.in_use(index), world.granter.held(4)), (GTF_READING, 1));
            world.pin(index, true, true).unwrap();
            assert_eq!((world.in_use(index), world.granter.held(4)), (GTF_READING | GTF_WRITING, 1));
            world.pin(index, true, false).unwrap();
            assert_eq!((world.table.users(&world.m, index), world.table.pinned()), ((1, 2), 1));
            assert!(world.unpin(index, true));
            assert_eq!(world.in_use(index), GTF_READING | GTF_WRITING);
            assert!(world.unpin(index, true));
            assert_eq!(world.in_use(index), GTF_READING, "nobody writes any more");
            assert!(!world.unpin(index, true), "nobody did");
            assert!(world.unpin(index, false));
            assert_eq!((world.in_use(index), world.granter.held(4)), (0, 0));
            assert!(!world.unpin(index, false));
            assert_eq!(world.table.pinned(), 0);
        }
    }
}

#[test]
fn what_an_entry_grants_is_settled_when_it_is_pinned() {
    for version in [1, 2] {
        let mut world = World::new(version);
        world.grant(9, GTF_PERMIT_ACCESS, USER, 4);
        let page = world.pin(9, true, true).unwrap();
        world.grant(9, 0, 77, 6);
        assert_eq!(world.pin(9, false, true), Ok(page));
        assert_eq!(world.pin(9, true, true), Ok(page));
        let other = Want { by: 77, write: false, whole: true };
        assert_eq!(world.table.pin(&world.m, 9, other, &mut world.granter), Err(GNTST_GENERAL_ERROR));
        for write in [true, true, false] {
            assert!(world.unpin(9, write));
        }
        assert_eq!(world.pin(9, false, true), Err(GNTST_GENERAL_ERROR));
        assert_eq!((world.granter.held(4), world.granter.held(6)), (0, 0));
    }
}

#[test]
fn wrong_entries_are_refused_and_left_alone() {
    for version in [1, 2] {
        let mut world = World::new(version);
        let last = if version == 1 { 1023 } else { 511 };
        let mut expect = |flags, domid, frame, write, status: i16| {
            world.grant(last, flags, domid, frame);
            assert_eq!(world.pin(last, write, true), Err(status), "{flags:#x} {domid} {frame}");
            assert_eq!((world.in_use(last), world.table.pinned()), (0, 0));
        };
        let access = GTF_PERMIT_ACCESS;
        expect(0, USER, 2, false, GNTST_GENERAL_ERROR);
        expect(GTF_ACCEPT_TRANSFER, USER, 2, false, GNTST_GENERAL_ERROR);
        expect(GTF_TRANSITIVE, USER, 2, false, GNTST_GENERAL_ERROR);
        expect(access | GTF_SUB_PAGE, USER, 2, false, GNTST_GENERAL_ERROR);
        expect(access, 6, 2, false, GNTST_GENERAL_ERROR);
        expect(access | GTF_READONLY, USER, 2, true, GNTST_GENERAL_ERROR);
        expect(access, USER, 99, false, GNTST_BAD_PAGE);
        expect(access, USER, 3, true, GNTST_BAD_PAGE);
        assert_eq!(world.pin(last + 1, false, true), Err(GNTST_BAD_GNTREF));
        assert_eq!(world.pin(u32::MAX, false, true), Err(GNTST_BAD_GNTREF));
        assert!(!world.unpin(last + 1, false) && !world.unpin(u32::MAX, false));
        // A page that may be read only cannot be written later either.
        world.grant(last, access, USER, 3);
        assert!(world.pin(last, false, true).is_ok());
        assert_eq!(world.pin(last, true, true), Err(GNTST_BAD_PAGE));
        assert_eq!((world.in_use(last), world.granter.held(3)), (GTF_READING, 1));
        // Nor when the guest has changed its mind about which page it is.
        world.grant(last, access | GTF_READING, USER, 2);
        assert_eq!(world.pin(last, true, true), Err(GNTST_GENERAL_ERROR));
        assert_eq!((world.granter.held(2), world.granter.held(3)), (0, 1));
        world.grant(last, access | GTF_READONLY | GTF_READING, USER, 3);
        assert_eq!(world.pin(last, true, true), Err(GNTST_GENERAL_ERROR));
        assert!(world.unpin(last, false));
        assert_eq!(world.granter.held(3), 0);
    }
}

#[test]
fn parts_of_pages_are_copied_and_never_mapped() {
    let mut world = World::new(2);
    world.grant(9, GTF_PERMIT_ACCESS | GTF_SUB_PAGE, USER, 4);
    let part = Granted { page: Pa(PAGES + 4 * PAGE_SIZE), start: 64, length: 32 };
    assert_eq!(world.pin(9, true, false), Ok(part));
    assert_eq!(world.pin(9, false, false), Ok(part));
    assert_eq!(world.pin(9, false, true), Err(GNTST_GENERAL_ERROR));
    assert!(world.unpin(9, true) && world.unpin(9, false));
    // Of a page that is mapped in whole, the whole may be copied, whatever the guest says then.
    world.grant(9, GTF_PERMIT_ACCESS, USER, 4);
    world.pin(9, true, true).unwrap();
    world.grant(9, GTF_PERMIT_ACCESS | GTF_SUB_PAGE, USER, 4);
    assert_eq!(world.pin(9, true, false).map(|granted| granted.length), Ok(4096));
}

#[test]
fn one_can_have_only_so_many_of_one_page() {
    let mut world = World::new(1);
    world.grant(9, GTF_PERMIT_ACCESS, USER, 4);
    for _ in 0..u16::MAX {
        assert!(world.pin(9, false, true).is_ok());
    }
    assert_eq!(world.pin(9, false, true), Err(GNTST_GENERAL_ERROR));
    assert!(world.pin(9, true, true).is_ok());
    assert_eq!(world.granter.held(4), 1);
}

#[test]
fn entries_are_exchanged_unless_in_use() {
    for version in [1, 2] {
        let mut world = World::new(version);
        world.grant(9, GTF_PERMIT_ACCESS, USER, 4);
        world.grant(10, GTF_PERMIT_ACCESS, USER, 6);
        assert_eq!(world.table.swap(&world.m, 9, 10), Ok(()));
        assert_eq!(world.pin(9, false, true).map(|g| g.page.0), Ok(PAGES + 6 * PAGE_SIZE));
        assert_eq!(world.table.swap(&world.m, 9, 10), Err(GNTST_EAGAIN));
        assert_eq!(world.table.swap(&world.m, 10, 9), Err(GNTST_EAGAIN));
        assert_eq!(world.table.swap(&world.m, 9, 9), Ok(()));
        assert_eq!(world.table.swap(&world.m, 9, 1024), Err(GNTST_BAD_GNTREF));
        assert_eq!(world.table.swap(&world.m, u32::MAX, 9), Err(GNTST_BAD_GNTREF));
        assert!(world.unpin(9, false));
        assert_eq!(world.table.swap(&world.m, 10, 9), Ok(()));
    }
}

#[test]
fn what_is_mapped_outlives_the_table() {
    let mut world = World::new(2);
    world.grant(9, GTF_PERMIT_ACCESS, USER, 4);
    world.grant(10, GTF_PERMIT_ACCESS, USER, 4);
    world.pin(9, true, true).unwrap();
    world.pin(10, true, true).unwrap();
    assert_eq!(world.table.take_frames().count(), 3, "two shared frames and one of status");
    assert_eq!(world.pin(9, true, true), Err(GNTST_BAD_GNTREF));
    assert_eq!(world.table.frame(0, || Some(Pa(RAM))), Err(Errno::EINVAL));
    assert!(world.unpin(9, true));
    assert_eq!(world.granter.held(4), 1);
    // The records go with the last that they are about.
    for frame in 0..16 {
        world.granter.references.entry(RAM + frame * PAGE_SIZE).or_insert(1);
    }
    assert!(world.unpin(10, true));
    assert_eq!(world.granter.held(4), 0);
    let gone = world.granter.references.iter().filter(|(at, count)| **at < PAGES && **count == 0).count();
    assert_eq!(gone, 4);
}

#[test]
fn grants_of_a_page_are_found() {
    let mut world = World::new(1);
    world.grant(600, GTF_PERMIT_ACCESS, USER, 4);
    world.pin(600, false, true).unwrap();
    let page = Pa(PAGES + 4 * PAGE_SIZE);
    let search = |page, by, from, count| world.table.search(&world.m, page, by, from, count);
    assert_eq!(search(page, USER, 0, 256), Search::Further(256));
    assert_eq!(search(page, USER, 512, 256), Search::Found);
    assert_eq!(search(page, 6, 512, 256), Search::Further(768));
    assert_eq!(search(Pa(PAGES), USER, 0, u32::MAX), Search::No);
    assert_eq!(search(page, USER, u32::MAX, 256), Search::No);
}
