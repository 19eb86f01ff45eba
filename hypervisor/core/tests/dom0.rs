//! From a whole device tree to a dom0 that is ready to run, and what is said when that cannot be.

// Books for 2 GiB of RAM take an interpreter minutes; every part has smaller tests.
#![cfg(not(miri))]

use vambrace_core::addr::{Ipa, Pa, PaRange};
use vambrace_core::boot::{Plan, plan};
use vambrace_core::console::Console;
use vambrace_core::dom0;
use vambrace_core::domain::{Domain, MmioDevice};
use vambrace_core::fake::FakeMachine;
use vambrace_core::frames::Frames;
use vambrace_core::hypervisor::{GuestGic, HostInterrupts, Hypervisor, Settings};
use vambrace_core::idregs::IdRegisters;
use vambrace_core::image::Packing;
use vambrace_core::machine::Memory;
use vambrace_core::p2m::{Kind, Shape};
use vambrace_core::platform::tree::Tree;
use vambrace_core::platform::{GicFrames, Module, ModuleKind, Platform};
use vambrace_core::sched::Status;

use std::sync::Arc;
use std::sync::atomic::Ordering;

const GICV2: &[u8] = include_bytes!("fixtures/qemu-virt-gicv2.dtb");
const GICV3: &[u8] = include_bytes!("fixtures/qemu-virt-gicv3.dtb");
const KERNEL: u64 = 0x4800_0000;
const RAMDISK: u64 = 0x4c00_0000;
const IMAGE: PaRange = PaRange { start: Pa(0x4020_0000), end: Pa(0x4030_0000) };
const MIB: u64 = 1 << 20;

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

/// The first bytes of an arm64 Image that takes 38 MiB.
fn arm64_header() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[16..24].copy_from_slice(&(38 * MIB).to_le_bytes());
    header[24] = 0xa;
    header[56..60].copy_from_slice(b"ARM\x64");
    header
}

/// The first bytes of a zImage of `length` bytes, without a word on what it unpacks to.
fn zimage_header(length: u32) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[0x24..0x28].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
    header[0x2c..0x30].copy_from_slice(&length.to_le_bytes());
    header
}

/// A machine as the loader left it.
fn loaded(blob: &[u8]) -> (FakeMachine, Platform) {
    let machine = FakeMachine::with_ram(0x4000_0000, 0x8000_0000);
    machine.write(Pa(KERNEL), &arm64_header()).unwrap();
    machine.write(Pa(KERNEL + 0x10_0000), b"kernel").unwrap();
    machine.write(Pa(RAMDISK), b"070701").unwrap();
    (machine, Platform::from_tree(&Tree::parse(blob).unwrap()).unwrap())
}

fn tree_range() -> PaRange {
    range(0x4400_0000, 0x1_0000)
}

fn hypervisor(
    machine: FakeMachine,
    platform: &Platform,
    plan: &Plan,
    cpus: usize,
) -> Hypervisor<FakeMachine> {
    let mut frames = Frames::new(&platform.ram);
    for free in &plan.map.free {
        frames.release(*free).unwrap();
    }
    let settings = Settings {
        interrupts: HostInterrupts {
            hypervisor_timer: platform.timer.hypervisor,
            virtual_timer: platform.timer.virtual_,
            maintenance: 25,
            uart: Some(33),
        },
        guest_gic: match &platform.gic.frames {
            GicFrames::V2 { gicv, .. } => GuestGic::V2 { gicv: *gicv },
            GicFrames::V3 { .. } => GuestGic::V3,
        },
        xen_version: (4, 20),
        shape: Shape::for_physical(40),
        command_line: platform.boot.hypervisor_args.clone(),
        no_reboot: false,
        ram_end: Pa(0xc000_0000),
        boot_time: 0,
        clock_frequency: 0,
    };
    let ids = IdRegisters::new(&machine, matches!(platform.gic.frames, GicFrames::V3 { .. }));
    let hv = Hypervisor::new(machine, cpus, frames, Console::default(), ids, settings);
    (0..cpus).for_each(|cpu| hv.scheduler.cpu_online(cpu));
    hv
}

struct Built {
    hv: Hypervisor<FakeMachine>,
    plan: Plan,
    domain: Arc<Domain<FakeMachine>>,
}

