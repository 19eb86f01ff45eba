//! The nights before: how each boot went, and how its time, the sizes and the figures have moved.

use std::fmt::Write as _;

use super::history::{BootHistory, Change};
use super::html::{Page, when};
use super::mark;
use super::text::{counted, duration, html};
use crate::nightly::outcome::Verdict;
use crate::report::size;

/// Nights that are drawn.
const NIGHTS: usize = 30;
/// Figures that are drawn; those that have changed come first.
const MOST_FIGURES: usize = 400;

/// A row of values that a boot has.
struct Row<'a> {
    name: &'static str,
    values: &'a [Option<f64>],
    /// The value for people.
    told: fn(f64) -> String,
}

fn rows<'a>(boot: &'a BootHistory<'_>) -> [Row<'a>; 3] {
    // Sizes are whole numbers that came as such.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn bytes(value: f64) -> String {
        size(value.max(0.0) as u64)
    }
    [
        Row { name: "boot", values: &boot.seconds, told: duration },
        Row { name: "image", values: &boot.image, told: bytes },
        Row { name: "hypervisor", values: &boot.hypervisor, told: bytes },
    ]
}

/// The figures of the night with those of the nights before; what has changed comes first.
fn figures<'a>(page: &Page<'a>) -> Vec<(&'a str, Vec<Option<f64>>, Change)> {
    let mut figures: Vec<_> = page
        .night
        .figures
        .keys()
        .filter_map(|name| {
            let values = page.history.figure(name);
            let change = Change::of(&values)?;
            Some((name.as_str(), values, change))
        })
        .collect();
    figures.sort_by_key(|(_, _, change)| change.told().is_none());
    figures
}

/// How many numbers have changed so much that it is told.
pub(super) fn changes(page: &Page<'_>) -> usize {
    let of_boots = page.boots().map(|(outcome, _)| {
        let boot = page.history.boot(&outcome.name);
        rows(&boot).iter().filter(|row| Change::of(row.values).and_then(Change::told).is_some()).count()
    });
    of_boots.sum::<usize>() + figures(page).iter().filter(|(.., change)| change.told().is_some()).count()
}

pub(super) fn section(page: &Page<'_>, text: &mut String) {
    let began = &page.history.began;
    let kept = began.len();
    let _ = writeln!(
        text,
        "<section id=\"history\">\n<h2>History</h2>\n<p class=\"none\">{} kept{}; the newest stands on the right. ▲ and ▼ mark a \
         change of more than 5 % against the median of the nights before.</p>\n<div class=\"history\">",
        counted(kept, "night"),
        if kept > NIGHTS { format!(", the last {NIGHTS} drawn") } else { String::new() },
    );
    for (outcome, id) in page.boots() {
        let boot = page.history.boot(&outcome.name);
        let _ = writeln!(
            text,
            "<div class=\"trend\"><div class=\"name\"><a href=\"#{id}\"><span class=\"sign {}\">{}</span> {}</a>{}</div>{}",
            outcome.verdict.word(),
            mark::sign(&outcome.verdict),
            html(&outcome.name),
            boot.flaky().map_or(String::new(), |why| format!(
                " <span class=\"badge flaky\" title=\"{why}\">≈ flaky</span> <span class=\"aside\">{why}</span>"
            )),
            strip(&boot.verdicts, began),
        );
        text.push_str("<div class=\"values\">");
        for row in rows(&boot) {
            let value =
                Change::of(row.values).map_or("<span class=\"aside\">–</span>".to_owned(), |change| {
                    format!(
                        "{}<span><b>{}</b>{}</span>",
                        line(row.values, row.told),
                        (row.told)(change.now),
                        moved(change)
                    )
                });
            let _ =
                writeln!(text, "<div class=\"value\"><span class=\"aside\">{}</span>{value}</div>", row.name);
        }
        text.push_str("</div></div>\n");
    }
    text.push_str("</div>\n");
    numbers(page, text);
    text.push_str("</section>\n");
}

/// The figures: those that have changed open, the others folded.
fn numbers(page: &Page<'_>, text: &mut String) {
    let figures = figures(page);
    if figures.is_empty() {
        return;
    }
    let changed = figures.iter().filter(|(.., change)| change.told().is_some()).count();
    let (shown, left) = figures.split_at(figures.len().min(MOST_FIGURES));
    let table = |rows: &[(&str, Vec<Option<f64>>, Change)]| {
        let mut text = String::from("<div class=\"figures\">\n");
        for (name, values, change) in rows {
            let _ = writeln!(
                text,
                "<div class=\"figure\"><span class=\"name\">{}</span><div class=\"value\">{}<b>{}</b>{}</div></div>",
                html(name),
                line(values, number),
                number(change.now),
                moved(*change)
            );
        }
        text.push_str("</div>\n");
        text
    };
    let (moved, still) = shown.split_at(changed.min(shown.len()));
    let _ = writeln!(text, "<h3 id=\"figures\">Figures</h3>");
    if !moved.is_empty() {
        text.push_str(&table(moved));
    }
    if !still.is_empty() {
        let _ = writeln!(
            text,
            "<details class=\"part\"><summary>{} that did not change by more than 5 %</summary>\n{}</details>",
            counted(still.len(), "figure"),
            table(still)
        );
    }
    if !left.is_empty() {
        let _ = writeln!(text, "<p class=\"none\">{} more are in report.json.</p>", left.len());
    }
}

