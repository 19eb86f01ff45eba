//! Where in RAM everything is while the board boots, and what puts it there.

use super::memory::{self, Region, Wanted};
use super::script::{self, Load, Script};
use super::{Artifact, Artifacts, MIB, TREE_ROOM, boot_file_size};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::fdt::{self, BootModules, Module, ModuleKind};
use crate::guest::nodes::nodes;
use crate::kernel::Format;
use crate::layout::{self, Content, GuestModule};
use crate::qemu::direct;
use crate::slot::chooser;
use std::collections::BTreeSet;
use std::sync::Arc;
use vambrace_bsp::{Architecture, Loader, Method};

/// Room for the boot script; two command lines of 1000 characters are most of it.
const SCRIPT_ROOM: u64 = 16 << 10;
/// And for each guest that the hypervisor starts.
const GUEST_ROOM: u64 = 8 << 10;

/// How an image boots.
#[derive(Debug, Default)]
pub(super) struct Booting {
    /// Who is where in RAM.
    pub(super) ram_map: Vec<Region>,
    /// What is loaded, and to where.
    pub(super) loads: Vec<Load>,
    /// The boot script, or the configuration of the hypervisor as an EFI application.
    pub(super) text: String,
    /// The configuration besides, where the image boots by U-Boot and has that too.
    pub(super) efi_text: String,
    /// The boot script of a slot, where there are slots; `text` is then what chooses one.
    pub(super) slot_text: String,
    /// The device tree that the image carries, with everything the hypervisor is told in it.
    pub(super) tree: Option<Arc<[u8]>>,
}

/// Plans how UEFI firmware boots the image: it decides at run time where things are.
pub(super) fn by_uefi(decision: &Decision) -> Result<Booting> {
    if decision.board.device_tree.is_carried() {
        return Err(Error::new(format!(
            "{}: UEFI firmware hands on its own device tree, and the board's description has another",
            decision.board.id
        ))
        .help("set `device-tree = { from = \"firmware\" }` in the board's description"));
    }
    let config = &decision.guests.config;
    if let Some(index) = config.guests.iter().position(|guest| guest.passthrough.is_some()) {
        let text = "UEFI firmware hands on its own device tree, and nobody marks devices in it as guests'";
        let error = config.at(&format!("guest.{index}.passthrough"), text);
        return Err(error.help("boot through U-Boot: --method uboot"));
    }
    Ok(Booting { text: efi_config(decision)?, ..Booting::default() })
}

/// The configuration of the hypervisor as an EFI application. Where the image carries a device tree, that one counts.
fn efi_config(decision: &Decision) -> Result<String> {
    let Decision { layout, board, hypervisor_args, dom0_args, .. } = decision;
    let own_tree = board.device_tree.is_carried();
    script::efi_config(layout, &board.id, decision.kind, hypervisor_args, dom0_args, own_tree)
}

