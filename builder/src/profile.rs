//! What goes into dom0: its kernel and its root file system, as a folder in `dom0-rootfs/` says.

use crate::error::{Error, Result, ResultExt};
use crate::workspace::described;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use vambrace_bsp::Size;
use vambrace_bsp::text::{fault_at, read};

/// A root file system and the kernel that runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The folder with the description.
    pub dir: PathBuf,
    /// What the description says.
    pub spec: Spec,
}

/// The content of `profile.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// The name a person types; the same as the folder's.
    pub id: String,
    /// What it is, in a line.
    pub description: String,
    /// The Debian release its packages come from, where no other is asked for.
    pub suite: String,
    /// The releases that it can be made of, by name, where it makes a difference which.
    #[serde(default, rename = "release")]
    pub releases: BTreeMap<String, Release>,
    /// The kernel, by Debian's name of the architecture.
    pub kernel: BTreeMap<String, Kernel>,
    /// dom0's root file system: the ramdisk itself, or what is on the ext4 partition of a layout that has one. What dom0
    /// is does not depend on where it lies.
    pub root: FileTree,
    /// What is left free on the root file system, where the layout does not leave more.
    #[serde(default)]
    pub room: Option<Size>,
    /// The ramdisk that finds a root file system on the medium and goes there.
    pub initramfs: Option<FileTree>,
    /// What is added where what boots has two slots, for dom0 to look after them.
    pub slots: Option<SlotsOf>,
}

/// What dom0 needs to look after slots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlotsOf {
    /// Folders laid over the root file system's own overlays.
    pub overlays: Vec<String>,
    /// Folders laid over the ramdisk's own overlays. The kernel starts `/slot-init` of these first, which looks after the trial
    /// and goes on with the ramdisk's own.
    pub initramfs_overlays: Vec<String>,
    /// Modules that the ramdisk has and loads beside its own: for the boot partition's file system, where the root file
    /// system has none.
    #[serde(default)]
    pub modules: Vec<String>,
}

/// What is different about a profile that is made of this release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Release {
    /// The architectures, in Debian's words, that the release has all packages for.
    pub architectures: Vec<String>,
    /// Packages installed beside those of every release.
    #[serde(default)]
    pub install: Vec<String>,
    /// Symbolic links beside those of every release.
    #[serde(default, rename = "link")]
    pub links: Vec<Link>,
}

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// The package with `/boot/vmlinuz-*`, or one that depends on it.
    pub package: String,
}

/// A file tree: packages' files, kernel modules, links, device nodes, and a folder laid over them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileTree {
    /// The folders laid over everything else, one after another, relative to the folder of all profiles.
    pub overlays: Vec<String>,
    /// Packages installed as they are, with everything that they depend on and what no Debian is without.
    #[serde(default)]
    pub install: Vec<String>,
    /// What of installed packages stays out, in the words of dpkg's `path-exclude`: `*` stands for any text.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What of that is there all the same, as `path-include` has it.
    #[serde(default)]
    pub include: Vec<String>,
    /// Paths that installing leaves and that are taken out again, such as links by which a service is started.
    #[serde(default)]
    pub remove: Vec<String>,
    /// The kernel's modules where modprobe and udev look for them; only beside installed packages.
    pub kernel_modules: Option<KernelModules>,
    /// Folders that would not be there otherwise.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Files from packages.
    #[serde(default, rename = "package")]
    pub packages: Vec<PackageFiles>,
    /// Modules of the kernel, by name, and with each those that it depends on. They are in `usr/lib/vambrace/modules`,
    /// where the file `load` lists them in the order in which they can be loaded.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Symbolic links.
    #[serde(default, rename = "link")]
    pub links: Vec<Link>,
    /// Character devices that have to be there before the kernel's own.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
}

/// All modules of the kernel, but for some.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KernelModules {
    /// Folders of modules that stay out, below the package's `kernel`: `drivers/gpu`.
    #[serde(default)]
    pub without: Vec<String>,
}

/// Files taken out of one package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackageFiles {
    /// The package.
    pub name: String,
    /// The files.
    pub files: Vec<PackageFile>,
}

/// One file taken out of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackageFile {
    /// The absolute path in the package.
    pub from: String,
    /// The path in the root file system, without a leading slash.
    pub to: String,
    /// The permission bits.
    pub mode: u32,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// The link's path, without a leading slash.
    pub path: String,
    /// What it says.
    pub target: String,
}

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// The path, without a leading slash.
    pub path: String,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The permission bits.
    pub mode: u32,
}

