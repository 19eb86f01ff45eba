//! The hypervisor's heap: a buddy allocator that starts with memory of the image.

use alloc::alloc::{GlobalAlloc, Layout, alloc_zeroed};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};

use buddy_system_allocator::Heap;
use spin::Mutex;
use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};

use crate::mmu::{self, MapError};
use crate::private;

/// Bytes that the heap starts with.
pub const FIRST_SIZE: usize = 512 << 10;
/// Block sizes are powers of two below 2 to this power.
const ORDER: usize = if usize::BITS > 36 { 36 } else { usize::BITS as usize };

struct Allocator(Mutex<Heap<ORDER>>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Mutex::new(Heap::new()));

// SAFETY: the heap hands out disjoint blocks of its own memory, at least as large and aligned as asked (buddies are
// aligned to their size), and takes them back by the layout that they were asked for with. The lock serialises, and
// interrupts are masked while the hypervisor runs, so it is never taken twice on one CPU.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(null_mut(), NonNull::as_ptr)
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller promises that the block came from `alloc` with this layout.
            unsafe { self.0.lock().dealloc(block, layout) }
        }
    }
}

#[repr(C, align(4096))]
struct First(UnsafeCell<MaybeUninit<[u8; FIRST_SIZE]>>);

// SAFETY: only its address is used, by `init`, which gives it to the allocator.
unsafe impl Sync for First {}

// SAFETY: the linker script places the section into writable memory of the image that is neither loaded nor zeroed,
// which is what `MaybeUninit` allows.
#[unsafe(link_section = ".bss.uninit")]
static FIRST: First = First(UnsafeCell::new(MaybeUninit::uninit()));

/// Gives the allocator its first memory.
///
/// # Safety
/// Called once after each time that the image's zeroed memory was zeroed, before anything allocates.
pub(crate) unsafe fn init() {
    let start = FIRST.0.get() as usize;
    // SAFETY: the static is memory that nothing else uses, and by this function's contract it is given once.
    unsafe { ALLOCATOR.0.lock().add_to_heap(start, start + FIRST_SIZE) }
}

/// Gives the allocator memory of the firmware's, for as long as the firmware runs.
///
/// # Safety
/// The memory is writable, `start` is aligned to a page, and nothing else uses it for as long as the heap is used.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn lend(start: usize, size: usize) {
    // SAFETY: by this function's contract.
    unsafe { ALLOCATOR.0.lock().add_to_heap(start, start + size) }
}

/// Zeroed pages (physical = virtual address), aligned to their number rounded up to a power of two.
pub(crate) fn zeroed_pages(count: u64) -> Option<Pa> {
    let size = usize::try_from(count.checked_mul(PAGE_SIZE)?).ok().filter(|size| *size > 0)?;
    let layout = Layout::from_size_align(size, PAGE_SIZE as usize).ok()?;
    // SAFETY: the layout's size is not zero.
    let block = unsafe { alloc_zeroed(layout) };
    (!block.is_null()).then_some(Pa(block as u64))
}

/// Bytes that are free, in whatever pieces.
pub(crate) fn room() -> u64 {
    let heap = ALLOCATOR.0.lock();
    (heap.stats_total_bytes() - heap.stats_alloc_actual()) as u64
}

/// The right to give the heap more memory, which the binary has once, while it boots.
#[derive(Debug)]
pub struct HeapGrowth(());

/// Why the heap did not grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrowError {
    /// Not in whole pages, or empty.
    Misaligned,
    /// The range holds memory of the hypervisor: image, device tree or heap.
    Private,
    /// The range cannot be mapped.
    Map(MapError),
}

impl HeapGrowth {
    pub(crate) const fn first() -> Self {
        Self(())
    }

    /// Gives `range` (physical, whole pages of RAM) to the heap, mapped and private from now on.
    ///
    /// It is RAM that nobody else uses, and that no guest is ever given: the caller chooses it before there are guests,
    /// and this is the only use of the right.
    pub fn extend(self, range: PaRange) -> Result<(), GrowError> {
        if range.is_empty() || !range.start.is_aligned(PAGE_SIZE) || !range.end.is_aligned(PAGE_SIZE) {
            return Err(GrowError::Misaligned);
        }
        let (Ok(start), Ok(end)) = (usize::try_from(range.start.0), usize::try_from(range.end.0)) else {
            return Err(GrowError::Map(MapError::OutOfRange));
        };
        if private::is_private(range) {
            return Err(GrowError::Private);
        }
        mmu::map_ram(range).map_err(GrowError::Map)?;
        if !private::add(range) {
            return Err(GrowError::Private);
        }
        // SAFETY: the range is RAM, mapped writable, and holds nothing of the hypervisor; it is private from now on, so
        // nothing else is put there. Only the one `HeapGrowth` leads here, so it is given once.
        unsafe { ALLOCATOR.0.lock().add_to_heap(start, end) }
        Ok(())
    }
}
