//! The test plan, as a file: which boots there are, and what has to be seen in each.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use vambrace_bsp::text::{fault_at, read};
use vambrace_bsp::{Architecture, Method, Size};

use crate::boot::OWN_STAGES;
use crate::diagnosis::UNMADE;
use crate::error::{Error, Result, ResultExt};
use crate::hypervisor::HypervisorKind;
use crate::workspace::{Workspace, described};

/// The scenario that each plan has: dom0 to its shell, the self-test, power-off.
pub const DOM0: &str = "dom0";
/// Stands for every board that QEMU has.
pub const EVERY_BOARD: &str = "*";
/// Stands for the board that is generic for an architecture.
pub const GENERIC: &str = "generic";
/// The longest that a boot may be given, in seconds.
const MAX_TIMEOUT: u64 = 86_400;
/// Most attempts after the first.
const MAX_RETRIES: u32 = 5;

/// A test plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "Test plan of Vambrace")]
pub struct TestPlan {
    /// What the report is headed with.
    pub title: Option<String>,
    /// A folder of boards, relative to the plan, beside those that are there.
    pub boards: Option<PathBuf>,
    /// Added to dom0's command line in every boot.
    pub dom0_args: Option<String>,
    /// How long a boot may take, in seconds in which its machine could run; 300 unless given.
    #[serde(default = "usual_timeout")]
    pub timeout: u64,
    /// How often a boot that failed is tried again; the report shows each attempt. 0 unless given.
    #[serde(default)]
    pub retries: u32,
    /// The boots. Each is one, or as many as its lists multiply to.
    #[serde(default, rename = "boot")]
    pub boots: Vec<BootSpec>,
    /// What has to be seen behind dom0's user space, by name; `dom0` is there without being said, and adds nothing.
    #[serde(default, rename = "scenario")]
    pub scenarios: BTreeMap<String, Scenario>,
    /// The folder that paths are relative to.
    #[serde(skip)]
    dir: PathBuf,
    /// The file, for messages, and its text.
    #[serde(skip)]
    source: (String, String),
}

/// Boots: a field that is a list makes one boot of each of its values, with each of every other list's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootSpec {
    /// The boot's name. Without one it is made of what it boots: the board, and those fields that are given.
    pub name: Option<String>,
    /// The kinds of runs that it is part of, such as `quick`; it is always in a run of all. None unless given.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The board, BOARD:VARIANT, or `*` for every board that QEMU has.
    #[schemars(with = "Names")]
    pub board: OneOrMany<String>,
    /// Boards that `*` does not stand for here, since other boots have them.
    #[serde(default)]
    pub except: Vec<String>,
    /// How the board boots.
    #[schemars(with = "Option<Names>")]
    pub method: Option<OneOrMany<Method>>,
    /// The boot method whose firmware starts the image, where that is another than the one it is built for.
    #[schemars(with = "Option<Names>")]
    pub firmware: Option<OneOrMany<Method>>,
    /// `vambrace` or `xen`.
    #[schemars(with = "Option<Names>")]
    pub hypervisor: Option<OneOrMany<HypervisorKind>>,
    /// The machine's CPUs.
    #[schemars(with = "Option<Numbers>")]
    pub cpus: Option<OneOrMany<u32>>,
    /// What has to be seen: `dom0`, or one of the plan's scenarios. `dom0` unless given.
    #[schemars(with = "Option<Names>")]
    pub scenario: Option<OneOrMany<String>>,
    /// The machine's memory, such as `2G`.
    #[schemars(with = "Option<String>")]
    pub memory: Option<Size>,
    /// dom0's memory.
    #[schemars(with = "Option<String>")]
    pub dom0_memory: Option<Size>,
    /// dom0's virtual CPUs.
    pub dom0_cpus: Option<u32>,
    /// The architecture of dom0, where it is not the board's.
    #[schemars(with = "Option<String>")]
    pub dom0_architecture: Option<Architecture>,
    /// dom0's profile.
    pub profile: Option<String>,
    /// The disk layout.
    pub layout: Option<String>,
    /// The description of the image, relative to the plan.
    pub config: Option<PathBuf>,
    /// Compile the hypervisor for this board; `generic` is the one of the board's architecture.
    pub hypervisor_board: Option<String>,
    /// Use this hypervisor instead of compiling one, relative to the plan.
    pub hypervisor_file: Option<PathBuf>,
    /// Added to the hypervisor's command line.
    pub hypervisor_args: Option<String>,
    /// Added to dom0's command line.
    pub dom0_args: Option<String>,
    /// How long it may take, in place of the plan's.
    pub timeout: Option<u64>,
    /// How often it is tried again, in place of the plan's.
    pub retries: Option<u32>,
    /// Why it is known to fail. The report has it as such; when it passes, that is told as well.
    pub known: Option<String>,
}