/// A file, link or folder of the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayItem {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Its path in the root file system, without a leading slash.
    pub path: String,
    /// What it is.
    pub kind: OverlayKind,
}

/// What an item of the overlay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayKind {
    /// A folder.
    Directory,
    /// A file with these permission bits.
    File(u32),
    /// A symbolic link with this target.
    Link(String),
}

impl Profile {
    /// Reads and checks the profile in the folder `dir`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("profile.toml");
        let text = fs::read_to_string(&path).context_at(&path, || "cannot read the profile")?;
        let file = path.display().to_string();
        let spec: Spec = read(&file, &text).map_err(described)?;
        let folder = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match spec.fault(folder) {
            None => Ok(Self { dir: dir.to_path_buf(), spec }),
            Some((path, message)) => Err(described(Box::new(fault_at(&file, &text, &path, message)))),
        }
    }

    /// The profile for Debian's architecture `arch`, of the release `wanted`, or else of its own, or where that has not all
    /// packages for the architecture, of the newest one that has.
    ///
    /// # Errors
    ///
    /// A release that the profile does not know, or that lacks the architecture.
    pub fn of_release(mut self, wanted: Option<&str>, arch: &str) -> Result<Self> {
        if self.spec.releases.is_empty() {
            return match wanted.filter(|wanted| *wanted != self.spec.suite) {
                None => Ok(self),
                Some(_) => Err(self.no_release(wanted, arch)),
            };
        }
        let has = |name: &str| {
            self.spec
                .releases
                .get(name)
                .is_some_and(|release| release.architectures.iter().any(|a| a == arch))
        };
        let name = match wanted {
            Some(wanted) => has(wanted).then(|| wanted.to_owned()),
            None if has(&self.spec.suite) => Some(self.spec.suite.clone()),
            // Debian's names are in the order of the alphabet for longer than anybody keeps a card.
            None => self.spec.releases.keys().rev().find(|name| has(name)).cloned(),
        };
        let Some(name) = name else { return Err(self.no_release(wanted, arch)) };
        if let Some(Release { install, links, .. }) = self.spec.releases.get(&name).cloned() {
            self.spec.root.install.extend(install);
            self.spec.root.links.extend(links);
        }
        self.spec.suite = name;
        Ok(self)
    }

    /// The profile for an image with two slots for what boots.
    ///
    /// # Errors
    ///
    /// It does not say what dom0 needs for that.
    pub fn with_slots(mut self) -> Result<Self> {
        let (Some(slots), Some(initramfs)) = (self.spec.slots.clone(), self.spec.initramfs.as_mut()) else {
            return Err(Error::new(format!(
                "the profile `{}` has nothing that confirms a slot when dom0 is up",
                self.spec.id
            ))
            .at(self.dir.join("profile.toml"))
            .help("choose another profile, leave out --slots, or add [slots] and [initramfs] to it"));
        };
        self.spec.root.overlays.extend(slots.overlays);
        initramfs.overlays.extend(slots.initramfs_overlays);
        initramfs.modules.extend(slots.modules);
        Ok(self)
    }

    fn no_release(&self, wanted: Option<&str>, arch: &str) -> Error {
        let of = wanted.map_or(String::new(), |name| format!(" of Debian {}", name.escape_default()));
        let error = Error::new(format!("the profile `{}` cannot be made{of} for {arch}", self.spec.id))
            .at(self.dir.join("profile.toml"));
        let known: Vec<String> = self
            .spec
            .releases
            .iter()
            .map(|(name, release)| format!("{name} ({})", release.architectures.join(", ")))
            .collect();
        if known.is_empty() {
            error.help(format!("it is made of Debian {} only", self.spec.suite))
        } else {
            error.help(format!("it can be made of {}", known.join(", ")))
        }
    }

    /// The kernel's source for Debian's architecture `arch`.
    ///
    /// # Errors
    ///
    /// The profile has none for it.
    pub fn kernel(&self, arch: &str) -> Result<&Kernel> {
        self.spec.kernel.get(arch).ok_or_else(|| {
            let known = self.spec.kernel.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::new(format!("the profile `{}` has no kernel for {arch}, only for {known}", self.spec.id))
                .at(self.dir.join("profile.toml"))
                .help(format!("add a [kernel.{arch}]"))
        })
    }

    /// The ramdisk for a root file system on the medium.
    ///
    /// # Errors
    ///
    /// The profile has none.
    pub fn initramfs(&self) -> Result<&FileTree> {
        self.spec.initramfs.as_ref().ok_or_else(|| {
            Error::new(format!("the profile `{}` can only be a ramdisk", self.spec.id))
                .at(self.dir.join("profile.toml"))
                .help("choose a layout without a root partition, or add an [initramfs]")
        })
    }

    /// Everything in the overlays of `tree`, each one's sorted by path; what a later one has takes the place of what an earlier
    /// one has there. Permission bits become 0755 or 0644, so that they do
    /// not depend on how the sources were unpacked.
    ///
    /// # Errors
    ///
    /// What cannot be read, and what is neither a file, a folder nor a symbolic link.
    pub fn overlay(&self, tree: &FileTree) -> Result<Vec<OverlayItem>> {
        let mut all = Vec::new();
        for folder in &tree.overlays {
            let mut items = Vec::new();
            walk(&self.dir.with_file_name(folder), "", &mut items)?;
            items.sort_by(|a, b| a.path.cmp(&b.path));
            let again = |old: &OverlayItem| {
                items.iter().any(|new| new.path == old.path && new.kind != OverlayKind::Directory)
            };
            all.retain(|old| !again(old));
            all.append(&mut items);
        }
        Ok(all)
    }
}