/// Plans how a boot script, or a loader outside of the machine, puts things to their addresses in the RAM from `base`
/// to `end`.
pub(super) fn by_address(decision: &Decision, artifacts: &Artifacts, base: u64, end: u64) -> Result<Booting> {
    let header = startable(decision, &artifacts.hypervisor)?;
    // A 32-bit loader reaches no further, and there is room enough below.
    let end = if decision.board.architecture == Architecture::Armv7 { end.min(1 << 32) } else { end };
    let mut kept = fixed_regions(decision, artifacts, base, end)?;
    keep_shared(decision, &mut kept, base, end)?;
    let whole = |content: Content, artifact: &Artifact| Wanted {
        what: content.label(),
        size: artifact.size,
        alignment: 2 * MIB,
        offset: 0,
        why: "the file; the hypervisor copies it into dom0".into(),
    };
    let carried = artifacts.device_tree.is_some();
    let size = header.image_size.max(artifacts.hypervisor.size);
    let uimage = decision.boot.bootm();
    if let Some(offset) = uimage {
        let (what, start) = (Content::Hypervisor.name().to_owned(), base.saturating_add(offset.into()));
        // A U-Boot that reads an arm64 image's header moves it on to the next 2 MiB (arch/arm/lib/image.c).
        let further = match header.format {
            Format::Image => start.next_multiple_of(2 * MIB) - start,
            Format::Zimage => 0,
        };
        let (size, why) = (further + size, "where the board's U-Boot moves it, and a newer one would".into());
        keep(&mut kept, Region { what, start, size, why });
        memory::check(base, end, &kept)?;
    }
    let mut wanted = vec![
        Wanted {
            what: Content::DeviceTree.name().into(),
            size: TREE_ROOM,
            alignment: MIB,
            offset: 0,
            why: if carried {
                "the image's, with room for the firmware's additions"
            } else {
                "a copy of the firmware's, with room for the modules"
            }
            .into(),
        },
        match uimage {
            Some(_) => Wanted {
                what: Content::HypervisorUimage.name().into(),
                size: uimage_size(&artifacts.hypervisor),
                alignment: MIB,
                offset: 0,
                why: "the file, from which U-Boot takes the hypervisor to its place".into(),
            },
            None => Wanted {
                what: Content::Hypervisor.name().into(),
                size,
                alignment: 2 * MIB,
                offset: header.text_offset,
                why: match header.format {
                    Format::Image => "image_size at 2 MiB + text_offset, so U-Boot leaves it there",
                    Format::Zimage => "the file, and what it takes behind that when it starts",
                }
                .into(),
            },
        },
        whole(Content::Kernel, &artifacts.kernel),
        whole(Content::Ramdisk, &artifacts.ramdisk),
    ];
    let modules = guest_modules(decision, artifacts);
    wanted.extend(modules.iter().map(|(content, artifact)| whole(*content, artifact)));
    let mut regions = memory::place(base, end, &kept, &wanted)?;
    let address = |content: Content| {
        let found = regions.iter().find(|region| region.what == content.label());
        found
            .map(|region| region.start)
            .ok_or_else(|| Error::new(format!("the plan has no place for the {}", content.label())))
    };
    let load = |content: Content, size: u64| {
        let (_, path) = decision.layout.find(content).ok_or_else(|| {
            Error::new(format!("the layout `{}` has no {}", decision.layout.id, content.label()))
        })?;
        Ok::<_, Error>(Load { content, path: path.to_owned(), address: address(content)?, size })
    };
    let mut loads = vec![
        load(Content::Hypervisor, artifacts.hypervisor.size)?,
        load(Content::Kernel, artifacts.kernel.size)?,
        load(Content::Ramdisk, artifacts.ramdisk.size)?,
    ];
    if uimage.is_some() {
        loads.push(load(Content::HypervisorUimage, uimage_size(&artifacts.hypervisor))?);
    }
    for (content, artifact) in &modules {
        loads.push(load(*content, artifact.size)?);
    }
    let place = |guest: usize, kind: layout::ModuleKind| {
        let content = Content::Guest(GuestModule { guest, kind });
        loads.iter().find(|load| load.content == content).map(|load| (load.address, load.size))
    };
    let guests = nodes(&decision.guests.config, place);
    let devices: BTreeSet<&String> = artifacts.guests.iter().flat_map(|guest| &guest.devices).collect();
    let devices: Vec<String> = devices.into_iter().cloned().collect();
    let tree: Option<Arc<[u8]>> = match &artifacts.device_tree {
        None => None,
        Some(own) => {
            let module = |kind, content| -> Result<Module> {
                let load = loads.iter().find(|load| load.content == content);
                let load = load.ok_or_else(|| Error::new("the plan has no modules"))?;
                Ok(Module { kind, address: load.address, size: load.size })
            };
            let modules = BootModules {
                hypervisor_args: decision.hypervisor_args.clone(),
                dom0_args: decision.dom0_args.clone(),
                modules: vec![
                    module(ModuleKind::Kernel, Content::Kernel)?,
                    module(ModuleKind::Ramdisk, Content::Ramdisk)?,
                ],
                guests: guests.clone(),
                devices: devices.clone(),
                memory: told_of_memory(decision).then(|| (base, decision.memory.bytes())),
            };
            let made = modules.insert(&own.data).map_err(|error| error.context(own.artifact.from.clone()))?;
            // What firmware adds has to fit behind.
            if made.len() as u64 > TREE_ROOM / 2 {
                return Err(Error::new(format!(
                    "the device tree has {} bytes, more than {}",
                    made.len(),
                    TREE_ROOM / 2
                )));
            }
            loads.push(load(Content::DeviceTree, made.len() as u64)?);
            Some(made.into())
        }
    };
    let (mut text, mut slot_text, mut efi_text) = (String::new(), String::new(), String::new());
    if decision.method == Method::Uboot {
        // Counted from 1.
        let partition = decision.layout.find(Content::BootScript).map_or(1, |(index, _)| index + 1);
        let script = Script {
            board: &decision.board.id,
            format: header.format,
            loads: &loads,
            tree: (address(Content::DeviceTree)?, TREE_ROOM),
            hypervisor_args: &decision.hypervisor_args,
            dom0_args: &decision.dom0_args,
            guests: &guests,
            devices: &devices,
            slot: decision.slots,
            old: decision.boot.old.as_ref().map(|old| (old, partition)),
        };
        text = script.text()?;
        // The script's own size depends on the addresses in it, so its region was planned with room and is cut now.
        let mut size = boot_file_size(Method::Uboot, &text);
        let room = script_room(decision);
        if decision.slots {
            slot_text = std::mem::replace(&mut text, chooser(decision, artifacts)?);
            size += chooser::ROOM;
        }
        if size > room {
            return Err(Error::new(format!("the boot script has {size} bytes, more than {room}")));
        }
        for region in regions.iter_mut().filter(|region| region.what == Content::BootScript.name()) {
            region.size = size;
        }
    }
    if decision.layout.find(Content::EfiConfig).is_some() {
        efi_text = efi_config(decision)?;
    }
    Ok(Booting { ram_map: regions, loads, text, efi_text, slot_text, tree })
}

