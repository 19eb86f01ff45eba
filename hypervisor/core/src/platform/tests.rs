mod boards;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::fixture::{board, node};
use super::tree::{MAX_DEPTH, Tree};
use super::*;
use crate::addr::Pa;

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

fn intids(platform: &Platform, path: &str) -> Vec<u32> {
    let device = platform.passthrough.iter().find(|device| device.path == path);
    device.map(|device| device.interrupts.iter().map(|i| i.intid).collect()).unwrap_or_default()
}

#[test]
fn a_board_is_read_in_full() {
    let platform = Platform::parse(&board().blob()).unwrap();
    assert_eq!(platform.model, "Test board");
    assert_eq!(platform.ram, [range(0x4000_0000, 0x4000_0000)]);
    assert_eq!(platform.cpus.iter().map(|cpu| cpu.mpidr).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(platform.cpus[0].enable, EnableMethod::Psci);
    let psci = platform.psci.as_ref().unwrap();
    assert_eq!((psci.version, psci.conduit), (PsciVersion::V0_2, Conduit::Smc));
    let GicFrames::V2 { gicd, gicc, gich, gicv } = platform.gic.frames else { panic!() };
    let starts = [gicd, gicc, gich, gicv].map(|frame| frame.start.0);
    assert_eq!(starts, [0x2c00_1000, 0x2c00_2000, 0x2c00_4000, 0x2c00_6000]);
    assert_eq!(platform.gic.maintenance, Some(Interrupt { intid: 25, trigger: Trigger::Level }));
    let timer = &platform.timer;
    assert_eq!((timer.secure, timer.physical, timer.virtual_, timer.hypervisor), (Some(29), 30, 27, 26));
    let uart = platform.console.as_ref().unwrap();
    assert_eq!((uart.path.as_str(), uart.registers), ("/serial@9000000", range(0x900_0000, 0x1000)));
    assert_eq!((uart.interrupt.unwrap().intid, uart.speed), (33, Some(115200)));
    // Nothing is left for dom0: the UART is the hypervisor's.
    assert_eq!(platform.passthrough, []);
    assert_eq!(platform.warnings, Vec::<String>::new());
}

#[test]
fn timer_interrupts_are_those_of_the_board() {
    // As on X-Gene.
    let timer = node("timer")
        .strings("compatible", &["arm,armv8-timer"])
        .cells("interrupts", &[1, 0, 8, 1, 13, 8, 1, 14, 8, 1, 15, 8])
        .cells("clock-frequency", &[50_000_000]);
    let platform = Platform::parse(&board().with(timer).blob()).unwrap();
    let timer = &platform.timer;
    assert_eq!((timer.secure, timer.physical, timer.virtual_, timer.hypervisor), (Some(16), 29, 30, 31));
    assert_eq!(timer.frequency, Some(50_000_000));
    // By name, in another order and without the secure one.
    let timer = node("timer")
        .strings("compatible", &["arm,armv8-timer"])
        .cells("interrupts", &[1, 11, 8, 1, 14, 8, 1, 10, 8])
        .strings("interrupt-names", &["virt", "phys", "hyp-phys"]);
    let platform = Platform::parse(&board().with(timer).blob()).unwrap();
    let timer = &platform.timer;
    assert_eq!((timer.secure, timer.physical, timer.virtual_, timer.hypervisor), (None, 30, 27, 26));
}

#[test]
fn addresses_are_translated_through_buses() {
    let device = node("dma@100").cells("reg", &[0x100, 0x80]).cells("interrupts", &[0, 9, 1]);
    let inner = node("bus@1")
        .strings("compatible", &["simple-bus"])
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .cells("ranges", &[0, 1, 0x5000, 0x1000])
        .with(device);
    // Chip selects: two address cells, of which the first is a number.
    let outer = node("bus@8000000")
        .strings("compatible", &["simple-bus"])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[1])
        .cells("ranges", &[0, 0, 0, 0x0800_0000, 0x10_0000, 1, 0, 0, 0x1400_0000, 0x10_0000])
        .with(inner);
    let lost = node("i2c")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[0])
        .with(node("eeprom@50").cells("reg", &[0x50]));
    let platform = Platform::parse(&board().with(outer).with(lost).blob()).unwrap();
    let [device] = platform.passthrough.as_slice() else { panic!("{:?}", platform.passthrough) };
    assert_eq!(device.path, "/bus@8000000/bus@1/dma@100");
    assert_eq!(device.regions, [range(0x1400_5100, 0x80)]);
    assert_eq!(device.interrupts, [Interrupt { intid: 41, trigger: Trigger::Edge }]);
    assert_eq!(platform.dom0_regions(), [range(0x1400_5000, 0x1000)]);
}

