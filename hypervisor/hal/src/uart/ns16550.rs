//! The 16550 UART and its descendants (TI PC16550D data sheet): plain, TI OMAP's, and the DesignWare APB UART of many
//! SoCs (DW_apb_uart databook), which adds a busy detection with an interrupt of its own.

use crate::mmio::{Mmio, wait_for};

// Register indices; the byte offset is the index shifted by `reg-shift`. DLAB is 0 throughout.
/// Receive buffer (read), transmit holding (write).
const DATA: usize = 0;
/// Interrupt enable.
const IER: usize = 1;
/// Interrupt identification (read), FIFO control (write).
const IIR_FCR: usize = 2;
/// Line control.
const LCR: usize = 3;
/// Modem control.
const MCR: usize = 4;
/// Line status.
const LSR: usize = 5;
/// OMAP: mode definition register 1, in the scratch area after the standard registers.
const OMAP_MDR1: usize = 8;
/// DesignWare: UART status.
const DW_USR: usize = 0x1f;

const IER_RECEIVE: u32 = 1;
const FCR_ENABLE: u32 = 1;
const LCR_DLAB: u32 = 0x80;
const MCR_DTR_RTS_OUT2: u32 = 0x0b;
const LSR_DATA: u32 = 1;
const LSR_THRE: u32 = 1 << 5;
const LSR_TEMT: u32 = 1 << 6;
/// IIR value: DesignWare's "wrote LCR while busy".
const IIR_BUSY: u32 = 0x7;
/// IIR value: received bytes wait below the trigger level.
const IIR_TIMEOUT: u32 = 0xc;

/// Which descendant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing beyond the 16550.
    Plain,
    /// DesignWare APB UART.
    DesignWare,
    /// TI OMAP.
    Omap,
}

impl Kind {
    /// The kind that a device tree's `compatible` string names.
    pub fn from_compatible(name: &str) -> Option<Self> {
        match name {
            "ns16550" | "ns16550a" | "ns16450" | "ns8250" | "nxp,lpc1850-uart" => Some(Kind::Plain),
            "ns16850" | "nvidia,tegra20-uart" | "marvell,armada-38x-uart" => Some(Kind::Plain),
            "snps,dw-apb-uart" => Some(Kind::DesignWare),
            "ti,omap2-uart" | "ti,omap3-uart" | "ti,omap4-uart" | "ti,am3352-uart" | "ti,am4372-uart"
            | "ti,am654-uart" | "ti,dra742-uart" => Some(Kind::Omap),
            _ => None,
        }
    }

    /// log2 of the distance of registers where the device tree does not say.
    pub const fn default_shift(self) -> u32 {
        match self {
            Kind::Plain | Kind::DesignWare => 0,
            Kind::Omap => 2,
        }
    }

    /// Bytes of an access where the device tree does not say.
    pub const fn default_width(self) -> u32 {
        match self {
            Kind::Plain | Kind::DesignWare => 1,
            Kind::Omap => 4,
        }
    }
}

/// Bytes of registers for a `reg-shift`; `None` for one that no hardware has.
pub const fn region_size(shift: u32) -> Option<usize> {
    if shift <= 7 { Some(32 << shift) } else { None }
}

/// A 16550 or a descendant of it.
#[derive(Debug)]
pub struct Ns16550 {
    registers: Mmio,
    kind: Kind,
    shift: u32,
    width: u32,
}

impl Ns16550 {
    /// The UART with these registers: `shift` is log2 of their distance, `width` the bytes of an access (1, 2 or 4).
    /// `None` where the width is another, an access would overlap the next register or be unaligned, or the region is
    /// smaller than [`region_size`].
    pub fn new(registers: Mmio, kind: Kind, shift: u32, width: u32) -> Option<Self> {
        let size = region_size(shift)?;
        let fits = matches!(width, 1 | 2 | 4) && width <= 1 << shift;
        let aligned = registers.base().is_multiple_of(width.max(1) as usize);
        (fits && aligned && registers.size() >= size).then_some(Self { registers, kind, shift, width })
    }

    fn read(&self, index: usize) -> u32 {
        let offset = index << self.shift;
        match self.width {
            1 => u32::from(self.registers.read8(offset)),
            2 => u32::from(self.registers.read16(offset)),
            _ => self.registers.read32(offset),
        }
    }

    fn write(&self, index: usize, value: u32) {
        let offset = index << self.shift;
        match self.width {
            1 => self.registers.write8(offset, value as u8),
            2 => self.registers.write16(offset, value as u16),
            _ => self.registers.write32(offset, value),
        }
    }

