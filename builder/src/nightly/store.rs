//! The folder that nights are kept in.
//!
//! ```text
//!   DIR/report.html, report.json, report.md, junit.xml   the last night
//!   DIR/consoles/NAME.log                                its consoles; NAME~2.log of a second attempt
//!   DIR/good/NAME.log                                    the console of the last boot that passed
//!   DIR/nights/SECONDS.json                              every night
//!   DIR/images/NAME/                                     the image of a boot that failed
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::outcome::{FORMAT, Night};
use crate::cache::{read_json, replace_file, to_json};
use crate::error::{Error, Result, ResultExt};
use crate::lock::open_locked;

/// Nights that are read to show how things went.
const MAX_NIGHTS: usize = 60;
/// Bytes of a console that are read again.
const MAX_CONSOLE: u64 = 32 << 20;

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The folder at `dir`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// A folder that cannot be made.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).context_at(dir, || "cannot find the folder")?;
        for name in ["consoles", "good", "nights", "images"] {
            let folder = dir.join(name);
            fs::create_dir_all(&folder).context_at(&folder, || "cannot make the folder")?;
        }
        Ok(Self { dir })
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The right to run boots here, until it is dropped.
    ///
    /// # Errors
    ///
    /// Another run has it, or the folder cannot be written to.
    pub fn lock(&self) -> Result<File> {
        let path = self.dir.join(".lock");
        open_locked(&path, || {
            Error::new("boots are being run in this folder")
                .at(&self.dir)
                .help("wait for them to end, or name another folder with --out")
        })
    }

    /// Removes the consoles of the night before.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read, or a file that cannot be removed.
    pub fn clear(&self) -> Result<()> {
        let folder = self.dir.join("consoles");
        let failed = || "cannot remove the consoles of the night before";
        for entry in fs::read_dir(&folder).context_at(&folder, failed)? {
            let path = entry.context_at(&folder, failed)?.path();
            fs::remove_file(&path).context_at(&path, failed)?;
        }
        Ok(())
    }

    /// The name of the console's log of this attempt of a boot, from 1, relative to the folder.
    pub fn console(&self, name: &str, attempt: usize) -> String {
        match attempt {
            1 => format!("consoles/{name}.log"),
            more => format!("consoles/{name}~{more}.log"),
        }
    }

    /// The folder for a boot's image.
    pub fn image(&self, name: &str) -> PathBuf {
        self.dir.join("images").join(name)
    }

    /// The lines of the console of the last boot of this name that passed.
    pub fn good(&self, name: &str) -> Option<Vec<String>> {
        let path = self.dir.join(format!("good/{name}.log"));
        let text = fs::metadata(&path)
            .ok()
            .filter(|meta| meta.len() <= MAX_CONSOLE)
            .and_then(|_| fs::read(&path).ok())?;
        Some(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Keeps the lines of a boot that passed.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn keep_good(&self, name: &str, lines: &[String]) -> Result<()> {
        replace_file(&self.dir.join(format!("good/{name}.log")), (lines.join("\n") + "\n").as_bytes())
    }

    /// Keeps the night.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn keep(&self, night: &Night) -> Result<()> {
        replace_file(&self.dir.join(format!("nights/{}.json", night.began)), &to_json(night)?)
    }

    /// The nights that are kept, the oldest first. What cannot be read is not there.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn nights(&self) -> Result<Vec<Night>> {
        let folder = self.dir.join("nights");
        let failed = || "cannot list the nights";
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).context_at(&folder, failed)? {
            let path = entry.context_at(&folder, failed)?.path();
            if let Some(began) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()) {
                found.push((began, path));
            }
        }
        found.sort();
        let recent = found.len().saturating_sub(MAX_NIGHTS);
        let nights = found.into_iter().skip(recent).filter_map(|(_, path)| read_json::<Night>(&path));
        Ok(nights.filter(|night| night.format == FORMAT).collect())
    }

    /// The text of a console of the last night's.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn console_text(&self, console: &str) -> Result<String> {
        let path = self.dir.join(console);
        let size = fs::metadata(&path).context_at(&path, || "cannot look at the console's log")?.len();
        if size > MAX_CONSOLE {
            return Err(
                Error::new(format!("the console's log has more than {} MiB", MAX_CONSOLE >> 20)).at(path)
            );
        }
        let text = fs::read(&path).context_at(&path, || "cannot read the console's log")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Host;
    use super::*;
    use std::collections::BTreeMap;

    fn night(began: u64) -> Night {
        let (sources, host) = (None, Host::default());
        let title = "t".to_owned();
        Night {
            format: FORMAT,
            title,
            began,
            seconds: 1.5,
            sources,
            host,
            outcomes: vec![],
            untried: 0,
            figures: BTreeMap::new(),
        }
    }

    #[test]
    fn nights_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for began in [900, 1000, 20] {
            store.keep(&night(began)).unwrap();
        }
        fs::write(dir.path().join("nights/1.json"), "damaged").unwrap();
        fs::write(dir.path().join("nights/2.json"), to_json(&Night { format: 99, ..night(2) }).unwrap())
            .unwrap();
        let nights = store.nights().unwrap();
        assert_eq!(nights, [20, 900, 1000].map(night));
    }

    #[test]
    fn a_console_that_passed_is_kept_and_the_others_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.good("a"), None);
        store.keep_good("a", &["one".into(), "two".into()]).unwrap();
        assert_eq!(store.good("a").unwrap(), ["one", "two"]);
        let console = store.console("a", 2);
        fs::write(dir.path().join(&console), b"x\xff\n").unwrap();
        assert_eq!(store.console_text(&console).unwrap(), "x\u{fffd}\n");
        store.clear().unwrap();
        assert!(store.console_text(&console).is_err() && store.good("a").is_some());
    }
}
