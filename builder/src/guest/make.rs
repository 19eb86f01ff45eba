//! Guests' kernels, RAM disks and root file systems, each made as dom0's are, and what of them lies in dom0.

use super::layout::disk_name;
use super::partial::Resources;
use super::xl::{self, Facts, MODULES};
use super::{Disk, Format, Guest, Medium, Module, Start, qcow2};
use crate::build::derive;
use crate::cache::Inputs;
use crate::config::ImageConfig;
use crate::decision::Decision;
use crate::disk::{self, Content, Ext4, TreeSize, Volume, VolumeGroup, ext4_size, lvm_uuid};
use crate::error::{Error, Result};
use crate::layout::ModuleKind;
use crate::parts::{MAX_MODULE, Maker, Part, Root};
use crate::plan::{Artifact, Artifacts, RootArtifact};
use crate::profile::Profile;
use crate::tree::{Data, Node, Source, Tree};
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vambrace_bsp::{Architecture, Size};

/// What a disk with a root file system has left free where no size is asked for.
const SLACK: u64 = 64 << 20;
/// The profile of a guest that names none: its root is its RAM disk.
const SMALL: &str = "minimal";

/// The guests of an image, with the profiles that they are made of.
#[derive(Debug, Clone, Default)]
pub struct Guests {
    /// Their descriptions.
    pub config: ImageConfig,
    /// The profiles, by name and architecture.
    profiles: BTreeMap<(String, &'static str), Profile>,
}

impl Guests {
    /// Reads the profiles that `config` names.
    ///
    /// # Errors
    ///
    /// A profile that is not known, with the field that names it, and one that cannot be made for the architecture.
    pub fn new(workspace: &Workspace, config: ImageConfig, dom0: Architecture, suite: &str) -> Result<Self> {
        let mut profiles = BTreeMap::new();
        for (index, guest) in config.guests.iter().enumerate() {
            let architecture = guest.architecture.unwrap_or(dom0);
            if architecture == Architecture::Aarch64 && dom0 == Architecture::Armv7 {
                let text = "a 64-bit guest takes a 64-bit dom0, which loads its kernel";
                return Err(config.at(&format!("guest.{index}.architecture"), text));
            }
            let named = guest.disks.iter().enumerate().filter_map(|(number, disk)| {
                let field = format!("guest.{index}.disk.{number}.content");
                disk.content.profile().map(|name| (name, field))
            });
            let small = (guest.root_profile().is_none()).then(|| (SMALL, format!("guest.{index}.kernel")));
            for (name, field) in named.chain(small) {
                let failed = |error: Error| config.blame(&field, error);
                let arch = architecture.debian();
                let profile = workspace.profile(name).map_err(failed)?;
                // dom0's release, where the profile has it; else its own.
                let same = profile.clone().of_release(Some(suite), arch);
                let profile = same.or_else(|_| profile.of_release(None, arch)).map_err(failed)?;
                profiles.insert((name.to_owned(), arch), profile);
            }
        }
        Ok(Self { config, profiles })
    }

    /// What is said of them, for identifiers that must differ where that does.
    pub fn stamp(&self) -> String {
        if self.config.guests.is_empty() && self.config.volume_group.is_none() {
            return String::new();
        }
        format!("{:?} {:?}", self.config.guests, self.config.volume_group)
    }
}

/// A guest's parts.
#[derive(Debug, Clone)]
pub struct GuestParts {
    /// Its name.
    pub name: String,
    /// Its kernel.
    pub kernel: Part,
    /// Its RAM disk.
    pub ramdisk: Option<Part>,
    /// Its partial device tree, and what that names.
    pub device_tree: Option<(Part, Resources)>,
    /// Its disks: the bytes of each, and its root file system.
    pub disks: Vec<(u64, Option<Root>)>,
}

/// A guest's parts, as the plan sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestArtifacts {
    /// Its name.
    pub name: String,
    /// Who starts it.
    pub start: Start,
    /// Its kernel.
    pub kernel: Artifact,
    /// Its RAM disk.
    pub ramdisk: Option<Artifact>,
    /// Its partial device tree.
    pub device_tree: Option<Artifact>,
    /// The devices of the machine that it has, by their paths in the machine's tree.
    pub devices: Vec<String>,
    /// Its disks.
    pub disks: Vec<GuestDiskArtifact>,
}

/// A guest's disk, as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestDiskArtifact {
    /// The name of its file, partition or volume.
    pub name: String,
    /// What it lies on.
    pub on: Medium,
    /// Its bytes.
    pub size: u64,
    /// The root file system in it.
    pub root: Option<RootArtifact>,
}

