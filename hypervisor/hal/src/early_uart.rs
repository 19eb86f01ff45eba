//! The console of the first moments: write-only, polled, with an address that the build fixed.
//!
//! A board's build names its UART by `VAMBRACE_EARLY_UART=<driver>:<hex base>:<register shift>`, or by
//! `VAMBRACE_UART`, `VAMBRACE_UART_BASE` and `VAMBRACE_UART_SHIFT`; `<driver>` is `pl011`, `ns16550` or `exynos4210`, the
//! base is physical, the shift is log2 of the distance between registers in bytes. A generic build has none.

use core::fmt;

use vambrace_core::addr::{Pa, PaRange};

use crate::mmio::Mmio;

/// Which registers the UART has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EarlyUartKind {
    /// Arm PrimeCell PL011 (DDI 0183): data at 0, flags at 0x18.
    Pl011,
    /// 16550 and its kin: data at 0, line status at 5, both shifted.
    Ns16550,
    /// Samsung's since S5PV210: transmit at 0x20, state of the FIFO at 0x18.
    Exynos4210,
}

/// A UART that the firmware has set up, to write to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EarlyUart {
    /// Which registers.
    pub kind: EarlyUartKind,
    /// Physical address of the registers.
    pub base: Pa,
    /// log2 of the distance between registers, in bytes.
    pub shift: u8,
}

/// The UART that this build names, if any.
pub const EARLY_UART: Option<EarlyUart> = match option_env!("VAMBRACE_EARLY_UART") {
    Some(text) => parse(text.as_bytes()),
    None => match (option_env!("VAMBRACE_UART"), option_env!("VAMBRACE_UART_BASE")) {
        (Some(kind), Some(base)) => {
            let shift = match option_env!("VAMBRACE_UART_SHIFT") {
                Some(shift) => shift,
                None => "0",
            };
            named(kind.as_bytes(), number(base.as_bytes()), number(shift.as_bytes()))
        }
        _ => None,
    },
};

/// Polls of a full transmitter before a byte is given up: a wrong address must not hang the boot.
const PATIENCE: u32 = 1 << 20;

impl EarlyUart {
    /// The registers that [`EarlyUart::put`] touches (physical).
    pub const fn registers(&self) -> PaRange {
        PaRange { start: self.base, end: self.base.offset(0x40) }
    }

    /// Writes bytes, waiting while the UART is busy; `\n` goes out as `\r\n`.
    ///
    /// # Safety
    /// [`EarlyUart::registers`] is mapped as device memory (or translation is off).
    pub unsafe fn put(&self, bytes: &[u8]) {
        // SAFETY: the caller promises the mapping; the range holds registers, no Rust object. A transmitter starts no DMA.
        let registers = unsafe { Mmio::new(self.registers()) };
        for &byte in bytes {
            if byte == b'\n' {
                self.put_byte(&registers, b'\r');
            }
            self.put_byte(&registers, byte);
        }
    }

    fn put_byte(&self, registers: &Mmio, byte: u8) {
        for _ in 0..PATIENCE {
            let ready = match (self.kind, self.shift) {
                (EarlyUartKind::Pl011, _) => registers.read32(0x18) & 1 << 5 == 0,
                // With its FIFO off (UFCON bit 0), UTRSTAT tells.
                (EarlyUartKind::Exynos4210, _) if registers.read32(8) & 1 == 0 => {
                    registers.read32(0x10) & 1 << 1 != 0
                }
                (EarlyUartKind::Exynos4210, _) => registers.read32(0x18) & 1 << 24 == 0,
                (_, 2..) => registers.read32(5 << self.shift) & 1 << 5 != 0,
                _ => registers.read8(5 << self.shift) & 1 << 5 != 0,
            };
            if ready {
                break;
            }
            core::hint::spin_loop();
        }
        match (self.kind, self.shift) {
            (EarlyUartKind::Ns16550, 0..=1) => registers.write8(0, byte),
            (EarlyUartKind::Exynos4210, _) => registers.write32(0x20, byte.into()),
            _ => registers.write32(0, byte.into()),
        }
    }
}

