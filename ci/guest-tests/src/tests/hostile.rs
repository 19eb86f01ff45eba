//! What a broken or malicious kernel does: each ends in an exception of its own, and the hypervisor goes on.

use core::arch::asm;

use crate::board::{Board, GicAddresses};
use crate::exception::{DATA_ABORT, INSTRUCTION_ABORT, UNDEFINED, catch};
use crate::gic::{read, write};
use crate::hypercall::{call, number};
use crate::report::{Outcome, Report, holds, result, same};
use crate::start::{READ_ONLY_WINDOW, WILD};

/// Runs one instruction that may fault, with x9 an address.
macro_rules! with_x9 {
    ($address:expr, $($line:literal),+) => {
        // SAFETY: the instruction faults, or touches device space or the shared scratch that its test names.
        unsafe { asm!($($line,)+ in("x9") $address, out("x0") _, out("x1") _, out("x2") _, out("x3") _) }
    };
}

/// A data abort at `address`.
fn aborts(address: u64, provoke: impl FnOnce()) -> Outcome {
    let Some(caught) = catch(provoke) else { return holds("an abort", false, 0) };
    same("class", caught.class, DATA_ABORT)?;
    same("address", caught.address, address)
}

/// Whatever it does to this guest, the hypervisor still answers.
fn survives(provoke: impl FnOnce()) -> Outcome {
    catch(provoke);
    result("version", call(number::XEN_VERSION, [0; 5]) >> 16, 4)
}

