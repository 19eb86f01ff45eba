//! What an AArch32 guest finds when an exception is given to it (ARMv7 ARM, B1.8; Arm ARM G1.16), on a CPU of either
//! width.

/// An exception that the hypervisor gives to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exception {
    /// Undefined instruction.
    Undefined,
    /// Prefetch abort.
    PrefetchAbort,
    /// Data abort.
    DataAbort,
}

/// What taking an exception changes, besides the mode's SPSR, which becomes the CPSR as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The mode's LR.
    pub(crate) lr: u32,
    /// CPSR in the handler.
    pub(crate) cpsr: u32,
    /// Where the handler begins.
    pub(crate) pc: u32,
}

const MODE_ABORT: u32 = 0x17;
const MODE_UNDEFINED: u32 = 0x1b;
const THUMB: u32 = 1 << 5;
const MASK_IRQ: u32 = 1 << 7;
const MASK_ABORT: u32 = 1 << 8;
const BIG_ENDIAN: u32 = 1 << 9;
/// IT state, Jazelle state, and illegal-execution state.
const CLEARED: u32 = 0x3f << 10 | 1 << 20 | 1 << 24 | 3 << 25;

const SCTLR_V: u32 = 1 << 13;
const SCTLR_EE: u32 = 1 << 25;
const SCTLR_TE: u32 = 1 << 30;

impl Exception {
    /// Taken at the instruction at `pc`, with these of the guest's registers.
    pub(crate) fn enter(self, pc: u32, cpsr: u32, sctlr: u32, vbar: u32) -> Entry {
        let thumb = cpsr & THUMB != 0;
        let (mode, offset, preferred_return) = match self {
            Self::Undefined => (MODE_UNDEFINED, 0x4, if thumb { 2 } else { 4 }),
            Self::PrefetchAbort => (MODE_ABORT, 0xc, 4),
            Self::DataAbort => (MODE_ABORT, 0x10, 8),
        };
        let kept = cpsr & !(0x1f | THUMB | BIG_ENDIAN | CLEARED);
        let masked = MASK_IRQ | if self == Self::Undefined { 0 } else { MASK_ABORT };
        let state = if sctlr & SCTLR_TE != 0 { THUMB } else { 0 }
            | if sctlr & SCTLR_EE != 0 { BIG_ENDIAN } else { 0 };
        let vectors = if sctlr & SCTLR_V != 0 { 0xffff_0000 } else { vbar };
        Entry {
            lr: pc.wrapping_add(preferred_return),
            cpsr: kept | mode | masked | state,
            pc: vectors.wrapping_add(offset),
        }
    }
}

/// DFSR or IFSR of a synchronous external abort, in the format that TTBCR.EAE selects.
pub(crate) const fn external_abort(ttbcr: u32) -> u32 {
    const EAE: u32 = 1 << 31;
    if ttbcr & EAE != 0 { 1 << 9 | 0b01_0000 } else { 0b0_1000 }
}

/// The register that a trapped `mrc`, `mcr` or `vmrs` names, by the instruction-specific part of its syndrome: 15 where a
/// read goes to the condition flags, for which an AArch64 syndrome has 31 (Arm ARM, ISS encoding for an exception from
/// an MCR or MRC access) and an ARMv7 one 15.
pub(crate) fn transfer_register(iss: u64) -> u8 {
    let is_read = iss & 1 != 0;
    match (iss >> 5 & 31) as u8 {
        31 if is_read => 15,
        register => register,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_into_the_flags_names_register_15_on_either_width() {
        let syndrome = |register: u64, direction: u64| 1 << 10 | register << 5 | direction;
        assert_eq!(transfer_register(syndrome(31, 1)), 15, "AArch64");
        assert_eq!(transfer_register(syndrome(15, 1)), 15, "ARMv7");
        assert_eq!(transfer_register(syndrome(31, 0)), 31, "a write has no such form");
        assert_eq!(transfer_register(syndrome(14, 1)), 14);
        assert_eq!(transfer_register(syndrome(0, 0)), 0);
    }

    #[test]
    fn exceptions_are_taken_as_the_architecture_says() {
        // User mode, ARM state, carry set.
        let entry = Exception::Undefined.enter(0x8000, 0x2000_0010, 0, 0xc000_0000);
        assert_eq!(entry, Entry { lr: 0x8004, cpsr: 0x2000_009b, pc: 0xc000_0004 });
        // Supervisor mode, Thumb state in an IT block, big-endian data; high vectors; a Thumb handler.
        let cpsr = 0x13 | THUMB | BIG_ENDIAN | 0x3f << 10 | 3 << 25;
        let entry = Exception::DataAbort.enter(0x8002, cpsr, SCTLR_V | SCTLR_TE, 0xc000_0000);
        assert_eq!(entry, Entry { lr: 0x800a, cpsr: 0x17 | 0x180 | THUMB, pc: 0xffff_0010 });
        let entry = Exception::PrefetchAbort.enter(0xffff_fffe, 0x13, SCTLR_EE, 0x20);
        assert_eq!(entry, Entry { lr: 2, cpsr: 0x17 | 0x180 | BIG_ENDIAN, pc: 0x2c });
        assert_eq!(Exception::Undefined.enter(0, THUMB, 0, 0).lr, 2);
    }

    #[test]
    fn the_fault_status_follows_the_guest_s_table_format() {
        assert_eq!((external_abort(0), external_abort(1 << 31)), (0x8, 0x210));
    }
}
