//! A virtual PL011 UART (Arm DDI 0183), for consoles before, or without, the Xen console.
//!
//! ```text
//!   driver --- registers ---> Vpl011 ---+--> the hypervisor's console (dom0's early console, static guests)
//!                               |       +--> a ring page that a back end in dom0 serves (`io/console.h`)
//!                               +--- interrupt: a level, recomputed at each change
//! ```
//!
//! On the hypervisor's console bytes go out at once, and the transmitter is always empty. On a ring page the guest sees
//! the ring's fill as the state of the FIFOs, so that it waits for a slow reader.

use alloc::collections::VecDeque;

use crate::console_page::ConsolePage;
use crate::event::Port;
use crate::machine::Memory;

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
const FR_TX_FULL: u32 = 1 << 5;
const FR_RX_FULL: u32 = 1 << 6;
const FR_TX_EMPTY: u32 = 1 << 7;

const INT_RX: u32 = 1 << 4;
const INT_TX: u32 = 1 << 5;
const INT_RX_TIMEOUT: u32 = 1 << 6;

const RECEIVE_LIMIT: usize = 1024;

/// Bytes of address space that the device takes.
pub const SIZE: u64 = 0x1000;

/// Where the bytes go.
#[derive(Debug)]
enum BackEnd {
    /// To the hypervisor's console, with what it sent waiting here.
    Console(VecDeque<u8>),
    /// To a ring page, and an event to its back end by this port of the domain's.
    Page(ConsolePage, Port),
}

/// The device.
#[derive(Debug)]
pub struct Vpl011 {
    back_end: BackEnd,
    /// Raw interrupts. That of the receiver follows the FIFO.
    raw: u32,
    mask: u32,
    control: u32,
    line_control: u32,
    levels: u32,
    divisors: [u32; 2],
}

/// What an access asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "the other side hears of it only so"]
pub struct Effect {
    /// A byte for the hypervisor's console.
    pub send: Option<u8>,
    /// The back end of a ring page has something to do: an event by this port.
    pub notify: Option<Port>,
}

impl Default for Vpl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Vpl011 {
    /// A device on the hypervisor's console, as after reset, enabled.
    pub fn new() -> Self {
        Self::with(BackEnd::Console(VecDeque::new()))
    }

    /// A device whose back end serves `page`, and is told by an event on the domain's port `port`.
    pub fn on_page(page: ConsolePage, port: Port) -> Self {
        Self::with(BackEnd::Page(page, port))
    }

    fn with(back_end: BackEnd) -> Self {
        // CR: UARTEN, TXE, RXE, as firmware leaves a console.
        Self {
            back_end,
            raw: INT_TX,
            mask: 0,
            control: 0x301,
            line_control: 0,
            levels: 0x12,
            divisors: [0; 2],
        }
    }

    /// The ring page and its port, if it has one.
    pub fn page(&self) -> Option<(ConsolePage, Port)> {
        match self.back_end {
            BackEnd::Console(_) => None,
            BackEnd::Page(page, port) => Some((page, port)),
        }
    }

    /// Takes page and port away: nobody is at the other end any more.
    pub fn take_page(&mut self) -> Option<(ConsolePage, Port)> {
        let taken = self.page()?;
        self.back_end = BackEnd::Console(VecDeque::new());
        Some(taken)
    }

    /// Whether it is on the hypervisor's console.
    pub fn is_on_console(&self) -> bool {
        self.page().is_none()
    }

    /// Takes a received byte; whether the FIFO is empty now.
    fn pop<M: Memory>(&mut self, memory: &M) -> (Option<u8>, bool) {
        match &mut self.back_end {
            BackEnd::Console(received) => (received.pop_front(), received.is_empty()),
            BackEnd::Page(page, _) => (page.take(memory), page.input(memory) == 0),
        }
    }

    fn flags<M: Memory>(&self, memory: &M) -> u32 {
        let flag = |on, flag| if on { flag } else { 0 };
        match &self.back_end {
            BackEnd::Console(received) => {
                FR_TX_EMPTY
                    | flag(received.is_empty(), FR_RX_EMPTY)
                    | flag(received.len() >= RECEIVE_LIMIT, FR_RX_FULL)
            }
            BackEnd::Page(page, _) => {
                flag(page.output(memory) == 0, FR_TX_EMPTY)
                    | flag(page.is_output_full(memory), FR_TX_FULL)
                    | flag(page.input(memory) == 0, FR_RX_EMPTY)
                    | flag(page.is_input_full(memory), FR_RX_FULL)
            }
        }
    }

    /// Reads the register at `offset`.
    pub fn read<M: Memory>(&mut self, memory: &M, offset: u64) -> (u32, Effect) {
        let value = match offset {
            DR => {
                let (byte, empty) = self.pop(memory);
                if empty {
                    self.raw &= !(INT_RX | INT_RX_TIMEOUT);
                }
                // There is room in the ring again.
                let notify = self.page().filter(|_| byte.is_some()).map(|(_, port)| port);
                return (byte.map_or(0, u32::from), Effect { send: None, notify });
            }
            FR => self.flags(memory),
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
        };
        (value, Effect::default())
    }

