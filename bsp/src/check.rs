//! What has to agree within one description, beyond the type of each field.

use crate::board::{Board, DeviceTree, Firmware, FirmwareFormat, Loader, Method, Origin, Qemu, Serial};
use crate::error::{Error, Result};
use crate::suggest::did_you_mean;
use crate::text::fault_at;

/// Checks `board`, read from `text`.
///
/// # Errors
///
/// The first fault found, at its field.
pub(crate) fn check(file: &str, text: &str, board: &Board) -> Result<()> {
    match fault(board) {
        None => Ok(()),
        Some(Fault { path, message, help }) => {
            let error = fault_at(file, text, &path, message);
            Err(Box::new(match help {
                Some(help) => error.help(help),
                None => error,
            }))
        }
    }
}

/// A fault and the dotted path of the field that has it.
struct Fault {
    path: String,
    message: String,
    help: Option<String>,
}

impl Fault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn fault(board: &Board) -> Option<Fault> {
    identity(board)
        .or_else(|| memory(board))
        .or_else(|| drivers(board))
        .or_else(|| serial(board))
        .or_else(|| paths(board))
        .or_else(|| boot(board))
        .or_else(|| board.qemu.as_ref().and_then(qemu))
        .or_else(|| variants_gic(board))
        .or_else(|| loader(board))
        .or_else(|| dom0(board))
}

/// A name that is safe as a file name, as a cargo feature and on a command line.
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn identity(board: &Board) -> Option<Fault> {
    (!is_plain_name(&board.id)).then(|| {
        Fault::new("id", format!("`{}` is not a board's name", board.id))
            .help("use small letters, digits and `-`, and begin with a letter")
    })
}

fn memory(board: &Board) -> Option<Fault> {
    const PAGE: u64 = 4096;
    let memory = &board.memory;
    if !memory.base.is_multiple_of(PAGE) {
        return Some(Fault::new("memory.base", format!("{:#x} is not a multiple of 4 KiB", memory.base)));
    }
    for (name, size) in [("min", memory.min), ("default", memory.default), ("max", memory.max)] {
        let path = format!("memory.{name}");
        if size.bytes() == 0 || !size.bytes().is_multiple_of(PAGE) {
            return Some(Fault::new(path, format!("{size} is not a positive multiple of 4 KiB")));
        }
        if memory.base.checked_add(size.bytes()).is_none_or(|end| end > 1 << 48) {
            return Some(Fault::new(path, format!("RAM of {size} at {:#x} ends above 2^48", memory.base)));
        }
    }
    if !(memory.min <= memory.default && memory.default <= memory.max) {
        return Some(Fault::new(
            "memory.default",
            format!("{} is not between min {} and max {}", memory.default, memory.min, memory.max),
        ));
    }
    None
}

fn drivers(board: &Board) -> Option<Fault> {
    let drivers = &board.hypervisor.drivers;
    for (index, driver) in drivers.iter().enumerate() {
        if drivers.iter().take(index).any(|earlier| earlier == driver) {
            let path = format!("hypervisor.drivers.{index}");
            return Some(Fault::new(path, format!("`{}` is named twice", driver.name())));
        }
    }
    for (needed, there) in [
        ("an interrupt controller (gicv2, gicv3)", drivers.iter().any(|driver| driver.is_gic())),
        ("a UART (pl011, ns16550, exynos4210)", drivers.iter().any(|driver| driver.is_uart())),
    ] {
        if !there {
            return Some(Fault::new("hypervisor.drivers", format!("no driver for {needed}")));
        }
    }
    let console = board.console.as_ref()?;
    if !console.driver.is_uart() {
        return Some(Fault::new(
            "console.driver",
            format!("`{}` does not drive a UART", console.driver.name()),
        ));
    }
    if !drivers.contains(&console.driver) {
        return Some(
            Fault::new("console.driver", format!("`{}` is not compiled in", console.driver.name()))
                .help("add it to `hypervisor.drivers`"),
        );
    }
    if console.reg_shift > 3 {
        let message = format!("registers {} bytes apart are not known", 1_u64 << (console.reg_shift & 63));
        return Some(Fault::new("console.reg-shift", message).help("it is a power of two: 0, 1, 2 or 3"));
    }
    (console.spi > 987).then(|| {
        Fault::new("console.spi", format!("{} is not a shared interrupt's number (0 to 987)", console.spi))
    })
}

