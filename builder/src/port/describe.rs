//! A board description from a device tree: what can be derived, where from, and what a person has to add.

use super::facts::Facts;
use super::finding::Level;
use super::{Survey, lint, tree, uart};
use crate::error::{Error, Result};
use crate::workspace::described;
use std::fmt::Write as _;
use vambrace_bsp::{Architecture, Board, Driver, Size, parse};

/// RAM that is planned for where the tree has none: base, size.
const UNKNOWN_RAM: (u64, u64) = (0x4000_0000, 1 << 30);
/// The least RAM that an image is planned for where there is that much.
const LEAST_RAM: u64 = 256 << 20;
/// Where U-Boot's `scriptaddr` is behind the start of RAM on many boards.
const SCRIPT_OFFSET: u64 = 0x310_0000;
const PAGE: u64 = 4096;

/// A description, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The text of `board.toml`.
    pub text: String,
    /// The name of the device tree's file beside it.
    pub tree_file: String,
}

/// Writes the description of a board called `id` from its device tree, the blob `blob`. It says of everything derived
/// from which node, marks what a person has to fill in with `CHECK`, and is valid by the catalog's own reading.
///
/// `architecture` decides where the CPUs' names do not, or where a 64-bit CPU is to run 32-bit code.
///
/// # Errors
///
/// What is no device tree; an architecture that neither the tree nor the caller names; CPUs without virtualization
/// extensions; a name that no board can have.
pub fn describe(id: &str, blob: &[u8], architecture: Option<Architecture>) -> Result<Description> {
    let tree = tree(blob)?;
    let survey = Survey::of(&tree, blob);
    let facts = Facts::of(&survey);
    let findings = lint::all(&survey);
    if let Some(finding) = findings.iter().find(|finding| finding.lint == "cpu-virtualization") {
        return Err(Error::new(format!("{}: {}", finding.node, finding.what))
            .help("no hypervisor runs on this board"));
    }
    let architecture = architecture.or(facts.architecture).ok_or_else(|| {
        Error::new("the CPUs' names do not tell their architecture").help(format!(
            "the tree has: {}; say it with --architecture aarch64 or armv7",
            facts.cpus.join(", ")
        ))
    })?;
    let troubles: Vec<String> = findings
        .iter()
        .filter(|finding| finding.level != Level::Note)
        .map(|finding| format!("{}: {}: {}", finding.level, finding.node, finding.what))
        .collect();
    let tree_file = format!("{id}.dtb");
    let text = Text { id, architecture, facts: &facts, troubles: &troubles, tree_file: &tree_file }.write();
    // The catalog has the last word, on the name as well.
    let board: Board = parse("board.toml", &text).map_err(described)?;
    debug_assert_eq!(board.id, id);
    Ok(Description { text, tree_file })
}

/// What the text is made of.
struct Text<'a> {
    id: &'a str,
    architecture: Architecture,
    facts: &'a Facts,
    troubles: &'a [String],
    tree_file: &'a str,
}

