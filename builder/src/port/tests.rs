//! Each check finds what it is for, on a tree that is right but for that.

use super::fixture::{TestNode, board, node};
use super::*;
use vambrace_bsp::{Architecture, Driver, parse};

/// The findings of a tree, as `level lint node`.
fn found(tree: &TestNode) -> Vec<String> {
    let report = check(&tree.blob()).unwrap();
    report.findings.iter().map(|found| format!("{} {} {}", found.level, found.lint, found.node)).collect()
}

/// The one finding of this lint.
fn one(tree: &TestNode, lint: &str) -> Finding {
    let report = check(&tree.blob()).unwrap();
    let mut of: Vec<Finding> = report.findings.iter().filter(|found| found.lint == lint).cloned().collect();
    assert_eq!(of.len(), 1, "{lint}: {}", report.text());
    of.remove(0)
}

fn fix(finding: &Finding) -> &str {
    finding.fix.as_ref().and_then(|fix| fix.source.as_deref()).unwrap()
}

#[test]
fn a_tree_that_is_right_has_no_findings() {
    let report = check(&board().blob()).unwrap();
    assert_eq!(report.findings, [], "{}", report.text());
    assert!(report.passes());
    let text = report.text();
    for part in [
        "Test \"board\" (maker,board, vendor,soc)",
        "2 x arm,cortex-a7 (armv7); started: PSCI 0.2 by smc",
        "1G at 0x40000000",
        "gicv2 at 0x1c81000, 0x1c82000, 0x1c84000, 0x1c86000; maintenance INTID 25",
        "INTIDs 29/30/27/26",
        "/serial@1c28000: ns16550 at 0x1c28000, shift 2, SPI 5",
        "0 errors, 0 warnings, 0 notes: the hypervisor can use this tree",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_interrupt_controller_is_looked_at() {
    let gic = |change: fn(TestNode) -> TestNode| board().change("gic@1c81000", change);

    let finding = one(&gic(|gic| gic.without("interrupts")), "gic-maintenance");
    assert_eq!((finding.level, finding.node.as_str()), (Level::Warning, "/gic@1c81000"));
    let expected =
        "&{/gic@1c81000} {\n    interrupt-parent = <&{/gic@1c81000}>;\n    interrupts = <1 9 0x304>;\n};\n";
    assert_eq!(fix(&finding), expected);

    let two = gic(|gic| gic.cells("reg", &[0x1c8_1000, 0x1000, 0x1c8_2000, 0x100]));
    assert_eq!(found(&two), ["error gic-regions /gic@1c81000"], "and nothing that only follows from it");
    assert!(
        fix(&one(&two, "gic-regions")).contains(
            "reg = <0x1c81000 0x1000>, <0x1c82000 0x2000>, <0x1c84000 0x2000>, <0x1c86000 0x2000>;"
        )
    );

    let small = gic(|gic| {
        gic.cells("reg", &[0x1c8_1000, 0x1000, 0x1c8_2000, 0x1000, 0x1c8_4000, 0x2000, 0x1c8_6000, 0x2000])
    });
    assert_eq!(found(&small), ["error gic-interface-size /gic@1c81000"]);
    assert!(fix(&one(&small, "gic-interface-size")).contains("<0x1c82000 0x2000>"));

    let named = gic(|gic| gic.strings("compatible", &["maker,qgic2"]));
    assert_eq!(found(&named), ["error gic-name /gic@1c81000"]);
    assert!(fix(&one(&named, "gic-name")).contains("compatible = \"maker,qgic2\", \"arm,gic-400\";"));

    let other = gic(|gic| gic.strings("compatible", &["brcm,bcm2836-l1-intc"]));
    let finding = one(&other, "gic-missing");
    assert_eq!((finding.level, finding.node.as_str()), (Level::Error, "/gic@1c81000"));
    assert!(finding.what.contains("brcm,bcm2836-l1-intc"));
}

#[test]
fn the_secure_view_of_x_gene_is_an_error_with_the_other_view_as_its_fix() {
    let tree =
        board().strings("compatible", &["apm,mustang", "apm,xgene-storm"]).change("gic@1c81000", |gic| {
            gic.cells(
                "reg",
                &[0x7801_0000, 0x1000, 0x7802_0000, 0x1000, 0x7804_0000, 0x1000, 0x7806_0000, 0x1000],
            )
        });
    let tree = tree.change("timer", |timer| {
        timer.cells("interrupts", &[1, 0, 0xff08, 1, 13, 0xff08, 1, 14, 0xff08, 1, 15, 0xff08])
    });
    // Its odd timers are right for it.
    assert_eq!(found(&tree), ["error gic-secure-view /gic@1c81000"]);
    let finding = one(&tree, "gic-secure-view");
    assert!(fix(&finding).contains("<0x78090000 0x10000>, <0x780a0000 0x20000>"));
}

#[test]
fn a_controller_in_front_of_the_gic_is_told_of_and_followed() {
    let tree = board()
        .cells("interrupt-parent", &[2])
        .with(
            node("wakeup")
                .strings("compatible", &["ti,omap5-wugen-mpu"])
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[3])
                .cells("interrupt-parent", &[1])
                .cells("phandle", &[2]),
        )
        .change("gic@1c81000", |gic| gic.cells("interrupt-parent", &[1]));
    assert_eq!(found(&tree), ["note interrupt-parent /wakeup"]);
    let report = check(&tree.blob()).unwrap();
    assert_eq!(report.facts.console.unwrap().spi, Some(5));
}

#[test]
fn the_timer_s_interrupts_are_looked_at() {
    let timer = |change: fn(TestNode) -> TestNode| board().change("timer", change);
    let three = timer(|timer| timer.cells("interrupts", &[1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08]));
    assert_eq!(found(&three), ["error timer-interrupts /timer"]);
    assert!(
        fix(&one(&three, "timer-interrupts"))
            .contains("interrupts = <1 13 0x308>, <1 14 0x308>, <1 11 0x308>, <1 10 0x308>;")
    );
    let odd = timer(|timer| timer.cells("interrupts", &[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 12, 8]));
    assert_eq!(found(&odd), ["warning timer-odd /timer"]);
    assert!(one(&odd, "timer-odd").what.contains("29/30/27/28"));
    assert_eq!(found(&board().without("timer")), ["error timer-missing /timer"]);
    let off = timer(|timer| timer.strings("status", &["disabled"]));
    assert!(fix(&one(&off, "timer-missing")).contains("okay"));
    let qualcomm = timer(|timer| timer.cells("interrupts", &[1, 1, 8, 1, 2, 8, 1, 3, 8, 1, 0, 8]));
    assert_eq!(found(&qualcomm), ["warning timer-odd /timer"]);
    assert_eq!(found(&qualcomm.strings("compatible", &["maker,phone", "qcom,soc"])), Vec::<String>::new());
    let slow = timer(|timer| {
        timer.cells("clock-frequency", &[6_144_000]).flag("arm,cpu-registers-not-fw-configured")
    });
    assert_eq!(
        found(&slow),
        ["warning timer-firmware /timer", "note timer-frequency /timer", "note long-names /timer"]
    );
}

#[test]
fn ram_that_firmware_adds_is_a_warning_and_the_rest_is_still_seen() {
    let without = board().without("memory@40000000");
    assert_eq!(found(&without), ["warning memory-missing /"]);
    let report = check(&without.blob()).unwrap();
    assert!(report.facts.gic.is_some() && report.facts.memory.is_empty());
    assert!(report.text().contains("none; firmware has to add it"));
    assert!(
        fix(&one(&without, "memory-missing")).contains("memory@40000000 {\n        device_type") || {
            fix(&one(&without, "memory-missing")).contains("reg = <0x40000000 0x40000000>;")
        }
    );
    let empty = board().change("memory@40000000", |memory| memory.cells("reg", &[0x4000_0000, 0]));
    assert_eq!(found(&empty), ["warning memory-missing /memory@40000000"]);
    let sunxi = without.strings("compatible", &["xunlong,orangepi-pc", "allwinner,sun8i-h3"]);
    assert!(one(&sunxi, "memory-missing").why.contains("U-Boot fills it in for every Allwinner board"));
    // Another fault is not hidden behind it.
    let both = board().without("memory@40000000").without("timer");
    assert_eq!(found(&both), ["error timer-missing /timer", "warning memory-missing /"]);
}

#[test]
fn wide_memory_on_a_narrow_machine_is_told_of() {
    let tree = board()
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .with(
            node("memory@40000000")
                .strings("device_type", &["memory"])
                .cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000]),
        )
        .with(node("memory@200000000").strings("device_type", &["memory"]).cells("reg", &[2, 0, 3, 0]))
        .change("gic@1c81000", |gic| {
            gic.cells(
                "reg",
                &[
                    0, 0x1c8_1000, 0, 0x1000, 0, 0x1c8_2000, 0, 0x2000, 0, 0x1c8_4000, 0, 0x2000, 0,
                    0x1c8_6000, 0, 0x2000,
                ],
            )
        })
        .change("serial@1c28000", |uart| uart.cells("reg", &[0, 0x1c2_8000, 0, 0x400]));
    assert_eq!(found(&tree), ["note memory-above-4g /memory", "note chosen-cells /chosen"]);
}

