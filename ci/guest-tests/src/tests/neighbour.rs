//! Two guests that the hypervisor connected before it started them: memory that both have, an event channel between
//! them. Each fills its half of the memory and sends, waits for the other's event, and reads the other's half.

use core::arch::asm;
use core::sync::atomic::{Ordering, fence};

use super::events::{self, status};
use crate::board::{Board, number};
use crate::exception::catch;
use crate::gic;
use crate::hypercall::errno::EPERM;
use crate::hypercall::number::XEN_VERSION;
use crate::hypercall::{call, operation};
use crate::report::{Outcome, Report, holds, result, same};

/// Seconds that the other has, on the slowest machine.
const PATIENCE: u64 = 60;
/// evtchn_status_interdomain.status (event_channel.h).
const INTERDOMAIN: u32 = 2;

/// Half of the shared memory, in words of 64 bits.
#[derive(Clone, Copy)]
struct Half {
    base: u64,
    words: u64,
    /// Tells one half's content from the other's.
    seed: u64,
}

impl Half {
    fn expected(self, word: u64) -> u64 {
        (self.seed + word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn fill(self) {
        for word in 0..self.words {
            // SAFETY: memory that the device tree gives to this guest, apart from its RAM; no Rust object lies there.
            unsafe { ((self.base + 8 * word) as *mut u64).write_volatile(self.expected(word)) }
        }
    }

    fn check(self) -> Outcome {
        for word in 0..self.words {
            // SAFETY: as above.
            let got = unsafe { ((self.base + 8 * word) as *const u64).read_volatile() };
            same("a word of a half", got, self.expected(word))?;
        }
        Ok(())
    }
}

fn wait_for(port: u32) -> Outcome {
    let now = || {
        let count: u64;
        // SAFETY: reads a register.
        unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) count) }
        crate::nanoseconds(count) / 1_000_000_000
    };
    let end = now() + PATIENCE;
    while !events::is_pending(port) {
        holds("the other's event came in time", now() < end, now())?;
    }
    Ok(())
}

/// `port=<number>` on the command line is this guest's end, `half=<0 or 1>` which half of the memory it fills.
pub(crate) fn run(report: &mut Report, board: &Board) {
    let given = |key| board.argument(key).and_then(number);
    let (Some(port), Some(own @ 0..=1)) =
        (given("port").and_then(|port| u32::try_from(port).ok()), given("half"))
    else {
        return report.test("neighbour.arguments", || holds("port= and half= are there", false, 0));
    };
    let Some((base, size)) = board.shared_memory else {
        return report.test("neighbour.shared-memory", || holds("is in the device tree", false, 0));
    };
    let half =
        |which: u64| Half { base: base + which * (size / 2), words: size / 16, seed: 1 + which * 0x1_0000 };
    report.test("neighbour.channel", || {
        result("shared_info", events::share(), 0)?;
        let [state, vcpu] = status(port).unwrap_or([!0; 2]);
        same("its state", u64::from(state), u64::from(INTERDOMAIN))?;
        same("its vCPU", u64::from(vcpu), 0)
    });
    report.test("neighbour.exchange", || {
        half(own).fill();
        fence(Ordering::SeqCst);
        result("send", events::send(port), 0)?;
        wait_for(port)?;
        fence(Ordering::SeqCst);
        half(1 - own).check()?;
        half(own).check()
    });
    report.test("neighbour.no-privileges", || {
        let mut line = [0xffu8; 1024];
        result("command line", operation(XEN_VERSION, 9, &mut line), 0)?;
        holds("is denied", line.starts_with(b"<denied>\0"), 0)?;
        for command in [10, 14] {
            result(
                "build ID, command line in the new form",
                call(XEN_VERSION, [command, 0, 0, 0, 0]),
                EPERM,
            )?;
        }
        Ok(())
    });
    report.test("neighbour.memory-ends", || {
        holds("the page behind it aborts", catch(|| _ = gic::read(base + size)).is_some(), base + size)
    });
}
