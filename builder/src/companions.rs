//! The files that go with an image, beside its manifest: what it is made of and how, for people and for other tools.
//!
//! They say the same wherever and whenever the image is built from the same inputs. What is of this machine alone stands in
//! the manifest.

use crate::cache::{replace_file, to_json};
use crate::error::{Result, ResultExt};
use crate::pins::{Pins, lockfile::LockFile};
use crate::plan::Artifact;
use crate::provenance;
use crate::record::Record;
use crate::sbom;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is told of an image.
#[derive(Debug)]
pub(crate) struct Described<'a> {
    /// The image's file name.
    pub(crate) name: String,
    /// How it was built.
    pub(crate) record: &'a Record,
    /// Its packages.
    pub(crate) pins: &'a Pins,
    /// Its hypervisor.
    pub(crate) hypervisor: &'a Artifact,
    /// Whether the hypervisor was compiled from the sources.
    pub(crate) compiled: bool,
}

/// The lock file: packages, and how the image was built.
pub fn lock_path(image: &Path) -> PathBuf {
    image.with_extension("lock")
}

/// The bill of materials, in SPDX's form.
pub fn sbom_path(image: &Path) -> PathBuf {
    image.with_extension("spdx.json")
}

/// The statement of provenance, in in-toto's form.
pub fn statement_path(image: &Path) -> PathBuf {
    image.with_extension("intoto.json")
}

/// The statement's signature.
pub fn signature_path(image: &Path) -> PathBuf {
    image.with_extension("intoto.json.sig")
}

/// Whether `path` is the lock file of `image`, by whatever name.
pub(crate) fn is_lock_of(path: &Path, image: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(path).is_some_and(|path| real(&lock_path(image)) == Some(path))
}

/// All of them, the signature last, which is there only where one was asked for.
pub fn paths(image: &Path) -> [PathBuf; 4] {
    [lock_path(image), sbom_path(image), statement_path(image), signature_path(image)]
}

/// Whether all are there that every image has.
pub(crate) fn complete(image: &Path) -> bool {
    [lock_path(image), sbom_path(image), statement_path(image)].iter().all(|path| path.is_file())
}

/// Writes those of `image`. A signature of the statement before is of no worth any more, and goes.
pub(crate) fn write(image: &Path, described: &Described<'_>) -> Result<()> {
    remove(&signature_path(image))?;
    let lock = LockFile { pins: described.pins.clone(), image: Some(described.record.clone()) };
    lock.write(&lock_path(image))?;
    replace_file(&sbom_path(image), &to_json(&sbom::document(described))?)?;
    replace_file(&statement_path(image), &to_json(&provenance::statement(described))?)
}

/// Removes the file at `path`, and says whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context_at(path, || "cannot remove the file"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Has `run` look at an image that could be.
    pub(crate) fn described<T>(run: impl FnOnce(&Described<'_>) -> T) -> T {
        let (record, pins) = (crate::record::tests::record(), crate::pins::tests::pins());
        let hypervisor = Artifact {
            from: "compiled for qemu-arm64 by rustc 1.95.0: gicv2".into(),
            size: 5,
            sha256: Some("0d".repeat(32)),
            header: None,
        };
        let name = "gpt-uboot-minimal.img".to_owned();
        run(&Described { name, record: &record, pins: &pins, hypervisor: &hypervisor, compiled: true })
    }

    #[test]
    fn they_lie_beside_the_image_and_an_old_signature_goes() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        fs::write(signature_path(&image), "old").unwrap();
        assert!(!complete(&image));
        described(|described| write(&image, described)).unwrap();
        assert!(complete(&image) && !signature_path(&image).exists());
        assert!(is_lock_of(&dir.path().join("./x.lock"), &image) && !is_lock_of(&image, &image));
        let lock = LockFile::read(&lock_path(&image)).unwrap();
        assert_eq!(
            (lock.pins, lock.image),
            (crate::pins::tests::pins(), Some(crate::record::tests::record()))
        );
        let before = paths(&image).map(|path| fs::read(path).ok());
        described(|described| write(&image, described)).unwrap();
        assert_eq!(paths(&image).map(|path| fs::read(path).ok()), before, "the same twice");
        assert!(remove(&lock_path(&image)).unwrap() && !remove(&lock_path(&image)).unwrap());
    }
}