/// A number for people: whole where it is, with its thousands apart.
fn number(value: f64) -> String {
    if value.fract() != 0.0 || value.abs() >= 1e15 {
        return format!("{value:.3}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// By how much it has moved, if that is told.
fn moved(change: Change) -> String {
    let Some(part) = change.told() else { return String::new() };
    let (class, sign) = if part > 0.0 { ("more", "▲") } else { ("less", "▼") };
    let percent = if part.is_finite() { format!("{:+.1} %", part * 100.0) } else { "was 0".to_owned() };
    format!(" <span class=\"moved {class}\">{sign} {percent}</span>")
}

/// The last nights' verdicts, each in a shape of its own.
fn strip(verdicts: &[Option<&Verdict>], began: &[u64]) -> String {
    let skip = verdicts.len().saturating_sub(NIGHTS);
    let shown = verdicts.len() - skip;
    let (mut shapes, mut words) = (String::new(), Vec::new());
    for (index, (verdict, began)) in verdicts.iter().zip(began).skip(skip).enumerate() {
        let x = index * 10;
        let (class, word, shape) = match verdict {
            None => ("none", "not in the plan", format!("M{} 10h2", x + 4)),
            Some(verdict) => {
                let shape = match verdict {
                    Verdict::Passed => format!("M{x} 2h8v16h-8z"),
                    Verdict::Flaky => format!("M{x} 2h8v6h-8z M{x} 12h8v6h-8z"),
                    Verdict::Failed => {
                        format!("M{} 3l6 14M{} 3l-6 14", x + 1, x + 7)
                    }
                    Verdict::Known(_) => format!("M{x} 12h8v6h-8z"),
                    Verdict::Absent(_) => format!("M{} 10h6", x + 1),
                };
                (verdict.word(), mark::meaning(verdict), shape)
            }
        };
        let _ = write!(
            shapes,
            "<g class=\"{class}\"><title>{}: {word}</title><path class=\"back\" d=\"M{x} 0h10v20h-10z\"/><path d=\"{shape}\"/></g>",
            when(*began)
        );
        words.push(word);
    }
    format!(
        "<svg class=\"strip\" viewBox=\"0 0 {} 20\" role=\"img\" aria-label=\"{}, the last {}\">{shapes}</svg>",
        NIGHTS.max(shown) * 10,
        counted(shown, "night"),
        words.last().copied().unwrap_or("not known"),
    )
}

/// A small line of the values of the last nights.
fn line(values: &[Option<f64>], told: fn(f64) -> String) -> String {
    let skip = values.len().saturating_sub(NIGHTS);
    let shown: Vec<(usize, f64)> =
        values.iter().skip(skip).enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    let least = shown.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let most = shown.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    if shown.len() < 2 {
        return "<span class=\"line\"></span>".to_owned();
    }
    // What has not moved by a twentieth is to look as if it had hardly moved.
    let span = (most - least).max(most.abs() * 0.1).max(f64::MIN_POSITIVE);
    let middle = f64::midpoint(least, most);
    let y = |value: f64| 12.0 - (value - middle) / span * 18.0;
    let last = values.len() - skip - 1;
    let x = |at: usize| at * 110 / last.max(1) + 5;
    let points: Vec<String> =
        shown.iter().map(|(at, value)| format!("{},{:.1}", x(*at), y(*value))).collect();
    let end = shown.last().map_or(String::new(), |(at, value)| {
        format!("<circle cx=\"{}\" cy=\"{:.1}\" r=\"2.5\"/>", x(*at), y(*value))
    });
    format!(
        "<svg class=\"line\" viewBox=\"0 0 120 24\" role=\"img\"><title>from {} to {} in {}</title><polyline points=\"{}\"/>{end}</svg>",
        told(least),
        told(most),
        counted(shown.len(), "night"),
        points.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!(number(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!((number(-12.0), number(0.5)), ("-12".into(), "0.500".into()));
    }

    #[test]
    fn lines_stay_in_their_box() {
        let flat = line(&[Some(5.0), None, Some(5.0)], number);
        assert!(flat.contains("5,12.0 115,12.0"), "{flat}");
        let steep = line(&[Some(0.0), Some(1e300), Some(-1e300)], number);
        assert!(!steep.contains("NaN") && !steep.contains("inf"), "{steep}");
        assert_eq!(line(&[Some(1.0)], number), "<span class=\"line\"></span>");
    }

    #[test]
    fn what_was_nothing_is_told_so() {
        let moved = |now: f64, median: f64| moved(Change { now, median: Some(median) });
        assert!(moved(1.0, 0.0).contains("▲ was 0"));
        assert!(moved(90.0, 100.0).contains("▼ -10.0 %"));
        assert_eq!(moved(101.0, 100.0), "");
    }
}
