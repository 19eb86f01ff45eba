//! The console UART, driven just far enough for a console: polled output, interrupt-driven input. Speed and framing
//! stay as firmware set them; a hypervisor that guessed a clock would silence a console that works.

#[cfg(feature = "ns16550")]
pub mod ns16550;
#[cfg(feature = "pl011")]
pub mod pl011;

use vambrace_core::addr::Pa;
#[cfg(any(feature = "ns16550", feature = "pl011"))]
use vambrace_core::addr::PaRange;

#[cfg(any(feature = "ns16550", feature = "pl011"))]
use crate::mmio::Mmio;

/// A console UART of one of the kinds compiled in.
#[derive(Debug)]
pub enum Uart {
    /// Arm PrimeCell PL011, and the SBSA subset of it.
    #[cfg(feature = "pl011")]
    Pl011(pl011::Pl011),
    /// 16550 and its descendants, DesignWare APB UART included.
    #[cfg(feature = "ns16550")]
    Ns16550(ns16550::Ns16550),
}

macro_rules! dispatch {
    ($self:ident, $uart:ident => $call:expr) => {
        match *$self {
            #[cfg(feature = "pl011")]
            Uart::Pl011(ref $uart) => $call,
            #[cfg(feature = "ns16550")]
            Uart::Ns16550(ref $uart) => $call,
        }
    };
}

impl Uart {
    /// The driver for a device-tree node with these `compatible` strings (most specific first) whose registers start
    /// at `base` (physical); `None` where no driver compiled in knows it, or `base` is not aligned to a register.
    ///
    /// `reg_shift` (log2 of the distance of registers) and `io_width` (bytes of an access) are the properties of the
    /// same names, with `None` for an absent one (device-tree binding `serial/8250.yaml`). The PL011 needs neither.
    ///
    /// # Safety
    ///
    /// [`Uart::region_size`] bytes from `base` are the registers of such a UART, mapped as device memory for good
    /// (virtual = physical), and not memory that Rust code uses.
    #[allow(unused_variables)]
    pub unsafe fn new<'a>(
        compatible: impl IntoIterator<Item = &'a str>,
        base: Pa,
        reg_shift: Option<u32>,
        io_width: Option<u32>,
    ) -> Option<Self> {
        for name in compatible {
            match name {
                #[cfg(feature = "pl011")]
                "arm,pl011" | "arm,sbsa-uart" if base.is_aligned(4) => {
                    // SAFETY: the caller promised the registers.
                    let registers = unsafe { Mmio::new(PaRange::new(base, pl011::REGION_SIZE as u64)?) };
                    return Some(Uart::Pl011(pl011::Pl011::new(registers)));
                }
                #[cfg(feature = "ns16550")]
                _ => {
                    if let Some(kind) = ns16550::Kind::from_compatible(name) {
                        let shift = reg_shift.unwrap_or(kind.default_shift());
                        let width = io_width.unwrap_or(kind.default_width());
                        let size = ns16550::region_size(shift)?;
                        // SAFETY: the caller promised the registers.
                        let registers = unsafe { Mmio::new(PaRange::new(base, size as u64)?) };
                        return ns16550::Ns16550::new(registers, kind, shift, width).map(Uart::Ns16550);
                    }
                }
                #[cfg(not(feature = "ns16550"))]
                _ => {}
            }
        }
        None
    }

    /// Bytes of registers, from the base, that [`Uart::new`] with this `reg_shift` may touch.
    pub const fn region_size(reg_shift: Option<u32>) -> usize {
        match reg_shift {
            Some(shift) if shift >= 7 => 32 << 7,
            _ => 0x1000,
        }
    }

    /// Sets the UART up: FIFOs on, all its interrupts masked, anything latched cleared. Output in flight is waited for.
    pub fn init(&self) {
        dispatch!(self, uart => uart.init())
    }

    /// Writes bytes, waiting while the UART is busy; `\n` goes out as `\r\n`. A UART that stays busy for a million
    /// polls loses the byte rather than stop the hypervisor.
    pub fn put(&self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.put_byte(byte));
    }

    #[cfg_attr(not(any(feature = "ns16550", feature = "pl011")), allow(unused_variables))]
    fn put_byte(&self, byte: u8) {
        if byte == b'\n' {
            dispatch!(self, uart => uart.put_byte(b'\r'));
        }
        dispatch!(self, uart => uart.put_byte(byte))
    }

    /// The next received byte, if any. Reading until `None` also clears the receive interrupt.
    pub fn get(&self) -> Option<u8> {
        dispatch!(self, uart => uart.get())
    }

    /// Lets the UART interrupt on received bytes, and clears what is latched.
    pub fn enable_receive_interrupt(&self) {
        dispatch!(self, uart => uart.enable_receive_interrupt())
    }

    /// Masks the receive interrupt.
    pub fn disable_receive_interrupt(&self) {
        dispatch!(self, uart => uart.disable_receive_interrupt())
    }

    /// Whether everything written has left the UART.
    pub fn is_drained(&self) -> bool {
        dispatch!(self, uart => uart.is_drained())
    }
}
