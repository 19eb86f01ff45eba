//! Why a vCPU stopped: the typed events that `hal` decodes from the machine's syndrome registers.

use crate::addr::{GuestVa, Ipa};

/// A guest's general-purpose registers, the part of its state that `core` works on.
///
/// For an AArch32 guest on AArch64 the banked registers lie in `x` as the Arm ARM maps them (D1.20.2), and on ARMv7
/// only `x[0..15]` are used. `hal` saves and restores this block at every trap.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct GuestRegs {
    /// x0 to x30 (r0 to r14).
    pub x: [u64; 31],
    /// Address of the instruction at which the guest goes on (guest virtual).
    pub pc: u64,
    /// PSTATE in SPSR form (CPSR for AArch32).
    pub pstate: u64,
}

impl GuestRegs {
    /// Register `n` as an instruction's register field names it: 31 is the zero register.
    #[inline]
    pub fn get(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }
    /// Writes register `n`; a write to 31, the zero register, is dropped.
    #[inline]
    pub fn set(&mut self, n: u8, value: u64) {
        if let Some(slot) = self.x.get_mut(usize::from(n)) {
            *slot = value;
        }
    }
    /// Whether the guest was in AArch32 state (Arm ARM, `SPSR_EL2.M[4]`).
    pub const fn is_aarch32(&self) -> bool {
        self.pstate & 0x10 != 0
    }
}

/// A 64-bit system register by its encoding (Arm ARM D22): op0, op1, CRn, CRm, op2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SysReg(pub u16);

impl SysReg {
    /// The register encoded as `S<op0>_<op1>_C<crn>_C<crm>_<op2>`.
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }
    /// The five fields op0, op1, CRn, CRm, op2.
    pub const fn fields(self) -> (u16, u16, u16, u16, u16) {
        (self.0 >> 14, self.0 >> 11 & 7, self.0 >> 7 & 15, self.0 >> 3 & 15, self.0 & 7)
    }
}

/// A load or store that stage 2 stopped and whose syndrome is complete enough to emulate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioAccess {
    /// Where, in the guest's physical space.
    pub ipa: Ipa,
    /// The same place in the guest's virtual space.
    pub va: GuestVa,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Store (true) or load.
    pub write: bool,
    /// Register stored from or loaded to; 31 is the zero register.
    pub reg: u8,
    /// A load sign-extends.
    pub sign_extend: bool,
    /// A load fills 64 bits (else it zeroes bits 63:32).
    pub wide: bool,
    /// Length of the instruction, 2 or 4 bytes.
    pub instruction_length: u8,
}

/// Why the guest stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// A physical interrupt is pending for the hypervisor.
    Interrupt,
    /// `hvc #imm`; the program counter already points past it.
    Hypercall {
        /// The immediate; Xen's is 0xEA1, SMCCC's 0.
        immediate: u16,
    },
    /// `smc #imm`; the program counter still points at it.
    SecureCall {
        /// The immediate; SMCCC's is 0.
        immediate: u16,
    },
    /// `wfi` (or `wfe` when `event`); the program counter still points at it.
    Wait {
        /// It was `wfe`.
        event: bool,
    },
    /// Access to a trapped 64-bit system register (`mrs`, `msr`); the program counter still points at it.
    SystemRegister {
        /// Which.
        register: SysReg,
        /// `msr` (true) or `mrs`.
        write: bool,
        /// General-purpose register; 31 is the zero register.
        reg: u8,
    },
    /// Access to a trapped AArch32 coprocessor register (`mrc`, `mcr`, `mrrc`, `mcrr`), from an AArch32 guest.
    Coprocessor {
        /// Coprocessor number, 14 or 15.
        coprocessor: u8,
        /// Opc1, CRn, CRm, Opc2 for 32-bit access; CRn and Opc2 are 0 for 64-bit access.
        opc1: u8,
        /// CRn.
        crn: u8,
        /// CRm.
        crm: u8,
        /// Opc2.
        opc2: u8,
        /// Register.
        reg: u8,
        /// Second register of a 64-bit access.
        reg2: Option<u8>,
        /// Write to the coprocessor (true) or read.
        write: bool,
        /// Whether the instruction's condition holds (else it is skipped).
        condition_passed: bool,
        /// Length of the instruction, 2 or 4 bytes.
        instruction_length: u8,
    },
    /// A device access to emulate; the program counter still points at it.
    Mmio(MmioAccess),
    /// Stage-2 data abort that cannot be emulated (no valid syndrome, or a walk of the guest's own tables).
    DataAbort {
        /// Faulting address in the guest's virtual space.
        va: GuestVa,
        /// Faulting intermediate physical address.
        ipa: Ipa,
        /// It was a write.
        write: bool,
        /// It happened on the walk of the guest's stage-1 tables.
        table_walk: bool,
    },
    /// Stage-2 abort on an instruction fetch.
    InstructionAbort {
        /// Faulting address in the guest's virtual space.
        va: GuestVa,
        /// Faulting intermediate physical address.
        ipa: Ipa,
    },
    /// Use of a unit that the hypervisor keeps off (SVE, SME, pointer authentication keys ...); the guest gets an
    /// undefined-instruction exception.
    Disabled,
    /// An SError (asynchronous abort) was taken while the guest ran.
    SystemError {
        /// The syndrome register, raw.
        syndrome: u64,
    },
    /// Anything else.
    Unknown {
        /// The syndrome register, raw.
        syndrome: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_31_is_zero() {
        let mut regs = GuestRegs { x: [7; 31], ..Default::default() };
        regs.set(31, 99);
        assert_eq!(regs.get(31), 0);
        assert_eq!(regs.get(30), 7);
    }

    #[test]
    fn system_register_fields_round_trip() {
        let icc_sgi1r = SysReg::new(3, 0, 12, 11, 5);
        assert_eq!(icc_sgi1r.fields(), (3, 0, 12, 11, 5));
    }
}
