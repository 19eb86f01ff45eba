//! The boots of a plan, one by one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use vambrace_bsp::{Architecture, Board, Method};

use super::plan::{BootSpec, DOM0, EVERY_BOARD, GENERIC, OneOrMany, StageSpec, TestPlan};
use crate::config::ImageConfig;
use crate::decision::{Decision, Request, added};
use crate::error::{Error, Result};
use crate::hypervisor::HypervisorKind;
use crate::workspace::{Workspace, described};

/// Most boots that a plan has: lists multiply.
const MAX_CASES: usize = 2000;

/// One boot.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, which no other boot of the plan has.
    pub name: String,
    /// The kinds of runs that it is part of.
    pub kinds: Vec<String>,
    /// What is built and booted; without the folder for it.
    pub request: Request,
    /// The boot method whose firmware starts the image, where it is not the one that it is built for.
    pub starter: Option<Method>,
    /// The description of its image.
    pub config: Option<PathBuf>,
    /// The name of what has to be seen.
    pub scenario: String,
    /// What has to be seen behind dom0's user space.
    pub stages: Vec<StageSpec>,
    /// How long it may take, in seconds in which its machine could run.
    pub timeout: u64,
    /// How often it is tried again.
    pub retries: u32,
    /// Why it is known to fail.
    pub known: Option<String>,
}

impl Case {
    /// What is built and booted, with the image in the folder `out`, or where images are.
    ///
    /// # Errors
    ///
    /// What cannot be: see [`Decision::new`], and [`Decision::started_by`].
    pub fn decide(&self, workspace: &Workspace, out: Option<PathBuf>) -> Result<Decision> {
        let request = Request { out: out.or_else(|| self.request.out.clone()), ..self.request.clone() };
        let decision = Decision::new(workspace, &request)?;
        match self.starter {
            Some(method) => decision.started_by(method),
            None => Ok(decision),
        }
    }
}

/// One value of each list of a boot's.
#[derive(Clone, Copy)]
struct Choice<'a> {
    board: &'a str,
    method: Option<Method>,
    firmware: Option<Method>,
    hypervisor: Option<HypervisorKind>,
    cpus: Option<u32>,
    scenario: &'a str,
}

