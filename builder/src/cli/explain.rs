//! `vambrace explain`.

use super::what::What;
use super::{print_bytes, terminal_width};
use crate::cache::{replace_file, to_json};
use crate::error::Result;
use crate::explain;
use crate::inspect;
use crate::parts::{Maker, epoch};
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Behind the help of `explain`.
const EXPLAIN_CODES: &str = "\
What has a slash or a full stop in its name, or is a file, is taken for an image. It ends with 1 where two things lie over
one another; the smallest change that mends it is shown.";

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_CODES)]
pub(super) struct Explain {
    #[command(flatten)]
    what: What,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write a page with the drawings
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,
    /// Write the drawings
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    svg: Option<PathBuf>,
}

pub(super) fn run(
    workspace: &dyn Fn() -> Result<Workspace>,
    command: &Explain,
    progress: &Progress,
) -> Result<ExitCode> {
    let Explain { what, json, html, svg } = command;
    let explained = explained(workspace, what, progress)?;
    let image = what.board.as_ref().map(PathBuf::from);
    for (path, drawn) in [(html, explained.html()), (svg, explained.svg())] {
        let Some(path) = path else { continue };
        inspect::keeps(image.as_deref(), path)?;
        replace_file(path, drawn.as_bytes())?;
    }
    let printed = if *json { to_json(&explained)? } else { explained.text(terminal_width()).into_bytes() };
    print_bytes(&printed)?;
    Ok(if explained.is_disjoint() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains the image of a board, or one in a file.
fn explained(
    workspace: &dyn Fn() -> Result<Workspace>,
    what: &What,
    progress: &Progress,
) -> Result<explain::Explanation> {
    if let Some(name) =
        what.board.as_ref().filter(|name| name.contains(['/', '.']) || Path::new(name).is_file())
    {
        return explain::of_image(Path::new(name), progress);
    }
    let (workspace, cache, epoch) = (workspace()?, what.chosen()?.cache, epoch()?);
    explain::of_board(&workspace, &what.request()?, |decision| {
        Maker { root: workspace.root(), decision, cache: &cache, progress, epoch }.peek()
    })
}