#[test]
fn a_device_outside_its_bus_is_a_warning() {
    let bus = |at: u32| {
        node("bus")
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[1])
            .cells("ranges", &[0, 0, 0x0800_0000, 0x1000])
            .with(node("dev").cells("reg", &[at, 0x200]))
    };
    let platform = Platform::parse(&board().with(bus(0x1000)).blob()).unwrap();
    assert_eq!(platform.warnings.len(), 1);
    assert!(platform.warnings[0].contains("/bus/dev: property reg"), "{}", platform.warnings[0]);
    // Where they begin decides, as in Linux.
    let platform = Platform::parse(&board().with(bus(0xf00)).blob()).unwrap();
    assert_eq!(platform.passthrough[0].regions, [range(0x0800_0f00, 0x200)]);
}

#[test]
fn a_module_of_ti_s_interconnect_is_dom0_s_with_all_that_it_answers_to() {
    let module = |name: &str| {
        node(name)
            .strings("compatible", &["ti,sysc"])
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[1])
    };
    let bus = node("interconnect")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .cells("ranges", &[0, 0, 0x0ae2_0000, 0x1_0000])
        .with(
            module("target-module@6000")
                .strings("status", &["disabled"])
                .cells("ranges", &[0, 0x6000, 0x1000, 0x1000, 0x7000, 0x400]),
        );
    let platform = Platform::parse(&board().with(bus).blob()).unwrap();
    assert_eq!(platform.dom0_regions(), [range(0x0ae2_6000, 0x2000)]);
    assert!(platform.occupied.contains(&range(0x0ae2_6000, 0x1400)));
}

#[test]
fn the_realtime_counter_s_fraction_gives_its_frequency() {
    for (input, clock) in [(1, 12_000_000_u64), (4, 19_200_000), (0xf0 | 6, 27_000_000), (7, 38_400_000)] {
        let (numerator, denominator) = RealtimeCounter::fraction(input).unwrap();
        assert_eq!(clock * u64::from(numerator) / u64::from(denominator), 6_144_000, "{input}");
        assert!(denominator <= RealtimeCounter::FRACTION);
    }
    assert_eq!(RealtimeCounter::fraction(4), Some((8, 25)));
    assert_eq!(RealtimeCounter::fraction(0), None);
}

#[test]
fn a_wake_up_generator_passes_interrupts_on() {
    // As on OMAP5: the root's interrupt parent is not the GIC, the GIC names no maintenance interrupt, and the console
    // has a second interrupt at a pin controller.
    let tree = board()
        .cells("interrupt-parent", &[2])
        .with(
            node("wugen@48281000")
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[3])
                .cells("interrupt-parent", &[1])
                .cells("reg", &[0, 0x4828_1000, 0, 0x1000])
                .cells("phandle", &[2]),
        )
        .with(
            node("pinmux@4a002840")
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[1])
                .cells("interrupts", &[0, 7, 4])
                .cells("phandle", &[3]),
        )
        .with(
            node("serial@9000000")
                .strings("compatible", &["ti,omap4-uart"])
                .cells("reg", &[0, 0x0900_0000, 0, 0x100])
                .cells("interrupts-extended", &[2, 0, 74, 4, 3, 0x1dc])
                .cells("clock-frequency", &[48_000_000])
                .cells("reg-shift", &[2]),
        );
    let platform = Platform::parse(&tree.blob()).unwrap();
    let uart = platform.console.as_ref().unwrap();
    assert_eq!(uart.interrupt, Some(Interrupt { intid: 106, trigger: Trigger::Level }));
    assert_eq!((uart.register_shift, uart.clock), (2, Some(48_000_000)));
    assert_eq!(intids(&platform, "/pinmux@4a002840"), [39]);
    assert_eq!(platform.timer.hypervisor, 26);
}

