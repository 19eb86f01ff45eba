//! `vambrace rootfs`.

use super::SEE_SHOW;
use super::what::{What, decide};
use crate::error::Result;
use crate::progress::Progress;
use crate::rootfs;
use crate::workspace::Workspace;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vambrace_bsp::Size;

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = SEE_SHOW)]
pub(super) struct Rootfs {
    #[command(flatten)]
    what: What,
    /// The ext4 file system to write
    #[arg(long, short = 'o', value_name = "FILE", help_heading = "Output")]
    output: PathBuf,
    /// Its size, such as 1G [default: what it takes, and some room]
    #[arg(long, value_name = "SIZE", help_heading = "Output")]
    size: Option<Size>,
    /// Write the kernel that goes with it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    kernel: Option<PathBuf>,
    /// Write the ramdisk that finds it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    ramdisk: Option<PathBuf>,
}

pub(super) fn run(workspace: &Workspace, command: &Rootfs, progress: &Progress) -> Result<ExitCode> {
    let Rootfs { what, output, size, kernel, ramdisk } = command;
    let decision = decide(workspace, what)?;
    let (image, kernel, ramdisk) = (output.clone(), kernel.clone(), ramdisk.clone());
    let outputs = rootfs::Outputs { image, size: *size, kernel, ramdisk };
    rootfs::write(workspace.root(), &decision, &what.chosen()?.cache, progress, &outputs)?;
    Ok(ExitCode::SUCCESS)
}
