//! The boots of a plan on real boards: those of a lab that labgrid runs.
//!
//! ```text
//!   case --> the tags that its place must have --> place.py: acquire, power off, write, power on --> serial line
//!                                                       ^                                              |
//!                             coordinator, exporters ---+          follow: stages, verdicts, report <--+
//! ```
//!
//! Labgrid has the boards already: its coordinator says who has which, its exporters have their serial lines, power
//! switches and cards. A program with its interface, `place.py`, makes of a place what QEMU is with `-serial stdio`, so
//! that stages, verdicts and the report are the same. A reservation finds the place: labgrid's own queue, in which we wait
//! like anybody else. It asks for tags, since a lab's places have names of its own.

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

pub(super) use config::to_complete;
pub use config::write_config;

use super::case::Case;
use crate::decision::Decision;
use crate::error::{Error, Result, ResultExt};
use crate::qemu::{QemuCommand, Starts};

/// The program that talks to labgrid.
const PROGRAM: &str = include_str!("place.py");
/// The speed of a serial line of which the board's description says nothing, in bits per second.
pub(super) const USUAL_BAUD: u32 = 115_200;
/// The Python that is asked unless another is named.
pub const USUAL_PYTHON: &str = "python3";

/// A place, as the coordinator has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Place {
    name: String,
    tags: BTreeMap<String, String>,
}

/// A lab.
#[derive(Debug)]
pub struct Lab {
    /// The coordinator's address, as labgrid takes it.
    coordinator: String,
    /// The Python that has labgrid.
    python: PathBuf,
    /// Where environments may be, by board.
    environments: Option<PathBuf>,
    places: Vec<Place>,
    program: Program,
}

/// `place.py`, in a folder that is nobody else's: Python looks for modules beside the program first.
#[derive(Debug)]
struct Program {
    dir: TempDir,
}

impl Program {
    fn new() -> Result<Self> {
        let failed = || "cannot make a file for the program that talks to labgrid";
        let program = Self { dir: tempfile::tempdir().context(failed)? };
        fs::write(program.path(), PROGRAM).context(failed)?;
        Ok(program)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("place.py")
    }
}

impl Lab {
    /// The lab of the coordinator at HOST:PORT, by the labgrid of this `python`. A file BOARD.yaml in `environments` says
    /// which drivers a board's place has; without it they are those that its resources take.
    ///
    /// # Errors
    ///
    /// A Python that is not there or has no labgrid, and a coordinator that does not answer.
    pub fn open(coordinator: &str, python: &Path, environments: Option<&Path>) -> Result<Self> {
        let program = Program::new()?;
        let asked = Command::new(python)
            .arg(program.path())
            .args(["places", coordinator])
            .stdin(Stdio::null())
            .output()
            .context(|| format!("cannot start {}", python.display()))?;
        if !asked.status.success() {
            let said = String::from_utf8_lossy(&asked.stderr);
            let what = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
            return Err(Error::new(format!("cannot use the lab of {coordinator}"))
                .because(Error::new(what))
                .help(
                    "`python3 -m venv DIR && DIR/bin/pip install labgrid` makes a Python that has labgrid: \
                 --labgrid-python DIR/bin/python",
                ));
        }
        let places = places(&asked.stdout)?;
        let environments = environments.map(Path::to_path_buf);
        Ok(Self {
            coordinator: coordinator.to_owned(),
            python: python.to_path_buf(),
            environments,
            places,
            program,
        })
    }

    /// How many of its places have one of these boards: so many boots can be at once.
    pub(super) fn places(&self, cases: &[Case]) -> usize {
        let board = |case: &Case| case.request.board.split(':').next().unwrap_or_default().to_owned();
        let wanted: BTreeSet<String> = cases.iter().map(board).collect();
        let has = |place: &&Place| place.tags.get("board").is_some_and(|board| wanted.contains(board));
        self.places.iter().filter(has).count()
    }

    /// Why this lab has no board for the boot, if it has none.
    pub(super) fn missing(&self, case: &Case, decision: &Decision) -> Option<String> {
        let tags = tags(case, decision);
        let has = |place: &Place| tags.iter().all(|(key, value)| place.tags.get(*key) == Some(value));
        (!self.places.iter().any(has))
            .then(|| format!("no place of {} has the tags {}", self.coordinator, told(&tags, " ")))
    }

