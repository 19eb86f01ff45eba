//! Runs the boots of a plan.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::case::Case;
use super::difference::difference;
use super::image::image;
use super::lab::Lab;
use super::outcome::{Attempt, Difference, FORMAT, Host, Night, Outcome, Sizes, StageSeen, Verdict};
use super::queue::Queue;
use super::store::Store;
use crate::boot::{ConsoleUser, Watch, Watched, Writes, command, stage_names, typed, watch};
use crate::build::Built;
use crate::cache::{Cache, seconds_now};
use crate::decision::Decision;
use crate::diagnosis::Fault;
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use crate::qemu::{Starts, missing_machine, quoted};
use crate::sources::Sources;
use crate::workspace::Workspace;

/// What QEMU takes beside its machine's memory, in MiB.
const BESIDE: u64 = 256;
/// What is left to everything else, in MiB: compilers, the cache of files.
const LEFT: u64 = 1024;
/// Lines of a console that are shown where a boot failed.
const LAST: usize = 30;

/// What a run is made with.
#[derive(Debug)]
pub struct Runner<'a> {
    /// Where the sources and the boards are.
    pub workspace: &'a Workspace,
    /// Where what is found out is kept.
    pub store: &'a Store,
    /// How many boots at once; as many as this computer has CPUs where it is `None`.
    pub jobs: Option<NonZero<usize>>,
    /// The lab whose boards are booted, in place of QEMU's.
    pub lab: Option<&'a Lab>,
    /// Whether images are kept that were not at fault.
    pub keep: bool,
    /// Who is told.
    pub progress: &'a Progress,
}

/// What is particular to an attempt.
struct Tried {
    attempt: Attempt,
    sizes: Option<Sizes>,
    /// The console's lines.
    lines: Vec<String>,
}

