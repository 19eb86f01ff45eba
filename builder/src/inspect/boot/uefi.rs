//! UEFI firmware's part: the application for removable media, and what GRUB or a hypervisor does then (UEFI specification
//! 2.10, 3.5.1.1).

use super::super::fault::Fault;
use super::super::script::{self, is_plain};
use super::super::thing::{Cpu, Kind};
use super::super::volume::Volume;
use super::{File, Medium, Place, REMOVABLE, Verdict};
use crate::hypervisor::HypervisorKind;

/// Where GRUB's configuration is met.
const GRUB: [&str; 6] = [
    "EFI/BOOT/grub.cfg",
    "EFI/debian/grub.cfg",
    "EFI/ubuntu/grub.cfg",
    "boot/grub/grub.cfg",
    "grub/grub.cfg",
    "boot/grub2/grub.cfg",
];

impl Medium<'_> {
    /// UEFI firmware: the application for removable media on an EFI system partition, or on any that has FAT.
    pub(super) fn by_uefi(&self, faults: &mut Vec<Fault>) -> Vec<Verdict> {
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
}
