//! The description of an image, as a file: which board, how dom0 is, how the disk is laid out, which guests.
//!
//! ```text
//!   vambrace.toml --+
//!   --set KEY=VALUE +-> ImageConfig -> Request (options of the command line go over it) -> Decision
//!                           |
//!                           +-> Dom0 -> own: what is added to dom0's root file system
//!                           +-> guests
//! ```

mod check;
pub mod dom0;
pub mod init;
mod set;

pub use dom0::Dom0;
pub use set::Setting;

use crate::error::{Error, Result, ResultExt};
use crate::guest::{Guest, Medium, SharedMemory, Start};
use crate::hypervisor::HypervisorKind;
use crate::workspace::described;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::text::{fault_at, read};
use vambrace_bsp::{Method, Size};

/// The file that describes an image where the command line names none.
pub const USUAL_FILE: &str = "vambrace.toml";

/// The description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "Image of Vambrace")]
pub struct ImageConfig {
    /// The board, or BOARD:VARIANT, where the command line names none.
    pub board: Option<String>,
    /// dom0's profile, which is the base of its root file system, where the command line names none: `debian`, `minimal`.
    pub profile: Option<String>,
    /// How the board boots: `uboot`, `uefi` or `direct`.
    #[schemars(with = "Option<String>")]
    pub method: Option<Method>,
    /// The disk layout, one of those that `vambrace show BOARD` lists.
    pub layout: Option<String>,
    /// The machine: what QEMU is started with, and what the image is planned for.
    #[serde(default)]
    pub machine: Machine,
    /// The hypervisor.
    #[serde(default)]
    pub hypervisor: Hypervisor,
    /// Firmware of your own, by the board's name for it: a file, relative to the description's folder, such as
    /// `MLO = "MLO"`. `vambrace show BOARD` lists what the board takes.
    #[serde(default)]
    pub firmware: BTreeMap<String, PathBuf>,
    /// dom0.
    #[serde(default)]
    pub dom0: Dom0,
    /// The medium.
    #[serde(default)]
    pub disk: Disk,
    /// The volume group; there is one where a guest has a volume, or where this says so.
    pub volume_group: Option<VolumeGroup>,
    /// The guests.
    #[serde(default, rename = "guest")]
    pub guests: Vec<Guest>,
    /// The folder that paths are relative to.
    #[serde(skip)]
    pub dir: PathBuf,
    /// What the command line puts over the file.
    #[serde(skip)]
    settings: Vec<Setting>,
    /// The file, for messages, and its text.
    #[serde(skip)]
    source: (String, String),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// Its memory, such as `2G`.
    #[schemars(with = "Option<String>")]
    pub memory: Option<Size>,
    /// Its CPUs.
    pub cpus: Option<u32>,
}

/// The hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hypervisor {
    /// Which one: `vambrace`, or `xen` for Debian's build of Xen.
    #[schemars(with = "Option<String>")]
    pub kind: Option<HypervisorKind>,
    /// Added to its command line.
    pub args: Option<String>,
    /// Compile it for this board instead.
    pub board: Option<String>,
    /// Use this file instead of compiling one; relative to the description's folder.
    pub file: Option<PathBuf>,
}

/// The medium.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// The size of the whole image, such as `4G`; dom0's root file system gets what the rest leaves. Without it, as much as
    /// the contents need.
    #[schemars(with = "Option<String>")]
    pub size: Option<Size>,
    /// Two slots for what boots, so that another hypervisor or kernel is tried before it is kept.
    #[serde(default)]
    pub slots: bool,
    /// Partitions of the layout, by name.
    #[serde(default, rename = "partition")]
    pub partitions: BTreeMap<String, Partition>,
}

/// A partition of the layout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Partition {
    /// Its size, such as `128M`; contents that need more are an error.
    #[schemars(with = "Option<String>")]
    pub size: Option<Size>,
    /// The room left free beyond its contents, in place of the layout's.
    #[schemars(with = "Option<String>")]
    pub free: Option<Size>,
}

/// The volume group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VolumeGroup {
    /// Its name.
    #[serde(default = "usual")]
    pub name: String,
    /// What is left free for volumes that dom0 makes.
    #[serde(default)]
    #[schemars(with = "String")]
    pub free: Size,
}

