//! Whole media in memory: sound ones, damaged ones, and any bytes at all.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::rom::tests::spl;
use super::*;
use crate::disk::{
    Blob, Content, DiskSpec, Ext4, Fat32, FileSpec, Gpt, PartitionSpec, Table as DiskTable, fat32_size,
    write_image,
};
use crate::ti::{mlo, uboot};
use crate::tree::{Node, Tree};
use crate::uboot::{boot_script, kernel_image};
use vambrace_bsp::Architecture;

const MIB: u64 = 1 << 20;

/// An arm64 Image with `text` in it.
fn image(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[16..24].copy_from_slice(&8192_u64.to_le_bytes());
    bytes[24] = 8;
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes[4096..4096 + text.len()].copy_from_slice(text);
    bytes
}

pub(super) fn hypervisor() -> Vec<u8> {
    image(b"\n(VMB) Vambrace 0.1.0 for ")
}

pub(super) fn kernel() -> Vec<u8> {
    image(b"Linux version 6.12.1 (x)")
}

/// A zImage, which is for 32-bit ARM.
fn zimage() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[0x24..0x28].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
    bytes[0x2c..0x30].copy_from_slice(&4096_u32.to_le_bytes());
    bytes
}

pub(super) fn script(text: &str) -> Vec<u8> {
    boot_script(text, Architecture::Aarch64, 0).unwrap()
}

const OURS: &str = "load mmc 0:${distro_bootpart} 0x100000 v/hyp\nload mmc 0:${distro_bootpart} 0x200000 v/kernel\nbooti 0x100000 - 0x300000\n";

