//! The lock file: pins in TOML, to be read by people and compared in version control.
//!
//! One lies beside the description of an image, or where `--lock` says, and holds what every build of it is made of. One
//! lies beside each image, and says as well what was asked for: `vambrace reproduce` needs nothing more.

use super::Pins;
use super::text::{InstallText, PackageText, PinsText};
use crate::cache::replace_file;
use crate::error::{Error, Result, ResultExt};
use crate::record::Record;
use crate::workspace::described;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use vambrace_bsp::text::{fault_at, read};

/// The version of the form.
const VERSION: u32 = 1;
/// Bytes of a file that is none of ours. A whole desktop's packages take a tenth.
const MOST: u64 = 16 << 20;
const HEAD: &str = "\
# What an image is made of: every package by version and hash. Written by vambrace, and read by it: keep it in version
# control. `vambrace update` takes the archive's newest packages and shows what changes.

";

/// What a lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The packages.
    pub pins: Pins,
    /// How the image beside it was built.
    pub image: Option<Record>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    install: Vec<InstallText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    package: Vec<PackageText>,
}

impl LockFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).context_at(path, || "cannot open the lock file")?;
        let mut text = String::new();
        let failed = || "cannot read the lock file";
        let length = file.take(MOST + 1).read_to_string(&mut text).context_at(path, failed)?;
        if length as u64 > MOST {
            return Err(Error::new("this is no lock file: it is too large").at(path));
        }
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let advise = |error: Error| {
            error
                .help("it is written by vambrace: take it back from version control, or `vambrace update` it")
        };
        let fault =
            |path: &str, message: String| advise(described(Box::new(fault_at(file, text, path, message))));
        let found: Text = read(file, text).map_err(|error| advise(described(error)))?;
        if found.version != VERSION {
            let message =
                format!("this vambrace reads version {VERSION} of lock files, not {}", found.version);
            return Err(fault("version", message));
        }
        if let Some((field, message)) = found.image.as_ref().and_then(Record::fault) {
            return Err(fault(&format!("image.{field}"), message));
        }
        let pins = PinsText { packages: found.package, installs: found.install };
        let pins = Pins::try_from(pins).map_err(|wrong| fault(&wrong.path, wrong.message))?;
        Ok(Self { pins, image: found.image })
    }

    /// The file's text.
    ///
    /// # Errors
    ///
    /// A number that TOML has no form for.
    pub fn text(&self) -> Result<String> {
        let PinsText { packages, installs } = self.pins.clone().into();
        let text = Text { version: VERSION, image: self.image.clone(), install: installs, package: packages };
        let text = toml::to_string_pretty(&text).context(|| "cannot write the lock file")?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Writes it to `path`: there is the old file or the whole new one, whatever happens.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace_file(path, self.text()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pins;
    use super::*;
    use proptest::prelude::*;

    fn text() -> String {
        let image = Some(crate::record::tests::record());
        LockFile { pins: pins(), image }.text().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for image in [None, Some(crate::record::tests::record())] {
            let lock = LockFile { pins: pins(), image };
            let text = lock.text().unwrap();
            assert_eq!(LockFile::parse("x.lock", &text).unwrap(), lock);
            assert_eq!(lock.text().unwrap(), text, "the same twice");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let lock = LockFile { pins: pins(), image: None };
        lock.write(&path).unwrap();
        assert_eq!(LockFile::read(&path).unwrap(), lock);
    }

    #[test]
    fn a_package_is_a_few_lines_that_people_can_compare() {
        let text = text();
        let hash = crate::cache::sha256(b"linux-image-arm64 6.12.57-1");
        let entry = format!(
            "[[package]]\nname = \"linux-image-arm64\"\nversion = \"6.12.57-1\"\narch = \"arm64\"\nrelease = \"trixie\"\n\
             size = 1500\nsha256 = \"{hash}\"\npath = \"pool/main/linux-image-arm64_6.12.57-1_arm64.deb\"\n\
             kernel = \"linux-image-6.12.57+deb13-arm64\"\n"
        );
        assert!(text.contains(&entry), "{text}");
    }

    #[test]
    fn what_was_changed_by_hand_is_named_with_its_line() {
        let good = text();
        let hash = crate::cache::sha256(b"adduser 3.152");
        for (from, to, expected) in [
            (
                "name = \"adduser\"",
                "name = \"../adduser\"",
                "`../adduser` is not the name of a Debian package",
            ),
            ("version = \"3.152\"", "version = \"3;reboot\"", "is not a version"),
            (&*hash, "00", "`00` is not a SHA-256"),
            (&*hash, &*hash.to_uppercase(), "in small letters"),
            ("path = \"pool/main/adduser", "path = \"/etc/adduser", "below a mirror"),
            ("path = \"pool/main/adduser", "path = \"pool/../../adduser", "below a mirror"),
            ("release = \"trixie\"\nsize", "release = \"--trixie\"\nsize", "`--trixie` is none"),
            ("size = 1500", "size = -1", "in `package.0.size`"),
            ("kernel = \"linux-image-6", "kernel = \"firmware-6", "is no kernel's package"),
            ("packages = [\"adduser\"]", "packages = [\"passwd\"]", "passwd is installed and not pinned"),
            ("version = 1\n", "version = 2\n", "reads version 1 of lock files, not 2"),
            ("sha256 = ", "sha265 = ", "did you mean `sha256`?"),
            ("name = \"busybox-static\"", "name = \"adduser\"", "adduser is pinned twice"),
            ("epoch = ", "epoch = \"x\" #", "in `image.epoch`"),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            let said = LockFile::parse("x.lock", &good.replacen(from, to, 1)).unwrap_err().report();
            assert!(said.contains(expected) && said.contains("x.lock:"), "{to}: {said}");
            assert!(said.contains("take it back from version control"), "{said}");
        }
    }

    #[test]
    fn what_is_no_lock_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert!(LockFile::read(&path).unwrap_err().report().contains("x.lock: cannot open the lock file"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(LockFile::read(&path).unwrap_err().report().contains("cannot read the lock file"));
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(LockFile::read(&path).unwrap_err().report().contains("too large"));
        assert!(LockFile::parse("x.lock", "").unwrap_err().report().contains("missing field `version`"));
    }

    proptest! {
        #[test]
        fn any_change_is_read_or_refused(at in 0_usize..3000, byte in 0_u8..128) {
            let mut bytes = text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = LockFile::parse("x.lock", &text);
            }
        }
    }
}