fn usual() -> String {
    "vambrace".to_owned()
}

impl ImageConfig {
    /// Reads and checks the description in `path`, with `settings` over it.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(path: &Path, settings: &[Setting]) -> Result<Self> {
        let text = fs::read_to_string(path).context_at(path, || "cannot read the image's description")?;
        let mut config = Self::with(&path.display().to_string(), &text, settings)?;
        config.dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(config)
    }

    /// Reads and checks a description from `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        Self::with(file, text, &[])
    }

    /// Reads and checks a description from `text`, which came from `file` and is empty where that is, with `settings` over it.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field, or with the setting.
    pub fn with(file: &str, text: &str, settings: &[Setting]) -> Result<Self> {
        // By itself, so that a fault of the file is told with its line.
        let mut config: Self = read(file, text).map_err(described)?;
        if !settings.is_empty() {
            config = set::over(text, settings)?;
            config.settings = settings.to_vec();
        }
        config.source = (file.to_owned(), text.to_owned());
        match check::fault(&config) {
            None => Ok(config),
            Some((path, message)) => Err(config.at(&path, message)),
        }
    }

    /// What the command line puts over the file.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The files and folders of the user's that it names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let guests = self.guests.iter().flat_map(Guest::files);
        let own = self.hypervisor.file.iter().chain(self.firmware.values()).cloned();
        let all = self.dom0.files().into_iter().chain(own).chain(guests);
        all.map(|path| self.dir.join(path)).collect()
    }

    /// An error about the field at `path`, such as `guest.0.memory`.
    pub fn at(&self, path: &str, message: impl Into<String>) -> Error {
        let (file, text) = &self.source;
        if let Some(setting) = self.settings.iter().rev().find(|setting| setting.concerns(path)) {
            return Error::new(message).at_text(setting.shown());
        }
        described(Box::new(fault_at(file, text, path, message)))
    }

    /// `error`, told of the field at `path`.
    pub fn blame(&self, path: &str, error: Error) -> Error {
        error.told_at(self.at(path, ""))
    }

    /// The file, as it was named, and its text. `None` without a file.
    pub fn source(&self) -> Option<(&str, &str)> {
        let (file, text) = &self.source;
        (!file.is_empty()).then_some((file, text))
    }

    /// The file's name without its extension, in a-z, 0-9, - and _: part of the image's name. `None` without a file.
    pub fn stem(&self) -> Option<String> {
        // A file system takes names of 255 bytes, and this one becomes part of a longer one.
        const MOST: usize = 64;
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
        let stem = Path::new(&self.source.0).file_stem()?;
        Some(stem.to_string_lossy().chars().take(MOST).map(plain).collect())
    }

    /// The volume group's name, and the bytes that are left free in it; `None` where there is none.
    pub fn volume_group(&self) -> Option<(String, u64)> {
        let wanted = self.guests.iter().flat_map(|guest| &guest.disks).any(|disk| disk.on == Medium::Volume);
        match &self.volume_group {
            Some(group) => Some((group.name.clone(), group.free.bytes())),
            None => wanted.then(|| (usual(), 0)),
        }
    }

    /// A guest that needs files in dom0's root file system, so that this has to be on the medium.
    pub fn needs_dom0(&self) -> Option<&Guest> {
        let on_file = |guest: &Guest| guest.disks.iter().any(|disk| disk.on == Medium::File);
        self.guests.iter().find(|guest| guest.start != Start::Static || on_file(guest))
    }

    /// The static guests, with their numbers among all.
    pub fn static_guests(&self) -> impl Iterator<Item = (usize, &Guest)> {
        self.guests.iter().enumerate().filter(|(_, guest)| guest.start == Start::Static)
    }

    /// The memory that static guests share, each once: its owner, the field of the owner's description, and itself.
    pub fn shared_memory(&self) -> impl Iterator<Item = (&Guest, String, &SharedMemory)> {
        self.static_guests().flat_map(|(guest, owner)| {
            let all = owner.shared_memory.iter().enumerate().filter(|(_, shared)| shared.owner);
            all.map(move |(index, shared)| (owner, format!("guest.{guest}.shared-memory.{index}"), shared))
        })
    }
}
