//! What would boot of a medium, step by step, and why something would not.
//!
//! Firmware's rules are those of U-Boot's distro boot (include/config_distro_bootcmd.h; its successor, doc/develop/bootstd,
//! keeps the order), of UEFI's removable media (UEFI specification 2.10, 3.5.1.1) and of the Raspberry Pi's firmware.

use serde::Serialize;

use super::fault::Fault;
use super::raw::Found;
use super::script::{self, Choice, is_plain};
use super::table::Entry;
use super::thing::{Cpu, Kind, MOST, Thing, recognise};
use super::volume::Volume;
use crate::hypervisor::HypervisorKind;

/// Where U-Boot looks on a partition, in its order.
const PREFIXES: [&str; 2] = ["", "boot/"];
const EXTLINUX: &str = "extlinux/extlinux.conf";
const SCRIPTS: [&str; 2] = ["boot.scr.uimg", "boot.scr"];
/// What UEFI firmware starts from a medium that it knows nothing of, and for which CPU.
const REMOVABLE: [(&str, Cpu); 2] =
    [("EFI/BOOT/BOOTAA64.EFI", Cpu::Arm64), ("EFI/BOOT/BOOTARM.EFI", Cpu::Arm)];
/// Where GRUB's configuration is met.
const GRUB: [&str; 6] = [
    "EFI/BOOT/grub.cfg",
    "EFI/debian/grub.cfg",
    "EFI/ubuntu/grub.cfg",
    "boot/grub/grub.cfg",
    "grub/grub.cfg",
    "boot/grub2/grub.cfg",
];
/// What is read of a text.
const MOST_TEXT: u64 = 1 << 20;
/// The distance at which a SunXi SPL looks for U-Boot behind its own beginning, at least.
const SUNXI_UBOOT: u64 = 32 << 10;

/// One step of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What runs or is read.
    pub what: String,
    /// What on the medium says so.
    pub evidence: String,
}

/// One way to boot from the medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Who begins: a boot ROM, U-Boot, UEFI firmware.
    pub way: String,
    /// Whether nothing was found that keeps it from booting.
    pub boots: bool,
    /// Whether a hypervisor is started.
    pub hypervisor: bool,
    /// The steps, as far as they go.
    pub steps: Vec<Step>,
    /// What keeps it from booting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why_not: Vec<String>,
}

impl Verdict {
    fn new(way: &str) -> Self {
        Self { way: way.to_owned(), boots: true, hypervisor: false, steps: Vec::new(), why_not: Vec::new() }
    }

    fn step(&mut self, what: impl Into<String>, evidence: impl Into<String>) {
        self.steps.push(Step { what: what.into(), evidence: evidence.into() });
    }

    /// Keeps `fault`, which ends this way.
    fn fails(&mut self, fault: Fault, faults: &mut Vec<Fault>) {
        self.boots = false;
        self.why_not.push(format!("{}: {}", fault.at, fault.what));
        faults.push(fault);
    }

    /// The steps in a line, without their particulars.
    pub fn line(&self) -> String {
        let short = |step: &Step| {
            let name = step.what.split(" (").next().unwrap_or_default();
            name.split(": ").next().unwrap_or_default().to_owned()
        };
        self.steps.iter().map(short).collect::<Vec<_>>().join(" -> ")
    }
}

/// A partition, or the whole medium where there is none.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) entry: &'a Entry,
    pub(super) volume: Option<&'a Volume>,
    /// What is known of its files.
    pub(super) files: &'a [(String, u64, Thing)],
}

/// A file that was looked for.
struct File {
    at: String,
    size: u64,
    thing: Thing,
}

