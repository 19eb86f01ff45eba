//! Random file trees: written as ext4, judged by e2fsck, and every file of them compared with what debugfs reads; written
//! as an archive and read again. `VAMBRACE_TREES` says how many; a few where it says nothing.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vambrace::disk::{Content, DiskSpec, Ext4, PartitionSpec, Table, TreeSize, ext4_size, write_ext4};
use vambrace::progress::Progress;
use vambrace::tree::{Data, Kind, Node, Owner, Source, Tree, read_tar, write_tar};
use vambrace::verify::verify_image;

use support::{noise, text, tool, write};

const EPOCH: u64 = 1_700_000_000;
const MIB: u64 = 1 << 20;

/// How many trees are tried.
fn cases() -> u32 {
    std::env::var("VAMBRACE_TREES").ok().and_then(|count| count.parse().ok()).unwrap_or(16)
}

/// The same trees in every run.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Names: short, with characters that tools quote, of 255 bytes, and of a few letters, so that they meet.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-f]",
        3 => "[a-z0-9._+-]{1,20}",
        2 => "[ a-zäß☃'#$%&*?\\\\|<>]{1,12}",
        1 => "[a-z]{255}",
        1 => Just("é".repeat(127)),
    ]
    .prop_filter("a name", |name| !matches!(name.as_str(), "." | ".." | "lost+found"))
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => proptest::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/")),
        1 => proptest::collection::vec("[ab]{1,3}", 60..100).prop_map(|parts| parts.join("/")),
    ]
}

/// Contents: small, of odd lengths, and sparse ones of up to some TiB with pieces anywhere.
fn data() -> impl Strategy<Value = Data> {
    let dense = (0_usize..70_000, any::<u64>()).prop_map(|(length, seed)| Data::from(noise(length, seed)));
    let small = (0_usize..200, any::<u64>()).prop_map(|(length, seed)| Data::from(noise(length, seed)));
    let piece = (0_u64..3 << 30, 1_u64..20_000, any::<u64>());
    let sparse = (proptest::collection::vec(piece, 0..8), 0_u64..5 << 30).prop_map(|(pieces, end)| {
        let length: u64 = pieces.iter().map(|(hole, length, _)| hole + length).sum();
        let (mut data, mut at) = (Data::hole(length + end), 0);
        for (hole, length, seed) in pieces {
            at += hole;
            data.fill(at, length, &Source::Memory(noise(length as usize, seed).into()), 0).unwrap();
            at += length;
        }
        data
    });
    prop_oneof![4 => small, 2 => dense, 2 => sparse]
}

fn node() -> impl Strategy<Value = Node> {
    let device = (0_u32..1 << 12, 0_u32..1 << 20);
    let target = prop_oneof![1_usize..60, 58_usize..62, 60_usize..4096];
    let kind = prop_oneof![
        6 => data().prop_map(Kind::File),
        3 => Just(Kind::Dir),
        2 => target.prop_map(|length| Kind::Symlink(b"t/".iter().cycle().take(length).copied().collect())),
        1 => device.clone().prop_map(|(major, minor)| Node::char_device(0, major, minor).kind),
        1 => device.prop_map(|(major, minor)| Node::block_device(0, major, minor).kind),
        1 => Just(Kind::Fifo),
    ];
    let id = prop_oneof![Just(0_u32), 0_u32..70_000, any::<u32>()];
    let xattr = (
        prop_oneof![Just("security.capability".to_owned()), "user\\.[a-z]{1,40}", "trusted\\.[a-z.]{1,9}"],
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    let list = proptest::collection::vec((prop_oneof![Just(2_u16), Just(8)], 0_u16..8, any::<u32>()), 0..5);
    let list = list.prop_map(|entries| {
        let all = u32::MAX;
        let entries =
            [(1, 7, all)].into_iter().chain(entries).chain([(4, 5, all), (16, 7, all), (32, 0, all)]);
        let entries = entries.flat_map(|(tag, mode, number): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &mode.to_le_bytes(), &number.to_le_bytes()].concat()
        });
        ("system.posix_acl_access".to_owned(), [2, 0, 0, 0].into_iter().chain(entries).collect::<Vec<u8>>())
    });
    let xattr = prop_oneof![4 => xattr, 1 => list];
    let xattrs = prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(xattr, 1..5)];
    (kind, 0_u32..=0o7777, (id.clone(), id), xattrs).prop_map(|(kind, mode, (user, group), xattrs)| {
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
        let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        Node { kind, mode, owner: Owner { user, group }, xattrs }
    })
}

