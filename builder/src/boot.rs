//! Booting an image in QEMU: its command line, the stages a boot goes through, and what dom0's self-test says.

use crate::build::Built;
use crate::cache::Cache;
use crate::config::ImageConfig;
use crate::decision::Decision;
use crate::diagnosis::{Fault, SelfTest, diagnose};
use crate::error::Result;
use crate::guest::Module;
use crate::nightly::plan::StageSpec;
use crate::parts::{Maker, epoch};
use crate::progress::Progress;
use crate::qemu::{FollowReport, FollowRequest, QemuCommand, Speaker, Stage, Starts, direct, follow, model};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vambrace_bsp::{Loader, Method};

/// Who has the board's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleUser {
    /// A person at a terminal. Ctrl-] is QEMU's escape, so that Ctrl-A reaches the hypervisor.
    Person,
    /// A program that follows it.
    Program,
}

/// What becomes of what the machine writes onto its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is gone when QEMU ends, and the image is what it was.
    Forgotten,
    /// It is in the image.
    Kept,
}

/// The command that boots `image`.
///
/// `firmware` gives the file of a firmware by its name, `loaded` the arguments that load the image's files where the
/// builder stands in for the firmware; `extra` is added at the end.
///
/// # Errors
///
/// A board without a description of QEMU's machine, and whatever `firmware` and `loaded` report.
pub fn qemu_command(
    decision: &Decision,
    image: &Path,
    firmware: impl Fn(&str) -> Result<PathBuf>,
    loaded: impl FnOnce() -> Result<Vec<String>>,
    user: ConsoleUser,
    writes: Writes,
    extra: &[String],
) -> Result<QemuCommand> {
    let qemu = decision.qemu()?;
    let mut machine = vec![qemu.machine.clone()];
    machine.extend(qemu.machine_options.iter().cloned());
    machine.extend(decision.variant.iter().flat_map(|(_, variant)| variant.machine_options.iter().cloned()));
    machine.extend(decision.starter().machine_options.iter().cloned());
    let mut args = vec!["-machine".to_owned(), machine.join(",")];
    if let Some(cpu) = &qemu.cpu {
        args.extend(["-cpu".to_owned(), cpu.clone()]);
    }
    args.extend(["-smp".to_owned(), decision.cpus.to_string()]);
    args.extend(["-m".to_owned(), format!("{}M", decision.memory.bytes() >> 20)]);
    match qemu.loader {
        Loader::Direct => args.extend(loaded()?),
        Loader::Firmware => {
            for name in &decision.starter().firmware {
                let Some(description) = decision.board.firmware.get(name) else { continue };
                if !description.qemu.is_empty() {
                    let file = firmware(name)?;
                    let place =
                        |arg: &String| fill(&fill(arg, "{file}", &file), "{folder}", &decision.board_dir);
                    args.extend(description.qemu.iter().map(place));
                }
            }
        }
    }
    let own = decision.variant.iter().map(|(_, variant)| &variant.disk).find(|disk| !disk.is_empty());
    args.extend(own.unwrap_or(&qemu.disk).iter().map(|arg| medium(arg, image, writes)));
    args.extend(qemu.args.iter().cloned());
    let console: &[&str] = match user {
        ConsoleUser::Person => &["-serial", "mon:stdio", "-echr", "0x1d"],
        ConsoleUser::Program => &["-serial", "stdio", "-monitor", "none"],
    };
    args.extend(["-display", "none", "-no-reboot"].iter().chain(console).map(|arg| (*arg).to_owned()));
    args.extend(extra.iter().cloned());
    Ok(QemuCommand { binary: qemu.binary.clone(), args, preload: None, starts: Starts::Emulator })
}

/// The command that boots what was `built`, with firmware, board models and whatever else it needs.
///
/// # Errors
///
/// As [`qemu_command`]; and what cannot be had that it needs.
#[expect(clippy::too_many_arguments, reason = "each is another's, and they come together only here")]
pub fn command(
    workspace: &Workspace,
    decision: &Decision,
    cache: &Cache,
    built: &Built,
    user: ConsoleUser,
    writes: Writes,
    extra: &[String],
    progress: &Progress,
) -> Result<QemuCommand> {
    let maker = Maker { root: workspace.root(), decision, cache, progress, epoch: epoch()? };
    let qemu = decision.qemu()?;
    let machine = direct::Machine {
        architecture: decision.board.architecture,
        base: decision.board.memory.base,
        cpus: decision.cpus,
        holds_cpus: qemu.model,
    };
    let loaded = || direct::load(&built.image, &built.manifest.plan, machine);
    let firmware = |name: &str| maker.firmware_file(name);
    let mut command = qemu_command(decision, &built.image, firmware, loaded, user, writes, extra)?;
    if qemu.model {
        model::add_models(&mut command, workspace.root(), progress)?;
    }
    Ok(command)
}

