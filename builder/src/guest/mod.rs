//! Guests that an image brings along: typed descriptions, out of which come partitions and volumes, xl's files in dom0,
//! and device-tree nodes for those that the hypervisor starts by itself.
//!
//! ```text
//!                        +-> layout: a partition for a disk, one for all volumes
//!   image.toml -> Guest -+-> xl: /etc/xen/NAME.cfg in dom0, disks in files, kernels
//!                        +-> nodes: `xen,domain` nodes and modules, for `start = "static"`
//! ```

pub mod layout;
pub mod nodes;
pub mod xl;

mod check;

mod make;
mod partial;
mod qcow2;
mod shared;

pub(crate) use check::fault;
pub use make::{GuestArtifacts, GuestDiskArtifact, GuestParts, Guests};
pub(crate) use make::{content, volume_group};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use vambrace_bsp::{Architecture, Size};

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guest {
    /// Its name: lower-case letters, digits, `-` and `_`, beginning with a letter; at most 32.
    pub name: String,
    /// When it is started, and by whom.
    #[serde(default)]
    pub start: Start,
    /// The architecture of its kernel and root file systems, where it is not dom0's.
    #[schemars(with = "Option<String>")]
    pub architecture: Option<Architecture>,
    /// Its kernel: a path relative to the description's folder, or `debian` for the package that its root file system's
    /// profile names, which is dom0's own where both are of one release.
    #[serde(default)]
    #[schemars(with = "String")]
    pub kernel: Module,
    /// Its RAM disk: a path, `debian` for the builder's small one, or `none`. With a kernel of its own the guest has none
    /// unless one is named.
    #[schemars(with = "Option<String>")]
    pub ramdisk: Option<Module>,
    /// Its memory.
    #[schemars(with = "String")]
    pub memory: Size,
    /// Its virtual CPUs.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Its kernel's command line.
    #[serde(default = "hvc0")]
    pub args: String,
    /// Whether it has a virtual PL011.
    #[serde(default)]
    pub vuart: bool,
    /// Its disks, in the order in which it finds them.
    #[serde(default, rename = "disk")]
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    #[serde(default, rename = "network")]
    pub networks: Vec<Network>,
    /// Event channels that are there from the start, for `start = "static"`.
    #[serde(default, rename = "event-channel")]
    pub event_channels: Vec<EventChannel>,
    /// Memory that it shares with other guests from the start, for `start = "static"`.
    #[serde(default, rename = "shared-memory")]
    pub shared_memory: Vec<SharedMemory>,
    /// Devices of the machine that it has.
    pub passthrough: Option<Passthrough>,
}

const fn one() -> u32 {
    1
}

fn hvc0() -> String {
    "console=hvc0".to_owned()
}

/// When a guest is started, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// A person in dom0, with xl.
    #[default]
    Xl,
    /// dom0, when it has booted: its file is in /etc/xen/auto.
    Auto,
    /// The hypervisor, beside dom0.
    Static,
}

/// A kernel or a RAM disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub enum Module {
    /// Made of Debian's packages.
    #[default]
    Debian,
    /// None.
    None,
    /// A file.
    File(PathBuf),
}

impl From<String> for Module {
    fn from(text: String) -> Self {
        match text.as_str() {
            "debian" => Self::Debian,
            "none" => Self::None,
            _ => Self::File(text.into()),
        }
    }
}

impl Guest {
    /// The RAM disk, decided.
    pub fn ramdisk(&self) -> Module {
        let otherwise = if self.kernel == Module::Debian { Module::Debian } else { Module::None };
        self.ramdisk.clone().unwrap_or(otherwise)
    }

    /// The files of this machine that its description names, relative to the description's folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let modules = [self.kernel.clone(), self.ramdisk()].into_iter();
        let files =
            modules.filter_map(|module| if let Module::File(path) = module { Some(path) } else { None });
        files.chain(self.passthrough.as_ref().map(|devices| devices.device_tree.clone())).collect()
    }

    /// The profile of the first root file system on one of its disks.
    pub fn root_profile(&self) -> Option<&str> {
        self.disks.iter().find_map(|disk| disk.content.profile())
    }
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "GuestDisk")]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// Its name, once in the guest; with the guest's before it, that of the file, the partition or the volume.
    pub name: String,
    /// What it lies on.
    pub on: Medium,
    /// The format of a file.
    #[serde(default)]
    pub format: Format,
    /// Its size; without it, what its content needs and 64M more.
    #[schemars(with = "Option<String>")]
    pub size: Option<Size>,
    /// What is in it: `empty`, or the root file system of the profile of this name.
    #[serde(default)]
    #[schemars(with = "String")]
    pub content: Content,
    /// What the guest calls it, such as `xvda`; without it, the next letter.
    pub device: Option<String>,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// What a guest's disk lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// A file in dom0's root file system.
    File,
    /// A partition of the image.
    Partition,
    /// A volume of the image's LVM volume group.
    Volume,
}

/// The format of a disk in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The disk's bytes as they are.
    #[default]
    Raw,
    /// QEMU's copy-on-write format, which takes no room for what is empty.
    Qcow2,
}

/// What is in a guest's disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub enum Content {
    /// Nothing.
    #[default]
    Empty,
    /// An ext4 file system with the root of this profile.
    Profile(String),
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        if text == "empty" { Self::Empty } else { Self::Profile(text) }
    }
}

impl Content {
    /// The profile's name, if there is one.
    pub fn profile(&self) -> Option<&str> {
        match self {
            Self::Empty => None,
            Self::Profile(name) => Some(name),
        }
    }
}

/// A network interface of a guest: on a bridge of Linux's, or on one of Open vSwitch's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// The bridge in dom0.
    pub bridge: Option<String>,
    /// The bridge of Open vSwitch in dom0.
    pub open_vswitch: Option<String>,
    /// The MAC address; without it, one of Xen's own range from the guest's name.
    pub mac: Option<String>,
}

/// An event channel between a guest and another, or dom0, that is there from the start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventChannel {
    /// The guest's port.
    pub port: u32,
    /// The other end: a static guest's name, or `dom0`.
    pub peer: String,
    /// The other end's port.
    pub peer_port: u32,
}

/// Memory that static guests share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SharedMemory {
    /// What the sharers call it: 1 to 15 characters.
    pub id: String,
    /// Its size: whole pages of 4K.
    #[schemars(with = "String")]
    pub size: Size,
    /// Where the guest finds it: an intermediate physical address, in bytes.
    pub address: u64,
    /// Where it is in the machine: a physical address, in bytes. Without it the hypervisor finds a place.
    pub host_address: Option<u64>,
    /// Whether the guest owns it.
    #[serde(default)]
    pub owner: bool,
}

/// Devices of the machine that a guest has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Passthrough {
    /// The guest's partial device tree (Xen, docs/misc/arm/passthrough.txt), relative to the description's folder.
    pub device_tree: PathBuf,
}