/// What has to be seen behind dom0's user space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// The description of the image that it needs, relative to the plan, where a boot names none.
    pub config: Option<PathBuf>,
    /// dom0's profile, where a boot names none.
    pub profile: Option<String>,
    /// The stages, in their order; each begins when the one before it was reached.
    #[serde(default)]
    pub stages: Vec<StageSpec>,
}

/// One stage of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StageSpec {
    /// Its name, for the report.
    pub name: String,
    /// What is typed into dom0's shell when it begins. What it shows of what was typed must not be what is waited for:
    /// `echo up-"$?"` says `up-0`, and is not that itself.
    #[serde(rename = "type")]
    pub typed: Option<String>,
    /// What the console has to say; of several, any.
    #[schemars(with = "Names")]
    pub see: OneOrMany<String>,
    /// The guest that has to say it on the hypervisor's console, by its number; dom0 or the hypervisor unless given.
    pub guest: Option<u16>,
}

/// One value, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

/// By hand, as what is wrong with the one value would be lost otherwise.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of them")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany::Many(all))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// How the schema shows a word or a list of them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only there for its schema")]
enum Names {
    One(String),
    Many(Vec<String>),
}

/// The same of numbers.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only there for its schema")]
enum Numbers {
    One(u32),
    Many(Vec<u32>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

fn usual_timeout() -> u64 {
    300
}

impl TestPlan {
    /// Reads and checks the plan in `path`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context_at(path, || "cannot read the test plan")?;
        let mut plan = Self::parse(&path.display().to_string(), &text)?;
        plan.dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(plan)
    }

    /// Reads and checks a plan from `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut plan: Self = read(file, text).map_err(described)?;
        plan.source = (file.to_owned(), text.to_owned());
        match plan.fault() {
            None => Ok(plan),
            Some((path, message)) => Err(plan.at(&path, message)),
        }
    }