    /// Writes the register at `offset`.
    pub fn write<M: Memory>(&mut self, memory: &M, offset: u64, value: u32) -> Effect {
        match offset {
            DR => return self.send(memory, value as u8),
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

    fn send<M: Memory>(&mut self, memory: &M, byte: u8) -> Effect {
        match &self.back_end {
            BackEnd::Console(_) => {
                self.raw |= INT_TX;
                Effect { send: Some(byte), notify: None }
            }
            BackEnd::Page(page, port) => {
                // A byte for a full FIFO is lost, as in the real one.
                page.put(memory, byte);
                let full = page.is_output_full(memory);
                self.raw = if full { self.raw & !INT_TX } else { self.raw | INT_TX };
                Effect { send: None, notify: Some(*port) }
            }
        }
    }

    /// Puts a byte into the receive buffer of a device on the hypervisor's console; whether it was taken.
    pub fn receive(&mut self, byte: u8) -> bool {
        let BackEnd::Console(received) = &mut self.back_end else { return false };
        if received.len() >= RECEIVE_LIMIT {
            return false;
        }
        received.push_back(byte);
        self.raw |= INT_RX | INT_RX_TIMEOUT;
        true
    }

    /// As [`Vpl011::receive`], if a driver has let the receive interrupt through; one that only writes never empties
    /// the buffer.
    pub fn receive_if_wanted(&mut self, byte: u8) {
        if self.mask & (INT_RX | INT_RX_TIMEOUT) != 0 {
            self.receive(byte);
        }
    }

    /// The back end of a ring page has sent an event: there is input, or room for output.
    pub fn look<M: Memory>(&mut self, memory: &M) {
        let Some((page, _)) = self.page() else { return };
        if page.input(memory) > 0 {
            self.raw |= INT_RX | INT_RX_TIMEOUT;
        }
        if !page.is_output_full(memory) {
            self.raw |= INT_TX;
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
    use crate::addr::Pa;
    use crate::fake::FakeMachine;

    fn machine() -> FakeMachine {
        FakeMachine::with_ram(0x4000_0000, 0x10_0000)
    }

    #[test]
    fn sends_at_once_and_is_never_busy() {
        let (m, mut uart) = (machine(), Vpl011::new());
        assert_eq!(uart.read(&m, FR).0 & (FR_TX_EMPTY | FR_RX_EMPTY), FR_TX_EMPTY | FR_RX_EMPTY);
        assert_eq!(uart.write(&m, DR, u32::from(b'x')), Effect { send: Some(b'x'), notify: None });
    }

    #[test]
    fn receive_interrupt_follows_the_buffer() {
        let (m, mut uart) = (machine(), Vpl011::new());
        assert_eq!(uart.write(&m, IMSC, INT_RX), Effect::default());
        assert!(!uart.line());
        uart.receive(b'a');
        uart.receive(b'b');
        assert!(uart.line());
        assert_eq!(uart.read(&m, DR), (u32::from(b'a'), Effect::default()));
        assert!(uart.line());
        assert_eq!(uart.read(&m, DR).0, u32::from(b'b'));
        assert!(!uart.line());
        for _ in 0..2 * RECEIVE_LIMIT {
            uart.receive(0);
        }
        assert_eq!(uart.read(&m, FR).0 & FR_RX_FULL, FR_RX_FULL);
    }

    #[test]
    fn linux_recognises_it() {
        let (m, mut uart) = (machine(), Vpl011::new());
        let id = (0..4).fold(0, |id, i| id | (uart.read(&m, 0xfe0 + 4 * i).0 & 0xff) << (8 * i));
        assert_eq!(id & 0x000f_ffff, 0x0004_1011);
    }

    #[test]
    fn a_ring_page_paces_the_guest() {
        let m = machine();
        let page = Pa(0x4000_2000);
        // `out_cons` and `in_prod`, which are the back end's (`io/console.h`).
        let (in_prod, out_cons) = (page.offset(3076), page.offset(3080));
        let mut uart = Vpl011::on_page(ConsolePage::new(page), 7);
        let _ = uart.write(&m, IMSC, INT_RX | INT_TX);
        let _ = uart.write(&m, ICR, INT_TX);
        assert!(!uart.line());
        for n in 0..2048 {
            assert_eq!(uart.read(&m, FR).0 & FR_TX_FULL, 0);
            assert_eq!(uart.write(&m, DR, n), Effect { send: None, notify: Some(7) });
            assert_eq!(uart.line(), n != 2047, "the transmitter asks for more until the ring is full");
        }
        assert_eq!(uart.read(&m, FR).0 & (FR_TX_FULL | FR_TX_EMPTY), FR_TX_FULL);
        m.set_word(out_cons, 2048);
        m.set_word(in_prod, 1);
        m.write(page, b"k").unwrap();
        uart.look(&m);
        assert!(uart.line());
        assert_eq!(uart.read(&m, RIS).0, INT_TX | INT_RX | INT_RX_TIMEOUT);
        assert_eq!(uart.read(&m, DR), (u32::from(b'k'), Effect { send: None, notify: Some(7) }));
        assert_eq!(uart.read(&m, DR), (0, Effect::default()), "nothing taken, nothing to tell");
        assert_eq!(uart.read(&m, RIS).0, INT_TX);
        assert!(!uart.receive(b'x'), "the hypervisor's input is not for a guest with a back end of its own");
    }
}