fn walk(dir: &Path, prefix: &str, items: &mut Vec<OverlayItem>) -> Result<()> {
    for entry in fs::read_dir(dir).context_at(dir, || "cannot list the overlay")? {
        let entry = entry.context_at(dir, || "cannot list the overlay")?;
        let host = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Error::new("the name is not UTF-8").at(host));
        };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let meta = fs::symlink_metadata(&host).context_at(&host, || "cannot look at it")?;
        let kind = if meta.is_dir() {
            walk(&host, &path, items)?;
            OverlayKind::Directory
        } else if meta.is_file() {
            OverlayKind::File(if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 })
        } else if meta.is_symlink() {
            let target = fs::read_link(&host).context_at(&host, || "cannot read the link")?;
            OverlayKind::Link(
                target.to_str().ok_or_else(|| Error::new("the link is not UTF-8").at(&host))?.to_owned(),
            )
        } else {
            return Err(Error::new("only files, folders and symbolic links can be in an overlay").at(host));
        };
        items.push(OverlayItem { host, path, kind });
    }
    Ok(())
}

impl Spec {
    fn fault(&self, folder: &str) -> Option<(String, String)> {
        if self.id != folder {
            return Some(("id".into(), format!("`{}` is not the name of the folder, `{folder}`", self.id)));
        }
        if !plain(&self.suite) {
            return Some(("suite".into(), format!("`{}` is not the name of a release", self.suite)));
        }
        for (arch, kernel) in &self.kernel {
            if !plain(&kernel.package) {
                return Some((
                    format!("kernel.{arch}.package"),
                    format!("`{}` is not a package's name", kernel.package),
                ));
            }
        }
        for (name, release) in &self.releases {
            let own = format!("release.{name}");
            if !plain(name) {
                return Some((own, format!("`{name}` is not the name of a release")));
            }
            let links = release.links.iter().map(|link| &link.path);
            let fault = names_fault(&own, "install", &release.install)
                .or_else(|| names_fault(&own, "architectures", &release.architectures))
                .or_else(|| paths_fault(&own, "link", "path", links));
            if fault.is_some() {
                return fault;
            }
        }
        if !self.releases.is_empty() && !self.releases.contains_key(&self.suite) {
            return Some(("suite".into(), format!("there is no [release.{}]", self.suite)));
        }
        if let Some(tree) = &self.initramfs
            && (!tree.install.is_empty() || tree.kernel_modules.is_some())
        {
            return Some(("initramfs".into(), "packages are not installed into a ramdisk".into()));
        }
        let fault = self.root.fault("root").or_else(|| self.initramfs.as_ref()?.fault("initramfs"));
        let slots = self.slots.as_ref();
        fault
            .or_else(|| paths_fault("slots", "overlays", "", slots?.overlays.iter()))
            .or_else(|| paths_fault("slots", "initramfs-overlays", "", slots?.initramfs_overlays.iter()))
            .or_else(|| modules_fault("slots", &slots?.modules))
    }
}

/// The first of `modules` that cannot be a kernel module's name.
fn modules_fault(own: &str, modules: &[String]) -> Option<(String, String)> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let index = modules.iter().position(|name| name.is_empty() || !name.bytes().all(letter))?;
    let name = modules.get(index)?;
    Some((format!("{own}.modules.{index}"), format!("`{name}` is not a kernel module's name")))
}