/// Writes to the build's early UART, if it has one. From the first instruction on its registers are mapped.
#[derive(Clone, Copy, Debug)]
pub struct EarlyConsole;

impl EarlyConsole {
    /// Writes text.
    pub fn put(self, text: &str) {
        if let Some(uart) = EARLY_UART {
            // SAFETY: translation is off, or the tables that `boot` built map this page as device memory, or EFI's
            // tables do: firmware maps the devices it drives, and it drives its console.
            unsafe { uart.put(text.as_bytes()) }
        }
    }

    /// Writes a number in hexadecimal, without the formatting machinery (and its size).
    pub fn put_hex(self, value: u64) {
        let mut text = *b"0x0000000000000000";
        for (i, digit) in text.iter_mut().skip(2).enumerate() {
            let nibble = (value >> (60 - 4 * i)) as u8 & 15;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        if let Ok(text) = core::str::from_utf8(&text) {
            self.put(text);
        }
    }
}

impl fmt::Write for EarlyConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
        Ok(())
    }
}

const fn parse(text: &[u8]) -> Option<EarlyUart> {
    let (kind, rest) = field(text);
    let (base, shift) = field(rest);
    named(kind, number(base), if shift.is_empty() { 0 } else { number(shift) })
}

/// What stands before and after the first colon.
const fn field(text: &[u8]) -> (&[u8], &[u8]) {
    let mut i = 0;
    while i < text.len() {
        if text[i] == b':' {
            let (before, after) = text.split_at(i);
            return (before, after.split_at(1).1);
        }
        i += 1;
    }
    (text, &[])
}

/// A hexadecimal number, with or without `0x`; what else stands there stops the build.
const fn number(text: &[u8]) -> u64 {
    let digits = match text {
        [b'0', b'x' | b'X', digits @ ..] => digits,
        digits => digits,
    };
    assert!(!digits.is_empty() && digits.len() <= 16, "the early UART's base or shift is no number");
    let (mut value, mut i) = (0, 0);
    while i < digits.len() {
        let digit = match digits[i] {
            c @ b'0'..=b'9' => c - b'0',
            c @ b'a'..=b'f' => c - b'a' + 10,
            c @ b'A'..=b'F' => c - b'A' + 10,
            _ => panic!("the early UART's base or shift is no number"),
        };
        value = value << 4 | digit as u64;
        i += 1;
    }
    value
}

const fn named(kind: &[u8], base: u64, shift: u64) -> Option<EarlyUart> {
    assert!(shift <= 3, "the early UART's register shift is above 3");
    let kind = match kind {
        b"pl011" => EarlyUartKind::Pl011,
        b"ns16550" | b"16550" => EarlyUartKind::Ns16550,
        b"exynos4210" => EarlyUartKind::Exynos4210,
        b"" => return None,
        _ => panic!("the early UART's driver is neither pl011 nor ns16550 nor exynos4210"),
    };
    assert!(base.is_multiple_of(4) && base < 1 << 48, "the early UART's base is no address of registers");
    Some(EarlyUart { kind, base: Pa(base), shift: shift as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_build_setting() {
        let uart = |kind, base, shift| Some(EarlyUart { kind, base: Pa(base), shift });
        assert_eq!(parse(b"pl011:0x9000000:0"), uart(EarlyUartKind::Pl011, 0x900_0000, 0));
        assert_eq!(parse(b"ns16550:fe215040:2"), uart(EarlyUartKind::Ns16550, 0xfe21_5040, 2));
        assert_eq!(parse(b"pl011:9000000"), uart(EarlyUartKind::Pl011, 0x900_0000, 0));
        assert_eq!(parse(b"exynos4210:12c20000"), uart(EarlyUartKind::Exynos4210, 0x12c2_0000, 0));
        assert_eq!(named(b"", 0, 0), None);
    }

    #[test]
    #[should_panic(expected = "neither")]
    fn refuses_an_unknown_driver() {
        let _ = parse(b"pl012:0x9000000:0");
    }
}
