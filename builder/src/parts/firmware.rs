//! The firmware as parts of the image: out of packages, or files of the user's and the board's.

use super::{Maker, Part, artifact, describe};
use crate::apt::Package;
use crate::cache::Inputs;
use crate::error::{Error, Result};
use crate::firmware::{FirmwareSource, check};
use crate::layout::Content;
use crate::plan::Artifact;
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Maker<'_> {
    /// The firmware that the image is made with, and not what only starts it in QEMU.
    fn image_firmware(&self) -> impl Iterator<Item = (&String, &FirmwareSource)> {
        self.decision.firmware.iter().filter(|(name, _)| self.decision.boot.firmware.contains(name))
    }

    fn firmware_source(&self, name: &str) -> Result<&FirmwareSource> {
        let decision = self.decision;
        decision
            .firmware
            .get(name)
            .ok_or_else(|| Error::new(format!("{} has no firmware called `{name}`", decision.board.id)))
    }

    fn firmware_key(package: &Package, path: &str) -> String {
        let mut inputs = Inputs::new("firmware", 1);
        inputs.add("package", &package.sha256);
        inputs.add("path", path);
        inputs.key()
    }

    /// The file of a firmware, for QEMU; that of a package is in the cache.
    ///
    /// # Errors
    ///
    /// A firmware whose package has not been looked up.
    pub fn firmware_file(&self, name: &str) -> Result<PathBuf> {
        match self.firmware_source(name)? {
            FirmwareSource::Package { package, arch, path } => {
                let package = self.package(package, arch)?;
                Ok(self.cache.path("firmware", &Self::firmware_key(&package, path)))
            }
            FirmwareSource::File { path, .. } => Ok(path.clone()),
        }
    }

    /// The firmware called `name`, checked.
    pub(super) fn firmware(&self, name: &str) -> Result<Part> {
        match self.firmware_source(name)? {
            FirmwareSource::Package { package, arch, path } => {
                let package = self.package(package, arch)?;
                let from = format!("{}, {path}", describe(&package));
                let (data, stored) =
                    self.part("firmware", Self::firmware_key(&package, path), &from, || {
                        let deb = self.fetch(&package)?;
                        let _step = self.progress.step(format!("unpacking the firmware of {}", package.name));
                        deb.read(path)
                    })?;
                let part = Part { artifact: artifact(stored, None), data };
                self.check_firmware(name, &part).map_err(|error| error.at_text(from))?;
                Ok(part)
            }
            FirmwareSource::File { path, field } => {
                let read = || -> Result<Part> {
                    let part = self.file_part(path)?;
                    self.check_firmware(name, &part).map_err(|error| error.at(path))?;
                    Ok(part)
                };
                read().map_err(|error| match field {
                    Some(field) => self.decision.config().blame(field, error),
                    None => error,
                })
            }
        }
    }

    fn check_firmware(&self, name: &str, part: &Part) -> Result<()> {
        let decision = self.decision;
        let Some(firmware) = decision.board.firmware.get(name) else { return Ok(()) };
        let number = decision.boot.firmware.iter().position(|other| other == name);
        let as_file = number.is_some_and(|number| decision.layout.find(Content::Firmware(number)).is_some());
        check(firmware, &part.data, as_file)
    }

    /// What is known of the firmware without making any.
    pub(super) fn peek_firmware(
        &self,
        guess: impl Fn(&str) -> Artifact,
    ) -> Result<BTreeMap<String, Artifact>> {
        let mut all = BTreeMap::new();
        for (name, source) in self.image_firmware() {
            let known = match source {
                FirmwareSource::Package { package, arch, path } => {
                    let package = self.package(package, arch).ok();
                    let stored = package
                        .and_then(|package| self.cache.peek("firmware", &Self::firmware_key(&package, path)));
                    stored.map(|stored| artifact(stored, None))
                }
                FirmwareSource::File { .. } => Some(self.firmware(name)?.artifact),
            };
            all.insert(name.clone(), known.unwrap_or_else(|| guess(&source.what())));
        }
        Ok(all)
    }

    /// A hash of the firmware that is in files of the user's or the board's; `None` where none is. Packages have hashes of
    /// their own.
    pub(super) fn own_firmware_key(&self) -> Result<Option<String>> {
        let mut inputs = Inputs::new("own-firmware", 1);
        let mut any = false;
        for (name, source) in self.image_firmware() {
            if let FirmwareSource::File { path, .. } = source {
                inputs.add(name, self.cache.hash_file(path)?);
                any = true;
            }
        }
        Ok(any.then(|| inputs.key()))
    }
}
