//! What the command prints about boards and plans.

use crate::error::{Result, ResultExt};
use crate::kernel::Format;
use crate::layout::Content;
use crate::plan::{Artifact, Plan, PlannedHypervisor};
use std::fmt::Write as _;
use vambrace_bsp::{Board, Catalog, DeviceTree, Dom0, Loader, Method, Origin, Size, Source};

/// All boards, a line each.
pub fn boards(catalog: &Catalog) -> String {
    let mut rows = vec![["BOARD", "ARCHITECTURE", "BOOT", "QEMU", "NAME"].map(str::to_owned)];
    for (id, board) in catalog.iter() {
        rows.push(match board {
            Ok(board) => [
                id.to_owned(),
                board.architecture.to_string(),
                board.boot.keys().map(|method| method.name()).collect::<Vec<_>>().join(" "),
                board.qemu.as_ref().map_or("image only".to_owned(), |qemu| {
                    let variants = qemu.variants.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
                    if variants.is_empty() { "yes".to_owned() } else { variants }
                }),
                board.name.clone(),
            ],
            Err(error) => {
                let help = error.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
                [id, "-", "-", "-", &format!("cannot be used: {error}{help}")].map(str::to_owned)
            }
        });
    }
    table(&rows)
}

/// Columns as wide as their widest cell, the last as it is.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One board, everything that is known of it.
pub fn board(board: &Board, profiles: &[String], source: Option<&Source>) -> String {
    let mut rows = board_facts(board, profiles);
    rows.push(["described in".to_owned(), described_in(source)]);
    // A name that is there several times is printed once.
    let mut last = String::new();
    for row in &mut rows {
        let name = row[0].clone();
        if name == last {
            row[0].clear();
        }
        last = name;
    }
    table(&rows)
}

/// What is known of a board: names and values. A name may be there several times, one after the other.
pub(crate) fn board_facts(board: &Board, profiles: &[String]) -> Vec<[String; 2]> {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("board", board.id.clone());
    row("name", board.name.clone());
    row("vendor", format!("{}, {}", board.vendor, board.soc));
    row("architecture", format!("{} (Debian's {})", board.architecture, board.architecture.debian()));
    row(
        "device tree",
        match &board.device_tree {
            DeviceTree::Firmware {} => "from the firmware, at run time".to_owned(),
            DeviceTree::Kernel { path, .. } => format!("{path} of dom0's kernel package, on the image"),
            DeviceTree::Package { package, path, .. } => format!("{path} of the package {package}"),
            DeviceTree::File { path } => format!("{path}, beside the description"),
        },
    );
    for change in board.device_tree.amendments() {
        row("changed in it", format!("{} of {}: {}", change.property, change.node, change.why));
    }
    let memory = &board.memory;
    row("memory", format!("from {:#x}; {}, {} to {}", memory.base, memory.default, memory.min, memory.max));
    row(
        "console",
        board.console.as_ref().map_or_else(
            || "as the device tree says".to_owned(),
            |console| {
                let stride = 1_u32 << (console.reg_shift & 31);
                format!(
                    "{} at {:#x}, registers {stride} apart, SPI {}",
                    console.driver.name(),
                    console.base,
                    console.spi
                )
            },
        ),
    );
    if board.emulated {
        row("serial line", "none: the machine is an emulator's or a model's".to_owned());
    } else if let Some(serial) = &board.serial {
        let at = serial.connector.as_ref().map_or(String::new(), |connector| format!(", at {connector}"));
        row("serial line", format!("{} baud, 8 data bits, no parity, 1 stop bit{at}", serial.baud));
    }
    let drivers: Vec<&str> = board.hypervisor.drivers.iter().map(|driver| driver.name()).collect();
    row("drivers", drivers.join(", "));
    for (method, boot) in &board.boot {
        let default = if *method == board.default_method { ", the default" } else { "" };
        let firmware = match (boot.firmware.as_slice(), method) {
            ([], Method::Direct) => "no firmware: a loader puts the files to their addresses".to_owned(),
            ([], _) => "firmware of the board's own, which is not on the image".to_owned(),
            (names, _) => {
                let own = names.iter().any(|name| {
                    board.firmware.get(name).is_some_and(|firmware| firmware.origin() == Origin::User)
                });
                let elsewhere =
                    if own { ", where you name yours; else the board's own, elsewhere" } else { "" };
                format!("firmware {}{elsewhere}", names.join(", "))
            }
        };
        row("boot", format!("{method}{default}: layout {}; {firmware}", boot.layouts.join(", ")));
    }
    for (name, firmware) in &board.firmware {
        let file = firmware.file.as_ref().map(|file| format!("the file {file} on FAT"));
        let raw = firmware.offset.map(|offset| format!("at byte {}", offset.bytes()));
        let places: Vec<String> = file.into_iter().chain(raw).collect();
        let place = if places.is_empty() { String::new() } else { format!(", {}", places.join(" or ")) };
        let from = match firmware.origin() {
            Origin::Package { package, path } => format!("{path} of the package {package}"),
            Origin::Beside { path } => format!("{path} beside the description"),
            Origin::User => "a file of yours, named under [firmware] in the image's description".to_owned(),
        };
        row("firmware", format!("{name}: {from}{place}"));
    }
    if let Some(qemu) = &board.qemu {
        let machine = std::iter::once(&qemu.machine)
            .chain(&qemu.machine_options)
            .cloned()
            .collect::<Vec<_>>()
            .join(",");
        row(
            "QEMU",
            format!("{} -machine {machine}, {} CPUs, at most {}", qemu.binary, qemu.cpus, qemu.max_cpus),
        );
        if let Some(version) = qemu.before {
            row("QEMU", format!("before {version}"));
        }
        if qemu.loader == Loader::Direct {
            let who = "the builder stands in for the firmware: it has QEMU load the files of the image";
            row("QEMU", who.to_owned());
        }
        if !qemu.power_off {
            row(
                "QEMU",
                "the machine cannot be switched off from inside; its end is the hypervisor's word".to_owned(),
            );
        }
        for (name, variant) in &qemu.variants {
            let default = if qemu.default_variant.as_ref() == Some(name) { ", the default" } else { "" };
            row("variant", format!("{name}{default}: {}", variant.description));
        }
    }
    row("profiles", profiles.join(", "));
    if !board.dom0.modules.is_empty() {
        let Dom0 { modules, root_device_wait, cpus } = &board.dom0;
        row("dom0", format!("loads {}; waits {root_device_wait} s for its root", modules.join(", ")));
        if let Some(cpus) = cpus {
            row("dom0", format!("at most {cpus} CPUs unless asked for more"));
        }
    }
    for note in &board.notes {
        row("note", note.clone());
    }
    booted(board).into_iter().for_each(|how| row("booted", how));
    rows
}

