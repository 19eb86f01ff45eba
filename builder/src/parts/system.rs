//! Installed packages: which they are, and the system that they make.

use super::{MAX_MODULE, Maker};
use crate::apt::Package;
use crate::cache::Inputs;
use crate::deb::Deb;
use crate::disk::{Ext4, TreeSize, ext4_size, write_ext4};
use crate::error::{Error, Result, ResultExt};
use crate::install::{CONFIGURE, INIT, Machine, Rules, Unpacked, add_modules, normalise, read_ext4, unpack};
use crate::profile::FileTree;
use crate::tree::{Node, Tree, write_initramfs};
use std::fs::File;
use std::sync::Arc;

/// What the machine that configures packages has from the archive beside its kernel.
pub(super) const BUSYBOX: &str = "busybox-static";
/// The modules that it needs.
const MODULES: &[&str] = &["virtio_mmio", "virtio_blk", "ext4"];
/// Room for what configuring makes.
const ROOM: u64 = 256 << 20;
/// What the name of a folder in the cache begins with in which packages are configured.
pub(crate) const CONFIGURING: &str = "configure-";

impl Maker<'_> {
    /// The names of everything that `tree` installs; `None` while it is not known.
    pub(super) fn known_closure(&self, tree: &FileTree) -> Option<Vec<String>> {
        self.cache.installed(self.suite(), self.dom0_arch(), &tree.install)
    }

    /// Finds out what `tree` installs, from the archive.
    pub(super) fn resolve_closure(&self, tree: &FileTree) -> Result<()> {
        if tree.install.is_empty() || self.known_closure(tree).is_some() {
            return Ok(());
        }
        let (suite, arch) = (self.suite(), self.dom0_arch());
        self.may_ask(&format!("what Debian {suite} {arch} installs with {}", tree.install.join(", ")))?;
        let step = self.progress.step(format!("finding out what Debian {suite} {arch} installs"));
        let packages = self.apt(self.suite())?.closure(&tree.install, arch)?;
        self.cache.set_installed(suite, arch, &tree.install, packages);
        step.finish();
        Ok(())
    }

    fn installed(&self, tree: &FileTree) -> Result<Vec<Package>> {
        let names = self
            .known_closure(tree)
            .ok_or_else(|| Error::new("what the profile installs has not been looked up"))?;
        names.iter().map(|name| self.package(name, self.dom0_arch())).collect()
    }

    /// The key of the system that `tree` installs.
    pub(super) fn system_key(&self, tree: &FileTree) -> Result<String> {
        let mut inputs = Inputs::new("system", 2);
        inputs.add("epoch", self.epoch.to_string());
        inputs.add("arch", self.dom0_arch());
        inputs.add("how", format!("{INIT}{CONFIGURE}"));
        inputs.add("rules", format!("{:?} {:?}", tree.exclude, tree.include));
        for package in self.installed(tree)? {
            inputs.add("package", package.sha256);
        }
        if let Some(modules) = &tree.kernel_modules {
            inputs.add("kernel", self.kernel_package()?.sha256);
            inputs.add("without", modules.without.join(" "));
        }
        Ok(inputs.key())
    }

    /// The system that `tree` installs: its packages unpacked and configured, and nothing else.
    pub(super) fn system(&self, tree: &FileTree) -> Result<Tree> {
        let from = format!("packages of profile {}", self.decision.profile.spec.id);
        self.tree_part("system-tree", &self.system_key(tree)?, &from, || self.install(tree))
            .map(|(tree, _)| tree)
    }

    fn install(&self, spec: &FileTree) -> Result<Tree> {
        let packages = self.installed(spec)?;
        let mut system = self.unpacked(spec, &packages)?;
        if let Some(modules) = &spec.kernel_modules {
            let package = self.kernel_package()?;
            let deb = self.fetch(&package)?;
            let step = self.progress.step(format!("unpacking the modules of {}", package.name));
            add_modules(&mut system, &self.unpacked_files(&package, &deb)?, modules)?;
            step.finish();
        }
        let folder = tempfile::Builder::new()
            .prefix(CONFIGURING)
            .tempdir_in(self.cache.dir())
            .context_at(self.cache.dir(), || "cannot make a folder for the machine's disk")?;
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, data: &[u8]| {
            std::fs::write(path(name), data).context_at(path(name), || "cannot write the file")
        };
        write("kernel", &self.kernel()?.data.bytes(MAX_MODULE)?)?;
        write("ramdisk", &write_initramfs(&self.configuring_ramdisk()?, self.epoch)?)?;
        let disk = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path("disk"))
            .context_at(path("disk"), || "cannot make the machine's disk")?;
        let size = ext4_size(TreeSize::of(&system), ROOM)?;
        let spec = Ext4 { label: "system".into(), uuid: [0x5a; 16], tree: Arc::new(system) };
        write_ext4(&disk, &spec, size, self.epoch)?;
        drop(spec);
        let step =
            self.progress.step(format!("configuring {} packages in an emulated machine", packages.len()));
        let machine = Machine {
            arch: self.dom0_arch(),
            kernel: &path("kernel"),
            ramdisk: &path("ramdisk"),
            disk: &path("disk"),
            epoch: self.epoch,
        };
        machine.run(packages.len() as u64, &step)?;
        let mut system = read_ext4(&disk)?;
        normalise(&mut system)?;
        step.finish();
        Ok(system)
    }

    fn unpacked(&self, spec: &FileTree, packages: &[Package]) -> Result<Tree> {
        let fetched = self.apt(self.suite())?.fetch_all(packages, self.dom0_arch(), self.progress);
        let paths = fetched.map_err(|error| self.explained(error))?;
        let step = self.progress.step(format!("unpacking {} packages", packages.len()));
        let mut unpacked = Vec::new();
        for (package, path) in packages.iter().zip(&paths) {
            step.set(unpacked.len() as u64, packages.len() as u64);
            let deb = Deb::open(path)?;
            let files = self.unpacked_files(package, &deb)?;
            unpacked.push(Unpacked { package: package.clone(), deb, files });
        }
        let rules = Rules { exclude: spec.exclude.clone(), include: spec.include.clone() };
        let tree = unpack(&unpacked, &rules, &step)?;
        step.finish();
        Ok(tree)
    }

    /// The ramdisk of the machine that configures packages.
    fn configuring_ramdisk(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        for folder in ["dev", "proc", "root", "sys"] {
            tree.insert(folder, Node::dir(0o755))?;
        }
        let deb = self.fetch(&self.package(BUSYBOX, self.dom0_arch())?)?;
        tree.insert("bin/busybox", Node::file(0o755, deb.read("/usr/bin/busybox")?))?;
        tree.insert("bin/sh", Node::symlink("busybox"))?;
        tree.insert("dev/console", Node::char_device(0o600, 5, 1))?;
        for (path, text) in [("init", INIT), ("configure", CONFIGURE)] {
            tree.insert(path, Node::file(0o755, text))?;
        }
        let modules: Vec<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
        tree.graft(&self.modules(&modules)?)?;
        Ok(tree)
    }
}
