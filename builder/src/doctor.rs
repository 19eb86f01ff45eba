//! What the host has and lacks.

use crate::error::{Error, Result, ResultExt};
use crate::toolchain::{AARCH64, ARMV7, Toolchain};
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Something the builder uses on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// What it is needed for.
    pub purpose: String,
    /// Where it is, or `None`.
    pub found: Option<String>,
    /// The Debian package that has it, where one does.
    pub package: Option<String>,
    /// What to do, where there is no such package.
    pub help: Option<String>,
    /// Whether images cannot be built or booted without it; what only tests use is not needed.
    pub needed: bool,
}

/// Looks at the host.
pub fn examine(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut program = |name: &str, package: &str, purpose: &str, needed: bool| {
        findings.push(Finding {
            what: name.to_owned(),
            purpose: purpose.to_owned(),
            found: find(name).map(|path| path.display().to_string()),
            package: Some(package.to_owned()),
            help: None,
            needed,
        });
    };
    program("apt-get", "apt", "fetching packages and checking their signatures", true);
    program("gpgv", "gpgv", "checking the archive's signature", true);
    for ((binary, package), boards) in machines(workspace) {
        program(&binary, &package, &format!("booting {}", boards.join(", ")), true);
    }
    program("sgdisk", "gdisk", "the tests of partition tables", false);
    program("fsck.vfat", "dosfstools", "the tests of file systems", false);
    program("mdir", "mtools", "the tests of file systems", false);
    program("dtc", "device-tree-compiler", "the tests of device trees", false);
    let keyring = PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg");
    findings.push(Finding {
        what: "Debian's keyring".to_owned(),
        purpose: "checking the archive's signature".to_owned(),
        found: keyring.is_file().then(|| keyring.display().to_string()),
        package: Some("debian-archive-keyring".to_owned()),
        help: None,
        needed: true,
    });
    findings.extend([(AARCH64, "64-bit"), (ARMV7, "32-bit")].map(|(target, width)| {
        let toolchain = Toolchain::find_for(target, None);
        Finding {
            what: format!("bare-metal Rust, {width}"),
            purpose: format!("compiling the hypervisor for {width} boards"),
            found: toolchain.as_ref().ok().map(Toolchain::describe),
            package: None,
            help: toolchain.err().map(|error| error.report().trim_start_matches("error: ").to_owned()),
            needed: true,
        }
    }));
    findings
}

/// QEMU's programs with their packages, and the boards each runs.
fn machines(workspace: &Workspace) -> BTreeMap<(String, String), Vec<String>> {
    let mut machines: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (id, board) in workspace.boards().iter() {
        if let Some(qemu) = board.as_ref().ok().and_then(|board| board.qemu.as_ref()) {
            machines.entry((qemu.binary.clone(), qemu.package.clone())).or_default().push(id.to_owned());
        }
    }
    machines
}

/// Where the program `name` is. Folders of the administrator are looked into too: a user's PATH often lacks them.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrator).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The packages that are missing, sorted.
pub fn missing_packages(findings: &[Finding]) -> Vec<String> {
    let mut packages: Vec<String> = findings
        .iter()
        .filter(|finding| finding.found.is_none())
        .filter_map(|finding| finding.package.clone())
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

/// The command that installs `packages`; as root it needs no sudo.
pub fn install_command(packages: &[String]) -> Vec<String> {
    // The owner of a process's own folder is its user.
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let sudo = if root { None } else { Some("sudo") };
    sudo.into_iter()
        .chain(["apt-get", "install", "--yes"])
        .map(str::to_owned)
        .chain(packages.iter().cloned())
        .collect()
}

/// Installs `packages`.
///
/// # Errors
///
/// No apt-get, or one that failed.
pub fn install(packages: &[String]) -> Result<()> {
    let command = install_command(packages);
    let line = command.join(" ");
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    let status = Command::new(program).args(args).status().context(|| format!("cannot run `{line}`"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!("`{line}` failed: {status}"))
        .help("run `apt-get update` first, or install them yourself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_once() {
        let finding = |found: Option<&str>, package: Option<&str>| Finding {
            what: "x".into(),
            purpose: "y".into(),
            found: found.map(str::to_owned),
            package: package.map(str::to_owned),
            help: None,
            needed: true,
        };
        let findings = [
            finding(None, Some("b")),
            finding(None, Some("a")),
            finding(None, Some("b")),
            finding(Some("/x"), Some("c")),
        ];
        assert_eq!(missing_packages(&findings), ["a", "b"]);
        assert!(install_command(&["a".into()]).ends_with(&["install".into(), "--yes".into(), "a".into()]));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find("no-such-program-anywhere"), None);
        assert!(find("sh").is_some());
    }
}