    /// Masks interrupts and turns the FIFOs on, at the speed and framing that the UART has.
    pub fn init(&self) {
        // FCR changes and DesignWare's LCR writes during transmission lose bytes or are ignored.
        wait_for(|| self.is_drained());
        let line = self.read(LCR);
        if line & LCR_DLAB != 0 {
            self.write(LCR, line & !LCR_DLAB);
        }
        self.write(IER, 0);
        if self.kind == Kind::Omap && self.read(OMAP_MDR1) & 7 == 7 {
            // Firmware left it disabled (mode 7); 0 is the 16x UART mode that U-Boot uses.
            self.write(OMAP_MDR1, 0);
        }
        self.write(IIR_FCR, FCR_ENABLE);
        self.write(MCR, MCR_DTR_RTS_OUT2);
        self.clear_latched();
    }

    /// Writes one byte if there is room.
    pub fn try_put(&self, byte: u8) -> bool {
        let room = self.read(LSR) & LSR_THRE != 0;
        if room {
            self.write(DATA, u32::from(byte));
        }
        room
    }

    /// The next received byte.
    pub fn get(&self) -> Option<u8> {
        if self.read(LSR) & LSR_DATA == 0 {
            self.clear_latched();
            return None;
        }
        Some(self.read(DATA) as u8)
    }

    /// Clears the two interrupts that no receive loop ends: the busy detection, and a receive timeout that stayed
    /// although the FIFO is empty.
    fn clear_latched(&self) {
        match self.read(IIR_FCR) & 0xf {
            IIR_BUSY if self.kind == Kind::DesignWare => {
                self.read(DW_USR);
            }
            IIR_TIMEOUT if self.read(LSR) & LSR_DATA == 0 => {
                self.read(DATA);
            }
            _ => {}
        }
    }

    /// Lets the receive interrupt through.
    pub fn enable_receive_interrupt(&self) {
        self.clear_latched();
        self.write(IER, IER_RECEIVE);
    }

    /// Whether everything written has left the UART.
    pub fn is_drained(&self) -> bool {
        self.read(LSR) & LSR_TEMT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::range;

    #[test]
    fn refuses_impossible_layouts() {
        // SAFETY: never accessed.
        let region = unsafe { Mmio::new(range(0x1000, 0x1000)) };
        assert!(Ns16550::new(region, Kind::Plain, 2, 4).is_some());
        assert!(Ns16550::new(region, Kind::Plain, 0, 1).is_some());
        assert!(Ns16550::new(region, Kind::Plain, 0, 4).is_none(), "registers overlap");
        assert!(Ns16550::new(region, Kind::Plain, 2, 3).is_none());
        assert!(Ns16550::new(region, Kind::Plain, 40, 4).is_none());
        // SAFETY: never accessed.
        let odd = unsafe { Mmio::new(range(0x1002, 0x1000)) };
        assert!(Ns16550::new(odd, Kind::Plain, 2, 4).is_none(), "unaligned");
    }

    #[test]
    fn registers_lie_at_their_shift() {
        let mut registers = [0u32; 32];
        registers[LSR] = LSR_THRE | LSR_TEMT | LSR_DATA;
        registers[LCR] = LCR_DLAB | 3;
        // SAFETY: the region is the array, which outlives it.
        let region = unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, 128)) };
        let uart = Ns16550::new(region, Kind::DesignWare, 2, 4).unwrap();
        uart.init();
        assert_eq!(region.read32(LCR << 2), 3, "divisor latch closed");
        assert_eq!(region.read32(IER << 2), 0);
        assert_eq!(region.read32(IIR_FCR << 2), FCR_ENABLE);
        assert!(uart.try_put(b'v'));
        assert_eq!(uart.get(), Some(b'v'));
        uart.enable_receive_interrupt();
        assert_eq!(region.read32(IER << 2), IER_RECEIVE);
    }

    #[test]
    fn a_designware_uart_that_was_busy_is_freed_of_its_interrupt() {
        // The interrupt is latched until USR is read, which a fake cannot show; that USR is in reach can be seen.
        let mut registers = [0u32; 32];
        registers[IIR_FCR] = IIR_BUSY;
        registers[LSR] = LSR_THRE | LSR_TEMT;
        // SAFETY: the region is the array, which outlives it.
        let region = unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, 128)) };
        let uart = Ns16550::new(region, Kind::DesignWare, 2, 4).unwrap();
        assert_eq!(uart.get(), None);
        assert_eq!(DW_USR << 2, 0x7c);
    }

    #[test]
    fn omap_s_mode_stays_unless_it_is_off() {
        for (mode, expected) in [(0, 0), (3, 3), (7, 0)] {
            let mut registers = [0u32; 32];
            registers[LSR] = LSR_THRE | LSR_TEMT;
            registers[OMAP_MDR1] = mode;
            // SAFETY: the region is the array, which outlives it.
            let region = unsafe { Mmio::new(range(registers.as_mut_ptr() as usize, 128)) };
            Ns16550::new(region, Kind::Omap, 2, 4).unwrap().init();
            assert_eq!(region.read32(OMAP_MDR1 << 2), expected);
        }
    }
}
