//! A job, in LAVA's words. JSON is YAML, in which LAVA takes it.
//!
//! Format: LAVA's "Job definition" manual, and its `lava_common.schemas`, which `ci/lab/lava` holds it against.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::super::case::Case;
use super::device::device_type;
use crate::boot::{SELF_TEST, failures, stages};
use crate::decision::Decision;
use crate::diagnosis::SELFTEST;
use crate::qemu::{Speaker, Starts};
use crate::sources::Sources;
use crate::workspace::Workspace;

/// Seconds for an image to be fetched, unpacked and written onto a card.
const DEPLOYING: u64 = 3600;
/// Seconds for a board to be turned off and on.
const TURNING_ON: u64 = 300;
/// Seconds for whatever LAVA does between.
const BETWEEN: u64 = 600;
/// A regular expression that is never found. LAVA wants to know a prompt, and takes it for a failure where it sees one
/// before what it waits for.
const NO_PROMPT: &str = "(?!)";

/// Who sees a job, its log and its results in LAVA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Who submitted it.
    Personal,
    /// Everybody.
    Public,
}

/// A job.
#[derive(Debug, Serialize)]
pub(super) struct Job {
    job_name: String,
    device_type: String,
    /// What of a board's devices may boot it: those with these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    visibility: Visibility,
    timeouts: BTreeMap<&'static str, Timeout>,
    /// For people, and for LAVA's queries.
    metadata: BTreeMap<&'static str, String>,
    actions: [Action; 3],
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Timeout {
    seconds: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Deploy { timeout: Timeout, to: &'static str, images: Images },
    Boot { timeout: Timeout, method: &'static str },
    Test { timeout: Timeout, interactive: [Interactive; 1] },
}

/// What is fetched for a board. The device's own commands write it: `{IMAGE}` and `{BMAP}` in them.
#[derive(Debug, Serialize)]
struct Images {
    image: File,
    bmap: File,
}

/// A file to be fetched.
#[derive(Debug, Serialize)]
pub(super) struct File {
    /// Where it is.
    pub url: String,
    /// Its SHA-256, in hexadecimal, as it is fetched.
    #[serde(rename = "sha256sum")]
    pub sha256: String,
    /// How it is packed.
    #[serde(rename = "compression", skip_serializing_if = "Option::is_none")]
    pub packing: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Interactive {
    name: &'static str,
    prompts: [&'static str; 1],
    script: Vec<Line>,
}

/// What is typed, and what has to be seen then, or must not be: regular expressions of Python's.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    command: Option<String>,
    wait_for_prompt: bool,
    successes: Vec<Message>,
    failures: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    message: String,
    /// What LAVA says of it, where it ends the job.
    error: Option<String>,
}

impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &self.message)?;
        if let Some(error) = &self.error {
            map.serialize_entry("exception", "TestError")?;
            map.serialize_entry("error", error)?;
        }
        map.end()
    }
}

impl Job {
    /// The job that writes `image` with its block map, boots it, and watches for the stages of `case`.
    pub(super) fn new(
        workspace: &Workspace,
        case: &Case,
        decision: &Decision,
        image: File,
        bmap: File,
        visibility: Visibility,
    ) -> Self {
        let seconds = |seconds: u64| Timeout { seconds };
        let whole = seconds(case.timeout + DEPLOYING + TURNING_ON + BETWEEN);
        let interactive = Interactive { name: "boot", prompts: [NO_PROMPT], script: script(case, decision) };
        let mut metadata = BTreeMap::from([
            ("board", decision.board.id.clone()),
            ("boot-method", decision.starter.name().to_owned()),
            ("hypervisor", decision.kind.traits().name.to_owned()),
            ("scenario", case.scenario.clone()),
        ]);
        metadata.extend(Sources::of(workspace.root()).map(|sources| ("sources", sources.short())));
        metadata.extend(case.known.clone().map(|why| ("known-to-fail", why)));
        Self {
            job_name: case.name.clone(),
            device_type: device_type(&decision.board),
            tags: super::super::lab::tags(case, decision)
                .into_iter()
                .filter(|(name, _)| *name != "board")
                .map(|(name, value)| format!("{name}-{value}"))
                .collect(),
            visibility,
            timeouts: BTreeMap::from([
                ("job", whole),
                ("action", seconds(DEPLOYING)),
                ("connection", seconds(case.timeout)),
            ]),
            metadata,
            actions: [
                Action::Deploy { timeout: seconds(DEPLOYING), to: "flasher", images: Images { image, bmap } },
                Action::Boot { timeout: seconds(TURNING_ON), method: "minimal" },
                Action::Test { timeout: seconds(case.timeout), interactive: [interactive] },
            ],
        }
    }
}

/// The stages of the boot. What a stage types when it is reached is what the next one begins with.
fn script(case: &Case, decision: &Decision) -> Vec<Line> {
    let wrong = || {
        let of_console = failures(decision).into_iter().map(|words| Message {
            message: line_of(Speaker::Machine, &escaped(&words)),
            error: Some(format!("the console says: {words}")),
        });
        // Whole words, so that one that has come by half is not taken for another. What has no word behind its name is
        // no verdict.
        let verdict = format!(r"{}(?!done[ \r\n])\S+(?:[\r\n]| (?!ok[ \r\n])\S*[ \r\n])", escaped(SELFTEST));
        let of_self_test = Message {
            message: line_of(Speaker::Machine, &verdict),
            error: Some("dom0's self-test found something wrong".to_owned()),
        };
        of_console.chain([of_self_test]).collect()
    };
    let mut typed = None;
    let mut lines = Vec::new();
    for (number, stage) in (1..).zip(stages(decision, &case.stages, Starts::Lab)) {
        let mut line = |name: String, successes: Vec<String>| {
            let message = |message| Message { message, error: None };
            lines.push(Line {
                name,
                command: typed.take(),
                wait_for_prompt: false,
                successes: successes.into_iter().map(message).collect(),
                failures: wrong(),
            });
        };
        if stage.name == SELF_TEST {
            // An end without a verdict is none.
            let verdict = format!(r"{}(?!done[ \r\n])\S+ ok[ \r\n]", escaped(SELFTEST));
            line("first-verdict".to_owned(), vec![line_of(stage.speaker, &verdict)]);
        }
        let seen = stage.any_of.iter().map(|words| line_of(stage.speaker, &escaped(words)));
        line(plain(&stage.name, number), seen.collect());
        typed = stage.send;
    }
    lines
}

/// The expression for `words` in one line of this speaker's. A guest's lines begin with what the hypervisor marks them
/// with ([`Speaker`]).
fn line_of(speaker: Speaker, words: &str) -> String {
    let start = match speaker {
        Speaker::Machine => r"(?!\(d\d+\) |\(XEN\) DOM\d+: )".to_owned(),
        Speaker::Guest(number) => format!(r"(?:\(d{number}\) |\(XEN\) DOM{number}: )"),
    };
    // Where a line begins its end before it tells, and not `^`: LAVA searches what came last, which may begin anywhere.
    format!(r"[\r\n]{start}[^\r\n]*{words}")
}

/// The expression for `text` as it is.
fn escaped(text: &str) -> String {
    let one = |c: char| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c]);
    text.chars().flat_map(one).collect()
}

