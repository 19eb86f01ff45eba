//! Firmware of the user's in an image's plan, as a user names it. Nothing here needs the network, QEMU or a compiler.

#[path = "support/ti.rs"]
mod ti;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const MLO: &str = "--set=firmware.MLO=MLO";
const UBOOT: &str = "--set=firmware.u-boot=u-boot.img";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder with both files.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("MLO"), ti::mlo(76_540, 0x4030_0000)).unwrap();
    fs::write(dir.path().join("u-boot.img"), ti::uboot(610_200, 2)).unwrap();
    dir
}

/// Runs `vambrace` in `dir`; whether it succeeded, and what it said.
fn run(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vambrace"))
        .args(args)
        .current_dir(dir)
        .env("VAMBRACE_CACHE", dir.join("cache"))
        .env("VAMBRACE_WORKSPACE", workspace())
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn said(dir: &Path, args: &[&str]) -> String {
    let (good, said) = run(dir, args);
    assert!(good, "{args:?}: {said}");
    said
}

fn refused(dir: &Path, args: &[&str]) -> String {
    let (good, said) = run(dir, args);
    assert!(!good && said.starts_with("error: ") && !said.contains("panicked"), "{args:?}: {said}");
    said
}

fn plan(dir: &Path, args: &[&str]) -> Value {
    let said = said(dir, &[&["plan", "omap5-uevm", "--json"], args].concat());
    serde_json::from_str(&said).unwrap()
}

/// The ranges of the medium that are firmware: what, first byte, size.
fn raw(plan: &Value) -> Vec<(String, u64, u64)> {
    let all = plan["disk"]["extents"].as_array().unwrap().iter();
    let all = all.map(|extent| {
        let number = |field: &str| extent[field].as_u64().unwrap();
        (extent["what"].as_str().unwrap().to_owned(), number("start"), number("size"))
    });
    all.filter(|(what, ..)| what.starts_with("firmware")).collect()
}

fn files(plan: &Value) -> Vec<(String, u64)> {
    let files = plan["disk"]["partitions"][0]["files"].as_array().unwrap().iter();
    files.map(|file| (file["path"].as_str().unwrap().to_owned(), file["size"].as_u64().unwrap())).collect()
}

#[test]
fn both_ways_of_the_rom_have_the_files_where_it_looks() {
    let dir = place();
    let as_files = plan(dir.path(), &[MLO, UBOOT]);
    assert_eq!((as_files["layout"].as_str(), raw(&as_files).len()), (Some("mbr-uboot"), 0));
    for file in [("MLO", 77_060), ("u-boot.img", 610_264)] {
        assert!(files(&as_files).contains(&(file.0.to_owned(), file.1)), "{as_files}");
    }
    let as_sectors = plan(dir.path(), &[MLO, UBOOT, "--layout=gpt-uboot-root"]);
    let wanted =
        [("firmware MLO".to_owned(), 0x2_0000, 77_060), ("firmware u-boot".to_owned(), 0x6_0000, 610_264)];
    assert_eq!(raw(&as_sectors), wanted);
    assert!(!files(&as_sectors).iter().any(|(path, _)| path == "MLO"));
    for plan in [&as_files, &as_sectors] {
        let hash = plan["artifacts"]["firmware"]["MLO"]["sha256"].as_str().unwrap();
        assert_eq!(hash, vambrace::cache::sha256(&fs::read(dir.path().join("MLO")).unwrap()));
        assert_eq!(plan["remarks"], Value::Null);
    }
    // A large one moves the partitions, and never lies under them.
    fs::write(dir.path().join("u-boot.img"), ti::uboot(3 << 20, 2)).unwrap();
    let large = plan(dir.path(), &[MLO, UBOOT, "--layout=gpt-uboot-root"]);
    assert_eq!(large["disk"]["partitions"][0]["start"], 4 << 20);
    // Slots leave it where it is.
    let slots = plan(dir.path(), &[MLO, UBOOT, "--slots"]);
    assert!(files(&slots).contains(&("MLO".to_owned(), 77_060)), "{slots}");
}

#[test]
fn without_it_the_plan_says_so_and_half_of_it_is_refused() {
    let dir = place();
    let without = plan(dir.path(), &[]);
    assert!(raw(&without).is_empty() && !files(&without).iter().any(|(path, _)| path == "MLO"));
    let text = said(dir.path(), &["plan", "omap5-uevm"]);
    assert!(
        text.contains("no MLO and no u-boot on this medium: the board starts from those of another one"),
        "{text}"
    );
    let explained = said(dir.path(), &["explain", "omap5-uevm"]);
    assert!(explained.contains("no MLO and no u-boot on this medium"), "{explained}");
    let half = refused(dir.path(), &["plan", "omap5-uevm", MLO]);
    assert!(
        half.contains("--set firmware.MLO=MLO: `MLO` alone does not boot omap5-uevm: `u-boot` is not named"),
        "{half}"
    );
    assert!(refused(dir.path(), &["plan", "omap5-uevm", UBOOT]).contains("`MLO` is not named"));
    let other = refused(dir.path(), &["plan", "midway", MLO]);
    assert!(other.contains("midway takes no firmware called `MLO`"), "{other}");
}

#[test]
fn a_wrong_file_is_refused_by_its_name() {
    let dir = place();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("large"), ti::mlo(130_000, 0x4030_0000)).unwrap();
    fs::File::create(dir.path().join("huge")).unwrap().set_len((64 << 20) + 1).unwrap();
    for (set, wanted) in [
        (
            "--set=firmware.MLO=u-boot.img",
            "u-boot.img: it is no MLO: it is legacy U-Boot image `U-Boot`: firmware",
        ),
        ("--set=firmware.MLO=nowhere", "nowhere: cannot look at the file"),
        ("--set=firmware.u-boot=MLO", "MLO: it is no image of U-Boot: it is first stage for TI (MLO)"),
        ("--set=firmware.MLO=empty", "empty: the file has 0 bytes"),
        ("--set=firmware.MLO=large", "large: this MLO does not fit the chip's memory"),
        ("--set=firmware.MLO=huge", "over the limit"),
        ("--set=firmware.MLO=.", "firmware.MLO=."),
    ] {
        let said = refused(dir.path(), &["plan", "omap5-uevm", MLO, UBOOT, set]);
        assert!(said.contains(wanted) && said.contains(&set.replacen('=', " ", 1)), "{wanted}: {said}");
    }
}

