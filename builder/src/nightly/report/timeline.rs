//! A bar for each boot, with its stages as parts of it, by the machine's seconds.

use std::fmt::Write as _;

use super::html::Page;
use super::mark;
use super::text::{duration, html};
use crate::nightly::outcome::{Attempt, Outcome};

/// Colours that the page's style has for stages.
const COLOURS: usize = 12;
/// The bar's own units, of which the longest boot has all.
const WIDTH: f64 = 1000.0;

pub(super) fn section(page: &Page<'_>, text: &mut String) {
    let shown: Vec<(&Outcome, &str, &Attempt)> = page
        .boots()
        .filter_map(|(outcome, id)| Some((outcome, id, outcome.last()?)))
        .filter(|(.., attempt)| !attempt.reached.is_empty())
        .collect();
    text.push_str("<section id=\"timelines\">\n<h2>Boot timelines</h2>\n");
    let ends = shown.iter().map(|(.., attempt)| end(attempt));
    let most = ends.fold(0.0, f64::max);
    if shown.is_empty() || most <= 0.0 {
        text.push_str("<p class=\"none\">No boot reached a stage.</p>\n</section>\n");
        return;
    }
    let step = step(most);
    let scale = WIDTH / (step * (most / step).ceil());
    // In the order of the boot that has most of them, as far as that goes.
    let seen: Vec<&str> =
        shown.iter().flat_map(|(.., attempt)| &attempt.reached).map(|seen| seen.stage.as_str()).collect();
    let longest = shown.iter().max_by_key(|(outcome, ..)| outcome.stages.len());
    let planned = longest.iter().flat_map(|(outcome, ..)| &outcome.stages).map(String::as_str);
    let mut stages: Vec<&str> = Vec::new();
    for stage in planned.filter(|stage| seen.contains(stage)).chain(seen.iter().copied()) {
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    let colour = |stage: &str| stages.iter().position(|other| *other == stage).unwrap_or_default() % COLOURS;
    text.push_str("<p class=\"legend\">");
    for stage in &stages {
        let _ = write!(
            text,
            "<span><svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"s{}\" width=\"10\" \
             height=\"10\"/></svg> {}</span> ",
            colour(stage),
            html(stage)
        );
    }
    let _ = writeln!(
        text,
        "</p>\n<p class=\"none\">Seconds in which the machine could run, of the last attempt; a line stands every {step} s.</p>\n\
         <div class=\"timelines\">"
    );
    for (outcome, id, attempt) in shown {
        let _ = writeln!(
            text,
            "<div class=\"timeline\"><a href=\"#{id}\"><span class=\"sign {}\">{}</span> {}</a>{}<span class=\"aside\">{}</span></div>",
            outcome.verdict.word(),
            mark::sign(&outcome.verdict),
            html(&outcome.name),
            bar(outcome, attempt, scale, step, &colour),
            told(attempt)
        );
    }
    text.push_str("</div>\n</section>\n");
}

/// The machine's second in which the last stage was reached.
fn end(attempt: &Attempt) -> f64 {
    attempt.reached.iter().map(|seen| seen.machine).filter(|at| at.is_finite()).fold(0.0, f64::max)
}

/// How far apart lines stand: a round number, at most eight of them.
fn step(most: f64) -> f64 {
    let ten = 10_f64.powf((most / 8.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * ten).find(|step| most / step <= 8.0).unwrap_or(most)
}

/// What stands behind the bar.
fn told(attempt: &Attempt) -> String {
    let missed = attempt.fault.as_ref().map(|fault| match &fault.stage {
        Some(stage) => format!(", ✗ {}", html(stage)),
        None => ", ✗".to_owned(),
    });
    duration(end(attempt)) + &missed.unwrap_or_default()
}

fn bar(
    outcome: &Outcome,
    attempt: &Attempt,
    scale: f64,
    step: f64,
    colour: &impl Fn(&str) -> usize,
) -> String {
    let (mut rects, mut words) = (String::new(), Vec::new());
    let mut line = step;
    while line * scale < WIDTH {
        let x = line * scale;
        let _ = write!(rects, "<path class=\"grid\" d=\"M{x:.1} 0V20\"/>");
        line += step;
    }
    let mut from = 0.0_f64;
    for seen in &attempt.reached {
        let to = if seen.machine.is_finite() { seen.machine.max(from) } else { from };
        let word = format!("{}: {}", html(&seen.stage), duration(to - from));
        let _ = write!(
            rects,
            "<rect class=\"s{}\" x=\"{:.1}\" y=\"3\" width=\"{:.1}\" height=\"14\"><title>{word} (up to {})</title></rect>",
            colour(&seen.stage),
            from * scale,
            ((to - from) * scale).max(0.5),
            duration(to)
        );
        words.push(word);
        from = to;
    }
    if let Some(fault) = &attempt.fault {
        let stage = fault.stage.as_deref().unwrap_or("self-test");
        let _ = write!(
            rects,
            "<path class=\"end\" d=\"M{x:.1} 0V20\"><title>not reached: {}</title></path>",
            html(stage),
            x = (from * scale).clamp(1.0, WIDTH - 1.0)
        );
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: {}\">{rects}</svg>",
        html(&outcome.name),
        words.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_round_seconds() {
        for (most, expected) in
            [(0.07, 0.01), (8.0, 1.0), (8.1, 2.0), (60.0, 10.0), (130.0, 20.0), (900.0, 200.0)]
        {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
    }
}