#[test]
fn a_gpio_block_does_not_pass_interrupts_on() {
    let tree = board()
        .with(
            node("pio@1c20800")
                .flag("interrupt-controller")
                .flag("gpio-controller")
                .cells("#interrupt-cells", &[3])
                .cells("reg", &[0, 0x01c2_0800, 0, 0x400])
                .cells("interrupts", &[0, 11, 4])
                .cells("phandle", &[2]),
        )
        .with(node("key").cells("interrupts-extended", &[2, 0, 5, 4]));
    let platform = Platform::parse(&tree.blob()).unwrap();
    assert_eq!(intids(&platform, "/pio@1c20800"), [43]);
    assert_eq!(intids(&platform, "/key"), []);
}

#[test]
fn interrupt_maps_of_buses_and_of_host_bridges() {
    // As on Versatile Express: a bus numbers the interrupts of its devices.
    let bus = node("bus")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[1])
        .flag("ranges")
        .cells("#interrupt-cells", &[1])
        .cells("interrupt-map-mask", &[0, 0, 0x3f])
        .cells("interrupt-map", &[0, 0, 5, 1, 0, 37, 4, 0, 0, 6, 1, 0, 38, 4])
        .with(node("uart@0").cells("reg", &[0, 0x1000_0000, 0x1000]).cells("interrupts", &[6]));
    let pcie = node("pcie@10000000")
        .strings("device_type", &["pci"])
        .cells("#address-cells", &[3])
        .cells("#size-cells", &[2])
        .cells("#interrupt-cells", &[1])
        .cells("reg", &[0, 0x3f00_0000, 0, 0x100_0000])
        .cells("ranges", &[0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x100_0000])
        .cells("interrupt-map-mask", &[0x1800, 0, 0, 7])
        .cells("interrupt-map", &[0, 0, 0, 1, 1, 0, 3, 4, 0, 0, 0, 2, 1, 0, 4, 4, 0x800, 0, 0, 1, 1, 0, 4, 4])
        // A PCI device's registers are not the CPU's addresses.
        .with(node("nic@0").cells("reg", &[0, 0, 0, 0, 0x1000]).cells("interrupts", &[1]));
    let platform = Platform::parse(&board().with(bus).with(pcie).blob()).unwrap();
    assert_eq!(intids(&platform, "/bus/uart@0"), [70]);
    assert_eq!(intids(&platform, "/pcie@10000000"), [35, 36]);
    assert_eq!(intids(&platform, "/pcie@10000000/nic@0"), [35]);
    let windows = [range(0x1000_0000, 0x100_0000), range(0x3f00_0000, 0x100_0000)];
    assert_eq!(platform.dom0_regions(), windows);
    assert_eq!(platform.warnings, Vec::<String>::new());
}

#[test]
fn gic_v3_frames() {
    let gic = |cells: &[u32], regions: u32| {
        node("gic@2c001000")
            .strings("compatible", &["arm,gic-v3"])
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[3])
            .cells("#redistributor-regions", &[regions])
            .cells("reg", cells)
            .cells("interrupts", &[1, 9, 4])
            .cells("phandle", &[1])
    };
    let frames = [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x8_0000, 1, 0, 0, 0x4_0000];
    let platform = Platform::parse(&board().with(gic(&frames, 2)).blob()).unwrap();
    let GicFrames::V3 { redistributors, legacy, .. } = &platform.gic.frames else { panic!() };
    assert_eq!(redistributors, &[range(0x80a_0000, 0x8_0000), range(1 << 32, 0x4_0000)]);
    assert_eq!((platform.gic.vcpu_limit(), legacy), (6, &None));
    let error = Platform::parse(&board().with(gic(&frames, 3)).blob()).unwrap_err();
    assert_eq!(error.property, "#redistributor-regions");
    let error = Platform::parse(&board().with(gic(&frames[..8], 0)).blob()).unwrap_err();
    assert_eq!(error.problem, Problem::Cells(0));
}