#[test]
fn a_board_of_the_user_s_brings_its_own() {
    let dir = place();
    let folder = dir.path().join("boards/omap5-uevm");
    fs::create_dir_all(folder.join("u-boot")).unwrap();
    let text = fs::read_to_string(workspace().join("bsp/boards/omap5-uevm/board.toml")).unwrap();
    let mut own = text.clone();
    for (file, path) in [("MLO", "u-boot/MLO"), ("u-boot.img", "u-boot/u-boot.img")] {
        let line = format!("file = \"{file}\"\n");
        assert!(own.contains(&line));
        own = own.replacen(&line, &format!("{line}path = \"{path}\"\n"), 1);
        fs::copy(dir.path().join(file), folder.join(path)).unwrap();
    }
    fs::write(folder.join("board.toml"), &own).unwrap();
    let args = ["--boards-dir=boards", "plan", "omap5-uevm", "--json"];
    let own_plan: Value = serde_json::from_str(&said(dir.path(), &args)).unwrap();
    assert!(files(&own_plan).contains(&("MLO".to_owned(), 77_060)), "{own_plan}");
    let from = own_plan["artifacts"]["firmware"]["MLO"]["from"].as_str().unwrap();
    assert!(from.ends_with("boards/omap5-uevm/u-boot/MLO"), "{from}");
    let shown = said(dir.path(), &["--boards-dir=boards", "show", "omap5-uevm"]);
    assert!(
        shown.contains("MLO: u-boot/MLO beside the description, the file MLO on FAT or at byte 131072"),
        "{shown}"
    );
    // Half of it is as little worth here.
    fs::write(folder.join("board.toml"), own.replacen("path = \"u-boot/MLO\"\n", "", 1)).unwrap();
    assert!(refused(dir.path(), &args).contains("`MLO` is not named"));
    fs::write(folder.join("board.toml"), own.replacen("u-boot/MLO", "../MLO", 1)).unwrap();
    assert!(refused(dir.path(), &args).contains("`../MLO` is not in the board's folder"));
}
