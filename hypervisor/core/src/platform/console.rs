//! The UART that the hypervisor talks on (Devicetree Specification 0.4, sections 3.6 and 4.2).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::address::registers;
use super::interrupt::{Interrupt, Resolver};
use super::tree::{Node, NodeId, Tree};
use crate::addr::PaRange;

/// The console UART.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Its node.
    pub node: NodeId,
    /// Path of its node.
    pub path: String,
    /// `compatible`, most specific first.
    pub compatible: Vec<String>,
    /// Registers, physical.
    pub registers: PaRange,
    /// log2 of the distance between registers in bytes (`reg-shift`).
    pub register_shift: u32,
    /// Bytes of one register access (`reg-io-width`), where the tree says.
    pub register_width: Option<u32>,
    /// Input clock in Hz, where the tree says it in numbers.
    pub clock: Option<u32>,
    /// Its interrupt, where it has one that reaches the GIC.
    pub interrupt: Option<Interrupt>,
    /// Speed in bits per second, from the options after the path or `current-speed`.
    pub speed: Option<u32>,
}

/// Finds the UART named by `requested` (the hypervisor's `dtuart=`), else by `/chosen/stdout-path`, else by the alias
/// `serial0`, else the first one in the tree. A console that is not found is a warning: a board can be run without one.
pub(crate) fn find(
    resolver: Resolver<'_, '_>,
    requested: Option<&str>,
    warnings: &mut Vec<String>,
) -> Option<Uart> {
    let chosen = resolver.tree.by_path("/chosen");
    let stdout =
        chosen.and_then(|chosen| chosen.string("stdout-path").or(chosen.string("linux,stdout-path")));
    for (source, value) in [("dtuart", requested), ("stdout-path", stdout), ("aliases", Some("serial0"))] {
        let Some(value) = value else { continue };
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        match resolver.tree.by_path_or_alias(path) {
            Some(node) => match describe(resolver, node, options, warnings) {
                Some(uart) => return Some(uart),
                None => warnings.push(format!("{source}: {} cannot serve as a console", node.path())),
            },
            None if source == "aliases" => {}
            None => warnings.push(format!("{source}: no node is called {path}")),
        }
    }
    let is_uart = |node: &Node<'_, '_>| {
        matches!(node.base_name(), "serial" | "uart" | "pl011") && node.is_available() && node.has("reg")
    };
    let node = resolver.tree.nodes().find(is_uart)?;
    warnings.push(format!("no console is named: {} is taken, dtuart=PATH names another", node.path()));
    describe(resolver, node, "", warnings)
}

fn describe<'t, 'a>(
    resolver: Resolver<'t, 'a>,
    node: Node<'t, 'a>,
    options: &str,
    warnings: &mut Vec<String>,
) -> Option<Uart> {
    let mut note = |error| warnings.push(format!("{error}"));
    let registers = registers(node).map_err(&mut note).ok()?.into_iter().find(|range| !range.is_empty())?;
    let interrupts = resolver.of_node(node).map_err(&mut note).unwrap_or_default();
    let mut cell = |name| node.cell(name).map_err(&mut note).ok().flatten();
    let digits = options.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    Some(Uart {
        node: node.id(),
        path: node.path(),
        compatible: node.strings("compatible").map(String::from).collect(),
        registers,
        register_shift: cell("reg-shift").filter(|&shift| shift < 8).unwrap_or(0),
        register_width: cell("reg-io-width"),
        clock: cell("clock-frequency").or_else(|| fixed_clock(resolver.tree, node)),
        interrupt: interrupts.into_iter().flatten().find(|interrupt| interrupt.is_spi()),
        speed: digits.parse().ok().or_else(|| cell("current-speed")),
    })
}

/// The rate of the first clock, where that is a `fixed-clock` (a crystal), which needs no driver.
fn fixed_clock(tree: &Tree<'_>, node: Node<'_, '_>) -> Option<u32> {
    let clock = tree.by_phandle(*node.cells("clocks").ok()?.first()?)?;
    if clock.is_compatible("fixed-clock") { clock.cell("clock-frequency").ok()? } else { None }
}
