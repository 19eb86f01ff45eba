//! From the first Rust code to the binary's `main`.

use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};

use crate::cpu;
use crate::early_uart::{EARLY_UART, EarlyConsole, EarlyUart};
use crate::heap::HeapGrowth;
use crate::{mmu, private};

/// What the binary finds when it starts.
#[derive(Debug)]
pub struct BootInfo {
    /// The device tree blob that the loader passed, complete and read-only; only magic and size are checked.
    pub dtb: &'static [u8],
    /// The hypervisor's image with its zeroed and uninitialised memory (physical).
    pub image: PaRange,
    /// The UART that the build named; its registers are mapped.
    pub boot_uart: Option<EarlyUart>,
    /// Affinity fields of this CPU's MPIDR.
    pub mpidr: u64,
    /// The physical counter as it stood at the hypervisor's first instructions.
    pub entered: u64,
    /// The right to give the heap more memory, once.
    pub heap: HeapGrowth,
}

/// Names the binary's functions: `entry!(main, secondary)` with `fn main(boot: BootInfo) -> !` for the CPU that boots
/// and `fn secondary(cpu: usize) -> !` for each that [`smp::start`](crate::smp::start) brings up. Both run at EL2 or in Hyp
/// mode with translation and caches on and interrupts masked.
#[macro_export]
macro_rules! entry {
    ($main:path, $secondary:path) => {
        const _: () = {
            // SAFETY: the name is this project's own, `hal` declares it with the same signature, and a second
            // definition would not link.
            #[unsafe(no_mangle)]
            fn vambrace_main(boot: $crate::boot::BootInfo) -> ! {
                $main(boot)
            }
            // SAFETY: as above.
            #[unsafe(no_mangle)]
            fn vambrace_secondary(cpu: usize) -> ! {
                $secondary(cpu)
            }
        };
    };
}

unsafe extern "Rust" {
    fn vambrace_main(boot: BootInfo) -> !;
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// Largest device tree blob accepted, in bytes (the arm64 boot protocol's limit).
pub const DTB_LIMIT: u64 = 2 << 20;
/// Size of a device tree blob's header, in bytes (Devicetree Specification 0.4, 5.2).
const DTB_HEADER: u64 = 40;
const DTB_MAGIC: u32 = 0xd00d_feed;

/// The hypervisor's image with all memory that belongs to it (physical).
pub(crate) fn image() -> PaRange {
    PaRange {
        start: Pa(&raw const __image_start as usize as u64),
        end: Pa(&raw const __image_end as usize as u64),
    }
}

/// Ends a start that cannot go on, on whatever console there is.
pub(crate) fn fail(reason: &str) -> ! {
    EarlyConsole.put("vambrace: ");
    EarlyConsole.put(reason);
    EarlyConsole.put("\n(VMB) Halted\n");
    cpu::boot::park()
}

/// Where the device tree lies, by its header.
fn device_tree(dtb: Pa) -> Result<PaRange, &'static str> {
    if dtb == Pa(0) {
        return Err(cpu::boot::NO_TREE);
    }
    let header = PaRange::new(dtb, DTB_HEADER).ok_or("the device tree's address is beyond all memory")?;
    if !dtb.is_aligned(8) || header.end.0 >= mmu::LIMIT {
        return Err(cpu::boot::BAD_TREE);
    }
    if image().overlaps(header.page_outer()) {
        return Err(
            "the device tree lies in memory that belongs to the image (its header tells loaders the size)",
        );
    }
    let word = |index: u64| {
        // SAFETY: the address is aligned and outside of the image, so of all Rust objects, and either translation is
        // off or the header's page was mapped before. Memory that is not there makes an exception, which is reported.
        u32::from_be(unsafe { core::ptr::read_volatile((dtb.0 + 4 * index) as usize as *const u32) })
    };
    if word(0) != DTB_MAGIC {
        return Err(cpu::boot::WRONG_MAGIC);
    }
    let size = u64::from(word(1));
    if !(DTB_HEADER..=DTB_LIMIT).contains(&size) {
        return Err("the device tree's size in its header is below 40 bytes or above 2 MiB");
    }
    let range = PaRange::new(dtb, size).ok_or("the device tree's address is beyond all memory")?;
    if image().overlaps(range.page_outer()) {
        return Err(
            "the device tree overlaps memory that belongs to the image (its header tells loaders the size)",
        );
    }
    Ok(range)
}

/// Builds the tables that translation is turned on with: the image, the device tree, the early UART. Called with
/// translation off. Returns the top-level table (physical).
pub(crate) extern "C" fn build_tables(dtb: usize) -> usize {
    let dtb = match device_tree(Pa(dtb as u64)) {
        Ok(dtb) => dtb,
        Err(reason) => fail(reason),
    };
    match mmu::first_tables(dtb.page_outer()) {
        Ok(root) => root.0 as usize,
        Err(_) => fail("the device tree or the early UART cannot be mapped"),
    }
}

/// Called with translation on, on the boot CPU.
pub(crate) extern "C" fn start(dtb: usize, entered: u64) -> ! {
    cpu::boot::install_vectors();
    // SAFETY: called once, here, before anything allocates.
    unsafe { crate::heap::init() };
    let dtb = match device_tree(Pa(dtb as u64)) {
        Ok(dtb) => dtb,
        Err(reason) => fail(reason),
    };
    if !private::add(image()) || !private::add(dtb.page_outer()) {
        fail("the image and the device tree overlap");
    }
    // SAFETY: the range is mapped (`first_tables`), read-only, and private from now on: nobody writes to it.
    let dtb = unsafe { core::slice::from_raw_parts(dtb.start.0 as usize as *const u8, dtb.size() as usize) };
    let boot = BootInfo {
        dtb,
        image: image(),
        boot_uart: EARLY_UART,
        mpidr: cpu::boot::mpidr(),
        entered,
        heap: HeapGrowth::first(),
    };
    // SAFETY: `entry!` defines the function with this signature.
    unsafe { vambrace_main(boot) }
}

/// Pages that `range` needs, rounded outwards.
pub(crate) const fn pages(range: PaRange) -> (Pa, u64) {
    let range = range.page_outer();
    (range.start, range.size() & !(PAGE_SIZE - 1))
}
