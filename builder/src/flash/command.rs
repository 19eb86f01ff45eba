//! The command `vambrace flash`.

use super::device::Device;
use super::disk::{Disk, Machine};
use super::guard::{Guard, Reason};
use super::memory::Shelf;
use super::meter::Meter;
use super::order::{Geometry, Order, Stage, Update, Watch};
use super::past::Past;
use super::transfer::{Outcome, transfer};
use crate::error::{Error, Result, ResultExt};
use crate::image::{Image, Piece, Rest};
use crate::progress::Progress;
use crate::report::size;
use clap::Args;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Instant;
use vambrace_bsp::Size;

/// Pieces that are unpacked ahead of the writing, 1 MiB each.
const AHEAD: usize = 8;

/// How to flash.
#[derive(Debug, Args)]
pub struct Flash {
    /// Read the medium and write only what differs: read all of it, or only what has changed
    ///
    /// `changed` relies on what this machine remembers of the medium, by its partition table: ranges that are the same in the
    /// image that was put there last and in this one are not read, unless their file system was written to since. It does not
    /// see what was written past a file system (dd, firmware's raw blocks inside of a partition), nor bits that the medium
    /// has lost in what is not read. A medium that is not remembered is compared whole.
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        help_heading = "Medium"
    )]
    pub update: Option<Update>,
    /// Take a disk that is refused otherwise
    #[arg(long, value_enum, value_name = "REASON", value_delimiter = ',', help_heading = "Medium")]
    pub allow: Vec<Reason>,
    /// The size above which a disk is refused
    #[arg(long, value_name = "SIZE", default_value = "64G", help_heading = "Medium")]
    pub limit: Size,
    /// Do not ask
    #[arg(long, short, help_heading = "Medium")]
    pub yes: bool,
    /// Print what happens as JSON, one object a line
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Puts the image that `image` makes or finds onto the disk that `device` names, or the only one that can be taken out.
///
/// # Errors
///
/// A disk that is refused, an image that cannot be had, no consent, and whatever keeps the image from being on the
/// medium, verified, at the end.
pub fn run(
    flash: &Flash,
    image: impl FnOnce() -> Result<PathBuf>,
    device: Option<&str>,
    progress: &Progress,
) -> Result<()> {
    let meter = Meter::new(flash.json, progress);
    flashed(flash, image, device, progress, &meter).inspect_err(|error| meter.failed(error))
}

fn flashed(
    flash: &Flash,
    image: impl FnOnce() -> Result<PathBuf>,
    device: Option<&str>,
    progress: &Progress,
    meter: &Meter,
) -> Result<()> {
    let machine = Machine::default();
    let guard = Guard { limit: flash.limit.bytes(), allowed: flash.allow.clone() };
    // What is refused whatever the image is refused before anything is built or read.
    let disk = Guard::choose(&machine, device)?;
    guard.check(&disk)?;
    let image = Image::open(&image()?, disk.size, progress)?;
    consent(flash, &image, &disk)?;
    // A person may have taken minutes to answer.
    let same = machine.find(&disk.path.to_string_lossy())?;
    if same != disk {
        return Err(Error::new("this is not what it was when you were asked")
            .at(&disk.path)
            .help("run this again"));
    }
    let block = machine.block_size(&disk);
    let mut medium = Device::open(&disk, block)?;
    meter.begins(&image, &disk)?;
    let began = Instant::now();
    let past = Past::of(&mut medium, image.map(), Shelf::of_user(), flash.update, Geometry::USUAL);
    let past = past.map_err(|error| error.at(&disk.path).help("nothing was written to the medium"))?;
    let outcome = written(&image, &mut medium, flash, &past, meter).map_err(|error| error.at(&disk.path))?;
    let mut remarks = told(&outcome, &past, flash, &disk, block);
    let again = File::open(&disk.path).context(|| "cannot open the medium again");
    if let Err(error) = again.and_then(|file| past.keep(&file, disk.size, image.map(), &outcome)) {
        remarks.push(format!(
            "the next `--update=changed` compares all of it, for this cannot be remembered: {error}"
        ));
    }
    // When it is closed, udev has the kernel look for the new partitions.
    drop(medium);
    meter.ended(&image, &disk, &outcome, began.elapsed(), &remarks)
}

