//! The night as JUnit XML, as CI systems read it: the form is that of Jenkins' xunit plugin (its `junit-10.xsd`), which pytest
//! and Maven's Surefire write as well.
//!
//! A boot is a test case, a machine a suite. What was known to fail, or could not be tried, is skipped, with the reason as
//! attribute (Jenkins shows that) and as text (GitLab shows this). A boot that passed at a later attempt has a `flakyFailure`
//! for each that failed: Surefire's element, which the schema knows and other readers pass over (GitLab's takes a case with
//! neither `failure`, `error` nor `skipped` for passed, and Jenkins looks for those alone); what it says is in `system-out`,
//! too.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::boots::machine;
use super::consoles::Consoles;
use super::text::lines;
use crate::calendar::Utc;
use crate::error::{Result, ResultExt};
use crate::nightly::outcome::{Attempt, Night, Outcome, Verdict};

/// Lines of a console that a case shows.
const LAST: usize = 100;

/// The document, in UTF-8.
///
/// # Errors
///
/// None that is known: what is written is kept in memory.
pub(super) fn xml(night: &Night, consoles: &Consoles) -> Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 1);
    document(&mut writer, night, consoles).context(|| "cannot write JUnit's XML")?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

type Xml = Writer<Vec<u8>>;

fn document(xml: &mut Xml, night: &Night, consoles: &Consoles) -> std::io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut machines: Vec<String> = Vec::new();
    for name in night.outcomes.iter().map(machine) {
        if !machines.contains(&name) {
            machines.push(name);
        }
    }
    let all: Vec<&Outcome> = night.outcomes.iter().collect();
    xml.create_element("testsuites")
        .with_attribute(("name", plain(&night.title).as_str()))
        .with_attribute(("tests", all.len().to_string().as_str()))
        .with_attribute(("failures", failures(&all).to_string().as_str()))
        .with_attribute(("errors", "0"))
        .with_attribute(("time", time(night.seconds).as_str()))
        .write_inner_content(|xml| {
            machines.iter().try_for_each(|machine| suite(xml, machine, night, consoles))
        })?;
    Ok(())
}

fn failures(outcomes: &[&Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Failed).count()
}

/// The boots of a machine.
fn suite(xml: &mut Xml, name: &str, night: &Night, consoles: &Consoles) -> std::io::Result<()> {
    let cases: Vec<&Outcome> = night.outcomes.iter().filter(|outcome| machine(outcome) == name).collect();
    let skipped = |outcome: &&&Outcome| matches!(outcome.verdict, Verdict::Known(_) | Verdict::Absent(_));
    let began = Utc::of(night.began).to_string();
    xml.create_element("testsuite")
        .with_attribute(("name", plain(name).as_str()))
        .with_attribute(("tests", cases.len().to_string().as_str()))
        .with_attribute(("failures", failures(&cases).to_string().as_str()))
        .with_attribute(("errors", "0"))
        .with_attribute(("skipped", cases.iter().filter(skipped).count().to_string().as_str()))
        .with_attribute(("time", time(cases.iter().map(|case| seconds(case)).sum()).as_str()))
        // Without a zone: readers of the form take none.
        .with_attribute(("timestamp", began.trim_end_matches('Z')))
        .write_inner_content(|xml| {
            properties(xml, night)?;
            cases.iter().try_for_each(|outcome| case(xml, outcome, consoles))
        })?;
    Ok(())
}

/// What is known of the night.
fn properties(xml: &mut Xml, night: &Night) -> std::io::Result<()> {
    let mut properties =
        vec![("host.cpus", night.host.cpus.to_string()), ("host.memory-mib", night.host.memory.to_string())];
    properties.extend(night.host.qemu.as_deref().map(|qemu| ("host.qemu", plain(qemu))));
    if let Some(sources) = &night.sources {
        properties.push(("commit", plain(&sources.commit)));
        properties.push(("commit.modified", sources.modified.to_string()));
    }
    xml.create_element("properties").write_inner_content(|xml| {
        properties.iter().try_for_each(|(name, value)| {
            let element = xml.create_element("property").with_attribute(("name", *name));
            element.with_attribute(("value", value.as_str())).write_empty().map(|_| ())
        })
    })?;
    Ok(())
}

/// Seconds of the wall that all attempts of a boot took.
fn seconds(outcome: &Outcome) -> f64 {
    let taken = |attempt: &Attempt| attempt.build + attempt.reached.last().map_or(0.0, |seen| seen.wall);
    outcome.attempts.iter().map(taken).sum()
}