#[test]
fn spin_tables_and_parked_cpus() {
    let cpus = node("cpus").cells("#address-cells", &[2]).cells("#size-cells", &[0]);
    let cpu = |name: &str, mpidr| {
        node(name)
            .strings("device_type", &["cpu"])
            .cells("reg", &[0, mpidr])
            .strings("enable-method", &["spin-table"])
    };
    let tree = board().with(
        cpus.clone()
            .with(cpu("cpu@0", 0).cells("cpu-release-addr", &[1, 0xfff8]))
            .with(
                cpu("cpu@100", 0x100)
                    .cells("cpu-release-addr", &[0x8000_fff8])
                    .strings("status", &["disabled"]),
            )
            .with(cpu("cpu@1", 1).strings("status", &["fail"])),
    );
    let platform = Platform::parse(&tree.blob()).unwrap();
    let methods: Vec<_> = platform.cpus.iter().map(|cpu| (cpu.mpidr, cpu.enable.clone())).collect();
    let table = |release| EnableMethod::SpinTable { release: Pa(release) };
    assert_eq!(methods, [(0, table(0x1_0000_fff8)), (0x100, table(0x8000_fff8))]);
    let missing = board().with(cpus.with(cpu("cpu@0", 0)));
    let error = Platform::parse(&missing.blob()).unwrap_err();
    assert_eq!(error.to_string(), "device tree: /cpus/cpu@0: property cpu-release-addr: missing");
}

#[test]
fn reserved_memory() {
    let tree = board().with(
        node("reserved-memory")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .flag("ranges")
            .with(node("ipc@50000000").cells("reg", &[0, 0x5000_0000, 0, 0x1000]).flag("no-map"))
            .with(node("pool").cells("size", &[0, 0x10_0000]).flag("reusable"))
            .with(node("dsp@51000000").cells("reg", &[0, 0x5100_0000, 0, 0x80_0000]).flag("reusable")),
    );
    let blob = tree.blob_with_reservations(&[(0x4000_0000, 0x1_0000)]);
    let platform = Platform::parse(&blob).unwrap();
    let found: Vec<_> = platform.reserved.iter().map(|r| (r.range, r.no_map)).collect();
    assert_eq!(found, [(range(0x4000_0000, 0x1_0000), false), (range(0x5000_0000, 0x1000), true)]);
    let hidden: Vec<String> =
        platform.hidden.iter().map(|id| Tree::parse(&blob).unwrap().node(*id).path()).collect();
    let (fixed, anywhere) = ("/reserved-memory/dsp@51000000", "/reserved-memory/pool");
    assert!(hidden.iter().any(|path| path == fixed) && !hidden.iter().any(|path| path == anywhere));
    assert_eq!(platform.dom0_reserved(PaRange::default()), [range(0x5000_0000, 0x1000)]);
    assert_eq!(platform.dom0_reserved(range(0x4fff_0000, 0x2_0000)), []);
}

#[test]
fn what_dom0_does_not_get() {
    let tree = board()
        .with(node("pmu").strings("compatible", &["arm,cortex-a53-pmu"]).cells("interrupts", &[0, 60, 4]))
        .with(
            node("cci@1").strings("compatible", &["arm,cci-400-pmu"]).cells("reg", &[0, 0x9_0000, 0, 0x100]),
        )
        .with(
            node("mmtimer")
                .strings("compatible", &["arm,armv7-timer-mem"])
                .cells("reg", &[0, 0x8_0000, 0, 0x100]),
        )
        .with(
            node("iommu")
                .strings("compatible", &["vendor,smmu", "arm,mmu-500"])
                .cells("reg", &[0, 0x7_0000, 0, 0x100]),
        )
        .with(node("off").strings("status", &["disabled"]).cells("reg", &[0, 0x6_0000, 0, 0x100]))
        // In RAM, and over the GIC: neither may be mapped.
        .with(node("fb@41000000").cells("reg", &[0, 0x4100_0000, 0, 0x100_0000]))
        .with(node("odd@2c000000").cells("reg", &[0, 0x2c00_0000, 0, 0x10000]));
    let platform = Platform::parse(&tree.blob()).unwrap();
    let paths: Vec<_> = platform.passthrough.iter().map(|device| device.path.as_str()).collect();
    assert_eq!(paths, ["/cci@1", "/fb@41000000", "/odd@2c000000"]);
    let odd = [(0x2c00_0000, 0x1000), (0x2c00_8000, 0x8000)].map(|(start, size)| range(start, size));
    assert_eq!(platform.dom0_regions(), [&[range(0x9_0000, 0x1000)], odd.as_slice()].concat());
    // But all of it is taken, as far as free address space goes.
    assert!(platform.occupied.iter().any(|taken| taken.contains(Pa(0x6_0000))));
}