impl GuestArtifacts {
    /// The module of this kind.
    pub fn module(&self, kind: ModuleKind) -> Option<&Artifact> {
        match kind {
            ModuleKind::Kernel => Some(&self.kernel),
            ModuleKind::Ramdisk => self.ramdisk.as_ref(),
            ModuleKind::DeviceTree => self.device_tree.as_ref(),
        }
    }

    /// All parts.
    pub fn all(&self) -> impl Iterator<Item = &Artifact> {
        let roots = self.disks.iter().filter_map(|disk| disk.root.as_ref().map(|root| &root.artifact));
        ModuleKind::ALL.into_iter().filter_map(|kind| self.module(kind)).chain(roots)
    }
}

impl GuestParts {
    /// What the plan needs to know of them.
    pub fn artifacts(&self, guest: &Guest) -> GuestArtifacts {
        let disks = guest.disks.iter().zip(&self.disks);
        GuestArtifacts {
            name: self.name.clone(),
            start: guest.start,
            kernel: self.kernel.artifact.clone(),
            ramdisk: self.ramdisk.as_ref().map(|part| part.artifact.clone()),
            device_tree: self.device_tree.as_ref().map(|(part, _)| part.artifact.clone()),
            devices: self.device_tree.iter().flat_map(|(_, resources)| resources.paths.clone()).collect(),
            disks: disks
                .map(|(disk, (size, root))| GuestDiskArtifact {
                    name: disk_name(guest, disk),
                    on: disk.on,
                    size: *size,
                    root: root.as_ref().map(|root| root.artifact.clone()),
                })
                .collect(),
        }
    }

    /// The module of this kind.
    pub fn module(&self, kind: ModuleKind) -> Option<&Part> {
        match kind {
            ModuleKind::Kernel => Some(&self.kernel),
            ModuleKind::Ramdisk => self.ramdisk.as_ref(),
            ModuleKind::DeviceTree => self.device_tree.as_ref().map(|(part, _)| part),
        }
    }
}

/// What is in a disk with this root file system, or none.
pub(crate) fn content(guest: &Guest, disk: &Disk, root: Option<&Root>) -> Content {
    match root {
        None => Content::Empty,
        Some(root) => {
            let label: String = disk_name(guest, disk).chars().take(16).collect();
            Content::Ext4(Ext4 { label, uuid: root.uuid, tree: root.tree.clone().unwrap_or_default() })
        }
    }
}

/// The volume group, with all guests' volumes; identifiers come from `seed`.
pub(crate) fn volume_group(config: &ImageConfig, parts: &[GuestParts], seed: &str) -> Option<VolumeGroup> {
    let (name, _) = config.volume_group()?;
    let mut volumes = Vec::new();
    for (guest, made) in config.guests.iter().zip(parts) {
        for (disk, (size, root)) in guest.disks.iter().zip(&made.disks) {
            if disk.on == Medium::Volume {
                let name = disk_name(guest, disk);
                let uuid = lvm_uuid(derive(seed, &format!("volume {name}")));
                volumes.push(Volume {
                    name,
                    uuid,
                    size: *size,
                    content: content(guest, disk, root.as_ref()),
                });
            }
        }
    }
    let uuid = lvm_uuid(derive(seed, "volume group"));
    let physical_uuid = lvm_uuid(derive(seed, "physical volume"));
    Some(VolumeGroup { name, uuid, physical_uuid, volumes })
}

/// What stands for a part that is not made: it has no bytes.
fn unmade(artifact: &Artifact) -> Part {
    Part { artifact: artifact.clone(), data: Data::default() }
}

