//! The first instructions: image headers, and the way from any loader's state to Rust with translation on.
//!
//! The image starts with the arm64 `Image` header (Linux, Documentation/arch/arm64/booting.rst), the unused fields of
//! which are those that a PE/COFF file needs (UEFI specification 2.1.1; PE Format, Microsoft): one file serves both.
//!
//! Everything runs at the address where the image was loaded, virtual = physical. Until translation is on, memory is
//! accessed past the caches: so what is in the caches is cleaned out to memory before, and what the caches may have
//! fetched meanwhile is dropped after.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .head, "ax"
    .globl _start
_start:
    ccmp    x18, #0, #0xd, pl           // does nothing, and its encoding begins with "MZ"
    b       vambrace_primary_entry
    .quad   0                           // text_offset
    .quad   __image_size                // image_size
    .quad   0xa                         // flags: little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   pe_header - _start

    .balign 8
pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64                      // machine: ARM64
    .short  2                           // sections
    .long   0, 0, 0                     // time stamp, symbols
    .short  sections - optional_header
    .short  0x206                       // executable, no line numbers, no debug data
optional_header:
    .short  0x20b                       // PE32+
    .byte   1, 0                        // linker version
    .long   __pe_text_size
    .long   __pe_data_file_size
    .long   __pe_bss_size
    .long   vambrace_efi_entry - _start
    .long   0x1000                      // base of code
    .quad   0                           // preferred base: none
    .long   0x1000                      // section alignment
    .long   0x1000                      // file alignment
    .short  0, 0, 0, 0, 1, 0            // versions: OS, image, subsystem
    .long   0
    .long   __image_size
    .long   0x1000                      // size of headers
    .long   0                           // checksum
    .short  10                          // EFI application
    .short  0x140                       // loadable anywhere, no execution of data
    .quad   0, 0, 0, 0                  // stack, heap: firmware's
    .long   0                           // loader flags
    .long   6                           // data directories, all empty
    .quad   0, 0, 0, 0, 0, 0
sections:
    .ascii  ".text\0\0\0"
    .long   __pe_text_size
    .long   0x1000
    .long   __pe_text_size
    .long   0x1000
    .long   0, 0
    .short  0, 0
    .long   0x60000020                  // code, read, execute
    .ascii  ".data\0\0\0"
    .long   __pe_data_size
    .long   __pe_data_start
    .long   __pe_data_file_size
    .long   __pe_data_start
    .long   0, 0
    .short  0, 0
    .long   0xc0000040                  // initialised data, read, write
    "#
);

