//! `vambrace docs`: the guide, the manual pages and the completions.

use super::{command, print};
use crate::error::Result;
use crate::guide;
use crate::workspace::Workspace;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is asked for of the documentation.
#[derive(Debug, Args)]
pub(super) struct Docs {
    /// The folder for them
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(workspace: &Workspace, docs: &Docs) -> Result<ExitCode> {
    let names = guide::write(workspace, &command(), &docs.out)?;
    print(&names.map(|name| format!("{}\n", docs.out.join(name).display())).concat())?;
    Ok(ExitCode::SUCCESS)
}
