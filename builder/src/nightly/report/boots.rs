//! The section of each boot: its attempts, what is wrong with it, its stages, and its console.

use std::fmt::Write as _;

use super::consoles::Log;
use super::html::Page;
use super::mark;
use super::text::{self, counted, duration, escaped_lines, html, html_lines, reference, sentences};
use crate::draw::escaped;
use crate::nightly::outcome::{Attempt, Difference, Outcome, Verdict};
use crate::report::size;

/// Lines of a console that are shown without being asked for.
const LAST: usize = 16;
/// Lines of the hypervisor's log and of QEMU's messages.
const MOST_LINES: usize = 400;

/// All boots, but for those that failed, whose section is further up.
pub(super) fn section(page: &Page<'_>, text: &mut String) {
    let note = match page.consoles.shortened() {
        true => "<p class=\"none\">Of a long console, only what is shown here is searched.</p>",
        false => "",
    };
    let _ = writeln!(
        text,
        "<section id=\"boots\">\n<h2>Every boot</h2>\n<div id=\"search\" hidden><label for=\"words\">Search all \
         consoles</label><input id=\"words\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\" \
         placeholder=\"for example: panic\"><output id=\"hits\" for=\"words\"></output>{note}</div>\n\
         <noscript><p class=\"none\">Searching all consoles at once needs JavaScript; the browser's own search finds what is \
         unfolded.</p></noscript>"
    );
    for (outcome, id) in page.boots() {
        let verdict = &outcome.verdict;
        let (class, sign, name) = (verdict.word(), mark::sign(verdict), html(&outcome.name));
        if *verdict == Verdict::Failed {
            let _ = writeln!(
                text,
                "<p class=\"boot {class}\"><span class=\"sign\">{sign}</span> <a href=\"#{id}\">{name}</a> \
                 <span class=\"aside\">among the failures</span></p>"
            );
            continue;
        }
        let mut aside = vec![mark::meaning(verdict).to_owned()];
        if outcome.attempts.len() > 1 {
            aside.push(counted(outcome.attempts.len(), "attempt"));
        }
        aside.extend(outcome.machine_seconds().map(duration));
        let _ = writeln!(
            text,
            "<details class=\"boot {class}\" id=\"{id}\">\n<summary><span class=\"sign\">{sign}</span> <b>{name}</b> \
             <span class=\"aside\">{}</span></summary>",
            aside.join(", ")
        );
        if let Verdict::Known(why) | Verdict::Absent(why) = verdict {
            let _ = writeln!(text, "<p class=\"fault\">{}</p>", html_lines(why));
        }
        body(page, outcome, id, text);
        text.push_str("</details>\n");
    }
    text.push_str("</section>\n");
}

/// A boot that failed, open.
pub(super) fn failed(page: &Page<'_>, outcome: &Outcome, id: &str, text: &mut String) {
    let verdict = &outcome.verdict;
    let stage = outcome.last().and_then(|attempt| attempt.fault.as_ref()?.stage.as_deref());
    let stage = stage.map_or(String::new(), |stage| {
        format!(" <span class=\"stage\">at <code>{}</code></span>", html(stage))
    });
    let _ = writeln!(
        text,
        "<article class=\"boot {}\" id=\"{id}\">\n<h3><span class=\"sign\">{}</span> <b>{}</b>{stage}</h3>",
        verdict.word(),
        mark::sign(verdict),
        html(&outcome.name),
    );
    body(page, outcome, id, text);
    text.push_str("</article>\n");
}

/// The machine's name: the board with its variant.
pub(super) fn machine(outcome: &Outcome) -> String {
    match &outcome.variant {
        Some(variant) => format!("{}:{variant}", outcome.board),
        None => outcome.board.clone(),
    }
}