/// The size of the hypervisor in U-Boot's own format.
pub(super) fn uimage_size(hypervisor: &Artifact) -> u64 {
    hypervisor.size + crate::uboot::HEADER as u64
}

/// The script that chooses a slot.
fn chooser(decision: &Decision, artifacts: &Artifacts) -> Result<String> {
    let uuid = artifacts.root.as_ref().map(|root| root.uuid.as_str());
    let uuid = uuid.ok_or_else(|| Error::new("slots want dom0's root file system on the medium"))?;
    Ok(chooser::text(&decision.board.id, script_address(decision)?, &format!("UUID={uuid}")))
}

/// Where U-Boot puts the boot script.
fn script_address(decision: &Decision) -> Result<u64> {
    let address = decision.boot.script_address;
    address.ok_or_else(|| Error::new(format!("{} has no address for the boot script", decision.board.id)))
}

/// What guests are started with that the hypervisor starts.
fn guest_modules<'a>(decision: &Decision, artifacts: &'a Artifacts) -> Vec<(Content, &'a Artifact)> {
    let guests = decision.guests.config.static_guests();
    let modules = guests.flat_map(|(guest, _)| {
        layout::ModuleKind::ALL.into_iter().filter_map(move |kind| {
            let artifact = artifacts.guests.get(guest)?.module(kind)?;
            Some((Content::Guest(GuestModule { guest, kind }), artifact))
        })
    });
    modules.collect()
}

/// Room for the boot script.
fn script_room(decision: &Decision) -> u64 {
    let chooser = if decision.slots { chooser::ROOM } else { 0 };
    chooser + SCRIPT_ROOM + GUEST_ROOM * decision.guests.config.static_guests().count() as u64
}

/// Whether nobody tells the hypervisor how much memory there is but the tree as it is on the image. U-Boot does.
fn told_of_memory(decision: &Decision) -> bool {
    decision.method == Method::Direct
        || decision.board.qemu.as_ref().is_some_and(|qemu| qemu.loader == Loader::Direct)
}

/// The hypervisor's header, if it can be started without firmware that unpacks or moves it.
fn startable(decision: &Decision, hypervisor: &Artifact) -> Result<super::Header> {
    let format = Format::of(decision.board.architecture);
    let header = hypervisor.header.filter(|header| header.format == format).ok_or_else(|| {
        Error::new(format!(
            "the hypervisor is no {}, so {} does not take it",
            format.name(),
            match format {
                Format::Image => "U-Boot's `booti`",
                Format::Zimage => "U-Boot's `bootz`",
            }
        ))
        .help("give one that is, or let vambrace compile its own")
    })?;
    if header.gzip {
        return Err(
            Error::new("the hypervisor is compressed, and is started as it is").help("gunzip it first")
        );
    }
    if !header.loads_anywhere {
        return Err(Error::new(
            "the hypervisor's Image header binds it to the start of RAM, where firmware keeps things",
        )
        .help("set bit 3 of the header's flags"));
    }
    Ok(header)
}

