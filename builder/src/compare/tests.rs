//! Two images that differ in one thing each.

use super::*;
use crate::disk::{
    Blob, Content, DiskSpec, Ext4, Fat32, FileSpec, Gpt, PartitionSpec, Table, Volume, VolumeGroup, lvm_size,
    lvm_uuid, write_image,
};
use crate::progress::Progress;
use crate::tree::{Node, Owner, Tree};
use std::path::PathBuf;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// What an image is made of.
#[derive(Clone)]
struct Made {
    table: Table,
    disk_guid: u8,
    name: &'static str,
    size: u64,
    epoch: u64,
    fat_id: u32,
    fat: Vec<(&'static str, &'static str)>,
    hosts: Node,
    owner: Owner,
    more: Vec<(&'static str, Node)>,
    blob: &'static [u8],
    volume: &'static str,
}

fn file(mode: u32, text: &str) -> Node {
    Node::file(mode, text)
}

impl Default for Made {
    fn default() -> Self {
        Self {
            table: Table::Gpt(Gpt::USUAL),
            disk_guid: 1,
            name: "root",
            size: 96 * MIB,
            epoch: 1_700_000_000,
            fat_id: 5,
            fat: vec![("boot.scr", "script"), ("vambrace/kernel", "a kernel")],
            hosts: file(0o644, "localhost"),
            owner: Owner::ROOT,
            more: Vec::new(),
            blob: b"a first stage",
            volume: "in a volume",
        }
    }
}

impl Made {
    fn spec(&self) -> DiskSpec {
        let tree = |files: Vec<(&str, Node)>| {
            let mut tree = Tree::new();
            files.into_iter().for_each(|(path, node)| tree.insert(path, node).unwrap());
            tree
        };
        let hosts = self.hosts.clone().owned_by(self.owner);
        let root = tree([vec![("etc/hosts", hosts)], self.more.clone()].concat());
        let inner = tree(vec![("hello", file(0o644, self.volume))]);
        let ext4 = |label: &str, tree: Tree| {
            Content::Ext4(Ext4 { label: label.into(), uuid: [7; 16], tree: Arc::new(tree) })
        };
        let fat = self
            .fat
            .iter()
            .map(|(path, text)| FileSpec { path: (*path).into(), data: text.as_bytes().into() });
        let volume = Volume {
            name: "web".into(),
            uuid: lvm_uuid([9; 16]),
            size: 24 * MIB,
            content: ext4("web", inner),
        };
        let group = VolumeGroup {
            name: "guests".into(),
            uuid: lvm_uuid([8; 16]),
            physical_uuid: lvm_uuid([7; 16]),
            volumes: vec![volume],
        };
        let fat = Fat32 { label: "BOOT".into(), volume_id: self.fat_id, files: fat.collect() };
        let partitions = [
            ("boot", 34 * MIB, Content::Fat32(fat)),
            (self.name, 24 * MIB, ext4("root", root)),
            ("group", lvm_size([24 * MIB], 0), Content::Lvm(group)),
        ];
        let mut start = 2 * MIB;
        let partitions = partitions.into_iter().zip(1_u8..).map(|((name, size, content), number)| {
            let at = start;
            start += size;
            PartitionSpec {
                name: name.into(),
                type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
                mbr_type: 0x83,
                guid: [number; 16],
                start: at,
                size,
                bootable: false,
                content,
            }
        });
        DiskSpec {
            table: self.table,
            disk_guid: [self.disk_guid; 16],
            size: self.size,
            partitions: partitions.collect(),
            raw: vec![Blob { name: "first stage".into(), offset: MIB, data: self.blob.into() }],
            epoch: self.epoch,
        }
    }
}

struct Pair {
    _dir: tempfile::TempDir,
    paths: [PathBuf; 2],
}

impl Pair {
    fn new(a: &Made, b: &Made) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.img", "b.img"].map(|name| dir.path().join(name));
        for (path, made) in paths.iter().zip([a, b]) {
            write_image(path, &made.spec(), &Progress::quiet()).unwrap();
        }
        Self { _dir: dir, paths }
    }

