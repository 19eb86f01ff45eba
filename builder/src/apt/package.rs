//! A package as the archive's index describes it (deb822(5), Debian policy chapter 5).

use serde::{Deserialize, Serialize};

/// One package of the archive's signed index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its whole version, with the epoch.
    pub version: String,
    /// `arm64`, `armhf` or `all`.
    pub arch: String,
    /// The SHA-256 of the `.deb` in hexadecimal, from the signed index.
    pub sha256: String,
    /// Path below the mirror.
    pub filename: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// Names that it depends on: of alternatives the first, without versions.
    pub depends: Vec<String>,
}

impl Package {
    /// The package with the kernel that this one depends on, if it is one that only does that.
    pub fn kernel(&self) -> Option<&str> {
        let versioned = |name: &str| {
            name.strip_prefix("linux-image-")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && package_name(name))
        };
        if !self.name.starts_with("linux-image-") || versioned(&self.name) {
            return None;
        }
        self.depends.iter().map(String::as_str).find(|name| versioned(name))
    }

    /// The field that no package of Debian has so, as a lock file calls it, and what is wrong with it.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        let hash = self.sha256.len() == 64
            && self.sha256.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        let path =
            word(&self.filename) && self.filename.ends_with(".deb") && !self.filename.starts_with(['/', '-']);
        let checked = [
            ("name", &self.name, package_name(&self.name), "the name of a Debian package"),
            ("version", &self.version, word(&self.version) && !self.version.contains('/'), "a version"),
            ("arch", &self.arch, Self::is_word(&self.arch), "an architecture"),
            ("sha256", &self.sha256, hash, "a SHA-256 of 64 digits in small letters"),
            ("path", &self.filename, path, "the path of a .deb below a mirror"),
        ];
        let (field, value, _, what) = checked.into_iter().find(|(_, _, good, _)| !good)?;
        Some((field, format!("`{}` is not {what}", value.escape_default())))
    }

    /// Whether this can be a release or an architecture.
    pub(crate) fn is_word(text: &str) -> bool {
        word(text) && !text.contains('/') && !text.starts_with('-')
    }
}

/// Reads one stanza of `apt-cache show`; `None` if it lacks a field or one is not what it must be.
pub(super) fn parse_stanza(stanza: &str) -> Option<Package> {
    let field = |name: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    let depends = [field("Pre-Depends"), field("Depends")]
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(',').map(first_alternative).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect();
    let package = Package {
        name: field("Package")?,
        version: field("Version")?,
        arch: field("Architecture")?,
        sha256: field("SHA256")?.to_ascii_lowercase(),
        filename: field("Filename")?,
        size: field("Size")?.parse().ok()?,
        depends,
    };
    package.fault().is_none().then_some(package)
}

/// Whether every system has this package: Debian counts on those that are essential, and required ones are what its own
/// installer puts beside them (policy 2.5, 3.8).
pub(super) fn is_essential(stanza: &str) -> bool {
    stanza.lines().any(|line| matches!(line, "Essential: yes" | "Priority: required"))
}

/// `a (>= 1) | b` gives `a`; `a:any` gives `a`.
fn first_alternative(dependency: &str) -> String {
    let first = dependency.split('|').next().unwrap_or("").trim();
    first.split([' ', '(', ':', '[']).next().unwrap_or("").to_owned()
}

/// Debian policy 5.6.1: lower case letters, digits, `+`, `-` and `.`, beginning with a letter or digit.
pub(super) fn package_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

/// What a version, a suite or an architecture is made of.
pub(super) fn word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.~:_/".contains(&b))
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Package: linux-image-arm64\nSource: x\nVersion: 6.12.1-1+b2\nArchitecture: arm64\nPre-Depends: a:any\n\
        Depends: linux-image-6.12 (= 6.12.1-1), b (>= 2) | c\nFilename: pool/x.deb\nSize: 1500\n\
        SHA256: AAbbccddeeff00112233445566778899aabbccddeeff00112233445566778899\nDescription: one\n more\n";

    #[test]
    fn an_index_stanza_is_understood() {
        let package = parse_stanza(STANZA).unwrap();
        assert_eq!(package.name, "linux-image-arm64");
        assert_eq!(package.depends, ["a", "linux-image-6.12", "b"]);
        assert_eq!(package.size, 1500);
        assert!(package.sha256.starts_with("aabb"));
    }

    #[test]
    fn a_stanza_that_lies_is_refused() {
        for (from, to) in [
            ("Package: linux", "Package: ../linux"),
            ("Version: 6", "Version: ../6"),
            ("SHA256: AA", "SHA256: "),
            ("Filename: pool/", "Filename: ../"),
            ("Size: 1500", "Size: many"),
            ("Architecture: arm64", "Architecture: arm64;x"),
        ] {
            assert_eq!(parse_stanza(&STANZA.replace(from, to)), None, "{to}");
        }
    }
}