    /// The command that boots `image` on a place for the boot, with its console on standard input and output.
    pub(super) fn command(&self, case: &Case, decision: &Decision, image: &Path) -> QemuCommand {
        let mut args =
            vec![self.program.path().display().to_string(), "console".to_owned(), self.coordinator.clone()];
        let own = |folder: &PathBuf| folder.join(format!("{}.yaml", decision.board.id));
        if let Some(environment) = self.environments.as_ref().map(own).filter(|path| path.exists()) {
            args.extend(["--env".to_owned(), environment.display().to_string()]);
        }
        args.extend(["--image".to_owned(), image.display().to_string()]);
        for (key, value) in tags(case, decision) {
            args.extend(["--tag".to_owned(), format!("{key}={value}")]);
        }
        let binary = self.python.display().to_string();
        QemuCommand { binary, args, preload: None, starts: Starts::Lab }
    }
}

/// The tags that a place must have for the boot: the board; the firmware and the variant where there are several; and
/// of CPUs and memory, which a board has as it has them, what the plan asks for.
pub(super) fn tags(case: &Case, decision: &Decision) -> Vec<(&'static str, String)> {
    let mut tags = board_tags(decision);
    tags.extend(case.request.cpus.map(|cpus| ("cpus", cpus.to_string())));
    tags.extend(case.request.memory.map(|memory| ("memory", memory.to_string())));
    tags
}

/// Those of them that are the board's.
fn board_tags(decision: &Decision) -> Vec<(&'static str, String)> {
    let mut tags = vec![("board", decision.board.id.clone())];
    if decision.board.boot.len() > 1 {
        tags.push(("method", decision.starter.name().to_owned()));
    }
    tags.extend(decision.variant.iter().map(|(name, _)| ("variant", name.clone())));
    tags
}

/// Tags as labgrid writes them.
fn told(tags: &[(&str, String)], between: &str) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(between)
}

/// The places that the program has told.
fn places(json: &[u8]) -> Result<Vec<Place>> {
    serde_json::from_slice(json).context(|| "cannot understand what labgrid says of its places")
}

#[cfg(test)]
mod tests {
    use super::super::case::decided;
    use super::*;
    use crate::progress::Progress;

    fn lab(places: &str) -> Lab {
        Lab {
            coordinator: "lab:1".into(),
            python: "python3".into(),
            environments: None,
            places: super::places(places.as_bytes()).unwrap(),
            program: Program::new().unwrap(),
        }
    }

    #[test]
    fn a_place_has_the_board_and_what_the_plan_asks_for() {
        let plan = "[[boot]]\nboard = \"pine64-plus\"\nmemory = \"2G\"\n[[boot]]\nboard = \"qemu-arm64:gicv3\"\ncpus = 8\n";
        let [(pine, one), (virt, two)] = &decided(plan)[..] else { panic!("two boots") };
        assert_eq!(told(&tags(pine, one), " "), "board=pine64-plus memory=2G");
        assert_eq!(told(&tags(virt, two), " "), "board=qemu-arm64 method=uboot variant=gicv3 cpus=8");
        let lab = lab(
            r#"[{"name": "p", "tags": {"board": "pine64-plus", "memory": "2G", "x": "y"}, "acquired": null},
                          {"name": "q", "tags": {"board": "qemu-arm64", "method": "uboot", "variant": "gicv3"}}]"#,
        );
        assert_eq!(lab.missing(pine, one), None);
        let why = lab.missing(virt, two).unwrap();
        assert!(why.ends_with("board=qemu-arm64 method=uboot variant=gicv3 cpus=8"), "{why}");
        let command = lab.command(pine, one, Path::new("/i/pine.img"));
        assert!(
            command
                .args
                .join(" ")
                .ends_with("console lab:1 --image /i/pine.img --tag board=pine64-plus --tag memory=2G")
        );
        assert!(super::places(b"{}").is_err());
    }

    #[test]
    fn each_board_of_a_plan_has_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let all = decided("[[boot]]\nboard = [\"pine64-plus\", \"qemu-arm64\", \"qemu-arm64:gicv3\"]\n");
        let decisions = || all.iter().map(|(_, decision)| decision);
        write_config(dir.path(), decisions(), &Progress::quiet()).unwrap();
        // Somebody has completed one.
        std::fs::write(
            dir.path().join("pine64-plus.yaml"),
            "mine\n      RemotePlace:\n        name: pine64-plus\n",
        )
        .unwrap();
        write_config(dir.path(), decisions(), &Progress::quiet()).unwrap();
        assert!(std::fs::read_to_string(dir.path().join("pine64-plus.yaml")).unwrap().starts_with("mine"));
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text("pine64-plus.yaml").contains("\n      RemotePlace:\n        name: pine64-plus\n"));
        assert!(text("exporter.yaml").contains("\npine64-plus:\n  USBSerialPort:\n"));
        assert!(text("exporter.yaml").contains("    speed: 115200\n"));
        let places = text("places.sh");
        assert!(
            places
                .contains("-p qemu-arm64-uboot-gicv3 set-tags board=qemu-arm64 method=uboot variant=gicv3\n")
        );
        assert_eq!(places.matches(" create\n").count(), 3);
    }
}
