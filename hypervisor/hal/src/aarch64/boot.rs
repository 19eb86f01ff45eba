//! From the first Rust code to the binary's `main`.

use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};

use super::sysregs::{isb, read_sysreg};
use super::{mmu, vectors};
use crate::early_uart::{EARLY_UART, EarlyConsole, EarlyUart};
use crate::heap::HeapGrowth;
use crate::private;

/// What the binary finds when it starts.
#[derive(Debug)]
pub struct BootInfo {
    /// The device tree blob that the loader passed, complete and read-only; only magic and size are checked.
    pub dtb: &'static [u8],
    /// The hypervisor's image with its zeroed and uninitialised memory (physical).
    pub image: PaRange,
    /// The UART that the build named; its registers are mapped.
    pub boot_uart: Option<EarlyUart>,
    /// Affinity fields of this CPU's MPIDR_EL1.
    pub mpidr: u64,
    /// CNTPCT_EL0 as it stood at the hypervisor's first instructions.
    pub entered: u64,
    /// The right to give the heap more memory, once.
    pub heap: HeapGrowth,
}

/// Names the binary's functions: `entry!(main, secondary)` with `fn main(boot: BootInfo) -> !` for the CPU that boots
/// and `fn secondary(cpu: usize) -> !` for each that [`smp::start`](super::smp::start) brings up. Both run at EL2 with
/// translation and caches on and interrupts masked.
#[macro_export]
macro_rules! entry {
    ($main:path, $secondary:path) => {
        const _: () = {
            // SAFETY: the name is this project's own, `hal` declares it with the same signature, and a second
            // definition would not link.
            #[unsafe(no_mangle)]
            fn vambrace_main(boot: $crate::aarch64::boot::BootInfo) -> ! {
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

/// Affinity fields of MPIDR_EL1.
pub const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;
/// Largest device tree blob accepted, in bytes (the arm64 boot protocol's limit).
pub const DTB_LIMIT: u64 = 2 << 20;
/// Size of a device tree blob's header, in bytes (Devicetree Specification 0.4, 5.2).
const DTB_HEADER: u64 = 40;
const DTB_MAGIC: u32 = 0xd00d_feed;

/// The hypervisor's image with all memory that belongs to it (physical).
pub fn image() -> PaRange {
    PaRange { start: Pa((&raw const __image_start) as u64), end: Pa((&raw const __image_end) as u64) }
}

/// Stops this CPU for good.
pub fn park() -> ! {
    loop {
        // SAFETY: masks interrupts and waits; touches no memory.
        unsafe { core::arch::asm!("msr daifset, #0xf", "wfe", options(nomem, nostack)) };
    }
}

fn fail(reason: &str) -> ! {
    EarlyConsole.put("vambrace: ");
    EarlyConsole.put(reason);
    EarlyConsole.put("\n(VMB) Halted\n");
    park()
}

/// Where the device tree lies, by its header.
fn device_tree(dtb: Pa) -> Result<PaRange, &'static str> {
    if dtb == Pa(0) {
        return Err("the loader passed no device tree (x0 = 0)");
    }
    let header = PaRange::new(dtb, DTB_HEADER).ok_or("the device tree's address is beyond all memory")?;
    if !dtb.is_aligned(8) || header.end.0 >= crate::stage1::LIMIT {
        return Err("x0 holds no address of a device tree");
    }
    if image().overlaps(header.page_outer()) {
        return Err("the device tree lies in memory that belongs to the image (image_size in its header)");
    }
    let word = |index: u64| {
        // SAFETY: the address is aligned and outside of the image, so of all Rust objects, and either translation is
        // off or the header's page was mapped before. Memory that is not there makes an exception, which is reported.
        u32::from_be(unsafe { core::ptr::read_volatile((dtb.0 + 4 * index) as *const u32) })
    };
    if word(0) != DTB_MAGIC {
        return Err("no device tree at the address in x0 (wrong magic number)");
    }
    let size = u64::from(word(1));
    if !(DTB_HEADER..=DTB_LIMIT).contains(&size) {
        return Err("the device tree's size in its header is below 40 bytes or above 2 MiB");
    }
    let range = PaRange::new(dtb, size).ok_or("the device tree's address is beyond all memory")?;
    if image().overlaps(range.page_outer()) {
        return Err("the device tree overlaps memory that belongs to the image (image_size in its header)");
    }
    Ok(range)
}

/// Builds the tables that translation is turned on with: the image, the device tree, the early UART. Called with
/// translation off. Returns the top-level table (physical).
pub(super) extern "C" fn build_tables(dtb: u64) -> u64 {
    let dtb = match device_tree(Pa(dtb)) {
        Ok(dtb) => dtb,
        Err(reason) => fail(reason),
    };
    match mmu::first_tables(dtb.page_outer()) {
        Ok(root) => root.0,
        Err(_) => fail("the device tree or the early UART cannot be mapped"),
    }
}

/// Called with translation on, on the boot CPU.
pub(super) extern "C" fn start(dtb: u64, entered: u64) -> ! {
    install_vectors();
    // SAFETY: called once, here, before anything allocates.
    unsafe { crate::heap::init() };
    let dtb = match device_tree(Pa(dtb)) {
        Ok(dtb) => dtb,
        Err(reason) => fail(reason),
    };
    if !private::add(image()) || !private::add(dtb.page_outer()) {
        fail("the image and the device tree overlap");
    }
    // SAFETY: the range is mapped (`first_tables`), read-only, and private from now on: nobody writes to it.
    let dtb = unsafe { core::slice::from_raw_parts(dtb.start.0 as *const u8, dtb.size() as usize) };
    let boot = BootInfo {
        dtb,
        image: image(),
        boot_uart: EARLY_UART,
        mpidr: read_sysreg!("mpidr_el1") & MPIDR_AFFINITY,
        entered,
        heap: HeapGrowth::first(),
    };
    // SAFETY: `entry!` defines the function with this signature.
    unsafe { vambrace_main(boot) }
}

/// Points this CPU to the exception vectors.
pub(super) fn install_vectors() {
    // SAFETY: `vectors::table` is a complete vector table, which handles every exception on a stack of its own or ends.
    unsafe {
        core::arch::asm!("msr vbar_el2, {}", in(reg) vectors::table(), options(nomem, nostack, preserves_flags))
    };
    isb!();
}

/// The loader started the image at another exception level.
pub(super) extern "C" fn wrong_level(level: u64) -> ! {
    match level {
        1 => fail("started at EL1; the hypervisor needs EL2 (QEMU: -M virt,virtualization=on)"),
        3 => fail("started at EL3; the hypervisor needs firmware that starts it at EL2"),
        _ => fail("not started at EL2"),
    }
}

/// An exception before the real vectors are in place.
pub(super) extern "C" fn early_exception(syndrome: u64, at: u64, address: u64) -> ! {
    EarlyConsole.put("vambrace: exception while booting: ESR_EL2 ");
    EarlyConsole.put_hex(syndrome);
    EarlyConsole.put(" ELR_EL2 ");
    EarlyConsole.put_hex(at);
    EarlyConsole.put(" FAR_EL2 ");
    EarlyConsole.put_hex(address);
    EarlyConsole.put(" image at ");
    EarlyConsole.put_hex(image().start.0);
    EarlyConsole.put("\n");
    park()
}

/// Pages that `range` needs, rounded outwards.
pub(super) const fn pages(range: PaRange) -> (Pa, u64) {
    let range = range.page_outer();
    (range.start, range.size() & !(PAGE_SIZE - 1))
}
