//! The page for people: one file of HTML with nothing to fetch, which says all it has to say without its script, too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::consoles::Consoles;
use super::history::History;
use super::text::{counted, duration, html, html_lines, sentences};
use super::{boots, mark, matrix, timeline, trends};
use crate::cache::sha256;
use crate::calendar::Utc;
use crate::nightly::outcome::{Attempt, Night, Outcome, Verdict};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Boots that are named in a sentence.
const MOST_NAMED: usize = 12;

/// What the parts of the page are made of.
pub(super) struct Page<'a> {
    pub(super) night: &'a Night,
    pub(super) consoles: &'a Consoles,
    pub(super) history: &'a History<'a>,
    /// The name of each boot's section.
    ids: Vec<String>,
}

impl<'a> Page<'a> {
    /// The boots with the names of their sections.
    pub(super) fn boots(&self) -> impl Iterator<Item = (&'a Outcome, &str)> {
        self.night.outcomes.iter().zip(self.ids.iter().map(String::as_str))
    }

    /// Those that went so.
    fn of(&self, verdict: impl Fn(&Verdict) -> bool) -> Vec<(&'a Outcome, &str)> {
        self.boots().filter(|(outcome, _)| verdict(&outcome.verdict)).collect()
    }
}

/// The page of `night`.
pub(super) fn page(night: &Night, consoles: &Consoles, history: &History<'_>) -> String {
    let page = Page { night, consoles, history, ids: ids(&night.outcomes) };
    let mut body = String::new();
    head(&page, &mut body);
    failures(&page, &mut body);
    matrix::section(&page, &mut body);
    timeline::section(&page, &mut body);
    boots::section(&page, &mut body);
    trends::section(&page, &mut body);
    // Nothing in a log can know it, for it depends on all of them: only the page's own script runs.
    let nonce = sha256(body.as_bytes());
    let (sign, headline) = headline(night);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
         script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{sign} {headline} – {}, {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</main>\n\
         <script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n",
        html(&night.title),
        when(night.began),
    )
}

/// Names for the sections of boots: those of the boots as far as possible, so that a link still leads there the next night.
fn ids(outcomes: &[Outcome]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |outcome: &Outcome| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        outcome.name.chars().take(80).map(plain).collect()
    };
    let mut ids = Vec::new();
    for outcome in outcomes {
        let name = format!("boot-{}", name(outcome));
        let more = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(more).find(|id| !taken.contains(id));
        let id = free.unwrap_or(name);
        taken.insert(id.clone());
        ids.push(id);
    }
    ids
}

/// A second since 1970 as people read it.
pub(super) fn when(epoch: u64) -> String {
    let Utc { year, month, day, hour, minute, .. } = Utc::of(epoch);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The answer, with the sign that stands for it.
pub(super) fn headline(night: &Night) -> (&'static str, String) {
    let tried = night.count(|verdict| !matches!(verdict, Verdict::Absent(_)));
    let failed = night.count(|verdict| *verdict == Verdict::Failed);
    let passed = night.count(|verdict| matches!(verdict, Verdict::Passed | Verdict::Flaky));
    match (tried, failed) {
        _ if night.untried > 0 => {
            let said = format!("Broken off: {failed} of {} failed", counted(tried, "boot"));
            (mark::sign(&Verdict::Failed), format!("{said}, {} not tried", night.untried))
        }
        (0, _) => (mark::sign(&Verdict::Absent(String::new())), "Nothing was booted".to_owned()),
        (_, 0) if passed == tried => {
            (mark::sign(&Verdict::Passed), format!("Passed: {}", counted(passed, "boot")))
        }
        (_, 0) => (mark::sign(&Verdict::Passed), format!("Passed: {passed} of {}", counted(tried, "boot"))),
        (_, _) => (mark::sign(&Verdict::Failed), format!("Failed: {failed} of {}", counted(tried, "boot"))),
    }
}

/// The class of the whole night.
fn class(night: &Night) -> &'static str {
    let any = |of: fn(&Verdict) -> bool| night.count(of) > 0;
    match () {
        () if !night.is_well() => "failed",
        () if !any(|verdict| !matches!(verdict, Verdict::Absent(_))) => "absent",
        () if any(|verdict| *verdict == Verdict::Flaky) => "flaky",
        () => "passed",
    }
}

