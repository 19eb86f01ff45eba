//! What only a GICv2 distributor has (IHI 0048B, 4.3): banked private interrupts, target masks, SGIs with sources.

use super::registers::{CTLR, IIDR, IMPLEMENTATION, Shared, TYPER, identification, lanes};
use super::{Bits, NONE, Vgic, VgicHost, valid};
use crate::machine::Intid;

/// Interrupt processor targets, a byte each.
const ITARGETSR: u32 = 0x800;
const ITARGETSR_END: u32 = 0xbfc;
/// Software generated interrupt register.
const SGIR: u32 = 0xf00;
/// SGI clear-pending registers, a byte of sources each.
const CPENDSGIR: u32 = 0xf10;
/// SGI set-pending registers.
const SPENDSGIR: u32 = 0xf20;
const SPENDSGIR_END: u32 = 0xf30;
/// CoreSight identification registers.
const IDREGS: u32 = 0xfd0;
const FRAME_END: u32 = 0x1000;
/// GIC-400's part number.
const PART: u8 = 0x90;

impl Vgic {
    pub(super) fn v2_read(&self, vcpu: usize, offset: u32, size: u8) -> u32 {
        if let Some(register) = Shared::decode(offset) {
            return self.shared_read(vcpu, register, offset, size);
        }
        let bytes = matches!(offset, ITARGETSR..ITARGETSR_END | CPENDSGIR..SPENDSGIR_END);
        let Some((shift, mask)) = lanes(offset, size, bytes) else { return 0 };
        let word = match offset & !3 {
            CTLR => self.gate_bits(),
            TYPER => self.banks.len() as u32 | (self.cpus.len() as u32 - 1) << 5,
            IIDR => IMPLEMENTATION,
            word @ ITARGETSR..ITARGETSR_END => self.v2_targets(vcpu, word - ITARGETSR),
            word @ CPENDSGIR..SPENDSGIR_END => self.v2_sources(vcpu, word & 0xc),
            word @ IDREGS..FRAME_END => identification(word - IDREGS, PART, 2),
            _ => 0,
        };
        word >> shift & mask
    }

