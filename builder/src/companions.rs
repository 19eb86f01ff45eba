//! The files that go with an image, beside its manifest: what it is made of and how, for people and for other tools.
//!
//! They say the same wherever and whenever the image is built from the same inputs. What is of this machine alone stands in
//! the manifest.

use crate::cache::{hash_reader, read_json, replace_file, to_json};
use crate::error::{Error, Result, ResultExt};
use crate::image::packing::Packing;
use crate::image::{beside, packed_path};
use crate::pins::{Pins, lockfile::LockFile};
use crate::plan::Artifact;
use crate::progress::Progress;
use crate::provenance;
use crate::record::Record;
use crate::sbom;
use crate::staged::Staged;
use serde_json::Value;
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
    /// What of it is in use: the text of its block map.
    pub(crate) map: &'a str,
    /// Its packages.
    pub(crate) pins: &'a Pins,
    /// Its hypervisor.
    pub(crate) hypervisor: &'a Artifact,
    /// Whether the hypervisor was compiled from the sources.
    pub(crate) compiled: bool,
    /// Its firmware that is in no package, by name.
    pub(crate) firmware: Vec<(&'a str, &'a Artifact)>,
}

/// A file's name, to be told.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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

/// The block map, by the name that bmaptool finds from the image's and from a packed one's.
pub fn map_path(image: &Path) -> PathBuf {
    beside(image, "bmap")
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

/// Those that every image has.
fn every(image: &Path) -> [PathBuf; 4] {
    [lock_path(image), sbom_path(image), statement_path(image), map_path(image)]
}

/// All of them, also those that are there only where they were asked for: the signature, and the image when it is packed.
pub fn paths(image: &Path) -> Vec<PathBuf> {
    let packed = Packing::ALL.map(|packing| packed_path(image, packing));
    every(image).into_iter().chain([signature_path(image)]).chain(packed).collect()
}

/// Whether all are there that every image has.
pub(crate) fn complete(image: &Path) -> bool {
    every(image).iter().all(|path| path.is_file())
}

/// Removes what would be of no worth beside another image than the one that it was made for, or would have that taken for
/// damaged.
pub(crate) fn remove_stale(image: &Path) -> Result<()> {
    let packed = Packing::ALL.map(|packing| packed_path(image, packing));
    // Without a map, a packed image is still whole; a map beside another image is worse than none.
    for path in [map_path(image), signature_path(image)].iter().chain(&packed) {
        remove(path)?;
    }
    Ok(())
}

/// Writes those of `image` that every image has, to be put in place when the image is there.
pub(crate) fn stage(image: &Path, described: &Described<'_>) -> Result<Vec<Staged>> {
    let lock = LockFile { pins: described.pins.clone(), image: Some(described.record.clone()) };
    Ok(vec![
        Staged::new(&lock_path(image), lock.text()?.as_bytes())?,
        Staged::new(&map_path(image), described.map.as_bytes())?,
        Staged::new(&sbom_path(image), &to_json(&sbom::document(described))?)?,
        Staged::new(&statement_path(image), &to_json(&provenance::statement(described))?)?,
    ])
}

/// Has the statement say the hash of the whole image too, by which somebody who has nothing else can check it. To hash
/// what is mostly holes takes longer than to make it, so that is done only where it is asked for.
pub(crate) fn tell_hash(image: &Path, progress: &Progress) -> Result<()> {
    let path = statement_path(image);
    let mut statement: Value =
        read_json(&path).ok_or_else(|| Error::new("cannot read the statement").at(&path))?;
    let step = progress.step("hashing the image");
    let file = crate::image::open(image)?;
    let sha256 = hash_reader(file).context_at(image, || "cannot read the image")?;
    step.finish();
    provenance::add_image(&mut statement, &file_name(image), &sha256);
    replace_file(&path, &to_json(&statement)?)
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
    use crate::image::{BlockMap, Range, Rest, bmap};

    /// Has `run` look at an image that could be.
    pub(crate) fn described<T>(run: impl FnOnce(&Described<'_>) -> T) -> T {
        let (record, pins) = (crate::record::tests::record(), crate::pins::tests::pins());
        let hypervisor = Artifact {
            from: "compiled for qemu-arm64 by rustc 1.95.0: gicv2".into(),
            size: 5,
            sha256: Some("0d".repeat(32)),
            header: None,
        };
        let mlo = Artifact { from: "my/MLO".into(), size: 7, sha256: Some("0e".repeat(32)), header: None };
        let name = "gpt-uboot-minimal.img".to_owned();
        let ranges = vec![Range { first: 0, count: 2, sha256: Some([7; 32]) }];
        let map = BlockMap::new(4096, 1 << 20, ranges, Rest::Any).unwrap();
        run(&Described {
            name,
            record: &record,
            map: &bmap::render(&map).unwrap(),
            pins: &pins,
            hypervisor: &hypervisor,
            compiled: true,
            firmware: vec![("MLO", &mlo)],
        })
    }

    #[test]
    fn they_lie_beside_the_image_and_what_is_stale_goes() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        for path in [signature_path(&image), packed_path(&image, Packing::Xz)] {
            fs::write(path, "old").unwrap();
        }
        assert!(!complete(&image));
        remove_stale(&image).unwrap();
        described(|described| stage(&image, described))
            .unwrap()
            .into_iter()
            .for_each(|one| one.put().unwrap());
        assert!(complete(&image) && paths(&image).iter().filter(|path| path.exists()).count() == 4);
        assert_eq!(bmap::beside(&image), Some(map_path(&image)));
        assert_eq!(bmap::beside(&packed_path(&image, Packing::Zstd)), Some(map_path(&image)));
        assert_eq!(bmap::read(&map_path(&image)).unwrap().mapped(), 8192);
        assert!(is_lock_of(&dir.path().join("./x.lock"), &image) && !is_lock_of(&image, &image));
        let lock = LockFile::read(&lock_path(&image)).unwrap();
        assert_eq!(
            (lock.pins, lock.image),
            (crate::pins::tests::pins(), Some(crate::record::tests::record()))
        );
        let contents = || paths(&image).into_iter().map(|path| fs::read(path).ok()).collect::<Vec<_>>();
        let before = contents();
        described(|described| stage(&image, described))
            .unwrap()
            .into_iter()
            .for_each(|one| one.put().unwrap());
        assert_eq!(contents(), before, "the same twice");
        assert!(remove(&lock_path(&image)).unwrap() && !remove(&lock_path(&image)).unwrap());
    }
}
