//! ID registers as guests read them.
//!
//! A guest must not find features whose state the hypervisor does not switch or whose use it traps: pointer
//! authentication, SVE, SME, MTE, activity monitors, statistical profiling, trace, performance monitors, RAS records,
//! EL2 itself. Each guest read traps (HCR_EL2.TID3) and is answered from a table that is made once.

use crate::machine::Processor;
use crate::trap::SysReg;

/// op0 3, op1 0, CRn 0, CRm 0 to 7, op2 0 to 7: the registers that HCR_EL2.TID3 traps (Arm ARM D23.2.46) and MIDR's group.
const COUNT: usize = 64;

/// The table of values.
pub struct IdRegisters([u64; COUNT]);

/// Clears the 4-bit fields at the shifts.
fn without(value: u64, shifts: &[u32]) -> u64 {
    shifts.iter().fold(value, |v, s| v & !(0xf << s))
}

impl IdRegisters {
    /// Reads this CPU's registers and takes out what guests do not get.
    pub fn new<P: Processor>(cpu: &P, gicv3: bool) -> Self {
        let mut table = [0; COUNT];
        for (index, slot) in table.iter_mut().enumerate() {
            let (crm, op2) = ((index / 8) as u16, (index % 8) as u16);
            let host = cpu.id_register(SysReg::new(3, 0, 0, crm, op2));
            *slot = visible(crm, op2, host, gicv3);
        }
        Self(table)
    }

    /// What a guest reads in `register`; `None` if it is no ID register. Encodings that the architecture reserves
    /// for future ID registers read as zero.
    #[inline]
    pub fn read(&self, register: SysReg) -> Option<u64> {
        const FIRST: u16 = SysReg::new(3, 0, 0, 0, 0).0;
        self.0.get(usize::from(register.0.wrapping_sub(FIRST))).copied()
    }
}

/// ID_AA64PFR0_EL1.EL1 (Arm ARM D23.2): the Execution states of EL1. A CPU without AArch64 has no such register, and 0.
fn el1_states<P: Processor>(cpu: &P) -> u64 {
    cpu.id_register(SysReg::new(3, 0, 0, 4, 0)) >> 4 & 0xf
}

/// Whether this CPU runs guests in AArch64 state.
pub fn has_aarch64<P: Processor>(cpu: &P) -> bool {
    el1_states(cpu) != 0
}

/// Whether this CPU runs guests in AArch32 state.
pub fn has_aarch32<P: Processor>(cpu: &P) -> bool {
    el1_states(cpu) != 1
}

/// The value that a guest sees of an ID register S3_0_C0_C`crm`_`op2` that reads `host` (field names: Arm ARM D23.2).
fn visible(crm: u16, op2: u16, host: u64, gicv3: bool) -> u64 {
    match (crm, op2) {
        // ID_AA64PFR0: no EL2; RAS, SVE, MPAM, AMU out; EL3 out too, for guests' SMCs are emulated; the GIC's system
        // registers are there for GICv3 guests only.
        (4, 0) if gicv3 => without(host, &[8, 12, 28, 32, 36, 40, 44, 52]),
        (4, 0) => without(host, &[8, 12, 24, 28, 32, 36, 40, 44, 52]),
        // ID_AA64PFR1: BTI and SSBS stay; MTE, RAS fraction, MPAM fraction, SME, RNDR trap, NMI ... out.
        (4, 1) => host & 0xff,
        // ID_AA64ZFR0, ID_AA64SMFR0: SVE and SME.
        (4, _) => 0,
        // ID_AA64DFR0: self-hosted debug's version stays for the registers' existence; trace, PMU, SPE ... out.
        (5, 0) => host & 0x0000_0000_f0f0_f00f,
        (5, _) => 0,
        // ID_AA64ISAR1: pointer authentication (APA, API, GPA, GPI), LS64 out.
        (6, 1) => without(host, &[4, 8, 24, 28, 60]),
        // ID_AA64ISAR2: WFxT stays trapped elsewhere; GPA3, APA3 out.
        // MOPS, 128-bit registers and instructions out: EL2 would have to let them through (HCRX_EL2).
        (6, 2) => without(host, &[8, 12, 16, 24, 32, 36]),
        // ID_AA64ISAR0: transactional memory out.
        (6, 0) => without(host, &[24]),
        // ID_AA64ISAR3 and on: what this code does not know, guests do not see.
        (6, 3..) => 0,
        // ID_AA64MMFR0: ECV out, nested granule information (TGran*_2) out.
        (7, 0) => host & 0x0000_0000_ffff_ffff,
        // ID_AA64MMFR1: VHE, LOR, TWED, HCX, TIDCP1, CMOW out: they need EL2, or controls in HCRX_EL2.
        (7, 1) => without(host, &[8, 16, 32, 40, 52, 56]),
        // ID_AA64MMFR2: nested virtualization out.
        (7, 2) => without(host, &[24]),
        (7, _) => 0,
        // ID_PFR1: virtualization and security extensions out.
        (1, 1) => without(host, &[4, 12, 20, 24]),
        // ID_PFR0: RAS, AMU out, and ThumbEE (State3), whose registers are not switched.
        (1, 0) => without(host, &[12, 20, 28]),
        // ID_DFR0: trace, PMU out.
        (1, 2) => host & 0x0000_0fff,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_switched_is_not_shown() {
        // Everything at its highest: only fields that guests may use are left.
        let all = u64::MAX;
        assert_eq!(visible(4, 0, 0x1101_0001_1112_2222, true) >> 8 & 0xf, 0, "EL2");
        assert_eq!(visible(4, 0, all, true) >> 32 & 0xf, 0, "SVE");
        assert_eq!(visible(6, 1, all, true) & 0x0ff0_0ff0 & !0x00f0_0000, 0, "pointer authentication");
        assert_eq!(visible(5, 0, 0x1030_5106, true), 0x1030_5106 & 0xf0f0_f00f, "PMU and trace");
        assert_eq!(visible(4, 0, 0x0100_2222, true), 0x0100_0022);
        assert_eq!(visible(4, 0, 0x0100_2222, false), 0x22, "a GICv2 guest has no GIC system registers");
    }

    #[test]
    fn only_id_registers_are_answered() {
        let table = IdRegisters([7; COUNT]);
        assert_eq!(table.read(SysReg::new(3, 0, 0, 4, 0)), Some(7));
        assert_eq!(table.read(SysReg::new(3, 0, 0, 7, 7)), Some(7));
        assert_eq!(table.read(SysReg::new(3, 0, 0, 8, 0)), None);
        assert_eq!(table.read(SysReg::new(3, 0, 1, 0, 0)), None);
        assert_eq!(table.read(SysReg::new(2, 7, 15, 15, 7)), None);
    }
}