#[test]
fn ways_to_start_cpus_are_looked_at() {
    let silent = board().without("psci");
    assert_eq!(found(&silent), ["warning cpu-start /cpus"]);
    assert!(fix(&one(&silent, "cpu-start")).contains("arm,psci-0.2"));
    let sunxi = silent.clone().strings("compatible", &["allwinner,sun8i-h3"]);
    assert!(one(&sunxi, "cpu-start").why.contains("U-Boot adds `/psci`"));

    let cpus =
        |change: fn(TestNode) -> TestNode| silent.clone().change("cpus", |cpus| cpus.change("cpu@1", change));
    let spin = cpus(|cpu| cpu.strings("enable-method", &["spin-table"]));
    assert_eq!(found(&spin), ["error spin-table-address /cpus/cpu@1"]);
    let own = cpus(|cpu| cpu.strings("enable-method", &["maker,smp"]));
    assert!(found(&own).contains(&"warning cpu-start /cpus/cpu@1".to_owned()), "{:?}", found(&own));

    let hvc = board().change("psci", |psci| psci.strings("method", &["hvc"]));
    assert_eq!(found(&hvc), ["warning psci-hvc /psci"]);
    let old = board().change("psci", |psci| psci.strings("compatible", &["arm,psci"]));
    assert_eq!(found(&old), ["warning psci-cpu-on /psci"]);
}

