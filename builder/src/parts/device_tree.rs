//! The device tree as a part of the image, where the board's firmware has none.

use super::{MAX_MODULE, Maker, artifact, describe};
use crate::apt::Package;
use crate::cache::{Inputs, Stored, sha256};
use crate::error::{Error, Result, ResultExt};
use crate::fdt;
use crate::plan::{Artifact, Tree};
use crate::tree::Data;
use std::fs;
use std::sync::Arc;
use vambrace_bsp::DeviceTree;

impl Maker<'_> {
    /// The package that has the board's device tree, if one has, and its architecture. The kernel's trees are those of
    /// the board's own architecture, whatever dom0's is.
    pub(super) fn tree_package_name(&self) -> Result<Option<(String, String)>> {
        let arch = self.arch().to_owned();
        Ok(match &self.decision.board.device_tree {
            DeviceTree::Kernel { .. } => Some((self.decision.profile.kernel(&arch)?.package.clone(), arch)),
            DeviceTree::Package { package, .. } => Some((package.clone(), arch)),
            DeviceTree::Firmware {} | DeviceTree::File { .. } => None,
        })
    }

    /// The package, and the tree's path in it.
    fn tree_in_package(&self) -> Result<Option<(Package, String)>> {
        let Some((name, arch)) = self.tree_package_name()? else { return Ok(None) };
        let package = self.package(&name, &arch)?;
        let path = match &self.decision.board.device_tree {
            DeviceTree::Kernel { path, .. } => {
                let version = package.name.trim_start_matches("linux-image-").trim_end_matches("-unsigned");
                format!("/usr/lib/linux-image-{version}/{path}")
            }
            DeviceTree::Package { path, .. } => path.clone(),
            DeviceTree::Firmware {} | DeviceTree::File { .. } => return Ok(None),
        };
        Ok(Some((package, path)))
    }

    /// The key of the device tree; `None` where the firmware has it.
    pub(super) fn tree_key(&self) -> Result<Option<String>> {
        let mut inputs = Inputs::new("device-tree", 1);
        if let DeviceTree::File { path } = &self.decision.board.device_tree {
            inputs.add("file", self.cache.hash_file(&self.decision.board_dir.join(path))?);
            return Ok(Some(inputs.key()));
        }
        Ok(self.tree_in_package()?.map(|(package, path)| {
            inputs.add("package", package.sha256);
            inputs.add("path", path);
            for change in self.decision.board.device_tree.amendments() {
                inputs.add("amend", format!("{} {} {:x?}", change.node, change.property, change.cells));
            }
            inputs.key()
        }))
    }

    /// The board's device tree, where the image carries it.
    ///
    /// # Errors
    ///
    /// A package or a file that cannot be had, and one that is no device tree.
    pub fn device_tree(&self) -> Result<Option<Tree>> {
        if let DeviceTree::File { path } = &self.decision.board.device_tree {
            let path = self.decision.board_dir.join(path);
            let data = fs::read(&path).context_at(&path, || "cannot read the board's device tree")?;
            let from = path.display().to_string();
            let stored = Stored { sha256: sha256(&data), size: data.len() as u64, from };
            return checked(stored, &data.into()).map(Some);
        }
        let (Some((package, path)), Some(key)) = (self.tree_in_package()?, self.tree_key()?) else {
            return Ok(None);
        };
        let from = format!("{}, {path}", describe(&package));
        let (data, stored) = self.part("device-tree", key, &from, || {
            let deb = self.fetch(&package)?;
            let _step = self.progress.step(format!("unpacking the device tree of {}", package.name));
            let data = deb.read(&path)?;
            match self.decision.board.device_tree.amendments() {
                [] => Ok(data),
                changes => fdt::amend(&data, changes).map_err(|error| error.context(path.clone())),
            }
        })?;
        checked(stored, &data).map(Some)
    }

    /// What is known of the device tree without fetching it. Where nothing is, an empty tree stands for it.
    pub(super) fn peek_device_tree(&self, packages: bool) -> Result<Option<Tree>> {
        match &self.decision.board.device_tree {
            DeviceTree::Firmware {} => return Ok(None),
            DeviceTree::File { .. } => return self.device_tree(),
            DeviceTree::Kernel { .. } | DeviceTree::Package { .. } => {}
        }
        let key = if packages { self.tree_key()? } else { None };
        if let Some((data, stored)) = key.and_then(|key| self.cache.lookup("device-tree", &key)) {
            return checked(stored, &data).map(Some);
        }
        let name = self.tree_package_name()?.map_or_else(String::new, |(name, _)| name);
        let artifact = Artifact {
            from: format!("{name} (not fetched yet; the size is a guess)"),
            size: 32 << 10,
            sha256: None,
            header: None,
        };
        Ok(Some(Tree { artifact, data: fdt::empty()?.into() }))
    }
}

fn checked(stored: Stored, data: &Data) -> Result<Tree> {
    let data: Arc<[u8]> = data.bytes(MAX_MODULE)?.into();
    fdt::summary(&data).map_err(|error| Error::new(format!("{}: {}", stored.from, error.what())))?;
    Ok(Tree { artifact: artifact(stored, None), data })
}
