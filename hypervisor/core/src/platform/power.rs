//! How the board is reset and switched off, as its device tree says.
//!
//! The registers stay dom0's as well: the hypervisor touches them only to end the machine, after dom0 has stopped, so
//! the two never use them at the same time. Dom0's own attempt to end the machine reaches the hypervisor through its
//! virtual PSCI, which Linux prefers to a board's register.

use alloc::vec::Vec;

use super::address::block;
use super::error::PlatformError;
use super::psci::{Conduit, Psci, PsciVersion};
use super::sequence::Step;
use super::tree::{Node, Tree};
use crate::addr::Pa;

/// A way to end the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PowerMethod {
    /// What drives it, for the log.
    pub name: &'static str,
    /// What is to be done, in order. The machine ends some time after the last step.
    pub steps: Vec<Step>,
}

/// The board's ways to end, the most trusted first: where one has no effect within a second the next is tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// To switch the board off.
    pub off: Vec<PowerMethod>,
    /// To reset it.
    pub reset: Vec<PowerMethod>,
}

/// PSCI SYSTEM_OFF and SYSTEM_RESET (Arm DEN0022, 5.1.9 and 5.1.11).
pub(crate) const PSCI_SYSTEM_OFF: u32 = 0x8400_0008;
/// PSCI SYSTEM_RESET.
pub(crate) const PSCI_SYSTEM_RESET: u32 = 0x8400_0009;

/// Finds the ways. A node that makes no sense is left out.
pub(crate) fn find(tree: &Tree<'_>, psci: Option<&Psci>) -> Power {
    let mut power = Power::default();
    // Version 0.1 has no function for either, and `hvc` does not leave the hypervisor.
    if psci.is_some_and(|psci| psci.version > PsciVersion::V0_1 && psci.conduit == Conduit::Smc) {
        let call = |function| PowerMethod { name: "PSCI", steps: [Step::Firmware { function }].into() };
        power.off.push(call(PSCI_SYSTEM_OFF));
        power.reset.push(call(PSCI_SYSTEM_RESET));
    }
    for node in tree.nodes().filter(Node::is_available) {
        let Ok(found) = of_node(node) else { continue };
        match found {
            Some((End::Off, method)) => power.off.push(method),
            Some((End::Reset, method)) => power.reset.push(method),
            Some((End::Both(off), reset)) => {
                power.off.push(off);
                power.reset.push(reset);
            }
            None => {}
        }
    }
    power
}

/// What a method is for. `Both` carries the method that switches off beside the one that resets.
enum End {
    Off,
    Reset,
    Both(PowerMethod),
}

fn of_node(node: Node<'_, '_>) -> Result<Option<(End, PowerMethod)>, PlatformError> {
    let method = |name, steps: Option<Vec<Step>>| steps.map(|steps| PowerMethod { name, steps });
    Ok(if node.is_compatible("syscon-poweroff") {
        method("syscon", syscon(node)?).map(|found| (End::Off, found))
    } else if node.is_compatible("syscon-reboot") {
        method("syscon", syscon(node)?).map(|found| (End::Reset, found))
    } else if node.is_compatible("arm,vexpress-shutdown") {
        method("Versatile Express", vexpress(node)?).map(|found| (End::Off, found))
    } else if node.is_compatible("arm,vexpress-reboot") {
        method("Versatile Express", vexpress(node)?).map(|found| (End::Reset, found))
    } else if node.is_compatible("calxeda,hb-sregs") {
        let found = |request| Ok(method("Calxeda", calxeda(node, request)?));
        let off = found(CALXEDA_SHUTDOWN)?;
        off.zip(found(CALXEDA_HARD_RESET)?).map(|(off, reset)| (End::Both(off), reset))
    } else if node.is_compatible("allwinner,sun6i-a31-wdt") {
        method("watchdog", allwinner(node, &SUN6I)?).map(|found| (End::Reset, found))
    } else if node.is_compatible("allwinner,sun4i-a10-wdt") {
        method("watchdog", allwinner(node, &SUN4I)?).map(|found| (End::Reset, found))
    } else if node.is_compatible("ti,palmas") && node.has("ti,system-power-controller") {
        method("Palmas", palmas(node)?).map(|found| (End::Off, found))
    } else if node.is_compatible("ti,omap5-prm") {
        let reset = |register| [Step::Write { register, value: OMAP5_RESET_COLD }].into();
        method("OMAP5", register(node, OMAP5_RESET)?.map(reset)).map(|found| (End::Reset, found))
    } else if node.is_compatible("apm,xgene-reboot") {
        let mask = node.cell("mask")?.unwrap_or(1);
        let steps = register(node, 0)?.map(|register| [Step::Write { register, value: mask }].into());
        method("X-Gene", steps).map(|found| (End::Reset, found))
    } else {
        None
    })
}

