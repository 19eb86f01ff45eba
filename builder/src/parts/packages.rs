//! The packages of an image: which they are, and where they come from.

use super::{Maker, system};
use crate::apt::{Apt, AptOptions, Package};
use crate::deb::Deb;
use crate::decision::HypervisorSource;
use crate::error::{Error, Result};
use crate::firmware::FirmwareSource;
use crate::pins::Pins;
use crate::profile::FileTree;
use std::collections::BTreeSet;

/// What to do where a package is not to be had any more.
const NEWER: &str = "if the archive has newer packages by now, take those with `vambrace update`";
/// The same where a lock file says that it has to be this very package.
const PINNED: &str =
    "a lock file pins it: a mirror of that day, such as one of snapshot.debian.org, may still have it";

impl Maker<'_> {
    /// The names of all packages of dom0's release, with their architecture, that the image needs.
    fn package_names(&self) -> Result<Vec<(String, String)>> {
        let profile = &self.decision.profile;
        let arch = self.dom0_arch().to_owned();
        let mut names = Vec::new();
        if self.has_debian_kernel() {
            names.push((profile.kernel(&arch)?.package.clone(), arch.clone()));
        }
        for tree in self.trees()? {
            names.extend(tree.packages.iter().map(|package| (package.name.clone(), arch.clone())));
            if !tree.install.is_empty() {
                names.push((system::BUSYBOX.to_owned(), arch.clone()));
                let installed = self.known_closure(tree).unwrap_or_default();
                names.extend(installed.into_iter().map(|name| (name, arch.clone())));
            }
        }
        for source in self.decision.firmware.values() {
            if let FirmwareSource::Package { package, arch, .. } = source {
                names.push((package.clone(), arch.clone()));
            }
        }
        names.extend(self.tree_package_name()?.filter(|tree| !names.contains(tree)));
        Ok(names)
    }

    /// All packages that the image needs: release, name and architecture. The hypervisor's may be of another release
    /// than dom0's.
    fn all_package_names(&self) -> Result<Vec<(String, String, String)>> {
        let names = self.package_names()?.into_iter();
        let mut all: Vec<_> = names.map(|(name, arch)| (self.suite().to_owned(), name, arch)).collect();
        if let HypervisorSource::Package { suite, arch, package, .. } = &self.decision.hypervisor {
            all.push((suite.clone(), package.clone(), arch.clone()));
        }
        Ok(all)
    }

    /// What `name` is in the cache: the package itself, or for a package that only depends on the current kernel that
    /// kernel's.
    fn known(&self, suite: &str, name: &str, arch: &str) -> Option<Package> {
        let package = self.cache.package(suite, arch, name)?;
        match package.kernel() {
            Some(kernel) => self.cache.package(suite, arch, kernel),
            None => Some(package),
        }
    }

    /// Which packages are in use; `None` if some are not known yet.
    ///
    /// # Errors
    ///
    /// A profile without a kernel for the architecture.
    pub fn known_packages(&self) -> Result<Option<Vec<Package>>> {
        let unknown = |tree: &&FileTree| !tree.install.is_empty() && self.known_closure(tree).is_none();
        if self.trees()?.iter().any(unknown) {
            return Ok(None);
        }
        let names = self.all_package_names()?;
        let own: Option<Vec<Package>> =
            names.iter().map(|(suite, name, arch)| self.known(suite, name, arch)).collect();
        let guests: Option<Vec<Vec<Package>>> =
            self.each_guest(|guest| guest.known_packages())?.into_iter().collect();
        let (Some(mut all), Some(guests)) = (own, guests) else { return Ok(None) };
        for package in guests.into_iter().flatten() {
            if !all.contains(&package) {
                all.push(package);
            }
        }
        Ok(Some(all))
    }

    pub(super) fn apt(&self, suite: &str) -> Result<Apt> {
        let options = AptOptions { suite: suite.to_owned(), ..AptOptions::default() };
        Apt::open(&self.cache.folder("apt"), &options)
    }

    /// Finds out which packages are in use, from the archive where they are not known yet.
    ///
    /// # Errors
    ///
    /// What apt cannot do.
    pub fn resolve_packages(&self) -> Result<Vec<Package>> {
        if let Some(known) = self.known_packages()? {
            return Ok(known);
        }
        let resolve = |suite: &str, name: &str, arch: &str| -> Result<Package> {
            if let Some(known) = self.cache.package(suite, arch, name) {
                return Ok(known);
            }
            self.may_ask(&format!("{name} ({suite} {arch})"))?;
            let package = self.apt(suite)?.resolve(name, arch)?;
            self.cache.set_package(suite, arch, name, package.clone());
            Ok(package)
        };
        for tree in self.trees()? {
            self.resolve_closure(tree)?;
        }
        let mut packages = self.each_guest(|guest| guest.resolve_packages())?.concat();
        for (suite, name, arch) in self.all_package_names()? {
            let mut package = resolve(&suite, &name, &arch)?;
            if let Some(kernel) = package.kernel().map(str::to_owned) {
                package = resolve(&suite, &kernel, &arch)?;
            }
            packages.push(package);
        }
        Ok(packages)
    }

    /// The lists that packages are looked up in, guests' too: release and architecture.
    fn package_lists(&self) -> Result<BTreeSet<(String, String)>> {
        let of_one = |(suite, _, arch): (String, String, String)| (arch != "all").then_some((suite, arch));
        let own = self.all_package_names()?.into_iter().filter_map(of_one);
        let guests = self.each_guest(|guest| guest.package_lists())?;
        Ok(own.chain(guests.into_iter().flatten()).collect())
    }

    /// Whether the archive may be asked what `what` is; where a lock file says what is used, it may not.
    pub(super) fn may_ask(&self, what: &str) -> Result<()> {
        match self.cache.lock_file() {
            None => Ok(()),
            Some(file) => Err(Error::new(format!(
                "the lock file does not pin {what}, which the image needs"
            ))
            .at(file)
            .help(
                "`vambrace update` with the same options pins what is needed now, and moves the other packages to the \
                 newest; or name a file of its own with --lock",
            )),
        }
    }

    /// The pins of this image, guests' too, as far as they are known.
    ///
    /// # Errors
    ///
    /// A profile without a kernel for the architecture.
    pub fn pins(&self) -> Result<Pins> {
        let mut pins = Pins::default();
        for other in self.each_guest(|guest| guest.pins())? {
            pins.extend(other);
        }
        for (suite, name, arch) in self.all_package_names()? {
            let Some(package) = self.cache.package(&suite, &arch, &name) else { continue };
            if let Some(kernel) = package.kernel()
                && let Some(found) = self.cache.package(&suite, &arch, kernel)
            {
                pins.set_package(&suite, &arch, kernel, found);
            }
            pins.set_package(&suite, &arch, &name, package);
        }
        for tree in self.trees()? {
            if let Some(installed) = self.known_closure(tree).filter(|_| !tree.install.is_empty()) {
                pins.set_installed(self.suite(), self.dom0_arch(), &tree.install, installed);
            }
        }
        Ok(pins)
    }

    /// The pins that this image has with the archive's newest packages. Those in use stay what they are.
    ///
    /// # Errors
    ///
    /// What apt cannot do.
    pub fn newest(&self) -> Result<Pins> {
        for (suite, arch) in self.package_lists()? {
            self.apt(&suite)?.update(&arch, self.progress)?;
        }
        let cache = self.cache.unpinned()?;
        let Maker { root, decision, progress, epoch, .. } = *self;
        let asking = Maker { root, decision, cache: &cache, progress, epoch };
        asking.resolve_packages()?;
        asking.pins()
    }

    pub(super) fn package(&self, name: &str, arch: &str) -> Result<Package> {
        self.package_of(self.suite(), name, arch)
    }

    pub(super) fn package_of(&self, suite: &str, name: &str, arch: &str) -> Result<Package> {
        let known = self.known(suite, name, arch);
        known.ok_or_else(|| Error::new(format!("the package {name} has not been looked up")))
    }

    pub(super) fn fetch(&self, package: &Package) -> Result<Deb> {
        self.fetch_of(self.suite(), package)
    }

    pub(super) fn fetch_of(&self, suite: &str, package: &Package) -> Result<Deb> {
        let fetched = self.apt(suite)?.fetch(package, self.progress);
        Deb::open(&fetched.map_err(|error| self.explained(error))?)
    }

    /// The error of a package that could not be had, with what to do.
    pub(super) fn explained(&self, error: Error) -> Error {
        error.help(if self.cache.lock_file().is_some() { PINNED } else { NEWER })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::config::ImageConfig;
    use crate::decision::{Decision, Request};
    use crate::pins::tests::package;
    use crate::progress::Progress;
    use crate::workspace::Workspace;
    use std::path::Path;

    #[test]
    fn guests_packages_are_updated_too() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::open(Some(&root), None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lists = |guests: &str| {
            let config = ImageConfig::parse("image.toml", guests).unwrap();
            let request = Request { board: "qemu-arm64".into(), config, ..Request::default() };
            let decision = Decision::new(&workspace, &request).unwrap();
            let (cache, progress) = (Cache::open(Some(dir.path())).unwrap(), Progress::quiet());
            let maker =
                Maker { root: &root, decision: &decision, cache: &cache, progress: &progress, epoch: 0 };
            let lists = maker.package_lists().unwrap();
            lists.into_iter().map(|(_, arch)| arch).collect::<Vec<_>>()
        };
        let guest = "[[guest]]\nname = \"a\"\nmemory = \"64M\"\n";
        assert_eq!(lists(""), ["arm64"]);
        assert_eq!(lists(guest), ["arm64"], "a list that both have is fetched once");
        assert_eq!(lists(&format!("{guest}architecture = \"armv7\"\n")), ["arm64", "armhf"]);
    }

    /// Has `run` look at the making of qemu-arm64's smallest image.
    fn making<T>(cache: &Cache, run: impl FnOnce(&Maker<'_>) -> T) -> T {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::open(Some(&root), None).unwrap();
        let request = Request { board: "qemu-arm64".into(), ..Request::default() };
        let decision = Decision::new(&workspace, &request).unwrap();
        let progress = Progress::quiet();
        run(&Maker { root: &root, decision: &decision, cache, progress: &progress, epoch: 0 })
    }

    #[test]
    fn an_images_pins_are_what_it_needs_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        assert_eq!(making(&cache, |maker| maker.pins()).unwrap(), Pins::default());
        let kernel = "linux-image-6.12.57+deb13-arm64";
        let mut meta = package("linux-image-arm64", "6.12.57-1");
        meta.depends = vec![kernel.into()];
        cache.set_package("trixie", "arm64", "linux-image-arm64", meta);
        for name in [kernel, "busybox-static", "hello"] {
            cache.set_package("trixie", "arm64", name, package(name, "1"));
        }
        let pins = making(&cache, |maker| maker.pins()).unwrap();
        let names: Vec<&str> = pins.packages().map(|(name, _)| name.name.as_str()).collect();
        assert_eq!(names, ["busybox-static", kernel, "linux-image-arm64"]);
    }

    #[test]
    fn what_a_lock_file_lacks_is_not_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        let pinned = cache.pinned_by(Path::new("web.lock"), Pins::default());
        let said = making(&pinned, |maker| maker.resolve_packages()).unwrap_err().report();
        assert!(
            said.contains("web.lock: the lock file does not pin linux-image-arm64 (trixie arm64)"),
            "{said}"
        );
        assert!(said.contains("`vambrace update` with the same options pins what is needed"), "{said}");
    }
}
