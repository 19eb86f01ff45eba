//! Who gets which memory at boot: dom0's RAM, the places of its kernel, RAM disk and device tree, the hypervisor's heap,
//! and what is left.
//!
//! Dom0's RAM is mapped 1:1, so that devices reach it by the addresses that dom0 knows. Sources of copies are never
//! overwritten before they are read: every destination keeps clear of every source, so the copies can be done in any
//! order.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use crate::addr::{PAGE_SIZE, Pa, PaRange};
use crate::platform::{merge, sorted, subtract};

/// Block that stage 2 maps with one entry of its third-last level, in bytes.
pub const BLOCK: u64 = 2 << 20;
/// Block that stage 2 maps with one entry of its second level, in bytes.
const GIANT: u64 = 1 << 30;
/// First address past what 32-bit devices reach.
const LOW_END: u64 = 1 << 32;
/// Largest device tree that Linux accepts, in bytes.
const MAX_TREE: u64 = 2 << 20;
/// How far a RAM disk may lie from the kernel: within a window of 32 GiB that also holds the kernel (booting.rst).
const RAMDISK_WINDOW: u64 = 32 << 30;
/// A zImage takes the start of the 128 MiB that it runs in for the start of memory (arch/arm/boot/compressed/head.S).
const ZIMAGE_WINDOW: u64 = 128 << 20;
/// Where a zImage is put: nothing wants more, and it reads well.
const ZIMAGE_ALIGN: u64 = 64 << 10;
/// What a 32-bit kernel maps of its memory from the start, at the least: its tree and its RAM disk lie there.
const LOW_MEMORY: u64 = 512 << 20;

/// The kernel module, as [`crate::image::KernelImage`] found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelModule {
    /// Where the module lies, physical.
    pub range: PaRange,
    /// Wanted distance from a 2 MiB boundary, in bytes.
    pub text_offset: u64,
    /// Memory needed from there on, in bytes.
    pub memory_size: u64,
    /// The module must be decompressed, or has something appended, and so cannot stay where it is.
    pub packed: bool,
    /// Of a 32-bit zImage the bytes, from the start of memory, that it unpacks itself to.
    pub zimage: Option<u64>,
}

/// What is to be arranged. All ranges are physical.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// RAM.
    pub ram: &'a [PaRange],
    /// RAM that nobody may use.
    pub reserved: &'a [PaRange],
    /// The hypervisor's image, with its zeroed data and stacks.
    pub hypervisor: PaRange,
    /// The host's device tree, which is read until dom0's is written.
    pub host_tree: PaRange,
    /// Dom0's kernel.
    pub kernel: KernelModule,
    /// Dom0's RAM disk.
    pub ramdisk: Option<PaRange>,
    /// Files for others, which have been read when dom0 is built.
    pub others: &'a [PaRange],
    /// Room for dom0's device tree, in bytes.
    pub tree_size: u64,
    /// Dom0's memory, in bytes; rounded up to whole pages.
    pub dom0_mem: u64,
    /// The hypervisor's heap, in bytes; rounded up to whole blocks of 2 MiB. It is one contiguous range.
    pub heap: u64,
    /// First address that the heap must stay below.
    pub heap_limit: Pa,
}

/// Where a module ends up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Where it lies now.
    pub source: PaRange,
    /// Where it must start before dom0 does. Equal to the start of `source` when nothing needs to be copied.
    pub target: Pa,
}

impl Placement {
    /// Whether the module stays where it is.
    pub fn is_in_place(&self) -> bool {
        self.source.start == self.target
    }
}

/// The arrangement. All ranges are physical, and for dom0 intermediate physical too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootMap {
    /// Dom0's RAM; the first bank holds the kernel.
    pub dom0: Vec<PaRange>,
    /// Dom0's kernel; for a packed one `target` is where its unpacked form goes.
    pub kernel: Placement,
    /// Dom0's RAM disk.
    pub ramdisk: Option<Placement>,
    /// Where dom0's device tree goes: `tree_size` bytes that cross no 2 MiB boundary.
    pub tree: PaRange,
    /// The hypervisor's heap.
    pub heap: PaRange,
    /// Whole pages that are free at once.
    pub free: Vec<PaRange>,
    /// Whole pages outside of dom0's RAM that modules and the host's device tree lie on: free once these have been
    /// copied.
    pub free_after_copy: Vec<PaRange>,
}

