//! The command as a user runs it, on good and on bad input. Nothing here needs the network, QEMU or a compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vambrace::build::Manifest;
use vambrace::cache::Stamp;

/// The project's sources.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Puts a manifest beside `image`, as the builder does.
fn with_manifest(image: &Path) {
    let (fingerprint, map) = (String::new(), String::new());
    let stamp = Stamp::of(image).unwrap();
    let manifest = Manifest {
        fingerprint,
        stamp,
        map,
        size: 1,
        packages: Vec::new(),
        plan: Value::Null,
        packed: Vec::new(),
        known: Default::default(),
    };
    fs::write(image.with_extension("json"), serde_json::to_string(&manifest).unwrap()).unwrap();
}

/// A run's exit code, standard output and standard error.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A folder with an empty cache, and nothing else.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_vambrace"))
            .args(args)
            .current_dir(self.0.path())
            .env("VAMBRACE_CACHE", self.path("cache"))
            .env("VAMBRACE_WORKSPACE", workspace())
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command that has to fail with code 1, and gives what it says.
    fn fails(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, Some(1), "{args:?}: {}{}", run.out, run.err);
        assert!(run.err.starts_with("error: ") && !run.err.contains("panicked"), "{}", run.err);
        run.err
    }

    /// Puts a board of the user's own into `boards/`: qemu-arm64 with these replacements.
    fn board(&self, id: &str, changes: &[(&str, &str)]) -> String {
        let text = fs::read_to_string(workspace().join("bsp/boards/qemu-arm64/board.toml")).unwrap();
        let mut text = text.replace("id = \"qemu-arm64\"", &format!("id = \"{id}\""));
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let folder = self.path("boards").join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("board.toml"), text).unwrap();
        self.path("boards").display().to_string()
    }
}

