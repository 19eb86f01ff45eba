//! Cards for real boards: firmware at a fixed byte beside a partition table, and an ext4 root file system; written, read
//! back by the builder's own eyes and by other people's tools.

mod support;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use vambrace::disk::{
    Blob, Content, DiskSpec, Ext4, Fat32, FileSpec, Gpt, PartitionSpec, Table, TreeSize, ext4_size,
    write_image,
};
use vambrace::image::packing::Packing;
use vambrace::image::{Image, Piece, bmap, map_of, pack, packed_path};
use vambrace::progress::Progress;
use vambrace::tree::{Node, Tree};
use vambrace::verify::verify_image;

use support::{noise, text, tool, write};

const MIB: u64 = 1 << 20;
const ROOT: u64 = 40 * MIB;
const SPL: u64 = 8192;
const EPOCH: u64 = 1_700_000_000;

const MBR: Table = Table::Mbr { signature: 0x1234_abcd };
/// What ends where Allwinner's ROM looks for its first stage.
const SHORT: Table = Table::Gpt(Gpt { entries: 56, entries_at: 2, first_usable: 8192 });
/// 128 entries behind the firmware.
const MOVED: Table = Table::Gpt(Gpt { entries: 128, entries_at: 2048, first_usable: 8192 });

fn tree() -> Tree {
    let mut tree = Tree::new();
    let mut add = |path: &str, node| tree.insert(path, node).unwrap();
    add("bin/busybox", Node::file(0o4755, noise(1_000_003, 1)));
    add("bin/sh", Node::symlink("busybox"));
    add("etc/long", Node::symlink(format!("/{}", "far/".repeat(40))));
    add("etc/empty", Node::file(0o600, ""));
    add("etc/one block", Node::file(0o640, noise(4096, 2)));
    add("etc/zeros", Node::file(0o644, vec![0; 100_000]));
    add("dev/console", Node::char_device(0o600, 5, 1));
    add("dev/mmcblk1p2", Node::block_device(0o660, 179, 300));
    add("tmp", Node::dir(0o1777));
    for index in 0..400 {
        add(
            &format!("usr/share/many/a file with a rather long name, number {index:04}"),
            Node::file(0o644, noise(index, 3)),
        );
    }
    tree
}

fn spec(table: Table) -> DiskSpec {
    let partition = |name: &str, mbr_type, guid, start, size, content| PartitionSpec {
        name: name.into(),
        type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
        mbr_type,
        guid: [guid; 16],
        start,
        size,
        bootable: guid == 1,
        content,
    };
    let files = vec![FileSpec { path: "boot.scr".into(), data: noise(3000, 4).into() }];
    let root = Ext4 { label: "vambrace-root".into(), uuid: [0xa5; 16], tree: Arc::new(tree()) };
    let root_size = ext4_size(TreeSize::of(&root.tree), 8 * MIB).unwrap();
    DiskSpec {
        table,
        disk_guid: [0x77; 16],
        size: 128 * MIB,
        partitions: vec![
            partition(
                "boot",
                0x0c,
                1,
                4 * MIB,
                36 * MIB,
                Content::Fat32(Fat32 { label: "VAMBRACE".into(), volume_id: 7, files }),
            ),
            partition("root", 0x83, 2, ROOT, root_size, Content::Ext4(root)),
        ],
        raw: vec![Blob { name: "first stage".into(), offset: SPL, data: noise(600_001, 5).into() }],
        epoch: EPOCH,
    }
}

