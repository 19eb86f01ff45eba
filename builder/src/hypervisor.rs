//! The hypervisors that an image can start: this project's, and Debian's build of Xen in its place.
//!
//! They are interchangeable by design, so what differs is data: where the hypervisor comes from, what the file with its
//! options is called under UEFI and how it is written, and what it says on the console.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use vambrace_bsp::{Architecture, Method};

/// A kind of hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorKind {
    /// This project's, compiled for the board.
    #[default]
    Vambrace,
    /// Xen as Debian builds it.
    Xen,
}

/// What is particular to a kind of hypervisor.
#[derive(Debug)]
pub struct Traits {
    /// The name as options and plans write it.
    pub name: &'static str,
    /// What the file beside the hypervisor is called from which it reads its options under UEFI; `None` where it is
    /// called as the hypervisor itself, with `.cfg` at the end.
    pub efi_config: Option<&'static str>,
    /// How that file is written.
    pub efi_syntax: EfiSyntax,
    /// What it says first on the console.
    pub greetings: &'static [&'static str],
    /// What it says last where dom0 is off and the board goes off too.
    pub powering_off: &'static [&'static str],
    /// What it says when dom0 is off and the board has no way to be.
    pub powered_off: &'static [&'static str],
    /// What it says before it stops for good.
    pub failures: &'static [&'static str],
    /// Whether its command line is known here, so that an option it does not have is an error.
    pub options_known: bool,
    /// Its packages; empty where it is compiled.
    pub packages: &'static [HypervisorPackage],
}

/// How the file with options is written that a hypervisor reads under UEFI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EfiSyntax {
    /// `key=value` lines.
    Flat,
    /// The same in a section, which `[global]` names (Xen, docs/misc/efi.pandoc).
    Sections,
}

/// A package with a hypervisor.
#[derive(Debug, PartialEq, Eq)]
pub struct HypervisorPackage {
    /// The CPU's architecture.
    pub architecture: Architecture,
    /// The Debian release.
    pub suite: &'static str,
    /// The package.
    pub package: &'static str,
    /// What U-Boot starts, as an absolute path in the package.
    pub image: &'static str,
    /// What UEFI firmware starts, if there is such a file.
    pub efi: Option<&'static str>,
}

const VAMBRACE: Traits = Traits {
    name: "vambrace",
    efi_config: Some("vambrace.cfg"),
    efi_syntax: EfiSyntax::Flat,
    // Another hypervisor may have been given as a file.
    greetings: &["Vambrace", "(XEN) Xen version"],
    powering_off: &["Dom0 is off: powering the machine off"],
    powered_off: &["The machine has no way to be turned off", "Dom0 halted: halting machine"],
    failures: &["(VMB) Halted", "(VMB) Resetting the machine in ", "(VMB) Static ", "(XEN) Panic on CPU"],
    options_known: true,
    packages: &[],
};

const XEN: Traits = Traits {
    name: "xen",
    efi_config: None,
    efi_syntax: EfiSyntax::Sections,
    greetings: &["(XEN) Xen version"],
    powering_off: &[],
    powered_off: &["Dom0 halted: halting machine"],
    failures: &["(XEN) Panic on CPU"],
    options_known: false,
    // The first of an architecture stands in where dom0's release has none.
    packages: &[
        HypervisorPackage {
            architecture: Architecture::Aarch64,
            suite: "trixie",
            package: "xen-hypervisor-4.20-arm64",
            image: "/boot/xen-4.20-arm64",
            efi: Some("/boot/xen-4.20-arm64.efi"),
        },
        HypervisorPackage {
            architecture: Architecture::Aarch64,
            suite: "bookworm",
            package: "xen-hypervisor-4.17-arm64",
            image: "/boot/xen-4.17-arm64",
            efi: Some("/boot/xen-4.17-arm64.efi"),
        },
        HypervisorPackage {
            architecture: Architecture::Armv7,
            suite: "bookworm",
            package: "xen-hypervisor-4.17-armhf",
            image: "/boot/xen-4.17-armhf",
            efi: None,
        },
    ],
};

impl HypervisorKind {
    /// What is particular to it.
    pub const fn traits(self) -> &'static Traits {
        match self {
            Self::Vambrace => &VAMBRACE,
            Self::Xen => &XEN,
        }
    }

    /// The name of the file from which the hypervisor in the file `hypervisor` reads its options under UEFI.
    pub fn efi_config(self, hypervisor: &str) -> String {
        let name = hypervisor.rsplit('/').next().unwrap_or(hypervisor);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        self.traits().efi_config.map_or_else(|| format!("{stem}.cfg"), str::to_owned)
    }

    /// The package for a CPU of `architecture` with a dom0 of the release `suite`, and the absolute path of the file in
    /// it that `method` starts; `None` where the hypervisor is compiled.
    ///
    /// The release's own is taken where it has one, since a toolstack and its hypervisor are of one version.
    ///
    /// # Errors
    ///
    /// No package has a hypervisor that `method` starts on this architecture.
    pub fn package(
        self,
        architecture: Architecture,
        suite: &str,
        method: Method,
    ) -> Result<Option<(&'static HypervisorPackage, &'static str)>> {
        let traits = self.traits();
        if traits.packages.is_empty() {
            return Ok(None);
        }
        let of_cpu = || traits.packages.iter().filter(|package| package.architecture == architecture);
        let found = of_cpu().find(|package| package.suite == suite).or_else(|| of_cpu().next());
        let path = found.and_then(|package| {
            let file = match method {
                Method::Uefi => package.efi,
                Method::Uboot | Method::Direct => Some(package.image),
            };
            Some((package, file?))
        });
        path.map(Some).ok_or_else(|| {
            Error::new(format!("Debian has no {} for {architecture} that starts by {method}", traits.name))
                .help("give one with --hypervisor-file, or leave --hypervisor out")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_called_as_the_hypervisor_expects() {
        assert_eq!(HypervisorKind::Vambrace.efi_config("EFI/BOOT/BOOTAA64.EFI"), "vambrace.cfg");
        assert_eq!(HypervisorKind::Xen.efi_config("EFI/BOOT/BOOTAA64.EFI"), "BOOTAA64.cfg");
    }

    #[test]
    fn xen_is_of_dom0_s_release_where_that_has_one() {
        let package = |architecture, suite| {
            HypervisorKind::Xen.package(architecture, suite, Method::Uboot).unwrap().unwrap().0.package
        };
        assert_eq!(package(Architecture::Aarch64, "trixie"), "xen-hypervisor-4.20-arm64");
        assert_eq!(package(Architecture::Aarch64, "bookworm"), "xen-hypervisor-4.17-arm64");
        assert_eq!(package(Architecture::Aarch64, "sid"), "xen-hypervisor-4.20-arm64");
        assert_eq!(package(Architecture::Armv7, "trixie"), "xen-hypervisor-4.17-armhf");
        let error = HypervisorKind::Xen.package(Architecture::Armv7, "bookworm", Method::Uefi).unwrap_err();
        assert!(error.what().contains("no xen for armv7 that starts by uefi"), "{error}");
        let ours = HypervisorKind::Vambrace.package(Architecture::Armv7, "bookworm", Method::Uefi);
        assert_eq!(ours.unwrap(), None);
    }
}
