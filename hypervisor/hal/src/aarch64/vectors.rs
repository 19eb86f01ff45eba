//! EL2's exception vectors, and the way into a guest and out of it.
//!
//! A guest runs inside of a function call: `enter` saves the hypervisor's callee-saved registers on its stack, loads
//! the guest's registers and `eret`s; the next exception from the guest stores the guest's registers into the same
//! block and returns from that call. So the hypervisor is ordinary code around a loop, and the path costs some sixty
//! instructions both ways.
//!
//! Exceptions from EL2 itself are defects; they print what is known and stop the machine.

use core::arch::global_asm;
use core::mem::offset_of;

use vambrace_core::trap::GuestRegs;

/// What ended a guest's run: a synchronous exception from AArch64 state, of which the syndrome says why. These are
/// numbers and no enum, so that the most frequent one is told by a single comparison.
pub(super) const EXIT_SYNC: u64 = 0;
/// An IRQ or FIQ.
pub(super) const EXIT_INTERRUPT: u64 = 1;
/// An SError.
pub(super) const EXIT_SERROR: u64 = 2;
/// A synchronous exception from AArch32 state.
pub(super) const EXIT_SYNC_AARCH32: u64 = 3;

global_asm!(
    r#"
    .macro guest_exit code
    .balign 128
        stp     x0, x1, [sp, #-16]!
        ldr     x0, [sp, #16]
        stp     x2, x3, [x0, #16]
        stp     x4, x5, [x0, #32]
        stp     x6, x7, [x0, #48]
        stp     x8, x9, [x0, #64]
        stp     x10, x11, [x0, #80]
        mov     x2, #\code
        b       vambrace_guest_exit
    .endm

    .macro own_exception kind
    .balign 128
        mov     x0, #\kind
        mrs     x1, esr_el2
        mrs     x2, elr_el2
        mrs     x3, far_el2
        mov     x4, sp
        // The stack itself may be what is broken.
        adrp    x5, __fault_stack_top
        add     x5, x5, :lo12:__fault_stack_top
        mov     sp, x5
        b       vambrace_own_exception
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global vambrace_vectors
vambrace_vectors:
    own_exception 0
    own_exception 1
    own_exception 1
    own_exception 2
    own_exception 0
    own_exception 1
    own_exception 1
    own_exception 2
    guest_exit {sync}
    guest_exit {interrupt}
    guest_exit {interrupt}
    guest_exit {serror}
    guest_exit {sync_aarch32}
    guest_exit {interrupt}
    guest_exit {interrupt}
    guest_exit {serror}

    .balign 64
vambrace_guest_exit:
        stp     x12, x13, [x0, #96]
        stp     x14, x15, [x0, #112]
        stp     x16, x17, [x0, #128]
        stp     x18, x19, [x0, #144]
        stp     x20, x21, [x0, #160]
        stp     x22, x23, [x0, #176]
        stp     x24, x25, [x0, #192]
        stp     x26, x27, [x0, #208]
        stp     x28, x29, [x0, #224]
        ldp     x3, x4, [sp], #32
        mrs     x5, elr_el2
        mrs     x6, spsr_el2
        stp     x3, x4, [x0]
        stp     x30, x5, [x0, #240]
        str     x6, [x0, #256]
        mov     x0, x2
        ldp     x19, x20, [sp]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        add     sp, sp, #96
        ret

    .balign 64
    .global vambrace_enter_guest
vambrace_enter_guest:
        sub     sp, sp, #112
        str     x0, [sp]
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        stp     x29, x30, [sp, #96]
        ldp     x30, x1, [x0, #240]
        ldr     x2, [x0, #256]
        msr     elr_el2, x1
        msr     spsr_el2, x2
        ldp     x28, x29, [x0, #224]
        ldp     x26, x27, [x0, #208]
        ldp     x24, x25, [x0, #192]
        ldp     x22, x23, [x0, #176]
        ldp     x20, x21, [x0, #160]
        ldp     x18, x19, [x0, #144]
        ldp     x16, x17, [x0, #128]
        ldp     x14, x15, [x0, #112]
        ldp     x12, x13, [x0, #96]
        ldp     x10, x11, [x0, #80]
        ldp     x8, x9, [x0, #64]
        ldp     x6, x7, [x0, #48]
        ldp     x4, x5, [x0, #32]
        ldp     x2, x3, [x0, #16]
        ldp     x0, x1, [x0]
        eret
        // No speculation past the return (straight-line speculation).
        dsb     nsh
        isb
    "#,
    sync = const EXIT_SYNC,
    sync_aarch32 = const EXIT_SYNC_AARCH32,
    interrupt = const EXIT_INTERRUPT,
    serror = const EXIT_SERROR,
);

// The offsets in the assembly above.
const _: () = assert!(
    offset_of!(GuestRegs, x) == 0 && offset_of!(GuestRegs, pc) == 248 && offset_of!(GuestRegs, pstate) == 256
);

unsafe extern "C" {
    fn vambrace_enter_guest(regs: *mut GuestRegs) -> u64;
    static vambrace_vectors: u8;
}

/// Physical (= virtual) address of the vector table, for VBAR_EL2.
pub(crate) fn table() -> u64 {
    (&raw const vambrace_vectors) as u64
}

/// Runs the loaded guest until its next exception, one of `EXIT_*`; `regs` holds its registers before and after.
#[inline]
pub(super) fn enter(regs: &mut GuestRegs) -> u64 {
    // SAFETY: the assembly reads and writes only `regs`, which is exclusively borrowed, and this CPU's stack, and
    // keeps the C calling convention. The guest it runs is confined to its stage 2, which maps no memory of the
    // hypervisor (`Memory` and the frame allocator never hand such a frame out). Everything a guest may change while
    // it runs is outside of Rust's memory.
    unsafe { vambrace_enter_guest(regs) }
}

/// An exception in the hypervisor itself.
// SAFETY: the name is this project's own and defined once; the vectors above call it with this signature.
#[unsafe(no_mangle)]
extern "C" fn vambrace_own_exception(kind: u64, esr: u64, elr: u64, far: u64, sp: u64) -> ! {
    let what = match kind {
        0 => "synchronous exception",
        1 => "interrupt",
        _ => "SError",
    };
    panic!("{what} in the hypervisor: ESR_EL2 {esr:#x} ELR_EL2 {elr:#x} FAR_EL2 {far:#x} SP {sp:#x}");
}