/// Why there is no arrangement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Something lies outside of RAM.
    OutsideRam(&'static str, PaRange),
    /// Two things lie on the same memory.
    Overlap(&'static str, PaRange, &'static str, PaRange),
    /// Dom0 is to have no memory, or less than its kernel, RAM disk and tree need.
    TooSmall {
        /// What it is to have, in bytes.
        asked: u64,
        /// The least that would do, in bytes.
        least: u64,
    },
    /// Dom0 is to have more memory than there is.
    TooLarge {
        /// What it is to have, in bytes.
        asked: u64,
        /// The most that it can have, in bytes.
        most: u64,
    },
    /// No contiguous room for something of this size.
    NoRoom(&'static str, u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideRam(what, range) => {
                write!(f, "{what} at {}..{} lies outside of memory", range.start, range.end)
            }
            Self::Overlap(what, range, other, there) => write!(
                f,
                "{what} at {}..{} overlaps {other} at {}..{}",
                range.start, range.end, there.start, there.end
            ),
            Self::TooSmall { asked, least } => write!(
                f,
                "dom0_mem is {} KiB, but dom0's kernel, RAM disk and device tree need {} KiB",
                asked >> 10,
                least.div_ceil(1024)
            ),
            Self::TooLarge { asked, most } => {
                write!(f, "dom0_mem is {} KiB, but dom0 can have at most {} KiB", asked >> 10, most >> 10)
            }
            Self::NoRoom(what, size) => {
                write!(f, "no contiguous memory of {} KiB for {what}", size.div_ceil(1024))
            }
        }
    }
}

impl core::error::Error for MapError {}

fn align_up(value: u64, align: u64) -> Option<u64> {
    value.checked_next_multiple_of(align)
}

fn range(start: u64, end: u64) -> PaRange {
    PaRange { start: Pa(start), end: Pa(end) }
}

fn total(ranges: &[PaRange]) -> u64 {
    ranges.iter().map(|range| range.size()).sum()
}

/// Whole pages within each range.
fn whole_pages(ranges: &[PaRange]) -> Vec<PaRange> {
    let inner = |r: &PaRange| {
        let start = align_up(r.start.0, PAGE_SIZE)?;
        let end = r.end.0 & !(PAGE_SIZE - 1);
        (start < end).then(|| range(start, end))
    };
    ranges.iter().filter_map(inner).collect()
}

/// The lowest place in `bank`, from `from` on, for `size` bytes at a multiple of `align` plus `offset` that meets no
/// range of `avoid`.
fn lowest_fit(
    bank: PaRange,
    from: u64,
    size: u64,
    align: u64,
    offset: u64,
    avoid: &[PaRange],
) -> Option<PaRange> {
    let mut at = from.max(bank.start.0);
    loop {
        let base = align_up(at.saturating_sub(offset), align)?;
        let start = base.checked_add(offset)?;
        let place = PaRange::new(Pa(start), size)?;
        if start < bank.start.0 {
            at = bank.start.0.checked_add(align)?;
            continue;
        }
        if !bank.contains_range(place) {
            return None;
        }
        match avoid.iter().find(|range| range.overlaps(place)) {
            // Each round leaves a range of `avoid` behind for good, so the search ends.
            Some(range) => at = range.end.0,
            None => return Some(place),
        }
    }
}

/// The highest place in `ranges` for `size` bytes at a multiple of `align`.
fn highest_fit(ranges: &[PaRange], size: u64, align: u64) -> Option<PaRange> {
    ranges.iter().rev().find_map(|bank| {
        let start = bank.end.0.checked_sub(size)? & !(align - 1);
        (start >= bank.start.0).then(|| range(start, start + size))
    })
}