/// All boots of `plan`, in its order.
///
/// # Errors
///
/// A board that is not known, a description with a fault, two boots of one name, and too many of them.
pub fn cases(plan: &TestPlan, workspace: &Workspace) -> Result<Vec<Case>> {
    let (mut cases, mut names) = (Vec::new(), BTreeSet::new());
    for (index, boot) in plan.boots.iter().enumerate() {
        let blame = |field: &str, error: Error| error.told_at(plan.at(&format!("boot.{index}.{field}"), ""));
        let boards = boards(boot, workspace).map_err(|error| blame("board", error))?;
        let boards: Vec<&str> = boards.iter().map(String::as_str).collect();
        let count = boards.len().saturating_mul(products(boot));
        if count.saturating_add(cases.len()) > MAX_CASES {
            return Err(plan.at(&format!("boot.{index}"), format!("more than {MAX_CASES} boots")));
        }
        let several = boards.len() > 1;
        for choice in choices(boot, &boards) {
            let case =
                case(plan, boot, choice, several, workspace).map_err(|(field, error)| blame(field, error))?;
            if !names.insert(case.name.clone()) {
                let text = format!("two boots are called `{}`", case.name);
                return Err(blame("name", Error::new(text).help("give one of them a `name`")));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The boards that are meant, with their variants.
fn boards(boot: &BootSpec, workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in boot.board.all() {
        if name != EVERY_BOARD {
            workspace.boards().get(id(name)).map_err(described)?;
            found.push(name.clone());
            continue;
        }
        for (name, _) in workspace.boards().iter() {
            let board = workspace.boards().get(name).map_err(described)?;
            // A generic board is not another one than itself.
            let own = boot.hypervisor_board.as_deref() == Some(GENERIC) && is_generic(board);
            if board.qemu.is_some() && !boot.except.contains(&board.id) && !own {
                found.push(board.id.clone());
            }
        }
    }
    Ok(found)
}

/// The board's name without its variant.
fn id(board: &str) -> &str {
    board.split_once(':').map_or(board, |(id, _)| id)
}

fn is_generic(board: &Board) -> bool {
    board.id.starts_with("generic-")
}

/// The board that stands for all of an architecture.
fn generic(architecture: Architecture, workspace: &Workspace) -> Result<String> {
    let mut boards = workspace.boards().iter().filter_map(|(_, board)| board.as_ref().ok());
    let found = boards.find(|board| is_generic(board) && board.architecture == architecture);
    found
        .map(|board| board.id.clone())
        .ok_or_else(|| Error::new(format!("no board is generic for {}", architecture.name())))
}

/// How many boots the lists of `boot` make of each board.
fn products(boot: &BootSpec) -> usize {
    fn length<T>(list: Option<&OneOrMany<T>>) -> usize {
        list.map_or(1, |list| list.all().len())
    }
    [
        length(boot.method.as_ref()),
        length(boot.firmware.as_ref()),
        length(boot.hypervisor.as_ref()),
        length(boot.cpus.as_ref()),
        length(boot.scenario.as_ref()),
    ]
    .into_iter()
    .fold(1, usize::saturating_mul)
}

/// Each value of each list with each of the others.
fn choices<'a>(boot: &'a BootSpec, boards: &[&'a str]) -> Vec<Choice<'a>> {
    fn each<T: Copy>(list: Option<&OneOrMany<T>>) -> Vec<Option<T>> {
        list.map_or_else(|| vec![None], |list| list.all().iter().copied().map(Some).collect())
    }
    let scenarios: Vec<&str> = boot
        .scenario
        .as_ref()
        .map_or_else(|| vec![DOM0], |all| all.all().iter().map(String::as_str).collect());
    let mut all = Vec::new();
    for &board in boards {
        let firmware = each(boot.firmware.as_ref());
        let methods = each(boot.method.as_ref());
        let started =
            methods.iter().flat_map(|method| firmware.iter().map(move |firmware| (*method, *firmware)));
        for (method, firmware) in started {
            for &hypervisor in &each(boot.hypervisor.as_ref()) {
                for &cpus in &each(boot.cpus.as_ref()) {
                    let with = |&scenario| Choice { board, method, firmware, hypervisor, cpus, scenario };
                    all.extend(scenarios.iter().map(with));
                }
            }
        }
    }
    all
}

/// The boot of this choice; or the field at fault, and why.
fn case(
    plan: &TestPlan,
    boot: &BootSpec,
    choice: Choice<'_>,
    several_boards: bool,
    workspace: &Workspace,
) -> Result<Case, (&'static str, Error)> {
    let scenario = plan.scenarios.get(choice.scenario);
    let config = boot.config.as_ref().or(scenario.and_then(|scenario| scenario.config.as_ref()));
    let config = config.map(|path| plan.dir().join(path));
    let described = match &config {
        Some(path) => ImageConfig::read(path, &[]).map_err(|error| ("config", error))?,
        None => ImageConfig::default(),
    };
    let of = Request::of(described);
    let hypervisor_board = match boot.hypervisor_board.as_deref() {
        Some(GENERIC) => {
            let board = workspace.boards().get(id(choice.board)).map_err(self::described);
            let board = board.map_err(|error| ("board", error))?;
            Some(generic(board.architecture, workspace).map_err(|error| ("hypervisor-board", error))?)
        }
        other => other.map(str::to_owned),
    };
    let profile = boot.profile.clone().or_else(|| scenario.and_then(|scenario| scenario.profile.clone()));
    let request = Request {
        board: choice.board.to_owned(),
        method: choice.method.or(of.method),
        profile: profile.or(of.profile),
        layout: boot.layout.clone().or(of.layout),
        dom0_arch: boot.dom0_architecture.or(of.dom0_arch),
        dom0_mem: boot.dom0_memory.or(of.dom0_mem),
        memory: boot.memory.or(of.memory),
        cpus: choice.cpus.or(of.cpus),
        dom0_cpus: boot.dom0_cpus.or(of.dom0_cpus),
        hypervisor_args: added(of.hypervisor_args, &boot.hypervisor_args),
        dom0_args: added(added(of.dom0_args, &plan.dom0_args), &boot.dom0_args),
        kind: choice.hypervisor.unwrap_or(of.kind),
        hypervisor_file: boot
            .hypervisor_file
            .as_ref()
            .map(|file| plan.dir().join(file))
            .or(of.hypervisor_file),
        hypervisor_board: hypervisor_board.or(of.hypervisor_board),
        ..of
    };
    Ok(Case {
        name: name(boot, choice, several_boards),
        kinds: boot.kinds.clone(),
        request,
        starter: choice.firmware,
        config,
        scenario: choice.scenario.to_owned(),
        stages: scenario.map(|scenario| scenario.stages.clone()).unwrap_or_default(),
        timeout: boot.timeout.unwrap_or(plan.timeout),
        retries: boot.retries.unwrap_or(plan.retries),
        known: boot.known.clone(),
    })
}

/// The boot's name: its own with what was chosen from lists behind it, or the board and what is said of it.
fn name(boot: &BootSpec, choice: Choice<'_>, several_boards: bool) -> String {
    fn many<T>(list: Option<&OneOrMany<T>>) -> bool {
        list.is_some_and(|list| list.all().len() > 1)
    }
    let own = boot.name.is_some();
    let mut words: Vec<String> = boot.name.iter().cloned().collect();
    if several_boards || !own {
        words.push(choice.board.replace(':', "-"));
    }
    let shown = |list: bool| list || !own;
    if shown(many(boot.method.as_ref())) {
        words.extend(choice.method.map(|method| method.name().to_owned()));
    }
    if shown(many(boot.firmware.as_ref())) {
        words.extend(choice.firmware.map(|method| format!("by-{}", method.name())));
    }
    if shown(many(boot.hypervisor.as_ref())) {
        words.extend(choice.hypervisor.map(|kind| kind.traits().name.to_owned()));
    }
    if shown(many(boot.cpus.as_ref())) {
        words.extend(choice.cpus.map(|cpus| format!("{cpus}-cpus")));
    }
    if shown(many(boot.scenario.as_ref())) && (own || choice.scenario != DOM0) {
        words.push(choice.scenario.to_owned());
    }
    if !own {
        words.extend(boot.memory.map(|memory| format!("{memory}")));
        words.extend(boot.dom0_cpus.map(|cpus| format!("dom0-{cpus}-cpus")));
        words.extend(boot.dom0_architecture.map(|arch| arch.name().to_owned()));
        words.extend(boot.hypervisor_board.clone());
    }
    words.join("-")
}

/// Those of `cases` that `wanted` means: kinds, names, names with `*` in them; all of them where it is `all`.
///
/// # Errors
///
/// A word that means none of them.
pub fn chosen(cases: Vec<Case>, wanted: &[String]) -> Result<Vec<Case>> {
    let mut taken = vec![false; cases.len()];
    for word in wanted {
        let mut found = false;
        for (case, taken) in cases.iter().zip(&mut taken) {
            if word == "all" || case.kinds.contains(word) || matches(word, &case.name) {
                (found, *taken) = (true, true);
            }
        }
        if !found {
            let kinds: BTreeSet<&str> =
                cases.iter().flat_map(|case| &case.kinds).map(String::as_str).collect();
            let names = cases.iter().map(|case| case.name.as_str()).chain(kinds.iter().copied());
            return Err(Error::new(format!("no boot and no kind of boots is called `{word}`"))
                .help(vambrace_bsp::did_you_mean(word, names)));
        }
    }
    Ok(cases.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(case, _)| case).collect())
}

/// Whether `name` is what `pattern` says, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| matches(rest, name)))
}

/// The boots of a plan for a test, with what is booted in each.
#[cfg(test)]
pub(super) fn decided(text: &str) -> Vec<(Case, Decision)> {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = Workspace::open(Some(&sources), None).unwrap();
    let plan = TestPlan::parse("plan.toml", text).unwrap();
    let all = cases(&plan, &workspace).unwrap();
    let decide = |case: Case| {
        let decision = case.decide(&workspace, None).unwrap();
        (case, decision)
    };
    all.into_iter().map(decide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Workspace::open(Some(root), None).unwrap()
    }

    fn names(plan: &str) -> Vec<String> {
        let plan = TestPlan::parse("plan.toml", plan).unwrap();
        cases(&plan, &workspace()).unwrap().into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn lists_multiply_and_name_what_they_chose() {
        let plan = "[[boot]]\nboard = \"qemu-arm64:gicv3\"\nmethod = [\"uboot\", \"uefi\"]\ncpus = [1, 8]\n";
        let expected = ["uboot-1-cpus", "uboot-8-cpus", "uefi-1-cpus", "uefi-8-cpus"]
            .map(|end| format!("qemu-arm64-gicv3-{end}"));
        assert_eq!(names(plan), expected);
        let plan = "[[boot]]\nname = \"x\"\nboard = [\"qemu-arm64\", \"midway\"]\ncpus = 2\n";
        assert_eq!(names(plan), ["x-qemu-arm64", "x-midway"]);
        let plan = "[[boot]]\nname = \"x\"\nboard = \"midway\"\nhypervisor = [\"vambrace\", \"xen\"]\nscenario = \"s\"\n[scenario.s]\n";
        assert_eq!(names(plan), ["x-vambrace", "x-xen"]);
    }

    #[test]
    fn a_star_is_every_board_that_qemu_has() {
        let all = names("[[boot]]\nboard = \"*\"\n");
        for board in ["qemu-arm64", "midway", "xgene-mustang", "generic-arm64"] {
            assert!(all.iter().any(|name| name == board), "{board} of {all:?}");
        }
        assert!(!all.iter().any(|name| name == "cubieboard2"), "QEMU does not have it");
        let generic =
            names("[[boot]]\nboard = \"*\"\nexcept = [\"midway\"]\nhypervisor-board = \"generic\"\n");
        assert!(generic.iter().any(|name| name == "qemu-armv7-generic"), "{generic:?}");
        assert!(!generic.iter().any(|name| name.starts_with("midway") || name.starts_with("generic-")));
    }

    #[test]
    fn the_project_s_own_plan_has_every_board_that_qemu_has() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let plan = TestPlan::read(&root.join("ci/nightly/plan.toml")).unwrap();
        let boards = plan.boards.as_ref().map(|folder| plan.dir().join(folder));
        let workspace = Workspace::open(Some(root), boards.as_deref()).unwrap();
        let cases = cases(&plan, &workspace).unwrap();
        for (name, board) in workspace.boards().iter() {
            let wanted = board.as_ref().unwrap().qemu.is_some();
            assert_eq!(cases.iter().any(|case| id(&case.request.board) == name), wanted, "{name}");
        }
        let quick = chosen(cases.clone(), &["quick".into()]).unwrap();
        assert!((20..cases.len()).contains(&quick.len()), "{} quick boots of {}", quick.len(), cases.len());
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let said = |text: &str| {
            let plan = TestPlan::parse("plan.toml", text).unwrap();
            cases(&plan, &workspace()).unwrap_err().report()
        };
        let report = said("[[boot]]\nboard = \"qemu-arm46\"\n");
        assert!(report.contains("plan.toml:2:9") && report.contains("qemu-arm64"), "{report}");
        let twice = said("[[boot]]\nboard = \"midway\"\n[[boot]]\nboard = \"midway\"\n");
        assert!(twice.contains("two boots are called `midway`"), "{twice}");
        let cpus: Vec<String> = (1..=2001).map(|cpus| cpus.to_string()).collect();
        let many = format!("[[boot]]\nboard = \"midway\"\ncpus = [{}]\n", cpus.join(","));
        assert!(said(&many).contains("more than 2000 boots"));
    }

    #[test]
    fn runs_are_chosen_by_kind_by_name_and_by_pattern() {
        let text = "[[boot]]\nname = \"a-1\"\nkinds = [\"quick\"]\nboard = \"midway\"\n\
                    [[boot]]\nname = \"a-2\"\nboard = \"midway\"\n[[boot]]\nname = \"b\"\nboard = \"midway\"\n";
        let plan = TestPlan::parse("plan.toml", text).unwrap();
        let chosen = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(cases(&plan, &workspace()).unwrap(), &words)
                .map(|cases| cases.into_iter().map(|case| case.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&["quick"]).unwrap(), ["a-1"]);
        assert_eq!(chosen(&["b", "a-*"]).unwrap(), ["a-1", "a-2", "b"]);
        assert_eq!(chosen(&["all"]).unwrap().len(), 3);
        assert!(chosen(&["a-3"]).unwrap_err().report().contains("a-"));
        assert!(matches("*-*", "a-1") && matches("*", "") && !matches("a*b", "ba"));
    }
}