#[test]
fn boards_and_show_say_what_is_there() {
    let place = Place::new();
    let run = place.run(&["boards"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("qemu-arm64") && run.out.contains("generic-arm64"), "{}", run.out);
    let run = place.run(&["show", "qemu-arm64"]);
    assert!(run.out.contains("pl011 at 0x9000000") && run.out.contains("gicv3"), "{}", run.out);
}

#[test]
fn what_is_mistyped_gets_a_suggestion() {
    let place = Place::new();
    for (args, expected) in [
        (&["plan", "qemu-arm46"][..], "did you mean `qemu-arm64`?"),
        (&["show", "qemu"], "did you mean `qemu-arm64`?"),
        (&["build", "qemu-arm64:gic3"], "did you mean `gicv3`?"),
        (&["plan", "qemu-arm64", "--variant", "gicv4"], "did you mean `gicv"),
        (&["plan", "qemu-arm64", "--profile", "minimla"], "did you mean `minimal`?"),
        (&["plan", "qemu-arm64", "--layout", "gpt-ubot"], "did you mean `gpt-uboot`?"),
        (&["plan", "qemu-arm64", "--hypervisor-board", "generic-arm46"], "did you mean `generic-arm64`?"),
        (&["clean", "qemu-arm46"], "did you mean `qemu-arm64`?"),
    ] {
        let said = place.fails(args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let run = place.run(&["plan", "qemu-arm64", "--method", "ubot"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("uboot"), "{}", run.err);
    let run = place.run(&["biuld", "qemu-arm64"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("'build'"), "{}", run.err);
}

#[test]
fn what_the_machine_cannot_have_is_refused() {
    let place = Place::new();
    for (args, expected) in [
        (&["--memory", "128M"][..], "cannot have 128M of memory"),
        (&["--dom0-mem", "4G"], "dom0 cannot have 4G of the machine's 2G"),
        (&["--memory", "1G", "--dom0-mem", "1000M"], "are more than the machine's 1G"),
        (&["--dom0-mem", "64M"], "dom0's kernel and ramdisk need"),
        (&["--dom0-mem", "8M"], "at least 64M"),
        (&["--cpus", "9"], "--variant gicv3 takes as many"),
        (&["--cpus", "0"], "has 1 to 8 CPUs, not 0"),
        (&["--dom0-cpus", "0"], "dom0 cannot run without a CPU"),
        (
            &["--dom0-cpus", "100"],
            "dom0 cannot have 100 CPUs: the gicv2 of qemu-arm64:gicv2 serves at most 8",
        ),
        (&["--dom0-cpus", "9"], "--variant gicv3 takes as many"),
        (&["--variant", "gicv3", "--dom0-cpus", "129"], "give 1 to 123 with --dom0-cpus"),
        (&["--hypervisor-args", "dom0_max_vcpus=9"], "serves at most 8"),
        (&["--dom0-cpus", "2", "--hypervisor-args", "dom0_max_vcpus=3"], "contradict each other"),
        (&["--hypervisor-args", "dom0_mme=3"], "did you mean `dom0_mem`?"),
        (&["--hypervisor-args", "quiet"], "the hypervisor has no option `quiet`"),
        (&["--hypervisor-args", "maxcpus=many"], "it takes a number from 1"),
        (&["--hypervisor-args", "dom0_mem=1536M"], "with --dom0-mem"),
        (&["--layout", "gpt-uefi"], "the layout `gpt-uefi` is for uefi"),
        (&["--dom0-args", "a\"; reset; \""], "cannot be passed on to the board"),
        (&["--hypervisor-args", "a\nkernel=x"], "cannot be passed on to the board"),
        (&["--hypervisor-file", "no-such-file"], "no-such-file"),
    ] {
        let all = [&["plan", "qemu-arm64"], args].concat();
        let said = place.fails(&all);
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(said.contains("help: ") || expected == "no-such-file", "{said}");
    }
    let long = "x".repeat(2000);
    assert!(place.fails(&["plan", "qemu-arm64", "--dom0-args", &long]).contains("U-Boot takes at most"));
}

#[test]
fn the_json_plan_is_json_and_its_addresses_do_not_overlap() {
    let place = Place::new();
    for memory in ["512M", "2G", "4G"] {
        let run = place.run(&["plan", "qemu-arm64:gicv3", "--json", "--memory", memory]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let plan: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(plan["board"], "qemu-arm64");
        assert_eq!(plan["variant"], "gicv3");
        assert_eq!(plan["exact"], false, "nothing has been made in this cache");
        assert!(plan["qemu"].as_str().unwrap().contains("gic-version=3"), "{plan}");
        let regions: Vec<(u64, u64)> = plan["ram_map"]
            .as_array()
            .unwrap()
            .iter()
            .map(|region| (region["start"].as_u64().unwrap(), region["size"].as_u64().unwrap()))
            .collect();
        assert!(regions.len() >= 6);
        for pair in regions.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{regions:?}");
        }
        assert!(plan["boot_text"].as_str().unwrap().contains("booti"));
    }
    assert!(!place.path("cache").exists() && !place.path("out").exists(), "a plan touches nothing");
}

#[test]
fn every_board_can_be_planned_in_every_way_it_describes() {
    let place = Place::new();
    for (id, board) in vambrace_bsp::Catalog::embedded().unwrap().iter() {
        let board = board.as_ref().unwrap();
        let variants: Vec<&str> = match &board.qemu {
            Some(qemu) if !qemu.variants.is_empty() => qemu.variants.keys().map(String::as_str).collect(),
            _ => vec![""],
        };
        for (method, boot) in &board.boot {
            for layout in &boot.layouts {
                for variant in &variants {
                    let name = format!("{id}:{variant}");
                    let name = name.trim_end_matches(':');
                    let run = place.run(&["plan", name, "--method", method.name(), "--layout", layout]);
                    assert_eq!(run.code, Some(0), "{name} {method} {layout}: {}", run.err);
                }
            }
        }
    }
}

#[test]
fn the_uefi_plan_leaves_addresses_to_the_firmware() {
    let run = Place::new().run(&["plan", "generic-arm64", "--json", "--dom0-args", "quiet"]);
    let plan: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(plan["method"], "uefi");
    assert!(plan["ram_map"].as_array().unwrap().is_empty());
    assert!(plan["boot_text"].as_str().unwrap().contains("\nkernel=kernel console=hvc0 quiet\n"));
    assert!(plan["qemu"].as_str().unwrap().contains("acpi=off"));
}

#[test]
fn a_broken_board_names_file_line_and_field() {
    let place = Place::new();
    let dir = place.board("mine", &[("drivers = [", "drivrs = [")]);
    let said = place.fails(&["--boards-dir", &dir, "plan", "mine"]);
    assert!(said.contains("mine/board.toml:") && said.contains("in `hypervisor.drivrs`"), "{said}");
    assert!(said.contains("| drivrs = [") && said.contains("did you mean `drivers`?"), "{said}");
    let run = place.run(&["--boards-dir", &dir, "boards"]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    let row = run.out.lines().find(|line| line.starts_with("mine")).unwrap();
    assert!(row.contains("cannot be used") && row.contains("did you mean `drivers`?"), "{row}");
    assert!(run.out.contains("generic-arm64  aarch64"), "the others are listed: {}", run.out);
    assert!(run.err.contains("cannot be used: mine"), "{}", run.err);
    let run = place.run(&["--boards-dir", &dir, "show", "qemu-arm64"]);
    assert_eq!(run.code, Some(0), "the others can still be used: {}", run.err);
}

#[test]
fn a_variants_interrupt_controller_is_one_that_is_compiled_in() {
    let place = Place::new();
    for (gic, expected) in [("pl011", "is not an interrupt controller"), ("ns16550", "is not an interrupt")] {
        let dir = place.board("mine", &[("gic = \"gicv2\"", &format!("gic = \"{gic}\""))]);
        let said = place.fails(&["--boards-dir", &dir, "plan", "mine"]);
        assert!(said.contains("in `qemu.variants.gicv2.gic`") && said.contains(expected), "{said}");
    }
    let dir = place.board("mine", &[("drivers = [\"gicv2\", ", "drivers = [")]);
    let said = place.fails(&["--boards-dir", &dir, "plan", "mine"]);
    assert!(said.contains("`gicv2` is not compiled in"), "{said}");
}

#[test]
fn as_many_cpus_as_the_interrupt_controller_serves_are_fine() {
    let place = Place::new();
    for (board, count) in [("qemu-arm64", "8"), ("qemu-arm64:gicv3", "123")] {
        let run = place.run(&["plan", board, "--json", "--dom0-cpus", count]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let plan: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(plan["dom0_cpus"].to_string(), count);
    }
    let run = place.run(&["plan", "qemu-arm64", "--json", "--hypervisor-args", "maxcpus=2 noreboot"]);
    let plan: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(plan["dom0_cpus"], 2, "{}", run.err);
}

#[test]
fn another_hypervisor_may_have_options_of_its_own() {
    let place = Place::new();
    fs::write(place.path("xen"), "not a kernel").unwrap();
    let run =
        place.run(&["plan", "qemu-arm64", "--hypervisor-args", "flask=late", "--hypervisor-file", "xen"]);
    assert!(
        run.err.contains("warning: --hypervisor-args: the hypervisor has no option `flask=late`"),
        "{}",
        run.err
    );
}

#[test]
fn options_of_xens_without_an_effect_are_told() {
    let run = Place::new().run(&["plan", "qemu-arm64", "--hypervisor-args", "loglvl=all"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("warning: --hypervisor-args: `loglvl=all` has no effect"), "{}", run.err);
}

#[test]
fn the_boot_script_is_shown_to_those_who_ask() {
    let place = Place::new();
    let script = |args: &[&str]| place.run(&[&["plan", "qemu-arm64"], args].concat()).out.contains("booti");
    assert!(!script(&[]) && script(&["--verbose"]) && script(&["--json"]));
}

#[test]
fn show_gives_json() {
    let run = Place::new().run(&["show", "qemu-arm64", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let board: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(board["id"], "qemu-arm64");
    assert_eq!(board["memory"]["min"], 256 << 20);
    assert_eq!(board["qemu"]["variants"]["gicv3"]["max-cpus"], 123);
    assert_eq!(board["device-tree"]["from"], "firmware");
    assert!(board["boot"]["uboot"]["layouts"].as_array().unwrap().contains(&"gpt-uboot".into()));
    assert!(board["profiles"].as_array().unwrap().contains(&"minimal".into()), "{board}");
    assert!(board["described-in"].as_str().unwrap().ends_with("board.toml"), "{board}");
}

#[test]
fn help_is_in_groups() {
    let run = Place::new().run(&["boot", "--help"]);
    assert_eq!(run.code, Some(0));
    for heading in
        ["Machine:", "dom0:", "Hypervisor:", "Output:", "Run:", "Global:", "Example: ", "vambrace show BOARD"]
    {
        assert!(run.out.contains(heading), "{heading}: {}", run.out);
    }
    assert!(!run.out.contains("\nOptions:"), "{}", run.out);
}

#[test]
fn an_image_that_is_being_built_is_left_alone() {
    let place = Place::new();
    let folder = place.path("out/qemu-arm64");
    fs::create_dir_all(&folder).unwrap();
    let image = folder.join("gpt-uboot-minimal.img");
    fs::write(&image, "x").unwrap();
    with_manifest(&image);
    let lock = fs::File::create(folder.join(".gpt-uboot-minimal.img.lock")).unwrap();
    lock.try_lock().unwrap();
    for args in [&["build", "qemu-arm64"][..], &["clean"]] {
        let said = place.fails(args);
        assert!(said.contains("gpt-uboot-minimal.img: another build is writing this image"), "{said}");
    }
    assert_eq!(fs::read(&image).unwrap(), b"x");
    drop(lock);
    assert_eq!(place.run(&["clean"]).code, Some(0));
    assert!(!folder.exists());
}

#[test]
fn a_board_whose_regions_overlap_is_refused_before_anything_is_written() {
    let place = Place::new();
    let dir = place.board("mine", &[("script-address = 0x4020_0000", "script-address = 0x401f_f000")]);
    let said = place.fails(&["--boards-dir", &dir, "plan", "mine"]);
    assert!(said.contains("boot-script (0x401ff000 to 0x40203000) overlaps QEMU's device tree"), "{said}");
}

#[test]
fn firmware_over_the_partition_table_is_refused() {
    let place = Place::new();
    let qemu = "qemu = [\"-bios\", \"{file}\"]";
    let dir = place.board("mine", &[(qemu, "offset = \"8K\"")]);
    let said = place.fails(&["--boards-dir", &dir, "plan", "mine"]);
    assert!(said.contains("is overlapped by firmware u-boot"), "{said}");
}

#[test]
fn a_description_of_an_image_stands_for_options() {
    let place = Place::new();
    let path = place.path("image.toml");
    let guest = "[[guest]]\nname = \"web\"\nmemory = \"64M\"\nstart = \"static\"\n";
    fs::write(&path, format!("board = \"qemu-arm64:gicv3\"\nprofile = \"minimal\"\n{guest}")).unwrap();
    let config = path.to_str().unwrap();
    let run = place.run(&["plan", "--config", config, "--verbose"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("qemu-arm64:gicv3") && run.out.contains("domain-web"), "{}", run.out);
    let said = place.fails(&["plan", "--config", config, "--method", "uefi"]);
    assert!(said.contains("image.toml:6:9: in `guest.0.start`") && said.contains("--method uboot"), "{said}");
    fs::write(&path, guest).unwrap();
    assert!(place.fails(&["plan", "--config", config]).contains("no board is named"));
    assert!(place.fails(&["plan", "--config", "nowhere.toml"]).contains("nowhere.toml"));
    assert!(place.fails(&["plan"]).contains("vambrace init"));
    // The usual file of a folder is used where neither a board nor another file is named.
    fs::write(
        place.path("vambrace.toml"),
        "board = \"qemu-arm64\"\n[dom0]\nmemory = \"128M\"\nargs = \"quiet\"\n",
    )
    .unwrap();
    let json = |args: &[&str]| -> Value {
        let run = place.run(&[&["plan", "--json"], args].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    };
    let own = json(&["--dom0-args", "debug", "--set", "machine.cpus=2"]);
    assert_eq!((own["dom0_mem"].as_u64(), own["cpus"].as_u64()), (Some(128 << 20), Some(2)));
    assert_eq!(own["dom0_args"].as_str(), Some("console=hvc0 quiet debug"));
    // Options go over what is set, and that over the file; a board that is named has no file.
    assert_eq!(
        json(&["--set", "dom0.memory=256M", "--dom0-mem", "512M"])["dom0_mem"].as_u64(),
        Some(512 << 20)
    );
    assert_eq!(json(&["--set", "dom0.memory=256M"])["dom0_mem"].as_u64(), Some(256 << 20));
    assert_eq!(json(&["qemu-arm64"])["dom0_mem"].as_u64(), Some(1 << 30));
    let said = place.fails(&["plan", "--set", "dom0.memroy=1G"]);
    assert!(said.contains("--set dom0.memroy=1G: unknown key `memroy`"), "{said}");
}

#[test]
fn the_disk_has_the_sizes_that_are_asked_for() {
    let place = Place::new();
    let path = place.path("image.toml");
    let plan = |text: &str| {
        fs::write(&path, format!("board = \"qemu-arm64\"\nlayout = \"gpt-uboot-root\"\n{text}")).unwrap();
        place.run(&["plan", "--json", "--config", path.to_str().unwrap()])
    };
    let run = plan("[disk]\nsize = \"1G\"\n[disk.partition.vambrace-boot]\nsize = \"128M\"\n");
    assert_eq!(run.code, Some(0), "{}", run.err);
    let disk = &serde_json::from_str::<Value>(&run.out).unwrap()["disk"];
    let size = |index: usize| disk["partitions"][index]["size"].as_u64();
    assert_eq!((disk["size"].as_u64(), size(0)), (Some(1 << 30), Some(128 << 20)));
    // The root file system has what is left: one MiB each goes for the two copies of the table.
    assert_eq!(size(1), Some((1 << 30) - (130 << 20)));
    for (text, wanted) in [
        ("[disk]\nsize = \"16M\"\n", "is to have 16M"),
        ("[disk.partition.vambrace-boot]\nsize = \"1M\"\n", "the partition `vambrace-boot` takes"),
        ("[disk.partition.boot]\nsize = \"1M\"\n", "has no partition `boot`"),
        ("[disk]\nsize = \"1000001\"\n", "is to have"),
    ] {
        let run = plan(text);
        assert!(run.code == Some(1) && run.err.contains(wanted), "{text}: {}", run.err);
    }
}

#[test]
fn xen_can_stand_in_for_the_hypervisor() {
    let place = Place::new();
    let run = place.run(&["plan", "qemu-arm64", "--hypervisor", "xen", "--hypervisor-args", "loglvl=all"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(
        run.out.contains("xen-hypervisor-4.20-arm64") && run.out.contains("-minimal-xen.img"),
        "{}",
        run.out
    );
    let run = place.run(&["plan", "qemu-arm64", "--hypervisor", "xen", "--method", "uefi", "--verbose"]);
    assert!(run.out.contains("EFI/BOOT/BOOTAA64.cfg") && run.out.contains("[global]"), "{}", run.out);
    let run = place.run(&["plan", "qemu-armv7", "--hypervisor", "xen"]);
    assert!(run.out.contains("xen-hypervisor-4.17-armhf"), "{}", run.out);
    let said =
        place.fails(&["plan", "qemu-arm64", "--hypervisor", "xen", "--hypervisor-board", "generic-arm64"]);
    assert!(said.contains("is not compiled for any board"), "{said}");
}

#[test]
fn completions_are_for_this_command() {
    let run = Place::new().run(&["completions", "bash"]);
    assert_eq!(run.code, Some(0));
    assert!(run.out.contains("_vambrace") && run.out.contains("--dom0-mem"));
}

#[test]
fn clean_leaves_what_is_not_its_own() {
    let place = Place::new();
    let folder = place.path("out/qemu-arm64");
    fs::create_dir_all(&folder).unwrap();
    // A copy that somebody keeps has no manifest, or another's.
    let others =
        ["a.persistent.img", "a.persistent.json", "backup.img", "copy.img", "copy.json", "thesis.txt"];
    let beside = ["a.img", "a.log", "a.lock", "a.spdx.json", "a.intoto.json", "a.intoto.json.sig"];
    for name in beside.iter().chain(&others) {
        fs::write(folder.join(name), "x").unwrap();
    }
    with_manifest(&folder.join("a.img"));
    fs::create_dir_all(place.path("out/holiday")).unwrap();
    let run = place.run(&["clean"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("removed 7 files"), "{}", run.out);
    let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, others);
    assert!(place.path("out/holiday").is_dir());
}

#[test]
fn what_is_no_disk_is_not_flashed() {
    let place = Place::new();
    fs::write(place.path("x.img"), "an image").unwrap();
    fs::write(place.path("target"), "a file").unwrap();
    for (device, why) in [
        ("/dev/null", "this is no disk"),
        ("./target", "this is no disk"),
        ("./nothing", "cannot find the device"),
        ("S3R14L", "no disk has the serial number `S3R14L`"),
    ] {
        let said = place.fails(&["flash", "x.img", device, "--yes", "--allow", "fixed,large"]);
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(fs::read(place.path("target")).unwrap(), b"a file");
    assert_eq!(place.run(&["flash", "x.img", "/dev/null", "--allow", "mounted"]).code, Some(2));
    let run = place.run(&["flash", "x.img", "/dev/null", "--json"]);
    let told: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &told["event"]), (Some(1), &Value::from("failed")));
}

#[test]
fn an_image_that_cannot_be_built_again_is_another_code_than_one_that_differs() {
    let place = Place::new();
    fs::write(place.path("x.img"), "x").unwrap();
    for (lock, expected) in [
        (None, "x.lock: there is no lock file beside the image"),
        (Some("version = 1\n"), "does not say how an image was built"),
        (Some("version = 1\n[image]\nmap = 3\n"), "x.lock:3:7: in `image.map`"),
    ] {
        if let Some(text) = lock {
            fs::write(place.path("x.lock"), text).unwrap();
        }
        let run = place.run(&["reproduce", "x.img"]);
        assert_eq!(run.code, Some(2), "{}{}", run.out, run.err);
        assert!(run.err.contains("cannot be built again") && run.err.contains(expected), "{}", run.err);
    }
    let hash = "0a".repeat(32);
    let request = "[image.request]\nboard = \"qemu-arm64\"\nhypervisor = \"vambrace\"\n";
    let lock = format!("version = 1\n[image]\nmap = \"{hash}\"\nepoch = 1\nbuilder = \"0\"\n{request}");
    fs::write(place.path("x.lock"), lock).unwrap();
    let run = place.run(&["reproduce", "x.img"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("the lock file does not pin linux-image-arm64 (trixie arm64)"), "{}", run.err);
    let left = fs::read_dir(place.path("cache")).unwrap().flatten();
    let left: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with("reproduce-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_lock_file_beside_a_description_is_used_and_nothing_else() {
    let place = Place::new();
    let config = place.path("web.toml");
    fs::write(&config, "board = \"qemu-arm64\"\n").unwrap();
    fs::write(place.path("web.lock"), "version = 1\n").unwrap();
    let config = config.to_str().unwrap();
    let said = place.fails(&["build", "--config", config]);
    assert!(said.contains("web.lock: the lock file does not pin linux-image-arm64"), "{said}");
    assert!(said.contains("`vambrace update` with the same options"), "{said}");
    fs::write(place.path("web.lock"), "version = 1\n[[pakcage]]\n").unwrap();
    for command in ["plan", "build", "update"] {
        let said = place.fails(&[command, "--config", config]);
        assert!(
            said.contains("web.lock:2:") && said.contains("did you mean `package`?"),
            "{command}: {said}"
        );
    }
    // Another file is another matter, and a plan writes none.
    let run = place.run(&["plan", "--config", config, "--lock", "other.lock"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!place.path("other.lock").exists());
}

#[test]
fn a_wrong_epoch_and_a_wrong_workspace_are_errors() {
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_vambrace"))
        .args(["plan", "qemu-arm64"])
        .env("VAMBRACE_CACHE", place.path("cache"))
        .env("VAMBRACE_WORKSPACE", workspace())
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("SOURCE_DATE_EPOCH is `yesterday`"));
    let said = place.fails(&["--workspace", place.0.path().to_str().unwrap(), "boards"]);
    assert!(said.contains("these are not Vambrace's sources"), "{said}");
}
