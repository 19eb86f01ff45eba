//! `vambrace boards`, `show` and `plan`: what is known and what would be done.

use super::what::{What, decide};
use super::{SEE_SHOW, print, print_bytes};
use crate::boot::{ConsoleUser, Writes, qemu_command};
use crate::cache::to_json;
use crate::error::{Error, Result, ResultExt};
use crate::parts::{Maker, epoch};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::qemu::direct;
use crate::report;
use crate::workspace::{Workspace, described};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lists all boards. One that cannot be used does not keep the others from being listed, and is an error all the same.
pub(super) fn boards(workspace: &Workspace) -> Result<ExitCode> {
    print(&report::boards(workspace.boards()))?;
    let broken: Vec<&str> =
        workspace.boards().iter().filter(|(_, board)| board.is_err()).map(|(id, _)| id).collect();
    let Some(first) = broken.first() else { return Ok(ExitCode::SUCCESS) };
    Err(Error::new(format!("cannot be used: {}", broken.join(", ")))
        .help(format!("`vambrace show {first}` shows the line at fault")))
}

/// What is asked for of a board.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The board
    board: String,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(super) fn run(workspace: &Workspace, command: &Show) -> Result<ExitCode> {
    let Show { board, json } = command;
    let id = board.split(':').next().unwrap_or(board);
    let found = workspace.boards().get(id).map_err(described)?;
    let (profiles, source) = (workspace.profiles()?, workspace.boards().source(id));
    if *json {
        print_bytes(&to_json(&report::board_json(found, &profiles, source)?)?)?;
    } else {
        print(&report::board(found, &profiles, source))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is asked for of an image.
#[derive(Debug, Args)]
#[command(after_help = SEE_SHOW)]
pub(super) struct PlanOf {
    #[command(flatten)]
    what: What,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Show the boot script, or the firmware's configuration, as well
    #[arg(long, short, help_heading = "Output")]
    verbose: bool,
}

pub(super) fn plan(workspace: &Workspace, command: &PlanOf, progress: &Progress) -> Result<ExitCode> {
    let PlanOf { what, json, verbose } = command;
    let decision = decide(workspace, what)?;
    let cache = what.chosen()?.cache;
    let maker =
        Maker { root: workspace.root(), decision: &decision, cache: &cache, progress, epoch: epoch()? };
    let plan = Plan::new(&decision, maker.peek()?)?;
    let firmware =
        |name: &str| Ok(maker.firmware_file(name).unwrap_or_else(|_| PathBuf::from(format!("<{name}>"))));
    let qemu = match decision.board.qemu {
        Some(_) => {
            let loaded = || Ok(vec![format!("<{}>", direct::folder(&plan.image).display())]);
            let user = ConsoleUser::Person;
            let command =
                qemu_command(&decision, &plan.image, firmware, loaded, user, Writes::Forgotten, &[])?;
            Some(command.shell_line())
        }
        None => None,
    };
    if *json {
        let mut value = serde_json::to_value(&plan).context(|| "cannot write the plan as JSON")?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("qemu".to_owned(), qemu.into());
        }
        print_bytes(&to_json(&value)?)?;
    } else {
        print(&report::plan(&plan, qemu.as_deref(), *verbose))?;
    }
    Ok(ExitCode::SUCCESS)
}
