//! What is seen of a flash: steps with rate and time left for people, JSON lines for programs.

use super::disk::Disk;
use super::order::Stage;
use super::transfer::Outcome;
use crate::cache::hex;
use crate::calendar::Utc;
use crate::cli::print_bytes;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::progress::{Progress, Step};
use crate::report::size;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Tells of a flash while it runs.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    json: bool,
    progress: &'a Progress,
    /// The stage that is under way, and the last percent of it that a program was told.
    stage: RefCell<Option<(Stage, Step, Instant, u64)>>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(json: bool, progress: &'a Progress) -> Self {
        Self { json, progress, stage: RefCell::new(None) }
    }

    /// The image and the disk, before the first byte is written.
    pub(super) fn begins(&self, image: &Image, disk: &Disk) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        line(&json!({
            "event": "begin",
            "image": {
                "path": image.path(),
                "bytes": image.map().image_size(),
                "mapped": image.map().mapped(),
                "map": image.beside(),
                "identity": image.map().identity().map(|identity| hex(&identity)),
            },
            "disk": disk,
        }))
    }

    /// `done` of `total` bytes are through.
    pub(super) fn moved(&self, stage: Stage, done: u64, total: u64) {
        let mut slot = self.stage.borrow_mut();
        if slot.as_ref().is_none_or(|(before, ..)| *before != stage) {
            if let Some((_, step, ..)) = slot.take() {
                step.finish();
            }
            let step = self.progress.step(match stage {
                Stage::Write => "writing",
                Stage::Verify => "reading it back",
            });
            *slot = Some((stage, step, Instant::now(), u64::MAX));
        }
        let Some((_, step, began, told)) = slot.as_mut() else { return };
        step.set_bytes(done, total);
        let percent = done.saturating_mul(100) / total.max(1);
        if self.json && *told != percent {
            *told = percent;
            // A reader that has gone must not keep the image from getting onto the medium.
            let _ = line(&json!({
                "event": "progress",
                "stage": name(stage),
                "done": done,
                "total": total,
                "seconds": began.elapsed().as_secs_f64(),
            }));
        }
    }

    /// The image is on the disk.
    pub(super) fn ended(
        &self,
        image: &Image,
        disk: &Disk,
        outcome: &Outcome,
        took: Duration,
        remarks: &[String],
    ) -> Result<()> {
        if let Some((_, step, ..)) = self.stage.borrow_mut().take() {
            step.finish();
        }
        let counts = &outcome.counts;
        let since = outcome.since.filter(|_| counts.unchanged > 0).map(|since| Utc::of(since).to_string());
        if self.json {
            return line(&json!({
                "event": "done",
                "image_bytes": image.map().image_size(),
                "mapped_bytes": image.map().mapped(),
                "read_bytes": counts.compared,
                "written_bytes": counts.written,
                "written_pieces": counts.pieces,
                "verified_bytes": counts.verified,
                "unchanged_bytes": counts.unchanged,
                "unchanged_since": since,
                "resumed": outcome.resumed,
                "seconds": took.as_secs_f64(),
                "remarks": remarks,
            }));
        }
        let mut text = String::new();
        for remark in remarks {
            text.push_str(&format!("note: {remark}\n"));
        }
        if let Some(since) = since {
            text.push_str(&format!("note: {} taken as unchanged since {since}\n", size(counts.unchanged)));
        }
        let seconds = took.as_secs_f64();
        let path = disk.path.display();
        text.push_str(&match counts.written {
            0 => format!(
                "{path} had the image already: {} compared, nothing written, {seconds:.1} s\n",
                size(counts.compared)
            ),
            written => format!(
                "{path} has the image: {} written in {} pieces, {} read back and verified, {seconds:.1} s\n",
                size(written),
                counts.pieces,
                size(counts.verified)
            ),
        });
        print_bytes(text.as_bytes())
    }

    /// The image is not on the disk.
    pub(super) fn failed(&self, error: &Error) {
        if self.json {
            // The error itself goes to standard error, and says what counts.
            let _ = line(&json!({ "event": "failed", "error": error.report() }));
        }
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Write => "write",
        Stage::Verify => "verify",
    }
}

fn line(value: &Value) -> Result<()> {
    print_bytes(format!("{value}\n").as_bytes())
}
