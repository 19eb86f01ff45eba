//! `vambrace reproduce`.

use super::print;
use crate::cache::Cache;
use crate::error::Result;
use crate::progress::Progress;
use crate::reproduce::{How, Outcome, reproduce};
use crate::workspace::Workspace;
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Behind the help of `reproduce`.
const REPRODUCE_CODES: &str = "\
Ends with 0 when it is the same, 1 when it differs, 2 when it cannot be built again.";

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = REPRODUCE_CODES)]
pub(super) struct Reproduce {
    /// The image
    image: PathBuf,
    /// Make every part anew, rather than take it from the cache
    #[arg(long, help_heading = "Output")]
    from_scratch: bool,
    /// Keep what is built, in this folder
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
}

/// Everything that keeps an image from being built again is an error of another code than its being different.
pub(super) fn run(
    open: &dyn Fn(Option<&Path>) -> Result<Workspace>,
    command: &Reproduce,
    progress: &Progress,
) -> Result<ExitCode> {
    let image = command.image.as_path();
    let how = How { from_scratch: command.from_scratch, out: command.out.clone() };
    let outcome = match Cache::open(None).and_then(|cache| reproduce(image, open, cache, &how, progress)) {
        Ok(outcome) => outcome,
        Err(error) => {
            let error = error.context("the image cannot be built again");
            let _ = writeln!(std::io::stderr().lock(), "{}", error.report());
            return Ok(ExitCode::from(2));
        }
    };
    let (image, Outcome { sha256, rebuilt, differences }) = (image.display(), outcome);
    if sha256 == rebuilt {
        return print(&format!("{image} was built again with the same bytes: sha256 {sha256}\n"))
            .map(|()| ExitCode::SUCCESS);
    }
    let mut text =
        format!("{image}, sha256 {sha256}, differs from what was built again, sha256 {rebuilt}:\n");
    differences.iter().for_each(|difference| text.push_str(&format!("  {difference}\n")));
    print(&text).map(|()| ExitCode::FAILURE)
}
