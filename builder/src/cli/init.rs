//! `vambrace init` and `schema`.

use super::{print, print_bytes};
use crate::cache::to_json;
use crate::config::{USUAL_FILE, init};
use crate::error::Result;
use crate::nightly::plan::TestPlan;
use crate::workspace::{Workspace, described};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The board, or BOARD:VARIANT
    board: String,
    /// dom0's root file system
    #[arg(long, default_value = "debian")]
    profile: String,
    /// The file to write
    #[arg(long, short = 'o', value_name = "FILE", default_value = USUAL_FILE)]
    output: PathBuf,
}

pub(super) fn run(workspace: &Workspace, command: &Init) -> Result<ExitCode> {
    let Init { board, profile, output } = command;
    let id = board.split(':').next().unwrap_or(board);
    workspace.boards().get(id).map_err(described)?;
    workspace.profile(profile.split(':').next().unwrap_or(profile))?;
    let [path, schema] = init::init(output, board, profile)?;
    let mut text = format!("wrote {}, and {} for editors\n", path.display(), schema.display());
    let named = if output.as_os_str() == USUAL_FILE {
        String::new()
    } else {
        format!(" --config {}", output.display())
    };
    text.push_str(&format!("`vambrace plan{named}` shows what comes of it\n"));
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Of what.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of which file
    #[arg(long, value_enum, default_value_t = Described::Image)]
    of: Described,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Described {
    /// The description of an image
    Image,
    /// The plan of `vambrace test`
    TestPlan,
}

/// Prints the schema of descriptions.
pub(super) fn schema(command: &Schema) -> Result<ExitCode> {
    let schema = match command.of {
        Described::Image => init::schema(),
        Described::TestPlan => TestPlan::schema(),
    };
    print_bytes(&to_json(&schema)?).map(|()| ExitCode::SUCCESS)
}
