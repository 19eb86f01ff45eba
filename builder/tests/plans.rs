//! Every board of the project, by every method and layout that it names, planned with parts of ordinary sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vambrace::config::ImageConfig;
use vambrace::decision::{Decision, Request};
use vambrace::disk::{
    Content as DiskContent, DiskSpec, Fat32, FileSpec, Gpt, PartitionSpec, Table, TreeSize, write_image,
};
use vambrace::fdt::summary;
use vambrace::kernel::Format;
use vambrace::layout::Content;
use vambrace::plan::{Artifact, Artifacts, Header, Plan, RootArtifact, Tree};
use vambrace::progress::Progress;
use vambrace::qemu::direct;
use vambrace::workspace::Workspace;
use vambrace_bsp::{Architecture, DiskSize, Loader, Method};

fn workspace() -> Workspace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Workspace::open(Some(&root), None).unwrap()
}

fn part(size: u64, header: Option<Header>) -> Artifact {
    Artifact { from: "a test".into(), size, sha256: Some(format!("{size:x}")), header }
}
/// A byte that stands for `content`.
fn mark(content: Content) -> u8 {
    content.name().bytes().fold(0, |sum, byte| sum ^ byte.rotate_left(3))
}

fn artifacts(decision: &Decision) -> Artifacts {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hypervisor/core/tests/fixtures");
    let header = |architecture, image_size| {
        let format = Format::of(architecture);
        Some(Header { format, text_offset: 0, image_size, loads_anywhere: true, gzip: false })
    };
    let tree = decision.board.device_tree.is_carried().then(|| {
        let data: Arc<[u8]> = std::fs::read(fixtures.join("qemu-virt-gicv3.dtb")).unwrap().into();
        Tree { artifact: part(data.len() as u64, None), data }
    });
    Artifacts {
        hypervisor: part(256 << 10, header(decision.board.architecture, 3 << 20)),
        kernel: part(8_000_001, header(decision.dom0_arch, 40 << 20)),
        ramdisk: part(1_500_003, None),
        root: decision.layout.root().map(|_| RootArtifact {
            artifact: part(2 << 20, None),
            tree: TreeSize { inodes: 500, blocks: 1000 },
            uuid: "x".into(),
        }),
        device_tree: tree,
        guests: Vec::new(),
        firmware: decision
            .boot
            .firmware
            .iter()
            // As large as it may be, where that is known.
            .map(|name| {
                let memory = decision.board.firmware[name].memory;
                (name.clone(), part(memory.map_or(700_000, |to| 520 + to.size.bytes()), None))
            })
            .collect::<BTreeMap<_, _>>(),
    }
}

/// Every board with every method and layout.
fn decisions() -> Vec<Decision> {
    let workspace = workspace();
    let mut all = Vec::new();
    for (id, board) in workspace.boards().iter() {
        for (method, boot) in &board.as_ref().unwrap().boot {
            for layout in &boot.layouts {
                let request = Request {
                    board: id.to_owned(),
                    method: Some(*method),
                    layout: Some(layout.clone()),
                    ..Request::default()
                };
                all.push(Decision::new(&workspace, &request).unwrap());
            }
        }
    }
    all
}

/// The boards of `ci/nightly` stand for others on a machine that has firmware: what firmware is told differs in where RAM is.
#[test]
fn boards_of_the_boot_tests_boot_as_those_that_they_stand_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = Workspace::open(Some(&root), Some(&root.join("ci/nightly/boards"))).unwrap();
    for (test, real) in [("mustang-on-virt", "xgene-mustang"), ("omap5-on-virt", "omap5-uevm")] {
        let told = |id: &str| {
            let board = workspace.boards().get(id).unwrap();
            let (boot, base) = (&board.boot[&Method::Uboot], board.memory.base);
            let reserved = boot.reserved.iter().map(|region| (region.base.map(|at| at - base), region.size));
            (
                (board.architecture, board.default_method, boot.layouts.clone()),
                boot.script_address.unwrap() - base,
                reserved.collect::<Vec<_>>(),
                boot.old.clone(),
            )
        };
        assert_eq!(told(test), told(real), "{test}");
    }
}

