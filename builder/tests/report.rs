//! The reports of a night: what is in them whatever consoles say, read back by parsers of their forms.
//!
//! `VAMBRACE_REPORT` names a folder in which a month of nights with its report is left: `ci/report-check` looks at it in a
//! browser.

// Most of it is about images.
#[allow(dead_code)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event as Markdown, Options, Parser, Tag};
use quick_xml::events::{BytesStart, Event};
use vambrace::diagnosis::{Fault, SelfTest};
use vambrace::nightly::outcome::{
    Attempt, Difference, FORMAT, Host, Night, Outcome, Sizes, StageSeen, Verdict,
};
use vambrace::nightly::report;
use vambrace::nightly::store::Store;
use vambrace::sources::Sources;

use support::{text, tool};

const NIGHTS: u64 = 30;
const DAY: u64 = 86_400;
const FIRST: u64 = 1_790_000_000;
/// What a console may say to whoever shows it.
const EVIL: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>]]><!--&amp;\"'`|";

/// Board, variant, method, hypervisor, CPUs, scenario.
type Boot = (&'static str, Option<&'static str>, &'static str, &'static str, u32, &'static str);

/// What is booted.
const BOOTS: [Boot; 25] = [
    ("qemu-arm64", None, "uboot", "vambrace", 1, "dom0"),
    ("qemu-arm64", None, "uboot", "vambrace", 4, "dom0"),
    ("qemu-arm64", None, "uefi", "vambrace", 4, "dom0"),
    ("qemu-arm64", None, "uboot", "xen", 4, "dom0"),
    ("qemu-arm64", None, "uboot", "vambrace", 4, "guest"),
    ("qemu-arm64", None, "uboot", "xen", 4, "guest"),
    ("qemu-arm64", None, "uboot", "vambrace", 4, "static-guests"),
    ("qemu-arm64", Some("gicv3"), "uboot", "vambrace", 1, "dom0"),
    ("qemu-arm64", Some("gicv3"), "uefi", "vambrace", 8, "dom0"),
    ("qemu-arm64", Some("gicv3"), "uefi", "xen", 8, "dom0"),
    ("qemu-arm64", Some("gicv3"), "uboot", "vambrace", 4, "guest"),
    ("qemu-arm64", Some("gicv3"), "uboot", "vambrace", 4, "static-guests"),
    ("qemu-armv7", None, "uboot", "vambrace", 2, "dom0"),
    ("qemu-armv7", None, "uboot", "xen", 2, "dom0"),
    ("raspberrypi-3b-plus", None, "uboot", "vambrace", 4, "dom0"),
    ("raspberrypi-4", None, "uboot", "vambrace", 4, "dom0"),
    ("orangepi-pc", None, "uboot", "vambrace", 4, "dom0"),
    ("cubieboard2", None, "uboot", "vambrace", 2, "dom0"),
    ("bananapi", None, "uboot", "vambrace", 2, "dom0"),
    ("pine64-plus", None, "uboot", "vambrace", 4, "dom0"),
    ("midway", None, "uboot", "vambrace", 4, "dom0"),
    ("xgene-mustang", None, "uboot", "vambrace", 4, "dom0"),
    ("xgene-mustang", None, "uefi", "vambrace", 4, "dom0"),
    ("omap5-uevm", None, "uboot", "vambrace", 2, "dom0"),
    ("vexpress-a15", None, "uboot", "vambrace", 2, "dom0"),
];

/// How the boot of this number goes in this night.
fn verdict(boot: usize, night: u64) -> Verdict {
    let last = night == NIGHTS - 1;
    match (boot, night) {
        (5 | 9, _) if last => Verdict::Failed,
        (17, 26..) => Verdict::Failed,
        (12, _) if night % 7 == 1 => Verdict::Flaky,
        (15, 20..) => Verdict::Known(format!("the model has no Ethernet {EVIL}")),
        (20, _) if night % 6 == 2 => Verdict::Failed,
        (21 | 22, ..25) => {
            Verdict::Absent("this QEMU has no machine `mustang`\nsee `vambrace doctor`".into())
        }
        (23, _) => Verdict::Absent("this QEMU has no machine `omap5`".into()),
        _ => Verdict::Passed,
    }
}

fn stages(scenario: &str) -> Vec<String> {
    let guest: &[&str] = if scenario == "dom0" { &[] } else { &["toolstack", "guest", "guest network"] };
    let dom0 = ["first stage", "firmware", "hypervisor", "dom0 kernel", "dom0 user space", "dom0 shell"];
    dom0.iter().chain(guest).chain(&["power-off"]).map(|&stage| stage.to_owned()).collect()
}

fn seconds(boot: usize, stage: usize) -> f64 {
    let (boot, stage) = (boot as f64, stage as f64);
    0.3 + stage * (0.9 + boot % 5.0 * 0.2) + stage * stage * 0.25
}

fn attempt(boot: usize, name: &str, stages: &[String], number: usize, fails: bool) -> Attempt {
    let count = if fails { (boot + number) % stages.len() } else { stages.len() };
    let seen = |(index, stage): (usize, &String)| StageSeen {
        stage: stage.clone(),
        wall: seconds(boot, index) * 1.7,
        machine: seconds(boot, index),
    };
    let missed = stages.get(count).cloned();
    let fault = fails.then(|| Fault {
        stage: missed.clone(),
        what: format!(
            "the stage `{}` was not reached within 90 s: {EVIL}\n  | the last that was seen",
            missed.unwrap_or_default()
        ),
        advice: vec![
            "the hypervisor runs, as its log in memory shows, but its console is silent: see `[console]` of the board"
                .into(),
            format!("what it says before is why: {EVIL}"),
        ],
    });
    let there = format!("(XEN) there {EVIL}");
    let suffix = if number == 1 { String::new() } else { format!(".{number}") };
    Attempt {
        build: 3.25,
        reached: stages.iter().enumerate().take(count).map(seen).collect(),
        fault,
        self_test: vec![
            SelfTest { name: "memory".into(), well: true, seen: "512 MiB".into() },
            SelfTest { name: format!("net {EVIL}"), well: !fails, seen: EVIL.into() },
        ],
        console: Some(format!("consoles/{name}{suffix}.log")),
        difference: fails.then(|| Difference { number: 37, here: format!("(d1) here {EVIL}"), there }),
        log: fails.then(|| (0..60).map(|line| format!("[{line}] vambrace: {EVIL}")).collect()),
        messages: if fails { format!("qemu-system-aarch64: warning: {EVIL}\n") } else { String::new() },
    }
}

fn outcome(boot: usize, night: u64) -> Outcome {
    let (board, variant, method, hypervisor, cpus, scenario) = BOOTS[boot];
    let verdict = verdict(boot, night);
    let variant = variant.map(str::to_owned);
    let machine = variant.as_ref().map_or(board.to_owned(), |variant| format!("{board}-{variant}"));
    let name = format!("{machine}-{method}-{hypervisor}-{cpus}-{scenario}");
    let stages = stages(scenario);
    let one = |number, fails| attempt(boot, &name, &stages, number, fails);
    let mut attempts = match verdict {
        Verdict::Passed => vec![one(1, false)],
        Verdict::Flaky => vec![one(1, true), one(2, false)],
        Verdict::Failed | Verdict::Known(_) => vec![one(1, true), one(2, true)],
        Verdict::Absent(_) => vec![],
    };
    // Slower from some night on.
    if boot == 2 && night >= NIGHTS - 2 {
        attempts.iter_mut().flat_map(|attempt| &mut attempt.reached).for_each(|seen| seen.machine *= 1.2);
    }
    let size = |base: u64, step: u64| base + night * step;
    let sizes = (!attempts.is_empty()).then(|| Sizes {
        image: size(61 << 20, 4096),
        hypervisor: size(412_000, if boot == 4 { 1500 } else { 64 }),
    });
    Outcome {
        name,
        board: board.into(),
        variant,
        method: method.into(),
        hypervisor: hypervisor.into(),
        cpus,
        memory: 1024,
        scenario: scenario.into(),
        stages,
        known: (boot == 3).then(|| format!("no longer {EVIL}")),
        verdict,
        attempts,
        sizes,
    }
}

fn night(number: u64) -> Night {
    let count = |base: u64| (base + number * 3) as f64;
    let mut figures: BTreeMap<String, f64> =
        (0..12).map(|one| (format!("trap/{one}"), count(900 + one * 40))).collect();
    figures.insert(format!("hypercall/{EVIL}"), count(1_234_567));
    figures.insert("event/send".into(), if number == NIGHTS - 1 { 611.0 } else { 540.0 });
    Night {
        format: FORMAT,
        title: format!("Every board {EVIL}"),
        began: FIRST + number * DAY,
        seconds: 3141.5,
        sources: Some(Sources {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            modified: number % 2 == 1,
        }),
        host: Host { cpus: 2, memory: 7936, qemu: Some(format!("QEMU emulator version 10.0.2 {EVIL}")) },
        outcomes: (0..BOOTS.len()).map(|boot| outcome(boot, number)).collect(),
        untried: 0,
        figures,
    }
}

/// A console: some long, one with a line without end, all of them hostile.
fn console(boot: usize) -> Vec<u8> {
    let mut text =
        String::from("\x1b[2J\x1b[1;1HU-Boot SPL 2025.01 (Jan 01 2025)\r\nTrying to boot from MMC1\r\n");
    let lines = if boot == 3 { 30_000 } else { 240 + boot * 10 };
    for line in 0..lines {
        text.push_str(&match line % 40 {
            7 => format!("(XEN) {EVIL}\r\n"),
            21 => "\x1b[31mred\x1b[0m \x08\x07\u{9b}31m \u{202e}turned\ttab\r\n".to_owned(),
            _ => format!(
                "[{:>5}.{line:06}] virtio_blk virtio{line}: [vda] 125000 512-byte logical blocks\r\n",
                line / 40
            ),
        });
    }
    if boot == 9 {
        text.push_str(&"x<".repeat(1 << 19));
    }
    let mut bytes = text.into_bytes();
    bytes.extend(b"\xff\xfe\0 end\r\n```\r\n~~~~\r\n````` of it");
    bytes
}

/// A month of nights with the report of the last.
fn month(dir: &Path) -> (Night, PathBuf) {
    let store = Store::open(dir).unwrap();
    (0..NIGHTS).for_each(|number| store.keep(&night(number)).unwrap());
    let last = night(NIGHTS - 1);
    for (boot, outcome) in last.outcomes.iter().enumerate() {
        for attempt in &outcome.attempts {
            let name = attempt.console.as_deref().unwrap();
            // One went missing, and one boot said nothing.
            match (boot, name.ends_with(".2.log")) {
                (5, true) => {}
                (17, true) => fs::write(dir.join(name), "").unwrap(),
                _ => fs::write(dir.join(name), console(boot)).unwrap(),
            }
        }
    }
    let page = report::write(&store, &last).unwrap();
    (last, page)
}

/// The tags of a page up to its script, checked to be ours and closed in order: name, attributes.
fn tags(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let (body, script) = page.split_once("<script nonce=").expect("the page has its script");
    assert_eq!(script.matches("<script").count(), 0, "one script");
    assert!(script.ends_with("</script>\n</body>\n</html>\n"));
    const VOID: [&str; 5] = ["!DOCTYPE", "meta", "link", "br", "input"];
    const KNOWN: &str = "html head title style body header main span div h1 h2 h3 h4 p b i a ul li dl dt dd time code nav strong \
        section article details summary pre mark table caption thead tbody tr th td svg rect path g polyline circle label output \
        noscript";
    let known: BTreeSet<&str> = KNOWN.split_whitespace().chain(VOID).collect();
    let (mut tags, mut open) = (Vec::new(), Vec::new());
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag without end: {part}"));
        if let Some(name) = tag.strip_prefix('/') {
            let begun: Option<String> = open.pop();
            assert_eq!(begun.as_deref(), Some(name), "closed out of order");
            continue;
        }
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let (name, closed) = (name.trim_end_matches('/'), tag.ends_with('/'));
        assert!(known.contains(name), "<{tag}>");
        let mut attributes = BTreeMap::new();
        while let Some((key, value)) = rest.trim_start().split_once("=\"") {
            let (value, after) = value.split_once('"').unwrap();
            let key = key.rsplit(' ').next().unwrap();
            assert!(!key.starts_with("on") && key != "src", "<{tag}>");
            attributes.insert(key.to_owned(), value.to_owned());
            rest = after;
        }
        if !VOID.contains(&name) && !closed {
            open.push(name.to_owned());
        }
        tags.push((name.to_owned(), attributes));
    }
    assert_eq!(open, ["html", "body"]);
    tags
}

