//! A domain's physical-to-machine map: its stage-2 translation tables.
//!
//! The VMSAv8-64 long-descriptor format with 4 KiB granules (Arm ARM D8.3), which the ARMv7 virtualization extensions
//! share (ARMv7 ARM B3.6), so this one file serves both widths. Memory is mapped by the largest blocks that alignment
//! allows. Every change of a live entry is break-before-make (Arm ARM D8.16.1).
//!
//! ```text
//!   40-bit IPA: two concatenated level-1 tables (1 GiB an entry) -> level 2 (2 MiB) -> level 3 (4 KiB)
//!   44 and more: one level-0 table (512 GiB an entry) before them
//! ```

use crate::addr::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa};
use crate::frames::Frames;
use crate::machine::{BadAddress, Memory, Processor, Stage2};

const ENTRIES: u64 = 512;
/// Tables that a domain may have besides those that its RAM can need.
const SPARE_TABLES: u64 = 512;
/// What a table costs whose entries are looked at to clear them, where a page that is given back costs 1.
const TABLE_COST: u64 = ENTRIES / 8;
const VALID: u64 = 1;
/// At levels 0 to 2: a table rather than a block. At level 3: a page, the only valid kind.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// End of the physical addresses that a descriptor can name.
const OUTPUT_END: u64 = 1 << 48;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const OUTER_SHAREABLE: u64 = 0b10 << 8;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const NORMAL_WRITE_BACK: u64 = 0b1111 << 2;
const DEVICE_NGNRE: u64 = 0b0001 << 2;
const EXECUTE_NEVER: u64 = 1 << 54;
/// Bits for software's use (Arm ARM D8.3.2): whose reference the mapping is.
const COUNTED: u64 = 1 << 55;
const GRANT: u64 = 1 << 56;

/// What a mapping is for: its memory type, its permissions, and who holds the frame behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The domain's own RAM: normal write-back, read, write, execute. The mapping has the domain's own reference.
    Ram,
    /// Another's page, or one of the hypervisor's, read and written but never run. The mapping has a reference.
    Data,
    /// As [`Kind::Data`], to be read only.
    ReadOnly,
    /// A granted page, read and written. The grant has the reference, and takes the mapping away.
    Grant,
    /// A granted page, to be read only.
    GrantReadOnly,
    /// A device's registers.
    Device,
}

impl Kind {
    const fn bits(self) -> u64 {
        ACCESSED
            | match self {
                Self::Ram => NORMAL_WRITE_BACK | INNER_SHAREABLE | READ | WRITE,
                Self::Data => NORMAL_WRITE_BACK | INNER_SHAREABLE | READ | WRITE | EXECUTE_NEVER | COUNTED,
                Self::ReadOnly => NORMAL_WRITE_BACK | INNER_SHAREABLE | READ | EXECUTE_NEVER | COUNTED,
                Self::Grant => NORMAL_WRITE_BACK | INNER_SHAREABLE | READ | WRITE | EXECUTE_NEVER | GRANT,
                Self::GrantReadOnly => NORMAL_WRITE_BACK | INNER_SHAREABLE | READ | EXECUTE_NEVER | GRANT,
                Self::Device => DEVICE_NGNRE | OUTER_SHAREABLE | READ | WRITE | EXECUTE_NEVER,
            }
    }

    /// The kind that a leaf was written for.
    const fn of(descriptor: u64) -> Self {
        let writable = descriptor & WRITE != 0;
        if descriptor & NORMAL_WRITE_BACK != NORMAL_WRITE_BACK {
            Self::Device
        } else if descriptor & COUNTED != 0 {
            if writable { Self::Data } else { Self::ReadOnly }
        } else if descriptor & GRANT != 0 {
            if writable { Self::Grant } else { Self::GrantReadOnly }
        } else {
            Self::Ram
        }
    }

    /// Whether the guest may write there.
    pub const fn is_writable(self) -> bool {
        self.bits() & WRITE != 0
    }
}