impl Runner<'_> {
    /// Boots all of `cases`, whatever becomes of any of them. `keep` gets the night after each boot, with those so far, so
    /// that what was found out is not lost where it is broken off.
    ///
    /// # Errors
    ///
    /// What keeps all of them from being tried, or what is found out from being kept; a run that goes on in the same folder.
    pub fn run(
        &self,
        title: &str,
        cases: &[Case],
        keep: impl Fn(&Night) -> Result<()> + Sync,
    ) -> Result<Night> {
        let _lock = self.store.lock()?;
        self.store.clear()?;
        let began = seconds_now().and_then(|now| u64::try_from(now).ok()).unwrap_or(0);
        let start = Instant::now();
        let host = host();
        let jobs = self
            .jobs
            .map_or(self.lab.map_or(host.cpus, |lab| lab.places(cases)), NonZero::get)
            .min(cases.len())
            .max(1);
        let needs = cases.iter().map(|case| self.memory(case) + BESIDE);
        let queue = Queue::new(needs, available().unwrap_or(host.memory).saturating_sub(LEFT));
        let sources = Sources::of(self.workspace.root());
        let night = |outcomes: &BTreeMap<usize, Outcome>| Night {
            format: FORMAT,
            title: title.to_owned(),
            began,
            seconds: start.elapsed().as_secs_f64(),
            sources: sources.clone(),
            host: host.clone(),
            outcomes: outcomes.values().cloned().collect(),
            untried: cases.len() - outcomes.len(),
            figures: BTreeMap::new(),
        };
        let outcomes = Mutex::new(BTreeMap::new());
        let outcomes = || outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| -> Result<()> {
            let one = || -> Result<()> {
                while let Some(taken) = queue.take() {
                    let Some(case) = cases.get(taken.number) else { break };
                    // What keeps one from being tried is told of that one.
                    let outcome = self.boot(case).unwrap_or_else(|error| undecided(case, &error));
                    self.tell(&outcome);
                    let mut outcomes = outcomes();
                    outcomes.insert(taken.number, outcome);
                    keep(&night(&outcomes))?;
                }
                Ok(())
            };
            let running: Vec<_> = (0..jobs).map(|_| scope.spawn(one)).collect();
            let panicked = |_| Error::new("a boot ended in a panic of the builder");
            running.into_iter().try_for_each(|thread| thread.join().map_err(panicked)?)
        })?;
        let night = night(&outcomes());
        Ok(night)
    }

    /// The memory of the boot's machine, in MiB.
    fn memory(&self, case: &Case) -> u64 {
        if self.lab.is_some() {
            return 0;
        }
        // What keeps it from being decided is told when it is tried.
        case.decide(self.workspace, None).map_or(0, |decision| decision.memory.bytes() >> 20)
    }

    fn starts(&self) -> Starts {
        if self.lab.is_some() { Starts::Lab } else { Starts::Emulator }
    }

    /// One boot, tried as often as it may be.
    fn boot(&self, case: &Case) -> Result<Outcome> {
        let step = self.progress.step(&case.name);
        let decision = match case.decide(self.workspace, Some(self.store.image(&case.name))) {
            Ok(decision) => decision,
            Err(error) => return Ok(undecided(case, &error)),
        };
        let mut outcome = Outcome {
            name: case.name.clone(),
            board: decision.board.id.clone(),
            variant: decision.variant.as_ref().map(|(name, _)| name.clone()),
            method: decision.starter.name().to_owned(),
            hypervisor: decision.kind.traits().name.to_owned(),
            cpus: decision.cpus,
            memory: decision.memory.bytes() >> 20,
            scenario: case.scenario.clone(),
            stages: stage_names(&decision, &case.stages, self.starts()),
            verdict: Verdict::Failed,
            known: case.known.clone(),
            attempts: Vec::new(),
            sizes: None,
        };
        // A board that no QEMU has, and a QEMU that is not there, are faults; a machine that this one lacks is none.
        let missing = match self.lab {
            Some(lab) => lab.missing(case, &decision),
            None => missing_machine(decision.qemu()?)?,
        };
        if let Some(why) = missing {
            outcome.verdict = Verdict::Absent(why);
            step.note("absent");
            return Ok(outcome);
        }
        let image = self.store.image(&case.name);
        for number in 1..=case.retries as usize + 1 {
            let tried = self.attempt(case, &decision, number)?;
            outcome.sizes = tried.sizes.or(outcome.sizes);
            let well = tried.attempt.fault.is_none();
            outcome.attempts.push(tried.attempt);
            if well {
                outcome.verdict = if number == 1 { Verdict::Passed } else { Verdict::Flaky };
                // What goes wrong with either is not the boot's fault.
                let kept = self.store.keep_good(&case.name, &tried.lines);
                let removed = match self.keep {
                    true => Ok(()),
                    false => fs::remove_dir_all(&image).context_at(&image, || "cannot remove the image"),
                };
                for error in [kept, removed].into_iter().filter_map(Result::err) {
                    self.progress.line(error.report());
                }
                break;
            }
        }
        // What cannot even be made is known of nothing.
        let unmade = outcome.last().and_then(|attempt| attempt.fault.as_ref()).is_some_and(Fault::is_unmade);
        if let (Verdict::Failed, Some(why), false) = (&outcome.verdict, &case.known, unmade) {
            outcome.verdict = Verdict::Known(why.clone());
        }
        step.note(outcome.verdict.word());
        Ok(outcome)
    }

    /// One attempt of a boot. What goes wrong with it is part of the result.
    fn attempt(&self, case: &Case, decision: &Decision, number: usize) -> Result<Tried> {
        let began = Instant::now();
        let built = image(self.workspace, case, decision, &[]);
        let build = began.elapsed().as_secs_f64();
        let mut attempt = Attempt { build, ..Attempt::default() };
        let console = self.store.console(&case.name, number);
        let log = self.store.dir().join(&console);
        let watched = match &built {
            Ok((cache, built)) => self.watch(case, decision, cache, built, &log),
            Err(error) => {
                let stage = Some("image".to_owned());
                attempt.fault = Some(Fault { stage, what: error.report(), advice: Vec::new() });
                return Ok(Tried { attempt, sizes: None, lines: Vec::new() });
            }
        };
        let sizes = built.ok().and_then(|(_, built)| sizes(&built).ok());
        let Watched { report, fault, verdicts } = match watched {
            Ok(watched) => watched,
            Err(error) => {
                let stage = Some("machine".to_owned());
                attempt.fault = Some(Fault { stage, what: error.report(), advice: Vec::new() });
                return Ok(Tried { attempt, sizes, lines: Vec::new() });
            }
        };
        attempt.console = Some(console);
        attempt.reached = report
            .reached
            .iter()
            .map(|reached| StageSeen {
                stage: reached.stage.clone(),
                wall: reached.wall.as_secs_f64(),
                machine: reached.machine.as_secs_f64(),
            })
            .collect();
        if fault.is_some() {
            let typed = typed(decision, &case.stages);
            attempt.difference =
                self.store.good(&case.name).and_then(|good| difference(&report.lines, &good, &typed));
        }
        attempt.fault = fault;
        attempt.self_test = verdicts;
        attempt.log = report.log;
        attempt.messages = report.messages;
        Ok(Tried { attempt, sizes, lines: report.lines })
    }

    fn watch(
        &self,
        case: &Case,
        decision: &Decision,
        cache: &Cache,
        built: &Built,
        log: &Path,
    ) -> Result<Watched> {
        let quiet = Progress::quiet();
        let (user, writes) = (ConsoleUser::Program, Writes::Forgotten);
        let command = match self.lab {
            Some(lab) => lab.command(case, decision, &built.image),
            None => command(self.workspace, decision, cache, built, user, writes, &[], &quiet)?,
        };
        let timeout = Duration::from_secs(case.timeout);
        watch(decision, &command, &Watch { scenario: &case.stages, timeout, log, echo: false }, &quiet)
    }

    /// Says in a line how a boot went; and where it failed, why.
    fn tell(&self, outcome: &Outcome) {
        let seconds = outcome.last().and_then(|attempt| attempt.reached.last()).map_or(0.0, |seen| seen.wall);
        let word = match &outcome.verdict {
            Verdict::Failed => "FAILED",
            verdict => verdict.word(),
        };
        let mut text = format!("{word:<7} {:<36} {seconds:>6.1} s", outcome.name);
        match &outcome.verdict {
            Verdict::Absent(why) | Verdict::Known(why) => text.push_str(&format!("  {why}")),
            Verdict::Passed | Verdict::Flaky | Verdict::Failed => {}
        }
        if let Some(why) = outcome.mended() {
            text.push_str(&format!("\n  the plan says that it fails, `known`: {why}"));
        }
        for (number, attempt) in (1..).zip(&outcome.attempts) {
            let Some(fault) = &attempt.fault else { continue };
            if outcome.verdict != Verdict::Failed && outcome.verdict != Verdict::Flaky {
                continue;
            }
            text.push_str(&format!("\n  attempt {number}: {}", fault.what.replace('\n', "\n  ")));
            for advice in &fault.advice {
                text.push_str(&format!("\n    help: {advice}"));
            }
            if let Some(Difference { number, here, there }) = &attempt.difference {
                text.push_str(&format!("\n    line {number} is new: {here}\n    where there was: {there}"));
            }
            if let Some(log) = &attempt.log {
                text.push_str(&format!("\n  the hypervisor's log in memory:\n{}", quoted(log, LAST)));
            }
            if let Some(console) = &attempt.console
                && let Ok(all) = self.store.console_text(console)
            {
                let lines: Vec<&str> = all.lines().map(str::trim_end).collect();
                text.push_str(&format!(
                    "\n{}\n  all of it: {}",
                    quoted(&lines, LAST),
                    self.store.dir().join(console).display()
                ));
            }
        }
        self.progress.line(text);
    }
}

