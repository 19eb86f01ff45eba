//! The hypervisor's own translation: identity, virtual = physical, but for stacks of secondary CPUs on AArch64.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Mutex;
use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};

use crate::boot::{image, pages};
use crate::cpu;
use crate::early_uart::EARLY_UART;
use crate::mmio::Mmio;
use crate::private;
use crate::stage1::{ENTRIES, Kind, TableMemory, Tables};

pub use crate::stage1::MapError;

/// Tables that need no heap: enough for the image, the device tree, the first devices and the RAM of most boards.
const POOL_TABLES: usize = 16;
/// One past the highest address that the hypervisor can reach (virtual = physical).
pub const LIMIT: u64 = cpu::mmu::FORMAT.limit();

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; ENTRIES]; POOL_TABLES]>);

// SAFETY: the tables in it are only reached through `Pages`, by volatile accesses of single words.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; POOL_TABLES]));
/// Tables of the pool in use. Not counted atomically: before translation is on there is one CPU (and exclusive accesses
/// are not architected), afterwards `LOCK` is held.
static POOL_USED: AtomicUsize = AtomicUsize::new(0);
/// The top-level table, written while translation is off.
static ROOT: AtomicUsize = AtomicUsize::new(0);
/// Held while the tables change.
static LOCK: Mutex<()> = Mutex::new(());

/// Tables in the pool and, when that is used up, on the heap. They are never freed.
#[derive(Debug)]
pub(crate) struct Pages;

impl TableMemory for Pages {
    fn allocate(&mut self) -> Option<Pa> {
        let used = POOL_USED.load(Ordering::Relaxed);
        if used < POOL_TABLES {
            POOL_USED.store(used + 1, Ordering::Relaxed);
            return Some(Pa(POOL.0.get() as usize as u64 + used as u64 * PAGE_SIZE));
        }
        crate::heap::zeroed_pages(1)
    }
    fn read(&self, table: Pa, index: usize) -> u64 {
        // SAFETY: `table` came from `allocate` (through valid table entries), the index is within a table, and tables
        // are only ever accessed by volatile reads and writes of words.
        unsafe { core::ptr::read_volatile((table.0 as usize as *const u64).add(index & (ENTRIES - 1))) }
    }
    fn write(&mut self, table: Pa, index: usize, entry: u64) {
        // SAFETY: as for the read. That the entry itself is harmless is the duty of this module's functions.
        unsafe { core::ptr::write_volatile((table.0 as usize as *mut u64).add(index & (ENTRIES - 1)), entry) }
    }
}

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __boot_stack_guard: u8;
    static __boot_stack: u8;
}

/// Builds the first tables, with translation off. `dtb` is in whole pages.
pub(crate) fn first_tables(dtb: PaRange) -> Result<Pa, MapError> {
    let mut tables = Tables::new(Pages, cpu::mmu::FORMAT).ok_or(MapError::NoMemory)?;
    let image = image();
    // Where the header has no page of its own the text has a little more.
    let text = Pa(&raw const __text_start as usize as u64).page().0;
    let text_end = &raw const __text_end as usize as u64;
    let rodata_end = &raw const __rodata_end as usize as u64;
    for (start, end, kind) in [
        (image.start.0, text, Kind::ReadOnly),
        (text, text_end, Kind::Code),
        (text_end, rodata_end, Kind::ReadOnly),
        (dtb.start.0, dtb.end.0, Kind::ReadOnly),
    ] {
        tables.map(start, Pa(start), end - start, kind)?;
    }
    // Writable memory, with holes where an overflow of a stack shall fault.
    let boot_guard = &raw const __boot_stack_guard as usize as u64;
    let boot_stack = &raw const __boot_stack as usize as u64;
    let mut at = rodata_end;
    for (guard, stack) in cpu::mmu::holes().into_iter().chain([(boot_guard, boot_stack)]) {
        tables.map(at, Pa(at), guard - at, Kind::Data)?;
        at = stack;
    }
    tables.map(at, Pa(at), image.end.0 - at, Kind::Data)?;
    if let Some(uart) = EARLY_UART {
        let (start, size) = pages(uart.registers());
        tables.map(start.0, start, size, Kind::Device)?;
    }
    ROOT.store(tables.root().0 as usize, Ordering::Relaxed);
    Ok(tables.root())
}

/// The top-level table (physical).
pub(crate) fn root() -> Pa {
    Pa(ROOT.load(Ordering::Relaxed) as u64)
}

/// Runs `f` on the tables, then makes what it wrote visible to table walks on all CPUs.
pub(crate) fn with_tables<T>(f: impl FnOnce(&mut Tables<Pages>) -> T) -> T {
    let _guard = LOCK.lock();
    let result = f(&mut Tables::existing(Pages, root(), cpu::mmu::FORMAT));
    // SAFETY: barriers. Entries went from invalid to valid, so no TLB entry has to go; but for those of windows, whose old
    // translations `replace_page` had dropped before it wrote the new ones.
    unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    result
}

/// Maps RAM (physical range, cut inwards to whole pages) as write-back memory, readable and writable. The image and
/// the device tree keep the mapping that they have. May be called again for the same RAM.
///
/// Nothing that is not RAM may be in the range: a CPU may read ahead anywhere in it. What lies beyond [`LIMIT`] is not
/// mapped where there are windows to it.
pub fn map_ram(range: PaRange) -> Result<(), MapError> {
    let windows = cpu::window::WINDOWS != 0;
    let end = if windows { range.end.page().0.min(LIMIT) } else { range.end.page().0 };
    let mut at = range.start.0.checked_add(PAGE_SIZE - 1).ok_or(MapError::OutOfRange)? & !(PAGE_SIZE - 1);
    with_tables(|tables| {
        while at < end {
            // The first two private ranges are the image and the device tree; later ones lie in RAM mapped before.
            let hole = private::private_ranges().take(2).filter(|hole| hole.end.0 > at).min();
            let stop = hole.map_or(end, |hole| hole.start.0.clamp(at, end));
            tables.map(at, Pa(at), stop - at, Kind::Data)?;
            at = hole.filter(|hole| hole.start.0 < end).map_or(end, |hole| hole.end.0);
        }
        Ok(())
    })
}

/// Maps device registers (physical range, widened to whole pages) as nGnRE memory. [`MapError::Occupied`] where the
/// range is mapped as memory, or lies in the hypervisor's own, some pages of which are not mapped on purpose: those
/// that guard stacks, and windows. May be called again for the same device.
pub fn map_device(range: PaRange) -> Result<Mmio, MapError> {
    let (start, size) = pages(range);
    if range.end < range.start || size > LIMIT {
        return Err(MapError::OutOfRange);
    }
    if private::is_private(range.page_outer()) {
        return Err(MapError::Occupied(start.0));
    }
    with_tables(|tables| tables.map(start.0, start, size, Kind::Device))?;
    // SAFETY: the range has just been mapped as device memory, and such mappings never change; Rust objects lie in
    // ranges mapped as memory only.
    Ok(unsafe { Mmio::new(range) })
}

/// What a physical (= virtual) address is mapped as.
pub(crate) fn kind_at(pa: Pa) -> Option<Kind> {
    with_tables(|tables| tables.lookup(pa.0)).map(|(_, kind)| kind)
}
