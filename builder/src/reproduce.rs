//! Building an image again from what is recorded of it, and saying whether it is the same, or where it differs.

use crate::build::{Options, build};
use crate::cache::{Cache, hash_reader};
use crate::companions::lock_path;
use crate::compare::{Difference, Region, compare};
use crate::decision::Decision;
use crate::error::{Error, Result, ResultExt};
use crate::pins::lockfile::LockFile;
use crate::progress::Progress;
use crate::record::Record;
use crate::sources::Sources;
use crate::workspace::Workspace;
use serde::Deserialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What the name of a folder in the cache begins with in which an image is built again.
pub(crate) const REBUILDING: &str = "reproduce-";

/// How to build it again.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Make every part anew, rather than take it from the cache; packages are taken from there all the same.
    pub from_scratch: bool,
    /// Where to keep what is built; else it goes.
    pub out: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The SHA-256 of the image that was looked at, in hexadecimal.
    pub sha256: String,
    /// The SHA-256 of what was built again.
    pub rebuilt: String,
    /// Where the two differ; nowhere if they are the same.
    pub differences: Vec<Difference>,
}

/// Builds the image again from the lock file beside it, and compares the two. `open` opens the sources, with a folder of
/// boards.
///
/// # Errors
///
/// The image cannot be built again: there is no record of it, one of its packages is not to be had, a file of the user's is
/// another one by now.
pub fn reproduce(
    image: &Path,
    open: &dyn Fn(Option<&Path>) -> Result<Workspace>,
    cache: Cache,
    how: &How,
    progress: &Progress,
) -> Result<Outcome> {
    let file = crate::image::open(image)?;
    let (path, pins, record) = recorded(image)?;
    let step = progress.step("reading the image");
    let sha256 = hash_reader(file).context_at(image, || "cannot read the image")?;
    step.finish();
    let workspace = open(None)?;
    let boards = record.boards_dir(workspace.root());
    let workspace = if boards.is_some() { open(boards.as_deref())? } else { workspace };
    for warning in warnings(&record, Sources::of(workspace.root()).as_ref()) {
        progress.line(format!("warning: {warning}"));
    }
    fs::create_dir_all(cache.dir()).context_at(cache.dir(), || "cannot make the cache")?;
    let scratch = tempfile::Builder::new()
        .prefix(REBUILDING)
        .tempdir_in(cache.dir())
        .context_at(cache.dir(), || "cannot make a folder to build in")?;
    let cache = if how.from_scratch { emptied(&cache, &scratch.path().join("cache"))? } else { cache };
    let cache = cache.pinned_by(&path, pins);
    let out = how.out.clone().unwrap_or_else(|| scratch.path().join("out"));
    let decision = Decision::new(&workspace, &record.request(workspace.root(), &cache, &out)?)?;
    if same_file(&decision.image, image) {
        return Err(Error::new("what is built again would take the image's place")
            .at(image)
            .help("name another folder with --out"));
    }
    let options = Options { force: true, epoch: Some(record.epoch), ..Options::default() };
    let built = build(&workspace, &decision, &cache, &options, progress)?;
    let step = progress.step("reading what was built again");
    let file = File::open(&built.image).context_at(&built.image, || "cannot open the image")?;
    let rebuilt = hash_reader(file).context_at(&built.image, || "cannot read the image")?;
    step.finish();
    let mut differences = Vec::new();
    if rebuilt != sha256 {
        if built.manifest.map == record.map {
            progress.line(format!(
                "what {} was written for was built again: {} is another image, or was changed since",
                path.display(),
                image.display()
            ));
        }
        let step = progress.step("comparing the two");
        differences = compare(image, &built.image, &regions(&built.manifest.plan))?;
        step.finish();
    }
    Ok(Outcome { sha256, rebuilt, differences })
}

/// What the lock file beside the image says, and its path.
fn recorded(image: &Path) -> Result<(PathBuf, crate::pins::Pins, Record)> {
    let path = lock_path(image);
    if !path.is_file() {
        return Err(Error::new("there is no lock file beside the image")
            .at(&path)
            .help("`vambrace build` writes one with every image; it has to come along with the image"));
    }
    let found = LockFile::read(&path)?;
    let record = found.image.ok_or_else(|| {
        Error::new("this lock file does not say how an image was built")
            .at(&path)
            .help("the one that `vambrace build` wrote beside the image does")
    })?;
    Ok((path, found.pins, record))
}