type Files = Vec<(&'static str, Vec<u8>)>;

fn usual() -> Files {
    vec![("boot.scr", script(OURS)), ("v/hyp", hypervisor()), ("v/kernel", kernel())]
}

/// A card: SPL and U-Boot before two partitions.
fn card<N: Into<String>>(table: DiskTable, files: Vec<(N, Vec<u8>)>, bootable: bool) -> Vec<u8> {
    let files: Vec<FileSpec> =
        files.into_iter().map(|(path, data)| FileSpec { path: path.into(), data: data.into() }).collect();
    let size = fat32_size(files.iter().map(|file| (file.path.as_str(), file.data.len())), 0).unwrap();
    let mut tree = Tree::new();
    tree.insert("init", Node::file(0o755, "x")).unwrap();
    let partition = |name: &str, number: u8, start: u64, size: u64, content| PartitionSpec {
        name: name.into(),
        type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
        mbr_type: if number == 1 { 0x0c } else { 0x83 },
        guid: [number; 16],
        start,
        size,
        bootable: bootable && number == 1,
        content,
    };
    let fat = Fat32 { label: "BOOT".into(), volume_id: 1, files };
    let first = size.next_multiple_of(MIB);
    let root = Ext4 { label: "root".into(), uuid: [7; 16], tree: Arc::new(tree) };
    let blob = |name: &str, offset, data: Vec<u8>| Blob { name: name.into(), offset, data: data.into() };
    let raw = vec![
        blob("spl", 8 << 10, spl(24 << 10)),
        blob("u-boot", 40 << 10, kernel_image(b"u-boot", Architecture::Aarch64, 0).map(firmware).unwrap()),
    ];
    let spec = DiskSpec {
        // They do not go together.
        raw: if table == DiskTable::Gpt(Gpt::USUAL) { Vec::new() } else { raw },
        table,
        disk_guid: [9; 16],
        size: first + 22 * MIB,
        partitions: vec![
            partition("boot", 1, MIB, first, Content::Fat32(fat)),
            partition("root", 2, MIB + first, 20 * MIB, Content::Ext4(root)),
        ],
        epoch: 0,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card.img");
    write_image(&path, &spec, &Progress::quiet()).unwrap();
    std::fs::read(path).unwrap()
}

/// The legacy image as one of firmware, with its sums.
fn firmware(mut image: Vec<u8>) -> Vec<u8> {
    image[30] = 5;
    image[4..8].fill(0);
    let sum = crate::uboot::crc32(&image[..64]);
    image[4..8].copy_from_slice(&sum.to_be_bytes());
    image
}

const MBR: DiskTable = DiskTable::Mbr { signature: 7 };
const SHORT: Gpt = Gpt { entries: 56, entries_at: 2, first_usable: 2048 };

static CARD: LazyLock<Vec<u8>> = LazyLock::new(|| card(DiskTable::Gpt(SHORT), usual(), true));

fn of(bytes: Vec<u8>) -> Account {
    examine(&Window::of_memory(bytes), "it", Vec::new()).unwrap()
}

pub(super) fn errors(account: &Account) -> Vec<String> {
    let errors = account.faults.iter().filter(|fault| fault.level == Level::Error);
    errors.map(|fault| format!("{}: {}", fault.at, fault.what)).collect()
}

/// A sound card with these files.
pub(super) fn of_files(files: Vec<(String, Vec<u8>)>) -> Account {
    of(card(DiskTable::Gpt(SHORT), files, true))
}

#[track_caller]
fn has_error(account: &Account, said: &str) {
    assert!(errors(account).iter().any(|error| error.contains(said)), "{said}: {:#?}", account.faults);
}

#[test]
fn a_sound_card_boots_with_either_table() {
    for (table, kind) in [(MBR, "MBR"), (DiskTable::Gpt(SHORT), "GPT")] {
        let account = of(card(table, usual(), true));
        assert_eq!((account.table, errors(&account)), (Some(kind), vec![]));
        let [verdict] = account.verdicts.as_slice() else { panic!("{:?}", account.verdicts) };
        assert!(verdict.boots && verdict.hypervisor);
        let line = "SunXi boot ROM -> SPL for SunXi -> legacy U-Boot image `vambrace` -> boot script -> hypervisor Vambrace \
                    0.1.0 -> dom0's kernel Linux 6.12.1";
        assert_eq!(verdict.line(), line);
        assert!(account.map().is_disjoint());
        let formats: Vec<&str> =
            account.partitions.iter().map(|p| p.format.as_ref().unwrap().name.as_str()).collect();
        assert_eq!(formats, ["FAT32", "ext4"]);
        assert!(account.text(80).contains("boots with a hypervisor"));
        assert!(account.html().contains("boots with a hypervisor"));
    }
}

const OURS_32: &str = "load mmc 0:${distro_bootpart} 0x80100000 v/kernel\nbootz 0x80100000 - 0x88000000\n";

/// A card for TI's boot ROM: `raw` at its bytes, `files` beside those that U-Boot loads.
fn ti_card(table: DiskTable, raw: &[(usize, Vec<u8>)], files: Files, bootable: bool) -> Account {
    let script = boot_script(OURS_32, Architecture::Armv7, 0).unwrap();
    let all = [files, vec![("boot.scr", script), ("v/kernel", zimage())]].concat();
    let mut bytes = card(table, all, bootable);
    // What it has for SunXi goes.
    let first = if table == MBR { 512 } else { 34 * 512 };
    bytes[first..MIB as usize].fill(0);
    for (at, blob) in raw {
        bytes[*at..at + blob.len()].copy_from_slice(blob);
    }
    of(bytes)
}

const MLO_AT: usize = 0x2_0000;
const UBOOT_AT: usize = 0x6_0000;

#[test]
fn ti_s_rom_takes_sectors_with_either_table_and_files_with_a_master_boot_record() {
    let (first, next) = (mlo(70_000, 0x4030_0000), uboot(3000, 2));
    let line = "TI boot ROM -> first stage for TI -> legacy U-Boot image `U-Boot` -> boot script -> kernel";
    for table in [MBR, DiskTable::Gpt(Gpt::USUAL)] {
        let account = ti_card(table, &[(MLO_AT, first.clone()), (UBOOT_AT, next.clone())], vec![], true);
        assert_eq!(errors(&account), Vec::<String>::new());
        assert_eq!((account.verdicts.len(), account.verdicts[0].line().as_str()), (1, line));
        assert!(account.verdicts[0].boots && account.map().is_disjoint());
        let at: Vec<(u64, u64)> = account.raw.iter().map(|found| (found.start, found.size)).collect();
        assert_eq!(at, [(MLO_AT as u64, first.len() as u64), (UBOOT_AT as u64, next.len() as u64)]);
    }
    let files = || vec![("MLO", first.clone()), ("u-boot.img", next.clone())];
    let account = ti_card(MBR, &[], files(), true);
    assert_eq!((errors(&account), account.verdicts[0].line().as_str()), (vec![], line));
    // What is left of a card before is no matter.
    let account = ti_card(MBR, &[(UBOOT_AT, next.clone())], files(), true);
    assert_eq!((errors(&account), account.verdicts[0].line().as_str()), (vec![], line));
    // An older first stage has no table.
    let bare = vec![("MLO", first[512..].to_vec()), ("u-boot.img", next.clone())];
    assert_eq!(ti_card(MBR, &[], bare, true).verdicts[0].line(), line);
    let account = ti_card(DiskTable::Gpt(Gpt::USUAL), &[], files(), true);
    has_error(&account, "MLO: TI's boot ROM reads files by a master boot record alone");
    assert!(!account.verdicts[0].boots);
    has_error(&ti_card(MBR, &[], files(), false), "MLO: the partition is not active");
}

#[test]
fn what_keeps_ti_s_rom_from_booting_is_said() {
    let (first, next) = (mlo(70_000, 0x4030_0000), uboot(3000, 2));
    let files = |mlo: &[u8], uboot: &[u8]| {
        ti_card(MBR, &[], vec![("MLO", mlo.to_vec()), ("u-boot.img", uboot.to_vec())], true)
    };
    has_error(&files(&first[..60_000], &next), "MLO: it is cut short: 60000 bytes of 70520");
    has_error(&files(&[0xea; 9000], &next), "MLO: it is data, and no MLO");
    has_error(&files(&next, &next), "and no MLO");
    has_error(&files(&first, &next[..1000]), "u-boot.img: it is cut short");
    has_error(&ti_card(MBR, &[], vec![("MLO", first.clone())], true), "u-boot.img: it is not there");
    let mut empty = first.clone();
    empty[512..516].fill(0);
    has_error(
        &ti_card(MBR, &[(MLO_AT, empty), (UBOOT_AT, next.clone())], vec![], true),
        "its header has no size",
    );
    // Where U-Boot is elsewhere, or not seen, this MLO may have been built for that.
    let warned = |raw: &[(usize, Vec<u8>)], said: &str| {
        let account = ti_card(MBR, raw, vec![], true);
        assert_eq!(errors(&account), Vec::<String>::new());
        assert!(account.faults.iter().any(|fault| fault.what.contains(said)), "{:?}", account.faults);
    };
    warned(
        &[(MLO_AT, first.clone()), (0x8_0000, next)],
        "U-Boot is at byte 0x80000, and MLO looks at 0x60000",
    );
    warned(&[(MLO_AT, first)], "U-Boot is neither at byte 0x60000");
}

#[test]
fn an_spl_over_a_gpt_is_said() {
    // What is written first loses: here the entries, whose sum is then wrong.
    let mut over = card(DiskTable::Gpt(Gpt::USUAL), Vec::from([("x", vec![1])]), true);
    over[8 << 10..32 << 10].copy_from_slice(&spl(24 << 10));
    let account = of(over);
    has_error(&account, "the entries' checksum is wrong");
    has_error(&account, "SPL for SunXi (eGON) lies over GPT entries");
    // And here the SPL, of which nothing is left.
    let mut over = card(MBR, usual(), true);
    over[8 << 10..17 << 10].fill(0);
    has_error(&of(over), "there is no SPL at 8 KiB");
}

#[test]
fn damage_is_found_where_it_is() {
    let damaged = |at: usize| {
        let mut bytes = CARD.clone();
        bytes[at] ^= 1;
        of(bytes)
    };
    has_error(&damaged(512 + 60), "the GPT: the header's checksum is wrong");
    has_error(&damaged(1024 + 4), "the GPT: the entries' checksum is wrong");
    has_error(&damaged(9 << 10), "its checksum is wrong: the boot ROM passes it by");
    has_error(&damaged((40 << 10) + 66), "the data's checksum is wrong");
    has_error(&damaged(510), "no protective MBR");
    let last = damaged(CARD.len() - 512 + 60);
    assert!(
        !last.is_broken() && last.faults.iter().any(|fault| fault.at == "the backup GPT"),
        "{:?}",
        last.faults
    );
    let longer = of([CARD.as_slice(), &[0; 4096]].concat());
    assert!(
        longer.faults.iter().any(|fault| fault.what.contains("not in the last one")),
        "{:?}",
        longer.faults
    );
    let cut = of(CARD[..CARD.len() - 4 * MIB as usize].to_vec());
    has_error(&cut, "partition 2: it ends at byte");
}

#[test]
fn files_that_would_not_boot_are_said() {
    let with = |change: fn(&mut Files)| {
        let mut files = usual();
        change(&mut files);
        of(card(MBR, files, true))
    };
    has_error(&with(|files| drop(files.remove(2))), "it loads `v/kernel`, which is not there");
    has_error(
        &with(|files| files[1].1 = zimage()),
        "it is for 32-bit ARM, and U-Boot's `booti` starts what is for 64-bit",
    );
    has_error(&with(|files| files[0].1[100] ^= 1), "the data's checksum is wrong");
    has_error(&with(|files| files[0].1 = b"echo no header".to_vec()), "no script image");
    has_error(
        &with(|files| {
            files[0].1 = script(&OURS.replace("0x200000", "0x200000 v/kernel\nitest ${filesize} == 5\n#"))
        }),
        "5 bytes",
    );
    has_error(&with(|files| drop(files.remove(0))), "neither extlinux.conf nor boot.scr");
    let extlinux = |files: &mut Files| {
        files.push(("extlinux/extlinux.conf", b"label a\n kernel /v/kernel\n".to_vec()));
    };
    let account = with(extlinux);
    has_error(&account, "/extlinux/extlinux.conf: U-Boot takes it before partition 1, /boot.scr");
    let account = of(card(MBR, usual(), false));
    assert_eq!(errors(&account), Vec::<String>::new(), "without a mark it is the first partition");
}

#[test]
fn a_script_where_u_boot_does_not_look_is_said() {
    let mut bytes = card(MBR, usual(), true);
    // The mark is on the second partition instead.
    (bytes[446], bytes[462]) = (0, 0x80);
    let account = of(bytes);
    has_error(&account, "partition 1, /boot.scr: U-Boot does not look there");
}

#[test]
fn uefi_s_way_is_followed() {
    let mut ours = hypervisor();
    ours[0..2].copy_from_slice(b"MZ");
    ours[60..64].copy_from_slice(&128_u32.to_le_bytes());
    ours[128..134].copy_from_slice(b"PE\0\0\x64\xaa");
    let files = |config: &str| -> Files {
        vec![
            ("EFI/BOOT/BOOTAA64.EFI", ours.clone()),
            ("EFI/BOOT/vambrace.cfg", config.as_bytes().to_vec()),
            ("EFI/BOOT/kernel", kernel()),
        ]
    };
    let account = of(card(MBR, files("kernel=kernel console=hvc0\n"), true));
    let verdict = account.verdicts.iter().find(|verdict| verdict.way == "UEFI firmware").unwrap();
    assert!(verdict.boots && verdict.hypervisor, "{verdict:?}");
    let account = of(card(MBR, files("kernel=other\n"), true));
    has_error(&account, "it names `other`, which is not beside it");
    let account = of(card(MBR, vec![("EFI/BOOT/BOOTARM.EFI", ours)], true));
    has_error(&account, "it is for 64-bit ARM, and its name is for 32-bit ARM");
}

#[test]
fn boot_files_stand_alone() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &kernel()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (bytes, kind, said) in [
        (hypervisor(), Kind::Hypervisor, "hypervisor Vambrace 0.1.0"),
        (kernel(), Kind::Kernel, "kernel Linux 6.12.1"),
        (gzip.clone(), Kind::Kernel, "packed with gzip"),
        (script("echo"), Kind::Script, "script"),
        (crate::fdt::empty().unwrap(), Kind::DeviceTree, "device tree"),
        (spl(4096), Kind::Firmware, "SPL for SunXi"),
    ] {
        let account = of(bytes);
        let thing = account.file.as_ref().unwrap();
        assert!(thing.kind == kind && thing.what.contains(said) && !account.is_broken(), "{account:?}");
    }
    has_error(&of(gzip[..gzip.len() - 10].to_vec()), "gzip stream is damaged or cut short");
    has_error(&of(vec![0; 4096]), "nothing that is known here");
    assert!(examine(&Window::of_memory(Vec::new()), "it", Vec::new()).is_err());
}

#[test]
fn an_extended_partition_is_followed_and_not_in_circles() {
    let mut bytes = vec![0; 1 << 20];
    let entry = |bytes: &mut Vec<u8>, at: usize, kind: u8, start: u32, size: u32| {
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
    };
    entry(&mut bytes, 446, 0x05, 100, 1000);
    for (block, next) in [(100, 200), (300, 0)] {
        entry(&mut bytes, block * 512 + 446, 0x83, 10, 20);
        if next > 0 {
            entry(&mut bytes, block * 512 + 462, 0x05, next, 50);
        }
        bytes[block * 512 + 510..block * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let found = |bytes: &[u8]| {
        let account = of(bytes.to_vec());
        (
            account.partitions.iter().map(|p| (p.entry.number, p.entry.start / 512)).collect::<Vec<_>>(),
            account,
        )
    };
    assert_eq!(found(&bytes).0, [(5, 110), (6, 310)]);
    entry(&mut bytes, 300 * 512 + 462, 0x05, 0, 50);
    bytes[300 * 512 + 462 + 12] = 1;
    has_error(&found(&bytes).1, "the chain leads in a circle");
}

#[test]
fn overlapping_partitions_are_said() {
    let mut bytes = card(MBR, usual(), true);
    // The second begins in the first.
    bytes[462 + 8..462 + 12].copy_from_slice(&4096_u32.to_le_bytes());
    has_error(&of(bytes), "partition 2 lies over partition 1");
}

#[test]
fn thousands_of_partitions_over_one_another_are_no_danger() {
    let mut bytes = vec![0; 4 * MIB as usize];
    bytes[446 + 4] = 0xee;
    bytes[446 + 12] = 1;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    for entry in bytes[1024..1024 + (1 << 20)].chunks_exact_mut(128) {
        entry[0] = 1;
        entry[32..34].copy_from_slice(&2100_u16.to_le_bytes());
        entry[40..42].copy_from_slice(&8000_u16.to_le_bytes());
    }
    let sum = crate::uboot::crc32(&bytes[1024..1024 + (1 << 20)]);
    let header = &mut bytes[512..604];
    header[..8].copy_from_slice(b"EFI PART");
    for (at, value) in
        [(12, 92_u32), (24, 1), (32, 8191), (40, 2050), (48, 8100), (72, 2), (80, 8192), (84, 128), (88, sum)]
    {
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let sum = crate::uboot::crc32(header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    let account = of(bytes);
    assert_eq!(account.partitions.len(), 256);
    has_error(&account, "lies over partition");
    assert!(account.text(80).len() + account.html().len() < 4 << 20);
}

#[test]
fn a_gap_full_of_images_is_no_danger() {
    let image = kernel_image(b"x", Architecture::Aarch64, 0).unwrap();
    let mut bytes = vec![0; 2 * MIB as usize];
    bytes.chunks_exact_mut(512).for_each(|block| block[..image.len()].copy_from_slice(&image));
    bytes[..512].fill(0);
    let account = of(bytes);
    assert!(account.raw.len() < 200, "{}", account.raw.len());
}

#[test]
fn folders_and_chains_in_circles_end() {
    let mut bytes = card(MBR, usual(), true);
    let start = MIB as usize;
    let reserved = usize::from(u16::from_le_bytes([bytes[start + 14], bytes[start + 15]]));
    // Every cluster is followed by itself.
    for cluster in 2..64_u32 {
        let at = start + reserved * 512 + cluster as usize * 4;
        bytes[at..at + 4].copy_from_slice(&cluster.to_le_bytes());
    }
    let account = of(bytes);
    assert!(account.is_broken(), "{account:?}");
}

#[test]
fn a_tree_of_many_levels_is_no_danger() {
    let mut nodes = Vec::new();
    for _ in 0..50_000 {
        nodes.extend_from_slice(&[0, 0, 0, 1, b'a', 0, 0, 0]);
    }
    nodes.extend([0, 0, 0, 2].repeat(50_000));
    nodes.extend_from_slice(&[0, 0, 0, 9]);
    let mut tree = Vec::new();
    for word in [
        0xd00d_feed,
        56 + nodes.len() as u32,
        56,
        56 + nodes.len() as u32,
        40,
        17,
        16,
        0,
        0,
        nodes.len() as u32,
    ] {
        tree.extend_from_slice(&word.to_be_bytes());
    }
    tree.extend_from_slice(&[0; 16]);
    tree.extend_from_slice(&nodes);
    assert!(of(tree).is_broken());
}

/// How a first stage for TI begins, up to the size of what is in it.
const TI: [u8; 512] = {
    let mut table = [0; 512];
    let mut at = 0;
    while at < 10 {
        table[20 + at] = b"CHSETTINGS"[at];
        at += 1;
    }
    table
};

/// Reads and tells everything; no bytes may make it panic.
fn everything(bytes: Vec<u8>) {
    if let Ok(account) = examine(&Window::of_memory(bytes), "it", Vec::new()) {
        let _ = (
            account.text(80),
            account.html(),
            crate::draw::svg(&[&account.map()]),
            serde_json::to_string(&account).unwrap(),
        );
    }
}

/// The places where a card has what is read: tables, SPL, both file systems' beginnings.
fn places() -> impl Strategy<Value = usize> {
    let fat = MIB as usize;
    let ext = CARD.len() - 21 * MIB as usize;
    let near = |at: usize, size: usize| (at..at + size).boxed();
    prop_oneof![
        near(440, 1200),
        near(8 << 10, 64),
        near(40 << 10, 80),
        near(128 << 10, 600),
        near(fat, 600),
        near(fat + 16_384, 65_536),
        near(ext + 1024, 1024),
        near(ext + 4096, 65_536),
        near(CARD.len() - 8192, 8192),
        near(0, CARD.len()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_to_a_card_is_read(damage in prop::collection::vec((places(), prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1_usize..9), 1..12)) {
        let mut bytes = CARD.clone();
        for (at, value, count) in damage {
            let end = (at + count).min(bytes.len());
            bytes[at.min(end)..end].fill(value);
        }
        everything(bytes);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        magic in prop::sample::select(vec![
            &b""[..], b"\x27\x05\x19\x56", b"\xd0\x0d\xfe\xed", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"MZ",
            b"\x7fELF", b"\x01\x00\x64\xaa", b"\0\0\0\0eGON.BT0", b"RKNS", &TI, b"\xd1\x00\x20\x41", b"\x00\x20\x00\x87", b"070701", b"hsqs", b"\xeb\x3c\x90",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..6000),
        zeros in 0_usize..100_000,
    ) {
        everything([magic, &bytes, &vec![0; zeros]].concat());
    }

    #[test]
    fn any_damage_to_a_boot_file_is_read(which in 0_usize..4, at in 0_usize..8192, value: u8, cut in 0_usize..8192) {
        let tree = crate::fdt::empty().unwrap();
        let mut bytes = vec![hypervisor(), script(OURS), tree, kernel_image(&kernel(), Architecture::Aarch64, 0).unwrap()].swap_remove(which);
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        everything(bytes);
    }
}
