//! The hypervisor's own translation tables: the VMSAv8-64 stage-1 format with a 4 KiB granule and 48-bit addresses (Arm
//! ARM D8.3), which from level 1 on is also that of ARMv7's Hyp mode (the long-descriptor format, ARMv7 ARM B3.6).
//!
//! Entries only ever go from invalid to valid, so no break-before-make sequence is needed and other CPUs may walk the
//! tables at any time; but for those of windows, see [`Tables::replace_page`]. Nothing is ever writable and executable.

use vambrace_core::addr::{PAGE_SIZE, Pa};

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// How much the tables of a kind of CPU translate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Level of the first table: 0, or 1 where virtual addresses have at most 39 bits.
    pub start_level: u32,
    /// Bits of a virtual address, no more than the first table covers.
    pub virtual_bits: u32,
    /// Bits of a physical address, at most 48.
    pub physical_bits: u32,
}

impl Format {
    /// One past the highest address that is both a virtual and a physical one.
    pub const fn limit(self) -> u64 {
        if self.virtual_bits < self.physical_bits { 1 << self.virtual_bits } else { 1 << self.physical_bits }
    }
}

const VALID: u64 = 1;
/// At levels 0 to 2 a table, at level 3 a page.
const TABLE_OR_PAGE: u64 = 0b10;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const RES1_AP1: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;

/// What a range is for: its memory type and permissions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Instructions: read and execute.
    Code,
    /// Constants: read.
    ReadOnly,
    /// RAM: read and write.
    Data,
    /// Device registers (nGnRE): read and write.
    Device,
}

impl Kind {
    /// Attributes of a leaf entry. Memory kinds by index in MAIR_EL2: 0 device nGnRnE, 1 device nGnRE, 2 write-back.
    const fn attributes(self) -> u64 {
        let memory = 2 << 2 | INNER_SHAREABLE;
        let attributes = match self {
            Self::Code => memory | READ_ONLY,
            Self::ReadOnly => memory | READ_ONLY | EXECUTE_NEVER,
            Self::Data => memory | EXECUTE_NEVER,
            Self::Device => 1 << 2 | EXECUTE_NEVER,
        };
        attributes | VALID | ACCESSED | RES1_AP1
    }
}

/// Why a range could not be mapped. What lies before the place in question is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Not in whole pages.
    Misaligned,
    /// Past the end of the address space.
    OutOfRange,
    /// Mapped already, to something else or in another way, at this virtual address.
    Occupied(u64),
    /// No memory for another table.
    NoMemory,
}

/// Memory that holds tables, by physical address.
pub trait TableMemory {
    /// A zeroed table, page-aligned.
    fn allocate(&mut self) -> Option<Pa>;
    /// Reads entry `index` of `table`, an address that [`TableMemory::allocate`] gave.
    fn read(&self, table: Pa, index: usize) -> u64;
    /// Writes entry `index` of `table` in one access.
    fn write(&mut self, table: Pa, index: usize, entry: u64);
}

/// Translation tables under one root.
#[derive(Debug)]
pub struct Tables<M> {
    /// Where the tables lie.
    pub memory: M,
    root: Pa,
    format: Format,
}

const fn shift(level: u32) -> u32 {
    39 - 9 * level
}

const fn index(va: u64, level: u32) -> usize {
    (va >> shift(level)) as usize & (ENTRIES - 1)
}

impl<M: TableMemory> Tables<M> {
    /// Empty tables; `None` without memory for the first.
    pub fn new(mut memory: M, format: Format) -> Option<Self> {
        let root = memory.allocate()?;
        Some(Self { memory, root, format })
    }

    /// Tables that exist, with their first level at `root`.
    pub const fn existing(memory: M, root: Pa, format: Format) -> Self {
        Self { memory, root, format }
    }

    /// The first table, for TTBR0_EL2 or HTTBR.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Maps `size` bytes of virtual space from `va` to physical memory from `pa`, in the largest blocks that fit. What
    /// is mapped so already stays.
    pub fn map(&mut self, va: u64, pa: Pa, size: u64, kind: Kind) -> Result<(), MapError> {
        if (va | pa.0 | size) & (PAGE_SIZE - 1) != 0 {
            return Err(MapError::Misaligned);
        }
        let fits = |start: u64, bits: u32| start.checked_add(size).is_some_and(|end| end <= 1_u64 << bits);
        if !fits(va, self.format.virtual_bits) || !fits(pa.0, self.format.physical_bits) {
            return Err(MapError::OutOfRange);
        }
        let mut done = 0;
        while done < size {
            done += self.map_one(va + done, pa.0 + done, size - done, kind)?;
        }
        Ok(())
    }

