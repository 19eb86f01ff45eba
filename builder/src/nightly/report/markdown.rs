//! The summary of a night in Markdown, for the job summaries of GitHub and GitLab.

use std::fmt::Write as _;

use super::consoles::Consoles;
use super::history::History;
use super::html::{headline, when};
use super::mark;
use super::text::{counted, duration, line, lines};
use crate::guide::markdown::{code, escaped, table};
use crate::nightly::outcome::{Attempt, Night, Outcome, Verdict};

/// Bytes that it has at most; GitHub takes 1 MiB of a step, but a comment takes 64 KiB.
const MOST: usize = 60 << 10;
/// Of which the table of boots has so many.
const MOST_TABLE: usize = 24 << 10;
/// What is kept for the last line.
const REST: usize = 200;
/// Lines of a console that a failure shows.
const LAST: usize = 15;

/// The summary.
pub(super) fn markdown(night: &Night, consoles: &Consoles, history: &History<'_>) -> String {
    let (sign, headline) = headline(night);
    let mut text = format!("# {sign} {headline}\n\n{}.", escaped(&night.summary()));
    let _ = write!(text, " {}, {}, {}", short(&night.title), when(night.began), duration(night.seconds));
    if let Some(sources) = &night.sources {
        let _ = write!(text, ", commit {}", code(&line(&sources.short())));
    }
    text.push_str(".\n\n");
    let mut boots: Vec<&Outcome> = night.outcomes.iter().collect();
    boots.sort_by_key(|outcome| mark::rank(&outcome.verdict));
    let (mut rows, mut size) = (Vec::new(), 0);
    for outcome in &boots {
        let row = row(outcome, history);
        size += row.iter().map(|cell| cell.len() + 3).sum::<usize>() + 2;
        if size > MOST_TABLE {
            break;
        }
        rows.push(row);
    }
    text.push_str(&table(["", "boot", "verdict", "seconds", "stage of failure"], &rows));
    if let Some(left) = boots.len().checked_sub(rows.len()).filter(|left| *left > 0) {
        let _ = writeln!(text, "\nAnd {}; all of them are in the report.", counted(left, "more boot"));
    }
    let told: Vec<&&Outcome> =
        boots.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed | Verdict::Flaky)).collect();
    for (index, outcome) in told.iter().enumerate() {
        let part = failure(outcome, consoles);
        if text.len() + part.len() + REST > MOST {
            let _ = writeln!(
                text,
                "\n{} more are in the report: there is no more room here.",
                told.len() - index
            );
            break;
        }
        text.push_str(&part);
    }
    text
}

/// A line of others' text in a sentence.
fn short(text: &str) -> String {
    escaped(&line(text))
}

fn row(outcome: &Outcome, history: &History<'_>) -> [String; 5] {
    let mut verdict = match &outcome.verdict {
        Verdict::Known(why) | Verdict::Absent(why) => {
            let why = lines(why).into_iter().next().unwrap_or_default();
            format!("{}: {}", outcome.verdict.word(), short(&why))
        }
        Verdict::Passed | Verdict::Flaky | Verdict::Failed => outcome.verdict.word().to_owned(),
    };
    if outcome.mended().is_some() {
        verdict.push_str(", though known to fail");
    }
    if outcome.attempts.len() > 1 {
        let _ = write!(verdict, ", {}", counted(outcome.attempts.len(), "attempt"));
    }
    if outcome.verdict != Verdict::Flaky && history.boot(&outcome.name).flaky().is_some() {
        verdict.push_str(", flaky");
    }
    // That of the last attempt that failed, also where a later one passed.
    let stage = outcome.attempts.iter().rev().find_map(|attempt| attempt.fault.as_ref());
    let stage = stage.map_or(String::new(), |fault| short(fault.stage.as_deref().unwrap_or("self-test")));
    let seconds = outcome.last().and_then(|attempt| attempt.reached.last());
    [
        mark::sign(&outcome.verdict).to_owned(),
        code(&line(&outcome.name)),
        verdict,
        seconds.map_or(String::new(), |seen| format!("{:.1}", seen.machine)),
        stage,
    ]
}

fn failure(outcome: &Outcome, consoles: &Consoles) -> String {
    let mut text = format!("\n## {} {}\n", mark::sign(&outcome.verdict), code(&line(&outcome.name)));
    for (number, attempt) in (1..).zip(&outcome.attempts) {
        let many = outcome.attempts.len() > 1;
        match &attempt.fault {
            Some(_) => {
                if many {
                    let _ = writeln!(text, "\nAttempt {number} failed:");
                }
                fault(attempt, consoles, &mut text);
            }
            None => {
                let _ = writeln!(text, "\nAttempt {number} passed.");
            }
        }
    }
    text
}

fn fault(attempt: &Attempt, consoles: &Consoles, text: &mut String) {
    let Some(fault) = &attempt.fault else { return };
    let what = lines(&fault.what);
    match what.split_first() {
        Some((first, [])) => {
            let _ = writeln!(text, "\n**{}**", escaped(first));
        }
        Some((first, rest)) => {
            let _ = writeln!(text, "\n**{}**\n\n{}", escaped(first), fenced(rest));
        }
        None => {}
    }
    for advice in &fault.advice {
        let _ = writeln!(text, "\n> {}", short(advice));
    }
    if let Some(other) = &attempt.difference {
        let _ = writeln!(
            text,
            "\nThe first line that differs from the last good console is {}:\n\n{}",
            other.number,
            fenced(&[format!("here:  {}", line(&other.here)), format!("there: {}", line(&other.there))])
        );
    }
    let Some(log) = consoles.of(attempt) else { return };
    let _ = match (log.last(LAST), &log.fault) {
        (_, Some(why)) => writeln!(text, "\nThe console is not here:\n\n{}", fenced(&lines(why))),
        ([], None) => writeln!(text, "\nThe console was silent."),
        (last, None) => writeln!(text, "\nThe console's last lines:\n\n{}", fenced(last)),
    };
}

/// A block of code that nothing in it can end (CommonMark 0.31, 4.5).
fn fenced(lines: &[String]) -> String {
    let ticks = |line: &String| line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(lines.iter().map(ticks).max().unwrap_or(0).max(2) + 1);
    format!("{fence}text\n{}\n{fence}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_ends_a_block() {
        let lines = ["a", "```", "  ````x`"].map(str::to_owned);
        assert_eq!(fenced(&lines), "`````text\na\n```\n  ````x`\n`````");
        assert!(fenced(&["a".into()]).starts_with("```text\n"));
    }
}
