//! What would boot of a medium, step by step, and why something would not.
//!
//! Firmware's rules are those of U-Boot's distro boot (include/config_distro_bootcmd.h; its successor, doc/develop/bootstd,
//! keeps the order), of UEFI's removable media (UEFI specification 2.10, 3.5.1.1) and of the Raspberry Pi's firmware.

mod entries;
mod grub;
pub(super) mod slots;
mod ti;
mod uboot;
mod uefi;

use serde::Serialize;

use super::fault::Fault;
use super::raw::Found;
use super::script::{Choice, is_plain};
use super::table::Entry;
use super::thing::{Cpu, Kind, MOST, Thing, recognise};
use super::volume::Volume;

/// What UEFI firmware starts from a medium that it knows nothing of, and for which CPU.
const REMOVABLE: [(&str, Cpu); 2] =
    [("EFI/BOOT/BOOTAA64.EFI", Cpu::Arm64), ("EFI/BOOT/BOOTARM.EFI", Cpu::Arm)];
/// What is read of a text.
const MOST_TEXT: u64 = 1 << 20;

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
            let mut lines = config
                .lines()
                .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
            lines.next_back().map(|value| value.trim().to_owned())
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
