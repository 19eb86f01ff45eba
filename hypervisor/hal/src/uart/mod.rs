//! The console UART, driven just far enough for a console: polled output, interrupt-driven input. Speed and framing
//! stay as firmware set them; a hypervisor that guessed a clock would silence a console that works.

#[cfg(feature = "exynos4210")]
pub mod exynos4210;
#[cfg(feature = "ns16550")]
pub mod ns16550;
#[cfg(feature = "pl011")]
pub mod pl011;

use core::sync::atomic::{AtomicBool, Ordering};

use vambrace_core::addr::Pa;
#[cfg(any(feature = "exynos4210", feature = "ns16550", feature = "pl011"))]
use vambrace_core::addr::PaRange;

#[cfg(any(feature = "exynos4210", feature = "ns16550", feature = "pl011"))]
use crate::mmio::Mmio;
use crate::mmio::{PATIENCE, wait_at_most};

/// How often a UART that was stuck when it was last written to is asked for room: what is not there now can wait for
/// the next byte, where a million polls for each would stop the hypervisor for minutes.
const PATIENCE_WHEN_STUCK: u32 = 16;

/// A console UART.
#[derive(Debug)]
pub struct Uart {
    driver: Driver,
    /// It had no room for the last byte, however long that was waited for.
    stuck: AtomicBool,
}

/// The driver of one of the kinds compiled in.
#[derive(Debug)]
enum Driver {
    /// Arm PrimeCell PL011, and the SBSA subset of it.
    #[cfg(feature = "pl011")]
    Pl011(pl011::Pl011),
    /// 16550 and its descendants, DesignWare APB UART included.
    #[cfg(feature = "ns16550")]
    Ns16550(ns16550::Ns16550),
    /// Samsung's, of S5PV210 and Exynos.
    #[cfg(feature = "exynos4210")]
    Exynos4210(exynos4210::Exynos4210),
}

macro_rules! dispatch {
    ($self:ident, $uart:ident => $call:expr) => {
        match $self.driver {
            #[cfg(feature = "pl011")]
            Driver::Pl011(ref $uart) => $call,
            #[cfg(feature = "ns16550")]
            Driver::Ns16550(ref $uart) => $call,
            #[cfg(feature = "exynos4210")]
            Driver::Exynos4210(ref $uart) => $call,
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
    pub unsafe fn new<'a>(
        compatible: impl IntoIterator<Item = &'a str>,
        base: Pa,
        reg_shift: Option<u32>,
        io_width: Option<u32>,
    ) -> Option<Self> {
        // SAFETY: the caller promised the registers.
        let driver = |name| unsafe { Driver::new(name, base, reg_shift, io_width) };
        let driver = compatible.into_iter().find_map(driver)?;
        Some(Self { driver, stuck: AtomicBool::new(false) })
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
    /// polls loses the byte rather than stop the hypervisor, and those after it at once until it has room again.
    pub fn put(&self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.put_byte(byte));
    }

    fn put_byte(&self, byte: u8) {
        if byte == b'\n' {
            self.put_raw(b'\r');
        }
        self.put_raw(byte);
    }

    #[cfg_attr(
        not(any(feature = "exynos4210", feature = "ns16550", feature = "pl011")),
        allow(unused_variables, unreachable_code)
    )]
    fn put_raw(&self, byte: u8) {
        let stuck = self.stuck.load(Ordering::Relaxed);
        let polls = if stuck { PATIENCE_WHEN_STUCK } else { PATIENCE };
        let sent = wait_at_most(polls, || dispatch!(self, uart => uart.try_put(byte)));
        if sent == stuck {
            self.stuck.store(!sent, Ordering::Relaxed);
        }
    }

    /// The next received byte, if any. Reading until `None` also clears the receive interrupt.
    pub fn get(&self) -> Option<u8> {
        dispatch!(self, uart => uart.get())
    }

    /// Lets the UART interrupt on received bytes, and clears what is latched.
    pub fn enable_receive_interrupt(&self) {
        dispatch!(self, uart => uart.enable_receive_interrupt())
    }

    /// Whether everything written has left the UART.
    pub fn is_drained(&self) -> bool {
        dispatch!(self, uart => uart.is_drained())
    }
}

