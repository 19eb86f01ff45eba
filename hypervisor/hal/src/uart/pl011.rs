//! Arm PrimeCell UART PL011 (Arm DDI 0183), also as the Generic UART of the SBSA, which lacks the speed and line
//! registers that this driver leaves alone anyway.

use crate::mmio::{Mmio, wait_for};

/// Bytes of the register block.
pub const REGION_SIZE: usize = 0x1000;

/// Data.
const DR: usize = 0x000;
/// Flags.
const FR: usize = 0x018;
/// Line control.
const LCR_H: usize = 0x02c;
/// Control.
const CR: usize = 0x030;
/// Interrupt mask: 1 lets through.
const IMSC: usize = 0x038;
/// Interrupt clear.
const ICR: usize = 0x044;

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const LCR_H_FEN: u32 = 1 << 4;
const CR_UARTEN: u32 = 1;
const CR_TXE: u32 = 1 << 8;
const CR_RXE: u32 = 1 << 9;
/// Receive, and receive timeout (bytes below the FIFO's trigger level).
const INT_RX: u32 = 1 << 4 | 1 << 6;
const INT_ALL: u32 = 0x7ff;

/// A PL011.
#[derive(Debug)]
pub struct Pl011 {
    registers: Mmio,
}

impl Pl011 {
    /// The UART with these registers, [`REGION_SIZE`] bytes.
    pub const fn new(registers: Mmio) -> Self {
        Self { registers }
    }

    /// Masks and clears interrupts, and turns the UART on with FIFOs, at the speed it has.
    pub fn init(&self) {
        self.registers.write32(IMSC, 0);
        self.registers.write32(ICR, INT_ALL);
        let line = self.registers.read32(LCR_H);
        if line & LCR_H_FEN == 0 {
            // The manual wants the UART idle while LCR_H changes.
            wait_for(|| self.is_drained());
            self.registers.write32(LCR_H, line | LCR_H_FEN);
        }
        let control = self.registers.read32(CR);
        self.registers.write32(CR, control | CR_UARTEN | CR_TXE | CR_RXE);
    }

    /// Writes one byte if there is room.
    pub fn try_put(&self, byte: u8) -> bool {
        let room = self.registers.read32(FR) & FR_TXFF == 0;
        if room {
            self.registers.write32(DR, u32::from(byte));
        }
        room
    }

    /// The next received byte.
    pub fn get(&self) -> Option<u8> {
        if self.registers.read32(FR) & FR_RXFE != 0 {
            return None;
        }
        // Bits 11:8 are receive errors; a console shows what came.
        Some(self.registers.read32(DR) as u8)
    }

    /// Bytes that the receive FIFO can hold (r1p5), with some to spare.
    const FIFO_BYTES: usize = 64;

    /// Lets receive interrupts through. What came before goes: the interrupt is raised when the FIFO fills to its
    /// trigger, which one that is fuller already never does.
    pub fn enable_receive_interrupt(&self) {
        for _ in 0..Self::FIFO_BYTES {
            if self.get().is_none() {
                break;
            }
        }
        self.registers.write32(ICR, INT_ALL);
        self.registers.write32(IMSC, INT_RX);
    }

    /// Whether everything written has left the UART.
    pub fn is_drained(&self) -> bool {
        self.registers.read32(FR) & FR_BUSY == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::range;

    #[test]
    fn init_keeps_the_speed_and_masks_interrupts() {
        let mut registers = [0u32; REGION_SIZE / 4];
        registers[LCR_H / 4] = 0x60;
        registers[0x24 / 4] = 13;
        registers[IMSC / 4] = 0x7f0;
        // SAFETY: the region is the array, which outlives it.
        let uart = Pl011::new(unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, REGION_SIZE)) });
        uart.init();
        let region = uart.registers;
        assert_eq!(region.read32(0x24), 13);
        assert_eq!(region.read32(LCR_H), 0x70);
        assert_eq!(region.read32(IMSC), 0);
        assert_eq!(region.read32(CR), 0x301);
        assert!(uart.try_put(b'x'));
        assert_eq!(uart.get(), Some(b'x'));
        region.write32(FR, FR_TXFF | FR_RXFE);
        assert!(!uart.try_put(b'y'));
        assert_eq!(uart.get(), None);
        assert_eq!(region.read32(DR), u32::from(b'x'), "a full UART takes nothing");
    }
}
