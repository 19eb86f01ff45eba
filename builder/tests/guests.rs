//! Guests that an image's description brings along: what is said of a bad description, and what is planned of a good one.

use std::path::Path;

use vambrace::config::ImageConfig;
use vambrace::decision::{Decision, Request};
use vambrace::disk::TreeSize;
use vambrace::guest::{GuestArtifacts, GuestDiskArtifact, Medium};
use vambrace::kernel::Format;
use vambrace::layout::{Content, Filesystem};
use vambrace::plan::{Artifact, Artifacts, Header, Plan, RootArtifact, Tree};
use vambrace::workspace::Workspace;
use vambrace_bsp::Architecture;
use vambrace_core::platform::tree;

const MIB: u64 = 1 << 20;

/// One guest of each kind.
const GOOD: &str = r#"
board = "qemu-arm64"

[volume-group]
name = "guests"
free = "16M"

[[guest]]
name = "web"
start = "auto"
memory = "192M"
vcpus = 2

[[guest.disk]]
name = "root"
on = "volume"
content = "minimal"

[[guest.disk]]
name = "data"
on = "partition"
size = "24M"

[[guest.network]]
bridge = "xenbr0"

[[guest]]
name = "still"
start = "static"
memory = "128M"
vuart = true
args = "console=ttyAMA0"

[[guest.event-channel]]
port = 10
peer = "dom0"
peer-port = 11
"#;

fn workspace() -> Workspace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Workspace::open(Some(&root), None).unwrap()
}

fn decide(board: &str, text: &str) -> vambrace::error::Result<Decision> {
    let config = ImageConfig::parse("image.toml", text)?;
    Decision::new(&workspace(), &Request { board: board.to_owned(), config, ..Request::default() })
}

fn part(size: u64) -> Artifact {
    Artifact { from: "a test".into(), size, sha256: Some(format!("{size:x}")), header: None }
}

/// Parts as they may well be, with a tree where the board's image carries one.
fn artifacts(decision: &Decision) -> Artifacts {
    let executable = |architecture: Architecture, size: u64, image_size: u64| {
        let format = Format::of(architecture);
        let header = Header { format, text_offset: 0, image_size, loads_anywhere: true, gzip: false };
        Artifact { header: Some(header), ..part(size) }
    };
    let root = || RootArtifact {
        artifact: part(2 << 20),
        tree: TreeSize { inodes: 500, blocks: 1000 },
        uuid: "x".into(),
    };
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../hypervisor/core/tests/fixtures/qemu-virt-gicv3.dtb");
    let device_tree = decision.board.device_tree.is_carried().then(|| {
        let data: std::sync::Arc<[u8]> = std::fs::read(&fixture).unwrap().into();
        Tree { artifact: part(data.len() as u64), data }
    });
    let guests = decision.guests.config.guests.iter().map(|guest| GuestArtifacts {
        name: guest.name.clone(),
        start: guest.start,
        kernel: executable(decision.dom0_arch, 9_000_001, 40 << 20),
        ramdisk: Some(part(1_000_003)),
        device_tree: None,
        devices: Vec::new(),
        disks: guest
            .disks
            .iter()
            .map(|disk| GuestDiskArtifact {
                name: format!("{}-{}", guest.name, disk.name),
                on: disk.on,
                size: disk.size.map_or(77 * MIB, |size| size.bytes()),
                root: disk.content.profile().map(|_| root()),
            })
            .collect(),
    });
    Artifacts {
        hypervisor: executable(decision.board.architecture, 256 << 10, 3 << 20),
        kernel: executable(decision.dom0_arch, 8_000_001, 40 << 20),
        ramdisk: part(1_500_003),
        root: decision.layout.root().map(|_| root()),
        device_tree,
        firmware: decision.boot.firmware.iter().map(|name| (name.clone(), part(700_000))).collect(),
        guests: guests.collect(),
    }
}

