//! Whole images, written, read back by the builder's own eyes and by other people's tools.

mod support;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use vambrace::disk::{
    Blob, Content, DiskSpec, Ext4, Fat32, FileSpec, Gpt, PartitionSpec, Table, Volume, VolumeGroup,
    fat32_size, lvm_size, lvm_uuid, write_image,
};
use vambrace::progress::Progress;
use vambrace::tree::{Node, Tree};
use vambrace::verify::verify_image;

use support::{noise, text, tool, write};

const MIB: u64 = 1 << 20;

fn spec() -> DiskSpec {
    let file = |path: &str, data: Arc<[u8]>| FileSpec { path: path.into(), data: data.into() };
    let files = vec![
        file("vmlinuz-6.12.107+deb13-arm64", noise(300_001, 1).into()),
        file("EFI/BOOT/BOOTAA64.EFI", noise(70_000, 2).into()),
        file("EFI/BOOT/BOOTAA64.cfg", b"options=\n"[..].into()),
        file("boot.scr", noise(512, 3).into()),
        file("empty", [][..].into()),
        file("UPPER.TXT", noise(1, 4).into()),
        file("a folder/with a long name/and.many.dots.in.it", noise(100_000, 5).into()),
        file("zeros", vec![0; 200_000].into()),
    ];
    let partition = |name: &str, guid: u8, start: u64, size: u64, content: Content| PartitionSpec {
        name: name.into(),
        type_guid: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into(),
        mbr_type: 0x83,
        guid: [guid; 16],
        start,
        size,
        bootable: guid == 1,
        content,
    };
    DiskSpec {
        table: Table::Gpt(Gpt::USUAL),
        disk_guid: *b"\x01\x23\x45\x67\x89\xab\x4d\xef\x80\x23\x45\x67\x89\xab\xcd\xef",
        size: 80 * MIB,
        partitions: vec![
            partition(
                "boot",
                1,
                4 * MIB,
                36 * MIB,
                Content::Fat32(Fat32 { label: "VAMBRACE".into(), volume_id: 0x1234_abcd, files }),
            ),
            partition("raw", 2, 42 * MIB, 2 * MIB, Content::Raw(noise(5000, 6).into())),
            partition("root", 3, 44 * MIB, 30 * MIB, Content::Empty),
        ],
        raw: vec![Blob { name: "first stage".into(), offset: 128 << 10, data: noise(30_001, 7).into() }],
        epoch: 1_700_000_000,
    }
}

#[test]
fn the_image_passes_its_own_verification_and_is_sparse() {
    let (_dir, path) = write(&spec());
    verify_image(&path, &spec(), &Progress::quiet()).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.len(), 80 * MIB);
    assert!(meta.blocks() * 512 < 4 * MIB, "{} blocks", meta.blocks());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_same_description_gives_the_same_bytes() {
    let mut other = spec();
    if let Content::Fat32(fat) = &mut other.partitions[0].content {
        fat.files.reverse();
    }
    let ((_a, first), (_b, second)) = (write(&spec()), write(&other));
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}

#[test]
fn sgdisk_finds_no_fault() {
    let (_dir, path) = write(&spec());
    let path = path.to_str().unwrap();
    let Some(output) = tool("sgdisk", &["-v", path]) else { return };
    assert!(text(&output).contains("No problems found"), "{}", text(&output));
    let shown = text(&tool("sgdisk", &["-p", "-i", "1", path]).unwrap());
    assert!(shown.contains("01234567-89AB-4DEF-8023-456789ABCDEF"), "{shown}");
    let shown = text(&tool("sgdisk", &["-i", "1", path]).unwrap());
    assert!(shown.contains("First sector: 8192 ") && shown.contains("Partition name: 'boot'"), "{shown}");
    assert!(shown.contains("Attribute flags: 0000000000000004"), "{shown}");
}