#[test]
fn every_board_can_be_planned_and_nothing_lies_over_anything() {
    let decisions = decisions();
    assert!(decisions.len() >= 14);
    for decision in &decisions {
        let what = format!("{} {} {}", decision.board.id, decision.method, decision.layout.id);
        let plan = Plan::new(decision, artifacts(decision)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (base, end) = plan.ram;
        let mut regions = plan.ram_map.clone();
        regions.sort_by_key(|region| region.start);
        for pair in regions.windows(2) {
            assert!(pair[0].start + pair[0].size <= pair[1].start, "{what}: {pair:?}");
        }
        for load in &plan.loads {
            assert!(load.address >= base && load.address + load.size <= end, "{what}: {load:?}");
            // An old U-Boot moves the hypervisor to a place of its own choice.
            let offset = decision.boot.bootm().map(u64::from);
            match offset.filter(|_| load.content == Content::Hypervisor) {
                Some(offset) => assert_eq!(load.address, base + offset, "{what}"),
                None => assert!(load.address % (1 << 20) == 0, "{what}: {load:?}"),
            }
        }
        let mut next = 0;
        for extent in &plan.disk.extents {
            assert!(extent.start >= next, "{what}: {extent:?}");
            next = extent.start + extent.size;
        }
        assert!(next <= plan.disk.size, "{what}");
        if decision.board.qemu.as_ref().is_some_and(|qemu| qemu.disk_size == DiskSize::PowerOfTwo) {
            assert!(plan.disk.size.is_power_of_two(), "{what}: {}", plan.disk.size);
        }
        let starts = match (decision.method, decision.board.architecture) {
            (Method::Uboot, _) if decision.boot.bootm().is_some() => "\nbootm 0x",
            (Method::Uboot, Architecture::Aarch64) => "\nbooti 0x",
            (Method::Uboot, Architecture::Armv7) => "\nbootz 0x",
            (Method::Uefi, _) => "\nkernel=",
            (Method::Direct, _) => "",
        };
        assert!(plan.boot_text.contains(starts), "{what}: {}", plan.boot_text);
    }
}

#[test]
fn every_board_that_u_boot_starts_can_have_slots() {
    let workspace = workspace();
    let mut planned = 0;
    for (id, board) in workspace.boards().iter() {
        for (method, boot) in &board.as_ref().unwrap().boot {
            let request = Request {
                board: id.to_owned(),
                method: Some(*method),
                slots: true,
                dom0_args: Some("quiet".into()),
                ..Request::default()
            };
            if *method != Method::Uboot {
                let said = Decision::new(&workspace, &request).unwrap_err().report();
                assert!(said.contains("no slots with the boot method"), "{id}: {said}");
                continue;
            }
            if boot.old.is_some() {
                let said = Decision::new(&workspace, &request).unwrap_err().report();
                assert!(said.contains("too old"), "{id}: {said}");
                continue;
            }
            let decision = Decision::new(&workspace, &request).unwrap();
            let artifacts = artifacts(&decision);
            let plan =
                Plan::new(&decision, artifacts.clone()).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert!(plan.boot_text.contains("root=UUID=x") && plan.boot_text.contains("fatwrite"), "{id}");
            assert!(plan.slot_text.contains("quiet ${vambrace_dom0}"), "{id}: {}", plan.slot_text);
            assert!(plan.slot_text.contains("panic=10"), "{id}");
            assert!(!plan.slot_text.contains("/a/"), "{id}: {}", plan.slot_text);
            // Both slots have room, and each may grow.
            let files: u64 = plan.disk.partitions[0].files.iter().map(|file| file.size).sum();
            assert!(plan.disk.partitions[0].size > 2 * files, "{id}");
            // A slot's script lies where that which chooses reads it, and nothing else does.
            let script = plan.ram_map.iter().find(|region| region.what == "boot-script").unwrap();
            assert!(
                plan.boot_text.contains(&format!("{:#x} vambrace/good", script.start + (16 << 10))),
                "{id}"
            );
            assert!(script.size > 16 << 10, "{id}: {script:?}");
            let plain = Request { slots: false, layout: Some(decision.layout.id.clone()), ..request };
            let plain = Plan::new(&Decision::new(&workspace, &plain).unwrap(), artifacts).unwrap();
            assert!(plain.slot_text.is_empty() && !plain.boot_text.contains("vambrace_slot"), "{id}");
            assert_ne!(plain.image, plan.image);
            planned += 1;
        }
    }
    assert!(planned >= 10);
}

#[test]
fn a_carried_tree_has_everything_the_hypervisor_is_told() {
    for decision in decisions() {
        let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
        let Some(tree) = &plan.device_tree else {
            assert!(!decision.board.device_tree.is_carried());
            assert!(plan.loads.iter().all(|load| load.content != Content::DeviceTree));
            continue;
        };
        assert!(decision.board.device_tree.is_carried(), "{}", decision.board.id);
        let load = plan.loads.iter().find(|load| load.content == Content::DeviceTree).unwrap();
        assert_eq!(load.size, tree.len() as u64);
        assert!(!plan.boot_text.contains("fdt set"), "{}", decision.board.id);
        let text = String::from_utf8_lossy(tree);
        assert!(text.contains(&decision.hypervisor_args) && text.contains(&decision.dom0_args));
        let kernel = plan.loads.iter().find(|load| load.content == Content::Kernel).unwrap();
        assert!(text.contains(&format!("module@{:x}", kernel.address)), "{}", decision.board.id);
        // Where nobody adds memory, the tree tells of what was planned for.
        if plan.loader == Loader::Direct {
            let memory = summary(tree).unwrap().memory;
            assert!(memory.iter().any(|(start, size)| *start <= plan.ram.0 && start + size >= plan.ram.1));
        }
    }
}

#[test]
fn a_board_without_a_boot_says_so() {
    let never: BTreeSet<String> =
        decisions().into_iter().filter(|d| d.board.never_booted()).map(|d| d.board.id).collect();
    assert!(never.contains("cubieboard2") && !never.contains("orangepi-pc"), "{never:?}");
}

/// A disk with one FAT32 partition, where the plan has it.
fn image(dir: &Path, plan: &Plan, change: impl Fn(Content, &mut Vec<u8>)) -> PathBuf {
    let path = dir.join("x.img");
    let planned = &plan.disk.partitions[0];
    let files = planned
        .files
        .iter()
        .map(|file| {
            let mut data = vec![mark(file.content); usize::try_from(file.size).unwrap()];
            if let (Content::DeviceTree, Some(tree)) = (file.content, &plan.device_tree) {
                data = tree.to_vec();
            }
            change(file.content, &mut data);
            FileSpec { path: file.path.clone(), data: data.into() }
        })
        .collect();
    let spec = DiskSpec {
        table: Table::Gpt(Gpt::USUAL),
        disk_guid: [1; 16],
        size: plan.disk.size,
        partitions: vec![PartitionSpec {
            name: "boot".into(),
            type_guid: "0FC63DAF-8483-4772-8E79-3D69D8477DE4".into(),
            mbr_type: 0x0c,
            guid: [2; 16],
            start: planned.start,
            size: planned.size,
            bootable: false,
            content: DiskContent::Fat32(Fat32 { label: "B".into(), volume_id: 1, files }),
        }],
        raw: Vec::new(),
        epoch: 1_700_000_000,
    };
    write_image(&path, &spec, &Progress::quiet()).unwrap();
    path
}

#[test]
fn the_loader_takes_the_files_from_the_image_to_the_planned_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let request = Request { board: "vexpress-a15".into(), ..Request::default() };
    let decision = Decision::new(&workspace(), &request).unwrap();
    let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    let path = image(dir.path(), &plan, |_, _| ());
    let machine = direct::Machine {
        architecture: Architecture::Armv7,
        base: decision.board.memory.base,
        cpus: 2,
        holds_cpus: false,
    };
    let args = direct::load(&path, &json, machine).unwrap().join(" ");
    let kernel = plan.loads.iter().find(|load| load.content == Content::Kernel).unwrap();
    assert!(args.contains(&format!("kernel,addr={:#x},force-raw=on", kernel.address)), "{args}");
    let loaded = std::fs::read(direct::folder(&path).join("kernel")).unwrap();
    assert_eq!(loaded, vec![mark(Content::Kernel); loaded.len()]);
    assert_eq!(loaded.len() as u64, kernel.size);
    assert_eq!(
        std::fs::read(direct::folder(&path).join("device-tree.dtb")).unwrap(),
        plan.device_tree.as_ref().unwrap()[..]
    );
    // The header in front of the hypervisor gives its address.
    let hypervisor = plan.loads.iter().find(|load| load.content == Content::Hypervisor).unwrap();
    let loaded = std::fs::read(direct::folder(&path).join("hypervisor.uimage")).unwrap();
    assert_eq!(loaded.len() as u64, hypervisor.size + 64);
    assert_eq!(u64::from(u32::from_be_bytes(loaded[16..20].try_into().unwrap())), hypervisor.address);

    // Another file than the one that was planned for is not loaded.
    let other = image(dir.path(), &plan, |content, data| {
        if content == Content::Kernel {
            data.push(0);
        }
    });
    let error = direct::load(&other, &json, machine).unwrap_err();
    assert!(error.report().contains("vambrace/kernel on the image has"), "{}", error.report());
    std::fs::write(&other, vec![0; 1 << 20]).unwrap();
    assert!(direct::load(&other, &json, machine).is_err());
}