#[test]
fn the_page_is_whole_whatever_consoles_say() {
    let own = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("VAMBRACE_REPORT").map_or(own.path().to_path_buf(), PathBuf::from);
    let (night, path) = month(&dir);
    let page = fs::read_to_string(&path).unwrap();
    assert!(path.ends_with("report.html") && page.len() < 5 << 20, "{}", page.len());
    let tags = tags(&page);

    let ids: Vec<&String> = tags.iter().filter_map(|(_, attributes)| attributes.get("id")).collect();
    let names: BTreeSet<&str> = ids.iter().map(|id| id.as_str()).collect();
    assert_eq!(ids.len(), names.len(), "two elements of one name");
    for (tag, attributes) in &tags {
        let Some(link) = attributes.get("href") else { continue };
        match link.strip_prefix('#') {
            Some(name) => assert!(names.contains(name), "a link leads nowhere: {link}"),
            None => assert!(link == "data:," || tag == "a" && link.starts_with("consoles/"), "{link}"),
        }
    }
    for outcome in &night.outcomes {
        assert!(names.contains(format!("boot-{}", outcome.name).as_str()), "{}", outcome.name);
    }
    let control = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!page.contains(control), "a control character");
    assert!(!page.contains("[31m"), "what is left of an escape sequence");

    // How every boot went is in the matrix, which leads to it, and in its section.
    for class in ["passed", "flaky", "failed", "known", "absent"] {
        let count =
            |of: fn(&Verdict) -> &str| night.outcomes.iter().filter(|one| of(&one.verdict) == class).count();
        let expected = count(|verdict| match verdict {
            Verdict::Passed => "passed",
            Verdict::Flaky => "flaky",
            Verdict::Failed => "failed",
            Verdict::Known(_) => "known",
            Verdict::Absent(_) => "absent",
        });
        assert!(expected > 0, "no boot of the fixture is {class}");
        let cell = format!("cell {class}");
        let cells = tags.iter().filter(|(_, attributes)| attributes.get("class") == Some(&cell)).count();
        assert_eq!(cells, expected, "{class}");
    }
    assert!(page.contains("<h1>Failed: 3 of 24 boots</h1>"), "the answer");
    let order =
        ["<h1>", "id=\"failures\"", "id=\"matrix\"", "id=\"timelines\"", "id=\"boots\"", "id=\"history\""];
    let places: Vec<usize> = order.iter().map(|what| page.find(what).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("</code> was not reached within 90 s: &lt;/script&gt;"), "the fault");
    assert!(page.contains("<summary>Attempt 1 of 2: <span"), "retries are told");
    let mended = "The plan says that it fails, and it passed:</strong> <a href";
    assert!(page.contains(mended), "a boot that is well again is told");
    assert!(page.contains("needed a second attempt in 5 of 30 nights"), "what is flaky over nights");
    assert!(page.contains("changed 10 times between passed and failed"), "what goes to and fro");
    assert!(page.contains("▲ +13.1 %"), "a figure that has changed");
    assert!(page.contains("lines left out here; all of it is in <a href=\"consoles/"), "what is shortened");
    assert!(page.contains("The console was silent.") && page.contains("The console is not here:"));
    assert!(
        page.contains("id=\"boot-qemu-arm64-uboot-xen-4-guest.1.line\""),
        "the line that differs has a name"
    );
}

