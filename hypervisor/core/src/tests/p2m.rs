//! Stage-2 tables: shapes, block sizes, splitting, break-before-make, and random use against a model.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::fake::FakeMachine;
use crate::frames::Frames;
use crate::machine::Memory;
use crate::p2m::{Kind, Mapping, P2m, P2mError, Shape};

const POOL: u64 = 0x8000_0000;
const PAGE: u64 = PAGE_SIZE;
const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

struct Tables {
    machine: FakeMachine,
    frames: Frames,
    p2m: P2m,
}

fn tables(pa_bits: u8, pool_pages: u64) -> Tables {
    let pool = PaRange::new(Pa(POOL), pool_pages * PAGE).unwrap();
    let machine = FakeMachine::new(&[pool]);
    let mut frames = Frames::new(&[pool]);
    frames.release(pool).unwrap();
    let p2m = P2m::new(&machine, &mut frames, Shape::for_physical(pa_bits), 7).unwrap();
    Tables { machine, frames, p2m }
}

impl Tables {
    fn map(&mut self, ipa: u64, pa: u64, size: u64, kind: Kind) -> Result<(), P2mError> {
        self.p2m.map(&self.machine, &mut self.frames, Ipa(ipa), Pa(pa), size, kind)
    }
    fn unmap(&mut self, ipa: u64, size: u64) -> Result<(), P2mError> {
        self.p2m.unmap(&self.machine, &mut self.frames, Ipa(ipa), size)
    }
    fn at(&self, ipa: u64) -> Option<u64> {
        self.p2m.lookup(&self.machine, Ipa(ipa)).map(|m| m.pa.0)
    }
    /// Frames taken from the pool, all of which must be tables.
    fn taken(&self) -> u64 {
        let taken = self.frames.total_frames() - self.frames.free_frames();
        assert_eq!(taken, self.p2m.table_frames());
        taken
    }
    /// Walks the tables as a CPU does; the leaf's level and descriptor.
    fn leaf(&self, shape: Shape, ipa: u64) -> Option<(u8, u64)> {
        let mut table = self.p2m.stage2().root;
        for level in shape.start_level..=3 {
            let shift = 39 - 9 * u64::from(level);
            let mask = if level == shape.start_level { u64::MAX } else { 511 };
            let descriptor = self.machine.read_u64(table.offset((ipa >> shift & mask) * 8)).unwrap();
            match (descriptor & 3, level) {
                (3, 3) | (1, 1 | 2) => return Some((level, descriptor)),
                (3, _) => table = Pa(descriptor & 0xffff_ffff_f000),
                (0, _) => return None,
                other => panic!("descriptor {descriptor:#x} is not allowed: {other:?}"),
            }
        }
        None
    }
}

#[test]
fn shapes_follow_the_physical_address_size() {
    let shape = |bits| {
        let shape = Shape::for_physical(bits);
        (shape.ipa_bits, shape.start_level, shape.root_order)
    };
    assert_eq!(shape(32), (32, 1, 0));
    assert_eq!(shape(36), (36, 1, 0));
    assert_eq!(shape(40), (40, 1, 1));
    assert_eq!(shape(42), (42, 1, 3));
    assert_eq!(shape(44), (44, 0, 0));
    assert_eq!(shape(48), (48, 0, 0));
    assert_eq!(shape(52), (48, 0, 0), "52 bits need another descriptor format");
}

#[test]
fn the_largest_block_that_fits_is_used() {
    for bits in [40, 44, 48] {
        let shape = Shape::for_physical(bits);
        let mut t = tables(bits, 64);
        // From one page before a gigabyte to one page after the next 2 MiB after it.
        t.map(GIB - PAGE, GIB - PAGE, PAGE + GIB + MIB2 + PAGE, Kind::Ram).unwrap();
        let level = |ipa| t.leaf(shape, ipa).map(|(level, _)| level);
        assert_eq!(level(GIB - PAGE), Some(3));
        assert_eq!(level(GIB), Some(1));
        assert_eq!(level(2 * GIB), Some(2));
        assert_eq!(level(2 * GIB + MIB2), Some(3));
        assert_eq!(level(2 * GIB + MIB2 + PAGE), None);
        // Not aligned alike: pages only.
        t.map(4 * GIB, GIB + PAGE, MIB2, Kind::Ram).unwrap();
        assert_eq!(t.leaf(shape, 4 * GIB).unwrap().0, 3);
        assert_eq!(t.at(4 * GIB + MIB2 - 1), Some(GIB + PAGE + MIB2 - 1));
        assert!(t.machine.flushes().is_empty(), "nothing was live before");
    }
}