/// An argument that attaches `image`. Boards attach it with `snapshot=on`; of an option that is there twice, QEMU takes
/// the last.
fn medium(arg: &str, image: &Path, writes: Writes) -> String {
    let off = writes == Writes::Kept && arg.contains("={image}");
    fill(arg, "{image}", image) + if off { ",snapshot=off" } else { "" }
}

/// Puts `path` in the place of `placeholder`. Behind a `key=` it is part of a list that commas divide, and QEMU takes
/// a doubled comma for one that is meant.
fn fill(arg: &str, placeholder: &str, path: &Path) -> String {
    let path = path.display().to_string();
    let in_list = arg.contains(&format!("={placeholder}"));
    arg.replace(placeholder, &if in_list { path.replace(',', ",,") } else { path })
}

/// The stage that dom0's self-test is.
pub(crate) const SELF_TEST: &str = "self-test";
/// What a boot can fail at by itself; no stage of a scenario is called so.
pub(crate) const OWN_STAGES: [&str; 8] = [
    "first stage",
    "firmware",
    "hypervisor",
    "dom0 kernel",
    "root on the medium",
    "dom0 user space",
    SELF_TEST,
    "power-off",
];

/// What dom0's init prints when a shell has the console.
const READY: &str = "vambrace-dom0: ready";

/// The stages of a boot, by what each prints first. When user space is there the self-test is typed into its shell,
/// which shows that the console works in both directions; with `vambrace.selftest` on its command line dom0 runs it
/// by itself. The stages of a `scenario` lie between the two.
pub(crate) fn stages(decision: &Decision, scenario: &[StageSpec], starts: Starts) -> Vec<Stage> {
    let by_itself = decision.dom0_args.split_whitespace().any(|word| word == "vambrace.selftest");
    let root = if decision.layout.root().is_some() { " root=ext4" } else { "" };
    let command = format!(
        "/usr/lib/vambrace/selftest cpus={} mem={}{root} poweroff",
        decision.expected_dom0_cpus(),
        decision.dom0_mem.bytes() >> 10
    );
    let stage = |name: &str, marks: &[&str]| Stage {
        name: name.to_owned(),
        speaker: Speaker::Machine,
        any_of: marks.iter().map(|mark| (*mark).to_owned()).collect(),
        send: None,
    };
    let mut stages = Vec::new();
    // A lab's board has firmware of its own, whatever QEMU does without.
    let qemu = decision.board.qemu.as_ref().filter(|_| starts == Starts::Emulator);
    if qemu.is_none_or(|qemu| qemu.loader == Loader::Firmware) {
        let of_medium = |name: &String| {
            decision.board.firmware.get(name).is_some_and(vambrace_bsp::Firmware::is_on_medium)
        };
        if decision.starter == Method::Uboot && decision.starter().firmware.iter().any(of_medium) {
            stages.push(stage("first stage", &["U-Boot SPL 2"]));
        }
        match decision.starter {
            Method::Uboot => stages.push(stage("firmware", &["U-Boot 2"])),
            Method::Uefi => stages.push(stage("firmware", &["UEFI firmware", "BdsDxe:"])),
            Method::Direct => {}
        }
    }
    let hypervisor = decision.kind.traits();
    stages.push(stage("hypervisor", hypervisor.greetings));
    stages.push(stage("dom0 kernel", &["Linux version ", "Booting Linux on physical CPU"]));
    if decision.layout.root().is_some() {
        stages.push(stage("root on the medium", &["vambrace: root file system on"]));
    }
    stages.extend(guests(&decision.guests.config));
    stages.push(stage("dom0 user space", &[READY]));
    stages.extend(scenario.iter().map(|spec| Stage {
        name: spec.name.clone(),
        speaker: spec.guest.map_or(Speaker::Machine, Speaker::Guest),
        any_of: spec.see.all().to_vec(),
        send: None,
    }));
    stages.push(stage(SELF_TEST, &["vambrace-selftest: done"]));
    // QEMU ends, or cannot and is told to when the hypervisor says so. Nothing tells that a board is off but its silence,
    // so that the hypervisor's last words count.
    let off = match (starts, qemu.is_none_or(|qemu| qemu.power_off)) {
        (Starts::Emulator, true) => Vec::new(),
        (Starts::Emulator, false) => hypervisor.powered_off.to_vec(),
        (Starts::Lab, _) => [hypervisor.powering_off, hypervisor.powered_off].concat(),
    };
    stages.push(stage("power-off", &off));
    // What a stage is begun with is typed when the one before it is reached; the self-test where dom0 does not run it by itself.
    let typed = scenario.iter().map(|spec| spec.typed.clone()).chain([(!by_itself).then_some(command)]);
    let ready = stages.iter().position(|stage| stage.any_of == [READY]).unwrap_or(stages.len());
    stages.iter_mut().skip(ready).zip(typed).for_each(|(stage, typed)| stage.send = typed);
    stages
}