/// The name of the stage of this number as LAVA takes one: of letters, digits and `-`.
fn plain(name: &str, number: usize) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words = words.collect::<Vec<_>>().join("-");
    if words.is_empty() { format!("stage-{number}") } else { words }
}

#[cfg(test)]
mod tests {
    use super::super::super::case::decided;
    use super::*;

    #[test]
    fn what_a_stage_is_begun_with_stands_where_its_result_does() {
        let plan = "[[boot]]\nboard = \"pine64-plus\"\ncpus = 2\nscenario = \"web\"\n\
                    [[scenario.web.stages]]\nname = \"web server\"\ntype = \"curl -s localhost\"\nsee = \"It works!\"\n";
        let [(case, decision)] = &decided(plan)[..] else { panic!("one boot") };
        let file = |url: &str| File { url: url.into(), sha256: "00".into(), packing: None };
        let workspace = crate::workspace::Workspace::open(None, None).unwrap();
        let (image, map) = (file("http://a/i"), file("http://a/m"));
        let job = Job::new(&workspace, case, decision, image, map, Visibility::Personal);
        let job = serde_json::to_value(job).unwrap();
        assert_eq!(job["tags"], serde_json::json!(["cpus-2"]));
        assert_eq!(
            (&job["device_type"], &job["visibility"]),
            (&"vambrace-pine64-plus".into(), &"personal".into())
        );
        assert_eq!(job["actions"][0]["deploy"]["images"]["image"]["sha256sum"], "00");
        let script = job.pointer("/actions/2/test/interactive/0/script").unwrap().as_array().unwrap();
        let typed: Vec<_> = script.iter().filter(|line| !line["command"].is_null()).collect();
        let [web, selftest] = &typed[..] else { panic!("{typed:?}") };
        assert_eq!((&web["name"], &web["command"]), (&"web-server".into(), &"curl -s localhost".into()));
        assert!(web["successes"][0]["message"].as_str().unwrap().ends_with(r"It works\!"));
        assert!(selftest["command"].as_str().unwrap().starts_with("/usr/lib/vambrace/selftest "));
        // Nothing but the console tells that a board is off.
        let last = script.last().unwrap();
        assert!(last["name"] == "power-off" && !last["successes"].as_array().unwrap().is_empty());
    }

    #[test]
    fn words_are_looked_for_as_they_are() {
        assert_eq!(escaped("(VMB) a_b. ü"), r"\(VMB\) a\_b\. ü");
        assert_eq!(plain("kernel of guest `web`", 3), "kernel-of-guest-web");
        assert_eq!(plain("网页", 3), "stage-3");
    }
}
