//! The parts of an image: packages, kernel, ramdisk, firmware, hypervisor. Each is made once for the same inputs.

mod device_tree;
mod firmware;
mod hypervisor;
mod own;
mod packages;
mod system;
mod tree;

use crate::apt::Package;
use crate::cache::{Cache, Inputs, Stored};
use crate::deb::Deb;
use crate::decision::{Decision, HypervisorSource};
use crate::error::{Error, Result};
use crate::guest::{GuestParts, Guests};
use crate::image::Bases;
use crate::kernel::{Format, KernelImage, unpack};
use crate::plan::{self, Artifact, Artifacts, Header};
use crate::progress::Progress;
use crate::tree::Data;
use hypervisor::hypervisor_header;
use std::collections::BTreeMap;
use std::path::Path;
pub(crate) use system::CONFIGURING;
pub use tree::Root;

/// The time in every archive and file system where SOURCE_DATE_EPOCH does not say another: 2026-01-01, 00:00 UTC.
pub const DEFAULT_EPOCH: u64 = 1_767_225_600;

/// The time for archives and file systems, in seconds since 1970.
///
/// # Errors
///
/// SOURCE_DATE_EPOCH is set, but not to a number.
pub fn epoch() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(DEFAULT_EPOCH),
        Ok(text) => text.trim().parse().map_err(|error| {
            Error::new(format!("SOURCE_DATE_EPOCH is `{}`", text.escape_default()))
                .because(error)
                .help("set it to a number of seconds since 1970, or unset it")
        }),
    }
}

/// Bytes of the longest file that can be a hypervisor, a kernel, a RAM disk or a device tree.
pub(crate) const MAX_MODULE: u64 = 1 << 30;

/// A part with its bytes.
#[derive(Debug, Clone)]
pub struct Part {
    /// What the plan needs to know.
    pub artifact: Artifact,
    /// The bytes.
    pub data: Data,
}

/// All parts of an image.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The hypervisor.
    pub hypervisor: Part,
    /// dom0's kernel.
    pub kernel: Part,
    /// dom0's ramdisk.
    pub ramdisk: Part,
    /// dom0's root file system, where it is on the medium.
    pub root: Option<Root>,
    /// The board's device tree as it came, where the image carries it.
    pub device_tree: Option<plan::Tree>,
    /// The boot method's firmware.
    pub firmware: BTreeMap<String, Part>,
    /// The guests' parts.
    pub guests: Vec<GuestParts>,
}

impl Parts {
    /// What the plan needs to know of them.
    pub fn artifacts(&self, guests: &Guests) -> Artifacts {
        Artifacts {
            hypervisor: self.hypervisor.artifact.clone(),
            kernel: self.kernel.artifact.clone(),
            ramdisk: self.ramdisk.artifact.clone(),
            root: self.root.as_ref().map(|root| root.artifact.clone()),
            device_tree: self.device_tree.clone(),
            firmware: self
                .firmware
                .iter()
                .map(|(name, part)| (name.clone(), part.artifact.clone()))
                .collect(),
            guests: guests
                .config
                .guests
                .iter()
                .zip(&self.guests)
                .map(|(guest, made)| made.artifacts(guest))
                .collect(),
        }
    }
}

/// Makes the parts of one image.
#[derive(Debug)]
pub struct Maker<'a> {
    /// The folder of the sources.
    pub root: &'a Path,
    /// What is to be made.
    pub decision: &'a Decision,
    /// Where parts are kept.
    pub cache: &'a Cache,
    /// Who is told.
    pub progress: &'a Progress,
    /// The time in archives.
    pub epoch: u64,
}

