//! `vambrace update`.

use super::what::{What, decide};
use super::{SEE_SHOW, print};
use crate::error::Result;
use crate::pins::change;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::Args;
use std::process::ExitCode;

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = SEE_SHOW)]
pub(super) struct Update {
    #[command(flatten)]
    what: What,
    /// Show what would change, and leave everything as it is
    #[arg(long, help_heading = "Output")]
    dry_run: bool,
}

pub(super) fn run(workspace: &Workspace, command: &Update, progress: &Progress) -> Result<ExitCode> {
    let Update { what, dry_run } = command;
    let decision = decide(workspace, what)?;
    let (_, changes) = what.chosen()?.update(workspace, &decision, *dry_run, progress)?;
    print(&change::report(&changes)).map(|()| ExitCode::SUCCESS)
}
