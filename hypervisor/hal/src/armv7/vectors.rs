//! Hyp mode's exception vectors, and the way into a guest and out of it.
//!
//! A guest runs inside of a function call: `enter` saves the hypervisor's callee-saved registers on its stack, loads
//! the guest's registers and `eret`s; the next exception from the guest stores the guest's registers into the same
//! block and returns from that call. LR is the one register that Hyp mode shares with User mode, so it is switched with
//! r0 to r12; all other banked registers stay where they are.
//!
//! Exceptions from Hyp mode itself are defects; they print what is known and stop the machine.

use core::arch::global_asm;
use core::mem::offset_of;

use vambrace_core::trap::GuestRegs;

/// What kind of exception ended a guest's run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// A trap: the syndrome says why.
    Trap,
    /// IRQ or FIQ.
    Interrupt,
}

const EXIT_TRAP: u32 = 0;
const EXIT_INTERRUPT: u32 = 1;

global_asm!(
    r#"
    .arch_extension virt

    .macro own_exception kind
        mov     r0, #\kind
        b       vambrace_own
    .endm

    .section .text.vectors, "ax"
    .arm
    .balign 32
    .global vambrace_vectors
vambrace_vectors:
        b       9f
        b       1f
        b       2f
        b       3f
        b       4f
        b       vambrace_guest_trap
        b       vambrace_guest_interrupt
        b       vambrace_guest_interrupt
9:      own_exception 0
1:      own_exception 1
2:      own_exception 2
3:      own_exception 3
4:      own_exception 4

vambrace_own:
        mrc     p15, 4, r1, c5, c2, 0   // HSR
        mrs     r2, elr_hyp
        mrc     p15, 4, r3, c6, c0, 0   // HDFAR
        mov     r4, sp
        // The stack itself may be what is broken.
        movw    r5, :lower16:(__fault_stack_top - (5f + 8))
        movt    r5, :upper16:(__fault_stack_top - (5f + 8))
5:      add     r5, pc, r5
        mov     sp, r5
        push    {{r3, r4}}
        bl      vambrace_own_exception

    .balign 32
vambrace_guest_interrupt:
        push    {{r0, r1}}
        mov     r1, #{interrupt}
        b       1f
    .balign 32
vambrace_guest_trap:
        push    {{r0, r1}}
        mov     r1, #{trap}
1:      ldr     r0, [sp, #8]            // the guest's registers, 64 bits each, whose upper halves are zero
        str     r2, [r0, #16]
        str     r3, [r0, #24]
        mov     r3, #0
        str     r4, [r0, #32]
        str     r5, [r0, #40]
        pop     {{r4, r5}}
        str     r6, [r0, #48]
        str     r7, [r0, #56]
        str     r8, [r0, #64]
        str     r9, [r0, #72]
        str     r10, [r0, #80]
        str     r11, [r0, #88]
        str     r12, [r0, #96]
        mrs     r6, elr_hyp
        mrs     r8, spsr
        mov     r7, #0
        mov     r9, #0
        strd    r6, r7, [r0, #248]
        add     r10, r0, #256
        strd    r8, r9, [r10]
        str     lr, [r0, #112]
        str     r4, [r0]
        str     r5, [r0, #8]
        str     r3, [r0, #4]
        str     r3, [r0, #12]
        str     r3, [r0, #20]
        str     r3, [r0, #28]
        str     r3, [r0, #36]
        str     r3, [r0, #44]
        str     r3, [r0, #52]
        str     r3, [r0, #60]
        str     r3, [r0, #68]
        str     r3, [r0, #76]
        str     r3, [r0, #84]
        str     r3, [r0, #92]
        str     r3, [r0, #100]
        str     r3, [r0, #116]
        mov     r0, r1
        add     sp, sp, #4
        pop     {{r4-r11, pc}}

    .balign 32
    .global vambrace_enter_guest
    .type   vambrace_enter_guest, %function
vambrace_enter_guest:
        push    {{r0, r4-r11, lr}}
        ldr     r1, [r0, #248]
        ldr     r2, [r0, #256]
        msr     elr_hyp, r1
        msr     spsr_cxsf, r2
        // The return does not do it: a guest's `strex` must not succeed by what ran here since its `ldrex`.
        clrex
        ldr     lr, [r0, #112]
        ldr     r12, [r0, #96]
        ldr     r11, [r0, #88]
        ldr     r10, [r0, #80]
        ldr     r9, [r0, #72]
        ldr     r8, [r0, #64]
        ldr     r7, [r0, #56]
        ldr     r6, [r0, #48]
        ldr     r5, [r0, #40]
        ldr     r4, [r0, #32]
        ldr     r3, [r0, #24]
        ldr     r2, [r0, #16]
        ldr     r1, [r0, #8]
        ldr     r0, [r0]
        eret
        // No speculation past the return.
        dsb
        isb
    "#,
    trap = const EXIT_TRAP,
    interrupt = const EXIT_INTERRUPT,
);

// The offsets in the assembly above.
const _: () = assert!(
    offset_of!(GuestRegs, x) == 0 && offset_of!(GuestRegs, pc) == 248 && offset_of!(GuestRegs, pstate) == 256
);

unsafe extern "C" {
    fn vambrace_enter_guest(regs: *mut GuestRegs) -> u32;
    static vambrace_vectors: u8;
}

/// Physical (= virtual) address of the vector table, for HVBAR.
pub(super) fn table() -> u32 {
    &raw const vambrace_vectors as u32
}

/// Runs the loaded guest until its next exception; `regs` holds its registers before and after, of the banked ones
/// only the User mode's LR.
#[inline]
pub(super) fn enter(regs: &mut GuestRegs) -> Exit {
    // SAFETY: the assembly reads and writes only `regs`, which is exclusively borrowed, and this CPU's stack, and
    // keeps the C calling convention. The guest it runs is confined to its stage 2, which maps no memory of the
    // hypervisor (`Memory` and the frame allocator never hand such a frame out). Everything a guest may change while
    // it runs is outside of Rust's memory.
    match unsafe { vambrace_enter_guest(regs) } {
        EXIT_TRAP => Exit::Trap,
        _ => Exit::Interrupt,
    }
}

/// An exception in the hypervisor itself.
// SAFETY: the name is this project's own and defined once; the vectors above call it with this signature.
#[unsafe(no_mangle)]
extern "C" fn vambrace_own_exception(kind: u32, hsr: u32, elr: u32, hdfar: u32, _: u32, sp: u32) -> ! {
    let what = match kind {
        0 => "reset",
        1 => "undefined instruction",
        2 => "hypervisor call",
        3 => "prefetch abort",
        _ => "data abort",
    };
    let hifar = super::sysregs::read32!("hifar");
    panic!(
        "{what} in the hypervisor: HSR {hsr:#x} ELR_hyp {elr:#x} HDFAR {hdfar:#x} HIFAR {hifar:#x} SP {sp:#x}"
    );
}