impl BootMap {
    /// Arranges memory.
    pub fn arrange(request: &Request<'_>) -> Result<Self, MapError> {
        let ram = merge(request.ram.to_vec());
        let sources = check(request, &ram)?;
        // Loaders reserve what they loaded; that reservation ends with the copy.
        let mut loaded = sources.clone();
        loaded.extend(request.others);
        let reserved: Vec<PaRange> = subtract(request.reserved, &loaded);
        let reserved: Vec<PaRange> = reserved.iter().map(|range| range.page_outer()).collect();
        let mut taken = reserved.clone();
        taken.push(request.hypervisor.page_outer());
        let usable = whole_pages(&subtract(&ram, &taken));

        let heap_size = align_up(request.heap, BLOCK).ok_or(MapError::NoRoom("the heap", request.heap))?;
        let source_pages: Vec<PaRange> = loaded.iter().map(|range| range.page_outer()).collect();
        let out_of_reach = PaRange { start: request.heap_limit.page(), end: Pa(u64::MAX) };
        let mut not_heap = source_pages.clone();
        not_heap.push(out_of_reach);
        let quiet = subtract(&usable, &not_heap);
        let heap = highest_fit(&quiet, heap_size, BLOCK).ok_or(MapError::NoRoom("the heap", heap_size))?;
        let pool = whole_pages(&subtract(&usable, &[heap]));

        let asked = align_up(request.dom0_mem, PAGE_SIZE).unwrap_or(u64::MAX);
        let least = needed(request);
        if asked < least {
            return Err(MapError::TooSmall { asked, least });
        }
        let most = total(&pool);
        if asked > most {
            return Err(MapError::TooLarge { asked, most });
        }
        let dom0 = choose_banks(request, &pool, asked, &sources)?;
        let (kernel, ramdisk, tree) = place(request, &dom0, &sources)?;
        let rest = subtract(&pool, &dom0);
        let free = whole_pages(&subtract(&rest, &source_pages));
        let free_after_copy = subtract(&rest, &free);
        Ok(Self { dom0, kernel, ramdisk, tree, heap, free, free_after_copy })
    }
}

/// Checks where the loader put things; answers all ranges that are still to be read.
fn check(request: &Request<'_>, ram: &[PaRange]) -> Result<Vec<PaRange>, MapError> {
    let mut placed = Vec::from([
        ("the hypervisor", request.hypervisor),
        ("the device tree", request.host_tree),
        ("the kernel module", request.kernel.range),
    ]);
    placed.extend(request.ramdisk.map(|range| ("the RAM disk module", range)));
    for (index, &(what, range)) in placed.iter().enumerate() {
        if !ram.iter().any(|bank| bank.contains_range(range)) {
            return Err(MapError::OutsideRam(what, range));
        }
        if let Some(&(other, there)) = placed.iter().skip(index + 1).find(|(_, there)| there.overlaps(range))
        {
            return Err(MapError::Overlap(what, range, other, there));
        }
    }
    Ok(placed.into_iter().skip(1).map(|(_, range)| range).collect())
}

/// The least memory in which kernel, RAM disk and tree can lie, in bytes.
fn needed(request: &Request<'_>) -> u64 {
    let ramdisk = request.ramdisk.map_or(0, |range| range.page_outer().size());
    let unpacked = request.kernel.zimage.unwrap_or(0);
    [request.kernel.text_offset, request.kernel.memory_size, unpacked, ramdisk, request.tree_size]
        .iter()
        .fold(0, |sum: u64, &size| sum.saturating_add(size))
}

/// Where the kernel would stay if it can be run where it lies.
fn kernel_in_place(request: &Request<'_>) -> Option<PaRange> {
    let kernel = &request.kernel;
    if kernel.zimage.is_some() {
        return PaRange::new(kernel.range.start, kernel.memory_size).filter(|_| !kernel.packed);
    }
    let start = kernel.range.start;
    let fits = !kernel.packed && start.0.checked_sub(kernel.text_offset)?.is_multiple_of(BLOCK);
    let room = PaRange::new(start, kernel.memory_size)?;
    // What the kernel clears after its file must not be something that is still to be read.
    let clear =
        ![Some(request.host_tree), request.ramdisk].iter().flatten().any(|range| range.overlaps(room));
    (fits && clear).then(|| range(start.0.saturating_sub(kernel.text_offset), room.end.0))
}

/// A way to take dom0's first bank.
struct Candidate {
    bank: PaRange,
    score: u32,
}

