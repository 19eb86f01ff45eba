//! The description of an image, as a file: which board, which root file system, which guests.

use super::check::fault;
use super::{Guest, Medium, SharedMemory, Start};
use crate::error::{Result, ResultExt};
use crate::workspace::described;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::Size;
use vambrace_bsp::text::{fault_at, read};

/// The description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageConfig {
    /// The board, or BOARD:VARIANT, where the command line names none.
    pub board: Option<String>,
    /// dom0's root file system, where the command line names none.
    pub profile: Option<String>,
    /// The volume group; there is one where a guest has a volume, or where this says so.
    pub volume_group: Option<VolumeGroup>,
    /// The guests.
    #[serde(default, rename = "guest")]
    pub guests: Vec<Guest>,
    /// The folder that paths are relative to.
    #[serde(skip)]
    pub dir: PathBuf,
    /// The file, for messages, and its text.
    #[serde(skip)]
    source: (String, String),
}

/// The volume group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VolumeGroup {
    /// Its name.
    #[serde(default = "usual")]
    pub name: String,
    /// What is left free for volumes that dom0 makes.
    #[serde(default)]
    pub free: Size,
}

fn usual() -> String {
    "vambrace".to_owned()
}

impl ImageConfig {
    /// Reads and checks the description in `path`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context_at(path, || "cannot read the image's description")?;
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        config.dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(config)
    }

    /// Reads and checks a description from `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut config: Self = read(file, text).map_err(described)?;
        config.source = (file.to_owned(), text.to_owned());
        match fault(&config) {
            None => Ok(config),
            Some((path, message)) => Err(config.at(&path, message)),
        }
    }

    /// An error about the field at `path`, such as `guest.0.memory`.
    pub fn at(&self, path: &str, message: impl Into<String>) -> crate::error::Error {
        let (file, text) = &self.source;
        described(Box::new(fault_at(file, text, path, message)))
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