/// A tree of what can be put together of these; what is in the way of something else is left out.
fn tree() -> impl Strategy<Value = Tree> {
    let link = (any::<prop::sample::Index>(), path());
    (proptest::collection::vec((path(), node()), 0..40), proptest::collection::vec(link, 0..10)).prop_map(
        |(nodes, links)| {
            let mut tree = Tree::new();
            for (path, node) in nodes {
                let _ = tree.insert(path, node);
            }
            let paths: Vec<Vec<u8>> = tree.iter().map(|entry| entry.path.to_vec()).collect();
            for (index, path) in links {
                if !paths.is_empty() {
                    let _ = tree.link(path, index.get(&paths));
                }
            }
            tree
        },
    )
}

/// Both trees have the same names, of the same files, with the same contents.
fn assert_same(a: &Tree, b: &Tree) {
    let mut inodes = BTreeMap::new();
    assert_eq!(a.iter().count(), b.iter().count());
    for (a, b) in a.iter().zip(b.iter()) {
        assert_eq!((a.path, a.links), (b.path, b.links));
        assert_eq!(*inodes.entry(a.inode).or_insert(b.inode), b.inode, "{}", a.shown());
        let ((Some(ours), Some(theirs)), Node { owner, mode, .. }) = ((a.node.data(), b.node.data()), a.node)
        else {
            assert!(a.node.same(b.node).unwrap(), "{}", a.shown());
            continue;
        };
        assert_eq!((owner, mode, &a.node.xattrs), (&b.node.owner, &b.node.mode, &b.node.xattrs));
        assert_eq!((ours.len(), ours.extents(4096)), (theirs.len(), theirs.extents(4096)), "{}", a.shown());
        assert!(pieces(ours) == pieces(theirs), "{}", a.shown());
    }
}

/// What is not a hole, by its place.
fn pieces(data: &Data) -> Vec<(u64, Vec<u8>)> {
    let mut pieces = Vec::new();
    for extent in data.extents(4096) {
        let mut bytes = Vec::new();
        data.range(extent.clone()).read_to_end(&mut bytes).unwrap();
        pieces.push((extent.start, bytes));
    }
    pieces
}

#[test]
fn an_archive_keeps_all_of_a_tree() {
    runner(cases())
        .run(&tree(), |tree| {
            let mut archive = Vec::new();
            write_tar(&tree, EPOCH, &mut archive).unwrap();
            assert_same(&tree, &read_tar(&Source::Memory(archive.into())).unwrap());
            Ok(())
        })
        .unwrap();
}

/// An image that is one ext4 file system, for the builder's own eyes.
fn disk(tree: Tree) -> DiskSpec {
    let tree = Arc::new(tree);
    let size = ext4_size(TreeSize::of(&tree), 0).unwrap();
    let content = Content::Ext4(Ext4 { label: "root".into(), uuid: [0xa5; 16], tree });
    let partition = PartitionSpec {
        name: "root".into(),
        type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
        mbr_type: 0x83,
        guid: [1; 16],
        start: MIB,
        size,
        bootable: false,
        content,
    };
    DiskSpec {
        table: Table::Mbr { signature: 7 },
        disk_guid: [0; 16],
        size: MIB + size,
        partitions: vec![partition],
        raw: Vec::new(),
        epoch: EPOCH,
    }
}

#[test]
fn what_was_written_is_what_is_read_back() {
    runner(cases())
        .run(&tree(), |tree| {
            let spec = disk(tree);
            let (_dir, path) = write(&spec);
            verify_image(&path, &spec, &Progress::quiet()).unwrap();
            Ok(())
        })
        .unwrap();
}

