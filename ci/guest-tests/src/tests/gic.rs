//! The virtual interrupt controller.

use crate::board::Board;
use crate::cpus;
use crate::gic::{self, distributor, private, read, write};
use crate::report::{Report, holds, same};

/// INTID of what is acknowledged next, 1023 for nothing.
fn next() -> u64 {
    u64::from(gic::acknowledge().unwrap_or(1023))
}

pub(crate) fn run(report: &mut Report, board: &Board) {
    let version = gic::version();
    if version == 0 {
        return report.skip("gic", "no interrupt controller");
    }
    report.test("gic.typer", || {
        let typer = read(distributor(4));
        let intids = 32 * (u64::from(typer & 0x1f) + 1);
        holds("has SPIs", (64..=1024).contains(&intids), u64::from(typer))
    });
    report.test("gic.control-reads-back", || {
        let enabled = if version == 3 { 0x12 } else { 1 };
        same("GICD_CTLR", u64::from(read(distributor(0))) & enabled, enabled)
    });
    let mut revision = 0;
    let pidr2 = if version == 3 { 0xffe8 } else { 0xfe8 };
    let read_revision = || {
        let caught = crate::exception::catch(|| revision = read(distributor(pidr2)) >> 4 & 15);
        holds("no abort", caught.is_none(), 0)?;
        same("architecture revision", u64::from(revision), u64::from(version))
    };
    if version == 2 {
        report.test_beyond_reference("gic.icpidr2", "the read aborts", read_revision);
    } else {
        report.test("gic.pidr2", read_revision);
    }
    report.test("gic.enables-read-back", || {
        gic::disable_private(!0);
        gic::enable_private(1 << 5 | 1 << 27);
        same("ISENABLER0", u64::from(read(private(0x100))) & (1 << 5 | 1 << 6 | 1 << 27), 1 << 5 | 1 << 27)?;
        gic::disable_private(1 << 27);
        same("after ICENABLER0", u64::from(read(private(0x180))) & (1 << 5 | 1 << 27), 1 << 5)
    });
    report.test("gic.priorities-read-back", || {
        write(private(0x404), 0x4080_c0a0);
        same("IPRIORITYR1", u64::from(read(private(0x404))) & 0xf8f8_f8f8, 0x4080_c0a0)
    });
    report.test_beyond_reference("gic.sgis-are-edge", "ICFGR0 reads 0", || {
        same("ICFGR0", u64::from(read(private(0xc00))), 0xaaaa_aaaa)
    });
    if version == 2 {
        report.test("gic.own-target", || {
            let targets = u64::from(read(distributor(0x800)));
            holds("one and the same bit", targets & 0xff == 1 && targets == 0x0101_0101, targets)
        });
    } else {
        report.test("gic.redistributor-identity", || {
            let affinity = u64::from(read(gic::redistributor(0xc)));
            let mpidr = board.cpus[0];
            same("TYPER affinity", affinity, mpidr >> 32 << 24 | mpidr & 0xff_ffff)?;
            same("awake", u64::from(read(gic::redistributor(0x14))) & 6, 0)
        });
    }
    report.test("gic.sgi-to-self", || {
        gic::enable_private(0xffff);
        gic::send_sgi(5, 1);
        let taken = u64::from(gic::wait_acknowledge().unwrap_or(1023));
        same("INTID and source", taken, 5)?;
        gic::end(5);
        same("once", next(), 1023)
    });
    report.test("gic.disabled-sgi-waits", || {
        gic::disable_private(1 << 6);
        gic::send_sgi(6, 1);
        same("nothing while disabled", next(), 1023)?;
        gic::enable_private(1 << 6);
        let taken = gic::wait_acknowledge();
        gic::end(6);
        same("taken when enabled", u64::from(taken.unwrap_or(1023)), 6)
    });
    report.test_beyond_reference(
        "gic.pending-and-active-readable",
        "state in list registers is not read",
        || {
            gic::disable_private(1 << 6);
            gic::send_sgi(6, 1);
            let disabled = read(private(0x200)) >> 6 & 1;
            gic::enable_private(1 << 6);
            gic::settle();
            same("pending while disabled", u64::from(disabled), 1)?;
            gic::send_sgi(7, 1);
            same("pending", u64::from(read(private(0x200))) >> 7 & 1, 1)?;
            same("not active", u64::from(read(private(0x300))) >> 7 & 1, 0)?;
            let taken = gic::wait_acknowledge();
            let (pending, active) = (read(private(0x200)) >> 7 & 1, read(private(0x300)) >> 7 & 1);
            gic::end(7);
            same("taken", u64::from(taken.unwrap_or(1023)), 7)?;
            same("active", u64::from(active), 1)?;
            same("pending no more", u64::from(pending), 0)?;
            same("inactive in the end", u64::from(read(private(0x300))) >> 7 & 1, 0)
        },
    );
    // Whatever the last test found: nothing is left over.
    gic::settle();
    gic::enable_private(0xffff);
    report.test("gic.priority-order", || {
        // SGI 9 at 0xc0 is sent before SGI 8 at 0x40.
        write(private(0x408), 0xa0a0_c040);
        gic::send_sgi(9, 1);
        gic::send_sgi(8, 1);
        let first = gic::wait_acknowledge();
        gic::end(first.unwrap_or(8));
        let second = gic::wait_acknowledge();
        gic::end(second.unwrap_or(9));
        same("first", u64::from(first.unwrap_or(1023)), 8)?;
        same("second", u64::from(second.unwrap_or(1023)), 9)
    });
    report.test("gic.preemption", || {
        // While 9 is active, 8 is more urgent and taken; then 10, which is not, waits.
        write(private(0x408), 0xa0e0_c040);
        gic::send_sgi(9, 1);
        let low = gic::wait_acknowledge();
        gic::send_sgi(10, 1);
        gic::send_sgi(8, 1);
        let high = gic::wait_acknowledge();
        let held_back = next();
        gic::end(high.unwrap_or(8));
        gic::end(low.unwrap_or(9));
        let last = gic::wait_acknowledge();
        gic::end(last.unwrap_or(10));
        same("low", u64::from(low.unwrap_or(1023)), 9)?;
        same("high", u64::from(high.unwrap_or(1023)), 8)?;
        same("held back", held_back, 1023)?;
        same("last", u64::from(last.unwrap_or(1023)), 10)
    });
    report.test("gic.more-than-list-registers", || {
        // All sixteen SGIs at once; GICs have four list registers as a rule.
        for word in 0..4 {
            write(private(0x400 + 4 * word), 0xa0a0_a0a0);
        }
        for intid in 0..16 {
            gic::send_sgi(intid, 1);
        }
        let mut seen = 0u64;
        for _ in 0..16 {
            let Some(taken) = gic::wait_acknowledge() else { break };
            seen |= 1 << (taken & 15);
            gic::end(taken);
        }
        same("each seen", seen, 0xffff)?;
        same("and no more", next(), 1023)
    });
    report.test_beyond_reference("gic.set-pending", "writes to ISPENDR are refused", || {
        let (set, clear) = if version == 3 { (0x200, 0x280) } else { (0xf20, 0xf10) };
        let (word, bit) = if version == 3 { (0, 1 << 11) } else { (8, 1 << 24) };
        let caught = crate::exception::catch(|| write(private(set + word), bit));
        holds("no abort", caught.is_none(), 0)?;
        let taken = gic::wait_acknowledge();
        gic::end(taken.unwrap_or(11));
        same("taken", u64::from(taken.unwrap_or(1023)), 11)?;
        gic::disable_private(1 << 11);
        write(private(set + word), bit);
        write(private(clear + word), bit);
        gic::enable_private(1 << 11);
        same("taken back", next(), 1023)
    });
    report.test_beyond_reference("gic.clear-active", "ICACTIVER writes are refused", || {
        gic::send_sgi(12, 1);
        let taken = gic::wait_acknowledge();
        let caught = crate::exception::catch(|| write(private(0x380), 1 << 12));
        gic::end(taken.unwrap_or(12));
        holds("no abort", caught.is_none(), 0)?;
        same("inactive", u64::from(read(private(0x300))) >> 12 & 1, 0)
    });
    gic::settle();
    report.test("gic.priority-mask", || {
        if version == 2 {
            write(gic::cpu_interface(4), 0x80);
            gic::send_sgi(3, 1);
            let masked = next();
            write(gic::cpu_interface(4), 0xff);
            let taken = gic::wait_acknowledge();
            gic::end(taken.unwrap_or(3));
            same("held back", masked, 1023)?;
            same("taken", u64::from(taken.unwrap_or(1023)), 3)?;
        }
        Ok(())
    });
    report.test("gic.through-the-vector", || {
        let (before, _) = crate::exception::interrupts();
        gic::send_sgi(4, 1);
        (0..100).for_each(|_| crate::exception::window());
        let (after, last) = crate::exception::interrupts();
        same("interrupts taken", u64::from(after - before), 1)?;
        same("INTID", u64::from(last), 4)
    });
    if board.cpu_count < 2 {
        report.skip("gic.sgi-between-cpus", "one CPU");
    } else {
        between_cpus(report, board);
    }
    gic::disable_private(!0);
    gic::settle();
}