/// The shape of stage-2 tables, the same for all domains on a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bits of intermediate physical address.
    pub ipa_bits: u8,
    /// Level of the first table: 0 or 1.
    pub start_level: u8,
    /// log2 of the number of concatenated first-level tables.
    pub root_order: u8,
}

impl Shape {
    /// The shape that covers the whole physical address space of a CPU with `pa_bits` bits (Arm ARM D8.2.2).
    pub fn for_physical(pa_bits: u8) -> Self {
        let ipa_bits = pa_bits.clamp(32, 48);
        if ipa_bits > 43 {
            Self { ipa_bits, start_level: 0, root_order: 0 }
        } else {
            Self { ipa_bits, start_level: 1, root_order: ipa_bits.saturating_sub(39) }
        }
    }
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum P2mError {
    /// No frame was left for a table.
    OutOfMemory,
    /// The intermediate physical address lies beyond [`Shape::ipa_bits`], the physical one beyond 48 bits, a range wraps,
    /// or one is not whole pages.
    OutOfRange,
    /// The domain is ending.
    Closed,
    /// A table frame could not be reached: a defect of the hypervisor.
    Unreachable(BadAddress),
}

impl From<BadAddress> for P2mError {
    fn from(e: BadAddress) -> Self {
        Self::Unreachable(e)
    }
}

/// Where an intermediate physical address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The physical address of the same byte.
    pub pa: Pa,
    /// What the mapping is for.
    pub kind: Kind,
}

/// A domain's stage-2 tables. The owner holds it in a lock; the CPU's table walks need none.
pub struct P2m {
    stage2: Stage2,
    shape: Shape,
    tables: u64,
    /// Most frames that the tables may take.
    table_limit: u64,
    /// Pages of RAM mapped, or that a direct-mapped domain has.
    ram_pages: u64,
    /// End of what was ever mapped, as a frame number.
    end_gfn: u64,
    /// The domain's RAM is mapped one to one and stays its own when it is unmapped.
    direct: bool,
    /// A counted page has been unmapped or replaced, see [`P2m::take_counted_gone`].
    counted_gone: bool,
    /// The domain ends: nothing is mapped any more.
    closed: bool,
}

impl P2m {
    /// Empty tables for the domain that the VMID tags.
    pub fn new<M: Memory>(m: &M, frames: &mut Frames, shape: Shape, vmid: u16) -> Result<Self, P2mError> {
        let root = frames.allocate(shape.root_order).ok_or(P2mError::OutOfMemory)?;
        m.zero(root, PAGE_SIZE << shape.root_order)?;
        Ok(Self {
            stage2: Stage2 { root, vmid },
            shape,
            tables: 1 << shape.root_order,
            table_limit: u64::MAX,
            ram_pages: 0,
            end_gfn: 0,
            direct: false,
            counted_gone: false,
            closed: false,
        })
    }

    /// Lets the tables be as many as `pages` of RAM need page by page, and as much again for what is mapped besides.
    pub fn allow_tables_for(&mut self, pages: u64) {
        self.limit_tables(self.table_frames() + 2 * pages.div_ceil(ENTRIES) + SPARE_TABLES);
    }

    /// From now on, RAM that is unmapped stays the domain's, which has `pages` pages of it: it is mapped one to one, and
    /// no other frames can take its place.
    pub fn set_direct(&mut self, pages: u64) {
        self.direct = true;
        self.ram_pages = pages;
    }

    /// Pages of RAM that the domain has.
    pub fn ram_pages(&self) -> u64 {
        self.ram_pages
    }

    /// The highest frame number at which something was ever mapped.
    pub fn last_gfn(&self) -> Option<u64> {
        self.end_gfn.checked_sub(1)
    }

    /// Whether a mapping of kind [`Kind::Data`] or [`Kind::ReadOnly`] has gone since the last call: whoever knows such
    /// pages by their place has to look.
    pub fn take_counted_gone(&mut self) -> bool {
        core::mem::take(&mut self.counted_gone)
    }

