//! From the first instruction to Rust: image header, relocation, stacks, stage 1, exception vectors; for the first CPU
//! and for those that PSCI starts.

use core::arch::global_asm;
use core::cell::UnsafeCell;

/// CPUs that the tests start at most.
pub const MAX_CPUS: usize = 8;

/// Virtual address of the window in which the gigabyte of the image is mapped once more, read-only.
pub const READ_ONLY_WINDOW: u64 = 128 << 30;
/// A virtual address that stage 1 maps nowhere.
pub const UNMAPPED: u64 = 300 << 30;
/// An address that stage 1 maps (virtual = intermediate) and where no board of ours has anything.
pub const WILD: u64 = 63 << 30;

/// What the first instructions saw.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// x0: address of the device tree.
    pub dtb: u64,
    /// Virtual counter, in ticks.
    pub virtual_count: u64,
    /// Physical counter, in ticks.
    pub physical_count: u64,
    /// x1 to x3.
    pub zeros: [u64; 3],
    /// SCTLR_EL1 (0 when entered at EL2).
    pub sctlr: u64,
    /// DAIF.
    pub daif: u64,
    /// CurrentEL, 4 for EL1.
    pub level: u64,
}

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);
// SAFETY: written once by the first CPU before stage 1 and other CPUs are on, only walked by hardware afterwards.
unsafe impl Sync for Table {}

/// The only level of stage 1: blocks of 1 GiB, 39 bits of address.
static TABLE: Table = Table(UnsafeCell::new([0; 512]));

const NORMAL: u64 = 0;
const DEVICE: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 53 | 1 << 54;
const BLOCK: u64 = 1;

/// Fills the table: the first 64 GiB as they are, the gigabyte that holds the image as memory, the rest as devices.
#[unsafe(no_mangle)]
extern "C" fn fill_table(image: u64) -> u64 {
    let table = TABLE.0.get();
    let own = image >> 30;
    for gigabyte in 0..64u64 {
        let kind = if gigabyte == own { NORMAL } else { DEVICE | EXECUTE_NEVER };
        // SAFETY: see `Table`; the index is below 512.
        unsafe { (*table)[gigabyte as usize] = gigabyte << 30 | BLOCK | ACCESSED | INNER_SHAREABLE | kind };
    }
    let window = own << 30 | BLOCK | ACCESSED | INNER_SHAREABLE | NORMAL | READ_ONLY | EXECUTE_NEVER;
    // SAFETY: see `Table`; the index is 128.
    unsafe { (*table)[(READ_ONLY_WINDOW >> 30) as usize] = window };
    table as u64
}

/// Adds the load address to what the linker left relative to 0 (R_AARCH64_RELATIVE is all a static image has).
#[unsafe(no_mangle)]
unsafe extern "C" fn relocate(image: u64, mut entry: *const [u64; 3], end: *const [u64; 3]) {
    const RELATIVE: u64 = 1027;
    while entry < end {
        // SAFETY: the caller passes the linker's table; its offsets lie in this image, which is still ours alone.
        unsafe {
            let [offset, kind, addend] = *entry;
            if kind & 0xffff_ffff == RELATIVE {
                ((image + offset) as *mut u64).write_unaligned(image + addend);
            }
            entry = entry.add(1);
        }
    }
}

unsafe extern "C" {
    /// Where PSCI starts another CPU; its context argument is the CPU's index.
    pub fn secondary_entry();
    static __image_start: u8;
    static __image_end: u8;
}

/// First and last+1 address of the image.
pub fn image() -> (u64, u64) {
    (&raw const __image_start as u64, &raw const __image_end as u64)
}

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       first
    .long   0
    .quad   0                       // text_offset
    .quad   __image_end - _start    // image_size
    .quad   0xa                     // little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

first:
    isb
    mrs     x20, cntvct_el0
    mrs     x21, cntpct_el0
    mrs     x26, daif
    mrs     x27, CurrentEL
    mov     x19, x0
    mov     x22, x1
    mov     x23, x2
    mov     x24, x3
    mov     x25, #0
    cmp     x27, #4
    b.ne    1f
    mrs     x25, sctlr_el1
1:  msr     daifset, #0xf
    adrp    x0, stacks
    add     x0, x0, :lo12:stacks
    add     sp, x0, #{stack}
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
2:  cmp     x0, x1
    b.hs    3f
    stp     xzr, xzr, [x0], #16
    b       2b
3:  adr     x0, _start
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
    bl      relocate
    cmp     x27, #4
    b.ne    4f
    adr     x0, _start
    bl      fill_table
    bl      stage1_on
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    isb
4:  stp     x27, xzr, [sp, #-16]!
    stp     x25, x26, [sp, #-16]!
    stp     x23, x24, [sp, #-16]!
    stp     x21, x22, [sp, #-16]!
    stp     x19, x20, [sp, #-16]!
    mov     x0, sp
    bl      first_main
5:  wfi
    b       5b

    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    adrp    x1, stacks
    add     x1, x1, :lo12:stacks
    add     x2, x19, #1
    mov     x3, #{stack}
    madd    x1, x2, x3, x1
    mov     sp, x1
    adrp    x0, {table}
    add     x0, x0, :lo12:{table}
    bl      stage1_on
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    isb
    mov     x0, x19
    bl      secondary_main
6:  wfi
    b       6b

// Turns stage 1 on with the table at x0.
stage1_on:
    mov     x1, #0x04ff             // attribute 0: write-back, 1: device nGnRE
    msr     mair_el1, x1
    ldr     x1, =0x200803519        // T0SZ 25, write-back inner-shareable walks, TTBR1 off, 40 bits
    msr     tcr_el1, x1
    msr     ttbr0_el1, x0
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    mrs     x1, sctlr_el1
    mov     x2, #0x1005             // I, C, M
    orr     x1, x1, x2
    bic     x1, x1, #(1 << 19)      // WXN
    msr     sctlr_el1, x1
    isb
    ret
    .ltorg

    .section .bss
    .balign 16
stacks: .space {stack} * {cpus}

    .section .text.vectors, "ax"
    .macro  vector kind
    .balign 128
    sub     sp, sp, #272
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       exception_entry
    .endm
    .balign 2048
vectors:
    vector 0
    vector 1
    vector 2
    vector 3
    vector 4
    vector 5
    vector 6
    vector 7
    vector 8
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

exception_entry:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    str     x2, [sp, #256]
    mov     x0, sp
    bl      exception
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x30, x2, [sp, #240]
    msr     elr_el1, x2
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp]
    add     sp, sp, #272
    eret
"#,
    stack = const 16384,
    cpus = const MAX_CPUS,
    table = sym TABLE,
);