impl Driver {
    /// The driver for one `compatible` string; see [`Uart::new`].
    ///
    /// # Safety
    ///
    /// As for [`Uart::new`].
    #[allow(unused_variables)]
    unsafe fn new(name: &str, base: Pa, reg_shift: Option<u32>, io_width: Option<u32>) -> Option<Self> {
        #[cfg(feature = "pl011")]
        if matches!(name, "arm,pl011" | "arm,sbsa-uart") && base.is_aligned(4) {
            // SAFETY: the caller promised the registers.
            let registers = unsafe { Mmio::new(PaRange::new(base, pl011::REGION_SIZE as u64)?) };
            return Some(Self::Pl011(pl011::Pl011::new(registers)));
        }
        #[cfg(feature = "exynos4210")]
        if exynos4210::is_compatible(name) && base.is_aligned(4) {
            // SAFETY: the caller promised the registers.
            let registers = unsafe { Mmio::new(PaRange::new(base, exynos4210::REGION_SIZE as u64)?) };
            return Some(Self::Exynos4210(exynos4210::Exynos4210::new(registers)));
        }
        #[cfg(feature = "ns16550")]
        if let Some(kind) = ns16550::Kind::from_compatible(name) {
            let shift = reg_shift.unwrap_or(kind.default_shift());
            let width = io_width.unwrap_or(kind.default_width());
            let size = ns16550::region_size(shift)?;
            // SAFETY: the caller promised the registers.
            let registers = unsafe { Mmio::new(PaRange::new(base, size as u64)?) };
            return ns16550::Ns16550::new(registers, kind, shift, width).map(Self::Ns16550);
        }
        None
    }
}

#[cfg(all(test, feature = "pl011"))]
mod tests {
    use super::*;

    /// Registers of a PL011, of which the tests set the flags.
    fn pl011(registers: &mut [u32; pl011::REGION_SIZE / 4]) -> (Uart, Mmio) {
        let base = Pa(registers.as_mut_ptr() as u64);
        // SAFETY: the registers are the array, which outlives the driver in these tests.
        let uart = unsafe { Uart::new(["maker,uart", "arm,pl011"], base, None, None) }.unwrap();
        // SAFETY: as above.
        let region = unsafe { Mmio::new(PaRange::new(base, pl011::REGION_SIZE as u64).unwrap()) };
        (uart, region)
    }

    const DR: usize = 0;
    const FR: usize = 0x18;
    const FR_TXFF: u32 = 1 << 5;

    #[test]
    fn a_stuck_uart_costs_little_until_it_moves_again() {
        let mut registers = [0; pl011::REGION_SIZE / 4];
        let (uart, region) = pl011(&mut registers);
        uart.put(b"a");
        assert_eq!((region.read32(DR), uart.stuck.load(Ordering::Relaxed)), (u32::from(b'a'), false));
        region.write32(FR, FR_TXFF);
        uart.put(b"b");
        assert_eq!((region.read32(DR), uart.stuck.load(Ordering::Relaxed)), (u32::from(b'a'), true));
        uart.put(b"c\n");
        assert!(uart.stuck.load(Ordering::Relaxed));
        region.write32(FR, 0);
        uart.put(b"d");
        assert_eq!((region.read32(DR), uart.stuck.load(Ordering::Relaxed)), (u32::from(b'd'), false));
    }

    #[test]
    fn a_line_end_takes_two_bytes() {
        let mut registers = [0; pl011::REGION_SIZE / 4];
        let (uart, region) = pl011(&mut registers);
        uart.put(b"x\n");
        assert_eq!(region.read32(DR), u32::from(b'\n'));
    }

    #[test]
    fn each_known_name_finds_its_driver_and_others_none() {
        let base = Pa(0x1c02_0000);
        // SAFETY: the drivers are made and dropped, their registers never accessed.
        let find =
            |name, base, shift, width| unsafe { Uart::new([name], base, shift, width) }.map(|u| u.driver);
        assert!(matches!(find("arm,sbsa-uart", base, None, None), Some(Driver::Pl011(_))));
        assert!(find("arm,pl011", Pa(0x1c02_0002), None, None).is_none(), "unaligned");
        assert!(find("maker,uart", base, None, None).is_none());
        #[cfg(feature = "exynos4210")]
        {
            let found = find("samsung,exynos4210-uart", base, None, None);
            assert!(matches!(found, Some(Driver::Exynos4210(_))));
        }
        #[cfg(feature = "ns16550")]
        for (name, shift, width) in [
            // As on SunXi, X-Gene and OMAP5.
            ("snps,dw-apb-uart", Some(2), Some(4)),
            ("ns16550a", Some(2), None),
            ("ti,omap4-uart", None, None),
        ] {
            assert!(matches!(find(name, base, shift, width), Some(Driver::Ns16550(_))), "{name}");
        }
    }
}
