//! What a device tree describes: as the hypervisor's own parser reads it, and what can be said where that gives up.

use super::cpu::{Core, core};
use crate::fdt::BootModules;
use vambrace_bsp::Architecture;
use vambrace_core::platform::tree::{Node, Tree};
use vambrace_core::platform::{Platform, PlatformError};

/// RAM that is put into a tree without any, so that the hypervisor's parser gets to the rest: address and size in bytes.
const ASSUMED_RAM: (u64, u64) = (0x4000_0000, 0x1000_0000);

/// A device tree and what is known of it.
pub(super) struct Survey<'t> {
    /// The tree.
    pub(super) tree: &'t Tree<'t>,
    /// What the hypervisor sees in it, or why it stops. Where the tree has no RAM, as if firmware had added some.
    pub(super) platform: Result<Platform, PlatformError>,
    /// Whether the tree has RAM itself.
    pub(super) has_ram: bool,
    /// The CPUs' architecture, where their names tell.
    pub(super) architecture: Option<Architecture>,
    /// The CPUs, and what each can do.
    pub(super) cpus: Vec<(Node<'t, 't>, Core)>,
}

impl<'t> Survey<'t> {
    /// Looks at `tree`, which was read from `blob`.
    pub(super) fn of(tree: &'t Tree<'t>, blob: &[u8]) -> Self {
        let cpus: Vec<_> = tree
            .root()
            .child("cpus")
            .into_iter()
            .flat_map(|node| node.children())
            .filter(|node| node.string("device_type") == Some("cpu") || node.base_name() == "cpu")
            .map(|node| {
                let named = node.strings("compatible").map(core).find(|core| *core != Core::Unknown);
                (node, named.unwrap_or(Core::Unknown))
            })
            .collect();
        let architecture = cpus.iter().find_map(|(_, core)| match core {
            Core::Capable(architecture) => Some(*architecture),
            _ => None,
        });
        let mut platform = Platform::from_tree(tree);
        let has_ram = !matches!(&platform, Err(error) if error.path == "/memory");
        if !has_ram {
            let filled = BootModules {
                hypervisor_args: String::new(),
                dom0_args: String::new(),
                modules: Vec::new(),
                guests: Vec::new(),
                devices: Vec::new(),
                memory: Some(ASSUMED_RAM),
            };
            if let Ok(filled) = filled.insert(blob) {
                platform = Platform::parse(&filled);
            }
        }
        Self { tree, platform, has_ram, architecture, cpus }
    }

    /// What the hypervisor sees, if it gets that far.
    pub(super) fn seen(&self) -> Option<&Platform> {
        self.platform.as_ref().ok()
    }

    /// Whether a `compatible` string of the root node starts with `prefix`.
    pub(super) fn is_of(&self, prefix: &str) -> bool {
        self.tree.root().strings("compatible").any(|name| name.starts_with(prefix))
    }

    /// The third cell of a PPI on a GICv2: the CPUs it goes to, and `trigger` (Linux binding `arm,gic.yaml`).
    pub(super) fn ppi_flags(&self, trigger: u32) -> u32 {
        let cpus = self.cpus.len().clamp(1, 8);
        ((1 << cpus) - 1) << 8 | trigger
    }

    /// The interrupt controller that the hypervisor takes, or else the first that looks like a GIC.
    pub(super) fn gic(&self) -> Option<Node<'t, 't>> {
        match self.seen() {
            Some(platform) => self.tree.by_path(&platform.gic.path),
            None => self.tree.nodes().find(|node| {
                node.is_available()
                    && node.has("interrupt-controller")
                    && node.strings("compatible").any(|name| name.contains("gic") || name.contains("pl390"))
            }),
        }
    }

    /// The node that `/chosen` names for the console, with the text that names it.
    pub(super) fn stdout(&self) -> Option<(&'t str, Option<Node<'t, 't>>)> {
        let chosen = self.tree.root().child("chosen")?;
        let text = chosen.string("stdout-path").or(chosen.string("linux,stdout-path"))?;
        let path = text.split(':').next().unwrap_or(text);
        Some((text, self.tree.by_path_or_alias(path)))
    }
}

/// A number of `cells` cells, 1 or 2, as source.
pub(super) fn number_source(value: u64, cells: u32) -> String {
    if cells == 2 { format!("{:#x} {:#x}", value >> 32, value & 0xffff_ffff) } else { format!("{value:#x}") }
}

/// `reg` of a node on its own bus.
pub(super) struct Registers {
    /// Cells of an address, 1 or 2.
    pub(super) address_cells: u32,
    /// Cells of a size, 1 or 2.
    pub(super) size_cells: u32,
    /// Addresses and sizes, not translated.
    pub(super) entries: Vec<(u64, u64)>,
}

impl Registers {
    /// `reg` of `node`, or `None` where it is missing or does not fit cells that addresses have.
    pub(super) fn of(node: Node<'_, '_>) -> Option<Self> {
        let bus = node.parent()?;
        let address_cells = bus.cell("#address-cells").ok()?.unwrap_or(2);
        let size_cells = bus.cell("#size-cells").ok()?.unwrap_or(1);
        if !(1..=2).contains(&address_cells) || !(1..=2).contains(&size_cells) {
            return None;
        }
        let words = node.cells("reg").ok()?;
        let entry = (address_cells + size_cells) as usize;
        if words.is_empty() || !words.len().is_multiple_of(entry) {
            return None;
        }
        let number = |words: &[u32]| words.iter().fold(0_u64, |value, word| value << 32 | u64::from(*word));
        let entries = words
            .chunks_exact(entry)
            .map(|words| {
                let (address, size) = words.split_at(address_cells as usize);
                (number(address), number(size))
            })
            .collect();
        Some(Self { address_cells, size_cells, entries })
    }

    /// These entries as a line of source.
    pub(super) fn source(&self, entries: &[(u64, u64)]) -> String {
        let entry = |(address, size): &(u64, u64)| {
            let address = number_source(*address, self.address_cells);
            format!("<{address} {}>", number_source(*size, self.size_cells))
        };
        format!("reg = {};", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}