    fn told(&self) -> Vec<String> {
        let regions = [Region { what: "firmware spl".into(), start: MIB, size: 64 << 10 }];
        let found = compare(&self.paths[0], &self.paths[1], &regions).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    /// Changes a byte of the second image.
    fn flip(&self, at: u64) {
        let file = File::options().read(true).write(true).open(&self.paths[1]).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
    }
}

/// The differences of the usual image and one with this change.
fn told(change: impl Fn(&mut Made)) -> Vec<String> {
    let mut other = Made::default();
    change(&mut other);
    Pair::new(&Made::default(), &other).told()
}

#[test]
fn the_same_is_the_same() {
    assert_eq!(told(|_| ()), Vec::<String>::new());
}

#[test]
fn a_file_systems_first_difference_is_named_by_path() {
    let ext4 = "partition 2 (root), /etc/hosts: ";
    type Change = Box<dyn Fn(&mut Made)>;
    let changes: Vec<(Change, String)> = vec![
        (
            Box::new(|made| made.hosts = file(0o600, "localhost")),
            format!("{ext4}its mode is 0644, and 0600 in the other"),
        ),
        (
            Box::new(|made| made.hosts = file(0o644, "localHost")),
            format!("{ext4}its content differs from byte 5 on"),
        ),
        (
            Box::new(|made| made.hosts = file(0o644, "local")),
            format!("{ext4}its size is 9 bytes, and 5 bytes in the other"),
        ),
        (
            Box::new(|made| made.hosts = Node::symlink("x")),
            format!("{ext4}its kind is a file, and a symbolic link in the other"),
        ),
        (
            Box::new(|made| made.owner = Owner { user: 1000, group: 100 }),
            format!("{ext4}its owner is 0:0, and 1000:100 in the other"),
        ),
        (
            Box::new(|made| made.more = vec![("etc/motd", file(0o644, "x"))]),
            "partition 2 (root), /etc/motd: it is only there in the other".into(),
        ),
        (
            Box::new(|made| made.fat = vec![("boot.scr", "Script"), ("vambrace/kernel", "a kernel")]),
            "partition 1 (boot), /boot.scr: its content differs from byte 0 on".into(),
        ),
        (
            Box::new(|made| made.fat = vec![("boot.scr", "script")]),
            "partition 1 (boot), /vambrace: it is not there in the other".into(),
        ),
        (
            Box::new(|made| made.fat_id = 6),
            "partition 1 (boot), the file system: its serial number is 00000005, and 00000006 in the other"
                .into(),
        ),
        (
            Box::new(|made| made.volume = "in A volume"),
            "partition 3 (group), volume `web`, /hello: its content differs from byte 3 on".into(),
        ),
    ];
    for (change, expected) in changes {
        let said = told(change);
        assert_eq!(said, [expected]);
    }
}

#[test]
fn times_differ_in_both_kinds_of_file_system() {
    let said = told(|made| made.epoch += 2);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].starts_with("partition 1 (boot), /boot.scr: its time is 2023-11-14 22:13:20"),
        "{said:?}"
    );
    assert!(said[1].starts_with("partition 2 (root), /: its time is 1700000000.000000000 s"), "{said:?}");
    assert!(said[2].starts_with("partition 3 (group), volume `web`, /: its time"), "{said:?}");
}

#[test]
fn devices_and_attributes_are_told_by_path() {
    let device = |minor| ("null", Node::char_device(0o666, 1, minor));
    let ping = |value: &[u8]| {
        let mut node = file(0o755, "ping");
        node.xattrs.insert(b"security.capability".to_vec(), value.to_vec());
        ("ping", node)
    };
    let (mut a, mut b) = (Made::default(), Made::default());
    (a.more, b.more) = (vec![device(3), ping(b"1")], vec![device(5), ping(b"1")]);
    let said = Pair::new(&a, &b).told();
    assert_eq!(said, ["partition 2 (root), /null: its device number is 1:3, and 1:5 in the other"]);
    b.more = vec![device(3), ping(b"2")];
    let said = Pair::new(&a, &b).told();
    assert_eq!(said.len(), 1);
    let attribute =
        "partition 2 (root), /ping: its list of extended attributes is security.capability (SHA-256 6b86";
    assert!(said[0].starts_with(attribute), "{said:?}");
}