    pub(super) fn v2_write(
        &mut self,
        vcpu: usize,
        offset: u32,
        size: u8,
        value: u32,
        host: &mut impl VgicHost,
    ) {
        if let Some(register) = Shared::decode(offset) {
            return self.shared_write(vcpu, register, (offset, size), value, host);
        }
        let bytes = matches!(offset, ITARGETSR..ITARGETSR_END | CPENDSGIR..SPENDSGIR_END);
        let Some((shift, mask)) = lanes(offset, size, bytes) else { return };
        // Byte `i` of `values` is written where byte `i` of `lanes` is set.
        let (values, lanes) = ((value << shift).to_le_bytes(), (mask << shift).to_le_bytes());
        let written = values.into_iter().zip(lanes).zip(0..).filter(|((_, lane), _)| *lane != 0);
        let written = written.map(|((value, _), i)| (i, value));
        match offset & !3 {
            CTLR => self.set_gates(value, host),
            word @ ITARGETSR..ITARGETSR_END => {
                for (i, targets) in written {
                    let intid = word - ITARGETSR + i;
                    if intid >= 32 && intid < self.intid_limit() {
                        let route = u32::from(targets) & self.v2_everyone();
                        self.retarget(intid, route, self.v2_target(route), host);
                    }
                }
            }
            SGIR => self.v2_generate(vcpu, value, host),
            word @ CPENDSGIR..SPENDSGIR_END => {
                for (i, sources) in written {
                    let intid = (word & 0xc) + i;
                    if word >= SPENDSGIR {
                        for source in Bits(u32::from(sources) & self.v2_everyone()) {
                            if let Some(v) = self.send_v2_sgi(vcpu, source as usize, intid) {
                                host.kick(v);
                            }
                        }
                    } else {
                        self.v2_withdraw(vcpu, intid, sources, host);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether the GICv2-only register at `offset` is about what list registers may hold a newer version of.
    pub(super) const fn v2_is_volatile(offset: u32) -> bool {
        matches!(offset, CPENDSGIR..SPENDSGIR_END)
    }

    /// Target mask of all vCPUs.
    fn v2_everyone(&self) -> u32 {
        (1_u32 << self.cpus.len().min(8)) - 1
    }

    /// The vCPU that a target mask means. Of several the lowest, so that an interrupt is not handled twice. A lone
    /// vCPU is the target of everything: a uniprocessor guest may not write targets (IHI 0048B, 4.3.12).
    pub(super) fn v2_target(&self, route: u32) -> u8 {
        if self.cpus.len() == 1 {
            0
        } else if route == 0 {
            NONE
        } else {
            route.trailing_zeros() as u8
        }
    }

    /// ITARGETSR, four bytes from interrupt `first`. The private ones tell a vCPU its own number.
    fn v2_targets(&self, vcpu: usize, first: Intid) -> u32 {
        if first < 32 {
            return 0x0101_0101 << (vcpu & 7);
        }
        let known = valid((first / 32) as usize) >> (first % 32) & 1;
        let Some(four) = self.spis.get(first as usize - 32..first as usize - 28) else { return 0 };
        four.iter().rev().fold(0, |word, spi| word << 8 | spi.route & 0xff) * known
    }

    /// CPENDSGIR and SPENDSGIR: the sources of four SGIs from `first`.
    fn v2_sources(&self, vcpu: usize, first: Intid) -> u32 {
        let sgis = self.cpus.get(vcpu).and_then(|cpu| cpu.sgis.get(first as usize..first as usize + 4));
        sgis.into_iter().flatten().rev().fold(0, |word, sgi| word << 8 | u32::from(sgi.sources | sgi.again))
    }

    /// GICD_SGIR: who gets it (IHI 0048B, 4.3.15).
    fn v2_generate(&mut self, vcpu: usize, value: u32, host: &mut impl VgicHost) {
        let me = 1_u32 << (vcpu & 7);
        let targets = self.v2_everyone()
            & match value >> 24 & 3 {
                0 => value >> 16 & 0xff,
                1 => !me,
                2 => me,
                _ => 0,
            };
        for target in Bits(targets) {
            if let Some(v) = self.send_v2_sgi(target as usize, vcpu, value & 0xf) {
                host.kick(v);
            }
        }
    }

    /// Makes SGI `intid` from `source` pending on `target`. Returns `target` where that is news.
    pub(super) fn send_v2_sgi(&mut self, target: usize, source: usize, intid: Intid) -> Option<usize> {
        let cpu = self.cpus.get_mut(target)?;
        let sgi = cpu.sgis.get_mut(intid as usize)?;
        let (state, mask, from) = (&mut cpu.private, 1_u32 << intid, 1_u8 << (source & 7));
        let (sources, word) = if state.listed & mask != 0 {
            (&mut sgi.again, &mut state.again)
        } else {
            (&mut sgi.sources, &mut state.latch)
        };
        if *sources & from != 0 {
            return None;
        }
        *sources |= from;
        *word |= mask;
        self.settled(target, 0, mask)
    }

    /// Takes an SGI from `sources` back.
    fn v2_withdraw(&mut self, vcpu: usize, intid: Intid, sources: u8, host: &mut impl VgicHost) {
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        let Some(sgi) = cpu.sgis.get_mut(intid as usize) else { return };
        let mask = 1_u32 << intid;
        sgi.sources &= !sources;
        sgi.again &= !sources;
        if sgi.sources == 0 {
            cpu.private.latch &= !mask;
        }
        if sgi.again == 0 {
            cpu.private.again &= !mask;
        }
        self.settle(vcpu, 0, mask, &mut |v| host.kick(v));
    }
}
