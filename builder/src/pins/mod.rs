//! Which package stands for which name: what an image is made of beside the sources.
//!
//! The archive moves, so this is written down: in the cache for one machine, or in a [`lockfile`] that goes with the
//! description of an image, or beside the image itself.

pub mod change;
pub mod lockfile;
mod text;

use crate::apt::Package;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use text::PinsText;

/// The packages in use, and what lists of packages install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PinsText", into = "PinsText")]
pub struct Pins {
    /// By the name that they were looked up with.
    packages: BTreeMap<Name, Package>,
    /// The names of everything that is installed with these, sorted.
    installs: BTreeMap<Install, Vec<String>>,
}

/// What a package is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Debian's release.
    pub release: String,
    /// Debian's architecture; a package of architecture `all` is found under any.
    pub arch: String,
    /// The package.
    pub name: String,
}

/// What is installed together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Install {
    release: String,
    arch: String,
    wanted: Vec<String>,
}

impl Name {
    /// The package `name` of this release and architecture.
    pub fn new(release: &str, arch: &str, name: &str) -> Self {
        Self { release: release.to_owned(), arch: arch.to_owned(), name: name.to_owned() }
    }
}

impl Install {
    fn new(release: &str, arch: &str, wanted: &[String]) -> Self {
        Self { release: release.to_owned(), arch: arch.to_owned(), wanted: wanted.to_vec() }
    }
}

impl Pins {
    /// The package that stands for this name.
    pub fn package(&self, release: &str, arch: &str, name: &str) -> Option<&Package> {
        self.packages.get(&Name::new(release, arch, name))
    }

    /// Makes `package` stand for this name.
    pub fn set_package(&mut self, release: &str, arch: &str, name: &str, package: Package) {
        self.packages.insert(Name::new(release, arch, name), package);
    }

    /// The names of everything that is installed where `wanted` is asked for.
    pub fn installed(&self, release: &str, arch: &str, wanted: &[String]) -> Option<&[String]> {
        self.installs.get(&Install::new(release, arch, wanted)).map(Vec::as_slice)
    }

    /// Writes down what is installed where `wanted` is asked for; each of these has to be pinned too.
    pub fn set_installed(&mut self, release: &str, arch: &str, wanted: &[String], names: Vec<String>) {
        self.installs.insert(Install::new(release, arch, wanted), names);
    }

    /// Adds everything of `other`.
    pub fn extend(&mut self, other: Self) {
        self.packages.extend(other.packages);
        self.installs.extend(other.installs);
    }

    /// All packages with the names that they stand for, sorted by these.
    pub fn packages(&self) -> impl Iterator<Item = (&Name, &Package)> {
        self.packages.iter()
    }

    /// Whether the package that stands for `name` is installed whole, by its own scripts, rather than a source of
    /// single files.
    pub fn is_installed(&self, name: &Name) -> bool {
        self.installs.iter().any(|(install, names)| {
            install.release == name.release && install.arch == name.arch && names.contains(&name.name)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A package that could be, with a hash that follows from its version.
    pub(crate) fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            arch: "arm64".into(),
            sha256: crate::cache::sha256(format!("{name} {version}").as_bytes()),
            filename: format!("pool/main/{name}_{version}_arm64.deb"),
            size: 1500,
            depends: Vec::new(),
        }
    }

    /// Two packages, one of which is installed, and a kernel that another package stands for.
    pub(crate) fn pins() -> Pins {
        let mut pins = Pins::default();
        for (name, version) in [("busybox-static", "1:1.37.0-6+b3"), ("adduser", "3.152")] {
            pins.set_package("trixie", "arm64", name, package(name, version));
        }
        let kernel = "linux-image-6.12.57+deb13-arm64";
        let mut meta = package("linux-image-arm64", "6.12.57-1");
        meta.depends = vec![kernel.into()];
        pins.set_package("trixie", "arm64", "linux-image-arm64", meta);
        pins.set_package("trixie", "arm64", kernel, package(kernel, "6.12.57-1"));
        pins.set_installed("trixie", "arm64", &["adduser".into()], vec!["adduser".into()]);
        pins
    }

    #[test]
    fn a_name_stands_for_one_package_of_one_release_and_architecture() {
        let pins = pins();
        assert_eq!(pins.package("trixie", "arm64", "adduser").unwrap().version, "3.152");
        assert_eq!(pins.package("trixie", "armhf", "adduser"), None);
        assert_eq!(pins.package("bookworm", "arm64", "adduser"), None);
        assert_eq!(pins.installed("trixie", "arm64", &["adduser".into()]), Some(&["adduser".to_owned()][..]));
        assert_eq!(pins.installed("trixie", "arm64", &[]), None);
        assert!(pins.is_installed(&Name::new("trixie", "arm64", "adduser")));
        assert!(!pins.is_installed(&Name::new("trixie", "arm64", "busybox-static")));
    }
}