fn serial(board: &Board) -> Option<Fault> {
    let serial = board.serial.as_ref()?;
    if board.emulated {
        return Some(Fault::new("serial", "a machine that is `emulated` has no serial line to attach to"));
    }
    if !Serial::BAUDS.contains(&serial.baud) {
        let (least, most) = (Serial::BAUDS.start(), Serial::BAUDS.end());
        return Some(Fault::new("serial.baud", format!("{} is not from {least} to {most}", serial.baud)));
    }
    let connector = serial.connector.as_ref()?;
    (connector.trim().is_empty() || connector.chars().any(char::is_control))
        .then(|| Fault::new("serial.connector", "this is no name of a connector"))
}

/// A variant's interrupt controller is one that the hypervisor is compiled for.
fn variants_gic(board: &Board) -> Option<Fault> {
    let variants = board.qemu.iter().flat_map(|qemu| &qemu.variants);
    for (name, gic) in variants.filter_map(|(name, variant)| Some((name, variant.gic?))) {
        let path = format!("qemu.variants.{name}.gic");
        if !gic.is_gic() {
            return Some(Fault::new(path, format!("`{}` is not an interrupt controller", gic.name())));
        }
        if !board.hypervisor.drivers.contains(&gic) {
            return Some(
                Fault::new(path, format!("`{}` is not compiled in", gic.name()))
                    .help("add it to `hypervisor.drivers`"),
            );
        }
    }
    None
}

/// Paths may name files in a package or beside the board, and nothing outside.
fn paths(board: &Board) -> Option<Fault> {
    let climbs = |path: &str| path.split('/').any(|part| part == "..");
    let in_folder = |field: String, path: &str| {
        (path.is_empty() || path.ends_with('/') || path.starts_with('/') || climbs(path)).then(|| {
            Fault::new(field, format!("`{path}` is not in the board's folder"))
                .help("put the file beside board.toml and give its relative path")
        })
    };
    let in_package = |field: String, path: &str| {
        (!path.starts_with('/') || path.ends_with('/') || climbs(path))
            .then(|| Fault::new(field, format!("`{path}` is not the absolute path of a file in the package")))
    };
    match &board.device_tree {
        DeviceTree::Firmware {} => {}
        DeviceTree::Kernel { path, .. } => {
            if path.is_empty() || path.starts_with('/') || climbs(path) || !path.ends_with(".dtb") {
                return Some(
                    Fault::new("device-tree.path", format!("`{path}` is not a device tree of the kernel"))
                        .help("give it as it is below /usr/lib/linux-image-<version>, like vendor/board.dtb"),
                );
            }
        }
        DeviceTree::Package { path, .. } => {
            if let Some(fault) = in_package("device-tree.path".into(), path) {
                return Some(fault);
            }
        }
        DeviceTree::File { path } => {
            if let Some(fault) = in_folder("device-tree.path".into(), path) {
                return Some(fault);
            }
        }
    }
    for (index, change) in board.device_tree.amendments().iter().enumerate() {
        if !change.node.starts_with('/') {
            let path = format!("device-tree.amend.{index}.node");
            return Some(Fault::new(path, format!("`{}` is not the path of a node", change.node)));
        }
    }
    board.firmware.iter().find_map(|(name, firmware)| {
        let field = |key: &str| format!("firmware.{name}.{key}");
        let path = match firmware.origin() {
            Origin::Package { path, .. } => in_package(field("path"), path),
            Origin::Beside { path } => in_folder(field("path"), path),
            Origin::User => None,
        };
        path.or_else(|| self::firmware(name, firmware))
            .or_else(|| templates(&field("qemu"), &firmware.qemu, &["file", "folder"]))
    })
}