#[test]
fn cores_without_virtualization_and_of_two_architectures_are_errors() {
    let with = |name: &'static str| {
        board().change("cpus", |cpus| cpus.change("cpu@1", |cpu| cpu.strings("compatible", &[name])))
    };
    assert_eq!(found(&with("arm,cortex-a9")), ["error cpu-virtualization /cpus/cpu@1"]);
    assert_eq!(found(&with("arm,cortex-a53")), ["error cpu-architectures /cpus/cpu@1"]);
    assert_eq!(found(&with("arm,cortex-a15")), Vec::<String>::new());
    assert_eq!(found(&with("maker,core")), ["note cpu-unknown /cpus/cpu@1"]);
}

#[test]
fn the_console_is_looked_at() {
    let uart = |change: fn(TestNode) -> TestNode| board().change("serial@1c28000", change);
    let other = uart(|uart| uart.strings("compatible", &["maker,uart"]));
    assert_eq!(found(&other), ["warning console-driver /serial@1c28000"]);
    let fix = one(&other, "console-driver").fix.unwrap().text;
    assert!(fix.contains("pl011") && fix.contains("samsung,exynos4210-uart"), "{fix}");
    assert_eq!(
        found(&uart(|uart| uart.strings("status", &["disabled"]))),
        ["warning console-disabled /serial@1c28000"]
    );
    assert_eq!(
        found(&uart(|uart| uart.without("interrupts"))),
        ["warning console-interrupt /serial@1c28000"]
    );
    let unnamed = board().change("chosen", |chosen| chosen.without("stdout-path"));
    assert_eq!(found(&unnamed), ["note console-path /chosen"]);
    let lost = board().change("chosen", |chosen| chosen.strings("stdout-path", &["serial7:9600"]));
    assert_eq!(found(&lost), ["warning console-path /chosen"]);
    let none = board().without("serial@1c28000").without("aliases").without("chosen");
    assert_eq!(found(&none), ["warning console-path /chosen"]);
}