/// Builds dom0 on two CPUs, with `change` made to what the loader left.
fn build(blob: &[u8], change: impl FnOnce(&FakeMachine, &mut Platform)) -> Built {
    let (machine, mut platform) = loaded(blob);
    change(&machine, &mut platform);
    let plan = plan(&machine, &platform, IMAGE, tree_range()).unwrap();
    let hv = hypervisor(machine, &platform, &plan, 2);
    let domain = dom0::build(&hv, &Tree::parse(blob).unwrap(), &platform, &plan, 2).unwrap();
    Built { hv, plan, domain }
}

impl Built {
    fn at(&self, ipa: u64) -> Option<(u64, bool)> {
        let mapping = self.domain.p2m.lock().lookup(&self.hv.machine, Ipa(ipa));
        mapping.map(|mapping| (mapping.pa.0, mapping.kind == Kind::Device))
    }
    /// Dom0's device tree as it lies in memory.
    fn tree(&self) -> Vec<u8> {
        let at = self.plan.map.tree.start;
        let mut head = [0; 8];
        self.hv.machine.read(at, &mut head).unwrap();
        let mut blob = vec![0; u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize];
        self.hv.machine.read(at, &mut blob).unwrap();
        blob
    }
}

#[test]
fn dom0_is_ready_on_gicv2() {
    let built = build(GICV2, |_, _| ());
    let (domain, map) = (&built.domain, &built.plan.map);
    // `dom0_mem=1G dom0_max_vcpus=4` says the tree.
    assert_eq!(domain.vcpus.len(), 4);
    assert_eq!(domain.direct.iter().flatten().map(|bank| bank.size()).sum::<u64>(), 1024 * MIB);
    assert_eq!(domain.max_pages.load(Ordering::Relaxed), 1024 * MIB / 4096);
    for bank in domain.direct.iter().flatten() {
        for pa in [bank.start.0, bank.start.0 + bank.size() / 2, bank.end.0 - 1] {
            assert_eq!(built.at(pa), Some((pa, false)), "RAM is mapped 1:1");
        }
    }
    assert!(map.kernel.is_in_place());
    for hidden in [IMAGE.start.0, IMAGE.end.0 - 1, map.heap.start.0, domain.stage2.root.0] {
        assert_eq!(built.at(hidden), None, "{hidden:#x} is the hypervisor's");
    }
    // The CPU interface is the virtual one; the rest of the GIC and the UART are emulated, and so not mapped.
    assert_eq!(built.at(0x0801_0000), Some((0x0804_0000, true)));
    assert_eq!(built.at(0x0801_1004), Some((0x0804_1004, true)));
    for emulated in [0x0800_0000, 0x0803_0000, 0x0804_0000, 0x0900_0000] {
        assert_eq!(built.at(emulated), None, "{emulated:#x}");
    }
    let devices: Vec<_> = domain.mmio.iter().map(|region| (region.base.0, region.device)).collect();
    assert_eq!(devices, [(0x0800_0000, MmioDevice::Distributor), (0x0900_0000, MmioDevice::Uart)]);
    // Its devices are its own, with their interrupts.
    assert_eq!(built.at(0x0901_0000), Some((0x0901_0000, true)), "real-time clock");
    assert_eq!(built.hv.spi_owner(34).unwrap().id, 0);
    assert!(built.hv.spi_owner(33).is_none(), "the UART's is the hypervisor's");
    // The first vCPU is about to run the kernel with the tree; the others are off.
    let accounts: Vec<_> =
        domain.vcpus.iter().map(|vcpu| built.hv.scheduler.account(vcpu.key).unwrap().status).collect();
    assert_eq!(accounts, [Status::Runnable, Status::Offline, Status::Offline, Status::Offline]);
    let run = domain.vcpus[0].run.lock();
    assert_eq!((run.regs.pc, run.regs.x[0]), (map.kernel.target.0, map.tree.start.0));
    assert!(run.regs.x[1..].iter().all(|x| *x == 0));
}