#[test]
fn the_console_is_found_by_every_name() {
    let second =
        node("serial@9040000").strings("compatible", &["ns16550a"]).cells("reg", &[0, 0x904_0000, 0, 0x100]);
    let console = |chosen| {
        let platform = Platform::parse(&board().with(second.clone()).with(chosen).blob()).unwrap();
        (platform.console.map(|uart| uart.path).unwrap_or_default(), platform.warnings.len())
    };
    let first = String::from("/serial@9000000");
    let other = String::from("/serial@9040000");
    assert_eq!(console(node("chosen")), (first.clone(), 0));
    assert_eq!(console(node("chosen").strings("stdout-path", &["/serial@9040000:9600"])), (other.clone(), 0));
    let asked = node("chosen").strings("xen,xen-bootargs", &["dtuart=/serial@9040000"]);
    assert_eq!(console(asked.strings("stdout-path", &["serial0"])), (other.clone(), 0));
    assert_eq!(console(node("chosen").strings("xen,xen-bootargs", &["dtuart=/nothing"])), (first, 1));
    // With no name at all, the first UART serves, and the log says so.
    let bare = board().without("aliases").without("serial@9000000").with(node("chosen")).with(second);
    let platform = Platform::parse(&bare.blob()).unwrap();
    assert_eq!(platform.console.unwrap().path, other);
    assert!(platform.warnings[0].contains("dtuart"));
}

fn module(name: &str, kinds: &[&str], reg: &[u32]) -> fixture::TestNode {
    node(name).strings("compatible", kinds).cells("reg", reg)
}

#[test]
fn modules_in_both_spellings_and_all_cell_counts() {
    for (cells, kinds, kernel, ramdisk) in [
        (
            Some([1, 1]),
            [["multiboot,kernel", "multiboot,module"], ["multiboot,ramdisk", "multiboot,module"]],
            vec![0x4800_0000, 0x100],
            vec![0x4900_0000, 0x200],
        ),
        (
            None,
            [["xen,linux-zimage", "xen,multiboot-module"], ["xen,linux-initrd", "xen,multiboot-module"]],
            // The specification's default ...
            vec![0, 0x4800_0000, 0x100],
            // ... and the root's counts, which scripts mean that forget them.
            vec![0, 0x4900_0000, 0, 0x200],
        ),
    ] {
        let mut chosen = node("chosen");
        if let Some([address, size]) = cells {
            chosen = chosen.cells("#address-cells", &[address]).cells("#size-cells", &[size]);
        }
        chosen =
            chosen.with(module("module@0", &kinds[0], &kernel)).with(module("module@1", &kinds[1], &ramdisk));
        let boot = Platform::parse(&board().with(chosen).blob()).unwrap().boot;
        assert_eq!(boot.kernel().unwrap().range, range(0x4800_0000, 0x100));
        assert_eq!(boot.ramdisk().unwrap().range, range(0x4900_0000, 0x200));
    }
    // Without kinds, by position.
    let chosen = node("chosen")
        .with(module("module@0", &["multiboot,module"], &[0, 0x4800_0000, 0x100]))
        .with(module("module@1", &["multiboot,module"], &[0, 0x4900_0000, 0x200]));
    let boot = Platform::parse(&board().with(chosen).blob()).unwrap().boot;
    assert_eq!(boot.ramdisk().unwrap().range.start, Pa(0x4900_0000));
    // As a loader tells Linux.
    let chosen = node("chosen")
        .cells("linux,initrd-start", &[0x4a00_0000])
        .cells("linux,initrd-end", &[0, 0x4a00_1000]);
    let boot = Platform::parse(&board().with(chosen).blob()).unwrap().boot;
    assert_eq!(boot.ramdisk().unwrap().range, range(0x4a00_0000, 0x1000));
}

