//! The packages that a command goes by: this machine's, or those of a lock file; and how they move.

use crate::build::Options;
use crate::cache::Cache;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::hypervisor::HypervisorKind;
use crate::parts::{Maker, epoch};
use crate::pins::change::Change;
use crate::pins::lockfile::LockFile;
use crate::progress::Progress;
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// A cache, with the pins that are in use.
#[derive(Debug)]
pub struct Chosen {
    /// The cache.
    pub cache: Cache,
    /// The lock file that is used, or is to be written because it is not there yet.
    pub lock: Option<PathBuf>,
    /// Whether the lock file is one that lies beside an image and says how that was built.
    of_image: bool,
}

/// The lock file of a command: the one that it names, or the one beside the image's description, which has another one for
/// each kind of hypervisor: `web.lock`, and `web-xen.lock` with Xen's package in it.
///
/// # Errors
///
/// A description whose lock file would be itself.
pub fn lock_of(named: Option<&Path>, config: Option<&Path>, kind: HypervisorKind) -> Result<Option<PathBuf>> {
    let beside = config.map(|config| match (config.file_stem(), kind == HypervisorKind::default()) {
        (Some(stem), false) => {
            let mut name = stem.to_owned();
            name.push(format!("-{}.lock", kind.traits().name));
            config.with_file_name(name)
        }
        _ => config.with_extension("lock"),
    });
    match (named, beside) {
        (Some(named), _) => Ok(Some(named.to_path_buf())),
        (None, Some(beside)) if Some(&*beside) == config => {
            Err(Error::new("the description of an image cannot be called so: its lock file would be itself")
                .at(beside)
                .help("give it another ending, such as .toml"))
        }
        (None, beside) => Ok(beside),
    }
}

impl Chosen {
    /// Opens `cache` with the pins of `lock`, if that is there.
    ///
    /// # Errors
    ///
    /// A lock file that cannot be read, or has a fault.
    pub fn open(cache: Cache, lock: Option<PathBuf>) -> Result<Self> {
        let found = lock.as_deref().filter(|path| path.exists()).map(LockFile::read).transpose()?;
        let of_image = found.as_ref().is_some_and(|found| found.image.is_some());
        let cache = match (&lock, found) {
            (Some(path), Some(found)) => cache.pinned_by(path, found.pins),
            _ => cache,
        };
        Ok(Self { cache, lock, of_image })
    }

    /// How to build with them.
    pub fn options(&self, force: bool, sign: Option<PathBuf>) -> Options {
        Options { force, sign, lock: self.lock.clone(), ..Options::default() }
    }

    /// Asks the archive for its newest packages and takes these from now on, in the lock file if there is one, else on this
    /// machine, for all images; with `dry_run` nothing but the answer is given.
    ///
    /// # Errors
    ///
    /// What apt cannot do, and a lock file that cannot be written. The packages of before stay in use then.
    pub fn update(
        self,
        workspace: &Workspace,
        decision: &Decision,
        dry_run: bool,
        progress: &Progress,
    ) -> Result<(Self, Vec<Change>)> {
        let Self { cache, lock, of_image } = self;
        if let Some(path) = lock.as_ref().filter(|_| of_image) {
            return Err(Error::new(
                "this lock file says how the image beside it was built, and is not moved",
            )
            .at(path)
            .help("name another file with --lock, or none, and build the image again"));
        }
        let maker = Maker { root: workspace.root(), decision, cache: &cache, progress, epoch: epoch()? };
        let (old, new) = (maker.pins()?, maker.newest()?);
        // What a lock file pins beside that nothing needs any more goes, and is told.
        let changes = if cache.lock_file().is_some() { cache.pins() } else { old }.changes(&new);
        let cache = match &lock {
            _ if dry_run => cache,
            Some(path) => {
                LockFile { pins: new.clone(), image: None }.write(path)?;
                cache.pinned_by(path, new)
            }
            None => {
                cache.set_pins(new);
                cache.save();
                cache
            }
        };
        Ok((Self { cache, lock, of_image }, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::tests::pins;

    #[test]
    fn the_lock_file_is_the_named_one_or_lies_beside_the_description() {
        let of = |named: Option<&str>, config: Option<&str>, kind| {
            lock_of(named.map(Path::new), config.map(Path::new), kind)
                .unwrap()
                .map(|path| path.display().to_string())
        };
        let lock = |named, config| of(named, config, HypervisorKind::Vambrace);
        assert_eq!(lock(None, None), None);
        assert_eq!(lock(None, Some("a/web.toml")).as_deref(), Some("a/web.lock"));
        assert_eq!(lock(Some("x.lock"), Some("a/web.toml")).as_deref(), Some("x.lock"));
        assert_eq!(of(None, Some("a/web.toml"), HypervisorKind::Xen).as_deref(), Some("a/web-xen.lock"));
        assert_eq!(of(Some("x.lock"), Some("w.toml"), HypervisorKind::Xen).as_deref(), Some("x.lock"));
        let own = Path::new("web.lock");
        let said = lock_of(None, Some(own), HypervisorKind::Vambrace).unwrap_err().report();
        assert!(said.contains("web.lock: the description"), "{said}");
    }

    #[test]
    fn a_lock_file_is_used_where_it_is_and_asked_for_where_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.lock");
        let open = || Chosen::open(Cache::open(Some(dir.path())).unwrap(), Some(path.clone()));
        let chosen = open().unwrap();
        assert_eq!((chosen.cache.lock_file(), chosen.options(false, None).lock), (None, Some(path.clone())));
        LockFile { pins: pins(), image: None }.write(&path).unwrap();
        let chosen = open().unwrap();
        assert_eq!(chosen.cache.lock_file(), Some(&*path));
        assert_eq!(chosen.cache.pins(), pins());
        let image = Some(crate::record::tests::record());
        LockFile { pins: pins(), image }.write(&path).unwrap();
        assert!(open().unwrap().of_image && open().unwrap().cache.lock_file().is_some());
        std::fs::write(&path, "version = 1\npackage = 3\n").unwrap();
        assert!(open().unwrap_err().report().contains("web.lock:2:"));
    }
}
