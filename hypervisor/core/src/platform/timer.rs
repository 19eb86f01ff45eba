//! The generic timer (Linux binding timer/arm,arch_timer).

use alloc::string::String;

use super::error::{PlatformError, Problem};
use super::interrupt::{Interrupt, Resolver};
use super::tree::NodeId;
use crate::addr::Pa;
use crate::machine::Intid;

const NAMES: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];

/// The per-CPU timers of the host. Interrupt numbers differ between boards and are never assumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Its node.
    pub node: NodeId,
    /// Path of its node.
    pub path: String,
    /// INTID of the secure physical timer, where the tree names it.
    pub secure: Option<Intid>,
    /// INTID of the non-secure EL1 physical timer.
    pub physical: Intid,
    /// INTID of the virtual timer.
    pub virtual_: Intid,
    /// INTID of the hypervisor's physical timer.
    pub hypervisor: Intid,
    /// Frequency in Hz, where CNTFRQ does not count: the tree says it, or the board's counter is set to it.
    pub frequency: Option<u32>,
    /// The board's counter, where it has to be set before it counts at that frequency.
    pub counter: Option<RealtimeCounter>,
}

/// TI OMAP5's realtime counter, which is what the generic timers count: `numerator / denominator` of an input clock that
/// the board chooses (OMAP543x TRM, realtime counter and CM_CLKSEL_SYS). All are physical addresses of 32-bit registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RealtimeCounter {
    /// Which input clock it is, in the lowest bits.
    pub input: Pa,
    /// The numerator, in the lowest bits.
    pub numerator: Pa,
    /// The denominator, in the lowest bits, and the bit that has both taken over.
    pub denominator: Pa,
}

impl RealtimeCounter {
    /// What it is made to count at, in Hz.
    pub const FREQUENCY: u32 = 6_144_000;
    /// The bits of numerator and denominator in their registers.
    pub const FRACTION: u32 = 0xfff;
    /// Has a new fraction taken over, in the denominator's register.
    pub const RELOAD: u32 = 1 << 24;
    const INPUT: u32 = 7;
    /// The input clocks in Hz, by their number less 1.
    const INPUTS: [u32; 7] =
        [12_000_000, 13_000_000, 16_800_000, 19_200_000, 26_000_000, 27_000_000, 38_400_000];
    const OMAP5: Self =
        Self { input: Pa(0x4ae0_6110), numerator: Pa(0x4824_3210), denominator: Pa(0x4824_3214) };

    /// Numerator and denominator for the input clock that `input` says; `None` where that is no clock's number.
    pub fn fraction(input: u32) -> Option<(u32, u32)> {
        let number = (input & Self::INPUT).checked_sub(1)?;
        let clock = *Self::INPUTS.get(number as usize)?;
        let (mut a, mut b) = (Self::FREQUENCY, clock);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Some((Self::FREQUENCY / a, clock / a))
    }
}

/// Finds the timer node.
pub(crate) fn find(resolver: Resolver<'_, '_>) -> Result<Timer, PlatformError> {
    let node =
        resolver.tree.nodes().find(|node| node.is_available() && node.is_compatible_any(NAMES)).ok_or_else(
            || PlatformError {
                path: String::from("/timer"),
                property: String::new(),
                problem: Problem::Unsupported("no generic timer is described"),
            },
        )?;
    let interrupts = resolver.of_node(node)?;
    // Without names the order is fixed: secure, physical, virtual, hypervisor.
    let at = |name: &str, position: usize| -> Option<Interrupt> {
        let index = if node.has("interrupt-names") {
            node.strings("interrupt-names").position(|listed| listed == name)?
        } else {
            position
        };
        interrupts.get(index).copied().flatten().filter(|interrupt| !interrupt.is_spi())
    };
    let need = |interrupt: Option<Interrupt>, what| {
        interrupt
            .map(|interrupt| interrupt.intid)
            .ok_or_else(|| node.error("interrupts", Problem::Unsupported(what)))
    };
    let counter = resolver.tree.root().is_compatible("ti,omap5").then_some(RealtimeCounter::OMAP5);
    let set_to = counter.map(|_| RealtimeCounter::FREQUENCY);
    Ok(Timer {
        node: node.id(),
        path: node.path(),
        secure: at("sec-phys", 0).map(|interrupt| interrupt.intid),
        physical: need(at("phys", 1), "the physical timer's interrupt is missing")?,
        virtual_: need(at("virt", 2), "the virtual timer's interrupt is missing")?,
        hypervisor: need(at("hyp-phys", 3), "the hypervisor timer's interrupt is missing")?,
        frequency: node.cell("clock-frequency")?.filter(|&frequency| frequency != 0).or(set_to),
        counter,
    })
}