fn body(page: &Page<'_>, outcome: &Outcome, id: &str, text: &mut String) {
    let mut facts = vec![
        ("Board", html(&machine(outcome))),
        ("Method", html(&outcome.method)),
        ("Hypervisor", html(&outcome.hypervisor)),
        ("Scenario", html(&outcome.scenario)),
        ("Machine", format!("{}, {} MiB", counted(outcome.cpus as usize, "CPU"), outcome.memory)),
    ];
    if let Some(sizes) = outcome.sizes {
        facts.push(("Image", size(sizes.image)));
        if sizes.hypervisor > 0 {
            facts.push(("Hypervisor's size", size(sizes.hypervisor)));
        }
    }
    if let Some(why) = page.history.boot(&outcome.name).flaky() {
        facts.push(("Flaky", why));
    }
    text.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    text.push_str("</dl>\n");
    if outcome.attempts.is_empty() && !matches!(outcome.verdict, Verdict::Absent(_)) {
        text.push_str("<p class=\"none\">There was no attempt.</p>\n");
    }
    let many = outcome.attempts.len();
    for (number, one) in (1..).zip(&outcome.attempts) {
        if many > 1 {
            // Of several that failed, the last one is what is read first.
            let open = if number == many || one.fault.is_none() || outcome.verdict == Verdict::Flaky {
                " open"
            } else {
                ""
            };
            let went = match one.fault.as_ref().map(|fault| fault.stage.as_deref()) {
                Some(Some(stage)) => {
                    format!("<span class=\"sign failed\">✗</span> failed at <code>{}</code>", html(stage))
                }
                Some(None) => "<span class=\"sign failed\">✗</span> failed".to_owned(),
                None => "<span class=\"sign passed\">✓</span> passed".to_owned(),
            };
            let _ = writeln!(
                text,
                "<details class=\"attempt\"{open}><summary>Attempt {number} of {many}: {went}</summary>"
            );
        }
        attempt(page, outcome, one, &format!("{id}.{number}"), text);
        if many > 1 {
            text.push_str("</details>\n");
        }
    }
}

fn attempt(page: &Page<'_>, outcome: &Outcome, attempt: &Attempt, id: &str, text: &mut String) {
    let open = attempt.fault.is_some();
    let log = page.consoles.of(attempt);
    let line = format!("{id}.line");
    if let Some(fault) = &attempt.fault {
        let _ = writeln!(text, "<p class=\"fault\">{}</p>", sentences(&fault.what));
        if !fault.advice.is_empty() {
            text.push_str("<ul class=\"advice\">\n");
            for advice in &fault.advice {
                let _ = writeln!(text, "<li>{}</li>", sentences(advice));
            }
            text.push_str("</ul>\n");
        }
    }
    if let Some(other) = &attempt.difference {
        difference(other, log.filter(|log| log.has(other.number)).map(|_| line.as_str()), text);
    }
    if let Some(log) = &attempt.log {
        let heading = format!("The hypervisor's log, from memory: {}", counted(log.len(), "line"));
        folded(&heading, &last(log.iter().map(String::as_str), log.len()), open, text);
    }
    if !attempt.messages.trim().is_empty() {
        let count = attempt.messages.lines().count();
        let heading = format!("QEMU's own messages: {}", counted(count, "line"));
        folded(&heading, &last(attempt.messages.lines(), count), open, text);
    }
    if let (Some(_), Some(log)) = (&attempt.fault, log) {
        let shown = log.last(LAST);
        if shown.is_empty() && log.fault.is_none() {
            text.push_str("<p class=\"none\">The console was silent.</p>\n");
        } else if !shown.is_empty() {
            folded("The console's last lines", &escaped_lines(shown), open, text);
        }
    }
    stages(outcome, attempt, text);
    if !attempt.self_test.is_empty() {
        let bad = attempt.self_test.iter().filter(|verdict| !verdict.well).count();
        let open = if bad > 0 { " open" } else { "" };
        let _ = writeln!(
            text,
            "<details class=\"part\"{open}><summary>dom0's self-test: {} of {} well</summary>\n<ul class=\"selftest\">",
            attempt.self_test.len() - bad,
            attempt.self_test.len()
        );
        for verdict in &attempt.self_test {
            let (class, sign) = if verdict.well { ("passed", "✓") } else { ("failed", "✗") };
            let _ = writeln!(
                text,
                "<li><span class=\"sign {class}\">{sign}</span> {}: <span class=\"seen\">{}</span></li>",
                html(&verdict.name),
                html(&verdict.seen)
            );
        }
        text.push_str("</ul></details>\n");
    }
    if let Some(log) = log {
        let marked = attempt.difference.as_ref().map(|difference| (difference.number, line.as_str()));
        console(log, marked, text);
    }
}

/// The last of `count` lines, as HTML.
fn last<'a>(lines: impl Iterator<Item = &'a str>, count: usize) -> String {
    let left = count.saturating_sub(MOST_LINES);
    let shown: Vec<String> = lines.skip(left).map(text::line).collect();
    let note =
        if left > 0 { format!("[{left} lines before; report.json has them]\n") } else { String::new() };
    note + &escaped_lines(&shown)
}