#[test]
fn the_tree_in_memory_describes_what_was_built() {
    for blob in [GICV2, GICV3] {
        let built = build(blob, |_, _| ());
        let written = built.tree();
        let tree = Tree::parse(&written).unwrap();
        let memory: Vec<u8> = tree
            .root()
            .children()
            .filter(|node| node.string("device_type") == Some("memory"))
            .fold(Vec::new(), |mut all, node| {
                all.extend(node.property("reg").unwrap());
                all
            });
        let banks = built.domain.direct.iter().flatten().flat_map(|bank| [bank.start.0, bank.size()]);
        assert_eq!(memory, banks.flat_map(u64::to_be_bytes).collect::<Vec<u8>>());
        let cpus = tree.by_path("/cpus").unwrap();
        assert_eq!(cpus.children().filter(|cpu| cpu.string("device_type") == Some("cpu")).count(), 4);
        let chosen = tree.by_path("/chosen").unwrap();
        assert_eq!(chosen.string("bootargs"), Some("console=hvc0 rdinit=/init"));
        assert_eq!(chosen.property("xen,xen-bootargs"), None, "nothing of the loader's is left");
        let ramdisk = built.plan.map.ramdisk.unwrap().target.0;
        assert_eq!(chosen.number("linux,initrd-start").unwrap(), Some(ramdisk));
        assert_eq!(chosen.number("linux,initrd-end").unwrap(), Some(ramdisk + 0x1_2345));
        let uart = tree.by_path("/pl011@9000000").unwrap();
        assert_eq!(uart.string("status"), Some("disabled"));
        assert_eq!(tree.by_path("/psci").unwrap().string("method"), Some("hvc"));
        // The grant table's window leads nowhere yet.
        let reg = tree.by_path("/hypervisor").unwrap().property("reg").unwrap();
        let window = u64::from_be_bytes(*reg.first_chunk().unwrap());
        assert_eq!(built.at(window), None);
        assert_eq!(dom0::describe(&built.domain, &built.plan).split(',').next(), Some("Dom0: 4 vCPUs"));
    }
}

#[test]
fn dom0_is_ready_on_gicv3() {
    let built = build(GICV3, |_, platform| platform.boot.hypervisor_args = "dom0_mem=256M".into());
    assert_eq!(built.domain.vcpus.len(), 2, "as many as CPUs");
    let regions: Vec<_> =
        built.domain.mmio.iter().map(|region| (region.base.0, region.size, region.device)).collect();
    assert_eq!(
        regions,
        [
            (0x080a_0000, 0x4_0000, MmioDevice::Redistributors { first: 0 }),
            (0x0800_0000, 0x1_0000, MmioDevice::Distributor),
            (0x0900_0000, 0x1000, MmioDevice::Uart),
        ]
    );
    assert!([0x0800_0000, 0x0808_0000, 0x080a_0000].iter().all(|&gic| built.at(gic).is_none()));
}

#[test]
fn modules_move_where_they_must() {
    // 64 KiB off a 2 MiB boundary the kernel cannot run.
    let built = build(GICV2, |machine, platform| {
        let moved = KERNEL + 0x1_0000;
        machine.write(Pa(KERNEL), &[0; 64]).unwrap();
        machine.write(Pa(moved), &arm64_header()).unwrap();
        machine.write(Pa(moved + 0x100), b"kernel").unwrap();
        let kernel = platform.boot.modules.iter_mut().find(|m| m.kind == ModuleKind::Kernel).unwrap();
        kernel.range = range(moved, MIB);
    });
    let target = built.plan.map.kernel.target;
    assert!(!built.plan.map.kernel.is_in_place() && target.is_aligned(2 * MIB));
    let mut bytes = [0; 6];
    built.hv.machine.read(target.offset(0x100), &mut bytes).unwrap();
    assert_eq!(&bytes, b"kernel");
    assert!(built.hv.machine.cache_cleans() >= 3, "kernel, RAM disk, tree: for a reader with caches off");
}

