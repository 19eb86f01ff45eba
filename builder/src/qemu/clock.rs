//! The time that a machine had: that of the wall, without what its threads waited for a CPU of this computer.
//!
//! A machine that is told to be done within five minutes is not to fail because something else ran meanwhile. Linux says
//! how long each thread could have run and did not (Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Reached, Stage};

/// How often the threads are asked.
const EVERY: Duration = Duration::from_millis(250);

/// The clock of one process.
#[derive(Debug)]
pub(super) struct MachineClock {
    began: Instant,
    /// Where the process's threads are.
    threads: PathBuf,
    /// How long each had waited, in nanoseconds.
    waited: BTreeMap<String, u64>,
    asked: Instant,
    /// What was waited in all: of each piece of time, that of the thread that waited longest.
    lost: Duration,
}

impl MachineClock {
    /// The clock of the process `pid`, which began just now.
    pub(super) fn new(pid: u32) -> Self {
        let now = Instant::now();
        let threads = PathBuf::from(format!("/proc/{pid}/task"));
        Self { began: now, threads, waited: BTreeMap::new(), asked: now, lost: Duration::ZERO }
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        self.began = Instant::now();
        self.asked = self.began;
        self.lost = Duration::ZERO;
    }

    /// The time since it began.
    pub(super) fn wall(&self) -> Duration {
        self.began.elapsed()
    }

    /// The same without what the machine waited for a CPU; all of it where Linux does not tell.
    pub(super) fn machine(&mut self) -> Duration {
        let piece = self.asked.elapsed();
        if piece >= EVERY {
            let now = self.ask();
            let more = now.iter().map(|(thread, waited)| waited.saturating_sub(self.before(thread, *waited)));
            self.lost += Duration::from_nanos(more.max().unwrap_or(0)).min(piece);
            self.waited = now;
            self.asked += piece;
        }
        self.wall().saturating_sub(self.lost)
    }

    /// `stage`, reached now.
    pub(super) fn reached(&mut self, stage: &Stage) -> Reached {
        Reached { stage: stage.name.clone(), wall: self.wall(), machine: self.machine() }
    }

    /// What the thread had waited when it was asked before; nothing is known of one that is new.
    fn before(&self, thread: &str, now: u64) -> u64 {
        self.waited.get(thread).copied().unwrap_or(now)
    }

    fn ask(&self) -> BTreeMap<String, u64> {
        let Ok(threads) = fs::read_dir(&self.threads) else { return BTreeMap::new() };
        let one = |entry: fs::DirEntry| {
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), waited(&text)?))
        };
        threads.filter_map(|entry| one(entry.ok()?)).collect()
    }
}

/// The second of the numbers: nanoseconds in which the thread could have run.
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_of_a_thread_is_read() {
        assert_eq!(waited("1234 5678 9\n"), Some(5678));
        assert_eq!(waited(""), None);
        // Not every kernel has it.
        if let Ok(text) = fs::read_to_string("/proc/self/schedstat") {
            assert!(waited(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn only_what_was_waited_is_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let set = |thread: &str, waited: u64| {
            fs::create_dir_all(dir.path().join(thread)).unwrap();
            fs::write(dir.path().join(thread).join("schedstat"), format!("1 {waited} 1\n")).unwrap();
        };
        let mut clock = MachineClock::new(0);
        clock.threads = dir.path().to_owned();
        // An hour passes each time the clock is asked.
        let hour = Duration::from_secs(3600);
        let next = |clock: &mut MachineClock| {
            clock.began = clock.began.checked_sub(hour).unwrap();
            clock.asked = clock.asked.checked_sub(hour).unwrap();
            clock.machine().as_secs() / 60
        };
        set("1", 500);
        assert_eq!(next(&mut clock), 60, "what a thread waited before it was known does not count");
        set("1", 500 + 600_000_000_000);
        set("2", 900_000_000_000);
        assert_eq!(next(&mut clock), 110, "ten minutes of the one, and the other is new");
        set("1", 500 + 1_200_000_000_000);
        set("2", 900_000_000_000 + 1_800_000_000_000);
        assert_eq!(next(&mut clock), 140, "at the same time: half an hour");
        set("1", u64::MAX / 2);
        assert_eq!(next(&mut clock), 140, "never more than passed");
    }
}
