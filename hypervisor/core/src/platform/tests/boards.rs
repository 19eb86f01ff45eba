//! Boards with ways of their own: to start CPUs, to end.

use alloc::vec;
use alloc::vec::Vec;

use super::fixture::{TestNode, board, node};
use super::*;
use crate::addr::Pa;

/// The board without PSCI, and without what its CPUs say on how they start.
fn without_psci() -> TestNode {
    let cpu = |name: &str, number| {
        node(name)
            .strings("device_type", &["cpu"])
            .strings("compatible", &["arm,cortex-a15"])
            .cells("reg", &[number])
    };
    let cpus = node("cpus")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[0])
        .with(cpu("cpu@0", 0))
        .with(cpu("cpu@1", 1));
    board().without("psci").with(cpus)
}

/// A bus on which addresses are physical, in one cell.
fn bus() -> TestNode {
    node("soc")
        .strings("compatible", &["simple-bus"])
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .cells("ranges", &[0, 0, 0, 0xffff_ffff])
}

fn parsed(tree: &TestNode) -> Platform {
    Platform::parse(&tree.blob()).unwrap()
}

/// The steps that start CPU 1, and how it arrives.
fn start(tree: &TestNode) -> (Vec<Step>, Arrival) {
    match &parsed(tree).cpus[1].enable {
        EnableMethod::Registers { steps, arrival, .. } => (steps.clone(), *arrival),
        other => panic!("{other:?}"),
    }
}

/// Versatile Express: system registers behind chip selects, and the configuration bus that they drive.
fn versatile() -> TestNode {
    versatile_with(0x1000)
}

/// The same with so many bytes of system registers.
fn versatile_with(size: u32) -> TestNode {
    let function = |name: &str, compatible: &str, function| {
        node(name).strings("compatible", &[compatible]).cells("arm,vexpress-sysreg,func", &[function, 0])
    };
    let mcc = node("mcc")
        .strings("compatible", &["arm,vexpress,config-bus"])
        .cells("arm,vexpress,config-bridge", &[0x20])
        .with(function("reboot", "arm,vexpress-reboot", 9))
        .with(function("shutdown", "arm,vexpress-shutdown", 8));
    let motherboard = node("motherboard")
        .cells("arm,vexpress,site", &[0])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[1])
        .cells("ranges", &[3, 0, 0x1c00_0000, 0x20_0000])
        .with(
            node("sysreg@300010000")
                .strings("compatible", &["arm,vexpress-sysreg"])
                .cells("reg", &[3, 0x1_0000, size])
                .cells("phandle", &[0x20]),
        )
        .with(mcc);
    without_psci()
        .strings("compatible", &["arm,vexpress,v2p-ca15", "arm,vexpress"])
        .cells("arm,vexpress,site", &[0xf])
        .with(bus().with(motherboard))
}

#[test]
fn versatile_express_starts_cpus_by_its_flags() {
    let flags = |offset: u64| Pa(0x1c01_0000 + offset);
    let expected = [
        Step::Write { register: flags(0x34), value: u32::MAX },
        Step::WriteEntry { register: flags(0x30) },
        Step::Interrupt,
    ];
    assert_eq!(start(&versatile()), (expected.to_vec(), Arrival::Hypervisor));
    // Firmware with PSCI has the CPUs, whatever the board.
    let psci = node("psci").strings("compatible", &["arm,psci-0.2"]).strings("method", &["smc"]);
    assert_eq!(parsed(&versatile().with(psci)).cpus[1].enable, EnableMethod::Psci);
    // A board that is not known says nothing.
    assert_eq!(parsed(&without_psci()).cpus[1].enable, EnableMethod::Unknown);
}