#[test]
fn bad_modules_are_errors() {
    let parse = |chosen| Platform::parse(&board().with(chosen).blob()).unwrap_err().to_string();
    let kernel = |reg: &[u32]| module("module@0", &["multiboot,kernel", "multiboot,module"], reg);
    let said = parse(node("chosen").with(kernel(&[0, 0x4800_0000])));
    assert!(said.contains("/chosen/module@0: property reg: 8 bytes long"), "{said}");
    assert!(parse(node("chosen").with(kernel(&[0, 0x4800_0000, 0]))).contains("empty"));
    assert!(parse(node("chosen").with(kernel(&[u32::MAX, u32::MAX, 2]))).contains("past the end"));
    assert!(parse(node("chosen").cells("#address-cells", &[7]).with(kernel(&[0; 3]))).contains("7 cells"));
    let twice = node("chosen").with(kernel(&[0, 0x4800_0000, 1])).with(module(
        "module@1",
        &["xen,linux-zimage", "multiboot,module"],
        &[0, 0x4900_0000, 1],
    ));
    assert!(parse(twice).contains("second module"));
    let reversed = node("chosen").cells("linux,initrd-start", &[9]).cells("linux,initrd-end", &[8]);
    assert!(parse(reversed).contains("linux,initrd-end"));
}

#[test]
fn command_lines_go_to_their_owners() {
    let with = |ours: Option<&str>, dom0: Option<&str>, plain: Option<&str>, on_kernel: Option<&str>| {
        let mut chosen = node("chosen");
        for (name, value) in [("xen,xen-bootargs", ours), ("xen,dom0-bootargs", dom0), ("bootargs", plain)] {
            if let Some(value) = value {
                chosen = chosen.strings(name, &[value]);
            }
        }
        let mut kernel = module("module@0", &["multiboot,kernel", "multiboot,module"], &[0, 0x4800_0000, 1]);
        if let Some(value) = on_kernel {
            kernel = kernel.strings("bootargs", &[value]);
        }
        let boot = Platform::parse(&board().with(chosen.with(kernel)).blob()).unwrap().boot;
        (boot.hypervisor_args, boot.dom0_args)
    };
    let pair = |a: &str, b: &str| (String::from(a), String::from(b));
    assert_eq!(with(None, None, Some("p"), Some("k")), pair("p", "k"));
    assert_eq!(with(Some("x"), Some("d"), Some("p"), None), pair("x", "d"));
    assert_eq!(with(Some("x"), None, Some("p"), None), pair("x", "p"));
    assert_eq!(with(None, Some("d"), Some("p"), None), pair("p", "d"));
    assert_eq!(with(None, None, Some("p"), None), pair("", "p"));
    assert_eq!(with(Some("x"), Some("d"), None, Some("k")), pair("x", "k"));
    assert_eq!(with(None, None, None, None), pair("", ""));
}

#[test]
fn what_is_missing_is_named() {
    let said = |tree: fixture::TestNode| Platform::parse(&tree.blob()).unwrap_err().to_string();
    assert_eq!(said(board().without("memory@40000000")), "device tree: /memory: no RAM is described");
    assert_eq!(said(board().without("cpus")), "device tree: /cpus: missing");
    assert_eq!(said(board().without("timer")), "device tree: /timer: no generic timer is described");
    assert!(said(board().without("gic@2c001000")).contains("no GICv2 or GICv3"));
    let old = node("gic@2c001000")
        .strings("compatible", &["arm,cortex-a9-gic"])
        .flag("interrupt-controller")
        .cells("#interrupt-cells", &[3])
        .cells("reg", &[0, 0x2c00_1000, 0, 0x1000, 0, 0x2c00_2000, 0, 0x1000])
        .cells("phandle", &[1]);
    assert!(said(board().with(old)).contains("cannot run guests"));
    let high = node("memory@0").strings("device_type", &["memory"]).cells("reg", &[u32::MAX, u32::MAX, 1, 0]);
    assert!(
        said(board().with(high)).contains("/memory@0: property reg: an address or size runs past the end")
    );
}

