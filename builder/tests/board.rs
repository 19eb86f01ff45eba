//! The porting kit as a user runs it: `vambrace board`. Nothing here needs the network, QEMU or a compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's sources.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The device tree of QEMU's virt machine.
fn virt() -> PathBuf {
    workspace().join("hypervisor/core/tests/fixtures/qemu-virt-gicv3.dtb")
}

/// Runs `vambrace` in `dir`; gives exit code, standard output and standard error.
fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vambrace"))
        .args(args)
        .current_dir(dir)
        .env("VAMBRACE_CACHE", dir.join("cache"))
        .env("VAMBRACE_WORKSPACE", workspace())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_tree_passes_and_a_bad_one_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(dir.path(), &["board", "check", virt().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("gicv3 at 0x8000000") && out.contains("the hypervisor can use this tree"), "{out}");

    // The only word "arm,gic-v3" becomes another of the same length.
    let blob = fs::read(virt()).unwrap();
    let at = blob.windows(10).position(|word| word == b"arm,gic-v3").unwrap();
    let mut bad = blob.clone();
    bad[at..at + 10].copy_from_slice(b"arm,gic-v9");
    fs::write(dir.path().join("bad.dtb"), bad).unwrap();
    let (code, out, _) = run(dir.path(), &["board", "check", "bad.dtb"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("error[gic-") && out.contains("the hypervisor cannot boot with this tree"), "{out}");

    let (code, out, _) = run(dir.path(), &["board", "check", "bad.dtb", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["passes"], &json["findings"][0]["level"]),
        (Some(1), &false.into(), &"error".into())
    );
}

#[test]
fn what_is_no_tree_is_told_from_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let blob = fs::read(virt()).unwrap();
    fs::write(dir.path().join("half.dtb"), &blob[..blob.len() / 2]).unwrap();
    fs::write(dir.path().join("text.dtb"), "no tree at all, whatever it is called").unwrap();
    fs::write(dir.path().join("empty.dtb"), "").unwrap();
    fs::File::create(dir.path().join("huge.dtb")).unwrap().set_len(1 << 40).unwrap();
    for (file, expected) in [
        ("half.dtb", "half.dtb: this is no device tree"),
        ("text.dtb", "text.dtb: this is no device tree"),
        ("empty.dtb", "empty.dtb: this is no device tree"),
        ("huge.dtb", "more than 2 MiB"),
        ("missing.dtb", "missing.dtb: cannot read the device tree"),
        ("orangepi-pv", "did you mean"),
        ("qemu-arm64", "is in its firmware"),
    ] {
        let (code, out, err) = run(dir.path(), &["board", "check", file]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{file}: {err}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{file}: {err}");
    }
}

#[test]
fn a_new_board_is_known_at_once_and_never_takes_another_s_place() {
    let dir = tempfile::tempdir().unwrap();
    let tree = virt();
    let new = ["board", "new", "mine", "--dtb", tree.to_str().unwrap(), "--out", "boards"];
    let (code, out, err) = run(dir.path(), &new);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("boards/mine was made") && out.contains("CHECK"), "{out}");
    assert_eq!(fs::read(dir.path().join("boards/mine/mine.dtb")).unwrap(), fs::read(&tree).unwrap());

    let (code, out, err) = run(dir.path(), &["show", "mine", "--boards-dir", "boards"]);
    assert!(code == Some(0) && out.contains("pl011 at 0x9000000"), "{out}{err}");
    let (code, out, err) = run(dir.path(), &["board", "check", "mine", "--boards-dir", "boards"]);
    assert!(code == Some(0) && out.contains("mine.dtb"), "{out}{err}");

    let before = fs::read(dir.path().join("boards/mine/board.toml")).unwrap();
    let (code, _, err) = run(dir.path(), &new);
    assert!(code == Some(1) && err.contains("of this name already"), "{err}");
    assert_eq!(fs::read(dir.path().join("boards/mine/board.toml")).unwrap(), before);

    for name in ["../out", "Mine", "", "a/b"] {
        let (code, _, err) =
            run(dir.path(), &["board", "new", name, "--dtb", tree.to_str().unwrap(), "--out", "boards"]);
        assert!(code == Some(1) && err.contains("is not a board's name"), "{name}: {err}");
    }
    let left: Vec<_> =
        fs::read_dir(dir.path().join("boards")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"]);
}