/// What debugfs has to say to each of these commands about the file system in `image`.
fn debugfs(dir: &Path, image: &Path, commands: &[String]) -> Vec<Vec<String>> {
    if commands.is_empty() {
        return Vec::new();
    }
    let list = dir.join("commands");
    std::fs::write(&list, commands.join("\n") + "\n").unwrap();
    let args = ["-f", list.to_str().unwrap(), image.to_str().unwrap()];
    let output = tool("debugfs", &args).unwrap();
    let mut answers: Vec<Vec<String>> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // It repeats each command.
        if line.starts_with("debugfs: ") {
            answers.push(Vec::new());
        } else {
            answers.last_mut().unwrap().push(line.to_owned());
        }
    }
    assert_eq!(answers.len(), commands.len(), "{}", text(&output));
    answers
}

/// The number behind `label` in what `stat` says.
fn number(answer: &[String], label: &str) -> u64 {
    let rest = answer.iter().find_map(|line| Some(line.split_once(label)?.1.trim_start()));
    let digits: String = rest.unwrap().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{label} in {answer:?}"))
}

/// Compares the file system in `image` with `tree` by debugfs alone.
fn compare(dir: &Path, image: &Path, tree: &Tree) {
    let quoted = |path: &[u8]| format!("\"/{}\"", String::from_utf8(path.to_vec()).unwrap());
    let inner = tree.iter().filter(|entry| entry.node.is_dir()).map(|entry| entry.path);
    let folders: Vec<&[u8]> = std::iter::once(&b""[..]).chain(inner).collect();
    let commands: Vec<String> = folders.iter().map(|path| format!("ls -p {}", quoted(path))).collect();
    let mut there = BTreeMap::<Vec<u8>, (u64, String)>::new();
    for (folder, answer) in folders.iter().zip(debugfs(dir, image, &commands)) {
        for line in answer.iter().filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split('/').collect();
            let ["", inode, mode, user, group, name, ..] = fields[..] else { panic!("{line}") };
            if !matches!(name, "." | ".." | "lost+found") {
                let path = [folder, name.as_bytes()].join(&b'/');
                let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
                there.insert(path, (inode.parse().unwrap(), format!("{mode} {user} {group}")));
            }
        }
    }
    let names: Vec<&[u8]> = there.keys().map(Vec::as_slice).collect();
    assert_eq!(names, tree.iter().map(|entry| entry.path).collect::<Vec<_>>());
    let (mut inodes, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    let mut commands = Vec::new();
    for entry in tree.iter() {
        let (number, looks) = &there[entry.path];
        let (node, path) = (entry.node, quoted(entry.path));
        let owner = node.owner;
        // It shows numbers with a sign.
        let (user, group) = (owner.user.cast_signed(), owner.group.cast_signed());
        let expected = format!("{:06o} {user} {group}", node.type_bits() | node.mode);
        assert_eq!(*looks, expected, "{path}");
        assert_eq!(*inodes.entry(entry.inode).or_insert(*number), *number, "{path}");
        assert_eq!(*numbers.entry(*number).or_insert(entry.inode), entry.inode, "{path}");
        commands.extend([format!("stat {path}"), format!("ex -l {path}")]);
        for (index, name) in node.xattrs.keys().enumerate() {
            let file = dir.join(format!("xattr-{number}-{index}"));
            let name = String::from_utf8(name.clone()).unwrap();
            commands.push(format!("ea_get -f {} {path} {name}", file.display()));
        }
    }
    let mut answers = debugfs(dir, image, &commands).into_iter();
    let file = File::open(image).unwrap();
    for entry in tree.iter() {
        let (node, path) = (entry.node, entry.shown());
        let (stat, extents) = (answers.next().unwrap(), answers.next().unwrap());
        if !node.is_dir() {
            assert_eq!(number(&stat, "Links: "), u64::from(entry.links), "{path}");
        }
        assert!(stat.iter().any(|line| line.contains("mtime: 0x6553f100")), "{stat:?}");
        if let Some(device) = node.device() {
            let shown = format!("Device major/minor number: {:02}:{:02}", device.major, device.minor);
            assert!(stat.iter().any(|line| line.contains(&shown)), "{shown} in {stat:?}");
        }
        let fast = stat.iter().find_map(|line| line.strip_prefix("Fast link dest: "));
        let target = node.target().map(Data::from);
        let data = if fast.is_some() { None } else { node.data().or(target.as_ref()) };
        if let (Some(fast), Some(target)) = (fast, node.target()) {
            assert_eq!(fast.trim_matches('"').as_bytes(), target);
        }
        if let Some(data) = data {
            assert_eq!(number(&stat, "Size: "), data.len(), "{path}");
            let mut found = Vec::<(u64, Vec<u8>)>::new();
            for line in extents.iter().skip(1) {
                let words: Vec<&str> = line.split(['/', '-', ' ']).filter(|word| !word.is_empty()).collect();
                let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).collect();
                let (at, place, count) = (numbers[4] * 4096, numbers[6] * 4096, numbers[8] * 4096);
                let mut bytes = vec![0; count.min(data.len() - at) as usize];
                file.read_exact_at(&mut bytes, place).unwrap();
                match found.last_mut() {
                    Some((start, before)) if *start + before.len() as u64 == at => before.extend(bytes),
                    _ => found.push((at, bytes)),
                }
            }
            assert!(found == pieces(data), "{path}: {extents:?}");
        }
        for (index, (name, value)) in node.xattrs.iter().enumerate() {
            answers.next().unwrap();
            let file = dir.join(format!("xattr-{}-{index}", there[entry.path].0));
            let mut found = std::fs::read(file).unwrap();
            if name.starts_with(b"system.posix_acl") {
                // It has 0 for no number, where Linux has all bits.
                found[4..]
                    .as_chunks_mut::<8>()
                    .0
                    .iter_mut()
                    .filter(|entry| !matches!(entry[0], 2 | 8))
                    .for_each(|entry| entry[4..].fill(0xff));
            }
            assert_eq!(&found, value, "{path}");
        }
    }
}

