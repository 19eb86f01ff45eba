//! The command `vambrace inspect`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Account, inspect};
use crate::cache::{replace_file, to_json};
use crate::draw;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Behind the help.
const CODES: &str = "\
It ends with 0 where nothing keeps it from booting, with 1 where a fault does, and with 2 where it cannot be read.
Nothing is written to what is inspected.";

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = CODES)]
pub struct InspectCommand {
    /// A disk image (also in gzip, xz or zstd), a disk, or a boot file
    #[arg(value_name = "FILE|DEVICE")]
    pub what: PathBuf,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write a page with the drawing and all that was found
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Write the drawing
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
}

/// Inspects, writes the files asked for, and gives what is to be printed with the exit code. `width` is that of the
/// terminal.
///
/// # Errors
/// What cannot be read, or a file that cannot be written.
pub fn run(command: &InspectCommand, width: usize, progress: &Progress) -> Result<(Vec<u8>, u8)> {
    for path in command.html.iter().chain(&command.svg) {
        keeps(Some(&command.what), path)?;
    }
    let account: Account = inspect(&command.what, progress)?;
    if let Some(path) = &command.html {
        replace_file(path, account.html().as_bytes())?;
    }
    if let Some(path) = &command.svg {
        replace_file(path, draw::svg(&[&account.map()]).as_bytes())?;
    }
    let printed = if command.json { to_json(&account)? } else { account.text(width).into_bytes() };
    Ok((printed, u8::from(account.is_broken())))
}

/// Refuses to write to `path` where that is `image` itself: what is looked at stays as it is.
pub(crate) fn keeps(image: Option<&Path>, path: &Path) -> Result<()> {
    let there = fs::canonicalize(path).ok();
    if there.is_some() && there == image.and_then(|image| fs::canonicalize(image).ok()) {
        return Err(Error::new("this is what is looked at, and would be overwritten").at(path));
    }
    Ok(())
}