#[test]
fn versatile_express_ends_by_its_configuration_bus() {
    let power = parsed(&versatile()).power;
    let steps = |command| {
        vec![
            Step::Write { register: Pa(0x1c01_00a8), value: 0 },
            Step::Write { register: Pa(0x1c01_00a0), value: 0 },
            Step::Write { register: Pa(0x1c01_00a4), value: command },
        ]
    };
    let [off] = power.off.as_slice() else { panic!("{power:?}") };
    let [reset] = power.reset.as_slice() else { panic!("{power:?}") };
    assert_eq!((&off.steps, &reset.steps), (&steps(0xc080_0000), &steps(0xc090_0000)));
    assert_eq!(parsed(&versatile_with(0xac)).power, power);
    assert_eq!(parsed(&versatile_with(0xa8)).power, Power::default(), "without the last register");
}

#[test]
fn psci_comes_first_where_it_can() {
    let call = |function| vec![Step::Firmware { function }];
    let power = parsed(&board()).power;
    assert_eq!(power.off[0].steps, call(0x8400_0008));
    assert_eq!(power.reset[0].steps, call(0x8400_0009));
    // Version 0.1 has neither; `hvc` is this hypervisor's own.
    let old = node("psci")
        .strings("compatible", &["arm,psci"])
        .strings("method", &["smc"])
        .cells("cpu_on", &[0x8400_0003]);
    let own = node("psci").strings("compatible", &["arm,psci-1.0"]).strings("method", &["hvc"]);
    for psci in [old, own] {
        assert_eq!(parsed(&board().with(psci)).power, Power::default());
    }
}

#[test]
fn system_controllers_end_boards() {
    let controller = node("pmu@10040000")
        .strings("compatible", &["samsung,exynos5250-pmu", "syscon"])
        .cells("reg", &[0x1004_0000, 0x5000])
        .cells("phandle", &[0x30])
        .with(
            node("syscon-reboot")
                .strings("compatible", &["syscon-reboot"])
                .cells("offset", &[0x400])
                .cells("mask", &[1]),
        );
    let off = node("poweroff")
        .strings("compatible", &["syscon-poweroff"])
        .cells("regmap", &[0x30])
        .cells("offset", &[0x330c])
        .cells("value", &[0x5200])
        .cells("mask", &[0xff00]);
    let power = parsed(&board().with(bus().with(controller.clone())).with(off.clone())).power;
    assert_eq!(power.reset[1].steps, [Step::Write { register: Pa(0x1004_0400), value: 1 }], "a mask alone");
    let update = Step::Update { register: Pa(0x1004_330c), mask: 0xff00, value: 0x5200 };
    assert_eq!(power.off[1].steps, [update]);
    // What would touch something else than the controller is left out.
    for bad in [
        off.clone().cells("offset", &[0x5000]),
        off.clone().cells("offset", &[2]),
        off.cells("regmap", &[99]),
    ] {
        assert_eq!(parsed(&board().with(bus().with(controller.clone())).with(bad)).power.off.len(), 1);
    }
}

#[test]
fn calxeda_and_allwinner_and_xgene_have_registers() {
    let device = |name: &str, compatible: &str, reg: [u32; 2]| {
        board().with(bus().with(node(name).strings("compatible", &[compatible]).cells("reg", &reg)))
    };
    let power = parsed(&device("sregs@fff3c000", "calxeda,hb-sregs", [0xfff3_c000, 0x1000])).power;
    let steps = |request| {
        [
            Step::Write { register: Pa(0xfff3_cf00), value: request },
            Step::WriteOwn { register: Pa(0xfff3_c200), stride: 4, value: 1 },
            Step::Idle,
        ]
    };
    assert_eq!(
        (power.off[1].steps.as_slice(), power.reset[1].steps.as_slice()),
        (&steps(3)[..], &steps(2)[..])
    );
    let power = parsed(&device("watchdog@1c20ca0", "allwinner,sun6i-a31-wdt", [0x01c2_0ca0, 0x20])).power;
    let expected = [
        Step::Update { register: Pa(0x01c2_0cb4), mask: 3, value: 1 },
        Step::Update { register: Pa(0x01c2_0cb8), mask: 0xf1, value: 1 },
        Step::Write { register: Pa(0x01c2_0cb0), value: 0x14af },
    ];
    assert_eq!((power.off.len(), power.reset[1].steps.as_slice()), (1, &expected[..]));
    let power = parsed(&device("watchdog@1c20c90", "allwinner,sun4i-a10-wdt", [0x01c2_0c90, 0x10])).power;
    assert_eq!(power.reset[1].steps[0], Step::Update { register: Pa(0x01c2_0c94), mask: 2, value: 2 });
    let power = parsed(&device("reboot@17000014", "apm,xgene-reboot", [0x1700_0014, 0x10])).power;
    assert_eq!(power.reset[1].steps, [Step::Write { register: Pa(0x1700_0014), value: 1 }]);
    // One that is too small for its registers is not touched.
    let power = parsed(&device("watchdog@1c20ca0", "allwinner,sun6i-a31-wdt", [0x01c2_0ca0, 0x10])).power;
    assert_eq!(power.reset.len(), 1);
}