#[test]
fn attributes_are_those_of_the_kind() {
    let shape = Shape::for_physical(40);
    let mut t = tables(40, 16);
    let cases = [
        (Kind::Ram, true),
        (Kind::ReadOnly, false),
        (Kind::Data, true),
        (Kind::Grant, true),
        (Kind::GrantReadOnly, false),
        (Kind::Device, true),
    ];
    for (n, (kind, writable)) in (1..).zip(cases) {
        t.map(n * PAGE, n * PAGE, PAGE, kind).unwrap();
        let pa = Pa(n * PAGE + 5);
        assert_eq!(t.p2m.lookup(&t.machine, Ipa(n * PAGE + 5)), Some(Mapping { pa, kind }));
        assert_eq!(kind.is_writable(), writable);
        let (_, descriptor) = t.leaf(shape, n * PAGE).unwrap();
        // Access flag set, or every first access would fault; readable always; XN for all but RAM.
        assert_eq!(descriptor >> 10 & 1, 1);
        assert_eq!(descriptor >> 6 & 1, 1);
        assert_eq!(descriptor >> 54 & 1, u64::from(kind != Kind::Ram));
    }
    assert_eq!(t.at(7 * PAGE), None);
}

#[test]
fn concatenated_roots_reach_the_whole_space() {
    let mut t = tables(40, 16);
    assert_eq!(t.p2m.stage2().vmid, 7);
    assert!(t.p2m.stage2().root.is_aligned(2 * PAGE), "two tables, aligned to their size");
    for ipa in [0, 511 * GIB, 512 * GIB, 1023 * GIB] {
        t.map(ipa, ipa, GIB, Kind::Ram).unwrap();
    }
    assert_eq!(t.taken(), 2, "gigabytes need no table below the roots");
    assert_eq!(t.at((1 << 40) - 1), Some((1 << 40) - 1));
    assert_eq!(t.at(510 * GIB), None);
    assert_eq!(t.at(513 * GIB), None);
}

#[test]
fn out_of_range_is_refused_and_changes_nothing() {
    for (bits, limit) in [(32, 1 << 32), (40, 1 << 40), (48, 1 << 48)] {
        let mut t = tables(bits, 16);
        let before = t.taken();
        for (ipa, pa, size) in [
            (limit, 0, PAGE),
            (limit - PAGE, 0, 2 * PAGE),
            (u64::MAX - PAGE + 1, 0, 2 * PAGE),
            (1, 0, PAGE),
            (0, 0, 1),
            (0, 1, PAGE),
            (0, 1 << 48, PAGE),
            (0, (1 << 48) - PAGE, 2 * PAGE),
            (0, u64::MAX - PAGE + 1, 2 * PAGE),
        ] {
            let result = t.map(ipa, pa, size, Kind::Ram);
            assert_eq!(result, Err(P2mError::OutOfRange), "{ipa:#x} {pa:#x} {size:#x}");
        }
        assert_eq!(t.unmap(limit, PAGE), Err(P2mError::OutOfRange));
        assert_eq!(t.at(limit), None);
        assert_eq!(t.at(u64::MAX), None);
        assert_eq!(t.taken(), before);
        t.map(limit - PAGE, 0, PAGE, Kind::Ram).unwrap();
        assert_eq!(t.at(limit - 1), Some(PAGE - 1));
    }
}

#[test]
fn a_block_is_split_around_a_hole() {
    let shape = Shape::for_physical(40);
    let mut t = tables(40, 16);
    t.map(GIB, 3 * GIB, GIB, Kind::Data).unwrap();
    let hole = GIB + 5 * MIB2 + 7 * PAGE;
    t.unmap(hole, PAGE).unwrap();
    assert_eq!(t.at(hole), None);
    assert_eq!(t.at(hole - 1), Some(hole - 1 + 2 * GIB));
    assert_eq!(t.at(hole + PAGE), Some(hole + PAGE + 2 * GIB));
    assert_eq!(t.at(GIB), Some(3 * GIB));
    assert_eq!(t.at(2 * GIB - 1), Some(4 * GIB - 1));
    assert_eq!(t.taken(), 4, "two roots, one level 2, one level 3");
    // Split parts keep type and permissions.
    let (level, part) = t.leaf(shape, GIB).unwrap();
    assert_eq!((level, part >> 54 & 1), (2, 1));
    assert!(t.p2m.lookup(&t.machine, Ipa(hole - PAGE)).unwrap().kind.is_writable());
    // Break-before-make at each of the two splits, and a flush of the page itself.
    let flushed: Vec<Option<Ipa>> = t.machine.flushes().iter().map(|(_, ipa)| *ipa).collect();
    assert_eq!(flushed, [Some(Ipa(hole)); 3]);
}

#[test]
fn a_live_entry_is_flushed_before_it_is_replaced() {
    let mut t = tables(40, 16);
    t.map(PAGE, GIB, PAGE, Kind::Ram).unwrap();
    t.map(PAGE, GIB, PAGE, Kind::Ram).unwrap();
    assert!(t.machine.flushes().is_empty(), "the same again is no change");
    t.map(PAGE, GIB + PAGE, PAGE, Kind::Ram).unwrap();
    assert_eq!(t.machine.flushes(), [(t.p2m.stage2(), Some(Ipa(PAGE)))]);
    t.unmap(PAGE, PAGE).unwrap();
    assert_eq!(t.machine.flushes().len(), 2);
    t.unmap(PAGE, PAGE).unwrap();
    assert_eq!(t.machine.flushes().len(), 2, "nothing was there");
}

