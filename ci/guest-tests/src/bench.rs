//! What round trips cost, in instructions.
//!
//! Meant for one CPU under `qemu -icount shift=0`, where an instruction is a virtual nanosecond. The counter ticks more
//! slowly than that (62.5 MHz on QEMU's boards), so each call is made 4096 times and the time divided; the loop's own
//! few instructions are included. The least of four runs counts: the others met a timer of the hypervisor's.

use core::arch::asm;

use crate::board::{self, Board, GicAddresses};
use crate::report::line;
use crate::{gic, hypercall, nanoseconds};

const ROUNDS: u64 = 4096;
const RUNS: usize = 4;

/// Counts a loop of the given instructions, which may change x0 to x17 and find the extra operands there.
macro_rules! count {
    ($name:literal, [$($line:literal),+] $(, $value:expr => $register:tt)*) => {{
        let mut least = u64::MAX;
        for _ in 0..RUNS {
            let (start, end): (u64, u64);
            // SAFETY: the instructions are calls into the hypervisor, or device reads, whose arguments are constants or
            // buffers that live to the end of the run; everything they change is declared.
            unsafe {
                asm!(
                    "isb", "mrs {start}, cntvct_el0",
                    "2:", $($line,)+ "subs {rounds}, {rounds}, #1", "b.ne 2b",
                    "isb", "mrs {end}, cntvct_el0",
                    start = out(reg) start, end = out(reg) end, rounds = inout(reg) ROUNDS => _,
                    $(in($register) $value,)*
                    out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
                    out("x7") _, out("x8") _, out("x16") _, out("x17") _,
                );
            }
            least = least.min(nanoseconds(end - start));
        }
        line!("BENCH {} {}", $name, (least + ROUNDS / 2) / ROUNDS);
    }};
}

/// Runs all benchmarks.
pub(crate) fn run(board: &Board) {
    count!("loop", ["nop"]);
    count!("xen_version", ["mov x16, #17", "mov x0, #0", "mov x1, #0", "hvc #0xEA1"]);
    count!("unknown_hypercall", ["mov x16, #60", "hvc #0xEA1"]);
    count!("psci_version", ["mov x0, #0x84000000", "hvc #0"]);
    // ID_AA64ISAR0_EL1, which HCR_EL2.TID3 traps.
    count!("id_register", ["mrs x0, id_aa64isar0_el1"]);
    // XENVER_get_features with submap 0: eight bytes in and out.
    let mut features = [0u32; 2];
    count!("get_features", ["mov x16, #17", "mov x0, #6", "mov x1, x9", "hvc #0xEA1"],
        &raw mut features as u64 => "x9");
    count!("yield", ["mov x16, #29", "mov x0, #0", "mov x1, #0", "hvc #0xEA1"]);
    if let Some(GicAddresses::V2 { distributor, .. } | GicAddresses::V3 { distributor, .. }) = board.gic {
        count!("vdist_read", ["ldr w0, [x9, #4]"], distributor => "x9");
    }
    if let Some(uart) = board.argument("uart").and_then(board::number) {
        // UARTFR. Where the hypervisor models no UART for us, reading it aborts, and there is nothing to count.
        if crate::exception::catch(|| _ = gic::read(uart + 0x18)).is_none() {
            count!("vpl011_read", ["ldr w0, [x9, #0x18]"], uart => "x9");
        } else {
            line!("BENCH vpl011_read none");
        }
    }
    if let Some(port) = bind_ipi() {
        let mut argument = port;
        count!("event_send_pending", ["mov x16, #32", "mov x0, #4", "mov x1, x9", "hvc #0xEA1"],
            &raw mut argument as u64 => "x9");
    }
}

/// A port of this vCPU's own that stays masked or pending: what a send costs when nobody is woken.
fn bind_ipi() -> Option<u32> {
    const BIND_IPI: u64 = 7;
    let mut argument = [0u32; 2];
    let result = hypercall::operation(hypercall::number::EVENT_CHANNEL_OP, BIND_IPI, &mut argument);
    (result == 0).then_some(argument[1])
}