#[test]
fn references_in_circles_end() {
    // Two controllers that pass interrupts to each other.
    let controller = |name: &str, own, next| {
        node(name)
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[3])
            .cells("interrupt-parent", &[next])
            .cells("phandle", &[own])
    };
    // A nexus that maps to itself, and parents without cells that name each other.
    let tree = board()
        .with(controller("a", 8, 9))
        .with(controller("b", 9, 8))
        .with(node("user@1").cells("interrupt-parent", &[8]).cells("interrupts", &[0, 1, 4]))
        .with(
            node("nexus")
                .cells("#interrupt-cells", &[1])
                .cells("interrupt-map", &[0, 10, 0])
                .cells("phandle", &[10]),
        )
        .with(node("user@2").cells("interrupt-parent", &[10]).cells("interrupts", &[0]))
        .with(node("c").cells("interrupt-parent", &[12]).cells("phandle", &[11]))
        .with(node("d").cells("interrupt-parent", &[11]).cells("phandle", &[12]))
        .with(node("user@3").cells("interrupt-parent", &[11]).cells("interrupts", &[0]));
    let platform = Platform::parse(&tree.blob()).unwrap();
    let loops = platform.warnings.iter().filter(|warning| warning.contains("circle")).count();
    assert_eq!(loops, 2, "{:?}", platform.warnings);
    assert_eq!(intids(&platform, "/user@1"), []);
}

#[test]
fn absurd_cells_are_errors() {
    let said = |tree: fixture::TestNode| Platform::parse(&tree.blob()).unwrap_err().to_string();
    assert!(said(board().cells("#address-cells", &[u32::MAX])).contains("4294967295 cells"));
    assert!(
        said(board().cells("#address-cells", &[0]).cells("#size-cells", &[0])).contains("0-byte entries")
    );
    assert!(said(board().bytes("#size-cells", &[1])).contains("property #size-cells: 1 bytes long"));
    let wide = node("gic@2c001000")
        .strings("compatible", &["arm,gic-400"])
        .flag("interrupt-controller")
        .cells("#interrupt-cells", &[1_000_000])
        .cells("reg", &[0; 16]);
    assert!(Platform::parse(&board().with(wide).blob()).is_err());
    let many = vec![0; 4 * 257];
    let memory = node("memory@40000000").strings("device_type", &["memory"]).cells("reg", &many);
    assert!(said(board().with(memory)).contains("too many entries: the limit is 256"));
    let duplicate = board().with(node("twin").cells("phandle", &[1]));
    assert!(said(duplicate).contains("phandle 0x1 is used by two nodes"));
}

#[test]
fn blobs_that_are_no_trees() {
    let problem = |blob: &[u8]| Tree::parse(blob).unwrap_err().problem;
    assert_eq!(problem(b"hello, world"), Problem::NotATree);
    assert!(matches!(problem(&[]), Problem::Truncated { .. }));
    let blob = board().blob();
    assert!(matches!(problem(&blob[..blob.len() - 1]), Problem::Truncated { .. }));
    let mut long = blob.clone();
    long.extend([0; 100]);
    assert!(Tree::parse(&long).is_ok());
    let mut old = blob.clone();
    old[23] = 3;
    assert_eq!(problem(&old), Problem::Version(3));
    let mut huge = blob.clone();
    huge[4] = 0x7f;
    assert!(matches!(problem(&huge), Problem::TooLarge { .. }));
    let mut deep = node("leaf");
    for _ in 0..MAX_DEPTH {
        deep = node("n").with(deep);
    }
    let deep = node("").with(deep).blob();
    assert!(matches!(problem(&deep), Problem::TooLarge { what: "levels of nodes", .. }));
}

#[test]
fn paths_and_names() {
    let blob = board().blob();
    let tree = Tree::parse(&blob).unwrap();
    let timer = tree.by_path("/timer").unwrap();
    assert_eq!(timer.path(), "/timer");
    assert_eq!(tree.by_path("/cpus/cpu@1").unwrap().name(), "cpu@1");
    // Without a unit address the first of that name is meant.
    assert_eq!(tree.by_path("/cpus/cpu").unwrap().name(), "cpu@0");
    assert_eq!(tree.by_path_or_alias("serial0").unwrap().path(), "/serial@9000000");
    assert!(tree.by_path("/cpus/cpu@7").is_none() && tree.by_path_or_alias("nobody").is_none());
    assert_eq!(tree.root().path(), "/");
    assert_eq!(tree.by_path("/cpus").unwrap().descendants().count(), 2);
    assert_eq!(super::tree::total_size(&blob), Some(blob.len() as u32));
}