/// The root file system alone, for tools that know no partitions.
fn root_file(dir: &Path, image: &Path) -> String {
    let Content::Ext4(_) = spec(MBR).partitions[1].content else { unreachable!() };
    let size = spec(MBR).partitions[1].size;
    let mut bytes = vec![0; size as usize];
    std::fs::File::open(image).unwrap().read_exact_at(&mut bytes, ROOT).unwrap();
    let path = dir.join("root.ext4");
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_table_leaves_the_firmware_whole_and_the_image_is_sparse() {
    for table in [MBR, SHORT, MOVED] {
        let (_dir, path) = write(&spec(table));
        verify_image(&path, &spec(table), &Progress::quiet()).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let mut firmware = vec![0; 600_001];
        file.read_exact_at(&mut firmware, SPL).unwrap();
        assert!(firmware == noise(600_001, 5), "{table:?}");
        let on_disk = file.metadata().unwrap().blocks() * 512;
        assert!(on_disk < 6 * MIB, "{on_disk} bytes for {table:?}");
    }
}

#[test]
fn the_usual_table_and_firmware_at_8_kib_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut DiskSpec), words: &str| {
        let mut spec = spec(SHORT);
        change(&mut spec);
        let report = write_image(&dir.path().join("x.img"), &spec, &Progress::quiet()).unwrap_err().report();
        assert!(report.contains(words), "`{words}` in {report}");
    };
    refused(
        |s| s.table = Table::Gpt(Gpt::USUAL),
        "first stage (bytes 0x2000 to 0x947c0) lies over the partition table",
    );
    refused(
        |s| s.table = Table::Gpt(Gpt { entries: 60, entries_at: 2, first_usable: 8192 }),
        "lies over the partition table",
    );
    refused(
        |s| s.table = Table::Gpt(Gpt { entries: 56, entries_at: 1000, first_usable: 8192 }),
        "lies over first stage",
    );
    refused(
        |s| s.table = Table::Gpt(Gpt { entries: 56, entries_at: 2, first_usable: 10_000 }),
        "before block 10000",
    );
    for (entries, entries_at, first_usable) in
        [(0, 2, 34), (57, 2, 34), (56, 1, 34), (56, 2, 15), (4096, 2, 8192)]
    {
        let mut spec = spec(SHORT);
        spec.table = Table::Gpt(Gpt { entries, entries_at, first_usable });
        assert!(spec.check().unwrap_err().report().contains("cannot be"), "{entries} at {entries_at}");
    }
    refused(|s| s.table = Table::Mbr { signature: 0 }, "signature is 0");
    refused(
        |s| {
            s.table = MBR;
            s.partitions.iter_mut().for_each(|partition| partition.bootable = true);
        },
        "at most one",
    );
    refused(
        |s| {
            s.table = MBR;
            let root = s.partitions[1].clone();
            s.partitions.extend([root.clone(), root.clone(), root]);
        },
        "the table holds 4",
    );
    refused(
        |s| {
            s.table = MBR;
            s.size = 3 << 40;
        },
        "2 TiB",
    );
    refused(
        |s| {
            if let Content::Ext4(root) = &mut s.partitions[1].content {
                root.label = "no spaces".into();
            }
        },
        "not an ext4 label",
    );
    refused(|s| s.partitions[1].size = 8 * MIB, "cannot make the ext4 file system");
}

#[test]
fn sgdisk_and_sfdisk_find_no_fault() {
    for (table, first) in [(SHORT, "8192"), (MOVED, "8192")] {
        let (_dir, path) = write(&spec(table));
        let path = path.to_str().unwrap();
        let Some(output) = tool("sgdisk", &["-v", path]) else { return };
        assert!(text(&output).contains("No problems found"), "{}", text(&output));
        let shown = text(&tool("sgdisk", &["-p", path]).unwrap());
        let entries = if table == SHORT { "56" } else { "128" };
        assert!(shown.contains(&format!("up to {entries} entries")), "{shown}");
        assert!(shown.contains(&format!("First usable sector is {first}")), "{shown}");
        let Some(dump) = tool("sfdisk", &["--dump", path]) else { return };
        assert!(text(&dump).contains("first-lba: 8192") && dump.status.success(), "{}", text(&dump));
        assert!(tool("sfdisk", &["--verify", path]).unwrap().status.success());
    }
    let (_dir, path) = write(&spec(MBR));
    let path = path.to_str().unwrap();
    let Some(dump) = tool("sfdisk", &["--dump", path]) else { return };
    let dump = text(&dump);
    assert!(dump.contains("label: dos") && dump.contains("label-id: 0x1234abcd"), "{dump}");
    let lines: Vec<&str> = dump.lines().filter(|line| line.contains("start=")).collect();
    assert!(lines[0].contains("start=        8192") && lines[0].contains("type=c, bootable"), "{dump}");
    assert!(lines[1].contains("type=83") && !lines[1].contains("bootable"), "{dump}");
    let checked = tool("sfdisk", &["--verify", path]).unwrap();
    assert!(checked.status.success() && text(&checked).contains("No errors detected"), "{}", text(&checked));
}