impl Maker<'_> {
    /// Debian's name of the board's architecture, for firmware.
    fn arch(&self) -> &'static str {
        self.decision.board.architecture.debian()
    }

    /// Debian's name of dom0's architecture, for its kernel and file trees.
    fn dom0_arch(&self) -> &'static str {
        self.decision.dom0_arch.debian()
    }

    fn suite(&self) -> &str {
        &self.decision.profile.spec.suite
    }

    /// The part of this kind with this key: from the cache, or made now.
    fn part(
        &self,
        kind: &str,
        key: String,
        from: &str,
        make: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<(Data, Stored)> {
        if let Some((data, stored)) = self.cache.lookup(kind, &key) {
            return Ok((data, stored));
        }
        let data = make()?;
        let stored = self.cache.store(kind, &key, &data, from)?;
        Ok((data.into(), stored))
    }

    fn kernel_package(&self) -> Result<Package> {
        self.package(&self.decision.profile.kernel(self.dom0_arch())?.package, self.dom0_arch())
    }

    fn kernel_key(&self, package: &Package) -> String {
        let mut inputs = Inputs::new("kernel", 1);
        inputs.add("package", &package.sha256);
        inputs.key()
    }

    /// dom0's kernel, as the package has it.
    ///
    /// # Errors
    ///
    /// A package that cannot be had, or has no kernel of this architecture.
    pub fn kernel(&self) -> Result<Part> {
        if let Some(path) = &self.decision.config().dom0.kernel {
            return self.own_kernel(path, "dom0.kernel", self.decision.dom0_arch);
        }
        let package = self.kernel_package()?;
        let from = describe(&package);
        let (data, stored) = self.part("kernel", self.kernel_key(&package), &from, || {
            let deb = self.fetch(&package)?;
            let _step = self.progress.step(format!("unpacking the kernel of {}", package.name));
            let path = kernel_path(&package, &deb)?;
            // What only UEFI could start is unpacked; everything else stays as it was made and signed.
            let bytes = deb.read(&path)?;
            if KernelImage::parse(&bytes).is_ok() { Ok(bytes) } else { unpack(&bytes) }
        })?;
        let header = KernelImage::parse_as(&data, Format::of(self.decision.dom0_arch))
            .map_err(|error| error.context(format!("the kernel of {from}")))?;
        Ok(Part { artifact: artifact(stored, Some((&header).into())), data })
    }

    /// Makes all parts, but for a root file system that one of `bases` has; the hypervisor is compiled while the rest is
    /// fetched and unpacked.
    ///
    /// # Errors
    ///
    /// The first part that cannot be made.
    pub fn make(&self, bases: Option<&Bases<'_>>) -> Result<Parts> {
        std::thread::scope(|scope| {
            // One that is compiled needs no package.
            let compiled = !matches!(self.decision.hypervisor, HypervisorSource::Package { .. });
            let hypervisor = compiled.then(|| scope.spawn(|| self.hypervisor()));
            let rest = || -> Result<_> {
                self.resolve_packages()?;
                let kernel = self.kernel()?;
                let root = self.root_beside(bases)?;
                let ramdisk = self.ramdisk()?;
                let device_tree = self.device_tree()?;
                let mut firmware = BTreeMap::new();
                for name in self.decision.firmware.keys() {
                    let part = self.firmware(name)?;
                    // The image is the same whoever starts it here.
                    if self.decision.boot.firmware.contains(name) {
                        firmware.insert(name.clone(), part);
                    }
                }
                let guests = self.guests()?;
                let root = root.map(|root| self.with_guests(root, &guests)).transpose()?;
                Ok((kernel, root, ramdisk, device_tree, firmware, guests))
            };
            let rest = rest();
            let hypervisor = hypervisor.map(|thread| {
                let panicked = || Error::new("compiling the hypervisor ended in a panic of the builder");
                thread.join().unwrap_or_else(|_| Err(panicked()))
            });
            let (kernel, root, ramdisk, device_tree, firmware, guests) = rest?;
            let hypervisor = hypervisor.unwrap_or_else(|| self.hypervisor());
            Ok(Parts { hypervisor: hypervisor?, kernel, ramdisk, root, device_tree, firmware, guests })
        })
    }

    /// What is known of the parts without making any. Sizes of what has not been made are guesses.
    ///
    /// # Errors
    ///
    /// Inputs that cannot be read.
    pub fn peek(&self) -> Result<Artifacts> {
        const MIB: u64 = 1 << 20;
        let guess = |what: &str, size: u64, header: Option<Header>| Artifact {
            from: format!("{what} (not made yet; the size is a guess)"),
            size,
            sha256: None,
            header,
        };
        let like = |architecture, image_size| {
            let format = Format::of(architecture);
            Header { format, text_offset: 0, image_size, loads_anywhere: true, gzip: false }
        };
        let (board, dom0) = (self.decision.board.architecture, self.decision.dom0_arch);
        let packages = self.known_packages()?.is_some();

        let source = &self.decision.hypervisor;
        let hypervisor = match source {
            HypervisorSource::File(_) => self.hypervisor()?.artifact,
            HypervisorSource::Package { package, .. } => {
                let key = if packages { Some(self.hypervisor_key(source)?) } else { None };
                match key.and_then(|key| self.cache.lookup("hypervisor", &key)) {
                    Some((data, stored)) => {
                        let header = hypervisor_header(self.decision, &data, &stored.from)?;
                        artifact(stored, header)
                    }
                    None => guess(package, MIB, Some(like(board, 2 * MIB))),
                }
            }
            HypervisorSource::Compile { board: name, .. } => {
                match self.cache.lookup("hypervisor", &self.hypervisor_key(source)?) {
                    Some((data, stored)) => {
                        let header = hypervisor_header(self.decision, &data, &stored.from)?;
                        artifact(stored, header)
                    }
                    None => guess(&format!("compiled for {name}"), MIB / 2, Some(like(board, 2 * MIB))),
                }
            }
        };
        let own_kernel = self.decision.config().dom0.kernel.as_deref();
        let kernel = (packages && own_kernel.is_none())
            .then(|| {
                self.kernel_package().ok().and_then(|p| self.cache.lookup("kernel", &self.kernel_key(&p)))
            })
            .flatten();
        let kernel = match (kernel, own_kernel) {
            (_, Some(path)) => self.own_kernel(path, "dom0.kernel", self.decision.dom0_arch)?.artifact,
            (Some((data, stored)), None) => artifact(stored, Some((&KernelImage::parse_any(&data)?).into())),
            (None, None) => {
                let package = &self.decision.profile.kernel(self.dom0_arch())?.package;
                guess(package, 40 * MIB, Some(like(dom0, 48 * MIB)))
            }
        };
        let own_ramdisk = self.decision.config().dom0.ramdisk.as_deref();
        let ramdisk = match packages && own_ramdisk.is_none() {
            true => self.cache.peek("ramdisk", &self.ramdisk_key()?),
            false => None,
        };
        let ramdisk = match (ramdisk, own_ramdisk) {
            (_, Some(path)) => self.own_file(path, "dom0.ramdisk")?.artifact,
            (Some(stored), None) => artifact(stored, None),
            (None, None) => guess(&format!("profile {}", self.decision.profile.spec.id), 2 * MIB, None),
        };
        let firmware = self.peek_firmware(|what| guess(what, MIB, None))?;
        let device_tree = self.peek_device_tree(packages)?;
        let root = self.peek_root(packages)?;
        let guests = self.peek_guests()?;
        Ok(Artifacts { hypervisor, kernel, ramdisk, root, device_tree, firmware, guests })
    }

    /// A hash of what kernel, ramdisk and root file system are made from.
    pub(crate) fn system_keys(&self) -> Result<String> {
        let mut inputs = Inputs::new("system", 1);
        if self.has_debian_kernel() {
            inputs.add("kernel", self.kernel_key(&self.kernel_package()?));
        }
        inputs.add("ramdisk", self.ramdisk_key()?);
        inputs.add("root", self.root_key()?.unwrap_or_default());
        Ok(inputs.key())
    }

    /// A hash of everything the image is made from, which is cheap while nothing changes; `None` while some package
    /// is not known.
    ///
    /// # Errors
    ///
    /// Inputs that cannot be read.
    pub fn fingerprint(&self) -> Result<Option<String>> {
        let Some(packages) = self.known_packages()? else { return Ok(None) };
        let decision = self.decision;
        let mut inputs = Inputs::new("image", 1);
        inputs.add("builder", builder_stamp().unwrap_or_default());
        inputs.add("epoch", self.epoch.to_string());
        inputs.add("board", format!("{:?} {:?} {:?}", decision.board, decision.method, decision.boot));
        inputs.add("layout", format!("{:?}", decision.layout));
        inputs.add("dom0", decision.dom0_arch.name());
        inputs.add("memory", format!("{} {}", decision.memory.bytes(), decision.dom0_mem.bytes()));
        inputs.add("kind", decision.kind.traits().name);
        inputs.add("hypervisor-args", &decision.hypervisor_args);
        inputs.add("dom0-args", &decision.dom0_args);
        for package in packages {
            inputs.add(&package.name, package.sha256);
        }
        inputs.add("ramdisk", self.ramdisk_key()?);
        if let Some(key) = self.root_key()? {
            inputs.add("root", key);
        }
        if let Some(key) = self.layer_key()? {
            inputs.add("layer", key);
        }
        if let Some(key) = self.own_boot_key()? {
            inputs.add("own-boot", key);
        }
        if let Some(key) = self.own_firmware_key()? {
            inputs.add("own-firmware", key);
        }
        inputs.add("guests", self.guests_key()?);
        if let Some(key) = self.tree_key()? {
            inputs.add("device-tree", key);
        }
        inputs.add("hypervisor", self.hypervisor_key(&decision.hypervisor)?);
        Ok(Some(inputs.key()))
    }
}