/// How and where a board was seen to boot.
pub(crate) fn booted(board: &Board) -> Vec<String> {
    if board.never_booted() {
        vec!["never: the image is checked by reading it back, and was never booted".to_owned()]
    } else if board.verified.is_empty() {
        vec!["in QEMU only, by `vambrace boot --check`".to_owned()]
    } else {
        board.verified.clone()
    }
}

/// Where a board's description is.
fn described_in(source: Option<&Source>) -> String {
    match source {
        Some(Source::Folder(path)) => path.join("board.toml").display().to_string(),
        Some(Source::Embedded) | None => "this program".to_owned(),
    }
}

/// One board as JSON: the fields of its description, sizes in bytes, with `profiles` and `described-in` added.
///
/// # Errors
///
/// A description that JSON has no form for.
pub fn board_json(board: &Board, profiles: &[String], source: Option<&Source>) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(board).context(|| "cannot write the board as JSON")?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("profiles".to_owned(), profiles.into());
        fields.insert("described-in".to_owned(), described_in(source).into());
    }
    Ok(value)
}

/// The plan, for people; `verbose` adds the text that the firmware is given.
pub fn plan(plan: &Plan, qemu: Option<&str>, verbose: bool) -> String {
    let mut text = String::new();
    let variant = plan.variant.as_ref().map_or(String::new(), |variant| format!(":{variant}"));
    let mut rows = vec![
        ["board".to_owned(), format!("{}{variant} ({})", plan.board, plan.architecture)],
        ["boot method".to_owned(), plan.method.clone()],
        ["disk layout".to_owned(), plan.layout.clone()],
        [
            "dom0".to_owned(),
            format!(
                "profile {}, {} of memory, {} CPUs",
                plan.profile,
                Size(plan.dom0_mem),
                plan.dom0_cpus.map_or("all".to_owned(), |cpus| cpus.to_string())
            ),
        ],
        ["machine".to_owned(), format!("{} of memory, {} CPUs", Size(plan.memory), plan.cpus)],
        [
            "hypervisor".to_owned(),
            match &plan.hypervisor {
                PlannedHypervisor::File(path) => format!("the file {}", path.display()),
                PlannedHypervisor::Package(name) => format!("Debian's package {name}"),
                PlannedHypervisor::Compiled { board, target, drivers } => {
                    format!("compiled for {board}, {target}, with {}", drivers.join(", "))
                }
            },
        ],
        ["its arguments".to_owned(), plan.hypervisor_args.clone()],
        ["dom0's arguments".to_owned(), plan.dom0_args.clone()],
        ["image".to_owned(), format!("{}, {}", plan.image.display(), size(plan.disk.size))],
    ];
    rows.extend(plan.remarks.iter().map(|remark| ["note".to_owned(), remark.clone()]));
    if plan.never_booted {
        rows.push(["booted".to_owned(), "never: the image is checked by reading it back".to_owned()]);
    }
    text.push_str(&table(&rows));
    if !plan.exact {
        text.push_str("\nSome parts have not been made yet: sizes marked ~ are guesses, and what follows from them may move.\n");
    }

    text.push_str("\nPARTS\n");
    let part = |name: &str, artifact: &Artifact| {
        let guess = if artifact.sha256.is_some() { "" } else { "~" };
        let header = artifact.header.map_or(String::new(), |header| {
            let packed = if header.gzip { ", gzip" } else { "" };
            let what = header.format.name();
            let (memory, offset) = (size(header.image_size), header.text_offset);
            match header.format {
                Format::Image => format!("; {what}: {memory} in memory at 2 MiB + {offset:#x}{packed}"),
                Format::Zimage => format!("; {what}: {memory} in memory while it starts"),
            }
        });
        [format!("  {name}"), format!("{guess}{}", size(artifact.size)), format!("{}{header}", artifact.from)]
    };
    let artifacts = &plan.artifacts;
    let mut rows = vec![
        part(Content::Hypervisor.name(), &artifacts.hypervisor),
        part(Content::Kernel.name(), &artifacts.kernel),
        part(Content::Ramdisk.name(), &artifacts.ramdisk),
    ];
    rows.extend(artifacts.root.iter().map(|root| part("root", &root.artifact)));
    rows.extend(artifacts.device_tree.iter().map(|tree| part(Content::DeviceTree.name(), &tree.artifact)));
    rows.extend(artifacts.firmware.iter().map(|(name, artifact)| part(name, artifact)));
    text.push_str(&table(&rows));

    let (base, end) = plan.ram;
    let _ = writeln!(text, "\nRAM {base:#x} to {end:#x}");
    if plan.ram_map.is_empty() {
        text.push_str("  the firmware decides at run time where things are\n");
    } else {
        let mut rows = Vec::new();
        let mut next = base;
        for region in &plan.ram_map {
            if region.start > next {
                rows.push(free(next, region.start));
            }
            rows.push([
                format!("  {:#012x}", region.start),
                format!("{:#012x}", region.end()),
                size(region.size),
                region.what.clone(),
                region.why.clone(),
            ]);
            next = next.max(region.end());
        }
        if next < end {
            rows.push(free(next, end));
        }
        text.push_str(&table(&rows));
    }

    text.push_str("\nMEDIUM (bytes)\n");
    let mut rows = Vec::new();
    for extent in &plan.disk.extents {
        let end = extent.start.saturating_add(extent.size);
        let what = extent.what.clone();
        rows.push([format!("  {}", extent.start), end.to_string(), size(extent.size), what]);
        let partition = plan.disk.partitions.iter().find(|partition| partition.start == extent.start);
        for file in partition.into_iter().flat_map(|partition| &partition.files) {
            rows.push([
                String::new(),
                String::new(),
                size(file.size),
                format!("  {} ({})", file.path, file.content.label()),
            ]);
        }
    }
    text.push_str(&table(&rows));

    if verbose {
        let texts = [
            ("BOOT FILE", &plan.boot_text),
            ("BOOT FILE UNDER UEFI", &plan.efi_text),
            ("BOOT SCRIPT OF A SLOT", &plan.slot_text),
        ];
        for (title, script) in texts {
            if script.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{title}");
            for line in script.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    if let Some(qemu) = qemu {
        let _ = writeln!(text, "\nQEMU\n  {qemu}");
    }
    text
}

fn free(start: u64, end: u64) -> [String; 5] {
    [format!("  {start:#012x}"), format!("{end:#012x}"), size(end - start), "-".to_owned(), "free".to_owned()]
}

/// A size for people: exact below 4 KiB, else with one decimal place.
pub fn size(bytes: u64) -> String {
    // A table's numbers are read by eye; a tenth of a unit is near enough.
    #[allow(clippy::cast_precision_loss)]
    let of = |shift: u32| bytes as f64 / (1_u64 << shift) as f64;
    match bytes {
        0..4096 => format!("{bytes} B"),
        4096..0x10_0000 => format!("{:.1} KiB", of(10)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", of(20)),
        _ => format!("{:.1} GiB", of(30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_listed_and_shown() {
        let catalog = Catalog::embedded().unwrap();
        let list = boards(&catalog);
        for id in catalog.ids() {
            assert!(list.lines().any(|line| line.starts_with(id)), "{list}");
            let text = board(catalog.get(id).unwrap(), &[], catalog.source(id));
            assert!(text.contains("architecture") && text.contains("this program"), "{text}");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(
            [size(17), size(17408), size(64 << 20), size(5 << 29)],
            ["17 B", "17.0 KiB", "64.0 MiB", "2.5 GiB"]
        );
    }
}
