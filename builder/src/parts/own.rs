//! What is the user's own in dom0: a root file system, a kernel, a RAM disk, and what is laid over the root file system.

use super::{MAX_MODULE, Maker, Part};
use crate::cache::{Inputs, Stored};
use crate::config::ImageConfig;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::kernel::{Format, KernelImage};
use crate::own::with_own;
use crate::plan::Artifact;
use crate::tree::{Owners, Source, Tree, read_tar};
use std::path::{Path, PathBuf};
use vambrace_bsp::Architecture;

impl Decision {
    /// What an image's description says; nothing for a guest's system.
    pub fn config(&self) -> &ImageConfig {
        &self.guests.config
    }
}

impl Maker<'_> {
    /// Whether the kernel is Debian's.
    pub(super) fn has_debian_kernel(&self) -> bool {
        self.decision.config().dom0.kernel.is_none()
    }

    /// A file that the image's description names at `field`.
    pub(crate) fn own_file(&self, path: &Path, field: &str) -> Result<Part> {
        let config = self.decision.config();
        self.file_part(&config.dir.join(path)).map_err(|error| config.blame(field, error))
    }

    /// The file at `path` as a part of the image.
    pub(super) fn file_part(&self, path: &Path) -> Result<Part> {
        let (data, sha256) = self.cache.contents(path)?;
        if data.is_empty() || data.len() > MAX_MODULE {
            return Err(Error::new(format!("the file has {} bytes", data.len())).at(path));
        }
        let artifact = Artifact {
            from: path.display().to_string(),
            size: data.len(),
            sha256: Some(sha256),
            header: None,
        };
        Ok(Part { artifact, data })
    }

    /// A kernel that the image's description names at `field`, looked at.
    pub(crate) fn own_kernel(&self, path: &Path, field: &str, architecture: Architecture) -> Result<Part> {
        let mut part = self.own_file(path, field)?;
        let image = KernelImage::parse_as(&part.data, Format::of(architecture))
            .map_err(|error| self.decision.config().blame(field, error))?;
        part.artifact.header = Some((&image).into());
        Ok(part)
    }

    /// A hash of what is laid over dom0's root file system; `None` where that is nothing.
    pub(super) fn layer_key(&self) -> Result<Option<String>> {
        let config = self.decision.config();
        let dom0 = &config.dom0;
        if !dom0.adds() {
            return Ok(None);
        }
        let mut inputs = Inputs::new("layer", 1);
        inputs
            .add("said", format!("{:?} {:?} {:?} {:?}", dom0.hostname, dom0.folders, dom0.files, dom0.users));
        for path in dom0.layer() {
            let path = config.dir.join(path);
            inputs.add("content", self.cache.hash_path(&path, Owners::Root)?);
        }
        inputs.add("epoch", self.epoch.to_string());
        Ok(Some(inputs.key()))
    }

    /// A hash of a kernel and a RAM disk that are the user's; `None` where neither is.
    pub(super) fn own_boot_key(&self) -> Result<Option<String>> {
        let config = self.decision.config();
        let files: Vec<&PathBuf> = config.dom0.kernel.iter().chain(&config.dom0.ramdisk).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let mut inputs = Inputs::new("own-boot", 1);
        for path in files {
            inputs.add("file", self.cache.hash_file(&config.dir.join(path))?);
        }
        Ok(Some(inputs.key()))
    }

    /// A hash of the root file system that is the user's; `None` where the profile's is used.
    pub(super) fn own_root_key(&self) -> Result<Option<String>> {
        let config = self.decision.config();
        let Some(root) = &config.dom0.root else { return Ok(None) };
        let owners = config.dom0.owners;
        let hash = self
            .cache
            .hash_path(&config.dir.join(root), owners)
            .map_err(|error| config.blame("dom0.root", error))?;
        let mut inputs = Inputs::new("own-root", 1);
        inputs.add("content", hash);
        inputs.add("owners", format!("{owners:?}"));
        Ok(Some(inputs.key()))
    }

    /// Reads the folder that is the root file system of the user's: for its hash, which is known from then on without another
    /// look, and for the first who asks for it.
    pub(crate) fn read_ahead(&self) -> Result<()> {
        let config = self.decision.config();
        match config.dom0.root.as_ref().map(|root| config.dir.join(root)).filter(|path| path.is_dir()) {
            Some(path) => {
                let read = self.cache.read_ahead(&path, config.dom0.owners);
                read.map_err(|error| config.blame("dom0.root", error))
            }
            None => Ok(()),
        }
    }

    /// The root file system that is the user's; `None` where the profile's is used. Its contents stay where they are.
    pub(super) fn own_root(&self) -> Result<Option<(Tree, Stored)>> {
        let config = self.decision.config();
        let Some(root) = &config.dom0.root else { return Ok(None) };
        let path = config.dir.join(root);
        let tree = if path.is_dir() {
            self.cache.read_folder(&path, config.dom0.owners).map(|(tree, _)| tree)
        } else {
            read_tar(&Source::archive(&path)).map_err(|error| error.at(&path))
        };
        let tree = tree.map_err(|error| {
            config
                .blame("dom0.root", error)
                .help("a root file system is a folder, or a tar archive that is not packed")
        })?;
        let Some(key) = self.own_root_key()? else { return Ok(None) };
        let size = tree.iter().filter_map(|entry| entry.node.data()).map(crate::tree::Data::len).sum();
        Ok(Some((tree, Stored { from: path.display().to_string(), size, sha256: key })))
    }

    /// dom0's root file system `tree` with what the user lays over it.
    pub(super) fn with_layer(&self, tree: Tree) -> Result<Tree> {
        with_own(tree, self.decision.config(), self.epoch)
    }
}