    /// What a plan can say, as a JSON Schema (draft 2020-12).
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(TestPlan).to_value()
    }

    /// The plan that boots the image that the description at `path` describes.
    ///
    /// # Errors
    ///
    /// A description with a fault, or that names no board that is known.
    pub fn of_image(path: &Path, workspace: &Workspace) -> Result<Self> {
        let config = crate::config::ImageConfig::read(path, &[])?;
        let board =
            config.board.clone().ok_or_else(|| config.at("board", "no board is named to boot it on"))?;
        let id = board.split(':').next().unwrap_or_default();
        workspace.boards().get(id).map_err(described).map_err(|error| config.blame("board", error))?;
        let boot = BootSpec {
            name: config.stem(),
            board: OneOrMany::One(board),
            config: Some(path.file_name().map(PathBuf::from).unwrap_or_default()),
            ..BootSpec::default()
        };
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let source = (path.display().to_string(), String::new());
        Ok(Self { timeout: usual_timeout(), boots: vec![boot], dir, source, ..Self::default() })
    }

    /// The file that it is from.
    pub fn file(&self) -> &str {
        &self.source.0
    }

    /// The folder that paths are relative to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An error about the field at `path`, such as `boot.0.scenario`.
    pub fn at(&self, path: &str, message: impl Into<String>) -> Error {
        let (file, text) = &self.source;
        described(Box::new(fault_at(file, text, path, message)))
    }

    /// What the file's form cannot say: the first fault, with the path of its field.
    fn fault(&self) -> Option<(String, String)> {
        if self.boots.is_empty() {
            return Some(("boot".into(), "the plan has no boot".into()));
        }
        if let Some(fault) = limits(Some(self.timeout), Some(self.retries)) {
            return Some(fault);
        }
        for (index, boot) in self.boots.iter().enumerate() {
            let at = |field: &str, message: &str| Some((format!("boot.{index}.{field}"), message.to_owned()));
            if boot.board.all().is_empty() {
                return at("board", "no board is named");
            }
            let empty = [
                ("method", boot.method.as_ref().map(|all| all.all().is_empty())),
                ("firmware", boot.firmware.as_ref().map(|all| all.all().is_empty())),
                ("hypervisor", boot.hypervisor.as_ref().map(|all| all.all().is_empty())),
                ("cpus", boot.cpus.as_ref().map(|all| all.all().is_empty())),
                ("scenario", boot.scenario.as_ref().map(|all| all.all().is_empty())),
            ];
            if let Some((field, _)) = empty.into_iter().find(|(_, empty)| *empty == Some(true)) {
                return at(field, "an empty list makes no boot");
            }
            if boot.hypervisor_file.is_some() && boot.hypervisor_board.is_some() {
                return at("hypervisor-board", "a hypervisor that is a file is compiled for no board");
            }
            if boot.name.as_deref().is_some_and(|name| !plain(name)) {
                return at("name", NO_NAME);
            }
            if let Some(kind) = boot.kinds.iter().find(|kind| !plain(kind) || *kind == "all") {
                return at("kinds", &format!("`{}` is no name of a kind", kind.escape_default()));
            }
            for name in boot.scenario.iter().flat_map(OneOrMany::all) {
                if name != DOM0 && !self.scenarios.contains_key(name) {
                    let known = self.scenarios.keys().map(String::as_str).chain([DOM0]);
                    let help = vambrace_bsp::did_you_mean(name, known);
                    return at("scenario", &format!("no scenario is called `{name}`: {help}"));
                }
            }
            if let Some((field, message)) = limits(boot.timeout, boot.retries) {
                return at(&field, &message);
            }
        }
        self.scenarios.iter().find_map(|(name, scenario)| scenario_fault(name, scenario))
    }
}

const NO_NAME: &str = "a name is 1 to 80 of a-z, A-Z, 0-9, -, _ and .";

/// Whether a report, a file and a command line take `name` as it is.
fn plain(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=80).contains(&name.len()) && name.chars().all(known) && !name.starts_with(['.', '-'])
}

fn limits(timeout: Option<u64>, retries: Option<u32>) -> Option<(String, String)> {
    if timeout.is_some_and(|timeout| !(1..=MAX_TIMEOUT).contains(&timeout)) {
        return Some(("timeout".into(), format!("a boot has 1 to {MAX_TIMEOUT} seconds")));
    }
    retries
        .is_some_and(|retries| retries > MAX_RETRIES)
        .then(|| ("retries".into(), format!("a boot is tried again {MAX_RETRIES} times at most")))
}

