//! From the device tree's description to drivers: maps registers and makes the driver that fits.

use core::fmt;

use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::platform::{self, GicFrames, RealtimeCounter};

use crate::gic::{Gic, GicError};
use crate::mmio::{Mmio, barrier};
use crate::mmu;
use crate::stage1::MapError;
use crate::uart::Uart;

/// Why a device cannot be used.
#[derive(Debug)]
pub enum DeviceError {
    /// Its registers cannot be mapped.
    Map(PaRange, MapError),
    /// No driver for it was compiled in.
    NoDriver(&'static str),
    /// The board's counter has an input clock that is not known.
    Clock(u32),
    /// The interrupt controller is not as it has to be.
    Gic(GicError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(range, e) => {
                write!(f, "registers at {}..{} cannot be mapped: {e:?}", range.start, range.end)
            }
            Self::NoDriver(what) => write!(f, "this build has no driver for the board's {what}"),
            Self::Clock(input) => write!(f, "the counter's input clock, number {input:#x}, is not known"),
            Self::Gic(e) => write!(f, "{e}"),
        }
    }
}

impl From<GicError> for DeviceError {
    fn from(e: GicError) -> Self {
        Self::Gic(e)
    }
}

fn map(range: PaRange) -> Result<crate::mmio::Mmio, DeviceError> {
    mmu::map_device(range).map_err(|e| DeviceError::Map(range, e))
}

/// Sets the board's counter to its frequency.
pub fn set_counter(counter: &RealtimeCounter) -> Result<(), DeviceError> {
    let register = |at: Pa| map(PaRange { start: at, end: at.offset(4) });
    let input = register(counter.input)?.read32(0);
    let (numerator, denominator) = RealtimeCounter::fraction(input).ok_or(DeviceError::Clock(input))?;
    let fraction = |mmio: &Mmio, value, also| {
        mmio.write32(0, mmio.read32(0) & !RealtimeCounter::FRACTION | value | also);
    };
    fraction(&register(counter.numerator)?, numerator, 0);
    fraction(&register(counter.denominator)?, denominator, RealtimeCounter::RELOAD);
    barrier();
    Ok(())
}

/// The driver for the board's console UART, set up.
pub fn open_uart(uart: &platform::Uart) -> Result<Uart, DeviceError> {
    let shift = (uart.register_shift != 0).then_some(uart.register_shift);
    let size = (Uart::region_size(shift) as u64).max(uart.registers.size());
    let range = PaRange::new(uart.registers.start, size)
        .ok_or(DeviceError::Map(uart.registers, MapError::OutOfRange))?;
    map(range)?;
    let names = uart.compatible.iter().map(|name| name.as_str());
    // SAFETY: the registers are the UART's by the device tree, which the loader vouches for, and were just mapped as
    // device memory, which holds no Rust object; device mappings are never taken back.
    let driver = unsafe { Uart::new(names, range.start, shift, uart.register_width) };
    let driver = driver.ok_or(DeviceError::NoDriver("console UART"))?;
    driver.init();
    Ok(driver)
}

/// The driver for the board's interrupt controller.
pub fn open_gic(gic: &platform::Gic) -> Result<Gic, DeviceError> {
    match &gic.frames {
        #[cfg(feature = "gicv2")]
        GicFrames::V2 { gicd, gicc, gich, .. } => {
            Ok(Gic::V2(crate::gic::v2::GicV2::new(map(*gicd)?, map(*gicc)?, map(*gich)?)?))
        }
        #[cfg(feature = "gicv3")]
        GicFrames::V3 { gicd, redistributors, stride, .. } => {
            let mut regions = arrayvec::ArrayVec::new();
            for range in redistributors {
                regions.try_push(map(*range)?).map_err(|_| {
                    DeviceError::NoDriver("interrupt controller: too many redistributor regions")
                })?;
            }
            Ok(Gic::V3(crate::gic::v3::GicV3::new(map(*gicd)?, regions, stride.map(|s| s as usize))?))
        }
        #[allow(unreachable_patterns)]
        _ => Err(DeviceError::NoDriver("interrupt controller")),
    }
}