/// Tells the meter how far it is, and forgets what the medium had before anything is written.
struct Witness<'a> {
    meter: &'a Meter<'a>,
    past: &'a Past,
}

impl Watch for Witness<'_> {
    fn begins(&mut self) -> Result<()> {
        self.past.forget()
    }

    fn moved(&mut self, stage: Stage, done: u64, total: u64) {
        self.meter.moved(stage, done, total);
    }
}

/// Reads and unpacks in one thread, writes in another.
fn written(
    image: &Image,
    medium: &mut Device,
    flash: &Flash,
    past: &Past,
    meter: &Meter<'_>,
) -> Result<Outcome> {
    let trust = &past.trust;
    let (sender, receiver) = sync_channel::<Result<Piece>>(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Nobody listens any more where the medium has failed.
            if let Err(error) =
                image.pieces(|range| trust.covers(range), |piece| sender.send(Ok(piece)).is_ok())
            {
                let _ = sender.send(Err(error));
            }
        });
        // It goes with this closure, before the thread is waited for.
        let receiver = receiver;
        let mut next = || receiver.recv().ok();
        let order =
            Order { map: image.map(), update: flash.update.is_some(), trust, geometry: Geometry::USUAL };
        transfer(medium, order, &mut next, &mut Witness { meter, past })
    })
}

/// Shows what is going to happen, and asks.
fn consent(flash: &Flash, image: &Image, disk: &Disk) -> Result<()> {
    let map = image.map();
    let from = match (image.beside(), map.rest()) {
        (Some(map), _) => format!("in use by {}", map.display()),
        (None, Rest::Zero | Rest::Any) => "not zero".to_owned(),
    };
    let shown = format!(
        "image   {}  {}, {} {from}\nmedium  {}\n",
        image.path().display(),
        size(map.image_size()),
        size(map.mapped()),
        disk.line()
    );
    let mut out = std::io::stderr().lock();
    let failed = || "cannot ask";
    if flash.yes {
        return if flash.json { Ok(()) } else { out.write_all(shown.as_bytes()).context(failed) };
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new("there is no terminal to ask at")
            .at(&disk.path)
            .help("with `--yes` nobody is asked; the disk would be: ".to_owned() + &disk.line()));
    }
    let verb =
        if flash.update.is_some() { "Where it differs from the image, the medium" } else { "The medium" };
    write!(out, "{shown}{verb} is written over. Type `yes` to go on: ")
        .and_then(|()| out.flush())
        .context(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context(failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Error::new("not confirmed: nothing was written").at(&disk.path)),
    }
}

/// What a person should know of a medium that has got its image.
fn told(outcome: &Outcome, past: &Past, flash: &Flash, disk: &Disk, block: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if flash.update == Some(Update::Changed) && past.trust.since.is_none() {
        lines.push("nothing is remembered of what this medium had: all of it was compared".to_owned());
    }
    for part in &past.trust.written_to {
        lines.push(format!("{part} was written to since the last flash: all of it was compared"));
    }
    if outcome.resumed {
        lines.push("an earlier try was interrupted: this one went on with it".to_owned());
    }
    if block != 512 && outcome.backup.is_some() {
        lines.push(format!(
            "the medium has blocks of {block} bytes, and the image's table counts in 512: few machines will find its partitions"
        ));
    }
    let last = disk.size.saturating_sub(512);
    if outcome.backup.is_some_and(|backup| backup < last) {
        lines.push(format!(
            "the second copy of the partition table is where the image ends, not where the medium does: dom0's profile \
             `debian` moves it when it first boots, `sgdisk --move-second-header {}` does so now",
            disk.path.display()
        ));
    }
    lines
}
