//! The subcommands of `vambrace board`.

use super::{check, create, describe, source};
use crate::error::Result;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use vambrace_bsp::Architecture;

/// What there is to do about boards that are not described yet.
#[derive(Debug, Subcommand)]
pub enum BoardCommand {
    /// Derive the description of a new board from its device tree
    #[command(after_help = "What cannot be derived is marked with CHECK in the new board.toml.")]
    New {
        /// The name of the board, and of its folder
        name: String,
        /// The device tree, a blob (.dtb)
        #[arg(long, value_name = "FILE")]
        dtb: PathBuf,
        /// The folder that gets the new board's folder [default: bsp/boards of the sources]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// The CPU's architecture, where the tree does not tell
        #[arg(long, value_enum)]
        architecture: Option<ArchitectureName>,
    },
    /// Check a device tree for what the hypervisor needs, with the fix for each finding
    #[command(after_help = "It ends with 1 where the hypervisor cannot boot with the tree.")]
    Check {
        /// A device tree blob, or a board
        #[arg(value_name = "FILE|BOARD")]
        what: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// An architecture as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchitectureName {
    /// ARMv8-A in AArch64
    Aarch64,
    /// ARMv7-A, or ARMv8-A in AArch32
    Armv7,
}

/// The outcome of a check, for programs.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    source: &'a str,
    passes: bool,
    #[serde(flatten)]
    report: &'a super::Report,
}

/// Does `command`; gives what is to be printed, and the exit code. `workspace` is asked for the sources where they are
/// needed.
///
/// # Errors
///
/// A tree that cannot be had or read, and a board that cannot be written.
pub fn run(
    command: &BoardCommand,
    workspace: &dyn Fn() -> Result<Workspace>,
    progress: &Progress,
) -> Result<(String, ExitCode)> {
    match command {
        BoardCommand::Check { what, json } => {
            let (from, blob) = if source::is_file(what) {
                (what.clone(), source::read(what.as_ref())?)
            } else {
                source::of_board(&workspace()?, what, progress)?
            };
            let report = check(&blob).map_err(|error| error.at_text(&from))?;
            let text = if *json {
                let checked = Checked { source: &from, passes: report.passes(), report: &report };
                let bytes = crate::cache::to_json(&checked)?;
                String::from_utf8_lossy(&bytes).into_owned()
            } else {
                format!("{from}: {}", report.text())
            };
            Ok((text, if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
        }
        BoardCommand::New { name, dtb, out, architecture } => {
            let blob = source::read(dtb)?;
            let architecture = architecture.map(|architecture| match architecture {
                ArchitectureName::Aarch64 => Architecture::Aarch64,
                ArchitectureName::Armv7 => Architecture::Armv7,
            });
            let description = describe(name, &blob, architecture).map_err(|error| error.at(dtb))?;
            let dir = match out {
                Some(dir) => dir.clone(),
                None => workspace()?.root().join("bsp/boards"),
            };
            let folder = create(&dir, name, &description, &blob)?;
            let report = check(&blob)?;
            let mut text = format!("{} was made: board.toml, {}\n", folder.display(), description.tree_file);
            let left = description.text.matches("CHECK").count().saturating_sub(1);
            text.push_str(&format!(
                "{left} things in board.toml are marked with CHECK: they are for you to fill in\n"
            ));
            text.push_str(&format!("device tree: {}\n", report.line()));
            text.push_str(&format!("next: vambrace board check {name}, then vambrace plan {name}"));
            if let Some(dir) = out {
                text.push_str(&format!(", both with --boards-dir {}", dir.display()));
            }
            text.push('\n');
            Ok((text, ExitCode::SUCCESS))
        }
    }
}
