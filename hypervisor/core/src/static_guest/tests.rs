use alloc::string::String;
use core::sync::atomic::Ordering;

use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::HYPERVISOR_MEMORY_OP;
use vambrace_abi::memory::{XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP, XenMemoryReservation};

use super::*;
use crate::addr::{PAGE_SIZE, Pa};
use crate::fake::FakeMachine;
use crate::machine::Memory;
use crate::p2m::Kind;
use crate::platform::fixture::{TestNode, board, node};
use crate::testing::{FREE, MIB, World};

/// Where the loader's files lie: RAM that is neither a domain's nor free.
const KERNEL: u64 = 0x40d0_0000;
const RAMDISK: u64 = 0x40d1_0000;
const PARTIAL: u64 = 0x40d2_0000;

/// The smallest arm64 `Image`: its header, and a marked end.
fn kernel(machine: &FakeMachine) {
    let mut image = [0; 4096];
    image[16..24].copy_from_slice(&0x8000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image[4095] = 0x5a;
    machine.write(Pa(KERNEL), &image).unwrap();
    machine.write(Pa(RAMDISK), b"a RAM disk").unwrap();
}

fn module(name: &str, kind: &str, start: u64, size: u32) -> TestNode {
    node(name).strings("compatible", &[kind, "multiboot,module"]).cells("reg", &[0, start as u32, 0, size])
}

fn guest(name: &str) -> TestNode {
    node(name)
        .strings("compatible", &["xen,domain"])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .cells("memory", &[0, 1024])
        .cells("cpus", &[2])
        .flag("vpl011")
        .with(module("k", "multiboot,kernel", KERNEL, 4096).strings("bootargs", &["console=ttyAMA0"]))
        .with(module("r", "multiboot,ramdisk", RAMDISK, 10))
}

/// What became of the guests, with the hypervisor in a world of its own.
struct Started {
    world: World,
    platform: Platform,
    said: String,
}

fn run(board: TestNode, guests: &[TestNode]) -> Started {
    run_with(board, guests, None)
}

fn run_with(board: TestNode, guests: &[TestNode], partial: Option<&[u8]>) -> Started {
    let world = World::small();
    kernel(world.machine());
    if let Some(blob) = partial {
        world.machine().write(Pa(PARTIAL), blob).unwrap();
    }
    let chosen = guests.iter().cloned().fold(node("chosen"), TestNode::with);
    let blob = board.with(chosen).blob();
    let tree = Tree::parse(&blob).unwrap();
    let platform = Platform::from_tree(&tree).unwrap();
    let (accepted, refused) = accept(&platform, &[]);
    let built = build(&world.hv, &tree, &platform, &accepted);
    connect(&world.hv, &platform);
    start(&world.hv, built);
    let mut said = world.console();
    said.extend(platform.warnings.iter().chain(&refused).map(String::as_str));
    Started { world, platform, said }
}

/// Bytes of a guest's memory.
fn bytes<const N: usize>(world: &World, domain: u16, at: u64) -> [u8; N] {
    let domain = world.hv.domain(domain).unwrap();
    let mapping = domain.p2m.lock().lookup(world.machine(), Ipa(at)).unwrap();
    let mut bytes = [0; N];
    world.machine().read(mapping.pa, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_guest_finds_what_it_is_started_with() {
    let Started { world, said, .. } = run(board(), &[guest("domU1").strings("xen,enhanced", &["enabled"])]);
    let domain = world.hv.domain(1).unwrap_or_else(|| panic!("{said}"));
    assert!(said.contains("d1: 2 vCPUs, 64-bit, 1 MiB, kernel at 0x40000000"), "{said}");
    assert_eq!((domain.pages(), domain.vcpus.len()), (256, 2));
    assert!(domain.vcpus[0].is_online() && !domain.vcpus[1].is_online());
    assert!(domain.uart.get().is_some() && world.hv.console.is_holder(1));
    assert_eq!(bytes::<1>(&world, 1, 0x4000_0fff), [0x5a], "the kernel");
    let registers = domain.vcpus[0].run.lock().regs.clone();
    assert_eq!(registers.pc, 0x4000_0000);
    // The tree, read again.
    let mut blob = alloc::vec![0; 0x4000];
    let mapping = domain.p2m.lock().lookup(world.machine(), Ipa(registers.x[0])).unwrap();
    world.machine().read(mapping.pa, &mut blob).unwrap();
    let tree = Tree::parse(&blob).unwrap();
    let chosen = tree.by_path("/chosen").unwrap();
    assert_eq!(chosen.string("bootargs"), Some("console=ttyAMA0"));
    let start = chosen.number("linux,initrd-start").unwrap().unwrap();
    assert_eq!(chosen.number("linux,initrd-end"), Ok(Some(start + 10)));
    assert_eq!(&bytes::<10>(&world, 1, start), b"a RAM disk");
    assert_eq!(tree.by_path("/memory").unwrap().cells("reg").unwrap(), [0, 0x4000_0000, 0, 0x10_0000]);
    let cpus = tree.by_path("/cpus").unwrap();
    assert_eq!(cpus.children().count(), 2);
    let second = cpus.child("cpu@1").unwrap();
    assert!(second.is_compatible("arm,armv8") && second.string("enable-method") == Some("psci"));
    assert_eq!(second.phandle(), Ok(None));
    assert_eq!(tree.by_path("/psci").unwrap().string("method"), Some("hvc"));
    let uart = tree.by_path("/sbsa-uart@22000000").unwrap();
    assert_eq!(uart.cells("interrupts").unwrap(), [0, 0, 4]);
    let hypervisor = tree.by_path("/hypervisor").unwrap();
    assert_eq!(
        hypervisor.cells("reg").unwrap()[..8],
        [0, 0x3800_0000, 0, 0x100_0000, 0, 0x4020_0000, 0, 0xbfe0_0000]
    );
    assert_eq!(hypervisor.cells("interrupts").unwrap(), [1, 15, 0x308]);
    let gic = tree.by_phandle(tree.root().cell("interrupt-parent").unwrap().unwrap()).unwrap();
    assert_eq!(gic.cells("reg").unwrap()[..4], [0, 0x300_1000, 0, 0x1000]);
    assert_eq!(domain.params.lock()[HVM_PARAM_STORE_PFN as usize], u64::MAX);
}

#[test]
fn a_guest_that_cannot_be_built_leaves_nothing_behind() {
    let bad = [
        (guest("a").cells("memory", &[0, 64 << 10]), "out of memory"),
        (guest("b").cells("memory", &[0, 16]), "no room for its kernel"),
        (guest("c").cells("cpus", &[9]), "serves at most 8"),
        (guest("d").with(module("k", "multiboot,kernel", RAMDISK, 10)), "its kernel"),
        (guest("e").with(module("k", "multiboot,kernel", 0x3000_0000, 10)), "outside of memory"),
        (guest("f").with(module("t", "multiboot,device-tree", RAMDISK, 10)), "no flattened"),
        (guest("g").cells("xen,domain-p2m-mem-mb", &[0]), "out of memory"),
        (guest("h").cells("xen,static-mem", &[0, FREE as u32, 0, MIB as u32]), "is not free memory"),
        (guest("j").with(shared("owner", 0x1000_0000, 64 << 20)), "out of memory"),
        (guest("i").cells("xen,static-mem", &[0, KERNEL as u32, 0, MIB as u32]), "that the loader"),
    ];
    for (node, why) in bad {
        let before = World::small().hv.frames.lock().free_frames();
        let Started { world, said, .. } = run(board(), &[node]);
        assert!(said.contains(why), "{why}: {said}");
        assert!(said.contains("d1 is not started"), "{said}");
        assert!(world.hv.domain(1).is_none(), "{why}");
        assert_eq!(world.hv.frames.lock().free_frames(), before, "{why}");
        assert!(!world.hv.console.is_holder(1));
    }
}

/// Memory that a guest shares, in the place of the usual one.
fn shared(role: &str, at: u32, size: u32) -> TestNode {
    node("shm")
        .strings("compatible", &["xen,domain-shared-memory-v1"])
        .strings("xen,shm-id", &["mail"])
        .strings("role", &[role])
        .cells("xen,shared-mem", &[0, at, 0, size])
}

#[test]
fn guests_share_memory_and_event_channels() {
    let channel = |phandle, port, peer| {
        node("evtchn@1")
            .strings("compatible", &["xen,evtchn-v1"])
            .cells("xen,evtchn", &[port, peer])
            .cells("phandle", &[phandle])
    };
    let guests = [
        guest("domU1").with(shared("borrower", 0x3000_0000, 0x2000)).with(channel(0x50, 7, 0x51)),
        guest("domU2").with(shared("owner", 0x1000_0000, 0x2000)).with(channel(0x51, 300, 0x50)),
    ];
    let Started { world, said, .. } = run(board(), &guests);
    let [first, second] = [1, 2].map(|id| world.hv.domain(id).unwrap_or_else(|| panic!("{said}")));
    let at = |domain: &Domain<FakeMachine>, at| domain.p2m.lock().lookup(world.machine(), Ipa(at)).unwrap();
    let (borrowed, owned) = (at(&first, 0x3000_1000), at(&second, 0x1000_1000));
    assert_eq!((borrowed.pa, borrowed.kind), (owned.pa, Kind::Data));
    let frames = world.hv.frames.lock();
    assert_eq!((frames.owner(owned.pa), frames.references(owned.pa)), (Some(2), 2));
    drop(frames);
    let may_have = [&first, &second].map(|domain| domain.max_pages.load(Ordering::Acquire));
    assert_eq!(may_have, [256, 258], "what it shares comes on top of its memory");
    let state = first.events.lock().state(7).unwrap();
    assert_eq!(state, crate::event::State::Interdomain(crate::event::Peer { domain: 2, port: 300 }));
    assert!(matches!(second.events.lock().state(300), Ok(crate::event::State::Interdomain(_))));
    assert_eq!(world.hv.domain(1).unwrap().pages(), 256, "what is shared is not its own memory");
}

#[test]
fn shared_memory_has_tables_and_frames_of_its_own() {
    let tables = |guest: TestNode| {
        let Started { world, said, .. } = run(board(), &[guest]);
        let domain = world.hv.domain(1).unwrap_or_else(|| panic!("{said}"));
        let limit = domain.p2m.lock().table_limit();
        (world, domain, limit)
    };
    // No power of two, so the frames lie in several blocks.
    const SIZE: u32 = 0x37_b000;
    let (_, _, without) = tables(guest("a"));
    let (world, domain, with) = tables(guest("a").with(shared("owner", 0x1000_0000, SIZE)));
    assert!(with >= without + u64::from(SIZE) / (2 * MIB), "{with} tables, {without} without");
    let p2m = domain.p2m.lock();
    let mut frames = alloc::collections::BTreeSet::new();
    for page in 0..u64::from(SIZE) / PAGE_SIZE {
        let mapping = p2m.lookup(world.machine(), Ipa(0x1000_0000 + page * PAGE_SIZE)).unwrap();
        assert_eq!(mapping.kind, Kind::Data);
        assert!(frames.insert(mapping.pa), "{} twice", mapping.pa);
        assert_eq!(world.hv.frames.lock().references(mapping.pa), 1, "the mapping's own");
    }
    assert!(p2m.lookup(world.machine(), Ipa(0x1000_0000 + u64::from(SIZE))).is_none());
}

#[test]
fn memory_that_is_mapped_one_to_one_stays() {
    const OWN: u64 = 0x40e0_0000;
    let own = guest("domU1").cells("xen,static-mem", &[0, OWN as u32, 0, MIB as u32]).flag("direct-map");
    let Started { world, said, .. } = run(board(), &[own]);
    let domain = world.hv.domain(1).unwrap_or_else(|| panic!("{said}"));
    let there = || domain.p2m.lock().lookup(world.machine(), Ipa(OWN)).map(|mapping| mapping.pa);
    assert_eq!(there(), Some(Pa(OWN)));
    // What a device of its own writes to must not become another's.
    for command in [XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
        let list = world.put(0x800, OWN >> 12);
        let request = XenMemoryReservation {
            extent_start: XenHandle::new(list),
            nr_extents: 1,
            domid: 1,
            ..Default::default()
        };
        assert_eq!(world.with(HYPERVISOR_MEMORY_OP, command, request).0, 0);
        assert_eq!(there(), Some(Pa(OWN)));
    }
}

/// A device of the host's for a guest.
fn device() -> TestNode {
    node("sensor@9050000")
        .strings("compatible", &["test,sensor"])
        .flag("xen,passthrough")
        .cells("reg", &[0, 0x0905_0000, 0, 0x1000])
        .cells("interrupts", &[0, 60, 4])
}

fn partial(reg: &[u32], path: &str) -> alloc::vec::Vec<u8> {
    let sensor = node("sensor@9050000")
        .strings("compatible", &["test,sensor"])
        .cells("reg", &[0, 0x0905_0000, 0, 0x1000])
        .cells("interrupts", &[0, 60, 4])
        .cells("interrupt-parent", &[0xfde8])
        .cells("xen,reg", reg)
        .strings("xen,path", &[path])
        .flag("xen,force-assign-without-iommu");
    let bus = node("passthrough")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .strings("compatible", &["simple-bus"])
        .flag("ranges")
        .with(sensor);
    node("").cells("#address-cells", &[2]).cells("#size-cells", &[2]).with(bus).blob()
}

const REG: [u32; 6] = [0, 0x0905_0000, 0, 0x1000, 0, 0x0905_0000];

#[test]
fn a_device_goes_to_one_guest() {
    let blob = partial(&REG, "/sensor@9050000");
    let tree = module("t", "multiboot,device-tree", PARTIAL, blob.len() as u32);
    let guests = [guest("domU1").with(tree.clone()), guest("domU2").with(tree)];
    let Started { world, platform, said } = run_with(board().with(device()), &guests, Some(&blob));
    let domain = world.hv.domain(1).unwrap_or_else(|| panic!("{said}"));
    let mapping = domain.p2m.lock().lookup(world.machine(), Ipa(0x0905_0000)).unwrap();
    assert_eq!((mapping.pa, mapping.kind), (Pa(0x0905_0000), Kind::Device));
    assert_eq!(world.hv.spi_owner(92).map(|owner| owner.id), Some(1));
    assert!(platform.dom0_interrupts().iter().all(|theirs| theirs.intid != 92));
    assert!(said.contains("no IOMMU confines"), "{said}");
    assert!(said.contains("is a guest's already; d2 is not started"), "{said}");
    let registers = domain.vcpus[0].run.lock().regs.clone();
    let mut written = alloc::vec![0; 0x4000];
    let at = domain.p2m.lock().lookup(world.machine(), Ipa(registers.x[0])).unwrap();
    world.machine().read(at.pa, &mut written).unwrap();
    let tree = Tree::parse(&written).unwrap();
    let sensor = tree.by_path("/passthrough/sensor@9050000").unwrap();
    assert!(sensor.has("reg") && !sensor.has("xen,reg") && !sensor.has("xen,path"));
}

#[test]
fn a_guest_gets_no_device_that_is_not_for_it() {
    let cases: [(&[u32], &str, &str); 7] = [
        (&[0, 0x4000_0000, 0, 0x1000, 0, 0x0905_0000], "/sensor@9050000", "is memory"),
        (&[0, 0x2c00_1000, 0, 0x1000, 0, 0x0905_0000], "/sensor@9050000", "is the interrupt controller"),
        (&[0, 0x0900_0000, 0, 0x1000, 0, 0x0905_0000], "/sensor@9050000", "is the hypervisor's console"),
        (&[0, 0x0905_0000, 0, 0x1000, 0, 0x2200_0000], "/sensor@9050000", "lies on a device"),
        (&[0, 0x0905_0000, 0, 0x1000, 0, 0x4000_0000], "/sensor@9050000", "is memory of the guest's"),
        (&[0, 0x0905_0000, 0, 0x800, 0, 0x0905_0000], "/sensor@9050000", "whole pages"),
        (&REG, "/nowhere", "a node of the host's tree"),
    ];
    for (reg, path, why) in cases {
        let blob = partial(reg, path);
        let tree = module("t", "multiboot,device-tree", PARTIAL, blob.len() as u32);
        let Started { world, said, .. } =
            run_with(board().with(device()), &[guest("domU1").with(tree)], Some(&blob));
        assert!(said.contains(why) && said.contains("d1 is not started"), "{why}: {said}");
        assert!(world.hv.domain(1).is_none() && world.hv.spi_owner(92).is_none());
    }
    // One that dom0 has.
    let blob = partial(&REG, "/sensor@9050000");
    let tree = module("t", "multiboot,device-tree", PARTIAL, blob.len() as u32);
    let theirs =
        node("sensor@9050000").strings("compatible", &["x"]).cells("reg", &[0, 0x0905_0000, 0, 0x1000]);
    let Started { said, .. } = run_with(board().with(theirs), &[guest("domU1").with(tree)], Some(&blob));
    assert!(said.contains("its node needs xen,passthrough"), "{said}");
}
