//! Boards whose secondary CPUs wait for a register, which their device trees do not say in so many words.

use alloc::vec::Vec;

use super::address;
use super::cpu::{Arrival, EnableMethod};
use super::error::PlatformError;
use super::sequence::Step;
use super::tree::{Node, Tree};
use crate::addr::Pa;

/// How the board, by the `compatible` of its root node, lets its secondary CPUs go.
pub(crate) enum Release {
    /// Versatile Express: they sleep, and look at SYS_FLAGS when an interrupt wakes them.
    Versatile {
        /// The system registers.
        registers: Pa,
    },
    /// Exynos 5250 with U-Boot: they wait for a word in internal RAM, and their power is off.
    Exynos5250 {
        /// The word.
        entry: Pa,
        /// The power management unit.
        power: Pa,
    },
    /// Allwinner A20 whose firmware has no PSCI: they are held in reset.
    AllwinnerA20,
    /// TI OMAP5 and its successor DRA7: the ROM holds them until a word of the wake-up generator says otherwise.
    Omap5 {
        /// The wake-up generator.
        wakeup: Pa,
    },
}

/// Versatile Express system registers (ARM DUI 0447, 4.3.8): bits of SYS_FLAGS are set and cleared.
const SYS_FLAGSSET: u64 = 0x30;
const SYS_FLAGSCLR: u64 = 0x34;

/// Cores of an Exynos 5250, an A20, an OMAP5 and a DRA7, in the one cluster that each has.
const CORES: u64 = 2;

/// Exynos 5250: configuration of CPU 0's power domain, those of the others 0x80 further each; its status follows.
const ARM_CORE_CONFIGURATION: u64 = 0x2000;
const ARM_CORE_DISTANCE: u64 = 0x80;
const ARM_CORE_STATUS: u64 = 4;
const CORE_LOCAL_POWER: u32 = 3;

/// Allwinner A20's CPU configuration block, and registers in it (A20 user manual, 1.4).
const A20_CPUCFG: Pa = Pa(0x01c2_5c00);
const A20_CPU_RESET: u64 = 0x40;
const A20_CPU_DISTANCE: u64 = 0x40;
const A20_GENERAL_CONTROL: u64 = 0x184;
const A20_ENTRY: u64 = 0x1a4;
const A20_CPU1_CLAMP: u64 = 0x1b0;
const A20_CPU1_POWER_OFF: u64 = 0x1b4;
const A20_DEBUG_CONTROL: u64 = 0x1e4;
/// Both reset lines of a CPU let go.
const A20_RUN: u32 = 3;

/// OMAP5's words for the ROM in the wake-up generator (OMAP543x TRM, AUX_CORE_BOOT_0 and _1): the number of the CPU that
/// is to leave, from bit 5, and where it goes.
const AUX_CORE_BOOT_0: u64 = 0x800;
const AUX_CORE_BOOT_1: u64 = 0x804;
const AUX_CORE_BOOT_CPU: u32 = 5;

impl Release {
    /// The board's way, if it is one of these.
    pub(crate) fn find(tree: &Tree<'_>) -> Result<Option<Self>, PlatformError> {
        let root = tree.root();
        let block = |name: &str, size: u64| -> Result<Option<Pa>, PlatformError> {
            let node: Option<Node<'_, '_>> =
                tree.nodes().find(|node| node.is_compatible(name) && node.is_available());
            let Some(node) = node else { return Ok(None) };
            address::block(node, size)
        };
        if root.is_compatible("arm,vexpress") {
            return Ok(block("arm,vexpress-sysreg", 0x38)?.map(|registers| Self::Versatile { registers }));
        }
        if root.is_compatible("samsung,exynos5250") {
            let entry = block("samsung,exynos4210-sysram", 4)?;
            let power = block("samsung,exynos5250-pmu", 0x3000)?;
            return Ok(entry.zip(power).map(|(entry, power)| Self::Exynos5250 { entry, power }));
        }
        if root.is_compatible_any(&["ti,omap5", "ti,dra7"]) {
            let wakeup = block("ti,omap4-wugen-mpu", AUX_CORE_BOOT_1 + 4)?;
            return Ok(wakeup.map(|wakeup| Self::Omap5 { wakeup }));
        }
        Ok(root.is_compatible("allwinner,sun7i-a20").then_some(Self::AllwinnerA20))
    }

