//! `vambrace test`.

use super::print;
use crate::config::{ImageConfig, USUAL_FILE};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::nightly::bisect::{Step, bisect};
use crate::nightly::case::{Case, cases, chosen};
use crate::nightly::figures;
use crate::nightly::lab::{Lab, USUAL_PYTHON, write_config};
use crate::nightly::lava::{Visibility, write_jobs};
use crate::nightly::outcome::Night;
use crate::nightly::plan::TestPlan;
use crate::nightly::report;
use crate::nightly::runner::Runner;
use crate::nightly::store::Store;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::Args;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The plan of this folder.
const USUAL_PLAN: &str = "test-plan.toml";
/// The plan of the sources.
const OWN_PLAN: &str = "ci/nightly/plan.toml";

/// Behind the help of `test`.
const EXAMPLE: &str = "\
Examples:
  vambrace test --filter quick                what runs on every submission
  vambrace test --filter 'uboot-*' --jobs 4   the boots of these names, four at a time
  vambrace test my-plan.toml --retries 1      all of a plan of your own; what needed a second attempt is told

The folder of --out has report.html, report.md, report.json, junit.xml, and the consoles of all boots.";

/// What is asked for.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Test {
    /// The plan, or an image's description [default: test-plan.toml of this folder; else the image of vambrace.toml in it; else the plan of the sources]
    plan: Option<PathBuf>,
    /// Run the boots of this name, this kind, or this pattern (`uefi-*`); may be given several times [default: all]
    #[arg(long, value_name = "WORD", help_heading = "Run")]
    filter: Vec<String>,
    /// Of the boots that are chosen, run every Nth from the Ith on: for a CI that runs them on several computers
    #[arg(long, value_name = "I/N", value_parser = Shard::parse, help_heading = "Run")]
    shard: Option<Shard>,
    /// List the boots, and run none
    #[arg(long, help_heading = "Run")]
    list: bool,
    /// Write the report of the last night in the folder of --out again, and run none
    #[arg(long, help_heading = "Run")]
    #[arg(conflicts_with_all = ["list", "filter", "plan", "shard", "jobs", "retries", "timeout", "keep", "figures", "labgrid"])]
    report_only: bool,
    /// How many boots at once [default: as many as this computer has CPUs, or the lab has of these boards], as far as there is memory
    #[arg(long, value_name = "N", help_heading = "Run")]
    jobs: Option<NonZero<usize>>,
    /// How often a boot that failed is tried again, in place of what the plan says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=5), help_heading = "Run")]
    retries: Option<u32>,
    /// How long a boot may take, in place of what the plan says: seconds in which the machine could run
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Run")]
    timeout: Option<u64>,
    /// Keep all images, not only those of boots that failed
    #[arg(long, help_heading = "Output")]
    keep: bool,
    /// Add the numbers of this file, a JSON object, to the night; may be given several times
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    figures: Vec<PathBuf>,
    /// Find the commit behind GOOD, up to BAD, that broke a boot of those that are chosen; sources and their boards are those of
    /// each commit, builder, plan and the plan's own boards are these
    #[arg(long, num_args = 2, value_names = ["GOOD", "BAD"], help_heading = "Run")]
    #[arg(conflicts_with_all = ["list", "figures", "keep", "report_only"])]
    bisect: Vec<String>,
    /// Boot the boards of the lab that this labgrid coordinator has, in place of QEMU's machines
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "bisect", help_heading = "Boards")]
    labgrid: Option<String>,
    /// The Python that has labgrid
    #[arg(long, value_name = "FILE", env = "VAMBRACE_LABGRID_PYTHON", default_value = USUAL_PYTHON, help_heading = "Boards")]
    labgrid_python: PathBuf,
    /// Take the drivers of a board's place from BOARD.yaml in this folder, where it is there [default: those that the place's
    /// resources take]
    #[arg(long, value_name = "DIR", requires = "labgrid", help_heading = "Boards")]
    labgrid_env: Option<PathBuf>,
    /// Write what labgrid has to be told of the boards into this folder, and run nothing
    #[arg(long, value_name = "DIR", help_heading = "Boards")]
    #[arg(conflicts_with_all = ["list", "labgrid", "bisect", "report_only", "jobs", "retries", "timeout", "keep", "figures"])]
    labgrid_config: Option<PathBuf>,
    /// Build the images into this folder with a job of LAVA's for each and what LAVA has to be told of the boards, and run nothing
    #[arg(long, value_name = "DIR", help_heading = "Boards")]
    #[arg(conflicts_with_all = ["list", "labgrid", "labgrid_config", "bisect", "report_only", "jobs", "retries", "keep", "figures"])]
    lava: Option<PathBuf>,
    /// Where LAVA's dispatchers find that folder [default: under its own path]
    #[arg(long, value_name = "URL", requires = "lava", help_heading = "Boards")]
    lava_url: Option<String>,
    /// Who sees these jobs, their logs and results
    #[arg(long, value_name = "WHO", requires = "lava", default_value = "personal", help_heading = "Boards")]
    lava_visibility: Visibility,
    /// The folder for the report and the nights before
    #[arg(long, value_name = "DIR", default_value = "out/tests", help_heading = "Output")]
    out: PathBuf,
}

