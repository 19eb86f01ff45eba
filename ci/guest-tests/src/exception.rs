//! Exceptions that this kernel takes: the ones a test provokes and wants to see, interrupts, and surprises.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::report::line;
use crate::{gic, power_off};

/// Registers as the vector saved them.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
}

/// A synchronous exception that a test provoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caught {
    /// ESR_EL1.EC, bits 31:26.
    pub class: u64,
    /// ESR_EL1.ISS, bits 24:0.
    pub syndrome: u64,
    /// FAR_EL1 (virtual).
    pub address: u64,
}

/// ESR class: an instruction that EL1 may not execute.
pub const UNDEFINED: u64 = 0x00;
/// ESR class: a data abort of EL1 itself.
pub const DATA_ABORT: u64 = 0x25;

/// ESR class: an instruction abort of EL1 itself.
pub const INSTRUCTION_ABORT: u64 = 0x21;

/// 0 off, 1 expecting, 2 caught.
static EXPECTING: AtomicU32 = AtomicU32::new(0);
static CAUGHT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
static LAST_INTERRUPT: AtomicU32 = AtomicU32::new(0);

/// Runs `provoke`, of which at most one instruction faults; that one is skipped. On the first CPU only.
pub fn catch(provoke: impl FnOnce()) -> Option<Caught> {
    EXPECTING.store(1, Ordering::SeqCst);
    provoke();
    let caught = EXPECTING.swap(0, Ordering::SeqCst) == 2;
    let esr = CAUGHT[0].load(Ordering::SeqCst);
    let address = CAUGHT[1].load(Ordering::SeqCst);
    caught.then_some(Caught { class: esr >> 26 & 0x3f, syndrome: esr & 0x1ff_ffff, address })
}

/// Number of interrupts taken through the vector, and the acknowledge register's value of the last.
pub fn interrupts() -> (u32, u32) {
    (INTERRUPTS.load(Ordering::SeqCst), LAST_INTERRUPT.load(Ordering::SeqCst))
}

/// Lets interrupts through for a moment in which any pending one is taken.
pub fn window() {
    // SAFETY: the vectors are set; the handler leaves nothing behind but the counters above.
    unsafe { asm!("msr daifclr, #2", "isb", "nop", "nop", "msr daifset, #2", "isb") }
}

#[unsafe(no_mangle)]
extern "C" fn exception(frame: &mut Frame, kind: u64) {
    match kind & 3 {
        0 if EXPECTING.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).is_ok() => {
            let (esr, far): (u64, u64);
            // SAFETY: reads what this exception left.
            unsafe { asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) esr, out(reg) far) }
            CAUGHT[0].store(esr, Ordering::SeqCst);
            CAUGHT[1].store(far, Ordering::SeqCst);
            // A jump that faults comes back to where it was called from.
            frame.elr = if esr >> 26 & 0x3f == INSTRUCTION_ABORT { frame.x[30] } else { frame.elr + 4 };
        }
        1 => {
            if let Some(taken) = gic::acknowledge() {
                INTERRUPTS.fetch_add(1, Ordering::SeqCst);
                LAST_INTERRUPT.store(taken, Ordering::SeqCst);
                gic::quiet(taken);
                gic::end(taken);
            }
        }
        _ => {
            let (esr, far): (u64, u64);
            // SAFETY: reads what this exception left.
            unsafe { asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) esr, out(reg) far) }
            let (elr, (start, _)) = (frame.elr, crate::start::image());
            line!(
                "TEST exception FAIL vector {kind} esr {esr:#x} far {far:#x} elr {elr:#x} (image+{:#x}) x0 {:#x}",
                elr.wrapping_sub(start),
                frame.x[0]
            );
            line!("TESTS done 0 ok 1 failed");
            power_off();
        }
    }
}