/// What may make another image of the same record.
fn warnings(record: &Record, sources: Option<&Sources>) -> Vec<String> {
    let mut warnings = Vec::new();
    if record.builder != env!("CARGO_PKG_VERSION") {
        let (was, is) = (record.builder.escape_default(), env!("CARGO_PKG_VERSION"));
        warnings.push(format!("the image was built by vambrace {was}, and this is {is}"));
    }
    let told = |sources: Option<&Sources>| sources.map_or("unknown".to_owned(), Sources::short);
    let modified = record.sources.as_ref().is_some_and(|sources| sources.modified);
    if modified || record.sources.as_ref() != sources {
        warnings.push(format!(
            "the image was built from the sources' commit {}, and these are {}",
            told(record.sources.as_ref()),
            told(sources)
        ));
    }
    warnings
}

/// A cache in `folder` with nothing in it but the packages of `cache`.
fn emptied(cache: &Cache, folder: &Path) -> Result<Cache> {
    let packages = cache.folder("apt");
    for folder in [&packages, folder] {
        fs::create_dir_all(folder).context_at(folder, || "cannot make the folder")?;
    }
    let link = folder.join("apt");
    std::os::unix::fs::symlink(&packages, &link).context_at(&link, || "cannot make the link")?;
    Cache::open(Some(folder))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// The plan's names for what lies where on the medium.
fn regions(plan: &serde_json::Value) -> Vec<Region> {
    let extents = plan.get("disk").and_then(|disk| disk.get("extents"));
    extents.and_then(|extents| Vec::deserialize(extents).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Pins;
    use crate::record::tests::record;

    #[test]
    fn an_image_without_a_record_cannot_be_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        let run = || {
            let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
            let open = |_: Option<&Path>| -> Result<Workspace> { Err(Error::new("not so far")) };
            reproduce(&image, &open, cache, &How::default(), &Progress::quiet()).unwrap_err().report()
        };
        assert!(run().contains("x.img: cannot open the image"));
        fs::write(&image, "x").unwrap();
        assert!(run().contains("x.lock: there is no lock file"), "{}", run());
        let mut lock = LockFile { pins: Pins::default(), image: None };
        lock.write(&lock_path(&image)).unwrap();
        assert!(run().contains("does not say how an image was built"), "{}", run());
        lock.image = Some(record());
        lock.write(&lock_path(&image)).unwrap();
        assert!(run().contains("not so far"), "{}", run());
    }

    #[test]
    fn other_sources_are_warned_of() {
        let record = record();
        let sources = record.sources.clone();
        let told = |record: &Record, sources: Option<&Sources>| warnings(record, sources).join("\n");
        let mut own = Record { builder: env!("CARGO_PKG_VERSION").into(), ..record };
        assert_eq!(told(&own, sources.as_ref()), "");
        assert!(told(&own, None).contains("commit 0b0b0b0b0b0b, and these are unknown"));
        own.sources = Some(Sources { modified: true, ..sources.clone().unwrap() });
        let said = told(&own, own.sources.as_ref());
        assert!(said.contains("with changes"), "the changes may be others: {said}");
        own.builder = "0.0.1\u{1b}".into();
        assert!(told(&own, None).contains("by vambrace 0.0.1\\u{1b}, and this is"));
    }

    #[test]
    fn a_cache_from_scratch_has_the_packages_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("old"))).unwrap();
        cache.store("kernel", "k", b"data", "a test").unwrap();
        fs::create_dir_all(cache.folder("apt/debs")).unwrap();
        fs::write(cache.folder("apt/debs/a.deb"), "a").unwrap();
        let new = emptied(&cache, &dir.path().join("new")).unwrap();
        assert!(new.lookup("kernel", "k").is_none());
        assert_eq!(fs::read(new.folder("apt/debs/a.deb")).unwrap(), b"a");
    }

    #[test]
    fn a_plan_names_regions() {
        let plan = serde_json::json!({"disk": {"extents": [{"what": "a", "start": 1, "size": 2}]}});
        assert_eq!(regions(&plan), [Region { what: "a".into(), start: 1, size: 2 }]);
        assert_eq!(regions(&serde_json::Value::Null), []);
    }
}
