//! A virtual PL011 UART (Arm DDI 0183), for consoles before, or without, the Xen console.
//!
//! The device has a receive buffer and sends at once, so its transmitter is always empty. Its interrupt is a level,
//! recomputed at each change.

use alloc::collections::VecDeque;

const DR: u64 = 0x00;
const RSR: u64 = 0x04;
const FR: u64 = 0x18;
const ILPR: u64 = 0x20;
const IBRD: u64 = 0x24;
const FBRD: u64 = 0x28;
const LCR_H: u64 = 0x2c;
const CR: u64 = 0x30;
const IFLS: u64 = 0x34;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
const ICR: u64 = 0x44;
const DMACR: u64 = 0x48;

const FR_RX_EMPTY: u32 = 1 << 4;
const FR_RX_FULL: u32 = 1 << 6;
const FR_TX_EMPTY: u32 = 1 << 7;

const INT_RX: u32 = 1 << 4;
const INT_TX: u32 = 1 << 5;
const INT_RX_TIMEOUT: u32 = 1 << 6;

const RECEIVE_LIMIT: usize = 1024;

/// Bytes of address space that the device takes.
pub const SIZE: u64 = 0x1000;

/// The device.
#[derive(Default)]
pub struct Vpl011 {
    received: VecDeque<u8>,
    raw: u32,
    mask: u32,
    control: u32,
    line_control: u32,
    levels: u32,
    divisors: [u32; 2],
}

/// What a write asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// A byte to send.
    pub send: Option<u8>,
}

impl Vpl011 {
    /// A device as after reset, enabled.
    pub fn new() -> Self {
        // CR: UARTEN, TXE, RXE, as firmware leaves a console.
        Self { control: 0x301, levels: 0x12, raw: INT_TX, ..Self::default() }
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            DR => {
                let byte = self.received.pop_front();
                if self.received.is_empty() {
                    self.raw &= !(INT_RX | INT_RX_TIMEOUT);
                }
                byte.map_or(0, u32::from)
            }
            FR => {
                let empty = if self.received.is_empty() { FR_RX_EMPTY } else { 0 };
                let full = if self.received.len() >= RECEIVE_LIMIT { FR_RX_FULL } else { 0 };
                FR_TX_EMPTY | empty | full
            }
            IBRD => self.divisors[0],
            FBRD => self.divisors[1],
            LCR_H => self.line_control,
            CR => self.control,
            IFLS => self.levels,
            IMSC => self.mask,
            RIS => self.raw,
            MIS => self.raw & self.mask,
            RSR | ILPR | DMACR => 0,
            // UARTPeriphID and UARTPCellID, r1p5.
            0xfe0 => 0x11,
            0xfe4 => 0x10,
            0xfe8 => 0x34,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => 0,
        }
    }

    /// Writes the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u32) -> Effect {
        match offset {
            DR => {
                self.raw |= INT_TX;
                return Effect { send: Some(value as u8) };
            }
            IBRD => self.divisors[0] = value & 0xffff,
            FBRD => self.divisors[1] = value & 0x3f,
            LCR_H => self.line_control = value & 0xff,
            CR => self.control = value & 0xffff,
            IFLS => self.levels = value & 0x3f,
            IMSC => self.mask = value & 0x7ff,
            ICR => self.raw &= !value,
            _ => {}
        }
        Effect::default()
    }

    /// Puts a byte into the receive buffer; it is lost if that is full.
    pub fn receive(&mut self, byte: u8) {
        if self.received.len() < RECEIVE_LIMIT {
            self.received.push_back(byte);
            self.raw |= INT_RX | INT_RX_TIMEOUT;
        }
    }

    /// As [`Vpl011::receive`], if a driver has let the receive interrupt through; one that only writes never empties
    /// the buffer.
    pub fn receive_if_wanted(&mut self, byte: u8) {
        if self.mask & (INT_RX | INT_RX_TIMEOUT) != 0 {
            self.receive(byte);
        }
    }

    /// Whether the interrupt line is up.
    pub fn line(&self) -> bool {
        self.raw & self.mask != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_at_once_and_is_never_busy() {
        let mut uart = Vpl011::new();
        assert_eq!(uart.read(FR) & (FR_TX_EMPTY | FR_RX_EMPTY), FR_TX_EMPTY | FR_RX_EMPTY);
        assert_eq!(uart.write(DR, u32::from(b'x')).send, Some(b'x'));
    }

    #[test]
    fn receive_interrupt_follows_the_buffer() {
        let mut uart = Vpl011::new();
        uart.write(IMSC, INT_RX);
        assert!(!uart.line());
        uart.receive(b'a');
        uart.receive(b'b');
        assert!(uart.line());
        assert_eq!(uart.read(DR), u32::from(b'a'));
        assert!(uart.line());
        assert_eq!(uart.read(DR), u32::from(b'b'));
        assert!(!uart.line());
        for _ in 0..2 * RECEIVE_LIMIT {
            uart.receive(0);
        }
        assert_eq!(uart.read(FR) & FR_RX_FULL, FR_RX_FULL);
    }

    #[test]
    fn linux_recognises_it() {
        let mut uart = Vpl011::new();
        let id = (0..4).fold(0, |id, i| id | (uart.read(0xfe0 + 4 * i) & 0xff) << (8 * i));
        assert_eq!(id & 0x000f_ffff, 0x0004_1011);
    }
}