/// Where the kernel is in its package.
fn kernel_path(package: &Package, deb: &Deb) -> Result<String> {
    if let Some(version) = package.name.strip_prefix("linux-image-") {
        return Ok(format!("/boot/vmlinuz-{}", version.trim_end_matches("-unsigned")));
    }
    let found =
        deb.list()?.into_iter().map(|entry| entry.path).find(|path| path.starts_with("/boot/vmlinuz"));
    found.ok_or_else(|| {
        Error::new(format!("{} has no /boot/vmlinuz", describe(package)))
            .help("name a package with a kernel in the profile, such as linux-image-arm64")
    })
}

fn describe(package: &Package) -> String {
    format!("{} {} ({})", package.name, package.version, package.arch)
}

fn artifact(stored: Stored, header: Option<Header>) -> Artifact {
    Artifact { from: stored.from, size: stored.size, sha256: Some(stored.sha256), header }
}

/// How this program looks: another builder may make another image from the same inputs.
/// `None` where it cannot be looked at, and nothing is known of it.
pub(crate) fn builder_stamp() -> Option<String> {
    let stamp = std::env::current_exe().ok().and_then(|path| crate::cache::Stamp::of(&path).ok())?;
    Some(format!("{} {stamp:?}", env!("CARGO_PKG_VERSION")))
}