/// A boot that cannot even be decided.
fn undecided(case: &Case, error: &Error) -> Outcome {
    let fault = Fault { stage: Some("plan".to_owned()), what: error.report(), advice: Vec::new() };
    Outcome {
        name: case.name.clone(),
        board: case.request.board.clone(),
        variant: None,
        method: case.request.method.map(|method| method.name().to_owned()).unwrap_or_default(),
        hypervisor: case.request.kind.traits().name.to_owned(),
        cpus: case.request.cpus.unwrap_or(0),
        memory: 0,
        scenario: case.scenario.clone(),
        stages: Vec::new(),
        verdict: Verdict::Failed,
        known: case.known.clone(),
        attempts: vec![Attempt { fault: Some(fault), ..Attempt::default() }],
        sizes: None,
    }
}

fn sizes(built: &Built) -> Result<Sizes> {
    let meta = fs::metadata(&built.image).context_at(&built.image, || "cannot look at the image")?;
    let hypervisor =
        built.manifest.plan.pointer("/artifacts/hypervisor/size").and_then(serde_json::Value::as_u64);
    Ok(Sizes { image: meta.blocks().saturating_mul(512), hypervisor: hypervisor.unwrap_or(0) })
}

fn host() -> Host {
    let output = Command::new("qemu-system-aarch64").arg("--version").stderr(Stdio::null()).output();
    let qemu = output.ok().filter(|output| output.status.success());
    let first = |text: String| text.lines().next().map(str::to_owned);
    Host {
        cpus: std::thread::available_parallelism().map_or(1, NonZero::get),
        memory: meminfo("MemTotal:").unwrap_or(0),
        qemu: qemu.and_then(|output| first(String::from_utf8_lossy(&output.stdout).into_owned())),
    }
}

/// MiB that can be had without pushing anything out.
fn available() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// The field of /proc/meminfo (proc_meminfo(5)), in MiB.
fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}