#[test]
fn tables_are_compared_field_by_field() {
    let said = told(|made| made.disk_guid = 2);
    assert!(said[0].starts_with("the partition table: the disk's GUID is 01010101-"), "{said:?}");
    let said = told(|made| made.name = "Root");
    assert_eq!(said[0], "the partition table: partition 2's name is `root`, and `Root` in the other");
    let said = told(|made| made.size += MIB);
    assert_eq!(
        said[0],
        format!("the image: its size is {} bytes, and {} bytes in the other", 96 * MIB, 97 * MIB)
    );
    assert!(said[1].contains("the last usable block"), "{said:?}");
    let mbr = |signature| Made { table: Table::Mbr { signature }, ..Made::default() };
    let said = Pair::new(&mbr(1), &mbr(2)).told();
    assert_eq!(said[0], "the partition table: the disk's signature is 00000001, and 00000002 in the other");
    let said = told(|made| made.table = Table::Mbr { signature: 1 });
    assert_eq!(said[0], "the partition table: the kind is a GPT, and a master boot record in the other");
}

#[test]
fn what_lies_outside_has_its_name_in_the_plan() {
    let said = told(|made| made.blob = b"a First stage");
    assert_eq!(said, ["firmware spl: the first byte that differs is byte 0x100002"]);
    let pair = Pair::new(&Made::default(), &Made::default());
    pair.flip(3 * MIB / 2);
    assert_eq!(pair.told(), ["outside of every partition: the first byte that differs is byte 0x180000"]);
}

#[test]
fn damage_in_one_of_them_is_a_difference_and_no_error() {
    // Signatures, tables, superblock, folders, journal, metadata of the volume group: wherever a byte is another.
    let starts = [0, 2 * MIB, 36 * MIB, 60 * MIB];
    let offsets = [11, 13, 82, 510, 516, 592, 1080, 4128];
    let pair = Pair::new(&Made::default(), &Made::default());
    for at in starts.iter().flat_map(|start| offsets.map(|offset| start + offset)) {
        pair.flip(at);
        assert!(!pair.told().is_empty(), "{at:#x}");
        pair.flip(at);
    }
    assert!(pair.told().is_empty());
    for length in [0, 100, 512, 1000, MIB, 3 * MIB, 40 * MIB] {
        File::options().write(true).open(&pair.paths[1]).unwrap().set_len(length).unwrap();
        assert!(pair.told()[0].starts_with("the image: its size"), "{length}");
    }
    assert!(compare(&pair.paths[0], Path::new("/no/such/image"), &[]).is_err());
}

#[test]
fn a_folder_that_leads_into_itself_has_an_end() {
    let nested = |path: &'static str| Made { fat: vec![(path, "x")], ..Made::default() };
    let pair = Pair::new(&nested("a/b/c"), &nested("a/b/c"));
    let file = File::options().read(true).write(true).open(&pair.paths[1]).unwrap();
    let (mut volume, root) = crate::verify::fat::open(&file, 2 * MIB, 34 * MIB).unwrap();
    let paths: Vec<String> = volume.walk(root).unwrap().into_keys().collect();
    assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    // The entry of `b` in `a`: two links to folders come first, and a name of one letter has one entry.
    let mut entry = vec![0; 32];
    let places = (2 * MIB..4 * MIB).step_by(32);
    let place = places.into_iter().find(|&place| {
        file.read_exact_at(&mut entry, place).unwrap();
        entry.starts_with(b"B          \x10")
    });
    let parent = root + 1;
    file.write_all_at(&u16::try_from(parent).unwrap().to_le_bytes(), place.unwrap() + 26).unwrap();
    assert!(pair.told()[0].contains("belongs to two chains"), "{:?}", pair.told());
}
