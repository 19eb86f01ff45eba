//! The consoles of a night, as much of each as a page has room for.

use std::collections::BTreeMap;

use super::{mark, text};
use crate::draw::escaped;
use crate::nightly::outcome::{Attempt, Night, Verdict};
use crate::nightly::store::Store;
use crate::qemu::plain_lines;

/// Lines that are kept of a log's beginning, and of its end.
const HEAD: usize = 500;
const TAIL: usize = 1500;
/// Lines of the end that a boot that failed keeps however little room there is.
const LAST: usize = 24;
/// Bytes that all logs of a page have, and that one has which failed.
const ROOM: usize = 3 << 20;
const ROOM_OF_FAILED: usize = 512 << 10;

/// A log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Its file, relative to the report.
    pub(super) path: String,
    /// The lines that the file has.
    pub(super) total: usize,
    /// The lines it begins with; all of them where nothing was left out.
    pub(super) head: Vec<String>,
    /// The lines it ends with, where some were left out.
    pub(super) tail: Vec<String>,
    /// Why it could not be read.
    pub(super) fault: Option<String>,
}

impl Log {
    /// As much of `lines` as has room in `bytes`, but at least `least` of the last.
    fn of(path: &str, lines: &[String], bytes: usize, least: usize) -> Self {
        let shown: Vec<String> = if lines.len() <= HEAD + TAIL {
            lines.iter().map(|line| text::line(line)).collect()
        } else {
            let begin = lines.iter().take(HEAD);
            begin.chain(lines.iter().skip(lines.len() - TAIL)).map(|line| text::line(line)).collect()
        };
        let size = |line: &String| escaped(line).len() + 1;
        let log = Self { path: path.to_owned(), total: lines.len(), ..Self::default() };
        if shown.len() == lines.len() && shown.iter().map(size).sum::<usize>() <= bytes {
            return Self { head: shown, ..log };
        }
        let fits = |lines: &mut dyn Iterator<Item = &String>, most: usize, bytes: usize| {
            let mut used = 0;
            lines
                .take(most)
                .take_while(|line| {
                    used += size(line);
                    used <= bytes
                })
                .count()
        };
        let tail = fits(&mut shown.iter().rev(), TAIL, bytes / 4 * 3).max(least.min(shown.len()));
        let head = fits(&mut shown.iter(), HEAD, bytes / 4).min(shown.len() - tail);
        let (head, tail) = (
            shown.iter().take(head).cloned().collect(),
            shown.iter().skip(shown.len() - tail).cloned().collect(),
        );
        Self { head, tail, ..log }
    }

    /// How many lines are not here.
    pub(super) fn left_out(&self) -> usize {
        self.total - self.head.len() - self.tail.len()
    }

    /// The number of the tail's first line, from 1.
    pub(super) fn tail_from(&self) -> usize {
        self.total - self.tail.len() + 1
    }

    /// Whether the line of this number, from 1, is here.
    pub(super) fn has(&self, number: usize) -> bool {
        (1..=self.head.len()).contains(&number) || (self.tail_from()..=self.total).contains(&number)
    }

    /// The last lines that are not empty, at most `count` with what is between.
    pub(super) fn last(&self, count: usize) -> &[String] {
        let lines = if self.tail.is_empty() { &self.head } else { &self.tail };
        let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |at| at + 1);
        lines.get(end.saturating_sub(count)..end).unwrap_or_default()
    }
}

/// The logs by their files.
#[derive(Debug, Default)]
pub(super) struct Consoles(BTreeMap<String, Log>);

impl Consoles {
    /// Reads those of `night`; those that failed get room first.
    pub(super) fn read(store: &Store, night: &Night) -> Self {
        let mut wanted: Vec<(u8, bool, &str)> = Vec::new();
        for outcome in &night.outcomes {
            for attempt in &outcome.attempts {
                let failed = attempt.fault.is_some() && outcome.verdict != Verdict::Passed;
                wanted.extend(
                    attempt.console.as_deref().map(|path| (mark::rank(&outcome.verdict), failed, path)),
                );
            }
        }
        wanted.sort_by_key(|(rank, failed, _)| (*rank, !failed));
        let (mut logs, mut room) = (BTreeMap::new(), ROOM);
        for (index, &(_, failed, path)) in wanted.iter().enumerate() {
            let log = match store.console_text(path) {
                Ok(console) => {
                    let left = wanted.len() - index;
                    let (share, least) =
                        if failed { ((room / 2).min(ROOM_OF_FAILED), LAST) } else { (room / left, 0) };
                    Log::of(path, &plain_lines(console.as_bytes()), share, least)
                }
                Err(error) => Log { path: path.to_owned(), fault: Some(error.report()), ..Log::default() },
            };
            let used: usize = log.head.iter().chain(&log.tail).map(|line| escaped(line).len() + 1).sum();
            room = room.saturating_sub(used);
            logs.insert(path.to_owned(), log);
        }
        Self(logs)
    }

    /// Whether any is not whole.
    pub(super) fn shortened(&self) -> bool {
        self.0.values().any(|log| log.left_out() > 0)
    }

    /// The attempt's, if it came to one.
    pub(super) fn of(&self, attempt: &Attempt) -> Option<&Log> {
        self.0.get(attempt.console.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn a_short_log_is_whole() {
        let log = Log::of("a", &numbered(2000), ROOM, 0);
        assert_eq!((log.head.len(), log.tail.len(), log.left_out()), (2000, 0, 0));
        assert!(log.has(1) && log.has(2000) && !log.has(0) && !log.has(2001));
        assert_eq!(log.last(2), ["line 1999", "line 2000"]);
        assert_eq!(Log::of("a", &[], 0, LAST).last(5), <[String; 0]>::default());
    }

    #[test]
    fn a_long_log_keeps_its_ends() {
        let log = Log::of("a", &numbered(5000), ROOM, 0);
        assert_eq!(
            (log.head.len(), log.tail.len(), log.left_out(), log.tail_from()),
            (HEAD, TAIL, 3000, 3501)
        );
        assert!(log.has(500) && !log.has(501) && !log.has(3500) && log.has(3501));
        assert_eq!((log.tail[0].as_str(), log.last(1)), ("line 3501", &["line 5000".to_owned()][..]));
    }

    #[test]
    fn there_is_no_more_than_there_is_room_for() {
        let log = Log::of("a", &numbered(5000), 400, 0);
        assert!(log.head.len() < 20 && log.tail.len() < 40 && !log.tail.is_empty(), "{log:?}");
        let log = Log::of("a", &numbered(50), 0, 5);
        assert_eq!((log.head.len(), log.tail.len(), log.left_out()), (0, 5, 45));
        let log = Log::of("a", &numbered(3), 0, 5);
        assert_eq!((log.tail.len(), log.left_out(), log.tail_from()), (3, 0, 1));
    }

    #[test]
    fn empty_lines_at_the_end_are_not_the_last() {
        let lines = ["a", "", "b", "", " "].map(str::to_owned);
        assert_eq!(Log::of("a", &lines, ROOM, 0).last(2), ["", "b"]);
    }
}