impl Place<'_> {
    fn file(&self, path: &str) -> Option<File> {
        let volume = self.volume?;
        let found = volume.find(path)?;
        let plain = path.trim_matches('/');
        let at = self.at(plain);
        if let Some((_, size, thing)) = self.files.iter().find(|(known, ..)| known == plain) {
            return Some(File { at, size: *size, thing: thing.clone() });
        }
        let thing = match found.read(MOST) {
            Ok(bytes) => recognise(&bytes, found.size),
            Err(error) => volume.unread(&error),
        };
        Some(File { at, size: found.size, thing })
    }

    fn text(&self, path: &str) -> Option<String> {
        let bytes = self.volume?.find(path)?.read(MOST_TEXT).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn at(&self, path: &str) -> String {
        self.entry.path(path)
    }
}

/// What boot firmware sees.
#[derive(Debug)]
pub(super) struct Medium<'a> {
    pub(super) table: Option<&'static str>,
    pub(super) places: Vec<Place<'a>>,
    pub(super) raw: &'a [Found],
    /// The bytes that a GPT's first entries have.
    pub(super) entries: Option<(u64, u64)>,
}

impl Medium<'_> {
    /// Says what would boot.
    pub(super) fn judge(&self, faults: &mut Vec<Fault>) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        verdicts.extend(self.by_uboot(faults));
        verdicts.extend(self.by_uefi(faults));
        verdicts.extend(self.by_pi(faults));
        if verdicts.is_empty() {
            verdicts.extend(self.directly());
        }
        if self.table.is_some() && verdicts.is_empty() {
            let what =
                "nothing on it is anything that a boot ROM, U-Boot, UEFI firmware or a Raspberry Pi starts";
            faults.push(Fault::error("the medium", what));
        }
        verdicts
    }

    /// The boot ROM's part: the first stage and U-Boot. `None` where neither is here; the CPU of U-Boot with it.
    fn first_stages(&self, faults: &mut Vec<Fault>) -> Option<(Verdict, Option<Cpu>)> {
        let firsts: Vec<&Found> = self.raw.iter().filter(|found| found.rom.is_some()).collect();
        let uboot = |from: u64| {
            self.raw.iter().find(|found| {
                found.rom.is_none() && found.thing.kind == Kind::Firmware && found.start >= from
            })
        };
        let Some(first) = firsts.iter().find(|found| found.thing.wrong.is_empty()).or(firsts.first()) else {
            let uboot = uboot(0)?;
            let mut verdict = Verdict::new("the boot ROM");
            let place = uboot.start;
            let covers = |at: u64| self.entries.is_some_and(|(start, size)| start <= at && at < start + size);
            let fault = if place == 40 << 10 || place == 160 << 10 {
                let over = if covers(place - SUNXI_UBOOT) { ": the GPT's entries lie there" } else { "" };
                let what = format!(
                    "U-Boot is at {} KiB, where a SunXi SPL looks for it, and there is no SPL at {} KiB{over}",
                    place >> 10,
                    (place - SUNXI_UBOOT) >> 10
                );
                Fault::error("the medium", what)
                    .help("use a MBR, or a GPT of at most 56 entries, and write the SPL again")
            } else {
                Fault::warning(
                    "the medium",
                    format!("U-Boot is at byte {place:#x}, and nothing before it that a boot ROM loads"),
                )
            };
            verdict.step(uboot.thing.what.clone(), format!("byte {place:#x}"));
            if fault.level == crate::port::Level::Error {
                verdict.fails(fault, faults);
            } else {
                faults.push(fault);
            }
            return Some((verdict, uboot.thing.cpu));
        };
        let rom = first.rom.unwrap_or("the boot ROM");
        let mut verdict = Verdict::new(rom);
        verdict.step(rom, format!("what it loads is at byte {:#x}", first.start));
        let sum = if first.thing.wrong.is_empty() { "" } else { ": damaged" };
        verdict
            .step(first.thing.what.clone(), format!("{} bytes at byte {:#x}{sum}", first.size, first.start));
        for wrong in &first.thing.wrong {
            let fault = Fault::error(format!("the first stage at byte {:#x}", first.start), wrong.clone());
            verdict.fails(fault.help("write it again"), faults);
        }
        let next = uboot(first.start + 1);
        match next {
            Some(next) => {
                verdict.step(next.thing.what.clone(), format!("byte {:#x}", next.start));
                for fault in next.thing.faults(&format!("U-Boot at byte {:#x}", next.start)) {
                    verdict.fails(fault, faults);
                }
            }
            None if rom.starts_with("SunXi") => {
                let what = format!(
                    "no U-Boot lies behind it, neither {} KiB from it nor further",
                    SUNXI_UBOOT >> 10
                );
                let fault = Fault::error(format!("the SPL at byte {:#x}", first.start), what);
                verdict.fails(fault.help("write U-Boot and its SPL again, in one file"), faults);
            }
            // Other first stages bring everything, or take U-Boot from where their own configuration says.
            None => verdict.step("U-Boot", "in the first stage or where that looks for it"),
        }
        Some((verdict, next.and_then(|next| next.thing.cpu)))
    }

    /// U-Boot's distro boot: on partitions with the mark, or else on the first, an extlinux.conf before a script, then EFI.
    fn by_uboot(&self, faults: &mut Vec<Fault>) -> Option<Verdict> {
        let first = self.first_stages(faults);
        let marked: Vec<&Place<'_>> = self.places.iter().filter(|place| place.entry.bootable).collect();
        let looked: Vec<&Place<'_>> = if marked.is_empty() {
            self.places.iter().filter(|place| place.entry.number <= 1).collect()
        } else {
            marked
        };
        let mut found: Vec<(Verdict, Vec<Fault>, String, bool)> = Vec::new();
        let cpu = first.as_ref().and_then(|(_, cpu)| *cpu);
        for place in &looked {
            found.extend(self.on_partition(place, cpu));
        }
        let elsewhere: Vec<String> = self
            .places
            .iter()
            .filter(|place| !looked.iter().any(|looked| looked.entry == place.entry))
            .flat_map(|place| self.on_partition(place, cpu))
            .map(|(_, _, at, _)| at)
            .collect();
        if first.is_none() && found.is_empty() && elsewhere.is_empty() {
            return None;
        }
        let (mut verdict, _) = first.unwrap_or_else(|| {
            let mut verdict = Verdict::new("U-Boot of the board's own");
            verdict.step("U-Boot of the board's own", "none lies outside of the partitions");
            (verdict, None)
        });
        let has_efi =
            || looked.iter().any(|place| REMOVABLE.iter().any(|(path, _)| place.file(path).is_some()));
        let mut found = found.into_iter();
        let Some((way, wrong, at, extlinux)) = found.next() else {
            if let Some(at) = elsewhere.first() {
                let what = "U-Boot does not look there: it takes partitions that are marked as bootable, or else the first";
                let fault = Fault::error(at.clone(), what).help(
                    "mark the partition: `sgdisk --attributes=NUMBER:set:2`, or `sfdisk --activate` with a MBR, and take the mark from others",
                );
                verdict.fails(fault, faults);
            } else if has_efi() {
                verdict.step("U-Boot's UEFI", "an EFI application is the only thing that it finds");
            } else {
                let what = "U-Boot finds neither extlinux.conf nor boot.scr nor an EFI application on the partitions where it looks";
                verdict.fails(Fault::error("the medium", what), faults);
            }
            return Some(verdict);
        };
        let later = found.collect::<Vec<_>>();
        if extlinux
            && !way.hypervisor
            && let Some((_, _, other, _)) = later.iter().find(|(way, ..)| way.hypervisor)
        {
            let what = format!("U-Boot takes it before {other}, and so boots without the hypervisor");
            verdict.fails(Fault::error(at.clone(), what).help("remove it"), faults);
        }
        for (_, _, other, _) in &later {
            faults.push(Fault::note(other.clone(), format!("U-Boot comes to it only if {at} fails")));
        }
        for other in &elsewhere {
            faults.push(Fault::note(other.clone(), "U-Boot does not look on this partition"));
        }
        verdict.boots &= way.boots;
        verdict.hypervisor = way.hypervisor;
        verdict.steps.extend(way.steps);
        verdict.why_not.extend(way.why_not);
        faults.extend(wrong);
        Some(verdict)
    }

    /// What U-Boot would take of a partition, in its order: the steps, faults, the path, and whether it is an extlinux.conf.
    fn on_partition(&self, place: &Place<'_>, cpu: Option<Cpu>) -> Vec<(Verdict, Vec<Fault>, String, bool)> {
        let mut found = Vec::new();
        for prefix in PREFIXES {
            let path = format!("{prefix}{EXTLINUX}");
            if let Some(text) = place.text(&path) {
                let (mut verdict, mut faults) = (Verdict::new("U-Boot"), Vec::new());
                verdict.step("extlinux.conf", place.at(&path));
                match script::extlinux(&text) {
                    Some(choice) => self.choice(place, &path, &choice, cpu, &mut verdict, &mut faults),
                    None => verdict.fails(Fault::error(place.at(&path), "it has no entry"), &mut faults),
                }
                found.push((verdict, faults, place.at(&path), true));
            }
            for name in SCRIPTS {
                let path = format!("{prefix}{name}");
                let Some(file) = place.file(&path) else { continue };
                let (mut verdict, mut faults) = (Verdict::new("U-Boot"), Vec::new());
                verdict.step("boot script", file.at.clone());
                for fault in file.thing.faults(&file.at) {
                    verdict.fails(fault, &mut faults);
                }
                match &file.thing.text {
                    Some(text) => self.script(place, &file.at, text, cpu, &mut verdict, &mut faults),
                    None if file.thing.kind == Kind::Script => {}
                    None => {
                        let fault = Fault::error(
                            file.at.clone(),
                            format!("it is {}, and no script image", file.thing.what),
                        );
                        verdict.fails(
                            fault.help("make one: `mkimage -T script -d boot.cmd boot.scr`"),
                            &mut faults,
                        );
                    }
                }
                found.push((verdict, faults, file.at, false));
            }
        }
        found
    }

    /// What a boot script loads and starts.
    fn script(
        &self,
        place: &Place<'_>,
        at: &str,
        text: &str,
        cpu: Option<Cpu>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let asked = script::script(text);
        let mut loaded: Vec<(&script::Load, File)> = Vec::new();
        for load in &asked.loads {
            if !is_plain(&load.path) {
                continue;
            }
            let on = match load.partition {
                Some(number) => self.places.iter().find(|place| place.entry.number == number),
                None => Some(place),
            };
            let Some(file) = on.and_then(|place| place.file(&load.path)) else {
                let what = format!("it loads `{}`, which is not there", load.path);
                let alternative =
                    asked.loads.iter().any(|other| other.address == load.address && other.path != load.path);
                let tested = text.lines().any(|line| line.contains("test -e") && line.contains(&load.path));
                if alternative || tested {
                    faults.push(Fault::note(at, what));
                } else {
                    verdict.fails(
                        Fault::error(at, what).help("copy the file there, or make the script anew"),
                        faults,
                    );
                }
                continue;
            };
            if let Some(size) = load.size.filter(|size| *size != file.size) {
                let what = format!("the script wants it to have {size} bytes, and it has {}", file.size);
                verdict.fails(
                    Fault::error(file.at.clone(), what)
                        .help("make the image anew: script and file go together"),
                    faults,
                );
            }
            loaded.push((load, file));
        }
        let same = |a: &str, b: &str| a == b || number(a).is_some() && number(a) == number(b);
        let Some((start, started)) = asked.starts.iter().find_map(|start| {
            let file = loaded.iter().find(|(load, _)| same(&load.address, &start.address));
            file.map(|(_, file)| (start, file))
        }) else {
            match asked.starts.first() {
                Some(start) => {
                    verdict.step(format!("`{}` of what lies at {}", start.command, start.address), at)
                }
                None => faults.push(Fault::warning(at, "it starts nothing that could be found in it")),
            }
            return;
        };
        self.started(started, &start.command, cpu, verdict, faults);
        for (_, file) in loaded.iter().filter(|(_, file)| file.at != started.at) {
            self.beside(started, file, verdict, faults);
        }
    }

    /// What a configuration's entry starts.
    fn choice(
        &self,
        place: &Place<'_>,
        path: &str,
        choice: &Choice,
        cpu: Option<Cpu>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let at = place.at(path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        // What has a slash before it is an absolute path, all else is beside the configuration.
        let full = |name: &str| {
            if name.starts_with(['/', '\\']) {
                name.replace('\\', "/")
            } else {
                format!("{folder}/{}", name.replace('\\', "/"))
            }
        };
        let Some(kernel) = choice.kernel.as_deref() else {
            verdict.fails(Fault::error(at, format!("its entry `{}` names no kernel", choice.label)), faults);
            return;
        };
        let mut started = None;
        for name in std::iter::once(kernel).chain(choice.others.iter().map(String::as_str)) {
            // A FIT's configuration stands behind a mark.
            let name = name.split('#').next().unwrap_or(name);
            if !is_plain(name) {
                continue;
            }
            match (place.file(&full(name)), &started) {
                (Some(file), None) => {
                    self.started(&file, "", cpu, verdict, faults);
                    started = Some(file);
                }
                (Some(file), Some(started)) => self.beside(started, &file, verdict, faults),
                (None, _) => {
                    let fault = Fault::error(at.clone(), format!("it names `{name}`, which is not there"));
                    verdict.fails(fault.help("copy the file there, or correct the name"), faults);
                }
            }
        }
    }

    /// The file that is started by `command`, or by a configuration.
    fn started(
        &self,
        file: &File,
        command: &str,
        cpu: Option<Cpu>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        verdict.step(file.thing.what.clone(), file.at.clone());
        verdict.hypervisor |= file.thing.kind == Kind::Hypervisor;
        for fault in file.thing.faults(&file.at) {
            verdict.fails(fault, faults);
        }
        let wanted = match command {
            "booti" => Some((Cpu::Arm64, "U-Boot's `booti`")),
            "bootz" => Some((Cpu::Arm, "U-Boot's `bootz`")),
            _ => None,
        };
        let is = file.thing.cpu;
        if is == Some(Cpu::Foreign) {
            verdict.fails(
                Fault::error(file.at.clone(), "it is for no ARM CPU")
                    .help("take the file of the right architecture"),
                faults,
            );
        } else if let (Some((wanted, who)), Some(is)) = (wanted, is)
            && wanted != is
        {
            let what = format!("it is for {}, and {who} starts what is for {}", is.name(), wanted.name());
            verdict.fails(
                Fault::error(file.at.clone(), what).help("take the file of the right architecture"),
                faults,
            );
        } else if let (Some(Cpu::Arm), Some(Cpu::Arm64)) = (cpu, is) {
            let what = "it is for 64-bit ARM, and U-Boot here is for 32-bit ARM";
            verdict.fails(Fault::error(file.at.clone(), what).help("take both of one architecture"), faults);
        } else if !command.is_empty()
            && command != "go"
            && matches!(file.thing.kind, Kind::Ramdisk | Kind::DeviceTree | Kind::Other)
        {
            let fault = Fault::error(
                file.at.clone(),
                format!("it is {}, and `{command}` does not start that", file.thing.what),
            );
            verdict.fails(fault, faults);
        }
    }

    /// What goes with the file that is started: dom0's kernel, a ramdisk, a device tree.
    fn beside(&self, started: &File, file: &File, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
        for fault in file.thing.faults(&file.at) {
            verdict.fails(fault, faults);
        }
        if started.thing.kind == Kind::Hypervisor && file.thing.kind == Kind::Kernel {
            verdict.step(format!("dom0's {}", file.thing.what), file.at.clone());
            if (started.thing.cpu, file.thing.cpu) == (Some(Cpu::Arm), Some(Cpu::Arm64)) {
                let what = "dom0's kernel is for 64-bit ARM, and the hypervisor for 32-bit ARM";
                verdict
                    .fails(Fault::error(file.at.clone(), what).help("take both of one architecture"), faults);
            }
            if file.thing.cpu == Some(Cpu::Foreign) {
                verdict.fails(Fault::error(file.at.clone(), "dom0's kernel is for no ARM CPU"), faults);
            }
        }
    }

    /// UEFI firmware: the application for removable media on an EFI system partition, or on any that has FAT.
    fn by_uefi(&self, faults: &mut Vec<Fault>) -> Vec<Verdict> {
        let fat = |place: &&Place<'_>| matches!(place.volume, Some(Volume::Fat(_)));
        let mut places: Vec<&Place<'_>> = self.places.iter().filter(fat).collect();
        places.sort_by_key(|place| !place.entry.esp);
        let mut verdicts = Vec::new();
        for (path, cpu) in REMOVABLE {
            let Some((place, file)) = places.iter().find_map(|place| Some((place, place.file(path)?))) else {
                continue;
            };
            let mut verdict = Verdict::new("UEFI firmware");
            verdict
                .step("UEFI firmware", format!("{path} is what it starts from a medium it knows nothing of"));
            if self.table.is_some() && !place.entry.esp {
                let what = "the partition is not marked as an EFI system partition; not all firmware looks on others";
                faults.push(Fault::warning(file.at.clone(), what).help("`sgdisk --typecode=NUMBER:ef00`"));
            }
            self.started(&file, "", None, &mut verdict, faults);
            if let Some(is) = file.thing.cpu.filter(|is| *is != cpu && *is != Cpu::Foreign) {
                let what = format!("it is for {}, and its name is for {}", is.name(), cpu.name());
                verdict.fails(Fault::error(file.at.clone(), what), faults);
            }
            match file.thing.kind {
                Kind::Hypervisor => self.hypervisor_config(place, path, &file, &mut verdict, faults),
                Kind::EfiApplication
                    if file.thing.what.starts_with("GRUB") || file.thing.what.starts_with("shim") =>
                {
                    self.grub(&mut verdict, faults);
                }
                Kind::Other | Kind::Ramdisk | Kind::DeviceTree | Kind::Script => {
                    verdict.fails(
                        Fault::error(
                            file.at.clone(),
                            format!("it is {}, and no EFI application", file.thing.what),
                        ),
                        faults,
                    );
                }
                _ => {}
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    /// The file with options that a hypervisor reads beside itself.
    fn hypervisor_config(
        &self,
        place: &Place<'_>,
        path: &str,
        file: &File,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let kind =
            if file.thing.what.contains("Xen") { HypervisorKind::Xen } else { HypervisorKind::Vambrace };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        // Xen takes the second name where the first is not there.
        let names = [kind.efi_config(path), "xen.cfg".to_owned()];
        let most = if kind == HypervisorKind::Xen { 2 } else { 1 };
        let found = names
            .iter()
            .take(most)
            .map(|name| format!("{folder}/{name}"))
            .find_map(|path| Some((place.text(&path)?, path)));
        let Some((text, config)) = found else {
            let fault = Fault::error(
                file.at.clone(),
                format!("the hypervisor's configuration `{}` is not beside it", names[0]),
            );
            verdict.fails(fault.help("write one, with `kernel=` and `ramdisk=`"), faults);
            return;
        };
        verdict.step("its configuration", place.at(&config));
        let Some(choice) = script::hypervisor_config(&text) else {
            verdict.fails(Fault::error(place.at(&config), "it names no kernel"), faults);
            return;
        };
        for name in choice.kernel.iter().chain(&choice.others) {
            let full = format!("{folder}/{}", name.replace('\\', "/"));
            match place.file(&full) {
                Some(other) => self.beside(file, &other, verdict, faults),
                None => {
                    let fault =
                        Fault::error(place.at(&config), format!("it names `{name}`, which is not beside it"));
                    verdict.fails(fault.help("copy the file there, or correct the name"), faults);
                }
            }
        }
    }

    /// GRUB's configuration, wherever it is. Its paths count from a partition that it finds when it runs.
    fn grub(&self, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
        let found = self
            .places
            .iter()
            .flat_map(|place| GRUB.iter().filter_map(move |path| Some((place, *path, place.text(path)?))));
        let mut configured = false;
        for (place, path, text) in found {
            configured = true;
            let Some(choice) = script::grub(&text) else { continue };
            verdict.step(format!("GRUB's entry `{}`", choice.label), place.at(path));
            let kernel = choice.kernel.as_deref().unwrap_or_default();
            let all = std::iter::once(kernel).chain(choice.others.iter().map(String::as_str));
            let mut started: Option<File> = None;
            for name in all.filter(|name| is_plain(name)) {
                let file = self.places.iter().find_map(|place| place.file(name));
                match (file, &started) {
                    (Some(file), None) => {
                        self.started(&file, "", None, verdict, faults);
                        started = Some(file);
                    }
                    (Some(file), Some(started)) => self.beside(started, &file, verdict, faults),
                    (None, _) => faults.push(Fault::warning(
                        place.at(path),
                        format!("it names `{name}`, which is on none of the partitions"),
                    )),
                }
            }
            return;
        }
        if !configured {
            faults.push(Fault::note(
                "GRUB",
                "no configuration of its own was found: it has one inside, or stops at its prompt",
            ));
        }
    }

    /// The Raspberry Pi's firmware: on the first FAT partition.
    fn by_pi(&self, faults: &mut Vec<Fault>) -> Option<Verdict> {
        let fat = |place: &&Place<'_>| matches!(place.volume, Some(Volume::Fat(_)));
        let place = self.places.iter().find(fat)?;
        let firmware = ["start4.elf", "start.elf", "bootcode.bin"]
            .into_iter()
            .find(|path| place.file(path).is_some())?;
        let mut verdict = Verdict::new("Raspberry Pi's firmware");
        verdict.step("Raspberry Pi's firmware", place.at(firmware));
        let config = place.text("config.txt").unwrap_or_default();
        let value = |key: &str| {
            let lines = config
                .lines()
                .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
            lines.last().map(|value| value.trim().to_owned())
        };
        let names = match value("kernel") {
            Some(name) => vec![name],
            None => ["kernel8.img", "kernel_2712.img", "kernel7l.img", "kernel7.img", "kernel.img"]
                .map(str::to_owned)
                .to_vec(),
        };
        match names.iter().find_map(|name| place.file(name)) {
            Some(file) => self.started(&file, "", None, &mut verdict, faults),
            None => {
                let fault = Fault::error(
                    place.at("config.txt"),
                    format!("what it starts is not there: {}", names.join(", ")),
                );
                verdict.fails(fault, faults);
            }
        }
        Some(verdict)
    }

    /// Files for a loader outside of the machine: a hypervisor, and a device tree that has its modules in it.
    fn directly(&self) -> Option<Verdict> {
        let place = self.places.iter().find(|place| {
            let is = |kind: Kind| place.files.iter().any(|(_, _, thing)| thing.kind == kind);
            let with_modules = |thing: &Thing| {
                thing.kind == Kind::DeviceTree && thing.what.contains(" modules for the hypervisor")
            };
            is(Kind::Hypervisor) && place.files.iter().any(|(_, _, thing)| with_modules(thing))
        })?;
        let mut verdict = Verdict::new("a loader outside of the machine");
        verdict.step(
            "a loader outside of the machine",
            "a device tree with modules, and nothing that firmware would start",
        );
        for kind in [Kind::Hypervisor, Kind::Kernel] {
            if let Some((path, _, thing)) = place.files.iter().find(|(_, _, thing)| thing.kind == kind) {
                verdict.hypervisor |= kind == Kind::Hypervisor;
                verdict.step(thing.what.clone(), place.at(path));
            }
        }
        Some(verdict)
    }
}

/// A number as U-Boot reads it: hexadecimal.
pub(super) fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}