/// The elements of JUnit's form, by what they may stand in, and what attributes they have.
fn junit_allows(parent: &str, element: &BytesStart<'_>) {
    let name = element.name().as_ref().to_owned();
    let (within, required, more): (&[&str], &[&str], &[&str]) = match name.as_str() {
        "testsuites" => (&[""], &[], &["name", "time", "tests", "failures", "errors"]),
        "testsuite" => {
            (&["testsuites"], &["name", "tests", "failures", "errors"], &["time", "skipped", "timestamp"])
        }
        "properties" => (&["testsuite"], &[], &[]),
        "property" => (&["properties"], &["name", "value"], &[]),
        "testcase" => (&["testsuite"], &["name"], &["time", "classname"]),
        "failure" | "skipped" => (&["testcase"], &[], &["type", "message"]),
        "flakyFailure" => (&["testcase"], &["type"], &["message"]),
        "system-out" => (&["testcase"], &[], &[]),
        other => panic!("<{other}> is no element of the form"),
    };
    assert!(within.contains(&parent), "<{name}> in <{parent}>");
    let mut attributes: Vec<String> = Vec::new();
    for attribute in element.attributes() {
        let attribute = attribute.unwrap();
        let key: &str = attribute.key.as_ref();
        let number = |c: char| c.is_ascii_digit() || c == '.' && key == "time";
        if ["time", "tests", "failures", "errors", "skipped"].contains(&key) {
            assert!(attribute.value.chars().all(number), "{key}: {}", attribute.value);
        }
        attributes.push(key.to_owned());
    }
    assert!(
        required.iter().all(|wanted| attributes.iter().any(|name| name == wanted)),
        "{name}: {attributes:?}"
    );
    let known = |name: &String| required.iter().chain(more).any(|known| known == name);
    assert!(attributes.iter().all(known), "{name}: {attributes:?}");
}