/// PRM_RSTCTRL of OMAP5's device instance (OMAP543x TRM, 3.12): a cold reset of all.
const OMAP5_RESET: u32 = 0x1c00;
const OMAP5_RESET_COLD: u32 = 2;

/// Registers of OMAP4's I2C controller, of 16 bits (OMAP543x TRM, 23.1.6), and what is written to them.
const I2C_STATUS_RAW: u64 = 0x24;
const I2C_STATUS: u64 = 0x28;
const I2C_ENABLE_CLEAR: u64 = 0x30;
const I2C_COUNT: u64 = 0x98;
const I2C_DATA: u64 = 0x9c;
const I2C_CONTROL: u64 = 0xa4;
const I2C_TARGET: u64 = 0xac;
const I2C_PRESCALER: u64 = 0xb0;
const I2C_LOW: u64 = 0xb4;
const I2C_HIGH: u64 = 0xb8;
/// One past the last of them.
const I2C_END: u64 = 0xbc;
const I2C_READY_TO_SEND: u16 = 1 << 4;
const I2C_DONE: u16 = 1 << 2;
const I2C_ON: u16 = 1 << 15;
/// On, as the one that sends, from a start condition to a stop condition.
const I2C_SEND: u16 = I2C_ON | 1 << 10 | 1 << 9 | 1 << 1 | 1;
/// 100 kHz out of 96 MHz by way of 4 MHz.
const I2C_TIMES: [(u64, u16); 3] = [(I2C_PRESCALER, 23), (I2C_LOW, 13), (I2C_HIGH, 15)];
/// Register DEV_CTRL of the Palmas power controllers, in their first block: 0 switches off (TWL6037 register manual).
const PALMAS_DEVICE_CONTROL: u16 = 0xa0;

/// The power controller of OMAP5 boards (Linux binding mfd/palmas), which is told over I2C. Whoever used the bus last has
/// stopped its clock perhaps.
fn palmas(node: Node<'_, '_>) -> Result<Option<Vec<Step>>, PlatformError> {
    let Some(bus) = node.parent().filter(|bus| bus.is_compatible("ti,omap4-i2c")) else { return Ok(None) };
    let base = block(bus, I2C_END)?;
    let target =
        node.cell("reg")?.and_then(|address| u16::try_from(address).ok()).filter(|address| *address < 0x80);
    let (Some(base), Some(target)) = (base, target) else { return Ok(None) };
    let mut steps = module_clock(bus)?;
    let mut write = |offset, value| steps.push(Step::WriteHalf { register: base.offset(offset), value });
    write(I2C_CONTROL, 0);
    write(I2C_ENABLE_CLEAR, u16::MAX);
    I2C_TIMES.iter().for_each(|(offset, value)| write(*offset, *value));
    write(I2C_CONTROL, I2C_ON);
    write(I2C_STATUS, u16::MAX);
    write(I2C_TARGET, target);
    write(I2C_COUNT, 2);
    write(I2C_CONTROL, I2C_SEND);
    for byte in [PALMAS_DEVICE_CONTROL, 0] {
        let register = base.offset(I2C_STATUS_RAW);
        steps.push(Step::AwaitHalf { register, mask: I2C_READY_TO_SEND });
        steps.push(Step::WriteHalf { register: base.offset(I2C_DATA), value: byte });
        steps.push(Step::WriteHalf { register: base.offset(I2C_STATUS), value: I2C_READY_TO_SEND });
    }
    steps.push(Step::AwaitHalf { register: base.offset(I2C_STATUS_RAW), mask: I2C_DONE });
    Ok(Some(steps))
}

