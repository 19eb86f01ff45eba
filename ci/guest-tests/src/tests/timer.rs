//! The virtual timer and its interrupt.

use core::arch::asm;

use crate::board::Board;
use crate::gic;
use crate::report::{Report, holds, same};
use crate::start::Entry;

fn count() -> u64 {
    let value: u64;
    // SAFETY: reads the counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value) }
    value
}

fn frequency() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) value) }
    value
}

fn control() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("isb", "mrs {}, cntv_ctl_el0", out(reg) value) }
    value
}

fn set(compare: u64, control: u64) {
    // SAFETY: the timer's only effect is its interrupt, which the handler quiets.
    unsafe { asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb", in(reg) compare, in(reg) control) }
}

/// Turns the timer off.
pub(crate) fn stop() {
    set(0, 2);
}

/// Waits for an interrupt, or returns at once when one is pending, which a hypervisor may do at any time too.
fn wait_for_interrupt() {
    // SAFETY: comes back with the timer at the latest.
    unsafe { asm!("wfi") }
}

pub(crate) fn run(report: &mut Report, board: &Board, entry: &Entry) {
    let intid = board.timer_intid;
    report.test("timer.counter", || {
        holds("a frequency", frequency() != 0, 0)?;
        let (first, second) = (count(), count());
        holds("counts upwards", second >= first, second)?;
        // The guest's clock starts with the guest; ten seconds are for emulators on busy hosts.
        holds("starts near zero", entry.virtual_count < 10 * frequency(), entry.virtual_count)
    });
    if board.gic.is_none() {
        return report.skip("timer.interrupt", "no interrupt controller");
    }
    gic::enable_private(1 << intid);
    report.test("timer.interrupt", || {
        set(count() + frequency() / 1000, 1);
        let taken = gic::wait_acknowledge();
        same("INTID", u64::from(taken.unwrap_or(1023)), u64::from(intid))?;
        same("condition met", control() & 4, 4)?;
        stop();
        gic::end(taken.unwrap_or(intid));
        same("and no more", u64::from(gic::acknowledge().unwrap_or(1023)), 1023)
    });
    report.test("timer.interrupt-repeats", || {
        for _ in 0..10 {
            set(count() + frequency() / 10_000, 1);
            let taken = gic::wait_acknowledge();
            stop();
            same("INTID", u64::from(taken.unwrap_or(1023)), u64::from(intid))?;
            gic::end(taken.unwrap_or(intid));
        }
        Ok(())
    });
    report.test("timer.past-deadline", || {
        set(0, 1);
        let taken = gic::wait_acknowledge();
        stop();
        same("INTID", u64::from(taken.unwrap_or(1023)), u64::from(intid))?;
        gic::end(taken.unwrap_or(intid));
        Ok(())
    });
    if gic::version() == 2 {
        let why =
            "QEMU's GICv2 does not look at its inputs again when a guest deactivates a physical interrupt";
        report.skip("timer.level-stays", why);
    } else {
        report.test_beyond_reference("timer.level-stays", "the timer is masked when it fires", || {
            // Ended without quieting the timer, it is pending again.
            set(0, 1);
            let first = gic::wait_acknowledge();
            gic::end(first.unwrap_or(intid));
            let second = gic::wait_acknowledge();
            stop();
            gic::end(second.unwrap_or(intid));
            same("INTID again", u64::from(second.unwrap_or(1023)), u64::from(intid))
        });
    }
    gic::settle();
    report.test("timer.masked", || {
        set(0, 3);
        same("condition met", control() & 4, 4)?;
        same("nothing raised", u64::from(gic::acknowledge().unwrap_or(1023)), 1023)?;
        stop();
        Ok(())
    });
    report.test("timer.wakes-from-wfi", || {
        let deadline = count() + frequency() / 100;
        set(deadline, 1);
        // A wake without cause is allowed; sleeping past the deadline for good is not.
        while gic::acknowledge().is_none() {
            wait_for_interrupt();
        }
        let late = count().wrapping_sub(deadline);
        stop();
        gic::end(intid);
        holds("not before the deadline", (late as i64) >= 0, late)?;
        // Much, for emulators on busy hosts; a wake that only comes with something else takes for ever.
        holds("within two seconds after", late < 2 * frequency(), late)
    });
    report.test("timer.through-the-vector", || {
        let (before, _) = crate::exception::interrupts();
        set(count() + frequency() / 1000, 1);
        for _ in 0..10_000 {
            crate::hypercall::yield_cpu();
            crate::exception::window();
            if crate::exception::interrupts().0 != before {
                break;
            }
        }
        stop();
        let (after, last) = crate::exception::interrupts();
        same("interrupts taken", u64::from(after - before), 1)?;
        same("INTID", u64::from(last), u64::from(intid))
    });
    let pending = || gic::read(gic::private(0x200)) >> intid & 1;
    gic::disable_private(1 << intid);
    report.test_beyond_reference(
        "timer.pending-readable",
        "pending state of the timer is not in its GIC",
        || {
            set(0, 1);
            let raised = pending();
            stop();
            same("pending while the line is high", u64::from(raised), 1)?;
            same("and not after", u64::from(pending()), 0)
        },
    );
    // A hypervisor that queued it while disabled delivers it once more.
    gic::enable_private(1 << intid);
    gic::settle();
    gic::disable_private(1 << intid);
}
