//! U-Boot's part: the stages before it, and its distro boot (include/config_distro_bootcmd.h; its successor,
//! doc/develop/bootstd, keeps the order).

use super::super::fault::Fault;
use super::super::raw::Found;
use super::super::rom::Rom;
use super::super::script::{self, is_plain};
use super::super::thing::{Cpu, Kind};
use super::{File, Medium, Place, REMOVABLE, Verdict, number, slots};
use crate::port::Level;

/// Where U-Boot looks on a partition, in its order.
const PREFIXES: [&str; 2] = ["", "boot/"];
const EXTLINUX: &str = "extlinux/extlinux.conf";
const SCRIPTS: [&str; 2] = ["boot.scr.uimg", "boot.scr"];
/// The distance at which a SunXi SPL looks for U-Boot behind its own beginning, at least.
const SUNXI_UBOOT: u64 = 32 << 10;

/// What U-Boot may take of a partition.
struct Way {
    verdict: Verdict,
    faults: Vec<Fault>,
    /// The file that it begins with.
    at: String,
    /// Whether that is an extlinux.conf, and no script.
    extlinux: bool,
}

impl Medium<'_> {
    /// The boot ROM's part: the first stage and U-Boot. `None` where neither is here; the CPU of U-Boot with it.
    fn first_stages(&self, faults: &mut Vec<Fault>) -> Option<(Verdict, Option<Cpu>)> {
        let firsts: Vec<&Found> = self.raw.iter().filter(|found| found.rom.is_some()).collect();
        let uboot = |from: u64| {
            self.raw.iter().find(|found| {
                found.rom.is_none() && found.thing.kind == Kind::Firmware && found.start >= from
            })
        };
        let Some(first) = firsts.iter().find(|found| found.thing.wrong.is_empty()).or(firsts.first()) else {
            if let Some(by_files) = self.ti_files(faults) {
                return Some(by_files);
            }
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
            if fault.level == Level::Error {
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
        if rom == Rom::Ti.name() {
            self.after_ti(first, next, &mut verdict, faults);
        }
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
            None if rom == Rom::Ti.name() => {}
            // Other first stages bring everything, or take U-Boot from where their own configuration says.
            None => verdict.step("U-Boot", "in the first stage or where that looks for it"),
        }
        Some((verdict, next.and_then(|next| next.thing.cpu)))
    }

    /// U-Boot's distro boot: on partitions with the mark, or else on the first, an extlinux.conf before a script, then EFI.
    pub(super) fn by_uboot(&self, faults: &mut Vec<Fault>) -> Option<Verdict> {
        let first = self.first_stages(faults);
        let marked: Vec<&Place<'_>> = self.places.iter().filter(|place| place.entry.bootable).collect();
        let looked: Vec<&Place<'_>> = if marked.is_empty() {
            self.places.iter().filter(|place| place.entry.number <= 1).collect()
        } else {
            marked
        };
        let mut found: Vec<Way> = Vec::new();
        let cpu = first.as_ref().and_then(|(_, cpu)| *cpu);
        for place in &looked {
            found.extend(self.on_partition(place, cpu));
        }
        let elsewhere: Vec<String> = self
            .places
            .iter()
            .filter(|place| !looked.iter().any(|looked| looked.entry == place.entry))
            .flat_map(|place| self.on_partition(place, cpu))
            .map(|way| way.at)
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
        let Some(Way { verdict: way, faults: wrong, at, extlinux }) = found.next() else {
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
            && let Some(Way { at: other, .. }) = later.iter().find(|way| way.verdict.hypervisor)
        {
            let what = format!("U-Boot takes it before {other}, and so boots without the hypervisor");
            verdict.fails(Fault::error(at.clone(), what).help("remove it"), faults);
        }
        for Way { at: other, .. } in &later {
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

    /// What U-Boot would take of a partition, in its order.
    fn on_partition(&self, place: &Place<'_>, cpu: Option<Cpu>) -> Vec<Way> {
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
                found.push(Way { verdict, faults, at: place.at(&path), extlinux: true });
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
                    Some(text) if slots::chooses(text) => {
                        self.slots(place, &file.at, cpu, &mut verdict, &mut faults);
                    }
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
                found.push(Way { verdict, faults, at: file.at, extlinux: false });
            }
        }
        found
    }

    /// What a boot script loads and starts.
    pub(super) fn script(
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
}
