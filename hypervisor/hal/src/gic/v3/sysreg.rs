//! The CPU interface of the host and the control of the virtual one, in system registers, by encoding: not every
//! assembler knows their names without being told of the extension.

use core::arch::asm;

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads a GIC system register, which touches no memory of ours. That EL2 may is seen in `enable`
        // before any other is read.
        unsafe { asm!(concat!("mrs {value}, ", $register), value = out(reg) value, options(nostack)) }
        value
    }};
}
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: writes a GIC system register, which touches no memory of ours: interrupts come or do not.
        unsafe { asm!(concat!("msr ", $register, ", {value}"), value = in(reg) value, options(nostack)) }
    }};
}
/// `read!` or `write!` of register `index` of a family, 0 or nothing beyond it.
macro_rules! family {
    ($name:ident, $set:ident, $what:literal, $($index:literal => $register:literal),+) => {
        #[doc = concat!("Reads ", $what, ".")]
        pub(super) fn $name(index: usize) -> u64 {
            match index { $($index => read!($register),)+ _ => 0 }
        }
        #[doc = concat!("Writes ", $what, ".")]
        pub(super) fn $set(index: usize, value: u64) {
            match index { $($index => write!($register, value),)+ _ => {} }
        }
    };
}

fn isb() {
    // SAFETY: synchronises the instruction stream, no more.
    unsafe { asm!("isb", options(nostack, preserves_flags)) }
}

pub(super) fn mpidr() -> u64 {
    read!("mpidr_el1")
}

/// Turns the system-register interface on for EL2 and EL1. False where there is none, or firmware keeps it.
pub(super) fn enable() -> bool {
    // ID_AA64PFR0_EL1.GIC: without it the registers below are undefined.
    if read!("id_aa64pfr0_el1") >> 24 & 15 == 0 {
        return false;
    }
    // ICC_SRE_EL2: SRE, DFB, DIB, Enable (EL1 may use its own SRE register).
    write!("S3_4_C12_C9_5", 0xf);
    isb();
    if read!("S3_4_C12_C9_5") & 1 == 0 {
        return false;
    }
    reset_guest_interface();
    true
}

/// ICC_SRE_EL1 with system registers on, no bypass.
pub(super) fn reset_guest_interface() {
    write!("S3_0_C12_C12_5", 7);
    isb();
}

/// Sets up this CPU's interface: any priority passes, no preemption, EOI drops only the priority, group 1 on.
pub(super) fn init_cpu_interface() {
    const CTLR_EOI_MODE: u64 = 1 << 1;
    write!("S3_0_C12_C12_7", 0); // ICC_IGRPEN1_EL1
    write!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1
    write!("S3_0_C12_C12_3", 7); // ICC_BPR1_EL1
    write!("S3_0_C12_C12_4", CTLR_EOI_MODE); // ICC_CTLR_EL1
    // An interrupt that firmware took and never ended would keep others out for good: ICC_AP1R0_EL1.
    write!("S3_0_C12_C9_0", 0);
    isb();
    write!("S3_0_C12_C12_7", 1);
    isb();
}

pub(super) fn acknowledge() -> u32 {
    let intid = read!("S3_0_C12_C12_0") as u32 & 0xff_ffff; // ICC_IAR1_EL1
    // The acknowledgement must reach the distributor before the device is touched (IHI 0069, 4.1.1).
    crate::mmio::barrier();
    intid
}

pub(super) fn end(intid: u32) {
    write!("S3_0_C12_C12_1", u64::from(intid)); // ICC_EOIR1_EL1
    isb();
}

pub(super) fn deactivate(intid: u32) {
    write!("S3_0_C12_C11_1", u64::from(intid)); // ICC_DIR_EL1
    isb();
}

pub(super) fn send_sgi(value: u64) {
    write!("S3_0_C12_C11_5", value); // ICC_SGI1R_EL1
    isb();
}

pub(super) fn set_hcr(value: u64) {
    write!("S3_4_C12_C11_0", value); // ICH_HCR_EL2
}

pub(super) fn vtr() -> u64 {
    read!("S3_4_C12_C11_1") // ICH_VTR_EL2
}

pub(super) fn vmcr() -> u64 {
    read!("S3_4_C12_C11_7") // ICH_VMCR_EL2
}

pub(super) fn set_vmcr(value: u64) {
    write!("S3_4_C12_C11_7", value); // ICH_VMCR_EL2
}

family!(ap0r, set_ap0r, "ICH_AP0R<n>_EL2",
    0 => "S3_4_C12_C8_0", 1 => "S3_4_C12_C8_1", 2 => "S3_4_C12_C8_2", 3 => "S3_4_C12_C8_3");
family!(ap1r, set_ap1r, "ICH_AP1R<n>_EL2",
    0 => "S3_4_C12_C9_0", 1 => "S3_4_C12_C9_1", 2 => "S3_4_C12_C9_2", 3 => "S3_4_C12_C9_3");
family!(lr, set_lr, "ICH_LR<n>_EL2",
    0 => "S3_4_C12_C12_0", 1 => "S3_4_C12_C12_1", 2 => "S3_4_C12_C12_2", 3 => "S3_4_C12_C12_3",
    4 => "S3_4_C12_C12_4", 5 => "S3_4_C12_C12_5", 6 => "S3_4_C12_C12_6", 7 => "S3_4_C12_C12_7",
    8 => "S3_4_C12_C13_0", 9 => "S3_4_C12_C13_1", 10 => "S3_4_C12_C13_2", 11 => "S3_4_C12_C13_3",
    12 => "S3_4_C12_C13_4", 13 => "S3_4_C12_C13_5", 14 => "S3_4_C12_C13_6", 15 => "S3_4_C12_C13_7");