/// A share of the boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    /// Which, from 0.
    index: usize,
    of: NonZero<usize>,
}

impl Shard {
    /// I/N, with I from 1.
    fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let (index, of) = text.split_once('/')?;
            let of: NonZero<usize> = of.parse().ok()?;
            let index = index.parse::<usize>().ok()?.checked_sub(1).filter(|index| *index < of.get())?;
            Some(Self { index, of })
        };
        read().ok_or_else(|| "a share is I/N, with I from 1 to N: 1/3".to_owned())
    }

    /// Neighbours in a plan take as long as each other, so that each share gets every Nth.
    fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.index).step_by(self.of.get()).collect()
    }
}

/// Opens the sources, with a folder of boards that a plan names.
type Open<'a> = dyn Fn(Option<&Path>) -> Result<Workspace> + 'a;

pub(super) fn run(open: &Open<'_>, command: &Test, progress: &Progress) -> Result<ExitCode> {
    if command.report_only {
        if !command.out.is_dir() {
            return Err(Error::new("there is no folder with nights").at(&command.out));
        }
        let store = Store::open(&command.out)?;
        let nights = store.nights()?;
        let last = nights.last().ok_or_else(|| Error::new("no night is kept here").at(store.dir()))?;
        return tell(&store, last);
    }
    let plan = plan(&open(None)?, command.plan.as_deref())?;
    let boards = plan.boards.as_ref().map(|folder| plan.dir().join(folder));
    let workspace = &open(boards.as_deref())?;
    if let [good, bad] = command.bisect.as_slice() {
        return search(workspace, command, &plan, (good, bad), progress);
    }
    let cases = wanted(command, &plan, workspace)?;
    if let (true, Some(shard)) = (cases.is_empty(), command.shard) {
        let text = format!("no boot falls to share {}/{}\n", shard.index + 1, shard.of);
        return print(&text).map(|()| ExitCode::SUCCESS);
    }
    if command.list {
        // A boot that cannot be made is none that can be listed.
        decided(workspace, &cases)?;
        return print(&listed(&cases)).map(|()| ExitCode::SUCCESS);
    }
    if let Some(folder) = &command.labgrid_config {
        let decisions = decided(workspace, &cases)?;
        write_config(folder, decisions.iter().map(|(_, decision)| decision), progress)?;
        return print(&format!("for labgrid: {}\n", folder.display())).map(|()| ExitCode::SUCCESS);
    }
    if let Some(folder) = &command.lava {
        let (url, visibility) = (command.lava_url.as_deref(), command.lava_visibility);
        write_jobs(workspace, &cases, folder, url, visibility, progress)?;
        return print(&format!("for LAVA: {}\n", folder.display())).map(|()| ExitCode::SUCCESS);
    }
    let environments = command.labgrid_env.as_deref();
    let open = |coordinator: &String| Lab::open(coordinator, &command.labgrid_python, environments);
    let lab = command.labgrid.as_ref().map(open).transpose()?;
    let mut measured = figures::Figures::new();
    for path in &command.figures {
        figures::read(path, &mut measured)?;
    }
    let store = Store::open(&command.out)?;
    let runner = Runner {
        workspace,
        store: &store,
        jobs: command.jobs,
        lab: lab.as_ref(),
        keep: command.keep,
        progress,
    };
    let title = plan.title.as_deref().unwrap_or("Vambrace");
    let mut night = runner.run(title, &cases, |night| store.keep(night))?;
    night.figures = measured;
    store.keep(&night)?;
    tell(&store, &night)
}

