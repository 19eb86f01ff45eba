//! UEFI firmware's part: the application for removable media, and what a hypervisor does then (UEFI specification 2.10,
//! 3.5.1.1).

use super::super::fault::Fault;
use super::super::script;
use super::super::thing::{Cpu, Kind};
use super::super::volume::Volume;
use super::{File, Medium, Place, REMOVABLE, Verdict};
use crate::hypervisor::HypervisorKind;

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
                Kind::EfiApplication if file.thing.what.starts_with("GRUB") => {
                    self.grub(place, path, &mut verdict, faults);
                }
                Kind::EfiApplication if file.thing.what.starts_with("shim") => {
                    self.shim(place, path, &file, &mut verdict, faults);
                }
                Kind::EfiApplication if file.thing.what.starts_with("systemd-boot") => {
                    self.systemd_boot(place, &mut verdict, faults);
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
}