    /// Most frames that the tables may take, see [`P2m::limit_tables`].
    pub fn table_limit(&self) -> u64 {
        self.table_limit
    }

    /// What the CPU needs to use the tables.
    pub fn stage2(&self) -> Stage2 {
        self.stage2
    }

    /// Lets the tables take at most `frames` frames from now on: what a domain maps where must not use up memory that
    /// is not its own. Mapping beyond that is [`P2mError::OutOfMemory`].
    pub fn limit_tables(&mut self, frames: u64) {
        self.table_limit = frames;
    }

    /// Frames of the first table, which is there from the start.
    pub fn root_frames(&self) -> u64 {
        1 << self.shape.root_order
    }

    /// Frames that the tables take.
    pub fn table_frames(&self) -> u64 {
        self.tables
    }

    /// Maps `size` bytes at `ipa` to `pa`, replacing what was mapped there. All three are multiples of 4 KiB.
    ///
    /// The reference that a mapping of this kind has, see [`Kind`], is the caller's before, and still is after an error.
    /// After [`P2mError::OutOfMemory`] some first part may be mapped; it is not if `size` is one page.
    pub fn map<M: Memory + Processor>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        ipa: Ipa,
        pa: Pa,
        size: u64,
        kind: Kind,
    ) -> Result<(), P2mError> {
        self.check(ipa, size)?;
        // Other bits of a descriptor than the address's are attributes.
        let end = pa.checked_add(size).ok_or(P2mError::OutOfRange)?;
        if !pa.is_aligned(PAGE_SIZE) || end.0 > OUTPUT_END {
            return Err(P2mError::OutOfRange);
        }
        self.end_gfn = self.end_gfn.max(ipa.0.div_ceil(PAGE_SIZE) + size / PAGE_SIZE);
        let mut done = 0;
        while done < size {
            let (at, to) = (ipa.offset(done), pa.offset(done));
            let level = (1..=3)
                .find(|&l| {
                    let block = level_size(l);
                    (at.0 | to.0) & (block - 1) == 0 && size - done >= block
                })
                .unwrap_or(3);
            let leaf = VALID | if level == 3 { TABLE_OR_PAGE } else { 0 };
            let slot = self.slot(m, frames, at, level)?;
            self.replace(m, frames, slot, at, level, to.0 | kind.bits() | leaf)?;
            done += level_size(level);
        }
        Ok(())
    }

    /// Removes the mapping of `size` bytes at `ipa`, and gives back the references of what was there. Where a large block
    /// is cut, its rest stays mapped.
    pub fn unmap<M: Memory + Processor>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        ipa: Ipa,
        size: u64,
    ) -> Result<(), P2mError> {
        self.check(ipa, size)?;
        let mut done = 0;
        while done < size {
            let at = ipa.offset(done);
            let (level, _, descriptor) = self.walk(m, at)?;
            let span = level_size(level);
            let rest = span - (at.0 & (span - 1));
            if descriptor & VALID == 0 {
                done += rest;
                continue;
            }
            let whole = at.0 & (span - 1) == 0 && size - done >= span;
            let level = if whole { level } else { 3 };
            let slot = self.slot(m, frames, at, level)?;
            self.replace(m, frames, slot, at, level, 0)?;
            done += level_size(level);
        }
        Ok(())
    }

    /// Where `ipa` leads, or `None` where nothing is mapped.
    pub fn lookup<M: Memory>(&self, m: &M, ipa: Ipa) -> Option<Mapping> {
        self.check(ipa.page(), PAGE_SIZE).ok()?;
        let (level, _, descriptor) = self.walk(m, ipa).ok()?;
        if descriptor & VALID == 0 {
            return None;
        }
        let offset = ipa.0 & (level_size(level) - 1);
        Some(Mapping {
            pa: Pa((descriptor & ADDRESS & !(level_size(level) - 1)) | offset),
            kind: Kind::of(descriptor),
        })
    }

    fn check(&self, ipa: Ipa, size: u64) -> Result<(), P2mError> {
        if self.closed {
            return Err(P2mError::Closed);
        }
        let end = ipa.0.checked_add(size).ok_or(P2mError::OutOfRange)?;
        if end > 1 << self.shape.ipa_bits || !ipa.is_aligned(PAGE_SIZE) || size & (PAGE_SIZE - 1) != 0 {
            return Err(P2mError::OutOfRange);
        }
        Ok(())
    }

    fn root_slot(&self, ipa: Ipa) -> Pa {
        // Concatenated tables are adjacent, so the index simply runs on past 511.
        self.stage2.root.offset((ipa.0 >> level_shift(self.shape.start_level)) * 8)
    }

    /// The entry that decides about `ipa`: its level, place and contents.
    fn walk<M: Memory>(&self, m: &M, ipa: Ipa) -> Result<(u8, Pa, u64), P2mError> {
        let mut level = self.shape.start_level;
        let mut slot = self.root_slot(ipa);
        loop {
            let descriptor = m.read_u64(slot)?;
            if level == 3 || descriptor & (VALID | TABLE_OR_PAGE) != VALID | TABLE_OR_PAGE {
                return Ok((level, slot, descriptor));
            }
            level += 1;
            slot = entry(Pa(descriptor & ADDRESS), ipa, level);
        }
    }

    /// The place of the entry for `ipa` at `level`, with tables made, and blocks split, on the way there.
    fn slot<M: Memory + Processor>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        ipa: Ipa,
        level: u8,
    ) -> Result<Pa, P2mError> {
        let mut at = self.shape.start_level;
        let mut slot = self.root_slot(ipa);
        while at < level {
            let descriptor = m.read_u64(slot)?;
            let table = if descriptor & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
                Pa(descriptor & ADDRESS)
            } else {
                if self.tables >= self.table_limit {
                    return Err(P2mError::OutOfMemory);
                }
                let table = frames.allocate(0).ok_or(P2mError::OutOfMemory)?;
                self.tables += 1;
                if descriptor & VALID == 0 {
                    m.zero(table, PAGE_SIZE)?;
                    m.write_u64(slot, table.0 | VALID | TABLE_OR_PAGE)?;
                } else {
                    let (step, leaf) =
                        (level_size(at + 1), if at + 1 == 3 { TABLE_OR_PAGE } else { 0 } | VALID);
                    let base = descriptor & ADDRESS & !(level_size(at) - 1);
                    let attributes = descriptor & !ADDRESS & !(VALID | TABLE_OR_PAGE);
                    for i in 0..ENTRIES {
                        m.write_u64(table.offset(i * 8), (base + i * step) | attributes | leaf)?;
                    }
                    m.write_u64(slot, 0)?;
                    m.flush_tlb_page(self.stage2, ipa);
                    m.write_u64(slot, table.0 | VALID | TABLE_OR_PAGE)?;
                }
                table
            };
            at += 1;
            slot = entry(table, ipa, at);
        }
        Ok(slot)
    }

    /// Writes a leaf. Tables below the old entry go back to the allocator once no CPU can walk them any more.
    fn replace<M: Memory + Processor>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        slot: Pa,
        ipa: Ipa,
        level: u8,
        descriptor: u64,
    ) -> Result<(), P2mError> {
        let old = m.read_u64(slot)?;
        if old & VALID != 0 && old != descriptor {
            m.write_u64(slot, 0)?;
            if level < 3 && old & TABLE_OR_PAGE != 0 {
                m.flush_tlb(self.stage2);
                self.free_table(m, frames, Pa(old & ADDRESS), level + 1, &mut { u64::MAX })?;
            } else {
                m.flush_tlb_page(self.stage2, ipa);
                self.drop_leaf(frames, old, level);
            }
        } else if old == descriptor {
            // The new mapping's reference takes the place of the old one's.
            self.drop_leaf(frames, old, level);
        }
        if descriptor != 0 {
            m.write_u64(slot, descriptor)?;
            if !self.direct && Kind::of(descriptor) == Kind::Ram {
                self.ram_pages += level_size(level) / PAGE_SIZE;
            }
        }
        Ok(())
    }

    /// Gives back what a leaf held that no CPU can use any more.
    fn drop_leaf(&mut self, frames: &mut Frames, descriptor: u64, level: u8) {
        let kind = Kind::of(descriptor);
        let held = match kind {
            Kind::Ram => !self.direct,
            Kind::Data | Kind::ReadOnly => true,
            Kind::Grant | Kind::GrantReadOnly | Kind::Device => false,
        };
        if descriptor & VALID == 0 || !held {
            return;
        }
        self.counted_gone |= kind != Kind::Ram;
        let pages = level_size(level) / PAGE_SIZE;
        frames.put_range(Pa(descriptor & ADDRESS), pages);
        if kind == Kind::Ram {
            self.ram_pages = self.ram_pages.saturating_sub(pages);
        }
    }

    /// Takes all mappings away, and all tables but the first, in steps: whether that is finished, after work of some
    /// `budget` pages given back. A table costs as much as an eighth of its entries, whatever is in it: the budget is to be
    /// for more than the tables on the way to a leaf, or nothing comes of a step. From the first step on nothing is found and nothing can be mapped. No CPU may have the tables
    /// loaded, or TLB entries of theirs: the caller sees to that, before and after.
    pub fn clear<M: Memory>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        mut budget: u64,
    ) -> Result<bool, BadAddress> {
        self.closed = true;
        let entries = ENTRIES << self.shape.root_order;
        self.clear_table(m, frames, self.stage2.root, entries, self.shape.start_level, &mut budget)
    }

    fn clear_table<M: Memory>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        table: Pa,
        entries: u64,
        level: u8,
        budget: &mut u64,
    ) -> Result<bool, BadAddress> {
        for index in 0..entries {
            let slot = table.offset(index * 8);
            let descriptor = m.read_u64(slot)?;
            if descriptor & VALID == 0 {
                continue;
            }
            let is_table = level < 3 && descriptor & TABLE_OR_PAGE != 0;
            let cost = if is_table { TABLE_COST } else { level_size(level) / PAGE_SIZE };
            if *budget == 0 {
                return Ok(false);
            }
            *budget = budget.saturating_sub(cost);
            if is_table {
                if !self.free_table(m, frames, Pa(descriptor & ADDRESS), level + 1, budget)? {
                    return Ok(false);
                }
            } else {
                self.drop_leaf(frames, descriptor, level);
            }
            m.write_u64(slot, 0)?;
        }
        Ok(true)
    }

    /// Clears a table below the first, within the budget, and gives it back once it is empty: whether it is.
    fn free_table<M: Memory>(
        &mut self,
        m: &M,
        frames: &mut Frames,
        table: Pa,
        level: u8,
        budget: &mut u64,
    ) -> Result<bool, BadAddress> {
        let empty = self.clear_table(m, frames, table, ENTRIES, level, budget)?;
        if empty && frames.deallocate(table).is_ok() {
            self.tables -= 1;
        }
        Ok(empty)
    }

    /// Gives the first table back; what is left must not be used any more. After [`P2m::clear`].
    pub fn release(&mut self, frames: &mut Frames) {
        if self.tables != 0 && frames.deallocate(self.stage2.root).is_ok() {
            self.tables = 0;
        }
    }
}

const fn level_shift(level: u8) -> u32 {
    PAGE_SHIFT + 9 * (3 - level as u32)
}

const fn level_size(level: u8) -> u64 {
    1 << level_shift(level)
}

fn entry(table: Pa, ipa: Ipa, level: u8) -> Pa {
    table.offset((ipa.0 >> level_shift(level) & (ENTRIES - 1)) * 8)
}