#[test]
fn a_packed_kernel_is_unpacked() {
    // A gzip stream of stored blocks (RFC 1951, 3.2.4): the header, and zeroes behind it.
    let mut kernel = arm64_header();
    kernel.resize(0x8000, 0);
    kernel[0x7ff0..0x7ff6].copy_from_slice(b"kernel");
    let crc = kernel.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| c >> 1 ^ if c & 1 != 0 { 0xedb8_8320 } else { 0 })
    });
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    packed.extend((kernel.len() as u16).to_le_bytes());
    packed.extend((!(kernel.len() as u16)).to_le_bytes());
    packed.extend(&kernel);
    packed.extend((!crc).to_le_bytes());
    packed.extend((kernel.len() as u32).to_le_bytes());
    let size = packed.len() as u64;
    let built = build(GICV2, move |machine, platform| {
        machine.write(Pa(KERNEL), &packed).unwrap();
        let kernel = platform.boot.modules.iter_mut().find(|m| m.kind == ModuleKind::Kernel).unwrap();
        kernel.range = range(KERNEL, size);
    });
    assert!(matches!(built.plan.kernel.packing, Packing::Gzip { .. }));
    let mut bytes = [0; 6];
    built.hv.machine.read(built.plan.map.kernel.target.offset(0x7ff0), &mut bytes).unwrap();
    assert_eq!(&bytes, b"kernel");
}

/// What is said when dom0 cannot be planned.
#[test]
fn a_zimage_makes_a_32_bit_dom0() {
    let load = |machine: &FakeMachine, _: &mut Platform| {
        machine.write(Pa(KERNEL), &zimage_header(6 << 20)).unwrap();
    };
    let built = build(GICV2, load);
    let (domain, map) = (&built.domain, &built.plan.map);
    assert!(domain.is_aarch32());
    assert!(dom0::describe(domain, &built.plan).starts_with("Dom0: 4 vCPUs, 32-bit, 1024 MiB"));
    let run = domain.vcpus[0].run.lock();
    // booting.rst: no machine number, the tree in r2, Supervisor mode with interrupts masked.
    assert_eq!(run.regs.x[..3], [0, 0xffff_ffff, map.tree.start.0]);
    assert_eq!((run.regs.pc, run.regs.pstate & 0x1ff), (map.kernel.target.0, 0x1d3));
    assert!(run.context.spec.aarch32);
    // It runs in the first 128 MiB of its memory, behind what it unpacks, and finds tree and RAM disk in low memory.
    let first = domain.direct.as_ref().unwrap()[0].start.0;
    assert_eq!(first % (128 * MIB), 0);
    assert_eq!(map.kernel.target.0 / (128 * MIB), first / (128 * MIB));
    assert!(map.kernel.target.0 > first + 6 * (6 * MIB));
    for start in [map.tree.start, map.ramdisk.unwrap().target] {
        assert!(start > map.kernel.target && start.0 < first + 512 * MIB, "{start}");
    }
    assert_eq!(run.context.injected, []);
    drop(run);
    let written = built.tree();
    let tree = Tree::parse(&written).unwrap();
    let methods: Vec<_> = tree
        .by_path("/cpus")
        .unwrap()
        .children()
        .filter(|cpu| cpu.string("device_type") == Some("cpu"))
        .map(|cpu| cpu.string("enable-method"))
        .collect();
    assert_eq!(methods, [Some("psci"); 4]);
}

#[test]
fn a_kernel_that_the_cpu_does_not_run_is_refused() {
    let el1 = vambrace_core::trap::SysReg::new(3, 0, 0, 4, 0);
    assert_eq!(
        refusal(|machine, _| {
            machine.set_id_register(el1, 0x11);
            machine.write(Pa(KERNEL), &zimage_header(6 << 20)).unwrap();
        }),
        "dom0's kernel is a 32-bit one, which this CPU does not run: give it an arm64 Image"
    );
    assert_eq!(
        refusal(|machine, _| machine.set_id_register(el1, 0)),
        "dom0's kernel is a 64-bit one, which this CPU does not run: give it an ARM zImage"
    );
}

fn refusal(change: impl FnOnce(&FakeMachine, &mut Platform)) -> String {
    let (machine, mut platform) = loaded(GICV2);
    change(&machine, &mut platform);
    plan(&machine, &platform, IMAGE, tree_range()).err().expect("a refusal").to_string()
}

fn module(platform: &mut Platform, kind: ModuleKind) -> &mut Module {
    platform.boot.modules.iter_mut().find(|module| module.kind == kind).unwrap()
}

#[test]
fn without_a_kernel_there_is_no_dom0() {
    assert_eq!(
        refusal(|_, platform| platform.boot.modules.clear()),
        "no kernel for dom0: /chosen needs a module node compatible with \"multiboot,kernel\""
    );
}