fn scenario_fault(name: &str, scenario: &Scenario) -> Option<(String, String)> {
    let at = |field: &str, message: String| Some((format!("scenario.{name}{field}"), message));
    if name == DOM0 || !plain(name) {
        return at("", format!("no scenario can be called `{}`", name.escape_default()));
    }
    for (index, stage) in scenario.stages.iter().enumerate() {
        let own = |field: &str, message: String| at(&format!(".stages.{index}.{field}"), message);
        if stage.name.is_empty() || stage.name.len() > 80 || stage.name.chars().any(char::is_control) {
            return own("name", "a stage's name is 1 to 80 characters of one line".into());
        }
        if OWN_STAGES.iter().chain(&UNMADE).any(|name| *name == stage.name) {
            return own(
                "name",
                format!("`{}` is what a boot has by itself: choose another name", stage.name),
            );
        }
        if scenario.stages.iter().take(index).any(|other| other.name == stage.name) {
            return own("name", format!("two stages are called `{}`", stage.name.escape_default()));
        }
        if stage.see.all().is_empty() || stage.see.all().iter().any(String::is_empty) {
            return own("see", "what is to be seen has at least one character".into());
        }
        let typed = stage.typed.iter().map(|text| ("type", text));
        let mut lines = typed.chain(stage.see.all().iter().map(|text| ("see", text)));
        if let Some((field, text)) = lines.find(|(_, text)| text.chars().any(char::is_control)) {
            return own(field, format!("`{}` is more than one line", text.escape_default()));
        }
        // The shell shows what is typed, which would pass for the answer.
        let typed = stage.typed.as_deref().unwrap_or_default();
        if let Some(seen) = stage.see.all().iter().find(|see| typed.contains(see.as_str())) {
            return own("see", format!("`{seen}` is in what is typed, which the console shows too"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        TestPlan::parse("plan.toml", text).unwrap_err().report()
    }

    #[test]
    fn a_plan_is_read_with_what_it_leaves_out() {
        let plan = TestPlan::parse(
            "plan.toml",
            "[[boot]]\nboard = \"a\"\nmethod = [\"uboot\", \"uefi\"]\ncpus = 4\nscenario = \"web\"\n\
             [[scenario.web.stages]]\nname = \"up\"\ntype = 'echo up-\"0\"'\nsee = \"up-0\"\n",
        )
        .unwrap();
        assert_eq!((plan.timeout, plan.retries), (300, 0));
        let [boot] = plan.boots.as_slice() else { panic!("one boot") };
        assert_eq!(boot.method.as_ref().unwrap().all(), [Method::Uboot, Method::Uefi]);
        assert_eq!(boot.cpus.as_ref().unwrap().all(), [4]);
        assert_eq!(plan.scenarios["web"].stages[0].see.all(), ["up-0"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_stands() {
        let boot = "[[boot]]\nboard = \"a\"\n";
        for (text, said) in [
            ("", "the plan has no boot"),
            ("[[boot]]\nboard = []\n", "no board is named"),
            ("[[boot]]\nboard = \"a\"\ncpus = []\n", "an empty list makes no boot"),
            ("[[boot]]\nboard = \"a\"\nkinds = [\"all\"]\n", "no name of a kind"),
            ("[[boot]]\nboard = \"a\"\nname = \"../x\"\n", "a name is 1 to 80"),
            ("[[boot]]\nboard = \"a\"\ntimeout = 0\n", "plan.toml:3:11"),
            ("[[boot]]\nboard = \"a\"\nretries = 6\n", "tried again 5 times at most"),
            ("[[boot]]\nboard = \"a\"\nscenario = \"wbe\"\n[scenario.web]\n", "web"),
            ("timeot = 3\n", "timeout"),
            ("[[boot]]\nboard = \"a\"\nmethod = \"ubot\"\n", "did you mean `uboot`?"),
            ("[[boot]]\nboard = \"a\"\ncpus = [1, -1]\n", "plan.toml:3:12"),
            ("[[boot]]\nboard = 3\n", "expected a string"),
            (&format!("{boot}[scenario.dom0]\n"), "no scenario can be called `dom0`"),
            (
                &format!(
                    "{boot}[[scenario.x.stages]]\nname = \"n\"\ntype = \"echo hello\"\nsee = \"hello\"\n"
                ),
                "is in what is typed",
            ),
            (&format!("{boot}[[scenario.x.stages]]\nname = \"n\"\nsee = \"\"\n"), "at least one character"),
            (
                &format!("{boot}[[scenario.x.stages]]\nname = \"machine\"\nsee = \"x\"\n"),
                "`machine` is what a boot has by itself",
            ),
            (
                &format!(
                    "{boot}[scenario.x]\nstages = [{{name = \"n\", see = \"x\"}}, {{name = \"n\", see = \"y\"}}]\n"
                ),
                "two stages are called `n`",
            ),
            (
                &format!("{boot}[[scenario.x.stages]]\nname = \"n\"\nsee = \"a\\nb\"\n"),
                "is more than one line",
            ),
        ] {
            let report = fault(text);
            assert!(report.contains(said), "{report}");
        }
    }
}