#[test]
fn e2fsck_finds_no_fault_and_debugfs_every_file() {
    let (dir, path) = write(&spec(MBR));
    let root = root_file(dir.path(), &path);
    let Some(output) = tool("e2fsck", &["-f", "-n", &root]) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let shown = text(&tool("dumpe2fs", &["-h", &root]).unwrap());
    for line in [
        "Filesystem volume name:   vambrace-root",
        "Filesystem UUID:          a5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5",
        "Filesystem state:         clean",
        "Filesystem created:       Tue Nov 14 22:13:20 2023",
        "Last write time:          Tue Nov 14 22:13:20 2023",
    ] {
        assert!(shown.contains(line), "`{line}` in {shown}");
    }
    for feature in ["has_journal", "extent", "metadata_csum"] {
        assert!(shown.contains(feature), "{shown}");
    }
    let stat = |path: &str| text(&tool("debugfs", &["-R", &format!("stat {path}"), &root]).unwrap());
    let busybox = stat("/bin/busybox");
    assert!(busybox.contains("Mode:  04755") && busybox.contains("User:     0   Group:     0"), "{busybox}");
    assert!(busybox.contains("ctime: 0x6553f100") && busybox.contains("crtime: 0x6553f100"), "{busybox}");
    assert!(stat("/dev/console").contains("Device major/minor number: 05:01"));
    assert!(stat("/dev/mmcblk1p2").contains("Device major/minor number: 179:300"));
    assert!(stat("/bin/sh").contains("Fast link dest: \"busybox\""));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    tool("debugfs", &["-R", &format!("rdump /usr /bin /etc {}", out.display()), &root]).unwrap();
    let mut seen = 0;
    for entry in tree().iter() {
        if let Some(data) = entry.node.data() {
            let path = entry.shown();
            assert!(std::fs::read(out.join(&path)).unwrap() == data.bytes(1 << 20).unwrap(), "{path}");
            seen += 1;
        }
    }
    assert_eq!(seen, 404);
}

