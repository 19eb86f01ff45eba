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
    /// Goes on behind the present instruction, which is `length` bytes long.
    #[inline]
    pub const fn skip(&mut self, length: u8) {
        self.pc = self.pc.wrapping_add(length as u64);
        if self.is_aarch32() {
            self.leave_instruction();
        }
    }
    /// Has the Thumb IT block, if an AArch32 guest is in one, be one instruction further (Arm ARM DDI 0406C, A2.5.2,
    /// ITAdvance).
    pub const fn leave_instruction(&mut self) {
        let state = it_state(self.pstate);
        let next = if state & 7 == 0 { 0 } else { state & 0xe0 | state << 1 & 0x1f };
        self.pstate = self.pstate & !IT_BITS | (next & 3) << 25 | (next >> 2) << 10;
    }
}

/// ITSTATE in the CPSR: bits 1:0 at 26:25, bits 7:2 at 15:10.
const IT_BITS: u64 = 3 << 25 | 0x3f << 10;

const fn it_state(cpsr: u64) -> u64 {
    cpsr >> 25 & 3 | (cpsr >> 10 & 0x3f) << 2
}

/// Whether an AArch32 instruction is carried out. `condition` is its condition field, where the syndrome has one; a
/// Thumb instruction's without is that of its IT block (DDI 0406C, A8.3 and B3.13.6).
pub const fn condition_passed(condition: Option<u8>, cpsr: u64) -> bool {
    const THUMB: u64 = 1 << 5;
    let condition = match condition {
        Some(condition) => condition,
        None if cpsr & THUMB != 0 && it_state(cpsr) & 0xf != 0 => (it_state(cpsr) >> 4) as u8,
        None => return true,
    };
    let (n, z, c, v) = (cpsr >> 31 & 1 != 0, cpsr >> 30 & 1 != 0, cpsr >> 29 & 1 != 0, cpsr >> 28 & 1 != 0);
    let holds = match condition >> 1 & 7 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (condition & 1 != 0)
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

/// An `mrc`, `mcr`, `mrrc`, `mcrr` or `vmrs` of AArch32 code. Transfers between coprocessor 14 and memory (`ldc`, `stc`) are
/// not among these: they are [`Trap::Disabled`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoprocessorAccess {
    /// Coprocessor number: 14, 15, or 10 for `vmrs` of a floating-point ID register.
    pub coprocessor: u8,
    /// Opc1.
    pub opc1: u8,
    /// CRn; 0 for a 64-bit access. For `vmrs` the register's number.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// Opc2; 0 for a 64-bit access.
    pub opc2: u8,
    /// Register, by its index in [`GuestRegs`]; 15 stands for the condition flags.
    pub reg: u8,
    /// Second register of a 64-bit access, which has bits 63:32.
    pub reg2: Option<u8>,
    /// Write to the coprocessor (true) or read.
    pub write: bool,
    /// Length of the instruction, 2 or 4 bytes.
    pub instruction_length: u8,
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
        /// Length of the instruction, 2 or 4 bytes.
        instruction_length: u8,
    },
    /// An AArch32 instruction trapped whose condition does not hold: it does nothing. The program counter still points
    /// at it. Of all other traps the condition holds.
    Skipped {
        /// Length of the instruction, 2 or 4 bytes.
        instruction_length: u8,
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
    /// Access to a trapped AArch32 coprocessor register; the program counter still points at it.
    Coprocessor(CoprocessorAccess),
    /// A device access to emulate; the program counter still points at it.
    Mmio(MmioAccess),
    /// As `Mmio`, by an AArch32 instruction in a Thumb IT block, which goes on with it.
    MmioInBlock(MmioAccess),
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

    fn regs(cpsr: u64) -> GuestRegs {
        GuestRegs { pc: 0x1000, pstate: cpsr, ..GuestRegs::default() }
    }

    /// CPSR in Thumb state with ITSTATE.
    fn thumb(state: u64) -> u64 {
        0x33 | (state & 3) << 25 | (state >> 2) << 10
    }

    #[test]
    fn it_blocks_go_on_with_what_is_skipped() {
        // ITTE EQ: condition 0, mask 0110 with the first instruction's bit; then T, E, over.
        let mut guest = regs(thumb(0b0000_0110));
        guest.skip(2);
        assert_eq!((guest.pc, it_state(guest.pstate)), (0x1002, 0b0000_1100));
        guest.skip(4);
        assert_eq!((guest.pc, it_state(guest.pstate)), (0x1006, 0b0001_1000));
        guest.skip(2);
        assert_eq!(guest.pstate, thumb(0));
        // Outside of a block nothing but the program counter moves.
        guest.skip(4);
        assert_eq!((guest.pc, guest.pstate), (0x100c, thumb(0)));
        // In AArch64 state those bits are others'.
        let mut guest = regs(0x3c5 | 1 << 25 | 3 << 10);
        guest.skip(4);
        assert_eq!(guest.pstate, 0x3c5 | 1 << 25 | 3 << 10);
    }

    #[test]
    fn conditions_are_those_of_the_architecture() {
        const N: u64 = 1 << 31;
        const Z: u64 = 1 << 30;
        const C: u64 = 1 << 29;
        const V: u64 = 1 << 28;
        // Each condition with flags under which it holds and under which it does not.
        let cases = [
            (0, Z, 0),
            (1, 0, Z),
            (2, C, 0),
            (3, 0, C),
            (4, N, 0),
            (5, 0, N),
            (6, V, 0),
            (7, 0, V),
            (8, C, C | Z),
            (9, C | Z, C),
            (10, N | V, N),
            (11, N, N | V),
            (12, 0, Z),
            (13, Z, 0),
        ];
        for (condition, holds, not) in cases {
            assert!(condition_passed(Some(condition), 0x13 | holds), "{condition}");
            assert!(!condition_passed(Some(condition), 0x13 | not), "{condition}");
        }
        for flags in [0, N | Z | C | V] {
            assert!(condition_passed(Some(14), flags) && condition_passed(Some(15), flags));
            assert!(condition_passed(None, 0x13 | flags));
        }
        // A syndrome without the condition: the IT block has it.
        assert!(condition_passed(None, thumb(0b0000_1000) | Z));
        assert!(!condition_passed(None, thumb(0b0000_1000)));
    }
}
