//! How the boots of a plan went: what reports are made of, and what is kept of a night.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bisect::Step;
use crate::diagnosis::{Fault, SelfTest};
use crate::sources::Sources;

/// The version of what is written; what has another one is not read.
pub const FORMAT: u32 = 1;

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Night {
    /// [`FORMAT`].
    pub format: u32,
    /// What the report is headed with.
    pub title: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// How long it took, in seconds of the wall.
    pub seconds: f64,
    /// The sources, where they are a git repository.
    pub sources: Option<Sources>,
    /// Where it ran.
    pub host: Host,
    /// The boots, in the plan's order.
    pub outcomes: Vec<Outcome>,
    /// How many of the plan's have not been tried: the night goes on, or was broken off.
    #[serde(default)]
    pub untried: usize,
    /// Numbers that something else has measured, by name: counts of instructions, for example.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
}

/// The computer that the machines ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its CPUs.
    pub cpus: usize,
    /// Its memory, in MiB.
    pub memory: u64,
    /// What QEMU says of its version.
    pub qemu: Option<String>,
}

/// One boot, with all attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name in the plan.
    pub name: String,
    /// The board.
    pub board: String,
    /// The variant of its machine.
    pub variant: Option<String>,
    /// How it boots.
    pub method: String,
    /// The kind of hypervisor.
    pub hypervisor: String,
    /// The machine's CPUs.
    pub cpus: u32,
    /// The machine's memory, in MiB.
    pub memory: u64,
    /// What had to be seen.
    pub scenario: String,
    /// Every stage that it has, in order.
    pub stages: Vec<String>,
    /// How it went.
    pub verdict: Verdict,
    /// Why the plan says that it fails, if it does: a boot that passes all the same needs the plan changed.
    #[serde(default)]
    pub known: Option<String>,
    /// The attempts; none where it could not be tried.
    pub attempts: Vec<Attempt>,
    /// Bytes of the image, and of the hypervisor in it.
    pub sizes: Option<Sizes>,
}

/// How a boot went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At the first attempt.
    Passed,
    /// At a later one.
    Flaky,
    /// At none.
    Failed,
    /// At none, as was known; why.
    Known(String),
    /// It could not be tried on this computer; why.
    Absent(String),
}

impl Verdict {
    /// A word for it; the class by which the page colours it, too.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Flaky => "flaky",
            Self::Failed => "failed",
            Self::Known(_) => "known",
            Self::Absent(_) => "absent",
        }
    }
}

/// Sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// What the image takes on a disk, without its holes.
    pub image: u64,
    /// The hypervisor's file.
    pub hypervisor: u64,
}

/// One attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Seconds to have the image.
    pub build: f64,
    /// The stages that were reached.
    pub reached: Vec<StageSeen>,
    /// What is wrong, if anything is.
    pub fault: Option<Fault>,
    /// The verdicts of dom0's self-test.
    pub self_test: Vec<SelfTest>,
    /// The console's log, relative to the folder of the report; `None` where it did not come to that.
    pub console: Option<String>,
    /// Where the console went another way than in the last boot that passed.
    pub difference: Option<Difference>,
    /// The hypervisor's log, read from the machine's memory.
    pub log: Option<Vec<String>>,
    /// What QEMU itself has said.
    pub messages: String,
}

/// A stage that was reached, with seconds since the machine's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSeen {
    /// Its name.
    pub stage: String,
    /// Of the wall.
    pub wall: f64,
    /// Of the time in which the machine could run.
    pub machine: f64,
}

/// Where a console went another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The line's number, from 1.
    pub number: usize,
    /// The line, which the other console does not have; empty where this one only ends earlier.
    pub here: String,
    /// What the other one said next.
    pub there: String,
}

impl Outcome {
    /// Why it is said to fail, where it has passed all the same.
    pub fn mended(&self) -> Option<&str> {
        self.known.as_deref().filter(|_| matches!(self.verdict, Verdict::Passed | Verdict::Flaky))
    }

    /// The last attempt.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Seconds of the machine's to its last stage, where it passed.
    pub fn machine_seconds(&self) -> Option<f64> {
        let passed = matches!(self.verdict, Verdict::Passed | Verdict::Flaky);
        self.last().filter(|_| passed)?.reached.last().map(|seen| seen.machine)
    }
}

impl Night {
    /// How many boots went so.
    pub fn count(&self, of: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| of(&outcome.verdict)).count()
    }

    /// Whether no boot failed but those that are known to, and at least one could be tried, and none was left out.
    pub fn is_well(&self) -> bool {
        let tried = self.count(|verdict| !matches!(verdict, Verdict::Absent(_)));
        tried > 0 && self.untried == 0 && self.count(|verdict| *verdict == Verdict::Failed) == 0
    }

    /// What its commit is where one that broke a boot is looked for. There a boot that is known to fail counts as one that does.
    pub fn as_step(&self) -> Step {
        let failed = self
            .outcomes
            .iter()
            .filter(|outcome| matches!(outcome.verdict, Verdict::Failed | Verdict::Known(_)));
        let faults = failed.filter_map(|outcome| Some((outcome, outcome.last()?.fault.as_ref()?)));
        let told = |(outcome, fault): (&Outcome, &Fault)| {
            let what = fault.what.lines().next().unwrap_or_default();
            format!("{}: {}", outcome.name, what.trim_start_matches("error: "))
        };
        let (mut unmade, mut bad) = (None, None);
        for (outcome, fault) in faults {
            match fault.is_unmade() {
                true => unmade = unmade.or(Some(told((outcome, fault)))),
                false => bad = bad.or(Some(told((outcome, fault)))),
            }
        }
        match (bad, unmade) {
            (Some(what), _) => Step::Bad(what),
            (None, Some(why)) => Step::Skip(why),
            (None, None) if self.is_well() => Step::Good,
            (None, None) => Step::Skip("none of its boots can be tried on this computer".to_owned()),
        }
    }

    /// The night in a sentence: `12 passed, 1 flaky, 0 failed, 1 absent`.
    pub fn summary(&self) -> String {
        let mut text = format!("{} passed", self.count(|verdict| *verdict == Verdict::Passed));
        let mut add = |word: &str, count: usize| {
            if count > 0 || word == "failed" {
                text.push_str(&format!(", {count} {word}"));
            }
        };
        add("flaky", self.count(|verdict| *verdict == Verdict::Flaky));
        add("failed", self.count(|verdict| *verdict == Verdict::Failed));
        add("known to fail", self.count(|verdict| matches!(verdict, Verdict::Known(_))));
        add("absent", self.count(|verdict| matches!(verdict, Verdict::Absent(_))));
        add("not tried", self.untried);
        text
    }
}
