//! `vambrace boot`.

use super::build::{How, chosen_for};
use super::print;
use super::what::{MethodName, What, decide};
use crate::boot::{ConsoleUser, Watch, Writes, check, command};
use crate::build::build;
use crate::error::Result;
use crate::persistent::persistent;
use crate::progress::Progress;
use crate::qemu::{check_version, run_interactive};
use crate::workspace::Workspace;
use clap::Args;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Behind the help of `boot`.
const BOOT_EXAMPLE: &str = "\
Example: 8 CPUs behind a GICv3, half of them for dom0, followed to the end of dom0's self-test:
  vambrace boot qemu-arm64:gicv3 --cpus 8 --dom0-cpus 4 --check

`vambrace show BOARD` lists a board's variants, layouts and profiles.";

#[derive(Debug, Args)]
#[command(after_help = BOOT_EXAMPLE)]
pub(super) struct Boot {
    #[command(flatten)]
    pub(super) what: What,
    #[command(flatten)]
    how: How,
    /// Start the image by the firmware of this boot method, where its layout boots by that too
    #[arg(long, value_name = "METHOD", help_heading = "Machine")]
    firmware: Option<MethodName>,
    /// Follow the boot to dom0's self-test and its power-off, also on a terminal
    #[arg(long, help_heading = "Run")]
    check: bool,
    /// How long the stages may take together, in seconds in which the machine could run
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    #[arg(help_heading = "Run")]
    timeout: u64,
    /// Build what is not up to date, and print QEMU's command line instead of running it
    #[arg(long, help_heading = "Run")]
    print: bool,
    /// Keep what is written, in a copy of the image beside it; it is made once, and a rebuild leaves it alone
    #[arg(long, help_heading = "Run")]
    persistent: bool,
    /// Show the console while it is followed
    #[arg(long, help_heading = "Run")]
    console: bool,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGS", help_heading = "Run")]
    pub(super) qemu: Vec<String>,
}

pub(super) fn run(workspace: &Workspace, boot: &Boot, progress: &Progress) -> Result<ExitCode> {
    let decision = decide(workspace, &boot.what)?;
    let decision = match boot.firmware {
        Some(method) => decision.started_by(method.into())?,
        None => decision,
    };
    check_version(decision.qemu()?)?;
    let chosen = chosen_for(workspace, &decision, &boot.what, &boot.how, progress)?;
    let options = chosen.options(boot.how.force, boot.how.sign.clone());
    let cache = chosen.cache;
    let built = build(workspace, &decision, &cache, &options, progress)?;
    let (built, writes) = match boot.persistent {
        true => (persistent(&built, progress)?, Writes::Kept),
        false => (built, Writes::Forgotten),
    };
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let user =
        if boot.check || !(terminal || boot.print) { ConsoleUser::Program } else { ConsoleUser::Person };
    let command = command(workspace, &decision, &cache, &built, user, writes, &boot.qemu, progress)?;
    if boot.print {
        return print(&format!("{}\n", command.shell_line())).map(|()| ExitCode::SUCCESS);
    }
    if user == ConsoleUser::Person {
        progress.line(
            "`poweroff` ends dom0 and QEMU; so does Ctrl-] and then x. Ctrl-A three times: the hypervisor.",
        );
        let status = run_interactive(&command)?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let log = built.image.with_extension("log");
    let timeout = Duration::from_secs(boot.timeout);
    let how = Watch { scenario: &[], timeout, log: &log, echo: boot.console };
    let checked = check(&decision, &command, &how, progress)?;
    let mut text = String::new();
    for reached in &checked.report.reached {
        text.push_str(&format!("{:<16} {:>6.1} s\n", reached.stage, reached.wall.as_secs_f64()));
    }
    for verdict in &checked.verdicts {
        text.push_str(&format!("self-test: {:<16} ok  {}\n", verdict.name, verdict.seen));
    }
    print(&text).map(|()| ExitCode::SUCCESS)
}