/// Work for another CPU: its interface on.
fn init_there(_: u64) -> u64 {
    gic::init_interface();
    0
}

/// Work for another CPU: SGI 2 to the first.
fn send_two(_: u64) -> u64 {
    gic::send_sgi(2, 1);
    0
}

fn between_cpus(report: &mut Report, board: &Board) {
    if cpus::start(1, board.cpus[1]) != Some(0) {
        return report.test("gic.sgi-between-cpus", || holds("CPU 1 starts", false, 0));
    }
    cpus::run(1, init_there, 0);
    report.test("gic.sgi-from-another-cpu", || {
        cpus::run(1, send_two, 0);
        let taken = gic::wait_acknowledge();
        gic::end(taken.unwrap_or(2));
        same("INTID", u64::from(taken.unwrap_or(1023) & 0x3ff), 2)
    });
    if gic::version() == 2 {
        report.test_beyond_reference("gic.sgi-source", "the source CPU is never given", || {
            cpus::run(1, send_two, 0);
            let taken = gic::wait_acknowledge();
            gic::end(taken.unwrap_or(2));
            same("INTID and source", u64::from(taken.unwrap_or(1023)), 1 << 10 | 2)
        });
        report.test_beyond_reference("gic.sgi-two-sources", "the source CPU is never given", || {
            gic::disable_private(1 << 2);
            cpus::run(1, send_two, 0);
            gic::send_sgi(2, 1);
            gic::enable_private(1 << 2);
            let first = gic::wait_acknowledge();
            gic::end(first.unwrap_or(2));
            let second = gic::wait_acknowledge();
            gic::end(second.unwrap_or(2));
            let (first, second) = (first.unwrap_or(1023), second.unwrap_or(1023));
            same(
                "one from each",
                u64::from(first.min(second)) << 16 | u64::from(first.max(second)),
                2 << 16 | 0x402,
            )
        });
        report.test("gic.sgi-to-another-cpu", || {
            cpus::begin(
                1,
                |_| {
                    gic::enable_private(1 << 3);
                    let taken = gic::wait_acknowledge();
                    gic::end(taken.unwrap_or(3));
                    u64::from(taken.unwrap_or(1023) & 0x3ff)
                },
                0,
            );
            gic::send_sgi(3, 2);
            same("INTID there", cpus::finish(1).unwrap_or(!0), 3)?;
            same("nothing here", next(), 1023)
        });
    }
    report.test("gic.cpu-1-goes-off", || holds("off", cpus::stop(1, board.cpus[1]), 0));
}