/// A stage for each guest of which the hypervisor shows that its kernel has begun: a static one with Debian's kernel on
/// the virtual UART. The hypervisor numbers static guests in their order, after dom0.
fn guests(config: &ImageConfig) -> impl Iterator<Item = Stage> {
    (1..).zip(config.static_guests()).filter_map(|(domain, (_, guest))| {
        let shown = guest.vuart && guest.kernel == Module::Debian && guest.args.contains("ttyAMA0");
        shown.then(|| Stage {
            name: format!("kernel of guest `{}`", guest.name),
            speaker: Speaker::Guest(domain),
            any_of: vec!["Linux version ".to_owned()],
            send: None,
        })
    })
}

/// Console lines after which no further stage can come, whatever the hypervisor.
const FAILURES: [&str; 4] = [
    "Kernel panic - not syncing",
    "vambrace: cannot ",
    "make the image anew",
    "vambrace: U-Boot could not start",
];

/// What the console of such a boot says where no further stage can come.
pub(crate) fn failures(decision: &Decision) -> Vec<String> {
    FAILURES.iter().chain(decision.kind.traits().failures).map(|failure| (*failure).to_owned()).collect()
}

/// The names of the stages of a boot, in their order.
pub fn stage_names(decision: &Decision, scenario: &[StageSpec], starts: Starts) -> Vec<String> {
    stages(decision, scenario, starts).into_iter().map(|stage| stage.name).collect()
}

/// What is typed in the course of a boot, whatever starts it.
pub fn typed(decision: &Decision, scenario: &[StageSpec]) -> Vec<String> {
    stages(decision, scenario, Starts::Emulator).into_iter().filter_map(|stage| stage.send).collect()
}

/// A boot that was followed to its end.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What was seen.
    pub report: FollowReport,
    /// What is wrong.
    pub fault: Option<Fault>,
    /// The self-test's verdicts.
    pub verdicts: Vec<SelfTest>,
}

/// How a boot is followed.
#[derive(Debug)]
pub struct Watch<'a> {
    /// What has to be seen behind dom0's user space, each with what is typed for it.
    pub scenario: &'a [StageSpec],
    /// How long it may take, of the time in which the machine could run.
    pub timeout: Duration,
    /// Gets every byte of the console.
    pub log: &'a Path,
    /// Whether the console is shown too.
    pub echo: bool,
}

/// Follows the boot that `command` makes of what `decision` describes.
///
/// # Errors
///
/// A QEMU that cannot be started, and a log that cannot be written. What the boot shows is no error.
pub fn watch(
    decision: &Decision,
    command: &QemuCommand,
    watch: &Watch<'_>,
    progress: &Progress,
) -> Result<Watched> {
    let base = decision.board.memory.base;
    let memory = base..base.saturating_add(decision.memory.bytes());
    let report = follow(
        FollowRequest {
            command,
            stages: stages(decision, watch.scenario, command.starts),
            failures: failures(decision),
            timeout: watch.timeout,
            memory: (command.starts == Starts::Emulator).then_some(memory),
            log: watch.log,
            echo: watch.echo,
        },
        progress,
    )?;
    let (fault, verdicts) = diagnose(decision, &report);
    Ok(Watched { report, fault, verdicts })
}

/// The same for a boot that has nothing wrong with it.
///
/// # Errors
///
/// As there; and the stage that was not reached with the last lines of the console, and what the self-test found wrong.
pub fn check(
    decision: &Decision,
    command: &QemuCommand,
    how: &Watch<'_>,
    progress: &Progress,
) -> Result<Watched> {
    let mut watched = watch(decision, command, how, progress)?;
    match watched.fault.take() {
        None => Ok(watched),
        Some(fault) => Err(fault.into_error(&watched.report, how.log)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_medium_s_drive_is_told_to_keep_what_is_written() {
        let drive = "if=none,id=disk,format=raw,snapshot=on,file={image}";
        let kept = "if=none,id=disk,format=raw,snapshot=on,file=/x.img,snapshot=off";
        assert_eq!(medium(drive, Path::new("/x.img"), Writes::Kept), kept);
        assert_eq!(medium(drive, Path::new("/x.img"), Writes::Forgotten), drive.replace("{image}", "/x.img"));
        assert_eq!(medium("-drive", Path::new("/x.img"), Writes::Kept), "-drive");
    }

    #[test]
    fn commas_are_doubled_only_in_lists() {
        assert_eq!(fill("if=none,file={file}", "{file}", Path::new("/a,b")), "if=none,file=/a,,b");
        assert_eq!(fill("{file}", "{file}", Path::new("/a,b")), "/a,b");
    }
}