impl Text<'_> {
    fn write(&self) -> String {
        let mut text = String::new();
        self.identity(&mut text);
        self.notes(&mut text);
        let _ = write!(
            text,
            "# The image carries this tree. If the board's firmware has a good one of its own: from = \"firmware\".\n\
             [device-tree]\nfrom = \"file\"\npath = {}\n\n",
            quoted(self.tree_file)
        );
        let ram = self.memory(&mut text);
        self.console(&mut text);
        self.drivers(&mut text);
        self.boot(&mut text, ram);
        self.qemu(&mut text);
        text
    }

    fn identity(&self, text: &mut String) {
        let first = self.facts.compatible.first().map_or("", String::as_str);
        let last = self.facts.compatible.last().map_or("", String::as_str);
        let prefix = first.split_once(',').map_or("", |(prefix, _)| prefix);
        let soc = last.split_once(',').map_or(last, |(_, soc)| soc);
        let name = self.facts.model.as_deref().filter(|model| !model.is_empty()).unwrap_or(self.id);
        let or_unknown = |text: &str| quoted(if text.is_empty() { "unknown" } else { text });
        let _ = write!(
            text,
            "# Derived from the device tree of {} by `vambrace board new`.\n\
             # What a person has to fill in or to make sure of is marked with CHECK.\n\n\
             id = {}\n\
             # `model` of the root node.\nname = {}\n\
             # The prefix of its first `compatible` string, {}. CHECK: who makes the board?\nvendor = {}\n\
             # The last of its `compatible` strings, {}.\nsoc = {}\n\
             # By /cpus: {}.\narchitecture = {}\n\
             # CHECK: how does the board get from its firmware to the hypervisor? uboot, uefi or direct; see [boot] below.\n\
             default-method = \"uboot\"\n\n",
            comment(name),
            quoted(self.id),
            quoted(name),
            comment(first),
            or_unknown(prefix),
            comment(last),
            or_unknown(soc),
            comment(&unique(&self.facts.cpus).join(", ")),
            quoted(self.architecture.name()),
        );
    }

    fn notes(&self, text: &mut String) {
        let mut notes = Vec::new();
        if self.facts.cpus.len() > 1 && !self.facts.start.is_empty() {
            notes.push(format!("Secondary CPUs, by the tree: {}.", self.facts.start.join(", ")));
        }
        if let Some(timers) = &self.facts.timers {
            notes.push(format!(
                "The timers' INTIDs, by {}: physical {}, virtual {}, hypervisor {}.",
                timers.node, timers.physical, timers.virtual_, timers.hypervisor
            ));
        }
        if !self.troubles.is_empty() {
            text.push_str("# CHECK: `vambrace board check` has more on each of these, and the fix.\n");
            for trouble in self.troubles {
                let _ = writeln!(text, "#   {}", comment(trouble));
            }
        }
        text.push_str("notes = [\n");
        for note in notes {
            let _ = writeln!(text, "    {},", quoted(&note));
        }
        text.push_str(
            "]\n# How and where this was seen to boot; empty until somebody has seen it.\nverified = []\n\n",
        );
    }

    /// Writes where RAM is; gives its base and least size.
    fn memory(&self, text: &mut String) -> (u64, u64) {
        let usable = self.facts.memory.iter().find_map(|bank| {
            let base = bank.base.checked_next_multiple_of(PAGE)?;
            let end = bank.base.checked_add(bank.size)? / PAGE * PAGE;
            (end > base && end <= 1 << 48).then(|| (base, end - base))
        });
        let (base, size) = match usable {
            Some((base, size)) => {
                let banks: Vec<String> = self
                    .facts
                    .memory
                    .iter()
                    .map(|bank| format!("{} at {:#x}", Size(bank.size), bank.base))
                    .collect();
                let _ = writeln!(text, "# By the memory nodes: {}.", banks.join(", "));
                if banks.len() > 1 {
                    text.push_str("# Images are planned for the first bank; the hypervisor finds the others by itself.\n");
                }
                (base, size)
            }
            None => {
                let base = if self.is_of("allwinner,sun9i") { 0x2000_0000 } else { UNKNOWN_RAM.0 };
                let known = if self.is_of("allwinner,") { ", as on this vendor's SoCs" } else { "" };
                let _ = writeln!(
                    text,
                    "# CHECK: the tree has no RAM; firmware adds it. The base is a guess{known}, and so are the sizes."
                );
                (base, UNKNOWN_RAM.1)
            }
        };
        let min = size.min(LEAST_RAM);
        let _ = write!(
            text,
            "[memory]\nbase = {}\ndefault = {}\nmin = {}\nmax = {}\n\n",
            address(base),
            quoted(&Size(size).to_string()),
            quoted(&Size(min).to_string()),
            quoted(&Size(size).to_string())
        );
        (base, min)
    }

    fn is_of(&self, prefix: &str) -> bool {
        self.facts.compatible.iter().any(|name| name.starts_with(prefix))
    }

    fn console(&self, text: &mut String) {
        let Some(uart) = &self.facts.console else {
            text.push_str("# CHECK: no console was found, so the hypervisor is silent. Name it in the tree's /chosen, and here.\n\n");
            return;
        };
        let names = uart.compatible.join(", ");
        let (Some(driver), Some(spi)) = (uart.driver, uart.spi) else {
            let lacks = if uart.driver.is_none() { "has no driver" } else { "has no interrupt" };
            let _ = write!(
                text,
                "# CHECK: the console, {} ({}), {lacks}. Drivers: {}.\n\n",
                comment(&uart.node),
                comment(&names),
                uart::list()
            );
            return;
        };
        let _ = write!(
            text,
            "# {} ({}), which the hypervisor takes for the console. CHECK: is it the one that is wired?\n\
             [console]\ndriver = {}\nbase = {}\n",
            comment(&uart.node),
            comment(&names),
            quoted(driver.name()),
            address(uart.base),
        );
        if uart.reg_shift != 0 {
            let _ = writeln!(text, "reg-shift = {}", uart.reg_shift);
        }
        let _ = write!(text, "spi = {spi}\n\n");
        match uart.baud {
            Some(baud) => {
                let _ = write!(
                    text,
                    "# By `stdout-path`. CHECK: what is its connector called on the board? `connector = \"...\"`\n\
                     [serial]\nbaud = {baud}\n\n"
                );
            }
            None => {
                text.push_str("# CHECK: the speed of the serial line:\n#   [serial]\n#   baud = 115200\n\n")
            }
        }
    }

    fn drivers(&self, text: &mut String) {
        let gic = match &self.facts.gic {
            Some(gic) => {
                let addresses: Vec<String> =
                    gic.registers.iter().map(|range| format!("{:#x}", range.base)).collect();
                let _ = writeln!(
                    text,
                    "# {} is a {} at {}.",
                    comment(&gic.node),
                    gic.driver.name(),
                    addresses.join(", ")
                );
                gic.driver
            }
            None => {
                text.push_str("# CHECK: no usable interrupt controller was found.\n");
                Driver::Gicv2
            }
        };
        let mut drivers = vec![gic];
        match self.facts.console.as_ref().and_then(|uart| uart.driver) {
            Some(driver) => drivers.push(driver),
            // Without a known console the description has all, so that any can be named in the tree.
            None => drivers.extend(uart::DRIVERS.iter().map(|(driver, _)| *driver)),
        }
        let names: Vec<String> = drivers.iter().map(|driver| quoted(driver.name())).collect();
        let _ = write!(text, "[hypervisor]\ndrivers = [{}]\n\n", names.join(", "));
    }

    fn boot(&self, text: &mut String, (base, min): (u64, u64)) {
        let offset = SCRIPT_OFFSET.min(min / 2 / PAGE * PAGE);
        let _ = write!(
            text,
            "# CHECK: firmware that the image has to carry, such as U-Boot where the SoC's ROM reads it from the medium:\n\
             #   [firmware.u-boot]\n\
             #   package = \"u-boot-...\"                   # the Debian package\n\
             #   path = \"/usr/lib/u-boot/.../u-boot.bin\"  # the file in it; without a package, one beside this description\n\
             #   offset = \"8K\"                            # where the ROM looks for it\n\
             # and then `firmware = [\"u-boot\"]` below. Without it the board starts from firmware of its own.\n\n\
             [boot.uboot]\n\
             # CHECK: a layout whose partition table keeps clear of the firmware; `ls images` has them.\n\
             layouts = [\"gpt-uboot\"]\n\
             # CHECK: what U-Boot answers to `printenv scriptaddr`; this is a guess.\n\
             script-address = {}\n\
             # CHECK: memory that U-Boot uses while it loads. It moves itself to the top of RAM.\n\
             reserved = [\n    {{ what = \"U-Boot\", size = {} }},\n",
            address(base + offset),
            quoted(&Size((min / 4).clamp(PAGE, 64 << 20) / PAGE * PAGE).to_string())
        );
        text.push_str("]\n\n");
        if self.architecture == Architecture::Aarch64 {
            text.push_str(
                "# Where the board has UEFI firmware, or a U-Boot that starts EFI applications:\n\
                 #   [boot.uefi]\n\
                 #   layouts = [\"gpt-uefi\"]\n\n",
            );
        }
    }

    fn qemu(&self, text: &mut String) {
        let binary = match self.architecture {
            Architecture::Aarch64 => "qemu-system-aarch64",
            Architecture::Armv7 => "qemu-system-arm",
        };
        let cpus = self.facts.cpus.len().max(1);
        let _ = write!(
            text,
            "# CHECK: if QEMU has a machine for the board (`{binary} -machine help`), this makes `vambrace boot` work:\n\
             #   [qemu]\n\
             #   binary = \"{binary}\"\n\
             #   package = \"qemu-system-arm\"\n\
             #   machine = \"...\"\n\
             #   cpus = {cpus}\n\
             #   max-cpus = {cpus}\n\
             #   disk = [\"-drive\", \"if=sd,format=raw,snapshot=on,file={{image}}\"]\n"
        );
    }
}

/// Text as TOML's basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Text that stays on its line, for a comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An address in hexadecimal, in groups of four digits from the right.
fn address(value: u64) -> String {
    let digits = format!("{value:x}");
    let mut grouped = String::from("0x");
    for (index, digit) in digits.char_indices() {
        if index != 0 && (digits.len() - index).is_multiple_of(4) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

fn unique(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_toml() {
        assert_eq!(quoted("a \"b\" \\ c\u{7}"), "\"a \\\"b\\\" \\\\ c\\u0007\"");
        assert_eq!(comment("a\nid = 1"), "a id = 1");
        assert_eq!(address(0x1c2_8000), "0x1c2_8000");
        assert_eq!(address(0x40_0000_0000), "0x40_0000_0000");
        assert_eq!(address(0), "0x0");
    }
}
