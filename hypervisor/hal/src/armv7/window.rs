//! Windows to memory beyond 4 GiB, which has no virtual address of its own: two pages of virtual space for each CPU.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};

use vambrace_core::addr::{PAGE_SIZE, Pa};

use super::mmu::CPUS;
use super::smp::this_cpu;
use crate::mmu::with_tables;
use crate::stage1::Kind;

/// Windows of each CPU: a copy looks at two places at once.
pub(crate) const WINDOWS: usize = 2;
const PAGE: usize = PAGE_SIZE as usize;
const BYTES: usize = CPUS * WINDOWS * PAGE;

/// The windows' virtual addresses. The memory that lies there in the image is never used.
#[repr(C, align(4096))]
struct Pages(UnsafeCell<MaybeUninit<[u8; BYTES]>>);

// SAFETY: only its address is used.
unsafe impl Sync for Pages {}

// SAFETY: the linker script places the section into writable memory of the image that is neither loaded nor zeroed,
// which is what `MaybeUninit` allows.
#[unsafe(link_section = ".bss.uninit")]
static PAGES: Pages = Pages(UnsafeCell::new(MaybeUninit::uninit()));

/// Number of the page that each window shows, 0 for none: page 0 has an address of its own.
static SHOWN: [[AtomicU32; WINDOWS]; CPUS] = [const { [const { AtomicU32::new(0) }; WINDOWS] }; CPUS];

/// Where in virtual space the windows lie: not mapped with the image.
pub(super) fn region() -> (u64, u64) {
    let start = PAGES.0.get() as usize;
    (start as u64, (start + BYTES) as u64)
}

/// Has window `number` of this CPU show the page at `page` (physical, aligned), until it is asked for another.
///
/// # Safety
/// The page is RAM that no Rust object lies in.
pub(crate) unsafe fn show(number: usize, page: Pa) -> Option<*mut u8> {
    let cpu = this_cpu();
    let shown = SHOWN.get(cpu)?.get(number)?;
    let va = PAGES.0.get() as usize + (cpu * WINDOWS + number) * PAGE;
    let wanted = u32::try_from(page.0 / PAGE_SIZE).ok()?;
    if shown.load(Ordering::Relaxed) != wanted {
        // Should the page not be mapped, the window shows the old one no more either.
        shown.store(0, Ordering::Relaxed);
        with_tables(|tables| tables.replace_page(va as u64, page, Kind::Data, || forget(va))).ok()?;
        shown.store(wanted, Ordering::Relaxed);
    }
    Some(va as *mut u8)
}

/// Has all CPUs forget the translation of `va` (TLBIMVAHIS).
fn forget(va: usize) {
    // SAFETY: dropping translations is always sound; barriers make the tables' change visible before.
    unsafe {
        asm!("dsb ishst", "mcr p15, 4, {0}, c8, c3, 1", "dsb ish", "isb", in(reg) va, options(nostack, preserves_flags))
    };
}