    /// How the CPU with this affinity is started; not at all where the SoC has no such core.
    pub(crate) fn method(&self, mpidr: u64) -> EnableMethod {
        let core = mpidr;
        match *self {
            Self::Versatile { registers } => EnableMethod::Registers {
                name: "SYS_FLAGS",
                steps: Vec::from([
                    Step::Write { register: registers.offset(SYS_FLAGSCLR), value: u32::MAX },
                    Step::WriteEntry { register: registers.offset(SYS_FLAGSSET) },
                    Step::Interrupt,
                ]),
                arrival: Arrival::Hypervisor,
            },
            Self::Exynos5250 { .. } | Self::AllwinnerA20 | Self::Omap5 { .. } if core >= CORES => {
                EnableMethod::Unknown
            }
            Self::Exynos5250 { entry, power } => {
                let configuration = power.offset(ARM_CORE_CONFIGURATION + core * ARM_CORE_DISTANCE);
                let on = CORE_LOCAL_POWER;
                EnableMethod::Registers {
                    name: "Exynos 5250",
                    steps: Vec::from([
                        Step::WriteEntry { register: entry },
                        Step::Write { register: configuration, value: on },
                        Step::Await { register: configuration.offset(ARM_CORE_STATUS), mask: on, value: on },
                        Step::Interrupt,
                    ]),
                    arrival: Arrival::Hypervisor,
                }
            }
            Self::AllwinnerA20 => EnableMethod::Registers {
                name: "Allwinner A20",
                steps: allwinner_a20(core),
                arrival: Arrival::Secure,
            },
            Self::Omap5 { wakeup } => EnableMethod::Registers {
                name: "AuxCoreBoot",
                steps: Vec::from([
                    Step::WriteEntry { register: wakeup.offset(AUX_CORE_BOOT_1) },
                    Step::Write {
                        register: wakeup.offset(AUX_CORE_BOOT_0),
                        value: (core as u32) << AUX_CORE_BOOT_CPU,
                    },
                    Step::Event,
                ]),
                arrival: Arrival::OmapMonitor,
            },
        }
    }
}

/// Takes a CPU of the A20 through reset: caches invalid, debugger locked out, power on.
fn allwinner_a20(core: u64) -> Vec<Step> {
    let at = |offset| A20_CPUCFG.offset(offset);
    let reset = at(A20_CPU_RESET + core * A20_CPU_DISTANCE);
    let bit = 1_u32.checked_shl(core as u32).unwrap_or(0);
    let mut steps = Vec::from([
        Step::WriteEntry { register: at(A20_ENTRY) },
        Step::Write { register: reset, value: 0 },
        Step::Update { register: at(A20_GENERAL_CONTROL), mask: bit, value: 0 },
        Step::Update { register: at(A20_DEBUG_CONTROL), mask: bit, value: 0 },
    ]);
    // The clamp opens bit by bit, so that the supply does not sag.
    steps.extend(
        (0..=8).rev().map(|bits| Step::Write { register: at(A20_CPU1_CLAMP), value: (1 << bits) - 1 }),
    );
    steps.extend([
        Step::Delay { microseconds: 10_000 },
        Step::Update { register: at(A20_CPU1_POWER_OFF), mask: 1, value: 0 },
        Step::Write { register: reset, value: A20_RUN },
        Step::Update { register: at(A20_DEBUG_CONTROL), mask: bit, value: bit },
    ]);
    steps
}
