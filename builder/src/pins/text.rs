//! Pins as they are written down, in JSON for a machine and in TOML for people.

use super::{Name, Pins};
use crate::apt::Package;
use serde::{Deserialize, Serialize};

/// All pins, each sorted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinsText {
    #[serde(default, rename = "package")]
    pub(super) packages: Vec<PackageText>,
    #[serde(default, rename = "install")]
    pub(super) installs: Vec<InstallText>,
}

/// A package, with the name that it stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackageText {
    name: String,
    version: String,
    arch: String,
    release: String,
    /// The architecture it was looked up for, where the package is of another: `all`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    size: u64,
    sha256: String,
    path: String,
    /// The kernel that the package stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
}

/// What is installed together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallText {
    release: String,
    arch: String,
    wanted: Vec<String>,
    packages: Vec<String>,
}

impl From<Pins> for PinsText {
    fn from(pins: Pins) -> Self {
        let packages = pins.packages.into_iter().map(|(name, package)| PackageText {
            kernel: package.kernel().map(str::to_owned),
            list: (name.arch != package.arch).then_some(name.arch),
            name: package.name,
            version: package.version,
            arch: package.arch,
            release: name.release,
            size: package.size,
            sha256: package.sha256,
            path: package.filename,
        });
        let installs = pins.installs.into_iter().map(|(install, packages)| InstallText {
            release: install.release,
            arch: install.arch,
            wanted: install.wanted,
            packages,
        });
        Self { packages: packages.collect(), installs: installs.collect() }
    }
}

/// What is wrong with a value, and its dotted path, as in `package.3.sha256`.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl TryFrom<PinsText> for Pins {
    type Error = Fault;

    /// Checks everything: a name becomes part of a command line and of a path.
    fn try_from(text: PinsText) -> Result<Self, Fault> {
        let mut pins = Self::default();
        for (index, entry) in text.packages.into_iter().enumerate() {
            let fault = |field: &str, message: String| {
                Err(Fault { path: format!("package.{index}.{field}"), message })
            };
            let list = entry.list.unwrap_or_else(|| entry.arch.clone());
            let depends = Vec::from_iter(entry.kernel);
            let package = Package {
                name: entry.name,
                version: entry.version,
                arch: entry.arch,
                sha256: entry.sha256,
                filename: entry.path,
                size: entry.size,
                depends,
            };
            if let Some((field, what)) = package.fault() {
                return fault(field, what);
            }
            for (field, value) in [("release", &entry.release), ("for", &list)] {
                if !Package::is_word(value) {
                    return fault(field, format!("`{}` is none", value.escape_default()));
                }
            }
            if let (Some(kernel), None) = (package.depends.first(), package.kernel()) {
                return fault("kernel", format!("`{}` is no kernel's package", kernel.escape_default()));
            }
            let name = Name { release: entry.release, arch: list, name: package.name.clone() };
            if let Some(other) = pins.packages.get(&name) {
                return fault("name", format!("{} is pinned twice: {} too", name.name, other.version));
            }
            pins.packages.insert(name, package);
        }
        for (index, entry) in text.installs.into_iter().enumerate() {
            let lacking = entry
                .packages
                .iter()
                .enumerate()
                .find(|(_, name)| pins.package(&entry.release, &entry.arch, name).is_none());
            if let Some((place, name)) = lacking {
                return Err(Fault {
                    path: format!("install.{index}.packages.{place}"),
                    message: format!("{} is installed and not pinned", name.escape_default()),
                });
            }
            pins.set_installed(&entry.release, &entry.arch, &entry.wanted, entry.packages);
        }
        Ok(pins)
    }
}