#[test]
fn reserved_memory_is_looked_at() {
    let reserved = |children: TestNode| board().with(children);
    let parent =
        || node("reserved-memory").cells("#address-cells", &[1]).cells("#size-cells", &[1]).flag("ranges");
    let child = || node("optee@7e000000").cells("reg", &[0x7e00_0000, 0x10_0000]);
    assert_eq!(found(&reserved(parent().with(child().flag("no-map")))), Vec::<String>::new());
    assert_eq!(
        found(&reserved(parent().with(child()))),
        ["warning reserved-no-map /reserved-memory/optee@7e000000"]
    );
    let without = reserved(parent().without("ranges").with(child().flag("no-map")));
    assert_eq!(found(&without), ["error reserved-ranges /reserved-memory"]);
    let wide = reserved(
        parent().cells("#address-cells", &[2]).with(node("x@0").cells("reg", &[0, 0x7e00_0000, 0x1000])),
    );
    assert_eq!(found(&wide), ["warning reserved-cells /reserved-memory"]);
}

#[test]
fn the_form_of_the_tree_is_looked_at() {
    let chosen = |change: fn(TestNode) -> TestNode| board().change("chosen", change);
    assert_eq!(found(&chosen(|chosen| chosen.without("#size-cells"))), ["note chosen-cells /chosen"]);
    assert_eq!(found(&chosen(|chosen| chosen.cells("#address-cells", &[3]))), ["error chosen-cells /chosen"]);
    assert_eq!(found(&board().without("compatible")), ["warning root-compatible /"]);
    let long = board()
        .with(node("a-name-of-thirty-two-characters-").flag("another-name-that-is-longer-than-the-limit"));
    assert_eq!(found(&long), ["note long-names /a-name-of-thirty-two-characters-"]);
    assert!(one(&long, "long-names").what.starts_with("names longer than 31 characters: 2, such as"));
    // Labels for overlays are no names of hardware.
    let labels =
        board().with(node("__symbols__").strings("a-label-that-is-longer-than-the-limit-of-names", &["/"]));
    assert_eq!(found(&labels), Vec::<String>::new());
}

#[test]
fn what_the_hypervisor_refuses_otherwise_is_said_in_its_words() {
    let twice = board().change("cpus", |cpus| cpus.change("cpu@1", |cpu| cpu.cells("reg", &[0])));
    let finding = one(&twice, "refused");
    assert_eq!((finding.level, finding.node.as_str()), (Level::Error, "/cpus/cpu@1"));
    assert!(finding.what.contains("`reg`"), "{}", finding.what);
}

#[test]
fn what_is_no_tree_is_an_error_that_says_what_it_is() {
    let blob = board().blob();
    let said = |bytes: &[u8]| check(bytes).unwrap_err().report();
    assert!(said(b"").contains("no device tree"));
    assert!(said(b"MZ and so on, for a kernel is no tree, nor is a page of text").contains("no device tree"));
    assert!(said(&blob[..blob.len() / 2]).contains("no device tree"));
    assert!(said(b"\n/dts-v1/;\n/ { };").contains("dtc"));
    let fit = node("").with(node("images")).with(node("configurations"));
    assert!(said(&fit.blob()).contains("FIT image"));
    let overlay = node("").with(node("fragment@0").with(node("__overlay__")));
    assert!(said(&overlay.blob()).contains("fdtoverlay"));
}

