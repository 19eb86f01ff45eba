//! dom0's file trees: the root file system, and the ramdisk that the kernel starts from.
//!
//! Where the layout has a root partition, the profile's root goes there and its `initramfs` becomes the ramdisk;
//! otherwise the root is the ramdisk itself.

use super::{MAX_MODULE, Maker, Part, artifact, describe};
use crate::apt::Package;
use crate::cache::{Inputs, Stamp, Stored};
use crate::deb::Deb;
use crate::disk::TreeSize;
use crate::error::{Error, Result};
use crate::image::Bases;
use crate::modules::collect;
use crate::plan::{Artifact, RootArtifact};
use crate::profile::{FileTree, OverlayKind};
use crate::tree::{Data, Node, Source, Tree, read_cpio, read_tar, write_cpio, write_initramfs, write_tar};
use std::sync::Arc;

/// Where a tree has its kernel modules.
const MODULES: &str = "usr/lib/vambrace/modules";

/// dom0's root file system, for an ext4 partition.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its files; `None` where they have not been made.
    pub tree: Option<Arc<Tree>>,
    /// The file system's UUID, in the order in which it is printed: the ramdisk looks for it.
    pub uuid: [u8; 16],
    /// What the plan needs to know.
    pub artifact: RootArtifact,
}

impl Maker<'_> {
    /// Whether the root file system is on the medium.
    fn root_on_medium(&self) -> bool {
        self.decision.layout.root().is_some()
    }

    /// The trees of this image: every one is made of packages and an overlay.
    pub(super) fn trees(&self) -> Result<Vec<&FileTree>> {
        let (profile, own) = (&self.decision.profile, &self.decision.config().dom0);
        let mut trees = Vec::new();
        if own.root.is_none() && (self.root_on_medium() || own.ramdisk.is_none()) {
            trees.push(&profile.spec.root);
        }
        if self.root_on_medium() && own.ramdisk.is_none() {
            trees.push(profile.initramfs()?);
        }
        Ok(trees)
    }

    /// Adds everything that is in `tree`.
    fn add_inputs(&self, inputs: &mut Inputs, tree: &FileTree) -> Result<()> {
        inputs.add("epoch", self.epoch.to_string());
        inputs.add("spec", format!("{tree:?}"));
        if !tree.install.is_empty() {
            inputs.add("system", self.system_key(tree)?);
        }
        for package in &tree.packages {
            inputs.add("package", self.package(&package.name, self.dom0_arch())?.sha256);
        }
        if !tree.modules.is_empty() {
            inputs.add("kernel", self.kernel_package()?.sha256);
        }
        for item in self.decision.profile.overlay(tree)? {
            inputs.add(&item.path, format!("{:?}", item.kind));
            if matches!(item.kind, OverlayKind::File(_)) {
                inputs.add("content", self.cache.hash_file(&item.host)?);
            }
        }
        Ok(())
    }

    /// The key of the root file system on the medium; `None` where the ramdisk is the root.
    pub(super) fn root_key(&self) -> Result<Option<String>> {
        if !self.root_on_medium() {
            return Ok(None);
        }
        if let Some(key) = self.own_root_key()? {
            return Ok(Some(key));
        }
        let mut inputs = Inputs::new("root", 1);
        self.add_inputs(&mut inputs, &self.decision.profile.spec.root)?;
        Ok(Some(inputs.key()))
    }

    /// The UUID of the root file system with this key. The same root on another board's card is another file system.
    fn root_uuid(&self, key: &str) -> Result<[u8; 16]> {
        let mut inputs = Inputs::new("root-uuid", 1);
        inputs.add("root", key);
        inputs.add("board", &self.decision.board.id);
        inputs.add("layout", &self.decision.layout.id);
        inputs.add("guests", self.decision.guests.stamp());
        if let Some(layer) = self.layer_key()? {
            inputs.add("layer", layer);
        }
        Ok(crate::build::derive(&inputs.key(), "root"))
    }

    /// The UUID that the root file system has by what its inputs are at this moment.
    pub(crate) fn root_uuid_now(&self) -> Result<Option<[u8; 16]>> {
        self.cache.look_again();
        self.root_key()?.map(|key| self.root_uuid(&key)).transpose()
    }

    /// dom0's root file system, where it is on the medium.
    ///
    /// # Errors
    ///
    /// A package or a file that cannot be had, and two things at one path.
    pub fn root(&self) -> Result<Option<Root>> {
        let Some(key) = self.root_key()? else { return Ok(None) };
        let uuid = self.root_uuid(&key)?;
        let profile = &self.decision.profile;
        let from = format!("profile {}", profile.spec.id);
        let (tree, stored) = match self.own_root()? {
            Some(own) => own,
            None => self.tree_part("root-tree", &key, &from, || self.tree(&profile.spec.root, &[]))?,
        };
        let tree = self.with_layer(tree)?;
        let artifact = root_artifact(artifact(stored, None), &tree, uuid);
        Ok(Some(Root { tree: Some(Arc::new(tree)), uuid, artifact }))
    }

    /// The same, but that it is not made if one of `bases` has it.
    pub(super) fn root_beside(&self, bases: Option<&Bases<'_>>) -> Result<Option<Root>> {
        // What guests have of it is put in when they have been made.
        if let Some(bases) = bases
            && self.decision.guests.config.guests.is_empty()
            && let Some(key) = self.root_key()?
        {
            let uuid = self.root_uuid(&key)?;
            if let Some(artifact) = bases.root(&uuid::Uuid::from_bytes(uuid).to_string()) {
                return Ok(Some(Root { tree: None, uuid, artifact: artifact.clone() }));
            }
        }
        self.root()
    }

    /// The tree of this kind with this key: from the cache, or made now and kept there. Its contents are in the cache, as
    /// an archive that keeps everything of a tree.
    pub(super) fn tree_part(
        &self,
        kind: &str,
        key: &str,
        from: &str,
        make: impl FnOnce() -> Result<Tree>,
    ) -> Result<(Tree, Stored)> {
        if let Some((path, stored)) = self.cache.lookup_file(kind, key) {
            return Ok((read_tar(&Source::archive(&path)).map_err(|error| error.at(path))?, stored));
        }
        let tree = make()?;
        let stored = self.cache.store_with(kind, key, from, |to| write_tar(&tree, self.epoch, to))?;
        let path = self.cache.path(kind, key);
        Ok((read_tar(&Source::archive(&path)).map_err(|error| error.at(path))?, stored))
    }

    /// The files of a package as an archive in the cache.
    pub(super) fn unpacked_files(&self, package: &Package, deb: &Deb) -> Result<Source> {
        let mut inputs = Inputs::new("package-files", 1);
        inputs.add("package", &package.sha256);
        let (kind, key) = ("package-files", inputs.key());
        if self.cache.lookup_file(kind, &key).is_none() {
            self.cache.store_with(kind, &key, &describe(package), |to| deb.unpack(to))?;
        }
        Ok(Source::archive(&self.cache.path(kind, &key)))
    }

    /// What is known of the root file system without making it; a guess where it has not been made.
    pub(super) fn peek_root(&self, packages: bool) -> Result<Option<RootArtifact>> {
        if !self.root_on_medium() {
            return Ok(None);
        }
        if let Some((tree, stored)) = self.own_root()? {
            let uuid = self.root_uuid(&stored.sha256)?;
            return Ok(Some(root_artifact(artifact(stored, None), &self.with_layer(tree)?, uuid)));
        }
        let key = if packages { self.root_key()? } else { None };
        let known = |key: String| {
            let (path, stored) = self.cache.lookup_file("root-tree", &key)?;
            Some((key, read_tar(&Source::archive(&path)).ok()?, stored))
        };
        let found = match key.and_then(known) {
            None => None,
            Some((key, tree, stored)) => {
                let tree = self.with_layer(tree)?;
                Some(root_artifact(artifact(stored, None), &tree, self.root_uuid(&key)?))
            }
        };
        // Two hundred packages with their kernel's modules, or a busybox.
        let (size, tree) = if self.decision.profile.spec.root.install.is_empty() {
            (2 << 20, TreeSize { inodes: 500, blocks: 1000 })
        } else {
            (300 << 20, TreeSize { inodes: 12_000, blocks: 80_000 })
        };
        Ok(Some(found.unwrap_or_else(|| RootArtifact {
            artifact: Artifact {
                from: format!(
                    "profile {} (not made yet; the size is a guess)",
                    self.decision.profile.spec.id
                ),
                size,
                sha256: None,
                header: None,
            },
            tree,
            uuid: String::new(),
        })))
    }

    /// The modules that the ramdisk has beside those of its tree: none where nothing has to be found on the medium.
    fn board_modules(&self) -> &[String] {
        if self.root_on_medium() { &self.decision.board.dom0.modules } else { &[] }
    }

    /// The tree that becomes the ramdisk.
    fn ramdisk_tree(&self) -> Result<&FileTree> {
        let profile = &self.decision.profile;
        if self.root_on_medium() { profile.initramfs() } else { Ok(&profile.spec.root) }
    }

    /// The key of the ramdisk: everything that is in it.
    pub(super) fn ramdisk_key(&self) -> Result<String> {
        let mut inputs = Inputs::new("ramdisk", 2);
        if self.decision.config().dom0.ramdisk.is_some() {
            // Nothing is made: what it is of is told by [`Maker::own_boot_key`].
            return Ok(inputs.key());
        }
        self.add_inputs(&mut inputs, self.ramdisk_tree()?)?;
        if let Some(key) = self.root_key()? {
            inputs.add("kernel", self.kernel_package()?.sha256);
            inputs.add("modules", self.board_modules().join(" "));
            inputs.add("root", self.root_uuid(&key)?);
            inputs.add("wait", self.decision.board.dom0.root_device_wait.to_string());
        } else if let Some(layer) = self.layer_key()? {
            inputs.add("layer", layer);
        }
        Ok(inputs.key())
    }

    /// dom0's ramdisk.
    ///
    /// # Errors
    ///
    /// A package, a kernel module or a file that cannot be had, and two things at one path.
    pub fn ramdisk(&self) -> Result<Part> {
        if let Some(path) = &self.decision.config().dom0.ramdisk {
            return self.own_file(path, "dom0.ramdisk");
        }
        let from = format!("profile {}", self.decision.profile.spec.id);
        let (data, stored) = self.part("ramdisk", self.ramdisk_key()?, &from, || {
            let mut tree = self.tree(self.ramdisk_tree()?, self.board_modules())?;
            if let Some(key) = self.root_key()? {
                let uuid = uuid::Uuid::from_bytes(self.root_uuid(&key)?);
                let wait = self.decision.board.dom0.root_device_wait;
                for (path, text) in
                    [("etc/root", format!("UUID={uuid}\n")), ("etc/root-wait", format!("{wait}\n"))]
                {
                    tree.insert(path, Node::file(0o644, text))?;
                }
            } else {
                tree = self.with_layer(tree)?;
            }
            let _step = self.progress.step("packing dom0's ramdisk");
            write_initramfs(&tree, self.epoch)
        })?;
        Ok(Part { artifact: artifact(stored, None), data })
    }

    /// Puts a tree together; `more` are modules beside those that it names itself.
    fn tree(&self, spec: &FileTree, more: &[String]) -> Result<Tree> {
        let mut tree = if spec.install.is_empty() { Tree::new() } else { self.system(spec)? };
        for path in &spec.remove {
            // A path that no longer means anything would let through what it was to keep out.
            if !tree.remove(path) {
                let error = Error::new(format!("nothing has installed {path}, which the profile removes"));
                return Err(error.at(self.decision.profile.dir.join("profile.toml")));
            }
        }
        for path in &spec.directories {
            if tree.get(path).is_some_and(Node::is_dir) {
                continue;
            }
            tree.insert(path, Node::dir(if path == "tmp" { 0o1777 } else { 0o755 }))?;
        }
        for package in &spec.packages {
            let deb = self.fetch(&self.package(&package.name, self.dom0_arch())?)?;
            let paths: Vec<&str> = package.files.iter().map(|file| file.from.as_str()).collect();
            for (file, data) in package.files.iter().zip(deb.read_many(&paths)?) {
                tree.insert(&file.to, Node::file(file.mode, data))?;
            }
        }
        // The medium's drivers first: it takes them a while to find what is there.
        let modules: Vec<String> = more.iter().chain(&spec.modules).cloned().collect();
        if !modules.is_empty() {
            tree.graft(&self.modules(&modules)?)?;
        }
        for link in &spec.links {
            tree.replace(&link.path, Node::symlink(link.target.as_str()))?;
        }
        for device in &spec.devices {
            tree.insert(&device.path, Node::char_device(device.mode, device.major, device.minor))?;
        }
        for item in self.decision.profile.overlay(spec)? {
            let node = match item.kind {
                OverlayKind::Directory => Node::dir(0o755),
                OverlayKind::Link(target) => Node::symlink(target),
                OverlayKind::File(mode) => {
                    let stamp = Stamp::of(&item.host)?;
                    let size = stamp.size();
                    Node::file(mode, Data::of(&Source::loose(item.host.clone(), stamp), 0, size))
                }
            };
            // A folder that is there is as it should be.
            if node.is_dir() && tree.get(&item.path).is_some_and(Node::is_dir) {
                continue;
            }
            let done = if spec.install.is_empty() {
                tree.insert(&item.path, node)
            } else {
                tree.replace(&item.path, node)
            };
            done.map_err(|error| error.at(&item.host))?;
        }
        Ok(tree)
    }

    /// Modules of dom0's kernel, with those that they need and the list by which they are loaded. They are kept by
    /// themselves: to find them, the whole kernel package is unpacked.
    pub(super) fn modules(&self, wanted: &[String]) -> Result<Tree> {
        let package = self.kernel_package()?;
        let mut inputs = Inputs::new("modules", 1);
        inputs.add("kernel", &package.sha256);
        inputs.add("wanted", wanted.join(" "));
        let from = format!("modules of {}", package.name);
        let (data, _) = self.part("modules", inputs.key(), &from, || {
            let deb = self.fetch(&package)?;
            let _step = self.progress.step(format!("unpacking the modules of {}", package.name));
            let modules = collect(&self.unpacked_files(&package, &deb)?, wanted).map_err(|error| {
                error.at(self.decision.profile.dir.join("profile.toml")).context(format!(
                    "the modules for {}, from its description and the profile",
                    self.decision.board.id
                ))
            })?;
            let mut tree = Tree::new();
            let list: String = modules.iter().map(|module| format!("{}\n", module.file)).collect();
            tree.insert(format!("{MODULES}/load"), Node::file(0o644, list))?;
            for module in modules {
                tree.insert(format!("{MODULES}/{}", module.file), Node::file(0o644, module.data))?;
            }
            let mut archive = Vec::new();
            write_cpio(&tree, self.epoch, &mut archive)?;
            Ok(archive)
        })?;
        read_cpio(&Source::Memory(data.bytes(MAX_MODULE)?.into()))
            .map_err(|error| Error::new("the cache is damaged").because(error))
    }
}

fn root_artifact(artifact: Artifact, tree: &Tree, uuid: [u8; 16]) -> RootArtifact {
    RootArtifact { artifact, tree: TreeSize::of(tree), uuid: uuid::Uuid::from_bytes(uuid).to_string() }
}
