//! Board descriptions, good and bad, as a user would write them.

use std::fs;
use vambrace_bsp::{Catalog, Method, Source, parse};

fn qemu() -> String {
    let boards = Catalog::embedded().expect("the project's boards are sound");
    boards.text("qemu-arm64").expect("it is compiled in").to_owned()
}

/// Reads the description of qemu-arm64 with `from` replaced, and returns place, fault and help.
fn fault(from: &str, to: &str) -> (usize, String, String) {
    let text = qemu();
    assert!(text.contains(from), "{from}");
    let error = parse("board.toml", &text.replacen(from, to, 1)).expect_err("it has a fault");
    let line = error.position.expect("it has a place").0;
    assert!(error.to_string().starts_with(&format!("board.toml:{line}:")), "{error}");
    (line, error.fault(), error.help.unwrap_or_default())
}

fn line_of(part: &str) -> usize {
    qemu().lines().position(|line| line.contains(part)).expect("the line is there") + 1
}

#[test]
fn every_board_of_the_project_is_sound_and_boots_somehow() {
    let boards = Catalog::embedded().unwrap();
    assert!(boards.iter().count() >= 2);
    for (id, board) in boards.iter() {
        let board = board.as_ref().unwrap();
        assert_eq!(board.id, id);
        assert_eq!(boards.source(id), Some(&Source::Embedded));
        assert!(board.method(None).is_some());
    }
    let generic = boards.get("generic-arm64").unwrap();
    assert!(generic.console.is_none(), "the generic board has no address compiled in");
    assert_eq!(boards.get("qemu-arm64").unwrap().method(None).map(|(method, _)| method), Some(Method::Uboot));
}

#[test]
fn a_mistyped_key_names_file_line_field_and_the_right_one() {
    let (line, fault, help) = fault("drivers = ", "drivrs = ");
    assert_eq!(line, line_of("drivers = "));
    assert_eq!(fault, "in `hypervisor.drivrs`: unknown key `drivrs`");
    assert_eq!(help, "did you mean `drivers`?");
}

#[test]
fn a_mistyped_value_names_the_right_one() {
    let (line, _, help) = fault("\"pl011\"]", "\"pl10\"]");
    assert_eq!(line, line_of("drivers = "));
    assert_eq!(help, "did you mean `pl011`?");
    let (_, fault, help) = fault("default-variant = \"gicv2\"", "default-variant = \"gic2\"");
    assert_eq!(fault, "in `qemu.default-variant`: no variant is called `gic2`");
    assert!(help.contains("`gicv2`"), "{help}");
    let (_, fault, help) = fault_in_boot();
    assert_eq!(fault, "in `boot.uboot.firmware.0`: no firmware is called `uboot`");
    assert!(help.contains("`u-boot`"), "{help}");
}

fn fault_in_boot() -> (usize, String, String) {
    fault("firmware = [\"u-boot\"]", "firmware = [\"uboot\"]")
}

#[test]
fn values_that_cannot_be_are_refused() {
    for (from, to, expected) in [
        ("default = \"2G\"", "default = \"2Q\"", "`2Q` is not a size"),
        ("default = \"2G\"", "default = \"128M\"", "in `memory.default`: 128M is not between min 256M"),
        ("base = 0x4000_0000\n", "base = 0x4000_0001\n", "in `memory.base`: 0x40000001 is not a multiple"),
        ("base = 0x4000_0000\n", "base = -4096\n", "invalid value"),
        ("max = \"64G\"", "max = \"1024T\"", "in `memory.max`: RAM of 1P at".replace("1P", "1024T").as_str()),
        ("[\"gicv2\", \"gicv3\", \"pl011\"]", "[\"pl011\"]", "no driver for an interrupt controller"),
        (
            "[\"gicv2\", \"gicv3\", \"pl011\"]",
            "[\"gicv2\", \"ns16550\"]",
            "in `console.driver`: `pl011` is not compiled in",
        ),
        (
            "\"gicv3\", \"pl011\"]",
            "\"gicv2\", \"pl011\"]",
            "in `hypervisor.drivers.1`: `gicv2` is named twice",
        ),
        ("path = \"/usr/lib/u-boot", "path = \"../u-boot", "in `firmware.u-boot.path`: `../u-boot"),
        ("script-address = 0x4020_0000", "script-address = 0x20_0000", "is outside the smallest RAM"),
        (
            "script-address = 0x4020_0000",
            "",
            "in `boot.uboot.script-address`: U-Boot's boot script has no address",
        ),
        ("cpus = 4", "cpus = 9", "in `qemu.cpus`: 9 is not between 1 and max-cpus, 8"),
        ("file={image}\"", "file=disk.img\"", "in `qemu.disk`: no argument has {image}"),
        (
            "gic = \"gicv2\"\n",
            "gic = \"gicv2\"\ndisk = [\"-cdrom\"]\n",
            "in `qemu.variants.gicv2.disk`: no argument has {image}",
        ),
        (
            "gic = \"gicv2\"\n",
            "gic = \"gicv2\"\ndisk = [\"{image}\", \"{disk}\"]\n",
            "in `qemu.variants.gicv2.disk.1`: `{disk}` stands for nothing",
        ),
        ("{file}\"]", "{fiel}\"]", "in `firmware.u-boot.qemu.1`: `{fiel}` stands for nothing"),
        ("spi = 1", "spi = 1234", "in `console.spi`: 1234 is not a shared interrupt's number"),
        ("default-method = \"uboot\"", "default-method = \"uboto\"", "unknown value `uboto`"),
        (
            "emulated = true\n",
            "emulated = true\nserial = { baud = 9600 }\n",
            "in `serial`: a machine that is `emulated`",
        ),
        ("emulated = true\n", "serial = { baud = 96 }\n", "in `serial.baud`: 96 is not from 300"),
        (
            "emulated = true\n",
            "serial = { baud = 9600, connector = \"a\\nb\" }\n",
            "in `serial.connector`: this is no name",
        ),
        ("id = \"qemu-arm64\"", "id = \"../etc\"", "in `id`: `../etc` is not a board's name"),
    ] {
        let expected: &str = expected;
        let (_, fault, _) = fault(from, to);
        assert!(fault.contains(expected), "{to}: {fault}");
    }
}