#[test]
fn fsck_and_mtools_agree_on_the_file_system() {
    let (dir, path) = write(&spec());
    let whole = std::fs::read(&path).unwrap();
    let part = dir.path().join("part.img");
    std::fs::write(&part, &whole[(4 * MIB) as usize..(40 * MIB) as usize]).unwrap();
    let part = part.to_str().unwrap();
    if let Some(output) = tool("fsck.vfat", &["-n", "-v", part]) {
        assert!(output.status.success(), "{}", text(&output));
        assert!(!text(&output).contains("uninitialized"), "{}", text(&output));
    }
    let Some(listing) = tool("mdir", &["-i", part, "-/", "-b", "::"]) else { return };
    let listing = text(&listing);
    let Content::Fat32(fat) = &spec().partitions[0].content.clone() else { unreachable!() };
    for file in &fat.files {
        assert!(listing.contains(&format!("::/{}", file.path)), "{} in {listing}", file.path);
        let copy = dir.path().join("copy");
        let output =
            tool("mcopy", &["-n", "-o", "-i", part, &format!("::/{}", file.path), copy.to_str().unwrap()])
                .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(std::fs::read(&copy).unwrap() == file.data.bytes(u64::MAX).unwrap(), "{}", file.path);
    }
    let dates = text(&tool("mdir", &["-i", part, "::/boot.scr"]).unwrap());
    assert!(dates.contains("2023-11-14") && dates.contains("22:13"), "{dates}");
    assert!(dates.contains("VAMBRACE") && dates.contains("1234-ABCD"), "{dates}");
}

#[test]
fn every_kind_of_damage_is_seen() {
    let (_dir, path) = write(&spec());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let boot = 4 * MIB;
    let last = 80 * MIB;
    // Reserved sectors, then two tables; both follow from the boot sector.
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, boot).unwrap();
    let reserved = u64::from(u16::from_le_bytes([sector[14], sector[15]])) * 512;
    let table = u64::from(u32::from_le_bytes(sector[36..40].try_into().unwrap())) * 512;
    let root = boot + reserved + 2 * table;
    let places = [
        (450, "MBR"),
        (512 + 8, "first header"),
        (512 + 60, "disk GUID"),
        (1024 + 33, "first entry"),
        (1024 + 57, "name"),
        (last - 500, "backup header"),
        (last - 33 * 512 + 20, "backup entry"),
        ((128 << 10) + 77, "blob"),
        (boot + 65, "dirty mark"),
        (boot + 70, "serial number"),
        (boot + reserved + 8, "first table"),
        (boot + reserved + table + 12, "second table"),
        (root + 3, "root folder"),
        (root + 32 * 3, "an entry"),
        (100, "boot code"),
        (42 * MIB + 4999, "raw partition"),
        (boot + 6 * 512 + 40, "backup boot sector"),
    ];
    for (place, what) in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ 0x55], place).unwrap();
        let result = verify_image(&path, &spec(), &Progress::quiet());
        assert!(result.is_err(), "{what} at {place:#x}");
        file.write_all_at(&byte, place).unwrap();
    }
    verify_image(&path, &spec(), &Progress::quiet()).unwrap();
    // One byte in each file's data.
    let whole = std::fs::read(&path).unwrap();
    let Content::Fat32(fat) = &spec().partitions[0].content.clone() else { unreachable!() };
    let contents = fat.files.iter().map(|file| file.data.bytes(u64::MAX).unwrap());
    for data in contents.filter(|data| data.len() >= 512 && data[0] != 0) {
        // A file begins with a sector.
        let Some(at) = whole.chunks(512).position(|sector| sector.starts_with(&data[..64])) else {
            panic!("a file is not in the image");
        };
        let at = at * 512;
        file.write_all_at(&[data[0] ^ 1], at as u64).unwrap();
        let report = verify_image(&path, &spec(), &Progress::quiet()).unwrap_err().report();
        assert!(report.contains("differs"), "{report}");
        file.write_all_at(&data[..1], at as u64).unwrap();
    }
    file.set_len(last - 512).unwrap();
    assert!(verify_image(&path, &spec(), &Progress::quiet()).is_err());
}

#[test]
fn a_description_that_cannot_be_is_refused_and_the_old_image_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::write(&path, b"the last good image").unwrap();
    let refused = |change: fn(&mut DiskSpec), words: &str| {
        let mut spec = spec();
        change(&mut spec);
        let report = write_image(&path, &spec, &Progress::quiet()).unwrap_err().report();
        assert!(report.contains(words), "`{words}` in {report}");
        assert_eq!(std::fs::read(&path).unwrap(), b"the last good image");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{report}");
    };
    refused(
        |s| s.raw[0].offset = 8 << 10,
        "first stage (bytes 0x2000 to 0x9530) lies over the partition table",
    );
    refused(|s| s.raw[0].offset = 4 * MIB - 512, "lies over first stage");
    refused(|s| s.raw[0].offset = 80 * MIB - 33 * 512, "reaches past the end");
    refused(|s| s.raw[0].offset = 100, "not a multiple of 512");
    refused(|s| s.partitions[1].start = 38 * MIB, "partition `raw`");
    refused(|s| s.partitions[2].size = 200 * MIB, "past the end");
    refused(|s| s.partitions[2].size = u64::MAX - 511, "past the end");
    refused(|s| s.partitions[2].size = 0, "empty");
    refused(|s| s.partitions[1].guid = s.partitions[0].guid, "GUID of another");
    refused(|s| s.partitions[1].type_guid = "linux".into(), "not a GUID");
    refused(|s| s.partitions[1].name = "x".repeat(37), "36");
    refused(|s| s.size = 1000, "not a multiple");
    refused(|s| s.size = 512, "no room");
    refused(|s| s.partitions[0].size = 8 * MIB, "too few for FAT32");
    refused(
        |s| {
            if let Content::Fat32(fat) = &mut s.partitions[0].content {
                fat.files.push(FileSpec { path: "huge".into(), data: vec![0; 62 * MIB as usize].into() });
            }
        },
        "has room for",
    );
    refused(
        |s| {
            if let Content::Fat32(fat) = &mut s.partitions[0].content {
                fat.files.push(FileSpec { path: "Boot.SCR".into(), data: "".into() });
            }
        },
        "same name",
    );
    refused(|s| s.partitions[1].content = Content::Raw(vec![0; 3 * MIB as usize].into()), "its contents");
}