global_asm!(
    r#"
    // The address of a symbol of the image.
    .macro address register, symbol
        adrp    \register, \symbol
        add     \register, \register, :lo12:\symbol
    .endm

    // Cache maintenance by address over the image from \from to \to; spoils x9 to x12.
    .macro cache_image operation, from, to
        mrs     x9, ctr_el0
        ubfx    x9, x9, #16, #4         // DminLine: log2 of words
        mov     x10, #4
        lsl     x10, x10, x9
        address x11, \from
        address x12, \to
    1:  dc      \operation, x11
        add     x11, x11, x10
        cmp     x11, x12
        b.lo    1b
        dsb     sy
    .endm

    .section .text, "ax"

    // x0: device tree, physical. Translation may be on if it maps the image virtual = physical.
    .balign 4
    .globl vambrace_primary_entry
vambrace_primary_entry:
        msr     daifset, #0xf
        msr     spsel, #1
        mov     x20, x0
        mrs     x0, CurrentEL
        cmp     x0, #8
        b.ne    wrong_level
        mrs     x19, cntpct_el0

        // What the loader left in the caches, over the image and the memory that belongs to it, must neither hide
        // nor later overwrite what is written past them.
        cache_image civac, __image_start, __image_end
        bl      vambrace_init_el2
        address x0, early_vectors
        msr     vbar_el2, x0
        isb

        address x0, __bss_start
        address x1, __bss_end
    2:  stp     xzr, xzr, [x0], #16
        cmp     x0, x1
        b.lo    2b
        bl      vambrace_relocate

        address x0, __boot_stack_top
        mov     sp, x0
        mov     x29, xzr
        mov     x0, x20
        bl      {build_tables}
        mov     x21, x0

        cache_image ivac, __text_end, __image_end
        mov     x0, x21
        bl      enable_translation
        msr     tpidr_el2, xzr
        mov     x0, x20
        mov     x1, x19
        bl      {main}
        b       park

wrong_level:
        lsr     x0, x0, #2
        address x1, __boot_stack_top
        mov     sp, x1
        mov     x29, xzr
        bl      {wrong_level}

park:   wfe
        b       park

    // Adds what the image has moved since the last time to every word that RELR names (ELF gABI, SHT_RELR): so it
    // may run twice. Spoils x9 to x17.
    .balign 4
    .globl vambrace_relocate
vambrace_relocate:
        address x9, __image_start
        address x10, relocated_to
        ldr     x11, [x10]
        str     x9, [x10]
        subs    x12, x9, x11
        b.eq    6f
        address x13, __relr_start
        address x14, __relr_end
    1:  cmp     x13, x14
        b.hs    6f
        ldr     x15, [x13], #8
        tbnz    x15, #0, 2f
        add     x16, x9, x15            // an even entry: the offset of a word
        ldr     x17, [x16]
        add     x17, x17, x12
        str     x17, [x16], #8
        b       1b
    2:  mov     x11, x16                // an odd one: which of the 63 words behind
    3:  lsr     x15, x15, #1
        cbz     x15, 5f
        tbz     x15, #0, 4f
        ldr     x17, [x11]
        add     x17, x17, x12
        str     x17, [x11]
    4:  add     x11, x11, #8
        b       3b
    5:  add     x16, x16, #63 * 8
        b       1b
    6:  ret

    // Every register of EL2 that matters, from any state, with translation and data caches off. Spoils x9 to x11.
    .balign 4
vambrace_init_el2:
        // Without VHE, or the names below mean other registers. Interrupts are EL2's.
        ldr     x9, =(1 << 31 | 1 << 5 | 1 << 4 | 1 << 3)   // RW, AMO, IMO, FMO
        mov     x10, #{sctlr_off} & 0xffff
        movk    x10, #{sctlr_off} >> 16, lsl #16
        msr     sctlr_el2, x10
        isb
        msr     hcr_el2, x9
        isb
        msr     sctlr_el2, x10
        isb
        ic      iallu
        tlbi    alle2
        tlbi    alle1
        dsb     nsh
        isb

        mov     x9, #0x33ff             // FP and SIMD do not trap, SVE and SME do
        msr     cptr_el2, x9
        msr     hstr_el2, xzr
        msr     vttbr_el2, xzr
        mov     x9, #1 << 31
        msr     vtcr_el2, x9
        mrs     x9, midr_el1
        msr     vpidr_el2, x9
        mrs     x9, mpidr_el1
        msr     vmpidr_el2, x9
        mov     x9, #1                  // guests read the counter; their physical timer traps
        msr     cnthctl_el2, x9
        msr     cntvoff_el2, xzr
        msr     cnthp_ctl_el2, xzr
        msr     cntp_ctl_el0, xzr
        msr     cntv_ctl_el0, xzr
        msr     tpidr_el2, xzr
        msr     elr_el2, xzr
        msr     spsr_el2, xzr
        msr     esr_el2, xzr
        msr     far_el2, xzr
        msr     hpfar_el2, xzr
        msr     afsr0_el2, xzr
        msr     afsr1_el2, xzr
        msr     mdscr_el1, xzr

        // MDCR_EL2: all event counters, if there are any, are EL1's.
        mov     x10, xzr
        mrs     x9, id_aa64dfr0_el1
        ubfx    x9, x9, #8, #4          // PMUVer: 0 none, 15 not the architecture's
        sub     x9, x9, #1
        cmp     x9, #14
        b.hs    1f
        mrs     x10, pmcr_el0
        ubfx    x10, x10, #11, #5       // N
    1:  msr     mdcr_el2, x10

        // GIC system registers: use them, and let EL1 use them.
        mrs     x9, id_aa64pfr0_el1
        ubfx    x9, x9, #24, #4
        cbz     x9, 2f
        mrs     x9, S3_4_C12_C9_5       // ICC_SRE_EL2
        orr     x9, x9, #1              // SRE
        orr     x9, x9, #1 << 3         // Enable
        msr     S3_4_C12_C9_5, x9
        isb
        mrs     x9, S3_4_C12_C9_5
        tbz     x9, #0, 2f              // the firmware keeps the GIC memory-mapped
        msr     S3_4_C12_C11_0, xzr     // ICH_HCR_EL2

    2:  // HCRX_EL2 and fine-grained traps: off, and what is enabled by a bit stays disabled.
        mrs     x9, id_aa64mmfr1_el1
        ubfx    x9, x9, #40, #4
        cbz     x9, 3f
        msr     S3_4_C1_C2_2, xzr       // HCRX_EL2
    3:  mrs     x9, id_aa64mmfr0_el1
        ubfx    x9, x9, #56, #4
        cbz     x9, 4f
        msr     S3_4_C1_C1_4, xzr       // HFGRTR_EL2
        msr     S3_4_C1_C1_5, xzr       // HFGWTR_EL2
        msr     S3_4_C1_C1_6, xzr       // HFGITR_EL2
        msr     S3_4_C3_C1_4, xzr       // HDFGRTR_EL2
        msr     S3_4_C3_C1_5, xzr       // HDFGWTR_EL2
        cmp     x9, #2
        b.lo    4f
        msr     S3_4_C3_C1_0, xzr       // HDFGRTR2_EL2
        msr     S3_4_C3_C1_1, xzr       // HDFGWTR2_EL2
        msr     S3_4_C3_C1_2, xzr       // HFGRTR2_EL2
        msr     S3_4_C3_C1_3, xzr       // HFGWTR2_EL2
        msr     S3_4_C3_C1_7, xzr       // HFGITR2_EL2
    4:  isb
        ret

    // x0: top-level table. Spoils x9, x10.
    .balign 4
enable_translation:
        ldr     x9, =0xff0400           // memory kinds as `stage1` numbers them
        msr     mair_el2, x9
        mrs     x10, id_aa64mmfr0_el1
        and     x10, x10, #0xf          // physical address size, at most 48 bits
        mov     x9, #5
        cmp     x10, x9
        csel    x10, x10, x9, lo
        ldr     x9, =0x80803510         // 48 bits, 4 KiB granule, walks write-back and inner-shareable
        orr     x9, x9, x10, lsl #16
        msr     tcr_el2, x9
        msr     ttbr0_el2, x0
        isb
        tlbi    alle2
        ic      iallu
        dsb     nsh
        isb
        mov     x9, #{sctlr_on} & 0xffff
        movk    x9, #{sctlr_on} >> 16, lsl #16
        msr     sctlr_el2, x9
        isb
        ret
        .ltorg

    // Another CPU, from the firmware or a spin table, with translation off.
    .balign 4
    .globl vambrace_secondary_entry
vambrace_secondary_entry:
        msr     daifset, #0xf
        msr     spsel, #1
        mrs     x0, CurrentEL
        cmp     x0, #8
        b.ne    park
        bl      vambrace_init_el2
        address x0, early_vectors
        msr     vbar_el2, x0
        isb
        mrs     x1, mpidr_el1
        ldr     x2, =0xff00ffffff
        and     x1, x1, x2
        address x2, {slot}
    1:  // A CPU that was not called, or not yet, stays here; `smp` writes the slot, cleans it, and sends an event.
        ldr     x3, [x2]
        cmp     x3, x1
        b.eq    2f
        wfe
        b       1b
    2:  dmb     sy
        ldp     x19, x20, [x2, #8]      // stack, CPU number
        ldr     x0, [x2, #24]           // table
        dmb     sy
        ldr     x3, [x2]                // still ours: so all of it was
        cmp     x3, x1
        b.ne    1b
        bl      enable_translation
        mov     sp, x19
        mov     x29, xzr
        msr     tpidr_el2, x20
        mov     x0, x20
        bl      {secondary}
        b       park

    .balign 4
    .globl vambrace_leave_efi
    // x0: device tree. Firmware's tables map the image virtual = physical; what matters is clean to memory.
vambrace_leave_efi:
        msr     daifset, #0xf
        b       vambrace_primary_entry

    // x0, x1: image handle, system table. Returns a status to the firmware, or never.
    .balign 4
    .globl vambrace_efi_entry
vambrace_efi_entry:
        stp     x29, x30, [sp, #-16]!
        mov     x29, sp
        bl      vambrace_relocate
        bl      {efi_main}
        ldp     x29, x30, [sp], #16
        ret

    // Until the real vectors are in place, an exception says what is known and parks.
    .section .text.vectors, "ax"
    .balign 2048
early_vectors:
    .rept 16
    .balign 128
        mrs     x0, esr_el2
        mrs     x1, elr_el2
        mrs     x2, far_el2
        address x3, __fault_stack_top
        mov     sp, x3
        bl      {exception}
        b       park
    .endr

    .section .data, "aw"
    .balign 8
relocated_to:
    .quad   0
    "#,
    build_tables = sym crate::boot::build_tables,
    main = sym crate::boot::start,
    wrong_level = sym super::boot::wrong_level,
    exception = sym super::boot::early_exception,
    efi_main = sym super::efi::main,
    secondary = sym crate::smp::secondary_start,
    slot = sym crate::smp::SLOT,
    sctlr_off = const SCTLR_OFF,
    sctlr_on = const SCTLR_ON,
);

/// SCTLR_EL2 with the bits that are RES1 without VHE (Arm ARM, SCTLR_EL2): no translation, no data cache.
const SCTLR_OFF: u32 = 0x30c5_0830;
/// With translation (M), data and instruction caches (C, I), stack alignment check (SA), and no execution of anything
/// writable (WXN).
const SCTLR_ON: u32 = SCTLR_OFF | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;