/// What a firmware file cannot be, beside its path.
fn firmware(name: &str, firmware: &Firmware) -> Option<Fault> {
    let field = |key: &str| format!("firmware.{name}.{key}");
    // A user names it as a key, on the command line too.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Some(
            Fault::new(
                format!("firmware.{name}"),
                format!("`{}` is not a name for firmware", name.escape_default()),
            )
            .help("use letters, digits, `-` and `_`"),
        );
    }
    if firmware.package.is_none() && firmware.architecture.is_some() {
        return Some(Fault::new(field("architecture"), "only a package has an architecture"));
    }
    if firmware.origin() == Origin::User && !firmware.is_on_medium() {
        return Some(
            Fault::new(format!("firmware.{name}"), "the user's file would be nowhere on the medium")
                .help("say where the board's ROM reads it: `offset` or `file`, or both"),
        );
    }
    if let Some(file) = &firmware.file {
        // As FAT has it without a long name, which no ROM reads (Microsoft's FAT specification, section 6).
        let part = |part: &str, most: usize| {
            (1..=most).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let (stem, ending) = file.split_once('.').unwrap_or((file, "x"));
        if !part(stem, 8) || !part(ending, 3) {
            let text = format!("`{}` is not a file's short name on FAT", file.escape_default());
            return Some(
                Fault::new(field("file"), text).help("8 letters, digits, `-` and `_`, and 3 behind a dot"),
            );
        }
    }
    let window = firmware.memory.as_ref()?;
    if firmware.format != Some(FirmwareFormat::Mlo) {
        return Some(Fault::new(field("memory"), "only of the format `mlo` is known where it is loaded to"));
    }
    (window.size.bytes() == 0 || window.base.checked_add(window.size.bytes()).is_none())
        .then(|| Fault::new(field("memory"), format!("{} is not a range of memory", window.size)))
}

fn boot(board: &Board) -> Option<Fault> {
    if !board.boot.contains_key(&board.default_method) {
        return Some(Fault::new(
            "default-method",
            format!("`{0}` is not described: there is no [boot.{0}]", board.default_method),
        ));
    }
    board.boot.iter().find_map(|(method, boot)| {
        let path = |field: &str| format!("boot.{method}.{field}");
        if boot.layouts.is_empty() {
            return Some(Fault::new(path("layouts"), "no layout is named"));
        }
        if let Some((index, name)) =
            boot.firmware.iter().enumerate().find(|(_, name)| !board.firmware.contains_key(*name))
        {
            let help = did_you_mean(name, board.firmware.keys().map(String::as_str));
            return Some(
                Fault::new(path(&format!("firmware.{index}")), format!("no firmware is called `{name}`"))
                    .help(help),
            );
        }
        let in_ram = |address: u64| {
            (board.memory.base..board.memory.base.saturating_add(board.memory.min.bytes())).contains(&address)
        };
        match (method, boot.script_address) {
            (Method::Uboot, None) => {
                return Some(
                    Fault::new(path("script-address"), "U-Boot's boot script has no address")
                        .help("give what U-Boot has in `scriptaddr`"),
                );
            }
            (Method::Uboot, Some(address)) if !in_ram(address) => {
                return Some(Fault::new(
                    path("script-address"),
                    format!("{address:#x} is outside the smallest RAM"),
                ));
            }
            (Method::Uefi | Method::Direct, Some(_)) => {
                return Some(Fault::new(path("script-address"), format!("{method} runs no boot script")));
            }
            (Method::Direct, None) if !boot.firmware.is_empty() => {
                return Some(Fault::new(path("firmware"), "this method is for boards without firmware"));
            }
            _ => {}
        }
        if let Some(old) = &boot.old {
            if *method != Method::Uboot {
                return Some(Fault::new(path("old"), format!("{method} has no U-Boot")));
            }
            if old.interface.is_empty() || !old.interface.bytes().all(|b| b.is_ascii_alphanumeric()) {
                let text = format!("`{}` is no interface of U-Boot's", old.interface);
                return Some(Fault::new(path("old.interface"), text).help("such as scsi, mmc, usb"));
            }
            let beyond =
                |offset: u32| !offset.is_multiple_of(4096) || u64::from(offset) >= board.memory.min.bytes();
            if let Some(offset) = old.bootm.filter(|offset| beyond(*offset)) {
                let text = format!("{offset:#x} is no page of the smallest RAM");
                return Some(Fault::new(path("old.bootm"), text));
            }
        }
        boot.reserved.iter().enumerate().find_map(|(index, reserved)| {
            let end = reserved.base.map_or(Some(0), |base| base.checked_add(reserved.size.bytes()));
            (reserved.size.bytes() == 0 || end.is_none()).then(|| {
                Fault::new(
                    path(&format!("reserved.{index}.size")),
                    format!("{} is not a range of memory", reserved.size),
                )
            })
        })
    })
}