    /// Maps the largest block at `va`, and returns its size in bytes.
    fn map_one(&mut self, va: u64, pa: u64, size: u64, kind: Kind) -> Result<u64, MapError> {
        let mut table = self.root;
        for level in self.format.start_level..4 {
            let block = 1u64 << shift(level);
            let entry = self.memory.read(table, index(va, level));
            if entry & VALID == 0 {
                if level > 0 && (va | pa) & (block - 1) == 0 && size >= block {
                    let leaf = if level == 3 { TABLE_OR_PAGE } else { 0 };
                    self.memory.write(table, index(va, level), pa | leaf | kind.attributes());
                    return Ok(block);
                }
                let next = self.memory.allocate().ok_or(MapError::NoMemory)?;
                self.memory.write(table, index(va, level), next.0 | TABLE_OR_PAGE | VALID);
                table = next;
            } else if level < 3 && entry & TABLE_OR_PAGE != 0 {
                table = Pa(entry & ADDRESS);
            } else {
                let offset = va & (block - 1);
                let same = entry & ADDRESS & !(block - 1) == pa.wrapping_sub(offset);
                let attributes = entry & !ADDRESS & !TABLE_OR_PAGE;
                if !same || attributes != kind.attributes() {
                    return Err(MapError::Occupied(va));
                }
                return Ok((block - offset).min(size));
            }
        }
        Err(MapError::Occupied(va))
    }

    /// Maps the page at `va` to `page`, whatever it was mapped to before. `forget` is called while the page is not mapped:
    /// it has every CPU forget what it was. [`MapError::Occupied`] where a larger block covers the page.
    pub fn replace_page(
        &mut self,
        va: u64,
        page: Pa,
        kind: Kind,
        mut forget: impl FnMut(),
    ) -> Result<(), MapError> {
        if va < 1 << self.format.virtual_bits && va & (PAGE_SIZE - 1) == 0 {
            let mut table = self.root;
            for level in self.format.start_level..4 {
                let entry = self.memory.read(table, index(va, level));
                if entry & VALID == 0 {
                    break;
                } else if level == 3 {
                    self.memory.write(table, index(va, level), 0);
                    forget();
                } else if entry & TABLE_OR_PAGE == 0 {
                    return Err(MapError::Occupied(va));
                } else {
                    table = Pa(entry & ADDRESS);
                }
            }
        }
        self.map(va, page, PAGE_SIZE, kind)
    }