fn head(page: &Page<'_>, text: &mut String) {
    let night = page.night;
    let (sign, headline) = headline(night);
    let _ = writeln!(
        text,
        "<header class=\"{}\">\n<span class=\"verdict\" aria-hidden=\"true\">{sign}</span>\n<div><h1>{headline}</h1>\n\
         <p>{}</p></div>\n</header>\n<main>\n<dl class=\"facts\">",
        class(night),
        html(&night.summary()),
    );
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(text, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("Plan", html(&night.title));
    fact("When", format!("<time datetime=\"{}\">{}</time>", Utc::of(night.began), when(night.began)));
    fact("Took", duration(night.seconds));
    if let Some(sources) = &night.sources {
        let modified = if sources.modified { " with changes" } else { "" };
        let short: String = sources.commit.chars().take(12).collect();
        fact(
            "Commit",
            format!("<code title=\"{}\">{}</code>{modified}", html(&sources.commit), html(&short)),
        );
    }
    let host = &night.host;
    fact("Host", format!("{}, {} MiB", counted(host.cpus, "CPU"), host.memory));
    if let Some(qemu) = &host.qemu {
        fact("Emulator", html(qemu));
    }
    text.push_str("</dl>\n");
    news(page, text);
    text.push_str(
        "<nav aria-label=\"Sections\"><a href=\"#failures\">Failures</a><a href=\"#matrix\">Matrix</a>\
         <a href=\"#timelines\">Timelines</a><a href=\"#boots\">Boots and consoles</a><a href=\"#history\">History</a></nav>\n",
    );
}

/// What is new since the nights before.
fn news(page: &Page<'_>, text: &mut String) {
    let turned = |now: fn(&Verdict) -> bool, before: fn(&Verdict) -> bool| -> Vec<(&Outcome, &str)> {
        let previous = |outcome: &Outcome| page.history.previous(&outcome.name).is_some_and(before);
        page.of(now).into_iter().filter(|(outcome, _)| previous(outcome)).collect()
    };
    fn well(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Passed | Verdict::Flaky)
    }
    fn bad(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Failed | Verdict::Known(_))
    }
    let mut lines = Vec::new();
    let mut say = |words: &str, boots: Vec<(&Outcome, &str)>| {
        if !boots.is_empty() {
            lines.push(format!("<strong>{words}</strong> {}", named(&boots)));
        }
    };
    say("Failed, and passed the last time:", turned(|verdict| *verdict == Verdict::Failed, well));
    say("Passes again:", turned(well, bad));
    say("Needed more than one attempt:", page.of(|verdict| *verdict == Verdict::Flaky));
    let mended = page.of(well).into_iter().filter(|(outcome, _)| outcome.mended().is_some());
    say("The plan says that it fails, and it passed:", mended.collect());
    let changes = trends::changes(page);
    if changes > 0 {
        lines.push(format!(
            "<a href=\"#history\">{}</a> by more than 5 % against the median of the nights before",
            if changes == 1 { "1 number changed".to_owned() } else { format!("{changes} numbers changed") },
        ));
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "<ul class=\"news\"><li>{}</li></ul>", lines.join("</li>\n<li>"));
    }
}

/// Links to boots.
fn named(boots: &[(&Outcome, &str)]) -> String {
    let links = boots.iter().take(MOST_NAMED);
    let mut links: Vec<String> =
        links.map(|(outcome, id)| format!("<a href=\"#{id}\">{}</a>", html(&outcome.name))).collect();
    if let Some(more) = boots.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        links.push(format!("and {more} more"));
    }
    links.join(", ")
}

/// What went wrong: failures with everything that is known, then what else did not go straight.
fn failures(page: &Page<'_>, text: &mut String) {
    let failed = page.of(|verdict| *verdict == Verdict::Failed);
    text.push_str("<section id=\"failures\">\n<h2>What failed</h2>\n");
    if failed.is_empty() {
        text.push_str("<p class=\"none\">Nothing but what is listed below, if anything is.</p>\n");
    }
    for (outcome, id) in failed {
        boots::failed(page, outcome, id, text);
    }
    let groups = [
        ("Passed only at a later attempt", page.of(|verdict| *verdict == Verdict::Flaky)),
        ("Known to fail", page.of(|verdict| matches!(verdict, Verdict::Known(_)))),
        ("Could not be tried here", page.of(|verdict| matches!(verdict, Verdict::Absent(_)))),
    ];
    for (heading, boots) in groups {
        if boots.is_empty() {
            continue;
        }
        let _ = writeln!(text, "<h3>{heading}</h3>\n<ul class=\"others\">");
        for (outcome, id) in boots {
            let verdict = &outcome.verdict;
            let _ = writeln!(
                text,
                "<li class=\"{}\"><span class=\"sign\">{}</span> <a href=\"#{id}\">{}</a><p>{}</p></li>",
                verdict.word(),
                mark::sign(verdict),
                html(&outcome.name),
                why(outcome),
            );
        }
        text.push_str("</ul>\n");
    }
    text.push_str("</section>\n");
}

/// Why a boot did not simply pass, as HTML.
fn why(outcome: &Outcome) -> String {
    let faults = || {
        let what = |(number, attempt): (usize, &Attempt)| {
            let fault = attempt.fault.as_ref()?;
            Some(format!("attempt {number}: {}", sentences(&fault.what)))
        };
        (1..).zip(&outcome.attempts).filter_map(what).collect::<Vec<_>>().join("\n")
    };
    match &outcome.verdict {
        Verdict::Known(why) | Verdict::Absent(why) => html_lines(why),
        Verdict::Passed | Verdict::Flaky | Verdict::Failed => faults(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_names_of_their_own() {
        let outcome = |name: &str| Outcome {
            name: name.into(),
            board: "b".into(),
            variant: None,
            method: String::new(),
            hypervisor: String::new(),
            cpus: 1,
            memory: 0,
            scenario: String::new(),
            stages: vec![],
            verdict: Verdict::Passed,
            attempts: vec![],
            sizes: None,
            known: None,
        };
        let names = ["a b", "a\"b", "a-b-2", "a-b", "ü"].map(outcome);
        assert_eq!(ids(&names), ["boot-a-b", "boot-a-b-2", "boot-a-b-2-2", "boot-a-b-3", "boot--"]);
    }

    #[test]
    fn times_are_in_words() {
        assert_eq!(when(951_782_399), "2000-02-28 23:59 UTC");
    }
}
