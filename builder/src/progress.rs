//! What the user sees of long work: bars on a terminal, plain lines elsewhere, nothing when quiet.
//!
//! Everything here goes to standard error; standard output belongs to results.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A step shorter than this says nothing where there is no terminal, unless it has a note.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// How a bar of bytes looks.
const BYTES: &str = "{spinner} {msg} [{bar:30}] {percent}% {binary_bytes_per_sec}, {eta} left [{elapsed}]";

/// Shows the progress of a run. Cheap to clone, and every clone may be used from another thread.
#[derive(Clone, Debug)]
pub struct Progress(Mode);

#[derive(Clone, Debug)]
enum Mode {
    Quiet,
    Plain,
    Bars(MultiProgress),
}

impl Progress {
    /// Bars when standard error is a terminal, plain lines when it is not.
    #[must_use]
    pub fn auto() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            Self(Mode::Bars(MultiProgress::new()))
        } else {
            Self::plain()
        }
    }

    /// Plain lines, one when a step begins and one when it ends.
    #[must_use]
    pub fn plain() -> Self {
        Self(Mode::Plain)
    }

    /// Shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self(Mode::Quiet)
    }

    /// Begins a step; it ends when it is finished or dropped.
    #[must_use]
    pub fn step(&self, name: impl Into<String>) -> Step {
        let name = name.into();
        let bar = match &self.0 {
            Mode::Quiet => None,
            Mode::Plain => {
                plain_line(&format!("{name} ..."));
                None
            }
            Mode::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {msg} [{elapsed}]"));
                bar.set_message(name.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
        };
        let plain = matches!(self.0, Mode::Plain);
        let (began, ended) = (Instant::now(), AtomicBool::new(false));
        let inner = Inner { name, bar, plain, began, ended, tenth: AtomicU64::new(0) };
        Step(Arc::new(inner))
    }

    /// Prints one line above the bars.
    pub fn line(&self, text: impl AsRef<str>) {
        match &self.0 {
            Mode::Quiet => {}
            Mode::Plain => plain_line(text.as_ref()),
            // Only a closed terminal can fail here, and then nobody reads it.
            Mode::Bars(bars) => drop(bars.println(text.as_ref())),
        }
    }
}

/// One piece of work under way. Cheap to clone; the step ends with its last clone or its first `finish`.
#[derive(Clone, Debug)]
pub struct Step(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    bar: Option<ProgressBar>,
    plain: bool,
    began: Instant,
    ended: AtomicBool,
    /// The last tenth of the bytes that was told.
    tenth: AtomicU64,
}

impl Step {
    /// Says that `done` of `total` units (bytes, files) are through.
    pub fn set(&self, done: u64, total: u64) {
        let Some(bar) = &self.0.bar else { return };
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style("{spinner} {msg} [{bar:30}] {percent}% [{elapsed}]").progress_chars("=> "));
        }
        bar.set_position(done.min(total));
    }

    /// Like [`Step::set`], for work whose units are bytes and which takes so long that rate and time left count. Where
    /// there is no terminal, every tenth of it is a line.
    pub fn set_bytes(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(style(BYTES).progress_chars("=> "));
            }
            bar.set_position(done.min(total));
        }
        let tenth = done.saturating_mul(10) / total.max(1);
        if self.0.plain && tenth < 10 && self.0.tenth.fetch_max(tenth, Ordering::Relaxed) < tenth {
            let seconds = self.0.began.elapsed().as_secs_f64();
            // A rate is read by eye.
            #[allow(clippy::cast_precision_loss)]
            let (rate, left) = (done as f64 / seconds, total.saturating_sub(done) as f64);
            let mib = rate / f64::from(1 << 20);
            plain_line(&format!("{}: {tenth}0%, {mib:.1} MiB/s, {:.0} s left", self.0.name, left / rate));
        }
    }

    /// Ends the step with a remark, such as `cached`.
    pub fn note(&self, remark: impl AsRef<str>) {
        self.0.end(Some(remark.as_ref()));
    }

    /// Ends the step.
    pub fn finish(self) {
        self.0.end(None);
    }
}

impl Inner {
    fn end(&self, remark: Option<&str>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.began.elapsed();
        if let Some(bar) = &self.bar {
            let remark = remark.map_or(String::new(), |remark| format!(": {remark}"));
            bar.set_style(style("  {msg} [{elapsed}]"));
            bar.finish_with_message(format!("{}{remark}", self.name));
        } else if self.plain && (remark.is_some() || took >= WORTH_A_LINE) {
            let remark = remark.unwrap_or("done");
            plain_line(&format!("{}: {remark} ({:.1} s)", self.name, took.as_secs_f64()));
        }
    }
}

impl Drop for Inner {
    /// A step that nobody finished may have failed: it ends without a word.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|_| !self.ended.load(Ordering::Relaxed)) {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn plain_line(text: &str) {
    // A closed standard error must not end a build.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        for template in [
            "{spinner} {msg} [{elapsed}]",
            "{spinner} {msg} [{bar:30}] {percent}% [{elapsed}]",
            "  {msg} [{elapsed}]",
            BYTES,
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_step_ends_once_and_may_cross_threads() {
        let step = Progress::quiet().step("x");
        let clone = step.clone();
        std::thread::spawn(move || clone.note("cached")).join().unwrap();
        assert!(step.0.ended.load(Ordering::Relaxed));
        step.set(3, 2);
        step.finish();
    }
}