/// What a map leaves out need not be zero: a card that was used keeps its old bytes there.
#[test]
fn packed_and_by_its_map_alone_it_gets_onto_a_used_card_whole() {
    let (dir, path) = write(&spec(MBR));
    let found = map_of(&path, &spec(MBR), None).unwrap();
    let map = path.with_file_name("disk.img.bmap");
    std::fs::write(&map, bmap::render(&found).unwrap()).unwrap();
    let original = std::fs::read(&path).unwrap();
    let card = dir.path().join("card");
    for (packing, program) in [(Packing::Zstd, "zstd"), (Packing::Gzip, "gzip"), (Packing::Xz, "xz")] {
        pack(&path, packing, &Progress::quiet()).unwrap();
        let packed = packed_path(&path, packing);
        std::fs::write(&card, vec![0xff; original.len()]).unwrap();
        let image = Image::open(&packed, spec(MBR).size, &Progress::quiet()).unwrap();
        assert_eq!(image.beside(), Some(&*map));
        let to = std::fs::OpenOptions::new().write(true).open(&card).unwrap();
        let take = |piece: Piece| to.write_all_at(&piece.data, piece.offset).is_ok();
        image.pieces(|_| false, take).unwrap();
        verify_image(&card, &spec(MBR), &Progress::quiet()).unwrap();
        if let Some(output) = tool(program, &["-dkc", packed.to_str().unwrap()]) {
            assert!(output.status.success() && output.stdout == original, "{program}");
        }
        // It finds the map by the packed image's name, and compares the hashes.
        let copy = dir.path().join("copy");
        let words = ["copy", packed.to_str().unwrap(), copy.to_str().unwrap()];
        if let Some(output) = tool("bmaptool", &words) {
            assert!(output.status.success() && text(&output).contains("bmap"), "{}", text(&output));
            assert!(std::fs::read(copy).unwrap() == original, "{}", text(&output));
        }
    }
    let root = root_file(dir.path(), &card);
    if let Some(output) = tool("e2fsck", &["-f", "-n", &root]) {
        assert!(output.status.success(), "{}", text(&output));
    }
    let boot = dir.path().join("boot.fat");
    std::fs::write(&boot, &std::fs::read(&card).unwrap()[4 * MIB as usize..ROOT as usize]).unwrap();
    if let Some(output) = tool("fsck.vfat", &["-n", "-v", boot.to_str().unwrap()]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Bytes of the root file system that somebody would miss.
fn places_in_root(file: &std::fs::File) -> Vec<(u64, &'static str)> {
    let mut bytes = vec![0; spec(MBR).partitions[1].size as usize];
    file.read_exact_at(&mut bytes, ROOT).unwrap();
    let mut blocks = (ROOT..).step_by(4096).zip(bytes.chunks(4096));
    // Folders lie before files, and these two in this order.
    let mut find = |wanted: &dyn Fn(&[u8]) -> bool| blocks.find(|(_, block)| wanted(block)).unwrap();
    let (folder, block) = find(&|block| block.windows(7).any(|name| name == b"busybox"));
    let name = folder + block.windows(7).position(|name| name == b"busybox").unwrap() as u64;
    let (busybox, _) = find(&|block| block.starts_with(&noise(64, 1)));
    let (one_block, _) = find(&|block| block.starts_with(&noise(64, 2)));
    vec![
        (ROOT + 1024 + 0x38, "signature"),
        (ROOT + 1024 + 0x3a, "state"),
        (ROOT + 1024 + 0x68, "UUID"),
        (ROOT + 1024 + 0x78, "label"),
        (ROOT + 1024 + 4, "size"),
        (name, "a name"),
        (busybox + 1_000_002, "a file's last byte"),
        (one_block, "a file"),
    ]
}

#[test]
fn damage_of_every_part_is_seen() {
    for table in [MBR, SHORT, MOVED] {
        let mut spec = spec(table);
        // What becomes of a damaged FAT is seen elsewhere.
        spec.partitions[0].content = Content::Empty;
        let (_dir, path) = write(&spec);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut places = vec![(SPL, "the first byte of the firmware"), (SPL + 600_000, "its last byte")];
        if table == MBR {
            places.extend(places_in_root(&file));
        }
        match table {
            Table::Mbr { .. } => places.extend([
                (440, "signature"),
                (446, "mark"),
                (450, "type"),
                (454, "place"),
                (478, "a third"),
            ]),
            Table::Gpt(shape) => places.extend([
                (512 + 40, "first usable block"),
                (512 + 80, "count of entries"),
                (shape.entries_at * 512 + 40, "an entry"),
                (128 * MIB - 512 - shape.entry_blocks() * 512 + 40, "a backup entry"),
            ]),
        }
        for (place, what) in places {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], place).unwrap();
            let result = verify_image(&path, &spec, &Progress::quiet());
            assert!(result.is_err(), "{what} at {place:#x} of {table:?}");
            file.write_all_at(&byte, place).unwrap();
        }
        verify_image(&path, &spec, &Progress::quiet()).unwrap();
        // Another tree than the one that is there.
        let mut other = spec;
        let mut more = tree();
        more.insert("etc/not there", Node::file(0o644, "")).unwrap();
        if let Content::Ext4(root) = &mut other.partitions[1].content {
            root.tree = Arc::new(more);
        }
        let report = verify_image(&path, &other, &Progress::quiet()).unwrap_err().report();
        assert!(report.contains("/etc/not there is missing"), "{report}");
    }
}

#[test]
fn the_same_description_gives_the_same_bytes() {
    let ((_a, first), (_b, second)) = (write(&spec(SHORT)), write(&spec(SHORT)));
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}