/// Starts the clock of the module of TI's interconnect that `device` is in (Linux bindings bus/ti-sysc and
/// clock/ti-clkctrl): nothing where the tree does not say which it is.
fn module_clock(device: Node<'_, '_>) -> Result<Vec<Step>, PlatformError> {
    const ENABLED: u32 = 2;
    const IDLE_STATUS: u32 = 3 << 16;
    let Some(module) = device.parent().filter(|module| module.is_compatible("ti,sysc")) else {
        return Ok(Vec::new());
    };
    let &[phandle, offset, _, ..] = module.cells("clocks")?.as_slice() else { return Ok(Vec::new()) };
    let clocks = device.tree().by_phandle(phandle).filter(|clocks| clocks.is_compatible("ti,clkctrl"));
    let Some(clocks) = clocks else { return Ok(Vec::new()) };
    Ok(register(clocks, offset)?.map_or_else(Vec::new, |register| {
        Vec::from([
            Step::Update { register, mask: 3, value: ENABLED },
            Step::Await { register, mask: IDLE_STATUS, value: 0 },
        ])
    }))
}

/// The register of a node at `offset` bytes, if it has that one.
fn register(node: Node<'_, '_>, offset: u32) -> Result<Option<Pa>, PlatformError> {
    let base = block(node, u64::from(offset) + 4)?.filter(|_| offset.is_multiple_of(4));
    Ok(base.map(|base| base.offset(offset.into())))
}

/// A bit in a system controller (Linux bindings power/reset/syscon-reboot and syscon-poweroff). The controller is the
/// node that `regmap` names, or else the parent.
fn syscon(node: Node<'_, '_>) -> Result<Option<Vec<Step>>, PlatformError> {
    let controller = match node.cell("regmap")? {
        Some(phandle) => node.tree().by_phandle(phandle),
        None => node.parent(),
    };
    let offset = match node.cell("offset")? {
        Some(offset) => Some(offset),
        None => node.cell("reg")?,
    };
    let (Some(controller), Some(offset)) = (controller, offset) else { return Ok(None) };
    let Some(register) = register(controller, offset)? else { return Ok(None) };
    // Of an old binding with a mask alone, the mask is what is written.
    Ok(match (node.cell("value")?, node.cell("mask")?) {
        (Some(value), Some(mask)) => Some([Step::Update { register, mask, value }].into()),
        (Some(value), None) | (None, Some(value)) => Some([Step::Write { register, value }].into()),
        (None, None) => None,
    })
}

/// Registers of the Versatile Express system configuration controller (ARM DUI 0447, 4.3.20 to 4.3.22).
const SYS_CFGDATA: u64 = 0xa0;
const SYS_CFGCTRL: u64 = 0xa4;
const SYS_CFGSTAT: u64 = 0xa8;
/// One past the last of them.
const SYS_CFG_END: u64 = 0xac;
const SYS_CFG_START: u32 = 1 << 31;
const SYS_CFG_WRITE: u32 = 1 << 30;