#[test]
fn what_a_killed_build_left_is_taken_over_and_two_builds_keep_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/disk.img");
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    let left = dir.path().join("deep/.disk.img.partial");
    std::fs::write(&left, vec![0xff; 1 << 20]).unwrap();
    {
        let other = std::fs::File::open(&left).unwrap();
        other.lock().unwrap();
        let report = write_image(&path, &spec(), &Progress::quiet()).unwrap_err().report();
        assert!(report.contains("another build"), "{report}");
        assert!(left.exists(), "what another build writes is not taken away");
    }
    write_image(&path, &spec(), &Progress::quiet()).unwrap();
    verify_image(&path, &spec(), &Progress::quiet()).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_file_system_of_the_size_asked_for_holds_its_files() {
    let mut spec = spec();
    spec.partitions.truncate(1);
    if let Content::Fat32(fat) = &mut spec.partitions[0].content {
        for index in 0..40 {
            fat.files.push(FileSpec {
                path: format!("more/{index}/{}", "n".repeat(200)),
                data: noise(10_000, index).repeat(90).into(),
            });
        }
        spec.partitions[0].size =
            fat32_size(fat.files.iter().map(|file| (file.path.as_str(), file.data.len())), 0).unwrap();
    }
    assert!(spec.partitions[0].size < 48 * MIB, "{}", spec.partitions[0].size);
    let (_dir, path) = write(&spec);
    verify_image(&path, &spec, &Progress::quiet()).unwrap();
}

/// Not a test of its own: runs where [`a_full_disk_is_told_and_leaves_the_old_image`] has made a small disk.
#[test]
#[ignore = "started by another test"]
fn writes_onto_a_full_disk() {
    let Some(folder) = std::env::var_os("FULL_DISK") else { return };
    let path = Path::new(&folder).join("disk.img");
    std::fs::write(&path, "the last good image").unwrap();
    let report = write_image(&path, &spec(), &Progress::quiet()).unwrap_err().report();
    assert!(report.contains("disk.img: cannot write") && report.contains("free some space"), "{report}");
    assert_eq!(std::fs::read(&path).unwrap(), b"the last good image");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    println!("seen");
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_image() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$FULL_DISK\" && exec \"$0\" --exact writes_onto_a_full_disk --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("FULL_DISK", dir.path())
        .output();
    // Not every machine lets its users make a small disk of their own.
    let Ok(output) = output else { return };
    let text = text(&output);
    if text.contains("unshare") || text.contains("mount:") || text.contains("mount failed") {
        return;
    }
    assert!(output.status.success() && text.contains("seen"), "{text}");
}

/// A volume group beside other partitions, with an ext4 file system, bytes and nothing in its volumes.
fn with_volumes() -> DiskSpec {
    let mut tree = Tree::new();
    tree.insert("etc/hostname", Node::file(0o644, &b"web\n"[..])).unwrap();
    let tree = Arc::new(tree);
    let root = Content::Ext4(Ext4 { label: "web-root".into(), uuid: [9; 16], tree });
    let volume = |name: &str, size: u64, content: Content| Volume {
        name: name.into(),
        uuid: lvm_uuid([name.len() as u8; 16]),
        size,
        content,
    };
    let group = VolumeGroup {
        name: "guests".into(),
        uuid: lvm_uuid([1; 16]),
        physical_uuid: lvm_uuid([2; 16]),
        volumes: vec![
            volume("web-root", 16 * MIB, root),
            volume("swap", 5 * MIB, Content::Empty),
            volume("raw.1", 4 * MIB, Content::Raw(noise(100_000, 8).into())),
        ],
    };
    let size = lvm_size(group.volumes.iter().map(|volume| volume.size), 6 * MIB);
    assert_eq!(size, 37 * MIB);
    let mut spec = spec();
    spec.partitions.push(PartitionSpec {
        name: "guests".into(),
        type_guid: "e6d6d379-f507-44c2-a23c-238f2a3df928".into(),
        mbr_type: 0x8e,
        guid: [4; 16],
        start: 80 * MIB,
        size,
        bootable: false,
        content: Content::Lvm(group),
    });
    spec.size = 120 * MIB;
    spec
}