#[test]
fn exynos_and_a20_take_cpus_out_of_reset() {
    let exynos = bus()
        .with(
            node("smp-sram@2020000")
                .strings("compatible", &["samsung,exynos4210-sysram"])
                .cells("reg", &[0x0202_0000, 0x1000]),
        )
        .with(
            node("pmu@10040000")
                .strings("compatible", &["samsung,exynos5250-pmu", "syscon"])
                .cells("reg", &[0x1004_0000, 0x5000]),
        );
    let tree = without_psci().strings("compatible", &["insignal,arndale", "samsung,exynos5250"]);
    let expected = [
        Step::WriteEntry { register: Pa(0x0202_0000) },
        Step::Write { register: Pa(0x1004_2080), value: 3 },
        Step::Await { register: Pa(0x1004_2084), mask: 3, value: 3 },
        Step::Interrupt,
    ];
    assert_eq!(start(&tree.clone().with(exynos.clone())), (expected.to_vec(), Arrival::Hypervisor));
    assert_eq!(parsed(&tree).cpus[1].enable, EnableMethod::Unknown, "without the blocks there is no way");
    let (steps, arrival) = start(&without_psci().strings("compatible", &["allwinner,sun7i-a20"]));
    assert_eq!(arrival, Arrival::Secure);
    assert_eq!(steps[0], Step::WriteEntry { register: Pa(0x01c2_5da4) });
    assert_eq!(steps[1], Step::Write { register: Pa(0x01c2_5c80), value: 0 }, "CPU 1's reset");
    assert_eq!(steps.last(), Some(&Step::Update { register: Pa(0x01c2_5de4), mask: 2, value: 2 }));
    // A core that the SoC does not have: its registers would be others'.
    for soc in ["samsung,exynos5250", "allwinner,sun7i-a20"] {
        for number in [2, 0x100, 0xff_ffff] {
            let cpu = node("cpu@1").strings("device_type", &["cpu"]).cells("reg", &[number]);
            let cpus = node("cpus").cells("#address-cells", &[1]).cells("#size-cells", &[0]).with(cpu);
            let tree = board().without("psci").with(cpus).strings("compatible", &[soc]).with(exynos.clone());
            assert_eq!(parsed(&tree).cpus[0].enable, EnableMethod::Unknown, "{soc}, {number:#x}");
        }
    }
    assert!(steps.iter().all(|step| match *step {
        Step::Write { register, .. } | Step::Update { register, .. } | Step::WriteEntry { register } => {
            register.0 >> 12 == 0x1c25
        }
        step => matches!(step, Step::Delay { .. }),
    }));
}