fn case(xml: &mut Xml, outcome: &Outcome, consoles: &Consoles) -> std::io::Result<()> {
    let class = format!("{}.{}", machine(outcome).replace('.', "_"), outcome.scenario.replace('.', "_"));
    xml.create_element("testcase")
        .with_attribute(("name", plain(&outcome.name).as_str()))
        .with_attribute(("classname", plain(&class).as_str()))
        .with_attribute(("time", time(seconds(outcome)).as_str()))
        .write_inner_content(|xml| {
            match &outcome.verdict {
                Verdict::Failed => told(xml, "failure", outcome.last())?,
                Verdict::Known(why) | Verdict::Absent(why) => {
                    let why = lines(why).join("\n");
                    let element = xml.create_element("skipped");
                    element
                        .with_attribute(("message", plain(&why).as_str()))
                        .write_text_content(text(&why))?;
                }
                Verdict::Flaky => {
                    let failed = outcome.attempts.iter().filter(|attempt| attempt.fault.is_some());
                    failed.map(Some).try_for_each(|attempt| told(xml, "flakyFailure", attempt))?;
                }
                Verdict::Passed => {}
            }
            let out = output(outcome, consoles);
            if !out.is_empty() {
                xml.create_element("system-out").write_text_content(text(&out))?;
            }
            Ok(())
        })?;
    Ok(())
}

/// The fault of an attempt as an element.
fn told(xml: &mut Xml, element: &str, attempt: Option<&Attempt>) -> std::io::Result<()> {
    let fault = attempt.and_then(|attempt| attempt.fault.as_ref());
    let what = fault.map_or_else(|| vec!["there was no attempt".to_owned()], |fault| lines(&fault.what));
    let stage = fault.and_then(|fault| fault.stage.as_deref()).unwrap_or("self-test");
    let mut all = what.clone();
    all.extend(
        fault.iter().flat_map(|fault| &fault.advice).flat_map(|advice| lines(&format!("help: {advice}"))),
    );
    if let Some(other) = attempt.and_then(|attempt| attempt.difference.as_ref()) {
        all.extend(lines(&format!("line {} is new: {}", other.number, other.here)));
        all.extend(lines(&format!("where there was: {}", other.there)));
    }
    let message = what.first().map_or("", String::as_str);
    xml.create_element(element)
        .with_attribute(("message", plain(message).as_str()))
        .with_attribute(("type", plain(stage).as_str()))
        .write_text_content(text(&all.join("\n")))?;
    Ok(())
}

/// How each attempt went, with the end of its console where it failed.
fn output(outcome: &Outcome, consoles: &Consoles) -> String {
    let mut out = Vec::new();
    for (number, attempt) in (1..).zip(&outcome.attempts) {
        let Some(fault) = &attempt.fault else {
            out.push(format!("attempt {number}: passed"));
            continue;
        };
        out.push(format!("attempt {number}: {}", lines(&fault.what).join("\n")));
        if let Some(log) = consoles.of(attempt) {
            out.extend(log.fault.iter().flat_map(|fault| lines(fault)));
            out.extend(log.last(LAST).iter().cloned());
            out.push(format!("the whole console: {}", log.path));
        }
    }
    out.join("\n")
}

/// What XML 1.0 can say (section 2.2) of `text`; and nothing that GitLab takes for a file that is to be shown.
fn plain(text: &str) -> String {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    text.chars().filter(allowed).collect::<String>().replace("[[ATTACHMENT", "[ [ATTACHMENT")
}

fn text(text: &str) -> BytesText<'static> {
    BytesText::new(&plain(text)).into_owned()
}

/// Seconds as the schema has them: digits and a point. A sum of nothing is -0.
fn time(seconds: f64) -> String {
    format!("{:.3}", if seconds.is_finite() && seconds > 0.0 { seconds } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_say_is_left_out() {
        assert_eq!(plain("a\u{0}\u{1b}[2J\u{fffe}\u{9b}é\u{1f980}\n"), "a[2Jé\u{1f980}\n");
        assert!(!plain("[[ATTACHMENT|/etc/passwd]]").contains("[[ATTACHMENT|"));
    }

    #[test]
    fn seconds_are_numbers() {
        assert_eq!([1.5, -0.0, -1.0, f64::NAN].map(time), ["1.500", "0.000", "0.000", "0.000"]);
    }
}