pub(crate) fn run(report: &mut Report, board: &Board) {
    report.test("hostile.wild-read", || aborts(WILD, || _ = read(WILD)));
    report.test("hostile.wild-write", || aborts(WILD + 8, || write(WILD + 8, 1)));
    report.test_beyond_reference("hostile.wild-read-status", "the fault status is 0", || {
        // A synchronous external abort, as from a bus with nobody there.
        let caught = catch(|| _ = read(WILD));
        same("fault status", caught.map_or(0, |c| c.syndrome & 0x3f), 0x10)
    });
    report.test("hostile.wild-read-64", || aborts(WILD, || with_x9!(WILD, "ldr x0, [x9]")));
    report.test("hostile.wild-byte", || aborts(WILD + 3, || with_x9!(WILD + 3, "strb w0, [x9]")));
    report.test("hostile.wild-pair", || aborts(WILD, || with_x9!(WILD, "ldp x0, x1, [x9]")));
    report
        .test("hostile.wild-writeback", || aborts(WILD, || with_x9!(WILD, "mov x3, x9", "ldr x0, [x3], #8")));
    report.test("hostile.wild-exclusive", || aborts(WILD, || with_x9!(WILD, "ldxr x0, [x9]")));
    report.test("hostile.wild-jump", || {
        let caught = catch(|| {
            // SAFETY: the jump faults, and the handler comes back by the link register.
            unsafe { asm!("blr x9", in("x9") WILD, out("x30") _) }
        });
        // Stage 1 has it as a device that may not be executed: the guest's own permission fault.
        same("class", caught.map_or(0, |c| c.class), INSTRUCTION_ABORT)
    });
    report.test("hostile.read-only", || {
        let address = READ_ONLY_WINDOW | crate::start::image().0 & 0x3fff_ffff;
        let Some(caught) = catch(|| write(address, 1)) else { return holds("an abort", false, 0) };
        same("the guest's own permission fault", caught.syndrome & 0x3f, 0x0d)
    });
    report.test("hostile.hvc-immediate", || survives(|| with_x9!(0u64, "hvc #0x1234")));
    report.test("hostile.smc-immediate", || survives(|| with_x9!(0u64, "smc #0x1234")));
    report.test("hostile.el2-register", || {
        let caught = catch(|| with_x9!(0u64, "mrs x0, hcr_el2"));
        same("class", caught.map_or(!0, |c| c.class), UNDEFINED)
    });
    report.test("hostile.set-way", || survives(|| with_x9!(0u64, "dc cisw, x9")));
    report.test("hostile.debug-registers", || {
        survives(|| with_x9!(0u64, "msr oslar_el1, x9"))?;
        survives(|| with_x9!(!0u64, "msr S2_0_C0_C0_5, x9"))?; // DBGBCR0_EL1
        survives(|| with_x9!(0u64, "msr S2_0_C0_C0_5, x9"))?;
        survives(|| with_x9!(0u64, "mrs x0, mdscr_el1"))
    });
    report.test("hostile.pmu-registers", || {
        survives(|| with_x9!(!0u64, "msr S3_3_C9_C12_0, x9"))?; // PMCR_EL0
        survives(|| with_x9!(!0u64, "mrs x0, S3_3_C9_C12_0"))?;
        survives(|| with_x9!(!0u64, "msr S3_3_C14_C15_7, x9")) // PMCCFILTR_EL0
    });
    report.test("hostile.implementation-registers", || {
        survives(|| with_x9!(0u64, "mrs x0, actlr_el1"))?;
        survives(|| with_x9!(!0u64, "msr actlr_el1, x9"))?;
        survives(|| with_x9!(0u64, "mrs x0, S3_1_C15_C2_0"))?;
        survives(|| with_x9!(0u64, "mrs x0, S3_0_C15_C0_0"))
    });
    report.test("hostile.stray-sysreg", || {
        survives(|| with_x9!(0u64, "mrs x0, S3_3_C14_C2_1"))?; // CNTP_CTL_EL0
        survives(|| with_x9!(0u64, "mrs x0, S3_0_C12_C12_0"))?; // ICC_IAR1_EL1, whatever the controller
        survives(|| with_x9!(!0u64, "msr S3_0_C12_C11_5, x9"))?; // ICC_SGI1R_EL1 to everybody
        survives(|| with_x9!(0u64, "mrs x0, S3_4_C12_C11_1")) // ICH_VTR_EL2
    });
    let Some(gic) = board.gic else { return report.skip("hostile.gic", "no interrupt controller") };
    let (GicAddresses::V2 { distributor, .. } | GicAddresses::V3 { distributor, .. }) = gic;
    report.test("hostile.gic-odd-accesses", || {
        survives(|| with_x9!(distributor, "ldr x0, [x9]"))?;
        survives(|| with_x9!(distributor, "ldp w0, w1, [x9]"))?;
        survives(|| with_x9!(distributor, "strb w0, [x9, #1]"))?;
        survives(|| with_x9!(distributor, "strh w0, [x9, #0x102]"))?;
        survives(|| with_x9!(distributor, "mov x3, x9", "ldr w0, [x3], #4"))?;
        survives(|| with_x9!(distributor, "ldxr w0, [x9]"))?;
        survives(|| with_x9!(distributor, "dc zva, x9"))
    });
    report.test("hostile.gic-every-register", || {
        // Not what answers matters, but that each does or aborts. 0x080.. are the groups, 0xf00 the SGI generator.
        let size = if crate::gic::version() == 3 { 0x1_0000 } else { 0x1000 };
        for offset in (0..size).step_by(4) {
            catch(|| _ = read(distributor + offset));
        }
        for offset in
            (0..size).step_by(4).filter(|offset| !(0x100..0x180).contains(offset) && *offset != 0xf00)
        {
            catch(|| write(distributor + offset, !0));
        }
        survives(|| {})
    });
    if let GicAddresses::V3 { redistributors, size, .. } = gic {
        report.test("hostile.redistributor-every-register", || {
            for offset in (0..size.min(0x4_0000)).step_by(4).filter(|o| o & 0x1_ff80 != 0x1_0100) {
                catch(|| _ = read(redistributors + offset));
                catch(|| write(redistributors + offset, !0));
            }
            survives(|| {})
        });
    }
    crate::gic::init(gic, board.timer_intid, board.event_intid);
}
