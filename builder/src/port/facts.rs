//! The machine as the hypervisor will see it, in few words.

use super::cpu::Core;
use super::survey::Survey;
use super::uart;
use serde::Serialize;
use vambrace_bsp::{Architecture, Driver, Serial};
use vambrace_core::platform::{Conduit, EnableMethod, GicFrames, Platform, PsciVersion};

/// A range of physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

/// The interrupt controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GicFacts {
    /// The node's path.
    pub node: String,
    /// The hypervisor's driver.
    pub driver: Driver,
    /// Its registers: GICD, GICC, GICH and GICV of a GICv2; GICD and the redistributors of a GICv3.
    pub registers: Vec<Range>,
    /// INTID of the maintenance interrupt, where the tree names it.
    pub maintenance: Option<u32>,
}

/// INTIDs of the generic timers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TimerFacts {
    /// The node's path.
    pub node: String,
    /// The secure physical timer's.
    pub secure: Option<u32>,
    /// The physical timer's.
    pub physical: u32,
    /// The virtual timer's.
    #[serde(rename = "virtual")]
    pub virtual_: u32,
    /// The hypervisor's.
    pub hypervisor: u32,
}

/// The console UART.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConsoleFacts {
    /// The node's path.
    pub node: String,
    /// Its `compatible` strings.
    pub compatible: Vec<String>,
    /// The hypervisor's driver, if it has one.
    pub driver: Option<Driver>,
    /// Address of the first register.
    pub base: u64,
    /// log2 of the distance of two registers, in bytes.
    pub reg_shift: u32,
    /// The shared peripheral interrupt: INTID minus 32.
    pub spi: Option<u32>,
    /// Its speed in bits per second, where `/chosen/stdout-path` says it of this UART.
    pub baud: Option<u32>,
}

/// The speed in a `stdout-path`, as in `serial0:115200n8` (Linux, Documentation/admin-guide/serial-console.rst).
fn baud(text: &str) -> Option<u32> {
    let (_, options) = text.split_once(':')?;
    let digits = options.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|baud| Serial::BAUDS.contains(baud))
}

/// What a device tree says of a machine, as far as the hypervisor reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The board's name.
    pub model: Option<String>,
    /// The board's kinds, the most exact first.
    pub compatible: Vec<String>,
    /// The CPUs' architecture, where their names tell.
    pub architecture: Option<Architecture>,
    /// The CPUs, by the first of their `compatible` strings.
    pub cpus: Vec<String>,
    /// How the secondary CPUs are started, each way once.
    pub start: Vec<String>,
    /// RAM, sorted; empty where the tree has none.
    pub memory: Vec<Range>,
    /// The interrupt controller.
    pub gic: Option<GicFacts>,
    /// The timers.
    pub timers: Option<TimerFacts>,
    /// The console.
    pub console: Option<ConsoleFacts>,
    /// Whether nothing but the names is known, for the hypervisor stops at the tree.
    pub refused: bool,
}

impl Facts {
    pub(super) fn of(survey: &Survey<'_>) -> Self {
        let root = survey.tree.root();
        let seen = survey.seen();
        let memory = seen.filter(|_| survey.has_ram).map_or(Vec::new(), |platform| {
            platform.ram.iter().map(|bank| Range { base: bank.start.0, size: bank.size() }).collect()
        });
        // A core without virtualization extensions beside a capable one makes the board no board for a hypervisor.
        let incapable = survey.cpus.iter().any(|(_, core)| *core == Core::WithoutVirtualization);
        Self {
            model: root.string("model").map(str::to_owned),
            compatible: root.strings("compatible").map(str::to_owned).collect(),
            architecture: survey.architecture.filter(|_| !incapable),
            cpus: survey
                .cpus
                .iter()
                .map(|(node, _)| node.strings("compatible").next().unwrap_or("?").to_owned())
                .collect(),
            start: seen.map_or(Vec::new(), start),
            memory,
            gic: seen.map(gic),
            timers: seen.map(|platform| TimerFacts {
                node: platform.timer.path.clone(),
                secure: platform.timer.secure,
                physical: platform.timer.physical,
                virtual_: platform.timer.virtual_,
                hypervisor: platform.timer.hypervisor,
            }),
            console: seen.and_then(|platform| platform.console.as_ref()).map(|uart| {
                let names = || uart.compatible.iter().map(String::as_str);
                ConsoleFacts {
                    node: uart.path.clone(),
                    compatible: uart.compatible.clone(),
                    driver: uart::driver(names()),
                    base: uart.registers.start.0,
                    reg_shift: match uart.register_shift {
                        0 => uart::default_shift(names()),
                        shift => shift,
                    },
                    spi: uart.interrupt.and_then(|interrupt| interrupt.intid.checked_sub(32)),
                    baud: survey
                        .stdout()
                        .filter(|(_, node)| node.is_some_and(|node| node.path() == uart.path))
                        .and_then(|(text, _)| baud(text)),
                }
            }),
            refused: seen.is_none(),
        }
    }
}

fn gic(platform: &Platform) -> GicFacts {
    let (driver, ranges) = match &platform.gic.frames {
        GicFrames::V2 { gicd, gicc, gich, gicv } => (Driver::Gicv2, vec![*gicd, *gicc, *gich, *gicv]),
        GicFrames::V3 { gicd, redistributors, .. } => {
            (Driver::Gicv3, std::iter::once(*gicd).chain(redistributors.iter().copied()).collect())
        }
    };
    GicFacts {
        node: platform.gic.path.clone(),
        driver,
        registers: ranges.iter().map(|range| Range { base: range.start.0, size: range.size() }).collect(),
        maintenance: platform.gic.maintenance.map(|interrupt| interrupt.intid),
    }
}

/// How the CPUs are started, in words.
fn start(platform: &Platform) -> Vec<String> {
    let mut ways: Vec<String> = Vec::new();
    for cpu in &platform.cpus {
        let way = match &cpu.enable {
            EnableMethod::Psci => match &platform.psci {
                Some(psci) => {
                    let version = match psci.version {
                        PsciVersion::V0_1 => "0.1",
                        PsciVersion::V0_2 => "0.2",
                        PsciVersion::V1_0 => "1.0",
                    };
                    let call = if psci.conduit == Conduit::Smc { "smc" } else { "hvc" };
                    format!("PSCI {version} by {call}")
                }
                None => "PSCI, of which there is no node".to_owned(),
            },
            EnableMethod::SpinTable { release } => format!("spin table at {release}"),
            EnableMethod::Registers { name, .. } => format!("registers, {name}"),
            EnableMethod::Other(name) => format!("{name}, which the hypervisor does not know"),
            EnableMethod::Unknown => "nothing says how".to_owned(),
        };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways
}
