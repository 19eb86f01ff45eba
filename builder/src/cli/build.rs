//! `vambrace build`.

use super::what::{What, decide};
use super::{SEE_SHOW, print};
use crate::build::{Built, Options, build};
use crate::chosen::Chosen;
use crate::decision::Decision;
use crate::error::Result;
use crate::image::packed_path;
use crate::image::packing::Packing;
use crate::pins::change;
use crate::progress::Progress;
use crate::report;
use crate::workspace::Workspace;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct How {
    /// Build even if the image is up to date
    #[arg(long, help_heading = "Output")]
    pub(super) force: bool,
    /// Take the newest packages of the archive, as `vambrace update` does
    #[arg(long, help_heading = "Output")]
    update: bool,
    /// Sign the statement of where the image comes from, with this key of OpenSSH's
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    pub(super) sign: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PackingName {
    /// Zstandard, which is quick in both directions
    Zst,
    /// xz, the smallest and the slowest
    Xz,
    /// gzip, which everything can read
    Gz,
}

impl PackingName {
    fn packing(self) -> Packing {
        match self {
            Self::Zst => Packing::Zstd,
            Self::Xz => Packing::Xz,
            Self::Gz => Packing::Gzip,
        }
    }
}

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = SEE_SHOW)]
pub(super) struct Build {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// Pack the image as well; may be given several times
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pack: Vec<PackingName>,
}

pub(super) fn run(workspace: &Workspace, command: &Build, progress: &Progress) -> Result<ExitCode> {
    let Build { what, how, pack } = command;
    let decision = decide(workspace, what)?;
    let chosen = chosen_for(workspace, &decision, what, how, progress)?;
    let options = Options {
        pack: pack.iter().map(|name| name.packing()).collect(),
        ..chosen.options(how.force, how.sign.clone())
    };
    let built = build(workspace, &decision, &chosen.cache, &options, progress)?;
    print(&told(&built, &decision)).map(|()| ExitCode::SUCCESS)
}

/// The packages to build with; the newest where those are asked for, and then it is said what changes.
pub(super) fn chosen_for(
    workspace: &Workspace,
    decision: &Decision,
    what: &What,
    how: &How,
    progress: &Progress,
) -> Result<Chosen> {
    let chosen = what.chosen()?;
    if !how.update {
        return Ok(chosen);
    }
    let (chosen, changes) = chosen.update(workspace, decision, false, progress)?;
    progress.line(change::report(&changes).trim_end());
    Ok(chosen)
}

fn told(built: &Built, decision: &Decision) -> String {
    let state = if built.up_to_date { "is up to date" } else { "was built" };
    let packed = built.manifest.packed.iter().filter(|packed| packed.is_beside(&built.image));
    let packed = packed.map(|packed| {
        let path = packed_path(&built.image, packed.packing);
        format!(
            "packed: {}, {}, sha256 {}\n",
            path.display(),
            report::size(packed.stamp.size()),
            packed.sha256
        )
    });
    format!(
        "{} {state}: {}, block map sha256 {}\n{}{}",
        built.image.display(),
        report::size(built.manifest.size),
        built.manifest.map,
        packed.collect::<String>(),
        if decision.board.never_booted() { "image checked by reading it back, never booted\n" } else { "" }
    )
}
