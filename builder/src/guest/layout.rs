//! A layout with room for guests: a partition for each disk that wants one, one for the volume group, and files beside
//! the hypervisor for guests that it starts.

use super::{Disk, Guest, Medium, Module, check};
use crate::config::ImageConfig;
use crate::error::{Error, Result};
use crate::layout::{Content, File, Filesystem, GuestModule, Kind, Layout, ModuleKind, Partition};
use vambrace_bsp::{Method, Size};

/// The name of what a disk lies on: partition, volume, or file.
pub fn disk_name(guest: &Guest, disk: &Disk) -> String {
    check::disk_name(guest, disk)
}

/// What the guest calls its disk `index`.
pub fn device_name(guest: &Guest, index: usize) -> String {
    check::device_name(guest, index)
}

/// `layout` with what the guests of `config` need on the medium.
///
/// Partitions come before dom0's root file system, which can grow to the end of the medium, or last where dom0 has none
/// there.
///
/// # Errors
///
/// A layout or boot method that cannot hold what a guest needs.
pub fn with_guests(mut layout: Layout, config: &ImageConfig) -> Result<Layout> {
    check_dom0(&layout, config)?;
    let mut added = Vec::new();
    for (index, guest) in config.guests.iter().enumerate() {
        for (number, disk) in guest.disks.iter().enumerate() {
            if disk.on != Medium::Partition {
                continue;
            }
            if layout.table == crate::layout::Table::Mbr {
                let path = format!("guest.{index}.disk.{number}.on");
                let text = format!(
                    "the layout `{}` has a master boot record, whose partitions have no names",
                    layout.id
                );
                return Err(config.at(&path, text).help("put the disk on = \"volume\""));
            }
            let name = disk_name(guest, disk);
            added.push(partition(name, Kind::Linux, Filesystem::Guest { guest: index, disk: number }));
        }
    }
    if let Some((name, _)) = config.volume_group() {
        added.push(partition(name, Kind::Lvm, Filesystem::Lvm));
    }
    let most = match layout.table {
        crate::layout::Table::Mbr => 4,
        crate::layout::Table::Gpt => layout.gpt_entries.unwrap_or(128) as usize,
    };
    if layout.partitions.len() + added.len() > most {
        let text = format!(
            "the layout `{}` has room for {most} partitions, and guests need {} beside its {}",
            layout.id,
            added.len(),
            layout.partitions.len()
        );
        return Err(Error::new(text).help("put disks on = \"volume\": all volumes are one partition"));
    }
    let at = layout.root().unwrap_or(layout.partitions.len());
    layout.partitions.splice(at..at, added);
    add_modules(&mut layout, config)?;
    Ok(layout)
}

/// Whether dom0's file system can hold what xl needs.
fn check_dom0(layout: &Layout, config: &ImageConfig) -> Result<()> {
    if layout.root().is_some() {
        return Ok(());
    }
    let Some(guest) = config.needs_dom0() else { return Ok(()) };
    Err(Error::new(format!(
        "the layout `{}` has dom0's root in the ramdisk, and the guest `{}` needs files in it",
        layout.id, guest.name
    ))
    .help("choose a layout with a root partition with --layout"))
}

fn partition(name: String, kind: Kind, filesystem: Filesystem) -> Partition {
    Partition {
        label: name.clone(),
        name,
        kind,
        bootable: false,
        filesystem,
        size: None,
        min_size: Size(0),
        slack: Size(0),
        files: Vec::new(),
    }
}

/// Adds the files of static guests beside the hypervisor.
fn add_modules(layout: &mut Layout, config: &ImageConfig) -> Result<()> {
    let Some((index, guest)) = config.static_guests().next() else { return Ok(()) };
    if layout.method == Method::Uefi {
        let text =
            format!("`{}` cannot be started by the hypervisor where UEFI firmware loads it", guest.name);
        return Err(config
            .at(&format!("guest.{index}.start"), text)
            .help("boot with --method uboot, or start the guest in dom0 with start = \"auto\""));
    }
    let (place, path) =
        layout.find(Content::Hypervisor).ok_or_else(|| Error::new("the layout has no hypervisor"))?;
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut files = Vec::new();
    for (index, guest) in config.static_guests() {
        let mut add = |kind: ModuleKind| {
            let content = Content::Guest(GuestModule { guest: index, kind });
            files.push(File { path: format!("{folder}guests/{}/{}", guest.name, kind.name()), content });
        };
        add(ModuleKind::Kernel);
        if guest.ramdisk() != Module::None {
            add(ModuleKind::Ramdisk);
        }
        if guest.passthrough.is_some() {
            add(ModuleKind::DeviceTree);
        }
    }
    if let Some(partition) = layout.partitions.get_mut(place) {
        partition.files.extend(files);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!("../../../images/gpt-uboot-root.toml");
    const RAMDISK: &str = include_str!("../../../images/gpt-uboot.toml");

    fn config(text: &str) -> ImageConfig {
        ImageConfig::parse("image.toml", text).unwrap()
    }

    const GUEST: &str = "[[guest]]\nname = \"web\"\nmemory = \"64M\"\n[[guest.disk]]\nname = \"root\"\non = \"partition\"\n\
        size = \"8M\"\n[[guest.disk]]\nname = \"data\"\non = \"volume\"\nsize = \"8M\"\n";

    #[test]
    fn partitions_come_before_dom0_s_root() {
        let layout = Layout::parse("l", ROOT, "gpt-uboot-root").unwrap();
        let layout = with_guests(layout, &config(GUEST)).unwrap();
        let names: Vec<&str> = layout.partitions.iter().map(|partition| partition.name.as_str()).collect();
        assert_eq!(names, ["vambrace-boot", "web-root", "vambrace", "vambrace-root"]);
        assert_eq!(layout.root(), Some(3));
        let unchanged = Layout::parse("l", ROOT, "gpt-uboot-root").unwrap();
        assert_eq!(with_guests(unchanged.clone(), &config("")).unwrap(), unchanged);
    }

    #[test]
    fn what_a_layout_cannot_hold_is_refused() {
        let ramdisk = Layout::parse("l", RAMDISK, "gpt-uboot").unwrap();
        let error = with_guests(ramdisk.clone(), &config(GUEST)).unwrap_err();
        assert!(error.what().contains("the guest `web` needs files"), "{error}");
        let text = include_str!("../../../images/sunxi-mbr.toml");
        let error = with_guests(Layout::parse("l", text, "sunxi-mbr").unwrap(), &config(GUEST)).unwrap_err();
        assert!(error.to_string().contains("image.toml:6:6: in `guest.0.disk.0.on`"), "{error}");
        let uefi = Layout::parse("l", include_str!("../../../images/gpt-uefi.toml"), "gpt-uefi").unwrap();
        let alone = config("[[guest]]\nname = \"web\"\nmemory = \"64M\"\nstart = \"static\"\n");
        assert!(with_guests(uefi, &alone).unwrap_err().what().contains("UEFI"));
        let layout = with_guests(ramdisk, &alone).unwrap();
        let paths: Vec<&str> = layout.partitions[0].files.iter().map(|file| file.path.as_str()).collect();
        assert!(paths.ends_with(&["vambrace/guests/web/kernel", "vambrace/guests/web/ramdisk"]), "{paths:?}");
    }
}