/// What TI's boot ROM asks of the medium it reads MLO from (TI, SPRUI30H for DRA75x, 32.3.8.2 and figure 32-27; SPRUH73 for AM335x,
/// 26.1.7.5.5 to 26.1.7.5.7), and U-Boot's first stage of where U-Boot is (U-Boot 2023.04, omap5_uevm_defconfig).
#[test]
fn ti_s_rom_finds_both_stages_in_both_ways() {
    let workspace = workspace();
    let text = "[firmware]\nMLO = \"MLO\"\nu-boot = \"u-boot.img\"\n";
    let mut ways = BTreeSet::new();
    for (id, board) in workspace.boards().iter() {
        let board = board.as_ref().unwrap();
        let Some(mlo) = board.firmware.get("MLO") else { continue };
        for layout in &board.boot[&Method::Uboot].layouts {
            let what = format!("{id} {layout}");
            let request = Request {
                board: id.to_owned(),
                layout: Some(layout.clone()),
                config: ImageConfig::parse("f", text).unwrap(),
                ..Request::default()
            };
            let decision = Decision::new(&workspace, &request).unwrap();
            let plan =
                Plan::new(&decision, artifacts(&decision)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let raw = |name: &str| {
                let what = format!("firmware {name}");
                plan.disk
                    .extents
                    .iter()
                    .find(|extent| extent.what == what)
                    .map(|extent| (extent.start, extent.size))
            };
            let file = |name: &str| {
                let all = plan.disk.partitions.iter().enumerate();
                let mut found =
                    all.filter(|(_, partition)| partition.files.iter().any(|file| file.path == name));
                found.next().map(|(index, _)| index)
            };
            match (raw("MLO"), raw("u-boot")) {
                (Some((start, size)), Some((next, _))) => {
                    // The ROM looks for a table of contents in sectors 0, 256, 512 and 768. The first of them has the partition table;
                    // the next stage begins where the fourth copy would, at MLO's sector 0x300.
                    assert_eq!((start, next), (256 * 512, 0x300 * 512), "{what}");
                    assert!(start + size <= next, "{what}");
                    // Whichever table there is ends before, its 34 sectors too.
                    assert!(plan.disk.extents[0].size <= start, "{what}: {:?}", plan.disk.extents);
                    let first = plan.disk.gpt.map_or(u64::MAX, |gpt| gpt.first_usable * 512);
                    assert!(plan.disk.partitions[0].start.min(first) >= next + 700_000, "{what}");
                    assert_eq!((file("MLO"), file("u-boot.img")), (None, None), "{what}");
                    ways.insert("sectors");
                }
                (None, None) => {
                    // An active primary FAT partition of a master boot record, and only one of them; MLO takes u-boot.img from
                    // partition 1.
                    assert_eq!(plan.disk.table, vambrace::layout::Table::Mbr, "{what}");
                    assert_eq!((file("MLO"), file("u-boot.img")), (Some(0), Some(0)), "{what}");
                    let marked: Vec<bool> =
                        decision.layout.partitions.iter().map(|partition| partition.bootable).collect();
                    assert_eq!(marked.iter().position(|marked| *marked), Some(0), "{what}");
                    assert_eq!(marked.iter().filter(|marked| **marked).count(), 1, "{what}");
                    let first = &decision.layout.partitions[0];
                    // FAT32 with LBA, which is among the types that the ROM takes.
                    assert_eq!(first.kind.mbr_type(first.filesystem), 0x0c, "{what}");
                    ways.insert("files");
                }
                other => panic!("{what}: one stage is raw, the other is not: {other:?}"),
            }
            // All that the ROM may load lies in the chip's own memory (U-Boot, arch/arm/include/asm/arch-omap5/omap.h).
            let window = mlo.memory.unwrap();
            assert!(window.base >= 0x4030_0000 && window.end() <= 0x4032_0000, "{what}");
        }
    }
    assert_eq!(ways, BTreeSet::from(["files", "sectors"]));
}

/// What each kind of firmware asks of what it loads, with where it says so.
#[test]
fn every_boot_file_is_one_that_the_board_s_firmware_takes() {
    const MIB: u64 = 1 << 20;
    for decision in decisions() {
        let what = format!("{} {} {}", decision.board.id, decision.method, decision.layout.id);
        let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
        let bits64 = decision.board.architecture == Architecture::Aarch64;
        let load = |content: Content| plan.loads.iter().find(|load| load.content == content);
        let region = |what: &str| plan.ram_map.iter().find(|region| region.what == what);
        let old = decision.boot.old.as_ref();
        if decision.method == Method::Uefi || decision.layout.find(Content::EfiConfig).is_some() {
            // UEFI 2.10, 3.5.1.1: the default application of a 64-bit ARM machine, on FAT (13.3) with the partition type of
            // table 5-7 (the image tests read both back).
            let (partition, path) = decision.layout.find(Content::Hypervisor).unwrap();
            assert_eq!(path, "EFI/BOOT/BOOTAA64.EFI", "{what}");
            assert_eq!(decision.layout.partitions[partition].kind, vambrace::layout::Kind::Esp, "{what}");
            let text = if plan.efi_text.is_empty() { &plan.boot_text } else { &plan.efi_text };
            // The firmware's tree, unless the image has a better one.
            assert_eq!(text.contains("\ndtb="), decision.board.device_tree.is_carried(), "{what}: {text}");
        }
        if decision.method == Method::Uefi {
            continue;
        }
        let hypervisor = load(Content::Hypervisor).unwrap();
        if let Some(tree) = region("device-tree") {
            // Linux, Documentation/arch/arm64/booting.rst, 2: 8 bytes aligned, at most 2 MiB; arm/booting.rst, 4b: 64 bits.
            assert!(tree.start % 8 == 0 && tree.size <= 2 * MIB, "{what}: {tree:?}");
            // U-Boot leaves a tree where it is only if that is told (doc/usage/environment.rst, fdt_high).
            let stays =
                if bits64 { "setenv fdt_high 0xffffffffffffffff\n" } else { "setenv fdt_high 0xffffffff\n" };
            assert!(decision.method != Method::Uboot || plan.boot_text.contains(stays), "{what}");
        }
        match (bits64, decision.boot.bootm()) {
            // Linux, Documentation/arch/arm64/booting.rst, 4: a 2 MiB aligned address and text_offset, which is 0 here; U-Boot's
            // booti moves what lies elsewhere (arch/arm/lib/image.c).
            (true, None) => assert_eq!(hypervisor.address % (2 * MIB), 0, "{what}"),
            // U-Boot 2013.04, common/cmd_bootm.c: it copies what follows the 64 bytes of header (include/image.h) to where
            // the header says, counted from the start of RAM on X-Gene (Debian's flash-kernel, all.db), and over nothing
            // that it was given.
            (_, Some(offset)) => {
                let uimage = load(Content::HypervisorUimage).unwrap();
                assert_eq!(uimage.size, hypervisor.size + 64, "{what}");
                assert_eq!(hypervisor.address, decision.board.memory.base + u64::from(offset), "{what}");
                // Where that knows the header of an arm64 image, it moves it on as `booti` does.
                let (place, moved) =
                    (region("hypervisor").unwrap(), hypervisor.address.next_multiple_of(2 * MIB));
                assert!(place.start + place.size >= moved + hypervisor.size, "{what}: {place:?}");
                assert!(plan.boot_text.contains(&format!("\nbootm {:#x} - ", uimage.address)), "{what}");
            }
            // Linux, Documentation/arch/arm/booting.rst, 4 and 5: a zImage runs where it is loaded, in the first 4 GiB with all
            // that it is given; so do U-Boot's bootz and the ROM's 32-bit loaders.
            (false, None) => {
                let ends = plan.loads.iter().map(|load| load.address + load.size).max().unwrap();
                assert!(ends <= 1 << 32, "{what}: {ends:#x}");
            }
        }
        if decision.method == Method::Uboot {
            // U-Boot 2014 and later look for boot.scr by themselves on partitions that are marked (include/config_distro_bootcmd.h);
            // an older one is told by its owner, and its script which medium that was.
            let (partition, path) = decision.layout.find(Content::BootScript).unwrap();
            assert_eq!((path, decision.layout.partitions[partition].bootable), ("boot.scr", true), "{what}");
            let own = format!("setenv distro_bootpart {}", partition + 1);
            assert_eq!(plan.boot_text.contains(&own), old.is_some(), "{what}");
            // CONFIG_SYS_CBSIZE is 512 or more where the line has a command line, 256 elsewhere (include/configs).
            let longest = plan.boot_text.lines().map(str::len).max().unwrap();
            assert!(longest < 512, "{what}: a line of {longest}");
            // The ROM of Allwinner's chips reads its loader at 8 KiB (U-Boot, doc/board/allwinner/sunxi.rst), where an MBR leaves
            // room and a GPT has to have few entries.
            for name in &decision.boot.firmware {
                let Some(offset) = decision.board.firmware[name].offset else { continue };
                let extent = plan
                    .disk
                    .extents
                    .iter()
                    .find(|extent| extent.what == format!("firmware {name}"))
                    .unwrap();
                assert_eq!(extent.start, offset.bytes(), "{what}");
                let before = plan.disk.extents.iter().filter(|other| other.start < extent.start);
                assert!(
                    before.map(|other| other.start + other.size).max().unwrap() <= extent.start,
                    "{what}"
                );
            }
        }
    }
}
