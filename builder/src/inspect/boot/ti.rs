//! TI's boot ROMs where they read files (TI, SPRUI30H for DRA75x, figure 32-27; SPRUH73 for AM335x, 26.1.7.5.6 and 26.1.7.5.7):
//! MLO in the root of the one active FAT partition of a master boot record, or of a medium that is one file system. What
//! they find by sectors comes first (SPRUI30H, 32.3.8.2), and is told where other boot ROMs are.

use super::super::fault::Fault;
use super::super::raw::Found;
use super::super::rom::Mlo;
use super::super::thing::{Cpu, Kind, Thing};
use super::super::volume::Volume;
use super::{File, Medium, Place, Verdict};

const MLO: &str = "MLO";
/// What MLO takes where it was a file itself, the usual one first (U-Boot, CONFIG_SPL_FS_LOAD_PAYLOAD_NAME); and older ones.
const NEXT: [&str; 2] = ["u-boot.img", "u-boot.bin"];
/// Where it looks where it was found by sectors: sector 0x300 (U-Boot, CONFIG_SYS_MMCSD_RAW_MODE_U_BOOT_SECTOR of all such
/// chips).
const NEXT_RAW: u64 = 0x300 * 512;

impl Medium<'_> {
    /// The boot of the ROM by files; the CPU of U-Boot with it. `None` where there is no MLO.
    pub(super) fn ti_files(&self, faults: &mut Vec<Fault>) -> Option<(Verdict, Option<Cpu>)> {
        let fat = |place: &&Place<'_>| matches!(place.volume, Some(Volume::Fat(_)));
        let found = |place: &Place<'_>| place.file(MLO).is_some();
        let places: Vec<&Place<'_>> = self.places.iter().filter(fat).filter(|place| found(place)).collect();
        let place = *places.iter().find(|place| place.entry.bootable).or(places.first())?;
        let first = place.file(MLO)?;
        let mut verdict = Verdict::new("TI boot ROM");
        verdict.step("TI boot ROM", "a file MLO on a FAT partition is what it loads");
        self.readable(place, &first, &mut verdict, faults);
        let thing = mlo(place, first.size).unwrap_or_else(|| first.thing.clone());
        verdict.step(thing.what.clone(), first.at.clone());
        for fault in thing.faults(&first.at) {
            verdict.fails(fault, faults);
        }
        // What cannot be read may be one.
        if mlo(place, first.size).is_none() && thing.kind != Kind::Unread {
            let fault = Fault::error(first.at.clone(), format!("it is {}, and no MLO", thing.what));
            let help = "take the file MLO of U-Boot's build for the board: u-boot.bin has no header that the ROM reads";
            verdict.fails(fault.help(help), faults);
        }
        let Some(next) = NEXT.iter().find_map(|name| place.file(name)) else {
            let fault = Fault::error(place.at(NEXT[0]), "it is not there, and MLO loads it");
            verdict.fails(fault.help("copy it beside MLO: U-Boot's build for the board makes both"), faults);
            return Some((verdict, None));
        };
        verdict.step(next.thing.what.clone(), next.at.clone());
        for fault in next.thing.faults(&next.at) {
            verdict.fails(fault, faults);
        }
        Some((verdict, next.thing.cpu))
    }

    /// Whether the ROM gets as far as the partition.
    fn readable(&self, place: &Place<'_>, first: &File, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
        let fault = |what: &str, help: &str| Fault::error(first.at.clone(), what).help(help);
        let active = self.places.iter().filter(|place| place.entry.bootable).count();
        match self.table {
            Some("GPT") => {
                let what = "TI's boot ROM reads files by a master boot record alone, and this is a GPT";
                verdict.fails(
                    fault(what, "use a MBR, or write MLO to byte 0x20000 and u-boot.img to 0x60000"),
                    faults,
                );
            }
            Some(_) if !place.entry.bootable => {
                let what = "the partition is not active, and TI's boot ROM reads no other";
                let help = format!("mark it: `sfdisk --activate DISK {}`", place.entry.number);
                verdict.fails(fault(what, &help), faults);
            }
            Some(_) if active > 1 => {
                let what = "several partitions are active, and TI's boot ROM then takes none";
                let help =
                    format!("leave the mark to this one: `sfdisk --activate DISK {}`", place.entry.number);
                verdict.fails(fault(what, &help), faults);
            }
            _ => {}
        }
    }

    /// What comes after an MLO that was found by sectors: U-Boot at `next`, or a file.
    pub(super) fn after_ti(
        &self,
        first: &Found,
        next: Option<&Found>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let file = || self.places.iter().find_map(|place| NEXT.iter().find_map(|name| place.file(name)));
        let at = format!("MLO at byte {:#x}", first.start);
        match next {
            Some(next) if next.start != NEXT_RAW => {
                let what = format!(
                    "U-Boot is at byte {:#x}, and MLO looks at {NEXT_RAW:#x} unless it was built otherwise",
                    next.start
                );
                faults.push(Fault::warning(at, what));
            }
            Some(_) => {}
            None => match file() {
                Some(next) => verdict.step(next.thing.what, next.at),
                None => {
                    verdict.step("U-Boot", "where this MLO looks for it");
                    let what = format!(
                        "U-Boot is neither at byte {NEXT_RAW:#x} nor in a file, where MLO looks unless it was built otherwise"
                    );
                    faults.push(Fault::warning(at, what).help("write u-boot.img of the same build there"));
                }
            },
        }
    }
}

/// The file of `size` bytes as an MLO: without a table, it is one by its name and by what its header says.
fn mlo(place: &Place<'_>, size: u64) -> Option<Thing> {
    let bytes = place.volume?.find(MLO)?.read(Mlo::HEADERS).ok()?;
    let mlo = Mlo::with_table(&bytes).or_else(|| Mlo::without_table(&bytes, size))?;
    Some(mlo.thing(size))
}
