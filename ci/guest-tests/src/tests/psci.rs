//! Power states by PSCI (Arm DEN 0022), and the calling convention's own questions (DEN 0028).

use core::arch::asm;

use crate::board::Board;
use crate::cpus::{self, psci};
use crate::hypercall::smccc;
use crate::report::{Report, holds, result, same};

pub(crate) fn run(report: &mut Report, board: &Board) {
    report.test("psci.version", || {
        let version = smccc(psci::VERSION, [0; 3]);
        holds("1.0 or later", (0x1_0000..0x1_0010).contains(&version), version as u64)
    });
    report.test("psci.by-smc", || {
        let version: i64;
        // SAFETY: PSCI_VERSION changes nothing but its result registers.
        unsafe {
            asm!("smc #0", inout("x0") psci::VERSION as i64 => version, out("x1") _, out("x2") _, out("x3") _)
        }
        result("the same version", version, smccc(psci::VERSION, [0; 3]))
    });
    report.test("psci.features", || {
        for function in
            [psci::CPU_ON_64, 0x8400_0003, psci::CPU_OFF, psci::AFFINITY_INFO_64, psci::SYSTEM_OFF]
        {
            result("known", smccc(psci::FEATURES, [function, 0, 0]), 0)?;
        }
        result("unknown", smccc(psci::FEATURES, [0x8400_001f, 0, 0]), psci::NOT_SUPPORTED)
    });
    report.test("psci.unknown", || result("", smccc(0x8400_001f, [0; 3]), psci::NOT_SUPPORTED));
    report.test("psci.migrate-info", || result("no trusted OS", smccc(psci::MIGRATE_INFO_TYPE, [0; 3]), 2));
    report.test("smccc.version", || {
        let version = smccc(0x8000_0000, [0; 3]);
        holds("1.1 or later", version >= 0x1_0001, version as u64)
    });
    report.test("smccc.unknown", || {
        result("fast, standard", smccc(0xc400_ffff, [0; 3]), -1)?;
        result("vendor", smccc(0xc600_1234, [0; 3]), -1)?;
        result("yielding", smccc(0x0200_0001, [0; 3]), -1)
    });
    report.test("psci.affinity-info", || {
        result("this CPU is on", smccc(psci::AFFINITY_INFO_64, [board.cpus[0], 0, 0]), 0)?;
        for &mpidr in &board.cpus[1..board.cpu_count.max(1)] {
            result("the others are off", smccc(psci::AFFINITY_INFO_64, [mpidr, 0, 0]), 1)?;
        }
        Ok(())
    });
    report.test_beyond_reference("psci.affinity-info.bad", "a CPU that there is not is off", || {
        result("no such CPU", smccc(psci::AFFINITY_INFO_64, [0xff_00ff_ffff, 0, 0]), psci::INVALID_PARAMETERS)
    });
    report.test("psci.cpu-on.bad", || {
        let entry = crate::start::secondary_entry as *const () as u64;
        let on = |mpidr| smccc(psci::CPU_ON_64, [mpidr, entry, 0]);
        result("no such CPU", on(0xff_00ff_ffff), psci::INVALID_PARAMETERS)?;
        result("this CPU", on(board.cpus[0]), psci::ALREADY_ON)
    });
    if board.cpu_count < 2 {
        return report.skip("psci.cpu-on", "one CPU");
    }
    for round in 0..2 {
        for cpu in 1..board.cpu_count {
            let mpidr = board.cpus[cpu];
            report.test(if round == 0 { "psci.cpu-on" } else { "psci.cpu-on-again" }, || {
                result("call", cpus::start(cpu, mpidr).unwrap_or(i64::MIN), 0)?;
                same("its MPIDR", cpus::run(cpu, own_mpidr, 0).unwrap_or(!0), mpidr)?;
                result("is on", smccc(psci::AFFINITY_INFO_64, [mpidr, 0, 0]), 0)?;
                let entry = crate::start::secondary_entry as *const () as u64;
                result("on twice", smccc(psci::CPU_ON_64, [mpidr, entry, 0]), psci::ALREADY_ON)
            });
        }
        for cpu in 1..board.cpu_count {
            report.test("psci.cpu-off", || {
                holds("AFFINITY_INFO says off", cpus::stop(cpu, board.cpus[cpu]), 0)
            });
        }
    }
}

/// Work for another CPU.
fn own_mpidr(_: u64) -> u64 {
    let mpidr: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr) }
    mpidr & 0xff_00ff_ffff
}