/// What firmware and loader keep, what the device tree reserves, and the boot script.
fn fixed_regions(decision: &Decision, artifacts: &Artifacts, base: u64, end: u64) -> Result<Vec<Region>> {
    let mut regions = Vec::new();
    for reserved in &decision.boot.reserved {
        let size = reserved.size.bytes();
        let start = match reserved.base {
            Some(start) => start,
            None => end.checked_sub(size).filter(|start| *start >= base).ok_or_else(|| {
                Error::new(format!("RAM has no room for the {} that {} takes", reserved.size, reserved.what))
                    .help("give the machine more memory with --memory")
            })?,
        };
        let (what, why) = (reserved.what.clone(), "the firmware's while it loads".to_owned());
        keep(&mut regions, Region { what, start, size, why });
    }
    if decision.board.qemu.as_ref().is_some_and(|qemu| qemu.loader == Loader::Direct) {
        direct::kept(base, decision.memory.bytes()).into_iter().for_each(|region| keep(&mut regions, region));
    }
    if let Some(tree) = &artifacts.device_tree {
        for (start, size) in fdt::summary(&tree.data)?.reserved {
            let (from, to) = (start.max(base), start.saturating_add(size).min(end));
            if from < to {
                let (what, why) = ("reserved".to_owned(), "the device tree says so".to_owned());
                keep(&mut regions, Region { what, start: from, size: to - from, why });
            }
        }
    }
    if decision.method == Method::Uboot {
        regions.push(Region {
            what: Content::BootScript.name().into(),
            start: script_address(decision)?,
            size: script_room(decision),
            why: "where this board's U-Boot puts it".into(),
        });
    }
    Ok(regions)
}

/// Adds the memory that guests share at a place of their choice: nothing else may be there.
fn keep_shared(decision: &Decision, kept: &mut Vec<Region>, base: u64, end: u64) -> Result<()> {
    memory::check(base, end, kept)?;
    let config = &decision.guests.config;
    for (owner, field, shared) in config.shared_memory() {
        let Some(start) = shared.host_address else { continue };
        kept.push(Region {
            what: format!("shared memory `{}` of the guest `{}`", shared.id, owner.name),
            start,
            size: shared.size.bytes(),
            why: "the `host-address` of the guests that share it".into(),
        });
        memory::check(base, end, kept).map_err(|error| {
            config.at(&format!("{field}.host-address"), error.what()).help(
                "choose another place, or leave it to the hypervisor, with no `host-address` in any guest",
            )
        })?;
    }
    Ok(())
}

/// Adds `region` to what is kept. Several may keep the same memory, each for a reason of its own: that is one region.
fn keep(regions: &mut Vec<Region>, mut region: Region) {
    while let Some(index) = regions.iter().position(|other| other.overlaps(&region)) {
        let other = regions.remove(index);
        let (start, end) = (region.start.min(other.start), region.end().max(other.end()));
        let what =
            if other.what == region.what { other.what } else { format!("{}; {}", other.what, region.what) };
        let why = if other.why == region.why { other.why } else { format!("{}; {}", other.why, region.why) };
        region = Region { what, start, size: end - start, why };
    }
    regions.push(region);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_several_keep_is_kept_once() {
        let region = |what: &str, start, size| Region { what: what.into(), start, size, why: String::new() };
        let mut regions = Vec::new();
        for new in [region("a", 0x1000, 0x1000), region("b", 0x4000, 0x1000), region("c", 0x1800, 0x3000)] {
            keep(&mut regions, new);
        }
        assert_eq!(regions, [region("b; a; c", 0x1000, 0x4000)]);
        keep(&mut regions, region("d", 0x5000, 0x1000));
        assert_eq!(regions.len(), 2, "what only touches is another region");
    }
}
