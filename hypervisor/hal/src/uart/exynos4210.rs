//! Samsung's UART of the S5PV210 and of every Exynos since the 4210 (Exynos 5 Dual user's manual, "Universal
//! Asynchronous Receiver and Transmitter"; Linux binding `serial/samsung_uart.yaml`).

use crate::mmio::Mmio;

/// Bytes of the register block.
pub const REGION_SIZE: usize = 0x40;

/// Control: modes of reception and transmission, kinds of interrupts.
const UCON: usize = 0x04;
/// FIFO control.
const UFCON: usize = 0x08;
/// Status of receiver and transmitter.
const UTRSTAT: usize = 0x10;
/// Fill of the FIFOs.
const UFSTAT: usize = 0x18;
/// Transmit.
const UTXH: usize = 0x20;
/// Receive.
const URXH: usize = 0x24;
/// Interrupts pending; a written 1 clears.
const UINTP: usize = 0x30;
/// Interrupt mask: 1 keeps out.
const UINTM: usize = 0x38;

/// UCON 3:0: reception and transmission by the CPU, polled or by interrupt, rather than off or by DMA.
const UCON_MODES: u32 = 0xf;
const UCON_BY_CPU: u32 = 1 << 2 | 1;
/// UCON: interrupt also when bytes lie below the FIFO's trigger level for a while.
const UCON_RECEIVE_TIMEOUT: u32 = 1 << 7;
/// UCON: the receive interrupt is a level, which lasts until the FIFO is read.
const UCON_RECEIVE_LEVEL: u32 = 1 << 8;
const UFCON_ENABLE: u32 = 1;
/// UTRSTAT: the holding register is free; it and the shifter are.
const UTRSTAT_BUFFER_EMPTY: u32 = 1 << 1;
const UTRSTAT_EMPTY: u32 = 1 << 2;
/// UFSTAT: bytes in the receive FIFO, which counts to 0 when it is full, so that has a bit of its own.
const UFSTAT_RECEIVED: u32 = 0xff | 1 << 8;
const UFSTAT_TRANSMIT_FULL: u32 = 1 << 24;
const INT_RECEIVE: u32 = 1;
/// Receive, error, transmit, modem.
const INT_ALL: u32 = 0xf;

/// Whether a device tree's `compatible` string names such a UART.
pub fn is_compatible(name: &str) -> bool {
    // Older S3C UARTs have other bits in UFSTAT and interrupts in another block; newer ones list one of these as well.
    matches!(
        name,
        "samsung,s5pv210-uart"
            | "samsung,exynos4210-uart"
            | "samsung,exynos5433-uart"
            | "samsung,exynos850-uart"
    )
}

/// A Samsung UART.
#[derive(Debug)]
pub struct Exynos4210 {
    registers: Mmio,
}

impl Exynos4210 {
    /// The UART with these registers, [`REGION_SIZE`] bytes.
    pub const fn new(registers: Mmio) -> Self {
        Self { registers }
    }

    /// Masks and clears interrupts and turns the FIFOs on, at the speed and framing that the UART has.
    pub fn init(&self) {
        self.registers.write32(UINTM, INT_ALL);
        let control = self.registers.read32(UCON) & !UCON_MODES;
        self.registers.write32(UCON, control | UCON_BY_CPU | UCON_RECEIVE_TIMEOUT | UCON_RECEIVE_LEVEL);
        // The trigger levels stay; the bits that empty the FIFOs are not set, for output may be in flight.
        let fifo = self.registers.read32(UFCON);
        self.registers.write32(UFCON, fifo | UFCON_ENABLE);
        self.registers.write32(UINTP, INT_ALL);
    }

    /// Writes one byte if there is room.
    pub fn try_put(&self, byte: u8) -> bool {
        // Without FIFOs, as before `init`, only UTRSTAT says when the one register is free.
        let room = if self.registers.read32(UFCON) & UFCON_ENABLE != 0 {
            self.registers.read32(UFSTAT) & UFSTAT_TRANSMIT_FULL == 0
        } else {
            self.registers.read32(UTRSTAT) & UTRSTAT_BUFFER_EMPTY != 0
        };
        if room {
            self.registers.write32(UTXH, u32::from(byte));
        }
        room
    }

    /// The next received byte.
    pub fn get(&self) -> Option<u8> {
        let waiting = || self.registers.read32(UFSTAT) & UFSTAT_RECEIVED != 0;
        if !waiting() {
            self.registers.write32(UINTP, INT_RECEIVE);
            // What came in between has just lost its interrupt.
            if !waiting() {
                return None;
            }
        }
        Some(self.registers.read32(URXH) as u8)
    }

    /// Lets the receive interrupt through.
    pub fn enable_receive_interrupt(&self) {
        self.registers.write32(UINTP, INT_ALL);
        self.registers.write32(UINTM, INT_ALL & !INT_RECEIVE);
    }

    /// Whether everything written has left the UART.
    pub fn is_drained(&self) -> bool {
        self.registers.read32(UTRSTAT) & UTRSTAT_EMPTY != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::range;

    #[test]
    fn init_keeps_speed_and_trigger_levels_and_masks_interrupts() {
        let mut registers = [0u32; REGION_SIZE / 4];
        registers[0x28 / 4] = 53;
        registers[UCON / 4] = 0x40a;
        registers[UFCON / 4] = 0x30;
        // SAFETY: the region is the array, which outlives it.
        let uart = Exynos4210::new(unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, REGION_SIZE)) });
        uart.init();
        let region = uart.registers;
        assert_eq!(region.read32(0x28), 53);
        assert_eq!(region.read32(UCON), 0x585, "the clock's choice (bit 10) stays");
        assert_eq!(region.read32(UFCON), 0x31);
        assert_eq!(region.read32(UINTM), 0xf);
        uart.enable_receive_interrupt();
        assert_eq!(region.read32(UINTM), 0xe);
    }

    #[test]
    fn room_and_received_bytes_are_seen_with_and_without_fifos() {
        let mut registers = [0u32; REGION_SIZE / 4];
        // SAFETY: the region is the array, which outlives it.
        let uart = Exynos4210::new(unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, REGION_SIZE)) });
        let region = uart.registers;
        assert!(!uart.try_put(b'a'), "no FIFO, and the holding register is taken");
        region.write32(UTRSTAT, UTRSTAT_BUFFER_EMPTY);
        assert!(uart.try_put(b'a'));
        uart.init();
        region.write32(UTRSTAT, 0);
        assert!(uart.try_put(b'b'));
        region.write32(UFSTAT, UFSTAT_TRANSMIT_FULL);
        assert!(!uart.try_put(b'c'));
        assert_eq!(region.read32(UTXH), u32::from(b'b'));
        assert!(!uart.is_drained());

        region.write32(URXH, 0x178);
        assert_eq!(uart.get(), None);
        assert_eq!(region.read32(UINTP), INT_RECEIVE, "the interrupt is cleared once the FIFO is empty");
        region.write32(UFSTAT, 1 << 8);
        assert_eq!(uart.get(), Some(b'x'), "a full FIFO counts 0");
    }
}