impl Maker<'_> {
    /// The same with another decision.
    fn making<'a>(&'a self, decision: &'a Decision) -> Maker<'a> {
        let Maker { root, cache, progress, epoch, .. } = *self;
        Maker { root, decision, cache, progress, epoch }
    }

    fn guest_arch(&self, guest: &Guest) -> Architecture {
        guest.architecture.unwrap_or(self.decision.dom0_arch)
    }

    /// The decision by which a guest's kernel, RAM disk and, on `disk`, root file system are made: as if it were dom0 of a
    /// machine whose medium is that disk.
    fn guest_decision(&self, guest: &Guest, disk: Option<&Disk>) -> Result<Decision> {
        let architecture = self.guest_arch(guest);
        let profile = disk.and_then(|disk| disk.content.profile()).unwrap_or(SMALL);
        let profile = self.decision.guests.profiles.get(&(profile.to_owned(), architecture.debian()));
        let mut decision = self.decision.clone();
        decision.profile = profile.ok_or_else(|| Error::new("a guest's profile was not read"))?.clone();
        decision.dom0_arch = architecture;
        // It has no devices of the board's.
        decision.board.dom0.modules.clear();
        let id = format!("guest {} {}", guest.name, disk.map_or("", |disk| &disk.name));
        Ok(decision.for_guest(id, disk.is_some()))
    }

    /// The decisions of all guests: for each what it is started with, and for each of its disks with a root file system
    /// that. What it is started with finds the first of these.
    fn guest_decisions(&self) -> Result<Vec<Decision>> {
        let mut all = Vec::new();
        for guest in &self.decision.guests.config.guests {
            let mut roots = guest.disks.iter().filter(|disk| disk.content.profile().is_some()).peekable();
            let of_debian = guest.kernel == Module::Debian || guest.ramdisk() == Module::Debian;
            if roots.peek().is_none() && of_debian {
                all.push(self.guest_decision(guest, None)?);
            }
            for disk in roots {
                all.push(self.guest_decision(guest, Some(disk))?);
            }
        }
        Ok(all)
    }

    /// Has `run` look at the making of each guest's systems.
    pub(crate) fn each_guest<T>(&self, mut run: impl FnMut(&Maker<'_>) -> Result<T>) -> Result<Vec<T>> {
        let decisions = self.guest_decisions()?;
        decisions.iter().map(|decision| run(&self.making(decision))).collect()
    }

    /// A hash of everything that guests are made from.
    pub(crate) fn guests_key(&self) -> Result<String> {
        let guests = &self.decision.guests;
        let mut inputs = Inputs::new("guests", 1);
        inputs.add("stamp", guests.stamp());
        for key in self.each_guest(|maker| maker.system_keys())? {
            inputs.add("system", key);
        }
        for path in guests.config.guests.iter().flat_map(Guest::files) {
            inputs.add("file", self.cache.hash_file(&guests.config.dir.join(path))?);
        }
        Ok(inputs.key())
    }

    /// The partial device tree of a guest, and what it names.
    fn guest_tree(&self, guest: &Guest, index: usize) -> Result<Option<(Part, Resources)>> {
        let Some(devices) = &guest.passthrough else { return Ok(None) };
        let field = format!("guest.{index}.passthrough.device-tree");
        let part = self.own_file(&devices.device_tree, &field)?;
        let read = part.data.bytes(MAX_MODULE).and_then(|bytes| Resources::of(&bytes));
        let read = read.map_err(|error| self.decision.guests.config.blame(&field, error))?;
        Ok(Some((part, read)))
    }

    /// Makes all guests' parts.
    pub(crate) fn guests(&self) -> Result<Vec<GuestParts>> {
        self.guests_by(|_| Ok(None))
    }

    /// What is known of guests' parts without making any.
    pub(crate) fn peek_guests(&self) -> Result<Vec<GuestArtifacts>> {
        let parts = self.guests_by(|maker| maker.peek().map(Some))?;
        let guests = self.decision.guests.config.guests.iter().zip(&parts);
        Ok(guests.map(|(guest, parts)| parts.artifacts(guest)).collect())
    }

    /// All guests' parts. Of a system that something is `known` of, nothing is made, and its parts have no bytes.
    fn guests_by(&self, known: impl Fn(&Maker<'_>) -> Result<Option<Artifacts>>) -> Result<Vec<GuestParts>> {
        let config = &self.decision.guests.config;
        let mut all = Vec::new();
        for (index, guest) in config.guests.iter().enumerate() {
            let boot = guest.disks.iter().find(|disk| disk.content.profile().is_some());
            let boot = self.guest_decision(guest, boot)?;
            let system = self.making(&boot);
            let peeked = known(&system)?;
            let kernel = match (&guest.kernel, &peeked) {
                (Module::File(path), _) => {
                    self.own_kernel(path, &format!("guest.{index}.kernel"), self.guest_arch(guest))?
                }
                (Module::Debian | Module::None, Some(known)) => unmade(&known.kernel),
                (Module::Debian | Module::None, None) => system.kernel()?,
            };
            let ramdisk = match (guest.ramdisk(), &peeked) {
                (Module::File(path), _) => Some(self.own_file(&path, &format!("guest.{index}.ramdisk"))?),
                (Module::Debian, Some(known)) => Some(unmade(&known.ramdisk)),
                (Module::Debian, None) => Some(system.ramdisk()?),
                (Module::None, _) => None,
            };
            let mut disks = Vec::new();
            for (number, disk) in guest.disks.iter().enumerate() {
                let root = match disk.content.profile() {
                    None => None,
                    Some(_) => {
                        let own = self.guest_decision(guest, Some(disk))?;
                        let maker = self.making(&own);
                        let unmade = |artifact| Root { tree: None, uuid: [0; 16], artifact };
                        match known(&maker)? {
                            Some(known) => known.root.map(unmade),
                            None => maker.root()?,
                        }
                    }
                };
                let tree = root.as_ref().map(|root| root.artifact.tree);
                disks.push((self.disk_size(disk, tree, &format!("guest.{index}.disk.{number}"))?, root));
            }
            let device_tree = self.guest_tree(guest, index)?;
            all.push(GuestParts { name: guest.name.clone(), kernel, ramdisk, device_tree, disks });
        }
        Ok(all)
    }

    /// The bytes of a disk with a root file system of this size, or without one; `field` is its description's.
    fn disk_size(&self, disk: &Disk, tree: Option<TreeSize>, field: &str) -> Result<u64> {
        let needed = |slack| tree.map(|tree| ext4_size(tree, slack)).transpose();
        match (disk.size, needed(0)?) {
            (Some(size), Some(needed)) if size.bytes() < needed => {
                let text = format!("{size} are too few for its content, which takes {}", Size(needed));
                Err(self.decision.guests.config.at(&format!("{field}.size"), text))
            }
            (Some(size), _) => Ok(size.bytes()),
            (None, _) => Ok(needed(SLACK)?.unwrap_or(SLACK)),
        }
    }

    /// `root`, dom0's root file system, with what xl needs of the guests in it.
    pub(crate) fn with_guests(&self, mut root: Root, guests: &[GuestParts]) -> Result<Root> {
        let config = &self.decision.guests.config;
        if config.guests.is_empty() {
            return Ok(root);
        }
        let mut tree = root.tree.as_deref().cloned().unwrap_or_default();
        let volume_group = config.volume_group().map(|(name, _)| name).unwrap_or_default();
        for (guest, parts) in config.guests.iter().zip(guests) {
            let mut facts = Facts { volume_group: volume_group.clone(), ..Facts::default() };
            for kind in ModuleKind::ALL {
                let Some(part) = parts.module(kind) else { continue };
                let path = keep(&mut tree, kind, part)?;
                match kind {
                    ModuleKind::Kernel => facts.kernel = path,
                    ModuleKind::Ramdisk => facts.ramdisk = Some(path),
                    ModuleKind::DeviceTree => {
                        facts.device_tree =
                            parts.device_tree.as_ref().map(|(_, resources)| (path, resources.clone()));
                    }
                }
            }
            for (disk, (size, content)) in guest.disks.iter().zip(&parts.disks) {
                if disk.on == Medium::File {
                    let data = self.disk_file(guest, disk, *size, content.as_ref())?;
                    let path = xl::target(guest, disk, &volume_group);
                    tree.insert(path.trim_start_matches('/'), Node::file(0o600, data))?;
                }
            }
            let text = xl::text(guest, &facts).into_bytes();
            let own = format!("{}.cfg", guest.name);
            tree.insert(format!("etc/xen/{own}"), Node::file(0o644, text))?;
            if guest.start == Start::Auto {
                let target = format!("../{own}");
                tree.insert(format!("etc/xen/auto/{own}"), Node::symlink(target))?;
            }
        }
        root.artifact.tree = TreeSize::of(&tree);
        root.tree = Some(Arc::new(tree));
        Ok(root)
    }

    /// The contents of a disk that is a file in dom0.
    fn disk_file(&self, guest: &Guest, disk: &Disk, size: u64, root: Option<&Root>) -> Result<Data> {
        let name = disk_name(guest, disk);
        let _step = self.progress.step(format!("making the disk {name}"));
        let made = disk::render(&content(guest, disk, root), size, self.epoch)?;
        if disk.format == Format::Qcow2 {
            return Ok(qcow2::encode(&made, size)?.into());
        }
        // Without holes: dom0 keeps the room that the disk takes.
        Ok(Data::of(&Source::opened(made, Path::new(&name)), 0, size))
    }
}

/// Puts a module into dom0, once for all guests with the same, and gives its absolute path.
fn keep(tree: &mut Tree, kind: ModuleKind, part: &Part) -> Result<String> {
    let hash =
        part.artifact.sha256.as_deref().ok_or_else(|| Error::new("a module of a guest has no hash"))?;
    let hash: String = hash.chars().take(12).collect();
    let path = format!("{MODULES}/{}-{hash}", kind.name());
    let inside = path.trim_start_matches('/');
    if tree.get(inside).is_none() {
        tree.insert(inside, Node::file(0o644, part.data.clone()))?;
    }
    Ok(path)
}