#[test]
fn kernels_of_other_kinds_are_named() {
    assert_eq!(
        refusal(|machine, _| machine.write(Pa(KERNEL), &zimage_header(u32::MAX)).unwrap()),
        "dom0's kernel: the kernel module is cut off"
    );
    assert_eq!(
        refusal(|machine, _| machine.write(Pa(KERNEL), &[0; 64]).unwrap()),
        "dom0's kernel: the kernel module is not an arm64 Image (plain or gzip) or an ARM zImage"
    );
    assert_eq!(
        refusal(|machine, _| {
            machine.write(Pa(KERNEL), &[0; 64]).unwrap();
            machine.write(Pa(KERNEL), &[0x1f, 0x8b, 8, 0]).unwrap();
        }),
        "dom0's kernel: the compressed kernel is damaged"
    );
}

#[test]
fn sizes_that_do_not_fit_are_told_with_those_that_do() {
    let asked = |args: &'static str| refusal(move |_, platform| platform.boot.hypervisor_args = args.into());
    let message = asked("dom0_mem=4G");
    assert!(message.starts_with("dom0_mem is 4194304 KiB, but dom0 can have at most "), "{message}");
    let message = asked("dom0_mem=16M");
    assert!(message.starts_with("dom0_mem is 16384 KiB, but dom0's kernel, RAM disk"), "{message}");
}

#[test]
fn modules_in_wrong_places_are_told() {
    let kernel = |start, size| {
        refusal(move |_, platform| module(platform, ModuleKind::Kernel).range = range(start, size))
    };
    assert_eq!(
        kernel(0x1000_0000, MIB),
        "the kernel module at 0x10000000..0x10100000 lies outside of memory"
    );
    assert_eq!(
        kernel(0xbff0_0000, 2 * MIB),
        "the kernel module at 0xbff00000..0xc0100000 lies outside of memory"
    );
    assert_eq!(
        kernel(IMAGE.start.0, MIB),
        "the kernel module at 0x40200000..0x40300000 overlaps the hypervisor at 0x40200000..0x40300000"
    );
    let ramdisk = |start, size| {
        refusal(move |_, platform| module(platform, ModuleKind::Ramdisk).range = range(start, size))
    };
    assert_eq!(
        ramdisk(KERNEL + MIB, MIB),
        "the kernel module at 0x48000000..0x4a3ea200 overlaps the RAM disk module at 0x48100000..0x48200000"
    );
    assert_eq!(
        ramdisk(u64::MAX - MIB, MIB),
        "the RAM disk module at 0xffffffffffefffff..0xffffffffffffffff lies outside of memory"
    );
}

#[test]
fn too_few_frames_are_an_error() {
    let (machine, platform) = loaded(GICV2);
    let mut plan = plan(&machine, &platform, IMAGE, tree_range()).unwrap();
    // Not a page for shared_info, then one for it and none for the tables, and so on.
    let enough = (0..32).find(|pages| {
        let (machine, platform) = loaded(GICV2);
        plan.map.free = vec![range(0xb000_0000, pages * 4096)];
        let hv = hypervisor(machine, &platform, &plan, 2);
        match dom0::build(&hv, &Tree::parse(GICV2).unwrap(), &platform, &plan, 2) {
            Err(error) => {
                assert_eq!(error.to_string(), "out of memory for dom0", "{pages} pages");
                assert!(hv.domain(0).is_none());
                false
            }
            Ok(_) => true,
        }
    });
    // shared_info, a grant frame, two roots, and a few tables.
    assert!(enough.is_some_and(|pages| pages > 4), "{enough:?}");
}

#[test]
fn a_register_frame_that_no_page_begins_with_is_an_error() {
    let (machine, mut platform) = loaded(GICV2);
    let GicFrames::V2 { gicv, .. } = &mut platform.gic.frames else { panic!() };
    *gicv = range(0x0804_0010, 0x2000);
    let plan = plan(&machine, &platform, IMAGE, tree_range()).unwrap();
    let hv = hypervisor(machine, &platform, &plan, 2);
    let result = dom0::build(&hv, &Tree::parse(GICV2).unwrap(), &platform, &plan, 2);
    assert_eq!(result.err().unwrap().to_string(), "dom0's address space: OutOfRange");
}