/// Writes the report of the last night in `store`, and says in a line how it went.
fn tell(store: &Store, night: &Night) -> Result<ExitCode> {
    let page = report::write(store, night)?;
    print(&format!("\n{}\nreport: {}\n", night.summary(), page.display()))?;
    Ok(if night.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The boots of `plan` that the command asks for.
fn wanted(command: &Test, plan: &TestPlan, workspace: &Workspace) -> Result<Vec<Case>> {
    let mut cases = cases(plan, workspace)?;
    if !command.filter.is_empty() {
        let of = || format!("in {}", plan.file());
        cases = chosen(cases, &command.filter).map_err(|error| error.context(of()))?;
    }
    if let Some(shard) = command.shard {
        cases = shard.of(cases);
    }
    for case in &mut cases {
        case.timeout = command.timeout.unwrap_or(case.timeout);
        case.retries = command.retries.unwrap_or(case.retries);
    }
    Ok(cases)
}

/// What is booted in each of `cases`.
fn decided<'a>(workspace: &Workspace, cases: &'a [Case]) -> Result<Vec<(&'a Case, Decision)>> {
    let one = |case: &'a Case| {
        let failed = |error: Error| error.context(format!("the boot `{}`", case.name));
        Ok((case, case.decide(workspace, None).map_err(failed)?))
    };
    cases.iter().map(one).collect()
}

/// Looks for the commit that broke a boot.
fn search(
    workspace: &Workspace,
    command: &Test,
    plan: &TestPlan,
    ends: (&str, &str),
    progress: &Progress,
) -> Result<ExitCode> {
    let boards = plan.boards.as_ref().map(|folder| plan.dir().join(folder));
    let boards = boards.as_deref().or(workspace.boards_dir());
    let store = Store::open(&command.out.join("bisect"))?;
    let step = |sources: &Path| -> Result<Step> {
        // What an old commit's descriptions do not have yet keeps it from being tried.
        let opened = Workspace::open(Some(sources), boards)
            .and_then(|workspace| Ok((wanted(command, plan, &workspace)?, workspace)));
        let (cases, workspace) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Step::Skip(error.what().to_owned())),
        };
        let runner = Runner {
            workspace: &workspace,
            store: &store,
            jobs: command.jobs,
            lab: None,
            keep: false,
            progress,
        };
        Ok(runner.run("bisect", &cases, |_| Ok(()))?.as_step())
    };
    let found = bisect(workspace.root(), ends, progress, step)?;
    print(&found.told()).map(|()| ExitCode::SUCCESS)
}

/// The plan that is named, or the one that is meant.
fn plan(workspace: &Workspace, named: Option<&Path>) -> Result<TestPlan> {
    if let Some(named) = named {
        // Or the description of an image, which is booted as it is.
        let described = |error| match ImageConfig::read(named, &[]) {
            Ok(_) => TestPlan::of_image(named, workspace),
            Err(_) => Err(error),
        };
        return TestPlan::read(named).or_else(described);
    }
    if Path::new(USUAL_PLAN).is_file() {
        return TestPlan::read(Path::new(USUAL_PLAN));
    }
    if Path::new(USUAL_FILE).is_file() {
        return TestPlan::of_image(Path::new(USUAL_FILE), workspace);
    }
    let own = workspace.root().join(OWN_PLAN);
    if own.is_file() {
        return TestPlan::read(&own);
    }
    Err(Error::new("there is no test plan").help(format!(
        "name one, or write {USUAL_PLAN}: `[[boot]]` and `board = \"qemu-arm64\"` are enough to begin with"
    )))
}

/// The boots, a line each.
fn listed(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let board = &case.request.board;
        let kind = case.request.kind.traits().name;
        text.push_str(&format!(
            "{:<36} {board:<20} {kind:<9} {:<14} {}\n",
            case.name,
            case.scenario,
            case.kinds.join(" ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_s_description_is_a_plan_of_one_boot() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::open(Some(&sources), None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            let path = dir.path().join("gateway.toml");
            std::fs::write(&path, text).unwrap();
            plan(&workspace, Some(&path)).map_err(|error| error.report())
        };
        assert_eq!(of("board = \"qemu-arm64\"\n").unwrap().boots.len(), 1);
        assert_eq!(
            of("[[boot]]\nboard = \"qemu-arm64\"\n[[boot]]\nboard = \"pine64-plus\"\n").unwrap().boots.len(),
            2
        );
        let said = of("[[boot]]\nbord = \"qemu-arm64\"\n").unwrap_err();
        assert!(said.contains("did you mean `board`?"), "{said}");
    }

    #[test]
    fn shares_are_all_of_it_and_nothing_twice() {
        let mut all: Vec<u32> = (1..=3)
            .flat_map(|index| Shard::parse(&format!("{index}/3")).unwrap().of((0..10).collect()))
            .collect();
        assert_eq!(&all[..4], [0, 3, 6, 9]);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/3/5", "-1/3"] {
            assert!(Shard::parse(text).is_err(), "{text}");
        }
    }
}