#[test]
fn junit_has_the_form_that_ci_systems_read() {
    let dir = tempfile::tempdir().unwrap();
    let (night, _) = month(dir.path());
    let path = dir.path().join("junit.xml");
    let xml = fs::read_to_string(&path).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut open, mut counts) = (vec![String::new()], BTreeMap::<String, usize>::new());
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                junit_allows(open.last().unwrap(), element);
                let name = element.name().as_ref().to_owned();
                *counts.entry(name.clone()).or_default() += 1;
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    let of = |wanted: fn(&Verdict) -> bool| night.count(wanted);
    assert_eq!(counts["testcase"], night.outcomes.len());
    assert_eq!(counts["failure"], of(|verdict| *verdict == Verdict::Failed));
    assert_eq!(counts["flakyFailure"], of(|verdict| *verdict == Verdict::Flaky));
    assert_eq!(counts["skipped"], of(|verdict| matches!(verdict, Verdict::Known(_) | Verdict::Absent(_))));
    assert!(xml.contains("name=\"commit\" value=\"0123456789abcdef"));
    let forbidden =
        |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
    assert!(!xml.contains(forbidden) && !xml.contains("]]>") && !xml.contains("<img"));
    if let Some(output) = tool("xmllint", &["--noout", path.to_str().unwrap()]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn the_summary_is_markdown_that_nothing_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let (night, _) = month(dir.path());
    let summary = fs::read_to_string(dir.path().join("report.md")).unwrap();
    assert!(summary.len() <= 60 << 10, "{}", summary.len());
    let (mut rows, mut blocks, mut headings) = (0, 0, 0);
    for event in Parser::new_ext(&summary, Options::ENABLE_TABLES) {
        match event {
            Markdown::Html(html) | Markdown::InlineHtml(html) => panic!("raw HTML: {html}"),
            Markdown::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                panic!("a link: {dest_url}")
            }
            Markdown::Start(Tag::TableRow) => rows += 1,
            Markdown::Start(Tag::CodeBlock(_)) => blocks += 1,
            Markdown::Start(Tag::Heading { .. }) => headings += 1,
            _ => {}
        }
    }
    let told = night.count(|verdict| matches!(verdict, Verdict::Failed | Verdict::Flaky));
    assert_eq!((rows, headings), (night.outcomes.len(), 1 + told));
    assert!(blocks >= told, "{blocks}");
    assert!(summary.starts_with("# ✗ Failed: 3 of 24 boots\n"));
}

