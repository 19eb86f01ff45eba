//! Following a console, first of a shell that plays QEMU, then of QEMU itself with a guest of 24 instructions.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use vambrace::progress::Progress;
use vambrace::qemu::{
    FollowReport, FollowRequest, QemuCommand, Speaker, Stage, Starts, check_version, follow,
};

fn command(binary: &str, args: &[&str]) -> QemuCommand {
    QemuCommand {
        binary: binary.into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        preload: None,
        starts: Starts::Emulator,
    }
}

fn stage(name: &str, words: &[&str], send: Option<&str>) -> Stage {
    Stage {
        name: name.into(),
        speaker: Speaker::Machine,
        any_of: words.iter().map(|&word| word.to_owned()).collect(),
        send: send.map(str::to_owned),
    }
}

fn run(command: &QemuCommand, stages: Vec<Stage>, timeout: Duration, log: &Path) -> FollowReport {
    let failures = vec!["panic".to_owned()];
    let request = FollowRequest { command, stages, failures, timeout, memory: None, log, echo: false };
    follow(request, &Progress::quiet()).unwrap()
}

fn shell(script: &str, stages: Vec<Stage>, timeout: Duration) -> FollowReport {
    let dir = tempfile::tempdir().unwrap();
    run(&command("sh", &["-c", script]), stages, timeout, &dir.path().join("log"))
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn stages_are_reached_in_order_and_answered() {
    let report = shell(
        "printf 'first\\nlogin: '; read name; echo \"hello $name\"; printf '# '; read line; echo got:$line",
        vec![
            stage("first", &["nothing", "first"], None),
            stage("login", &["login:"], Some("root")),
            stage("greeting", &["hello root"], None),
            stage("prompt", &["# "], Some("poweroff")),
            stage("end", &[], None),
        ],
        LONG,
    );
    assert_eq!((&report.missed, &report.reason), (&None, &None), "{report:?}");
    assert_eq!(report.reached.len(), 5);
    assert_eq!(report.lines, ["first", "login: hello root", "# got:poweroff"]);
    assert_eq!(report.tail(1), ["# got:poweroff"]);
}

#[test]
fn a_machine_that_only_earlier_versions_have_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("qemu");
    let boards = vambrace_bsp::Catalog::embedded().unwrap();
    let mut qemu = boards.get("rtsm-ve-armv8").unwrap().qemu.clone().unwrap();
    qemu.binary = program.display().to_string();
    let check = |said: &str| {
        std::fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        check_version(&qemu).map_err(|error| error.report())
    };
    assert_eq!(check("QEMU emulator version 7.2.18 (Debian 1:7.2+dfsg-7)"), Ok(()));
    let refused = check("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)").unwrap_err();
    assert!(refused.contains("only in QEMU before 9.0") && refused.contains("is 10.0"), "{refused}");
    assert!(check("nothing of the kind").unwrap_err().contains("cannot ask"));
    qemu.before = None;
    qemu.binary = "/nowhere".into();
    assert!(check_version(&qemu).is_ok(), "nobody is asked where every version will do");
}

#[test]
fn an_early_end_is_told_with_status_and_last_words() {
    let report =
        shell("echo one; echo 'no such machine' >&2; exit 3", vec![stage("two", &["two"], None)], LONG);
    assert_eq!(report.missed.as_deref(), Some("two"));
    let reason = report.reason.unwrap();
    assert!(reason.contains("status 3") && reason.contains("no such machine"), "{reason}");
    let report = shell("kill -9 $$", vec![stage("end", &[], None)], LONG);
    assert!(report.reason.unwrap().contains("signal 9"));
}

#[test]
fn what_was_typed_and_not_read_is_no_failure() {
    // It ends when something has come, and leaves that where it is.
    let ends = "echo go; python3 -c 'import select; select.select([0], [], [])'; exit 0";
    let report = shell(ends, vec![stage("go", &["go"], Some("typed")), stage("end", &[], None)], LONG);
    assert_eq!((&report.missed, &report.reason), (&None, &None), "{report:?}");
    assert_eq!(report.reached.len(), 2);
}

#[test]
fn a_failure_ends_it_at_once() {
    let began = Instant::now();
    let report =
        shell("echo 'Kernel panic - not syncing'; sleep 1000", vec![stage("shell", &["# "], None)], LONG);
    assert!(began.elapsed() < LONG);
    assert_eq!(report.missed.as_deref(), Some("shell"));
    assert!(report.reason.unwrap().contains("Kernel panic - not syncing"));
}

#[test]
fn a_machine_that_never_stops_talking_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let talks = command("sh", &["-c", "yes 'all is well' | head -c 40000000; echo the end"]);
    let report = run(&talks, vec![stage("the end", &["the end"], None), stage("end", &[], None)], LONG, &log);
    assert_eq!(report.missed, None, "{:?}", report.reason);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 32 << 20);
    let report = shell("exec yes 'what is this' >&2", vec![stage("end", &[], None)], LONG);
    let reason = report.reason.unwrap();
    assert!(reason.starts_with("QEMU said more than 64 MiB: what is this\n"), "{}", &reason[..100]);
    assert!(report.messages.len() <= 1 << 16);
}