impl FileTree {
    /// The first fault, with the path of its field; `own` is the tree's.
    fn fault(&self, own: &str) -> Option<(String, String)> {
        if let Some(fault) = paths_fault(own, "overlays", "", self.overlays.iter()) {
            return Some(fault);
        }
        if let Some(fault) = names_fault(own, "install", &self.install) {
            return Some(fault);
        }
        for (field, patterns) in [("exclude", &self.exclude), ("include", &self.include)] {
            // They become lines of a configuration file.
            let bad = |text: &String| !text.starts_with('/') || text.bytes().any(|b| b.is_ascii_control());
            if let Some(at) = patterns.iter().position(bad) {
                return Some((format!("{own}.{field}.{at}"), "that is not an absolute path".into()));
            }
        }
        if let Some(fault) = paths_fault(own, "remove", "", self.remove.iter()) {
            return Some(fault);
        }
        if let Some(modules) = &self.kernel_modules {
            if self.install.is_empty() {
                let why = "modules are found by what is installed, and nothing is";
                return Some((format!("{own}.kernel-modules"), why.into()));
            }
            if let Some(fault) =
                paths_fault(&format!("{own}.kernel-modules"), "without", "", modules.without.iter())
            {
                return Some(fault);
            }
        }
        let directories =
            self.directories.iter().enumerate().map(|(i, path)| (format!("{own}.directories.{i}"), path));
        let links =
            self.links.iter().enumerate().map(|(i, link)| (format!("{own}.link.{i}.path"), &link.path));
        let devices =
            self.devices.iter().enumerate().map(|(i, dev)| (format!("{own}.device.{i}.path"), &dev.path));
        for (field, path) in directories.chain(links).chain(devices) {
            if let Some(message) = inside(path) {
                return Some((field, message));
            }
        }
        if let Some(fault) = modules_fault(own, &self.modules) {
            return Some(fault);
        }
        for (index, package) in self.packages.iter().enumerate() {
            if !plain(&package.name) {
                return Some((
                    format!("{own}.package.{index}.name"),
                    format!("`{}` is not a package's name", package.name),
                ));
            }
            for (number, file) in package.files.iter().enumerate() {
                let field = |name: &str| format!("{own}.package.{index}.files.{number}.{name}");
                if let Some(message) = inside(&file.to) {
                    return Some((field("to"), message));
                }
                if !file.from.starts_with('/') {
                    return Some((field("from"), format!("`{}` is not an absolute path", file.from)));
                }
                if file.mode > 0o7777 {
                    return Some((
                        field("mode"),
                        format!("{:#o} is not a set of permission bits", file.mode),
                    ));
                }
            }
        }
        let device = self.devices.iter().position(|device| device.mode > 0o7777)?;
        Some((format!("{own}.device.{device}.mode"), "that is not a set of permission bits".into()))
    }
}

/// The first of `names` that is none of a package or an architecture.
fn names_fault(own: &str, field: &str, names: &[String]) -> Option<(String, String)> {
    let at = names.iter().position(|name| !plain(name))?;
    Some((format!("{own}.{field}.{at}"), format!("`{}` is not a package's name", names.get(at)?)))
}

/// The first of `paths` that leads outside.
fn paths_fault<'a>(
    own: &str,
    field: &str,
    part: &str,
    paths: impl Iterator<Item = &'a String>,
) -> Option<(String, String)> {
    let part = if part.is_empty() { String::new() } else { format!(".{part}") };
    paths.enumerate().find_map(|(at, path)| Some((format!("{own}.{field}.{at}{part}"), inside(path)?)))
}

/// Whether `text` can be the name of a package or a release.
fn plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'))
}