#[test]
fn a_night_with_hundreds_of_failures_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut night = night(0);
    let failed = outcome(17, NIGHTS - 1);
    night.outcomes =
        (0..300).map(|number| Outcome { name: format!("boot {number}"), ..failed.clone() }).collect();
    let page = report::write(&store, &night).unwrap();
    assert!(fs::read_to_string(dir.path().join("report.md")).unwrap().len() <= 60 << 10);
    tags(&fs::read_to_string(page).unwrap());
}

#[test]
fn a_night_without_boots_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let night = Night {
        outcomes: vec![],
        untried: 0,
        figures: BTreeMap::new(),
        sources: None,
        host: Host::default(),
        ..night(0)
    };
    let page = report::write(&Store::open(dir.path()).unwrap(), &night).unwrap();
    let page = fs::read_to_string(page).unwrap();
    tags(&page);
    assert!(page.contains("<h1>Nothing was booted</h1>") && page.contains("No boot reached a stage."));
    assert!(
        fs::read_to_string(dir.path().join("report.md")).unwrap().starts_with("# – Nothing was booted\n")
    );
}

#[test]
fn a_night_that_was_broken_off_did_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let outcomes = vec![outcome(3, 0), outcome(4, 0)];
    store.keep(&Night { outcomes, untried: 22, ..night(0) }).unwrap();
    let night = store.nights().unwrap().pop().unwrap();
    assert!(!night.is_well() && night.summary() == "2 passed, 0 failed, 22 not tried", "{}", night.summary());
    let page = fs::read_to_string(report::write(&store, &night).unwrap()).unwrap();
    assert!(page.contains("<h1>Broken off: 0 of 2 boots failed, 22 not tried</h1>"));
    assert!(fs::read_to_string(dir.path().join("report.md")).unwrap().contains(", though known to fail"));
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let said = store.lock().unwrap_err().report();
    assert!(said.contains("boots are being run in this folder"), "{said}");
    drop(lock);
    drop(store.lock().unwrap());
}