#[test]
fn damaged_trees_are_survived() {
    let blob = board().blob();
    let (mut refused, mut read) = (0, 0);
    for at in (0..blob.len()).step_by(3) {
        for value in [0, 1, 0x7f, 0xff, blob[at] ^ 0x80] {
            let mut damaged = blob.clone();
            damaged[at] = value;
            match check(&damaged) {
                Ok(report) => {
                    read += 1;
                    assert!(report.text().ends_with('\n'));
                    // Whatever it describes, a description of it is valid, or it is refused.
                    if let Ok(made) = describe("board", &damaged, Some(Architecture::Armv7)) {
                        parse("board.toml", &made.text).unwrap();
                    }
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && read > 100, "{refused} refused, {read} read");
}

#[test]
fn the_serial_line_s_speed_is_the_tree_s_or_left_to_a_person() {
    for (stdout, expected) in [
        ("serial0:9600n8", Some(9600)),
        ("serial0", None),
        ("serial0:", None),
        ("serial0:fast", None),
        ("serial0:7n8", None),
        ("serial0:99999999999999999999n8", None),
        ("serial7:9600", None),
    ] {
        let tree = board().change("chosen", |chosen| chosen.strings("stdout-path", &[stdout]));
        let made = describe("my-board", &tree.blob(), None).unwrap();
        let read = parse("board.toml", &made.text).unwrap();
        assert_eq!(read.serial.map(|serial| serial.baud), expected, "{stdout}: {}", made.text);
        assert_eq!(made.text.contains("CHECK: the speed"), expected.is_none(), "{stdout}");
    }
}

#[test]
fn a_description_has_what_the_tree_says() {
    let made = describe("my-board", &board().blob(), None).unwrap();
    let read = parse("board.toml", &made.text).unwrap();
    assert_eq!((read.id.as_str(), read.name.as_str()), ("my-board", "Test \"board\""));
    assert_eq!((read.vendor.as_str(), read.soc.as_str()), ("maker", "soc"));
    assert_eq!(read.architecture, Architecture::Armv7);
    assert_eq!((read.memory.base, read.memory.default.bytes()), (0x4000_0000, 1 << 30));
    let console = read.console.as_ref().unwrap();
    assert_eq!(
        (console.driver, console.base, console.reg_shift, console.spi),
        (Driver::Ns16550, 0x1c2_8000, 2, 5)
    );
    assert_eq!(read.serial.as_ref().map(|serial| serial.baud), Some(115_200));
    assert_eq!(read.hypervisor.drivers, [Driver::Gicv2, Driver::Ns16550]);
    assert!(read.never_booted());
    assert_eq!(made.tree_file, "my-board.dtb");
    assert!(
        made.text.contains("# /gic@1c81000 is a gicv2") && made.text.contains("PSCI 0.2 by smc"),
        "{}",
        made.text
    );
}

#[test]
fn what_a_tree_lacks_is_marked_and_never_made_up() {
    let bare = board().without("memory@40000000").without("serial@1c28000").without("aliases");
    let made = describe("bare", &bare.blob(), None).unwrap();
    let read = parse("board.toml", &made.text).unwrap();
    assert!(read.console.is_none());
    for part in
        ["# CHECK: the tree has no RAM", "# CHECK: no console was found", "warning: /: no RAM is described"]
    {
        assert!(made.text.contains(part), "{part} in {}", made.text);
    }
    let unknown = board().change("cpus", |cpus| {
        ["cpu@0", "cpu@1"]
            .iter()
            .fold(cpus, |cpus, name| cpus.change(name, |cpu| cpu.strings("compatible", &["maker,core"])))
    });
    let said = describe("unknown", &unknown.blob(), None).unwrap_err().report();
    assert!(said.contains("--architecture"), "{said}");
    let made = describe("unknown", &unknown.blob(), Some(Architecture::Aarch64)).unwrap();
    assert_eq!(parse("board.toml", &made.text).unwrap().architecture, Architecture::Aarch64);
    let old = board()
        .change("cpus", |cpus| cpus.change("cpu@0", |cpu| cpu.strings("compatible", &["arm,cortex-a9"])));
    assert!(describe("old", &old.blob(), None).unwrap_err().report().contains("no hypervisor runs"));
    assert!(describe("../x", &board().blob(), None).unwrap_err().report().contains("is not a board's name"));
}