#[test]
fn a_bad_description_is_told_with_line_and_field() {
    ImageConfig::parse("image.toml", GOOD).unwrap();
    for (from, to, expected) in [
        ("name = \"web\"", "nmae = \"web\"", "image.toml:9:1: in `guest.0.nmae`: unknown key `nmae`"),
        ("start = \"auto\"", "start = \"atuo\"", "image.toml:10:9: in `guest.0.start`: unknown value `atuo`"),
        ("on = \"volume\"", "on = \"volum\"", "unknown value `volum`"),
        ("memory = \"192M\"", "memory = \"192Q\"", "in `guest.0.memory`: `192Q` is not a size"),
        (
            "memory = \"192M\"",
            "memory = \"1000K\"",
            "image.toml:11:10: in `guest.0.memory`: 1000K is not a multiple of 1M",
        ),
        ("vcpus = 2", "vcpus = 0", "in `guest.0.vcpus`: 0 is not from 1 to 128"),
        ("name = \"still\"", "name = \"web\"", "in `guest.1.name`: there are two guests called `web`"),
        ("name = \"web\"", "name = \"../web\"", "in `guest.0.name`: `../web` is not 1 to 32 of"),
        ("name = \"web\"", "name = \"dom0\"", "in `guest.0.name`: `dom0` is not a guest's"),
        ("name = \"data\"", "name = \"root\"", "in `guest.0.disk.1.name`: there are two disks called `root`"),
        ("size = \"24M\"", "device = \"xvdc\"", "in `guest.0.disk.1.size`: an empty disk has to have a size"),
        (
            "size = \"24M\"",
            "size = \"24M\"\nformat = \"qcow2\"",
            "in `guest.0.disk.1.format`: only a disk in a file",
        ),
        ("size = \"24M\"", "size = \"24M\"\ndevice = \"xvda\"", "two disks are `xvda`"),
        (
            "size = \"24M\"",
            "size = \"24M\"\ndevice = \"sda\"",
            "in `guest.0.disk.1.device`: `sda` is not xvda",
        ),
        ("on = \"partition\"\nsize = \"24M\"", "on = \"file\"\nsize = \"2G\"", "take format = \"qcow2\""),
        ("name = \"guests\"", "name = \"-x\"", "in `volume-group.name`: `-x`"),
        ("bridge = \"xenbr0\"", "", "in `guest.0.network.0`: say either `bridge` or `open-vswitch`"),
        ("bridge = \"xenbr0\"", "bridge = \"xen br0\"", "in `guest.0.network.0.bridge`: `xen br0`"),
        ("bridge = \"xenbr0\"", "bridge = \"b\"\nmac = \"01:02:03:04:05:06\"", "in `guest.0.network.0.mac`"),
        ("args = \"console=ttyAMA0\"", "args = \"a\\\"b\"", "in `guest.1.args`: '\"' cannot be passed on"),
        ("peer = \"dom0\"", "peer = \"dom1\"", "no static guest is called `dom1`; did you mean `dom0`?"),
        ("peer = \"dom0\"\npeer-port = 11", "peer = \"still\"\npeer-port = 10", "is an end of two channels"),
        (
            "start = \"static\"",
            "start = \"xl\"",
            "in `guest.1.event-channel`: only a guest with start = \"static\"",
        ),
        ("vuart = true", "kernel = \"none\"", "in `guest.1.kernel`: a guest has to have a kernel"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = ImageConfig::parse("image.toml", &GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{to}: {error}");
        assert!(error.report().contains(" | "), "the line is shown: {}", error.report());
    }
}

#[test]
fn what_does_not_fit_the_board_is_refused() {
    let error =
        decide("qemu-arm64", &GOOD.replace("content = \"minimal\"", "content = \"minimla\"")).unwrap_err();
    assert!(
        error.to_string().contains("in `guest.0.disk.0.content`: no profile is called `minimla`"),
        "{error}"
    );
    assert!(error.report().contains("did you mean `minimal`?"), "{}", error.report());
    let wide = GOOD.replace("name = \"still\"", "name = \"still\"\narchitecture = \"aarch64\"");
    let error = decide("vexpress-a15", &wide).unwrap_err();
    assert!(error.to_string().contains("in `guest.1.architecture`"), "{error}");
    let large = decide("qemu-arm64", &GOOD.replace("memory = \"128M\"", "memory = \"4G\"")).unwrap();
    let error = Plan::new(&large, artifacts(&large)).unwrap_err();
    assert!(error.what().contains("the guests that the hypervisor starts need 4096 MiB"), "{error}");
}

#[test]
fn a_guest_has_no_more_cpus_than_the_interrupt_controller_serves() {
    let with =
        |board: &str, vcpus: u32| decide(board, &GOOD.replace("vcpus = 2", &format!("vcpus = {vcpus}")));
    for (board, vcpus) in [("qemu-arm64", 8), ("qemu-arm64:gicv3", 128)] {
        with(board, vcpus).unwrap();
    }
    let report = with("qemu-arm64", 9).unwrap_err().report();
    for expected in [
        "image.toml:12:9: in `guest.0.vcpus`: the guest `web` cannot have 9 CPUs: the gicv2 of qemu-arm64:gicv2 serves at most 8",
        "12 | vcpus = 9",
        "--variant gicv3 takes as many",
    ] {
        assert!(report.contains(expected), "{report}");
    }
    let report = with("qemu-armv7", 9).unwrap_err().report();
    assert!(
        report.contains("the gicv2 of qemu-armv7 serves") && report.contains("give 1 to 8 with `vcpus`"),
        "{report}"
    );
}

#[test]
fn an_image_has_its_description_s_name() {
    for (file, expected) in [
        ("some/where/web.toml", "gpt-uboot-root-minimal+web.img"),
        ("Two Guests.v2.toml", "gpt-uboot-root-minimal+two-guests-v2.img"),
        ("/dev/stdin", "gpt-uboot-root-minimal+stdin.img"),
    ] {
        let config = ImageConfig::parse(file, GOOD).unwrap();
        let request = Request { board: "qemu-arm64".into(), config, ..Request::default() };
        let image = Decision::new(&workspace(), &request).unwrap().image;
        assert_eq!(image, Path::new("out/qemu-arm64").join(expected));
    }
    let request = Request { board: "qemu-arm64".into(), ..Request::default() };
    let image = Decision::new(&workspace(), &request).unwrap().image;
    assert_eq!(image, Path::new("out/qemu-arm64/gpt-uboot-minimal.img"));
}

#[test]
fn a_layout_with_dom0_s_root_is_taken_where_guests_need_one() {
    let decision = decide("qemu-arm64", GOOD).unwrap();
    assert_eq!(decision.layout.id, "gpt-uboot-root");
    let alone = GOOD.split("[[guest]]").last().unwrap();
    let decision = decide("qemu-arm64", &format!("[[guest]]{alone}")).unwrap();
    assert_eq!(decision.layout.id, "gpt-uboot", "a static guest needs nothing of dom0's");
}

#[test]
fn partitions_and_volumes_are_planned_before_dom0_s_root() {
    let decision = decide("qemu-arm64", GOOD).unwrap();
    let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
    let sizes: Vec<(&str, u64)> = plan
        .disk
        .partitions
        .iter()
        .skip(1)
        .map(|planned| (planned.name.as_str(), planned.size / MIB))
        .collect();
    // 77 MiB in extents of 4 MiB are 80, and 16 are free; 1 is for LVM itself.
    assert_eq!(sizes[..2], [("web-data", 24), ("guests", 97)]);
    assert_eq!(sizes[2].0, "vambrace-root");
    assert!(decision.guests.config.guests[0].disks.iter().any(|disk| disk.on == Medium::Volume));
    assert_eq!(plan.disk.partitions[2].filesystem, Filesystem::Lvm);
    for pair in plan.disk.extents.windows(2) {
        assert!(pair[0].start + pair[0].size <= pair[1].start, "{pair:?}");
    }
}

#[test]
fn the_boot_script_loads_and_describes_static_guests() {
    let decision = decide("qemu-arm64", GOOD).unwrap();
    let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
    let kernel = plan.loads.iter().find(|load| load.path == "vambrace/guests/still/kernel").unwrap();
    assert!(matches!(kernel.content, Content::Guest(_)) && kernel.size == 9_000_001);
    let node = format!("/chosen/domain-still/module@{:x}", kernel.address);
    for expected in [
        format!(" {:#x} vambrace/guests/still/kernel;", kernel.address),
        "fdt set /chosen/domain-still memory <0x0 0x20000>;".to_owned(),
        format!("fdt set {node} bootargs \"console=ttyAMA0\";"),
        "fdt set /chosen/evtchn@b xen,evtchn <0xb 0x40000000>;".to_owned(),
    ] {
        assert!(plan.boot_text.contains(&expected), "{expected}: {}", plan.boot_text);
    }
    let mut regions = plan.ram_map.clone();
    regions.sort_by_key(|region| region.start);
    for pair in regions.windows(2) {
        assert!(pair[0].start + pair[0].size <= pair[1].start, "{pair:?}");
    }
}

/// Two static guests that share memory: `host` is said of its place in the machine, `size` is its size.
fn sharing(size: &str, host: &str) -> String {
    ["one", "two"]
        .map(|name| {
            let owner = name == "one";
            format!(
                "[[guest]]\nname = \"{name}\"\nstart = \"static\"\nmemory = \"128M\"\n[[guest.shared-memory]]\nid = \"mail\"\n\
                 size = \"{size}\"\naddress = 0x7000_0000\nowner = {owner}\n{host}\n"
            )
        })
        .concat()
}

#[test]
fn nothing_is_loaded_to_memory_that_guests_share() {
    let plan = |text: &str| {
        let decision = decide("qemu-arm64", text).unwrap();
        Plan::new(&decision, artifacts(&decision))
    };
    let host = |at: u64| sharing("1M", &format!("host-address = {at:#x}"));
    let free = plan(&sharing("1M", "")).unwrap();
    for load in &free.loads {
        let around = plan(&host(load.address)).unwrap();
        let shared = around.ram_map.iter().filter(|region| region.what.contains("`mail`"));
        let shared: Vec<(u64, u64)> = shared.map(|region| (region.start, region.size)).collect();
        assert_eq!(shared, [(load.address, MIB)], "two guests have it, and it is there once");
        for load in &around.loads {
            let clear = load.address + load.size <= shared[0].0 || load.address >= shared[0].0 + MIB;
            assert!(clear, "{load:?}");
        }
    }
    let other = "[[guest.shared-memory]]\nid = \"more\"\nsize = \"4K\"\naddress = 0x7800_0000\n\
                 host-address = 0x6000_1000\nowner = true\n";
    for (text, expected) in [
        (host(0xbc00_0000), "`mail` of the guest `one` (0xbc000000 to 0xbc100000) overlaps U-Boot"),
        (host(0xbff8_0000), "`mail` of the guest `one` (0xbff80000 to 0xc0080000) is outside RAM"),
        (host(0x4000_0000), "overlaps QEMU's device tree"),
        (
            host(0x6000_0000) + other,
            "`more` of the guest `two` (0x60001000 to 0x60002000) overlaps shared memory `mail` of the guest `one`",
        ),
    ] {
        let report = plan(&text).unwrap_err().report();
        let field = if text.contains("more") { "guest.1.shared-memory.1" } else { "guest.0.shared-memory.0" };
        assert!(report.contains(&format!("in `{field}.host-address`: shared memory")), "{report}");
        assert!(report.contains(expected) && report.contains("help: choose another place"), "{report}");
    }
}

#[test]
fn shared_memory_counts_once() {
    let of = |size: &str| {
        let decision = decide("qemu-arm64", &sharing(size, "")).unwrap();
        Plan::new(&decision, artifacts(&decision))
    };
    of("512M").unwrap();
    let error = of("1536M").unwrap_err();
    assert!(error.what().contains("the guests that the hypervisor starts need 1792 MiB"), "{error}");
}

#[test]
fn a_carried_tree_describes_static_guests() {
    let alone = format!("[[guest]]{}", GOOD.split("[[guest]]").last().unwrap());
    let decision = decide("vexpress-a15", &alone).unwrap();
    let plan = Plan::new(&decision, artifacts(&decision)).unwrap();
    let blob = plan.device_tree.as_ref().unwrap();
    let tree = tree::Tree::parse(blob).unwrap();
    let chosen = tree.root().child("chosen").unwrap();
    let guest = chosen.child("domain-still").unwrap();
    assert!(guest.is_compatible("xen,domain") && guest.has("vpl011"));
    assert_eq!(guest.cells("memory").unwrap(), [0, 128 << 10]);
    assert_eq!(guest.cells("cpus").unwrap(), [1]);
    let kernel = guest.children().find(|node| node.is_compatible("multiboot,kernel")).unwrap();
    assert_eq!(kernel.string("bootargs"), Some("console=ttyAMA0"));
    let load = plan.loads.iter().find(|load| load.path == "vambrace/guests/still/kernel").unwrap();
    let reg = kernel.cells("reg").unwrap();
    assert_eq!(reg, [(load.address >> 32) as u32, load.address as u32, 0, 9_000_001]);
    let (near, far) = (guest.child("evtchn@a").unwrap(), chosen.child("evtchn@b").unwrap());
    assert_eq!(near.cells("xen,evtchn").unwrap()[1], far.phandle().unwrap().unwrap());
    assert_eq!(far.cells("xen,evtchn").unwrap()[1], near.phandle().unwrap().unwrap());
}

#[test]
fn every_board_takes_a_guest_on_a_volume() {
    let workspace = workspace();
    let text = "[[guest]]\nname = \"a\"\nmemory = \"64M\"\n[[guest.disk]]\nname = \"root\"\non = \"volume\"\nsize = \"8M\"\n";
    for (id, board) in workspace.boards().iter() {
        let board = board.as_ref().unwrap();
        let layouts = board.boot.values().flat_map(|boot| &boot.layouts);
        let mut roots = layouts.filter(|layout| workspace.layout(layout).unwrap().root().is_some());
        let Some(layout) = roots.next() else { continue };
        let method = workspace.layout(layout).unwrap().method;
        let config = ImageConfig::parse("image.toml", text).unwrap();
        let request = Request {
            board: id.to_owned(),
            method: Some(method),
            layout: Some(layout.clone()),
            config,
            ..Request::default()
        };
        let decision = Decision::new(&workspace, &request).unwrap();
        let plan = Plan::new(&decision, artifacts(&decision)).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert!(plan.disk.partitions.iter().any(|planned| planned.filesystem == Filesystem::Lvm), "{id}");
    }
}