#[test]
fn a_block_in_place_of_a_table_frees_it() {
    let mut t = tables(40, 64);
    let before = t.taken();
    for n in 0..4 {
        t.map(GIB + n * 3 * MIB2, 2 * GIB, PAGE, Kind::Ram).unwrap();
    }
    assert_eq!(t.taken(), before + 5);
    t.map(GIB, GIB, GIB, Kind::Ram).unwrap();
    assert_eq!(t.taken(), before);
    assert_eq!(t.at(GIB + 3 * MIB2), Some(GIB + 3 * MIB2));
    assert_eq!(t.machine.flushes(), [(t.p2m.stage2(), None)], "all that went through the table");
}

#[test]
fn no_memory_is_an_error_that_leaks_nothing() {
    // Two roots, a level 2, a level 3: nothing is left for a second level 3.
    let mut t = tables(40, 4);
    t.map(GIB, GIB, PAGE, Kind::Ram).unwrap();
    assert_eq!(t.frames.free_frames(), 0);
    assert_eq!(t.map(GIB + MIB2, GIB, PAGE, Kind::Ram), Err(P2mError::OutOfMemory));
    assert_eq!(t.at(GIB + MIB2), None);
    assert_eq!(t.at(GIB), Some(GIB));
    assert_eq!(t.taken(), 4);
    // A block needs no table; cutting it does, and what cannot be cut stays whole.
    t.map(GIB + MIB2, GIB + MIB2, MIB2, Kind::Ram).unwrap();
    assert_eq!(t.unmap(GIB + MIB2, PAGE), Err(P2mError::OutOfMemory));
    assert_eq!(t.at(GIB + MIB2), Some(GIB + MIB2));
    assert_eq!(t.taken(), 4);
    // Replacing all of it by one block gives the tables back.
    t.map(GIB, GIB, GIB, Kind::Ram).unwrap();
    assert_eq!(t.taken(), 2);
    assert!(matches!(
        P2m::new(&t.machine, &mut tables(40, 2).frames, Shape::for_physical(42), 1),
        Err(P2mError::OutOfMemory)
    ));
}

#[test]
fn random_use_agrees_with_a_model() {
    let steps = if cfg!(miri) { 12 } else { 600 };
    for bits in [40, 48] {
        let mut t = tables(bits, 256);
        // 4 MiB around a border of gigabytes, page by page.
        let (base, pages) = (GIB - MIB2, 1024_u64);
        let mut model: BTreeMap<u64, (u64, Kind)> = BTreeMap::new();
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut below = |limit: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % limit
        };
        for step in 0..steps {
            let first = if below(3) == 0 { below(2) * 512 } else { below(pages) };
            let count = if below(3) == 0 { 512 } else { 1 + below(40) }.min(pages - first);
            let kind = [Kind::Ram, Kind::ReadOnly, Kind::Data, Kind::Device][below(4) as usize];
            let ipa = base + first * PAGE;
            if below(3) == 0 {
                t.unmap(ipa, count * PAGE).unwrap();
                (first..first + count).for_each(|page| _ = model.remove(&page));
            } else {
                // Often aligned alike, so that blocks come into being.
                let pa = if below(2) == 0 { 7 * GIB + ipa } else { below(1 << 20) * PAGE };
                t.map(ipa, pa, count * PAGE, kind).unwrap();
                (0..count).for_each(|n| _ = model.insert(first + n, (pa + n * PAGE, kind)));
            }
            let stride = if step + 1 == steps { 1 } else { 61 };
            for page in (0..pages).step_by(stride) {
                let offset = below(PAGE);
                let found = t.p2m.lookup(&t.machine, Ipa(base + page * PAGE + offset));
                let expected = model.get(&page).map(|&(pa, kind)| Mapping { pa: Pa(pa + offset), kind });
                assert_eq!(found, expected, "step {step}, page {page}");
            }
            t.taken();
        }
        // Whole blocks over all of it leave two roots, or a root and the table below it.
        t.map(base & !(GIB - 1), 0, 2 * GIB, Kind::Ram).unwrap();
        assert_eq!(t.taken(), 2);
    }
}

/// A step is bounded by the entries that it reads, not by those that it finds.
#[test]
fn tables_with_little_in_them_are_cleared_in_steps() {
    const PAGES: u64 = 512;
    let mut t = tables(40, 1024);
    for index in 0..PAGES {
        t.map(index * MIB2, 0x4000_0000 + index * PAGE, PAGE, Kind::Device).unwrap();
    }
    assert!(t.p2m.table_frames() > PAGES, "each page has a table of its own");
    let mut steps = 1;
    while !t.p2m.clear(&t.machine, &mut t.frames, 4096).unwrap() {
        steps += 1;
        assert!(steps <= PAGES, "a step does something");
    }
    assert!(steps * 64 >= PAGES, "{steps} steps: more than 64 tables were cleared in one");
    t.p2m.release(&mut t.frames);
    assert_eq!(t.taken(), 0);
}