/// Lines, as HTML, under a heading that folds them.
fn folded(heading: &str, lines: &str, open: bool, text: &mut String) {
    let open = if open { " open" } else { "" };
    // HTML drops the first line break of a `pre`.
    let _ = writeln!(
        text,
        "<details class=\"part\"{open}><summary>{heading}</summary>\n<pre tabindex=\"0\">\n{lines}</pre></details>"
    );
}

/// Where the console went another way; `line` is the name of the line here.
fn difference(other: &Difference, line: Option<&str>, text: &mut String) {
    let place = match line {
        Some(id) => format!("<a href=\"#{id}\">line {}</a>", other.number),
        None => format!("line {}", other.number),
    };
    let said = |line: &str, empty: &str| match line.trim().is_empty() {
        true => format!("<i>{empty}</i>"),
        false => format!("<code>{}</code>", html(line)),
    };
    let _ = writeln!(
        text,
        "<table class=\"difference\"><caption>The first line that differs from the last good console</caption>\n\
         <tr><th scope=\"row\">here, {place}</th><td>{}</td></tr>\n<tr><th scope=\"row\">there</th><td>{}</td></tr></table>",
        said(&other.here, "the console ended"),
        said(&other.there, "nothing more"),
    );
}

fn stages(outcome: &Outcome, attempt: &Attempt, text: &mut String) {
    if outcome.stages.is_empty() && attempt.reached.is_empty() {
        if attempt.build > 0.0 {
            let _ = writeln!(text, "<p class=\"none\">The image took {}.</p>", duration(attempt.build));
        }
        return;
    }
    let _ = writeln!(
        text,
        "<div class=\"scroll\"><table class=\"stages\"><caption>Stages, in seconds since the machine's start; the image took {}\
         </caption>\n<thead><tr><th scope=\"col\">stage</th><th scope=\"col\">took</th><th scope=\"col\">machine</th>\
         <th scope=\"col\">wall</th></tr></thead>\n<tbody>",
        duration(attempt.build)
    );
    let mut before = 0.0_f64;
    for seen in &attempt.reached {
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            html(&seen.stage),
            (seen.machine - before).max(0.0),
            seen.machine,
            seen.wall
        );
        before = seen.machine;
    }
    let reached = |stage: &&String| attempt.reached.iter().any(|seen| seen.stage == **stage);
    for stage in outcome.stages.iter().filter(|stage| !reached(stage)) {
        let _ = writeln!(
            text,
            "<tr class=\"missed\"><th scope=\"row\"><span class=\"sign\">✗</span> {}</th><td colspan=\"3\">not reached</td></tr>",
            html(stage)
        );
    }
    text.push_str("</tbody></table></div>\n");
}

/// The console, folded; the line of the number in `marked` has the name that stands with it.
fn console(log: &Log, marked: Option<(usize, &str)>, text: &mut String) {
    let file = match reference(&log.path) {
        Some(path) => format!("<a href=\"{path}\">{}</a>", html(&log.path)),
        None => html(&log.path),
    };
    if let Some(fault) = &log.fault {
        let _ = writeln!(text, "<p class=\"none\">The console is not here: {}</p>", html_lines(fault));
        return;
    }
    let _ = writeln!(
        text,
        "<details class=\"part\"><summary>The console: {}</summary>",
        counted(log.total, "line")
    );
    let part = |from: usize, lines: &[String]| {
        let mut shown = Vec::new();
        for (number, line) in (from..).zip(lines) {
            let line = escaped(line);
            shown.push(match marked {
                Some((wanted, id)) if wanted == number => format!("<mark id=\"{id}\">{line}</mark>"),
                _ => line,
            });
        }
        if shown.is_empty() {
            return String::new();
        }
        format!("<pre class=\"console\" tabindex=\"0\" data-from=\"{from}\">\n{}</pre>\n", shown.join("\n"))
    };
    text.push_str(&part(1, &log.head));
    let note = match log.left_out() {
        0 => format!("Also in {file}."),
        left => format!("{} left out here; all of it is in {file}.", counted(left, "line")),
    };
    let _ = writeln!(text, "<p class=\"none\">{note}</p>");
    text.push_str(&part(log.tail_from(), &log.tail));
    text.push_str("</details>\n");
}