#[test]
fn firmware_of_the_user_s_has_a_place_and_a_name_that_can_be_typed() {
    let boards = Catalog::embedded().unwrap();
    let text = boards.text("omap5-uevm").unwrap();
    for (from, to, expected) in [
        (
            "[firmware.MLO]\nfile = \"MLO\"\noffset = \"128K\"\n",
            "[firmware.MLO]\n",
            "in `firmware.MLO`: the user's file would be nowhere",
        ),
        (
            "file = \"MLO\"",
            "file = \"boot/MLO\"",
            "in `firmware.MLO.file`: `boot/MLO` is not a file's short name",
        ),
        ("file = \"MLO\"", "file = \"MLO.\"", "not a file's short name"),
        ("file = \"u-boot.img\"", "file = \"u-boot.image\"", "not a file's short name"),
        (
            "file = \"MLO\"",
            "file = \"MLO\"\npath = \"/MLO\"",
            "in `firmware.MLO.path`: `/MLO` is not in the board's folder",
        ),
        ("file = \"MLO\"", "file = \"MLO\"\npath = \"a/../../MLO\"", "is not in the board's folder"),
        (
            "file = \"MLO\"",
            "file = \"MLO\"\npackage = \"x\"",
            "in `firmware.MLO.path`: `` is not the absolute path",
        ),
        ("file = \"MLO\"", "file = \"MLO\"\narchitecture = \"all\"", "only a package has an architecture"),
        ("[firmware.u-boot]", "[firmware.\"u boot\"]", "`u boot` is not a name for firmware"),
        ("format = \"mlo\"\n", "", "in `firmware.MLO.memory`: only of the format `mlo`"),
        ("size = \"120K\"", "size = \"0\"", "is not a range of memory"),
        ("format = \"mlo\"", "format = \"mlp\"", "unknown value `mlp`"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = parse("board.toml", &text.replacen(from, to, 1)).expect_err(to);
        assert!(error.fault().contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_folder_adds_and_replaces_boards_and_a_bad_one_spoils_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("board.toml"), text).unwrap();
    };
    write("mine", &qemu().replace("id = \"qemu-arm64\"", "id = \"mine\""));
    write("qemu-arm64", &qemu().replace("QEMU virt, 64-bit", "Another"));
    write("wrong-folder", &qemu());
    write("broken", "id = ");
    fs::create_dir(dir.path().join("no-board")).unwrap();
    let mut boards = Catalog::embedded().unwrap();
    boards.add_dir(dir.path()).unwrap();
    assert_eq!(boards.get("mine").unwrap().id, "mine");
    assert_eq!(boards.get("qemu-arm64").unwrap().name, "Another");
    assert!(boards.get("wrong-folder").unwrap_err().fault().contains("not the name of the board's folder"));
    assert_eq!(boards.get("broken").unwrap_err().position.map(|(line, _)| line), Some(1));
    assert!(boards.get("generic-arm64").is_ok());
    assert!(boards.get("no-board").unwrap_err().message.contains("no board is called"));
    assert!(boards.add_dir(&dir.path().join("nowhere")).unwrap_err().place().unwrap().ends_with("nowhere"));
}
