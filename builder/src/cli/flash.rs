//! `vambrace flash`.

use super::what::{What, decide_on};
use crate::build::build;
use crate::error::{Error, Result};
use crate::flash::{self, Flash};
use crate::port;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Behind the help of `flash`.
const FLASH_EXAMPLE: &str = "\
An IMAGE may be packed with gzip, xz or zstd, and have bmaptool's .bmap beside it. A disk is
refused while anything of it is in use, and unless said otherwise when it cannot be taken out or
is larger than cards are.

--update=changed trusts what this machine remembers of a medium, and does not see what was written
past a file system, nor bits that the medium has lost. --update reads all of it.

Examples:
  vambrace flash orangepi-pc
  vambrace flash orangepi-pc --update=changed
  vambrace flash image.img.xz /dev/sdb";

#[derive(Debug, Args)]
#[command(mut_arg("board", |arg| {
    arg.index(1).value_name("IMAGE|BOARD").help("The file of an image; or the board, or BOARD:VARIANT, whose image is built first")
}))]
#[command(after_help = FLASH_EXAMPLE)]
pub(super) struct FlashOf {
    #[command(flatten)]
    pub(super) what: What,
    /// The disk: its path or its serial number [default: the only one that can be taken out]
    #[arg(index = 2)]
    pub(super) device: Option<String>,
    #[command(flatten)]
    pub(super) flash: Flash,
}

/// Flashes a file, or builds what is named and flashes that.
pub(super) fn run(
    workspace: &dyn Fn() -> Result<Workspace>,
    command: &FlashOf,
    progress: &Progress,
) -> Result<ExitCode> {
    let FlashOf { what, device, flash } = command;
    // With --config no board need be named: then the first word is the device.
    let (board, device) = match (&what.board, device) {
        (Some(word), None) if what.config.is_some() && word.contains('/') => (None, Some(word)),
        (board, device) => (board.as_ref(), device.as_ref()),
    };
    let image = || match board.filter(|word| port::is_file(word)) {
        Some(file) if what.says_more() => {
            Err(Error::new("options for building mean nothing for an image that is there")
                .at(file)
                .help("leave them out, or name a board"))
        }
        Some(file) => Ok(PathBuf::from(file)),
        None => {
            let workspace = workspace()?;
            let decision = decide_on(&workspace, &what.request_for(board.map(String::as_str))?)?;
            let chosen = what.chosen()?;
            let options = chosen.options(false, None);
            let built = build(&workspace, &decision, &chosen.cache, &options, progress)?;
            Ok(built.image)
        }
    };
    flash::run(flash, image, device.map(String::as_str), progress).map(|()| ExitCode::SUCCESS)
}