    /// What `va` translates to, and how.
    pub fn lookup(&self, va: u64) -> Option<(Pa, Kind)> {
        if va >= 1 << self.format.virtual_bits {
            return None;
        }
        let mut table = self.root;
        for level in self.format.start_level..4 {
            let entry = self.memory.read(table, index(va, level));
            if entry & VALID == 0 {
                return None;
            }
            if level < 3 && entry & TABLE_OR_PAGE != 0 {
                table = Pa(entry & ADDRESS);
                continue;
            }
            let offset = va & ((1 << shift(level)) - 1);
            let attributes = entry & !ADDRESS & !TABLE_OR_PAGE;
            let kinds = [Kind::Code, Kind::ReadOnly, Kind::Data, Kind::Device];
            let kind = kinds.into_iter().find(|kind| kind.attributes() == attributes)?;
            return Some((Pa(entry & ADDRESS & !((1 << shift(level)) - 1) | offset), kind));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::*;

    #[derive(Default)]
    struct Fake {
        tables: Vec<Box<[u64; ENTRIES]>>,
        limit: usize,
    }

    impl TableMemory for Fake {
        fn allocate(&mut self) -> Option<Pa> {
            (self.tables.len() < self.limit).then(|| {
                self.tables.push(Box::new([0; ENTRIES]));
                Pa((self.tables.len() as u64) << 12)
            })
        }
        fn read(&self, table: Pa, index: usize) -> u64 {
            self.tables[table.0 as usize / 4096 - 1][index]
        }
        fn write(&mut self, table: Pa, index: usize, entry: u64) {
            let slot = &mut self.tables[table.0 as usize / 4096 - 1][index];
            assert!(*slot & VALID == 0 || entry == 0, "a valid entry was changed");
            *slot = entry;
        }
    }

    const WIDE: Format = Format { start_level: 0, virtual_bits: 48, physical_bits: 48 };
    const NARROW: Format = Format { start_level: 1, virtual_bits: 32, physical_bits: 40 };
    const LIMIT: u64 = WIDE.limit();

    fn tables(limit: usize) -> Tables<Fake> {
        Tables::new(Fake { tables: Vec::new(), limit }, WIDE).unwrap()
    }

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn maps_in_large_blocks_around_pages() {
        let mut tables = tables(8);
        let start = GIB - 2 * MIB - 4096;
        tables.map(start, Pa(start), 4096 + 2 * MIB + 2 * GIB + 8192, Kind::Data).unwrap();
        // Root, level 1, and level 2 and 3 at either end.
        assert_eq!(tables.memory.tables.len(), 6);
        for va in [start, GIB - 1, GIB, 3 * GIB - 1, 3 * GIB + 8191] {
            assert_eq!(tables.lookup(va), Some((Pa(va), Kind::Data)));
        }
        for va in [start - 1, 3 * GIB + 8192, LIMIT, u64::MAX] {
            assert_eq!(tables.lookup(va), None);
        }
    }

    #[test]
    fn the_same_again_is_no_error_and_anything_else_is() {
        let mut tables = tables(16);
        tables.map(0, Pa(0), 4 * MIB, Kind::Data).unwrap();
        tables.map(2 * MIB + 4096, Pa(2 * MIB + 4096), 4 * MIB, Kind::Data).unwrap();
        assert_eq!(tables.lookup(6 * MIB + 4095), Some((Pa(6 * MIB + 4095), Kind::Data)));
        assert_eq!(tables.map(MIB, Pa(MIB), 4096, Kind::Code), Err(MapError::Occupied(MIB)));
        assert_eq!(tables.map(MIB, Pa(0), 4096, Kind::Data), Err(MapError::Occupied(MIB)));
        assert_eq!(tables.lookup(MIB), Some((Pa(MIB), Kind::Data)));
    }

    #[test]
    fn virtual_need_not_be_physical() {
        let mut tables = tables(8);
        let va = LIMIT - 4 * MIB;
        tables.map(va + 4096, Pa(0x8000_3000), 0x4000, Kind::Data).unwrap();
        assert_eq!(tables.lookup(va + 0x1234), Some((Pa(0x8000_3234), Kind::Data)));
        assert_eq!((tables.lookup(va), tables.lookup(va + 0x5000)), (None, None));
    }

    #[test]
    fn hyp_mode_s_tables_start_a_level_lower() {
        let mut tables = Tables::new(Fake { tables: Vec::new(), limit: 2 }, NARROW).unwrap();
        assert_eq!(NARROW.limit(), 4 * GIB);
        tables.map(0, Pa(0), 2 * GIB, Kind::Data).unwrap();
        assert_eq!(tables.memory.tables.len(), 1, "1 GiB an entry of the first table");
        tables.map(4 * GIB - 2 * MIB, Pa(8 * GIB), 2 * MIB, Kind::Data).unwrap();
        assert_eq!(tables.lookup(2 * GIB - 1), Some((Pa(2 * GIB - 1), Kind::Data)));
        assert_eq!(tables.lookup(4 * GIB - 1), Some((Pa(8 * GIB + 2 * MIB - 1), Kind::Data)));
        assert_eq!(tables.lookup(4 * GIB), None);
        assert_eq!(tables.map(4 * GIB - 4096, Pa(0), 8192, Kind::Data), Err(MapError::OutOfRange));
    }

    #[test]
    fn a_window_shows_one_page_after_another() {
        let mut tables = Tables::new(Fake { tables: Vec::new(), limit: 4 }, NARROW).unwrap();
        let (va, mut forgotten) = (0x7000, 0);
        for page in [Pa(0x1_2345_6000), Pa(0xff_ffff_f000), Pa(0)] {
            tables.replace_page(va, page, Kind::Data, || forgotten += 1).unwrap();
            assert_eq!(tables.lookup(va + 8), Some((page.offset(8), Kind::Data)));
        }
        assert_eq!(forgotten, 2, "at first there was nothing to forget");
        let replace = |tables: &mut Tables<Fake>, va, page| tables.replace_page(va, page, Kind::Data, || ());
        assert_eq!(replace(&mut tables, va, Pa(1 << 40)), Err(MapError::OutOfRange));
        assert_eq!(replace(&mut tables, va + 1, Pa(0)), Err(MapError::Misaligned));
        assert_eq!(replace(&mut tables, 1 << 32, Pa(0)), Err(MapError::OutOfRange));
        tables.map(2 * MIB, Pa(2 * MIB), 2 * MIB, Kind::Data).unwrap();
        assert_eq!(replace(&mut tables, 2 * MIB, Pa(0)), Err(MapError::Occupied(2 * MIB)));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let mut tables = tables(3);
        assert_eq!(tables.map(1, Pa(1), 4096, Kind::Data), Err(MapError::Misaligned));
        assert_eq!(tables.map(LIMIT - 4096, Pa(0), 8192, Kind::Data), Err(MapError::OutOfRange));
        assert_eq!(tables.map(0, Pa(u64::MAX - 4095), 4096, Kind::Data), Err(MapError::OutOfRange));
        assert_eq!(tables.map(4096, Pa(4096), 4096, Kind::Data), Err(MapError::NoMemory));
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        for kind in [Kind::Code, Kind::ReadOnly, Kind::Data, Kind::Device] {
            let attributes = kind.attributes();
            assert!(attributes & READ_ONLY != 0 || attributes & EXECUTE_NEVER != 0);
        }
    }
}