fn qemu(qemu: &Qemu) -> Option<Fault> {
    if qemu.cpus == 0 || qemu.cpus > qemu.max_cpus {
        return Some(Fault::new(
            "qemu.cpus",
            format!("{} is not between 1 and max-cpus, {}", qemu.cpus, qemu.max_cpus),
        ));
    }
    if let Some((name, variant)) =
        qemu.variants.iter().find(|(_, variant)| variant.max_cpus.is_some_and(|max| max < qemu.cpus))
    {
        let max = variant.max_cpus.unwrap_or_default();
        return Some(Fault::new(
            format!("qemu.variants.{name}.max-cpus"),
            format!("{max} is less than the {} CPUs of the board", qemu.cpus),
        ));
    }
    match &qemu.default_variant {
        Some(name) if !qemu.variants.contains_key(name) => {
            let help = did_you_mean(name, qemu.variants.keys().map(String::as_str));
            return Some(
                Fault::new("qemu.default-variant", format!("no variant is called `{name}`")).help(help),
            );
        }
        None if !qemu.variants.is_empty() => {
            return Some(Fault::new("qemu", "there are variants, but no default-variant"));
        }
        _ => {}
    }
    let variants = qemu.variants.iter().filter(|(_, variant)| !variant.disk.is_empty());
    let disks = variants.map(|(name, variant)| (format!("qemu.variants.{name}.disk"), &variant.disk));
    std::iter::once(("qemu.disk".to_owned(), &qemu.disk))
        .chain(disks)
        .find_map(|(path, disk)| {
            if !disk.iter().any(|arg| arg.contains("{image}")) {
                return Some(Fault::new(path, "no argument has {image}, so the medium is not attached"));
            }
            templates(&path, disk, &["image"])
        })
        .or_else(|| templates("qemu.args", &qemu.args, &[]))
}

/// Whoever puts files to addresses puts the device tree there too, so it has to be known before the machine runs.
fn loader(board: &Board) -> Option<Fault> {
    let by_loader = board.qemu.as_ref().is_some_and(|qemu| qemu.loader == Loader::Direct);
    if !board.device_tree.is_carried() && (by_loader || board.boot.contains_key(&Method::Direct)) {
        return Some(
            Fault::new("device-tree", "a direct loader needs a device tree that the image carries")
                .help("name one of the kernel's: { from = \"kernel\", path = \"...\" }"),
        );
    }
    if by_loader && board.boot.contains_key(&Method::Uefi) {
        return Some(Fault::new("qemu.loader", "a direct loader cannot stand in for UEFI firmware"));
    }
    let firmware_missing = board.qemu.as_ref().is_some_and(|qemu| qemu.loader == Loader::Firmware)
        && board.boot.contains_key(&Method::Direct);
    firmware_missing.then(|| {
        Fault::new("qemu.loader", "the method direct has no firmware: the loader has to be `direct`")
    })
}

/// Names of modules become words of a list and files' names.
fn dom0(board: &Board) -> Option<Fault> {
    if board.dom0.cpus == Some(0) {
        return Some(Fault::new("dom0.cpus", "dom0 cannot run without a CPU"));
    }
    let wrong = |name: &str| {
        name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let index = board.dom0.modules.iter().position(|name| wrong(name))?;
    let name = board.dom0.modules.get(index).map_or("", String::as_str);
    Some(Fault::new(format!("dom0.modules.{index}"), format!("`{name}` is not a kernel module's name")))
}

/// Refuses a placeholder in braces other than `known`, which would reach QEMU as it stands.
fn templates(path: &str, args: &[String], known: &[&str]) -> Option<Fault> {
    args.iter().enumerate().find_map(|(index, arg)| {
        let placeholder = arg
            .split('{')
            .skip(1)
            .map(|rest| rest.split('}').next().unwrap_or(rest))
            .find(|name| !known.contains(name))?;
        let fault = Fault::new(format!("{path}.{index}"), format!("`{{{placeholder}}}` stands for nothing"));
        let names: Vec<String> = known.iter().map(|name| format!("`{{{name}}}`")).collect();
        Some(if names.is_empty() { fault } else { fault.help(format!("known here: {}", names.join(", "))) })
    })
}

/// The error of a description whose folder and id differ.
pub(crate) fn wrong_folder(file: &str, text: &str, board: &Board, folder: &str) -> Error {
    fault_at(file, text, "id", format!("`{}` is not the name of the board's folder, `{folder}`", board.id))
        .help("give both the same name")
}
