//! List registers as GICv3 encodes them (ICH_LR<n>_EL2, IHI 0069, 12.4).

use vambrace_core::machine::{ListRegister, LrState};

/// ICH_LR<n>_EL2 of a list register.
pub(super) const fn encode(lr: ListRegister) -> u64 {
    if matches!(lr.state, LrState::Invalid) {
        return 0;
    }
    let origin = match lr.physical {
        Some(physical) => 1 << 61 | (physical as u64 & 0x1fff) << 32,
        None => (lr.eoi_maintenance as u64) << 41,
    };
    (lr.state as u64) << 62 | origin | (lr.group1 as u64) << 60 | (lr.priority as u64) << 48 | lr.intid as u64
}

/// The list register that ICH_LR<n>_EL2 holds.
pub(super) const fn decode(value: u64) -> ListRegister {
    let hardware = value & 1 << 61 != 0;
    ListRegister {
        intid: value as u32,
        state: LrState::from_bits((value >> 62) as u8),
        priority: (value >> 48) as u8,
        group1: value & 1 << 60 != 0,
        physical: if hardware { Some((value >> 32) as u32 & 0x1fff) } else { None },
        source: 0,
        eoi_maintenance: !hardware && value & 1 << 41 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: ListRegister = ListRegister {
        intid: 27,
        state: LrState::Pending,
        priority: 0xa0,
        group1: true,
        physical: None,
        source: 0,
        eoi_maintenance: false,
    };

    #[test]
    fn fields_lie_where_the_manual_says() {
        assert_eq!(encode(SAMPLE), 0x50a0_0000_0000_001b);
        assert_eq!(encode(ListRegister { physical: Some(27), ..SAMPLE }), 0x70a0_001b_0000_001b);
        assert_eq!(encode(ListRegister { eoi_maintenance: true, ..SAMPLE }), 0x50a0_0200_0000_001b);
        assert_eq!(
            encode(ListRegister { state: LrState::PendingAndActive, group1: false, ..SAMPLE }) >> 60,
            0xc
        );
        assert_eq!(encode(ListRegister { state: LrState::Invalid, ..SAMPLE }), 0);
    }

    #[test]
    fn decode_inverts_encode() {
        for state in [LrState::Pending, LrState::Active, LrState::PendingAndActive] {
            for priority in [0, 0x80, 0xa0, 0xff] {
                for (physical, eoi_maintenance) in [(None, false), (None, true), (Some(1019), false)] {
                    let group1 = priority == 0x80;
                    let lr = ListRegister {
                        intid: 8192,
                        state,
                        priority,
                        group1,
                        physical,
                        source: 0,
                        eoi_maintenance,
                    };
                    assert_eq!(decode(encode(lr)), lr);
                }
            }
        }
    }
}