/// Chooses dom0's banks: as few as can be, the first one low and able to hold the kernel, in large blocks.
fn choose_banks(
    request: &Request<'_>,
    pool: &[PaRange],
    asked: u64,
    sources: &[PaRange],
) -> Result<Vec<PaRange>, MapError> {
    let lowest = pool.first().map_or(0, |range| range.start.0);
    let is_low = |bank: &PaRange| bank.start.0 < LOW_END || lowest >= LOW_END;
    let stay = kernel_in_place(request);
    let zimage = request.kernel.zimage.is_some();
    // A 32-bit kernel leaves out what lies below the memory that it starts in.
    let above = |bank: &PaRange| subtract(pool, &[range(0, bank.start.0)]);
    // A first bank is good when everything can be placed in it; that is tried, not estimated.
    let works = |bank: &PaRange| {
        (!zimage || total(&above(bank)) >= asked) && place(request, &[*bank], sources).is_ok()
    };
    let mut best: Option<Candidate> = None;
    for chunk in pool.iter().filter(|chunk| is_low(chunk)) {
        let size = asked.min(chunk.size());
        let last = chunk.end.0 - size;
        let mut starts =
            Vec::from([Some(chunk.start.0), align_up(chunk.start.0, BLOCK), Some(last & !(BLOCK - 1))]);
        starts.push(align_up(chunk.start.0, GIANT));
        starts.push(align_up(chunk.start.0, ZIMAGE_WINDOW));
        // A bank that starts with the kernel, or ends behind it, lets it stay.
        starts.extend(stay.map(|stay| Some(stay.start.0.min(last & !(BLOCK - 1)))));
        for start in starts.into_iter().flatten() {
            let end = start.saturating_add(size);
            // A zImage would rather have less in its first bank than start at an odd place.
            let bank = range(start, if zimage { end.min(chunk.end.0) } else { end });
            if !chunk.contains_range(bank) || !works(&bank) {
                continue;
            }
            let mut score = 0;
            // In falling order of what it saves: banks, copying the kernel, table entries.
            score += u32::from(bank.size() == asked) * 32;
            score += u32::from(zimage && bank.start.is_aligned(ZIMAGE_WINDOW)) * 12;
            score += u32::from(stay.is_some_and(|stay| bank.contains_range(stay))) * 8;
            let whole = !zimage || bank.size() == asked;
            score += u32::from(whole && bank.start.is_aligned(GIANT)) * 4;
            score += u32::from(bank.start.is_aligned(BLOCK)) * 2;
            let larger = |best: &Candidate| (score, bank.size()) > (best.score, best.bank.size());
            if best.as_ref().is_none_or(larger) {
                best = Some(Candidate { bank, score });
            }
        }
    }
    let first =
        best.ok_or(MapError::NoRoom("dom0's kernel, RAM disk and device tree", needed(request)))?.bank;
    let mut banks = Vec::from([first]);
    let mut missing = asked - first.size();
    let rest = if zimage { subtract(&above(&first), &banks) } else { subtract(pool, &banks) };
    // Largest first, so that there are few.
    for (_, chunk) in sorted(rest.iter().map(|range| (Reverse(range.size()), *range)).collect()) {
        if missing == 0 {
            break;
        }
        let size = missing.min(chunk.size());
        let aligned =
            align_up(chunk.start.0, BLOCK).filter(|&start| start.saturating_add(size) <= chunk.end.0);
        let start = aligned.unwrap_or(chunk.start.0);
        banks.push(range(start, start + size));
        missing -= size;
    }
    if missing > 0 {
        return Err(MapError::TooLarge { asked, most: asked - missing });
    }
    // Only the first bank's place matters: the others go in the order of their addresses.
    let others = banks.split_off(1);
    banks.extend(sorted(others));
    Ok(banks)
}

/// Where the kernel goes, and what that means for the rest.
struct KernelPlace {
    /// Its memory before it runs.
    room: PaRange,
    /// Where a zImage unpacks itself to.
    unpacked: Option<PaRange>,
    /// Where RAM disk and tree may lie.
    window: PaRange,
}

/// A place for an arm64 kernel in `bank`.
fn place_image(request: &Request<'_>, bank: PaRange, sources: &[PaRange]) -> Option<KernelPlace> {
    let kernel = &request.kernel;
    let stay = kernel_in_place(request).filter(|stay| bank.contains_range(*stay));
    let room = match stay {
        Some(stay) => range(kernel.range.start.0, stay.end.0),
        None => lowest_fit(bank, bank.start.0, kernel.memory_size, BLOCK, kernel.text_offset, sources)?,
    };
    Some(KernelPlace { room, unpacked: None, window: bank })
}