/// A function of the Versatile Express configuration bus (Linux binding arm/arm,vexpress-juno, "arm,vexpress,config-bus").
fn vexpress(node: Node<'_, '_>) -> Result<Option<Vec<Step>>, PlatformError> {
    let &[function, device] = node.cells("arm,vexpress-sysreg,func")?.as_slice() else { return Ok(None) };
    let Some(bus) = node.parent() else { return Ok(None) };
    let Some(bridge) =
        bus.cell("arm,vexpress,config-bridge")?.and_then(|phandle| node.tree().by_phandle(phandle))
    else {
        return Ok(None);
    };
    let site = topology(node, "arm,vexpress,site")?;
    let position = topology(node, "arm,vexpress,position")?;
    let dcc = topology(node, "arm,vexpress,dcc")?;
    let Some(base) = block(bridge, SYS_CFG_END)? else { return Ok(None) };
    // A site of 0xf is whichever daughterboard is the master, which the motherboard's controller has no way to name.
    if function > 0x3f || device > 0xfff || site > 3 || position > 0xf || dcc > 0xf {
        return Ok(None);
    }
    let command =
        SYS_CFG_START | SYS_CFG_WRITE | dcc << 26 | function << 20 | site << 16 | position << 12 | device;
    Ok(Some(Vec::from([
        Step::Write { register: base.offset(SYS_CFGSTAT), value: 0 },
        Step::Write { register: base.offset(SYS_CFGDATA), value: 0 },
        Step::Write { register: base.offset(SYS_CFGCTRL), value: command },
    ])))
}

/// A coordinate of the configuration bus: of the nearest node upwards that names it, 0 where none does.
fn topology(node: Node<'_, '_>, name: &'static str) -> Result<u32, PlatformError> {
    let mut at = Some(node);
    while let Some(here) = at {
        if let Some(value) = here.cell(name)? {
            return Ok(value);
        }
        at = here.parent();
    }
    Ok(0)
}

/// Power request register of the Calxeda system registers, and what is asked for.
const CALXEDA_REQUEST: u64 = 0xf00;
const CALXEDA_HARD_RESET: u32 = 2;
const CALXEDA_SHUTDOWN: u32 = 3;
/// Power control register of CPU 0; the others follow, a word each. 1 takes the CPU's power in its next `wfi`.
const CALXEDA_CPU_POWER: u64 = 0x200;

fn calxeda(node: Node<'_, '_>, request: u32) -> Result<Option<Vec<Step>>, PlatformError> {
    Ok(block(node, 0x1000)?.map(|base| {
        Vec::from([
            Step::Write { register: base.offset(CALXEDA_REQUEST), value: request },
            Step::WriteOwn { register: base.offset(CALXEDA_CPU_POWER), stride: 4, value: 1 },
            Step::Idle,
        ])
    }))
}

/// A generation of Allwinner's watchdog: offsets of its registers in bytes and fields in them.
struct Watchdog {
    control: u64,
    configuration: u64,
    mode: u64,
    reset_mask: u32,
    reset_value: u32,
    interval_mask: u32,
    size: u64,
}

/// A10, A13 and A20, whose configuration lies in the mode register.
const SUN4I: Watchdog = Watchdog {
    control: 0,
    configuration: 4,
    mode: 4,
    reset_mask: 2,
    reset_value: 2,
    interval_mask: 0xf << 3,
    size: 8,
};
/// A31 and later.
const SUN6I: Watchdog = Watchdog {
    control: 0x10,
    configuration: 0x14,
    mode: 0x18,
    reset_mask: 3,
    reset_value: 1,
    interval_mask: 0xf << 4,
    size: 0x1c,
};
/// Key and bit that restart the watchdog's countdown.
const WATCHDOG_RELOAD: u32 = 0xa57 << 1 | 1;
const WATCHDOG_ENABLE: u32 = 1;

/// Has the watchdog bite at its shortest interval, half a second.
fn allwinner(node: Node<'_, '_>, watchdog: &Watchdog) -> Result<Option<Vec<Step>>, PlatformError> {
    Ok(block(node, watchdog.size)?.map(|base| {
        Vec::from([
            Step::Update {
                register: base.offset(watchdog.configuration),
                mask: watchdog.reset_mask,
                value: watchdog.reset_value,
            },
            Step::Update {
                register: base.offset(watchdog.mode),
                mask: watchdog.interval_mask | WATCHDOG_ENABLE,
                value: WATCHDOG_ENABLE,
            },
            Step::Write { register: base.offset(watchdog.control), value: WATCHDOG_RELOAD },
        ])
    }))
}