/// Writes `tree` as ext4 into a file.
fn written(dir: &Path, tree: &Tree) -> std::path::PathBuf {
    let path = dir.join("root.ext4");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    let spec = Ext4 { label: "root".into(), uuid: [0xa5; 16], tree: Arc::new(tree.clone()) };
    let size = ext4_size(TreeSize::of(tree), 0).unwrap();
    write_ext4(&file, &spec, size, EPOCH).unwrap();
    path
}

#[test]
fn e2fsck_finds_no_fault_and_debugfs_the_same_tree() {
    if tool("debugfs", &["-V"]).is_none() {
        return;
    }
    runner(cases())
        .run(&tree(), |tree| {
            let dir = tempfile::tempdir().unwrap();
            let image = written(dir.path(), &tree);
            let checked = tool("e2fsck", &["-fn", image.to_str().unwrap()]).unwrap();
            prop_assert!(checked.status.success(), "{}", text(&checked));
            compare(dir.path(), &image, &tree);
            Ok(())
        })
        .unwrap();
}

#[test]
fn another_tree_than_the_one_that_is_there_is_seen() {
    let base = || {
        let mut tree = Tree::new();
        let mut file = Node::file(0o755, noise(9000, 1));
        file.xattrs.insert(b"security.capability".to_vec(), vec![1, 2, 3]);
        tree.insert("bin/ping", file).unwrap();
        tree.link("bin/ping6", "bin/ping").unwrap();
        tree.insert("bin/other", Node::file(0o755, noise(9000, 1))).unwrap();
        tree.insert("pong", Node::file(0o755, "pong")).unwrap();
        tree.link("pong6", "pong").unwrap();
        tree.insert("pang", Node::file(0o755, "pong")).unwrap();
        tree.link("pang6", "pang").unwrap();
        tree.insert("dev/vda", Node::block_device(0o660, 254, 300)).unwrap();
        let mut sparse = Data::hole(1 << 33);
        sparse.fill(1 << 32, 5000, &Source::Memory(noise(5000, 2).into()), 0).unwrap();
        tree.insert("sparse", Node::file(0o644, sparse)).unwrap();
        tree
    };
    let (_dir, path) = write(&disk(base()));
    verify_image(&path, &disk(base()), &Progress::quiet()).unwrap();
    let differs = |change: &dyn Fn(&mut Tree), words: &str| {
        let mut tree = base();
        change(&mut tree);
        let mut spec = disk(base());
        if let Content::Ext4(root) = &mut spec.partitions[0].content {
            root.tree = Arc::new(tree);
        }
        let report = verify_image(&path, &spec, &Progress::quiet()).unwrap_err().report();
        assert!(report.contains(words), "`{words}` in {report}");
    };
    let again = |tree: &mut Tree, path: &str, change: &dyn Fn(&mut Node)| {
        let mut node = tree.get(path).unwrap().clone();
        change(&mut node);
        tree.replace(path, node).unwrap();
    };
    differs(&|tree| again(tree, "bin/ping6", &|_| {}), "another name of a file that it should not be");
    differs(
        &|tree| {
            for path in ["pong", "pong6", "pang", "pang6"] {
                tree.remove(path);
            }
            tree.insert("pong", Node::file(0o755, "pong")).unwrap();
            tree.insert("pong6", Node::file(0o755, "pong")).unwrap();
            tree.link("pang", "pong6").unwrap();
            tree.link("pang6", "pong").unwrap();
        },
        "another name of a file",
    );
    differs(
        &|tree| {
            tree.remove("bin/other");
            tree.link("bin/other", "bin/ping").unwrap();
        },
        "one by itself",
    );
    differs(
        &|tree| {
            tree.remove("bin/ping6");
            tree.remove("bin/ping");
            tree.insert("bin/ping", Node::file(0o755, noise(9000, 1))).unwrap();
            tree.link("bin/ping6", "bin/ping").unwrap();
        },
        "extended attributes",
    );
    differs(
        &|tree| {
            tree.remove("dev/vda");
            tree.insert("dev/vda", Node::block_device(0o660, 254, 44)).unwrap();
        },
        "Device { major: 254, minor: 300 }",
    );
    differs(
        &|tree| again(tree, "sparse", &|node| node.kind = Kind::File(Data::hole(1 << 33))),
        "other holes",
    );
    differs(
        &|tree| {
            let mut other = Data::hole(1 << 33);
            other.fill(1 << 32, 5000, &Source::Memory(noise(5000, 3).into()), 0).unwrap();
            again(tree, "sparse", &|node| node.kind = Kind::File(other.clone()));
        },
        "differs behind byte 4294967296",
    );
    differs(&|tree| again(tree, "bin/other", &|node| node.owner.group = 4), "belongs to 0:0");
}

