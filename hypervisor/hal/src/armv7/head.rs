//! The first instructions: image header, and the way from any loader's state to Rust with translation on.
//!
//! The image starts with the header of an ARM zImage (Linux, Documentation/arch/arm/booting.rst), which U-Boot's `bootz`
//! and QEMU's `-kernel` take: entered at its first instruction with r2 = device tree.
//!
//! Everything runs at the address where the image was loaded, virtual = physical. Until translation is on, memory is
//! accessed past the caches: so what is in the caches is cleaned out to memory before, and what the caches may have
//! fetched meanwhile is dropped after.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .head, "ax"
    .arm
    .globl _start
_start:
    .rept 8
        nop
    .endr
        b       vambrace_primary_entry
    .long   0x016f2818                  // magic
    .long   0                           // start: anywhere
    .long   __image_size                // end, with the memory that belongs to the image
    .long   0x04030201                  // little-endian
    "#
);

global_asm!(
    r#"
    .arch_extension virt
    .arch_extension sec

    // The address of a symbol of the image.
    .macro address register, symbol
        movw    \register, :lower16:(\symbol - (.Lhere\@ + 8))
        movt    \register, :upper16:(\symbol - (.Lhere\@ + 8))
    .Lhere\@:
        add     \register, pc, \register
    .endm

    // Cache maintenance by address over the image from \from to \to, by CRm of the operation; spoils r0 to r3.
    .macro cache_image crm, from, to
        mrc     p15, 0, r0, c0, c0, 1   // CTR
        ubfx    r0, r0, #16, #4         // DminLine: log2 of words
        mov     r1, #4
        lsl     r1, r1, r0
        address r2, \from
        address r3, \to
    1:  mcr     p15, 0, r2, c7, \crm, 1
        add     r2, r2, r1
        cmp     r2, r3
        blo     1b
        dsb
    .endm

    .section .text.head, "ax"
    .arm

    // r2: device tree, physical. Translation is off.
    .balign 4
vambrace_primary_entry:
        cpsid   aif
        mov     r9, r2
        bl      vambrace_relocate
        mrs     r0, cpsr
        and     r0, r0, #0x1f
        cmp     r0, #0x1a
        bne     wrong_mode
in_hyp_mode:
        mrrc    p15, 0, r10, r11, c14   // CNTPCT

        // What the loader left in the caches, over the image and the memory that belongs to it, must neither hide
        // nor later overwrite what is written past them.
        cache_image c14, __image_start, __image_end
        bl      vambrace_init_hyp
        address r0, early_vectors
        mcr     p15, 4, r0, c12, c0, 0  // HVBAR
        isb
        mrc     p15, 0, r0, c14, c0, 0  // CNTFRQ
        address r1, counter_frequency
        str     r0, [r1]

        address r0, __bss_start
        address r1, __bss_end
        mov     r2, #0
        mov     r3, #0
    2:  stmia   r0!, {{r2, r3}}
        cmp     r0, r1
        blo     2b

        address sp, __boot_stack_top
        mov     r0, r9
        bl      {build_tables}
        mov     r8, r0

        cache_image c6, __text_end, __image_end
        mov     r0, r8
        bl      enable_translation
        mov     r0, #0
        mcr     p15, 4, r0, c13, c0, 2  // HTPIDR
        mov     r0, r9
        mov     r2, r10
        mov     r3, r11
        bl      {main}
        b       park

    // Returns only where the monitor in ROM can be asked for Hyp mode; what that leaves in registers is not known.
wrong_mode:
        address r1, __boot_stack_top
        mov     sp, r1
        address r1, saved_tree
        str     r9, [r1]
        mov     r1, r9
        bl      {wrong_mode}
        address r0, from_monitor
        movw    r12, #{omap_hyp}
        smc     #0
        b       park
from_monitor:
        cpsid   aif
        address r1, saved_tree
        ldr     r9, [r1]
        mrs     r0, cpsr
        and     r0, r0, #0x1f
        cmp     r0, #0x1a
        beq     in_hyp_mode

park:   wfe
        b       park

    // Adds what the image has moved since it was linked to every word that RELR names (ELF gABI, SHT_RELR). Spoils r0
    // to r7.
    .balign 4
vambrace_relocate:
        address r0, __image_start
        address r1, relocated_to
        ldr     r2, [r1]
        str     r0, [r1]
        subs    r1, r0, r2
        bxeq    lr
        address r2, __relr_start
        address r3, __relr_end
    1:  cmp     r2, r3
        bxhs    lr
        ldr     r4, [r2], #4
        tst     r4, #1
        bne     2f
        add     r5, r0, r4              // an even entry: the offset of a word
        ldr     r6, [r5]
        add     r6, r6, r1
        str     r6, [r5], #4
        b       1b
    2:  mov     r7, r5                  // an odd one: which of the 31 words behind
    3:  lsrs    r4, r4, #1
        beq     5f
        tst     r4, #1
        ldrne   r6, [r7]
        addne   r6, r6, r1
        strne   r6, [r7]
        add     r7, r7, #4
        b       3b
    5:  add     r5, r5, #31 * 4
        b       1b

    // Every register of Hyp mode that matters, from any state, with translation and caches off. Spoils r0, r1.
    .balign 4
vambrace_init_hyp:
        ldr     r0, =({hsctlr_off})
        mcr     p15, 4, r0, c1, c0, 0   // HSCTLR
        isb
        mov     r0, #0
        mcr     p15, 0, r0, c7, c5, 0   // ICIALLU
        mcr     p15, 0, r0, c7, c5, 6   // BPIALL
        mcr     p15, 4, r0, c8, c7, 0   // TLBIALLH
        mcr     p15, 4, r0, c8, c7, 4   // TLBIALLNSNH
        dsb
        isb
        mov     r1, #0x38
        mcr     p15, 4, r1, c1, c1, 0   // HCR: AMO, IMO, FMO
        movw    r1, #0x33ff             // HCPTR: VFP does not trap, all else does
        movt    r1, #0x10
        mcr     p15, 4, r1, c1, c1, 2
        mcr     p15, 4, r0, c1, c1, 3   // HSTR
        mcrr    p15, 6, r0, r0, c2      // VTTBR
        mov     r1, #1 << 31
        mcr     p15, 4, r1, c2, c1, 2   // VTCR
        mrc     p15, 0, r1, c0, c0, 0
        mcr     p15, 4, r1, c0, c0, 0   // VPIDR
        mrc     p15, 0, r1, c0, c0, 5
        mcr     p15, 4, r1, c0, c0, 5   // VMPIDR
        mov     r1, #1                  // guests read the counter; their physical timer traps
        mcr     p15, 4, r1, c14, c1, 0  // CNTHCTL
        mcrr    p15, 4, r0, r0, c14     // CNTVOFF
        mcr     p15, 4, r0, c14, c2, 1  // CNTHP_CTL
        mcr     p15, 0, r0, c14, c2, 1  // CNTP_CTL
        mcr     p15, 0, r0, c14, c3, 1  // CNTV_CTL
        mcr     p15, 4, r0, c13, c0, 2  // HTPIDR

        // HDCR: all event counters, if there are any, are PL1's.
        mrc     p15, 0, r1, c0, c1, 2   // ID_DFR0
        ubfx    r1, r1, #24, #4         // 0 no performance monitors, 15 not the architecture's
        sub     r1, r1, #1
        cmp     r1, #14
        mrclo   p15, 0, r0, c9, c12, 0  // PMCR
        ubfxlo  r0, r0, #11, #5         // N
        mcr     p15, 4, r0, c1, c1, 1
        isb
        bx      lr

    // r0: first table. Spoils r0, r1.
    .balign 4
enable_translation:
        mov     r1, #0
        mcrr    p15, 4, r0, r1, c2      // HTTBR
        ldr     r0, =0xff0400           // memory kinds as `stage1` numbers them
        mcr     p15, 4, r0, c10, c2, 0  // HMAIR0
        mcr     p15, 4, r1, c10, c2, 1  // HMAIR1
        ldr     r0, =0x80803500         // 32 bits, walks write-back and inner-shareable
        mcr     p15, 4, r0, c2, c0, 2   // HTCR
        isb
        mcr     p15, 4, r1, c8, c7, 0   // TLBIALLH
        mcr     p15, 0, r1, c7, c5, 0   // ICIALLU
        mcr     p15, 0, r1, c7, c5, 6   // BPIALL
        dsb
        isb
        ldr     r0, =({hsctlr_on})
        mcr     p15, 4, r0, c1, c0, 0   // HSCTLR
        isb
        bx      lr
        .ltorg

    // Another CPU in the Secure state, in Supervisor mode as from reset: to Hyp mode, then as all others. (What firmware
    // has done for the CPU that boots, ARMv7 ARM B1.5 and IHI 0048B 4.1: Non-secure use of VFP, coherency, counter
    // frequency, interrupts in group 1.)
    .balign 4
    .globl vambrace_secure_entry
    .type   vambrace_secure_entry, %function
vambrace_secure_entry:
        cpsid   aif
        mrc     p15, 0, r0, c1, c1, 2   // NSACR: cp10, cp11, ACTLR.SMP
        orr     r0, r0, #3 << 10
        orr     r0, r0, #1 << 18
        mcr     p15, 0, r0, c1, c1, 2
        mrc     p15, 0, r0, c1, c0, 1   // ACTLR: SMP
        orr     r0, r0, #1 << 6
        mcr     p15, 0, r0, c1, c0, 1
        address r1, counter_frequency
        ldr     r0, [r1]
        mcr     p15, 0, r0, c14, c0, 0  // CNTFRQ
        mrc     p15, 4, r1, c15, c0, 0  // CBAR: where the interrupt controller is
        lsr     r1, r1, #15
        lsl     r1, r1, #15
        mov     r2, #0x1000
        add     r2, r2, r1
        mvn     r0, #0
        str     r0, [r2, #0x80]         // GICD_IGROUPR0
        mov     r0, #0xff
        add     r2, r2, #0x1000
        str     r0, [r2, #4]            // GICC_PMR: Non-secure code may set the lower half
        dsb
        cps     #0x16
        mov     r0, #0x1b0              // SCR: FW, AW, no smc, hvc
        orr     r0, r0, #1              // Non-secure
        mcr     p15, 0, r0, c1, c1, 0
        isb
        address lr, vambrace_secondary_entry
        mov     r0, #0x1da              // Hyp mode, all masked
        msr     spsr_cxsf, r0
        movs    pc, lr

    // Another CPU of an OMAP5, in Supervisor mode in the Non-secure state: the monitor in ROM continues at r0 in Hyp mode.
    .balign 4
    .globl vambrace_monitor_entry
    .type   vambrace_monitor_entry, %function
vambrace_monitor_entry:
        cpsid   aif
        mrs     r0, cpsr
        and     r0, r0, #0x1f
        cmp     r0, #0x1a
        beq     vambrace_secondary_entry
        address r0, vambrace_secondary_entry
        movw    r12, #{omap_hyp}
        smc     #0
        b       park

    // Another CPU, in Hyp mode from the firmware or a holding pen, with translation off.
    .balign 4
    .globl vambrace_secondary_entry
    .type   vambrace_secondary_entry, %function
vambrace_secondary_entry:
        cpsid   aif
        mrs     r0, cpsr
        and     r0, r0, #0x1f
        cmp     r0, #0x1a
        bne     park
        bl      vambrace_init_hyp
        address r0, early_vectors
        mcr     p15, 4, r0, c12, c0, 0
        isb
        mrc     p15, 0, r1, c0, c0, 5   // MPIDR
        bfc     r1, #24, #8
        address r2, {slot}
    1:  // A CPU that was not called, or not yet, stays here; `smp` writes the slot, cleans it, and sends an event.
        ldr     r3, [r2]
        cmp     r3, r1
        beq     2f
        wfe
        b       1b
    2:  dmb
        ldr     r4, [r2, #8]            // stack
        ldr     r5, [r2, #16]           // CPU number
        ldr     r0, [r2, #24]           // table
        dmb
        ldr     r3, [r2]                // still ours: so all of it was
        cmp     r3, r1
        bne     1b
        bl      enable_translation
        mov     sp, r4
        mcr     p15, 4, r5, c13, c0, 2  // HTPIDR
        mov     r0, r5
        bl      {secondary}
        b       park

    // Until the real vectors are in place, an exception says what is known and parks.
    .section .text.vectors, "ax"
    .balign 32
early_vectors:
    .rept 8
        b       vambrace_early_exception
    .endr
vambrace_early_exception:
        mrc     p15, 4, r0, c5, c2, 0   // HSR
        mrs     r1, elr_hyp
        mrc     p15, 4, r2, c6, c0, 0   // HDFAR
        address r3, __fault_stack_top
        mov     sp, r3
        bl      {exception}
        b       vambrace_early_exception

    .section .data, "aw"
    .balign 4
relocated_to:
    .long   0
counter_frequency:
    .long   0
saved_tree:
    .long   0
    "#,
    build_tables = sym crate::boot::build_tables,
    main = sym crate::boot::start,
    wrong_mode = sym super::boot::wrong_mode,
    exception = sym super::boot::early_exception,
    secondary = sym crate::smp::secondary_start,
    slot = sym crate::smp::SLOT,
    omap_hyp = const OMAP_HYP,
    hsctlr_off = const HSCTLR_OFF,
    hsctlr_on = const HSCTLR_ON,
);

/// The service of the monitor in OMAP5's ROM that continues at the address in r0 in Hyp mode; its number is in r12 (Linux,
/// arch/arm/mach-omap2/omap-smc.S and omap-headsmp.S).
const OMAP_HYP: u32 = 0x102;

/// HSCTLR with the bits that are RES1 (ARMv7 ARM, B4.1.74): no translation, no caches.
const HSCTLR_OFF: u32 = 0x30c5_0878;
/// With translation (M), data and instruction caches (C, I), and no execution of anything writable (WXN).
const HSCTLR_ON: u32 = HSCTLR_OFF | 1 | 1 << 2 | 1 << 12 | 1 << 19;