#[test]
fn volumes_are_read_back_and_damage_to_them_is_seen() {
    let spec = with_volumes();
    let (_dir, path) = write(&spec);
    verify_image(&path, &spec, &Progress::quiet()).unwrap();
    let start = 80 * MIB;
    // Label, header of the metadata, text, and the superblock in the first volume.
    for at in [512 + 40, 4096 + 30, 4096 + 512 + 10, MIB + 1024 + 60] {
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, start + at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], start + at).unwrap();
        let error = verify_image(&path, &spec, &Progress::quiet()).unwrap_err();
        assert!(error.report().contains("`guests`"), "{at}: {}", error.report());
        file.write_all_at(&byte, start + at).unwrap();
    }
    verify_image(&path, &spec, &Progress::quiet()).unwrap();
}

#[test]
fn volumes_that_cannot_be_are_refused() {
    let broken = |change: fn(&mut VolumeGroup)| {
        let mut spec = with_volumes();
        let Content::Lvm(group) = &mut spec.partitions[3].content else { panic!("no group") };
        change(group);
        spec.check().unwrap_err().report()
    };
    assert!(broken(|group| group.volumes[1].size = 20 * MIB).contains("the partition has"));
    assert!(broken(|group| group.volumes[1].name = "-x".into()).contains("`-x`"));
    assert!(broken(|group| group.volumes[1].name = "raw.1".into()).contains("twice"));
    assert!(
        broken(|group| group.volumes[1].content = Content::Lvm(group.clone())).contains("holds a volume")
    );
    assert!(broken(|group| group.volumes[2].size = 0).contains("is empty"));
}

/// lvm2 itself, on a file that a loop device shows it: only root has those, and not on every machine.
#[test]
fn lvm2_finds_the_volumes() {
    let (dir, path) = write(&with_volumes());
    let image = path.to_str().unwrap();
    let (from, size) = ((80 * MIB).to_string(), (37 * MIB).to_string());
    let attach = ["--find", "--show", "--read-only", "--offset", &from, "--sizelimit", &size, image];
    let Some(loops) = tool("losetup", &attach).filter(|output| output.status.success()) else { return };
    let device = text(&loops).trim().to_owned();
    let config = format!(
        "devices {{ filter=[\"a|^{device}$|\",\"r|.*|\"] use_devicesfile=0 scan=[\"/dev\"] }} \
         global {{ activation=0 locking_type=4 metadata_read_only=1 }} log {{ prefix=\"\" }}"
    );
    let lvm = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--config", &config]);
        tool("lvm", &all)
    };
    let said = (
        lvm(&["pvck", &device]),
        lvm(&[
            "vgs",
            "--noheadings",
            "--units",
            "m",
            "-o",
            "vg_name,vg_size,vg_free,lv_count,vg_uuid",
            "guests",
        ]),
        lvm(&[
            "lvs",
            "--noheadings",
            "--units",
            "m",
            "--nosuffix",
            "-o",
            "lv_name,lv_size,seg_start_pe,seg_pe_ranges",
        ]),
        lvm(&["vgck", "guests"]),
    );
    tool("losetup", &["--detach", &device]);
    let (Some(pvck), Some(vgs), Some(lvs), Some(vgck)) = said else { return };
    assert!(pvck.status.success(), "{}", text(&pvck));
    assert!(vgck.status.success(), "{}", text(&vgck));
    let words = |output: &std::process::Output| {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let uuid = lvm_uuid([1; 16]);
    assert_eq!(words(&vgs), [format!("guests 36.00m 8.00m 3 {uuid}")], "{}", text(&vgs));
    let expected = [("raw.1", "4.00", 6, 6), ("swap", "8.00", 4, 5), ("web-root", "16.00", 0, 3)]
        .map(|(name, size, first, last)| format!("{name} {size} 0 {device}:{first}-{last}"));
    assert_eq!(words(&lvs), expected, "{}", text(&lvs));
    drop(dir);
}