/// A place for a zImage that unpacks itself to `span` bytes, in `bank`.
///
/// ```text
///   base                base + span
///   | unpacked kernel   |   zImage   | tree, RAM disk ...            |
///   +-------------------+------------+------------------- ... -------+
///   |<------------- 128 MiB at most ->|<- 512 MiB from base at most ->|
/// ```
///
/// It unpacks itself to the start of the 128 MiB that it runs in, where that is memory (and there lies above what it
/// unpacks, so that it need not move first), else since Linux 5.12 to the start of memory, rounded up to 2 MiB.
fn place_zimage(request: &Request<'_>, span: u64, bank: PaRange, sources: &[PaRange]) -> Option<KernelPlace> {
    let kernel = &request.kernel;
    let end = bank.end.0.min(LOW_END);
    let at = |start: u64| {
        let window = start & !(ZIMAGE_WINDOW - 1);
        let base = if window >= bank.start.0 { window } else { align_up(bank.start.0, BLOCK)? };
        let unpacked = PaRange::new(Pa(base), span)?;
        let room = PaRange::new(Pa(start), kernel.memory_size)?;
        let limit = range(base, end.min(base.saturating_add(LOW_MEMORY)));
        let fits = unpacked.end <= room.start
            && room.end.0 <= window.saturating_add(ZIMAGE_WINDOW)
            && limit.contains_range(room);
        fits.then_some(KernelPlace { room, unpacked: Some(unpacked), window: limit })
    };
    if let Some(place) = kernel_in_place(request).and_then(|stay| at(stay.start.0)) {
        return Some(place);
    }
    let lowest = |base: u64| {
        let from = base.checked_add(span)?;
        let room = lowest_fit(bank, from, kernel.memory_size, ZIMAGE_ALIGN, 0, sources)?;
        at(room.start.0)
    };
    // A kernel of any age first.
    align_up(bank.start.0, ZIMAGE_WINDOW)
        .and_then(lowest)
        .or_else(|| align_up(bank.start.0, BLOCK).and_then(lowest))
}

/// Places kernel, RAM disk and tree in dom0's first bank; modules that lie well already stay.
fn place(
    request: &Request<'_>,
    dom0: &[PaRange],
    sources: &[PaRange],
) -> Result<(Placement, Option<Placement>, PaRange), MapError> {
    let bank = dom0.first().copied().unwrap_or_default();
    let place = match request.kernel.zimage {
        None => place_image(request, bank, sources),
        Some(span) => place_zimage(request, span, bank, sources),
    };
    let KernelPlace { room, unpacked, window } =
        place.ok_or(MapError::NoRoom("dom0's kernel", request.kernel.memory_size))?;
    let kernel = Placement { source: request.kernel.range, target: room.start };
    let mut avoid = sources.to_vec();
    avoid.push(room);
    avoid.extend(unpacked);
    // Behind the kernel first: what Linux takes early lies there anyway.
    let fit = |size: u64, align: u64, avoid: &[PaRange]| {
        lowest_fit(window, room.end.0, size, align, 0, avoid)
            .or_else(|| lowest_fit(window, window.start.0, size, align, 0, avoid))
    };
    let ramdisk = match request.ramdisk {
        None => None,
        Some(source) => {
            let banks = if unpacked.is_some() { core::slice::from_ref(&window) } else { dom0 };
            let stays = !source.overlaps(room)
                && !unpacked.is_some_and(|unpacked| unpacked.overlaps(source.page_outer()))
                && in_window(source, room)
                && banks.iter().any(|bank| bank.contains_range(source.page_outer()));
            let place = if stays {
                source
            } else {
                fit(source.size(), PAGE_SIZE, &avoid)
                    .filter(|place| in_window(*place, room))
                    .ok_or(MapError::NoRoom("dom0's RAM disk", source.size()))?
            };
            avoid.push(place.page_outer());
            Some(Placement { source, target: place.start })
        }
    };
    // A multiple of its own size, rounded up to a power of two, crosses no larger boundary.
    let align =
        request.tree_size.max(PAGE_SIZE).checked_next_power_of_two().filter(|&align| align <= MAX_TREE);
    let tree = align
        .and_then(|align| fit(request.tree_size, align, &avoid))
        .ok_or(MapError::NoRoom("dom0's device tree", request.tree_size))?;
    Ok((kernel, ramdisk, tree))
}

/// Whether kernel and RAM disk lie within one window as Linux wants it.
fn in_window(ramdisk: PaRange, kernel: PaRange) -> bool {
    let start = ramdisk.start.min(kernel.start).0 & !(GIANT - 1);
    ramdisk.end.max(kernel.end).0 - start <= RAMDISK_WINDOW
}

#[cfg(test)]
#[path = "bootmap/tests.rs"]
mod tests;
