//! What this guest is told about its CPU.

use core::arch::asm;

use crate::board::Board;
use crate::exception::{UNDEFINED, catch};
use crate::report::{Report, holds, same};

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads an identification register.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value) }
        value
    }};
}

/// Reads each register named; the address of the first that faults is in the outcome.
macro_rules! all_readable {
    ($($register:literal),+ $(,)?) => {{
        let mut count = 0u64;
        $(
            let caught = catch(|| _ = read!($register));
            holds(concat!($register, " reads without an exception"), caught.is_none(), count)?;
            count += 1;
        )+
        holds("all read", count > 0, count)
    }};
}

pub(crate) fn run(report: &mut Report, board: &Board) {
    report.test("idregs.whole-space-readable", || {
        // op0 3, op1 0, CRn 0, CRm 1 to 7: those without a name read as zero (Arm ARM, D22.3.1).
        all_readable!(
            "S3_0_C0_C1_0",
            "S3_0_C0_C1_1",
            "S3_0_C0_C1_2",
            "S3_0_C0_C1_3",
            "S3_0_C0_C1_4",
            "S3_0_C0_C1_5",
            "S3_0_C0_C1_6",
            "S3_0_C0_C1_7",
            "S3_0_C0_C2_0",
            "S3_0_C0_C2_1",
            "S3_0_C0_C2_2",
            "S3_0_C0_C2_3",
            "S3_0_C0_C2_4",
            "S3_0_C0_C2_5",
            "S3_0_C0_C2_6",
            "S3_0_C0_C2_7",
            "S3_0_C0_C3_0",
            "S3_0_C0_C3_1",
            "S3_0_C0_C3_2",
            "S3_0_C0_C3_3",
            "S3_0_C0_C3_4",
            "S3_0_C0_C3_5",
            "S3_0_C0_C3_6",
            "S3_0_C0_C3_7",
            "S3_0_C0_C4_0",
            "S3_0_C0_C4_1",
            "S3_0_C0_C4_2",
            "S3_0_C0_C4_3",
            "S3_0_C0_C4_4",
            "S3_0_C0_C4_5",
            "S3_0_C0_C4_6",
            "S3_0_C0_C4_7",
            "S3_0_C0_C5_0",
            "S3_0_C0_C5_1",
            "S3_0_C0_C5_2",
            "S3_0_C0_C5_3",
            "S3_0_C0_C5_4",
            "S3_0_C0_C5_5",
            "S3_0_C0_C5_6",
            "S3_0_C0_C5_7",
            "S3_0_C0_C6_0",
            "S3_0_C0_C6_1",
            "S3_0_C0_C6_2",
            "S3_0_C0_C6_3",
            "S3_0_C0_C6_4",
            "S3_0_C0_C6_5",
            "S3_0_C0_C6_6",
            "S3_0_C0_C6_7",
            "S3_0_C0_C7_0",
            "S3_0_C0_C7_1",
            "S3_0_C0_C7_2",
            "S3_0_C0_C7_3",
            "S3_0_C0_C7_4",
            "S3_0_C0_C7_5",
            "S3_0_C0_C7_6",
            "S3_0_C0_C7_7",
        )
    });
    report.test("idregs.cpu-identity", || {
        holds("MIDR has an implementer", read!("midr_el1") >> 24 != 0, read!("midr_el1"))?;
        same("MPIDR is the first CPU's", read!("mpidr_el1") & 0xff_00ff_ffff, board.cpus[0])?;
        holds("MPIDR bit 31", read!("mpidr_el1") >> 31 & 1 == 1, read!("mpidr_el1"))
    });
    report.test("idregs.features", || {
        let pfr0 = read!("id_aa64pfr0_el1");
        holds("EL1 is AArch64", pfr0 >> 4 & 15 != 0, pfr0)?;
        let system_registers = u64::from(crate::gic::version() == 3);
        same(
            "GIC system registers as in the device tree",
            u64::from(pfr0 >> 24 & 15 != 0),
            system_registers,
        )?;
        same("no SVE", pfr0 >> 32 & 15, 0)?;
        same("no activity monitors", pfr0 >> 44 & 15, 0)?;
        let mmfr0 = read!("id_aa64mmfr0_el1");
        same("4 KiB pages", mmfr0 >> 28 & 15, 0)
    });
    report.test_beyond_reference("idregs.no-pmu-announced", "announced, and not there", || {
        // Without a virtual PMU, PMUVer is 0 or 0xf (implementation defined).
        let version = read!("id_aa64dfr0_el1") >> 8 & 15;
        holds("PMUVer", version == 0 || version == 15, version)
    });
    report.test("idregs.write-undefined", || {
        // SAFETY: faults, which is the test.
        let caught = catch(|| unsafe { asm!("msr S3_0_C0_C4_0, xzr") });
        same("class", caught.map_or(!0, |c| c.class), UNDEFINED)
    });
}
