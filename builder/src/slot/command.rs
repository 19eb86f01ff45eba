//! The command `vambrace slot`, for images; dom0 has one of the same name for the medium that it runs from.

use super::{Bundle, MOST_TRIES, Medium, SlotName, State, TRIES, Trial, install};
use crate::cache::to_json;
use crate::error::{Error, Result, ResultExt};
use crate::parts::epoch;
use crate::progress::Progress;
use clap::{Args, Subcommand};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Behind the help.
const EXAMPLE: &str = "\
A bundle is what boots of an image, as one file. A board takes it while it runs:
  vambrace build orangepi-pc --slots
  vambrace slot bundle out/orangepi-pc/IMAGE.img new.slot
  scp new.slot root@board: && ssh root@board 'vambrace slot install new.slot && reboot'
The board starts it once. If dom0 comes up, it is kept; if not, the board is back with what it had.";

/// What is to be done with slots.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct SlotCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show which slot is good, which is on trial, and what is in them
    Status {
        /// The image, or a card
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what boots of an image with slots into one file
    Bundle {
        /// The image
        image: PathBuf,
        /// The file to write
        bundle: PathBuf,
        /// The slot [default: the one that boots]
        #[arg(long, value_name = "SLOT")]
        slot: Option<SlotName>,
    },
    /// Put a bundle into the slot of an image that is not good, to be tried at the next boot
    Install {
        /// The image, in a file
        image: PathBuf,
        /// The bundle
        bundle: PathBuf,
        /// How often it is tried, if dom0 does not come up
        #[arg(long, value_name = "N", default_value_t = TRIES)]
        #[arg(value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_TRIES)))]
        tries: u8,
    },
}

/// Does what is asked for, and gives what is to be printed.
///
/// # Errors
/// What cannot be read or written, and a bundle that does not fit.
pub fn run(command: &SlotCommand, progress: &Progress) -> Result<String> {
    match &command.action {
        Action::Status { image, json } => {
            let medium = Medium::open(image, progress)?;
            if *json {
                return Ok(String::from_utf8_lossy(&to_json(&as_json(&medium))?).into_owned());
            }
            Ok(as_text(&medium))
        }
        Action::Bundle { image, bundle: to, slot } => {
            let medium = Medium::open(image, progress)?;
            let slot = slot.unwrap_or_else(|| medium.state().first());
            let bundle = medium.bundle(slot).map_err(|error| error.at(image))?;
            write(&bundle, to)?;
            Ok(format!("{} is slot {slot} of {}\n", to.display(), image.display()))
        }
        Action::Install { image, bundle, tries } => {
            let slot = install(image, &Bundle::open(bundle)?, *tries, progress)?;
            Ok(format!(
                "{} has {} in slot {slot}, which is tried {tries} time(s)\n",
                image.display(),
                bundle.display()
            ))
        }
    }
}

/// Writes the bundle to the file `to`: whole, or not at all.
fn write(bundle: &Bundle, to: &std::path::Path) -> Result<()> {
    if to.metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(Error::new("this is no file").at(to).help("name a file for the bundle"));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let mut file =
        tempfile::NamedTempFile::new_in(folder).context_at(folder, || "cannot write into the folder")?;
    bundle.write(epoch()?, std::io::BufWriter::new(&mut file)).map_err(|error| error.at(to))?;
    file.flush().and_then(|()| file.as_file().sync_all()).context_at(to, || "cannot write the bundle")?;
    file.persist(to).map_err(|error| error.error).context_at(to, || "cannot write the bundle")?;
    Ok(())
}

/// What is to be said of a slot beside its name.
fn standing(state: &State, slot: SlotName) -> String {
    match state.trial.filter(|trial| trial.slot == slot && slot != state.good()) {
        _ if slot == state.good() => "good".to_owned(),
        Some(Trial { tries: 0, .. }) => "failed, and is not tried again".to_owned(),
        Some(Trial { tries, .. }) => format!("on trial, {tries} left"),
        None => "not in use".to_owned(),
    }
}

fn as_text(medium: &Medium) -> String {
    let state = medium.state();
    let mut text = String::new();
    for slot in SlotName::ALL {
        let first = if slot == state.first() { ", boots next" } else { "" };
        let what = match medium.listing(slot) {
            Ok(listing) => {
                let size: u64 = listing.files.iter().fold(0, |sum, file| sum.saturating_add(file.size));
                let kernel = listing.kernel.unwrap_or_else(|| "unknown".to_owned());
                format!("{}, kernel {kernel}, {}", listing.board, crate::report::size(size))
            }
            Err(error) => error.what().to_owned(),
        };
        let _ = writeln!(text, "slot {slot}: {}{first}; {what}", standing(&state, slot));
    }
    if state.good[0] != state.good[1] {
        let _ =
            writeln!(text, "the two files that say which slot is good do not agree; {} counts", state.good());
    }
    text
}

fn as_json(medium: &Medium) -> serde_json::Value {
    let state = medium.state();
    let slots = SlotName::ALL.map(|slot| {
        let listing = medium.listing(slot).ok();
        json!({ "slot": slot, "standing": standing(&state, slot), "has": listing })
    });
    json!({ "good": state.good(), "trial": state.trial, "boots": state.first(), "slots": slots })
}