/// What keeps `path` from being a relative path that stays inside.
fn inside(path: &str) -> Option<String> {
    let bad = path.is_empty() || path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    bad.then(|| format!("`{path}` is not a relative path that stays inside"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../dom0-rootfs/minimal")
    }

    #[test]
    fn minimal_is_sound_and_its_init_can_run() {
        let profile = Profile::read(&minimal()).unwrap();
        assert_eq!(profile.kernel("arm64").unwrap().package, "linux-image-arm64");
        assert_eq!(profile.kernel("armhf").unwrap().package, "linux-image-armmp-lpae");
        let overlay = profile.overlay(&profile.spec.root).unwrap();
        let mode = |path: &str| overlay.iter().find(|item| item.path == path).map(|item| item.kind.clone());
        assert_eq!(mode("init"), Some(OverlayKind::File(0o755)));
        assert_eq!(mode("usr/lib/vambrace/selftest"), Some(OverlayKind::File(0o755)));
        assert_eq!(mode("etc/inittab"), Some(OverlayKind::File(0o644)));
        let first = profile.overlay(profile.initramfs().unwrap()).unwrap();
        let init = first.iter().find(|item| item.path == "init").map(|item| item.kind.clone());
        assert_eq!(init, Some(OverlayKind::File(0o755)));
    }

    #[test]
    fn an_architecture_without_a_kernel_is_named() {
        let error = Profile::read(&minimal()).unwrap().kernel("riscv64").unwrap_err();
        assert!(error.report().contains("only for arm64, armhf"), "{}", error.report());
    }

    #[test]
    fn each_release_has_its_own_toolstack() {
        let read = |name: &str| Profile::read(&minimal().with_file_name(name)).unwrap();
        let installs =
            |profile: &Profile, name: &str| profile.spec.root.install.iter().any(|own| own == name);
        for (release, arch, suite, tools) in [
            (None, "arm64", "trixie", "xen-utils-4.20"),
            (Some("bookworm"), "arm64", "bookworm", "xen-utils-4.17"),
            // Debian 13 has none for it.
            (None, "armhf", "bookworm", "xen-utils-4.17"),
        ] {
            let profile = read("debian").of_release(release, arch).unwrap();
            assert_eq!(profile.spec.suite, suite);
            assert!(installs(&profile, tools) && installs(&profile, "openvswitch-switch"));
        }
        for (name, release, arch) in [
            ("debian", Some("trixie"), "armhf"),
            ("debian", Some("sid"), "arm64"),
            ("debian", None, "riscv64"),
            ("minimal", Some("bookworm"), "arm64"),
        ] {
            let report = read(name).of_release(release, arch).unwrap_err().report();
            assert!(report.contains("cannot be made") && report.contains("trixie"), "{report}");
        }
        assert!(read("minimal").of_release(Some("trixie"), "armhf").is_ok());
        assert_eq!(read("debian-guest").of_release(None, "armhf").unwrap().spec.suite, "trixie");
    }

    #[test]
    fn faults_of_installed_systems_have_a_line_and_a_field() {
        let text = fs::read_to_string(minimal().with_file_name("debian").join("profile.toml")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("debian");
        fs::create_dir(&folder).unwrap();
        for (from, to, expected) in [
            ("    \"udev\",", "    \"-o=x\",", "in `root.install.1`"),
            ("\"/usr/share/man/*\"", "\"/usr\\npath-include=/\"", "in `root.exclude.4`"),
            ("\"drivers/gpu\"", "\"../gpu\"", "in `root.kernel-modules.without.2`"),
            ("remove = [\"etc/", "remove = [\"/etc/", "in `root.remove.0`"),
            ("suite = \"trixie\"", "suite = \"sid\"", "in `suite`"),
            ("install = [\"xen-utils-4.20\"]", "install = [\"xen utils\"]", "in `release.trixie.install.0`"),
            ("path = \"usr/lib/xen-4.20\"", "path = \"/usr/lib\"", "in `release.bookworm.link.0.path`"),
            ("modules = [\"ext4\"]", "install = [\"udev\"]", "in `initramfs`"),
        ] {
            assert!(text.contains(from), "{from}");
            fs::write(folder.join("profile.toml"), text.replacen(from, to, 1)).unwrap();
            let error = Profile::read(&folder).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn faults_have_a_line_and_a_field() {
        let text = fs::read_to_string(minimal().join("profile.toml")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("minimal");
        fs::create_dir(&folder).unwrap();
        for (from, to, expected) in [
            ("to = \"bin/busybox\"", "to = \"../../etc/passwd\"", "in `root.package.0.files.0.to`"),
            ("\"minimal/overlay\"", "\"../etc\"", "in `root.overlays.1`"),
            ("mode = 0o755", "mode = 0o77777", "in `root.package.0.files.0.mode`"),
            ("suite = \"trixie\"", "suite = \"tri xie\"", "in `suite`"),
            ("name = \"busybox-static\"", "name = \"-o\"", "in `root.package.0.name`"),
            ("modules = [\"ext4\"]", "modules = [\"../ext4\"]", "in `initramfs.modules.0`"),
            ("id = \"minimal\"", "id = \"maximal\"", "in `id`"),
            ("suite =", "siute =", "unknown key `siute`"),
        ] {
            assert!(text.contains(from), "{from}");
            fs::write(folder.join("profile.toml"), text.replacen(from, to, 1)).unwrap();
            let error = Profile::read(&folder).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