#[test]
fn silence_ends_with_the_time() {
    let report = shell(
        "echo up; sleep 1000",
        vec![stage("up", &["up"], None), stage("end", &[], None)],
        Duration::from_millis(300),
    );
    assert_eq!(report.reached.len(), 1);
    assert_eq!(report.missed.as_deref(), Some("end"));
    assert!(report.reason.unwrap().contains("not reached within"), "silence is told as such");
}

#[test]
fn nothing_is_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(
        &command("sh", &["-c", "echo pid:$$:; exec sleep 1000"]),
        vec![stage("pid", &["pid:"], None)],
        LONG,
        &dir.path().join("log"),
    );
    let pid = report.lines.first().and_then(|line| line.split(':').nth(1)).unwrap().to_owned();
    assert!(!Path::new("/proc").join(&pid).exists(), "{pid} still runs");
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), format!("pid:{pid}:\n"));
}

#[test]
fn a_missing_qemu_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let command = command("qemu-system-nothing", &[]);
    let request = FollowRequest {
        command: &command,
        stages: vec![],
        failures: vec![],
        timeout: LONG,
        memory: None,
        log: &dir.path().join("log"),
        echo: false,
    };
    let report = follow(request, &Progress::quiet()).unwrap_err().report();
    assert!(
        report.contains("cannot find qemu-system-nothing") && report.contains("qemu-system-arm"),
        "{report}"
    );
}

#[test]
fn a_shell_takes_the_printed_line() {
    let command = command("printf", &["%s|", "plain", "two words", "it's", "", "a$b`c`\"d\"", "x=y,z:1"]);
    let output = std::process::Command::new("sh").args(["-c", &command.shell_line()]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "plain|two words|it's||a$b`c`\"d\"|x=y,z:1|");
    assert!(
        command.shell_line().starts_with("printf %s\\|")
            || command.shell_line().starts_with("printf '%s|' plain 'two words'")
    );
}

/// Prints two lines to the PL011 of QEMU's `virt`, echoes what is typed, and powers off through PSCI at a line end:
///
/// ```text
///       movz x1, #0x0900, lsl #16    ; the UART
///       adr  x2, msg
///    1: ldrb w0, [x2], #1
///       cbz  w0, 2f
///       str  w0, [x1]
///       b    1b
///    2: ldr  w0, [x1, #0x18]         ; flags: is the receiver empty?
///       tbnz w0, #4, 2b
///       ldr  w0, [x1]
///       str  w0, [x1]
///       cmp  w0, #10
///       b.ne 2b
///       movz x0, #0x8400, lsl #16    ; SYSTEM_OFF
///       movk x0, #8
///       hvc  #0
///    3: b    3b
/// ```
fn guest() -> Vec<u8> {
    let code: [u32; 16] = [
        0xd2a1_2001,
        0x1000_01e2,
        0x3840_1440,
        0x3400_0060,
        0xb900_0020,
        0x17ff_fffd,
        0xb940_1820,
        0x3727_ffe0,
        0xb940_0020,
        0xb900_0020,
        0x7100_281f,
        0x54ff_ff61,
        0xd2b0_8000,
        0xf280_0100,
        0xd400_0002,
        0x1400_0000,
    ];
    code.iter().flat_map(|word| word.to_le_bytes()).chain(*b"hello from the guest\nready> \0").collect()
}

#[test]
fn qemu_itself_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("guest.bin");
    std::fs::write(&image, guest()).unwrap();
    let loader = format!("loader,file={},addr=0x40200000,cpu-num=0", image.display());
    let command = command(
        "qemu-system-aarch64",
        &[
            "-M",
            "virt",
            "-cpu",
            "cortex-a53",
            "-net",
            "none",
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-device",
            &loader,
        ],
    );
    if std::process::Command::new(&command.binary).arg("--version").output().is_err() {
        assert!(std::env::var_os("VAMBRACE_REQUIRE_TOOLS").is_none(), "QEMU is missing");
        return;
    }
    let stages = vec![
        stage("hello", &["hello from the guest"], None),
        stage("prompt", &["ready> "], Some("bye")),
        stage("echo", &["bye"], None),
        stage("power off", &[], None),
    ];
    let report = run(&command, stages, LONG, &dir.path().join("log"));
    assert_eq!((&report.missed, &report.reason), (&None, &None), "{report:?}");
    assert_eq!(report.lines, ["hello from the guest", "ready> bye"]);
}

/// Not a test of its own: what [`qemu_ends_with_a_builder_that_is_killed`] starts and kills.
#[test]
#[ignore = "started by another test"]
fn follows_for_ever() {
    let Some(log) = std::env::var_os("FOLLOW_LOG") else { return };
    run(
        &command("sh", &["-c", "echo pid:$$:; exec sleep 1000"]),
        vec![stage("end", &[], None)],
        LONG,
        Path::new(&log),
    );
}

#[test]
fn qemu_ends_with_a_builder_that_is_killed() {
    if std::process::Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut builder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "follows_for_ever", "--ignored"])
        .env("FOLLOW_LOG", &log)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |what: &dyn Fn() -> bool| {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_for(&|| text().ends_with(":\n"));
    let pid = text().split(':').nth(1).unwrap().to_owned();
    builder.kill().unwrap();
    builder.wait().unwrap();
    // A zombie that nobody has collected yet still has its folder, but no command line.
    let cmdline = Path::new("/proc").join(&pid).join("cmdline");
    wait_for(&|| std::fs::read(&cmdline).unwrap_or_default().is_empty());
}