#[test]
fn what_ext4_or_its_writer_does_not_take_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &[u8], node: Node, words: &str| {
        let mut tree = Tree::new();
        tree.insert(path, node).unwrap();
        let file = File::create(dir.path().join("x")).unwrap();
        let spec = Ext4 { label: "root".into(), uuid: [7; 16], tree: Arc::new(tree) };
        let report = write_ext4(&file, &spec, 64 * MIB, EPOCH).unwrap_err().report();
        assert!(report.contains(words), "`{words}` in {report}");
    };
    let marked = |name: &[u8], length: usize| {
        let mut node = Node::dir(0o755);
        node.xattrs.insert(name.to_vec(), vec![1; length]);
        node
    };
    refused(b"a/not \xff utf-8", Node::dir(0o755), "a/not \\xff utf-8");
    refused(b"link", Node::symlink(b"\xff".to_vec()), "cannot put link");
    refused(b"big", Node::file(0o644, Data::hole(1 << 44)), "more than a file of ext4");
    refused(b"full", Node::file(0o644, vec![1; 80 << 20]), "larger `min-size`");
    refused(b"lost+found", Node::dir(0o755), "belongs to the file system");
    refused(b"acl", marked(b"system.posix_acl_access", 28), "access control list is damaged");
    refused(b"odd", marked(b"odd.name", 1), "odd");
    refused(b"value", marked(b"user.large", 5000), "cannot");
}

/// What takes long: by hand, and in `ci/test trees`.
#[test]
#[ignore = "takes a minute"]
fn two_hundred_thousand_files_in_one_folder_and_in_many() {
    for folders in [1, 2000] {
        let mut tree = Tree::new();
        for index in 0..200_000_u32 {
            let data = Data::from(index.to_le_bytes().as_slice());
            tree.insert(format!("d{}/file number {index}", index % folders), Node::file(0o644, data))
                .unwrap();
        }
        let spec = disk(tree);
        let (dir, path) = write(&spec);
        verify_image(&path, &spec, &Progress::quiet()).unwrap();
        let Content::Ext4(root) = &spec.partitions[0].content else { panic!("no ext4") };
        let image = written(dir.path(), &root.tree);
        let Some(checked) = tool("e2fsck", &["-fn", image.to_str().unwrap()]) else { return };
        assert!(checked.status.success(), "{}", text(&checked));
    }
}