#[test]
fn omap5_s_rom_lets_its_second_cpu_go() {
    let wakeup = || {
        node("interrupt-controller@48281000")
            .strings("compatible", &["ti,omap5-wugen-mpu", "ti,omap4-wugen-mpu"])
            .cells("reg", &[0, 0x4828_1000, 0, 0x1000])
    };
    let expected = [
        Step::WriteEntry { register: Pa(0x4828_1804) },
        Step::Write { register: Pa(0x4828_1800), value: 0x20 },
        Step::Event,
    ];
    for soc in ["ti,omap5", "ti,dra7"] {
        let tree = without_psci().strings("compatible", &["ti,some-board", soc]).with(wakeup());
        assert_eq!(start(&tree), (expected.to_vec(), Arrival::OmapMonitor), "{soc}");
        assert_eq!(parsed(&tree).timer.counter.is_some(), soc == "ti,omap5");
    }
    let tree = without_psci().strings("compatible", &["ti,some-board", "ti,omap5"]);
    assert_eq!(parsed(&tree).cpus[1].enable, EnableMethod::Unknown, "without the wake-up generator");
    assert_eq!(parsed(&tree).timer.frequency, Some(6_144_000));
}

#[test]
fn a_palmas_switches_off_over_i2c() {
    let clocks = node("clock@20")
        .strings("compatible", &["ti,clkctrl"])
        .cells("reg", &[0x4a00_9020, 0x100])
        .cells("phandle", &[0x40]);
    let palmas = node("palmas@48").strings("compatible", &["ti,palmas"]).cells("reg", &[0x48]);
    let tree = |palmas: TestNode, clock: u32| {
        let i2c = node("i2c@0")
            .strings("compatible", &["ti,omap4-i2c"])
            .cells("reg", &[0, 0x100])
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[0])
            .with(palmas);
        let module = node("target-module@70000")
            .strings("compatible", &["ti,sysc-omap2", "ti,sysc"])
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[1])
            .cells("ranges", &[0, 0x4807_0000, 0x1000])
            .cells("clocks", &[0x40, clock, 0])
            .with(i2c);
        without_psci().with(bus().with(clocks.clone()).with(module))
    };
    let control = palmas.clone().flag("ti,system-power-controller");
    let power = parsed(&tree(control.clone(), 0x80)).power;
    let [method] = power.off.as_slice() else { panic!("{power:?}") };
    let clock = Pa(0x4a00_90a0);
    assert_eq!(
        method.steps[..2],
        [
            Step::Update { register: clock, mask: 3, value: 2 },
            Step::Await { register: clock, mask: 3 << 16, value: 0 }
        ]
    );
    let sent: Vec<u16> = method
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::WriteHalf { register: Pa(0x4807_009c), value } => Some(*value),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [0xa0, 0], "register, and nothing on");
    assert!(method.steps.contains(&Step::WriteHalf { register: Pa(0x4807_00ac), value: 0x48 }));
    // One that does not control the power, one at no address, and a clock that the tree does not have.
    assert_eq!(parsed(&tree(palmas, 0x80)).power.off, []);
    assert_eq!(parsed(&tree(control.clone().cells("reg", &[0x1_0048]), 0x80)).power.off, []);
    assert!(!parsed(&tree(control, 0x200)).power.off[0].steps.contains(&Step::Await {
        register: clock,
        mask: 3 << 16,
        value: 0
    }));
}

#[test]
fn a_secure_view_of_the_gic_is_refused() {
    let gic = |base: u32| {
        node("gic@2c001000")
            .strings("compatible", &["arm,cortex-a15-gic"])
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[3])
            .cells("phandle", &[1])
            .cells(
                "reg",
                &[
                    0,
                    base,
                    0,
                    0x1000,
                    0,
                    base + 0x1_0000,
                    0,
                    0x2000,
                    0,
                    base + 0x3_0000,
                    0,
                    0x2000,
                    0,
                    base + 0x5_0000,
                    0,
                    0x2000,
                ],
            )
    };
    let xgene = board().strings("compatible", &["apm,mustang", "apm,xgene-storm"]);
    let error = Platform::parse(&xgene.clone().with(gic(0x7801_0000)).blob()).unwrap_err();
    assert!(matches!(error.problem, Problem::Unsupported(what) if what.contains("0x78090000")), "{error}");
    assert!(Platform::parse(&xgene.with(gic(0x7809_0000)).blob()).is_ok());
}
