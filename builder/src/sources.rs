//! Which state of the sources an image was made from, as git tells it.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What an image is made from; changes elsewhere, such as in a test, make no other image.
const PATHS: &[&str] = &["Cargo.toml", "Cargo.lock", "bsp", "builder", "dom0-rootfs", "hypervisor", "images"];

/// A commit, and whether the files were those of the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Git's hash of the commit, in hexadecimal.
    pub commit: String,
    /// Whether something was changed since.
    pub modified: bool,
}

impl Sources {
    /// The state of the sources in `root`; `None` where that is not the top of a git repository, or there is no git.
    pub fn of(root: &Path) -> Option<Self> {
        let found = git(root, &["rev-parse", "--show-toplevel", "HEAD"])?;
        let (top, commit) = found.trim_end().rsplit_once('\n')?;
        // Sources that were unpacked somewhere in a repository are not that repository's.
        if fs::canonicalize(top).ok()? != fs::canonicalize(root).ok()? || !is_commit(commit) {
            return None;
        }
        let changes = git(root, &[&["status", "--porcelain", "--"], PATHS].concat())?;
        Some(Self { commit: commit.to_owned(), modified: !changes.is_empty() })
    }

    /// For people: the commit's first digits.
    pub fn short(&self) -> String {
        let digits: String = self.commit.chars().take(12).collect();
        if self.modified { format!("{digits} with changes") } else { digits }
    }
}

/// Whether `text` is what git calls a commit: a SHA-1 or a SHA-256.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// git in the repository at `root`, which reads nothing from its console.
pub(crate) fn git_in(root: &Path) -> Command {
    let mut command = Command::new("git");
    // Set where git itself runs us; they name another repository, or another state of this one.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command.arg("-C").arg(root).stdin(Stdio::null());
    command
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output =
        git_in(root).args(["--no-optional-locks", "-c", "core.fsmonitor=false"]).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_with_whether_it_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Sources::of(dir.path()), None, "no repository");
        let run = |args: &[&str]| {
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
            git(dir.path(), &[&who, args].concat())
        };
        // A machine without git has no commits to tell.
        let Some(_) = run(&["init", "--quiet"]) else { return };
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::write(dir.path().join("images/a.toml"), "a").unwrap();
        run(&["add", "."]).unwrap();
        run(&["commit", "--quiet", "--message=a"]).unwrap();
        let clean = Sources::of(dir.path()).unwrap();
        assert!(is_commit(&clean.commit) && !clean.modified, "{clean:?}");
        assert_eq!(Sources::of(&dir.path().join("images")), None, "a folder of another's repository");
        fs::write(dir.path().join("notes"), "of the user's").unwrap();
        assert_eq!(Sources::of(dir.path()), Some(clean.clone()), "nothing that is in an image");
        fs::write(dir.path().join("images/b.toml"), "b").unwrap();
        let changed = Sources::of(dir.path()).unwrap();
        assert_eq!(changed, Sources { modified: true, ..clean });
        assert!(changed.short().ends_with(" with changes"));
    }

    #[test]
    fn only_a_hash_is_a_commit() {
        assert!(is_commit(&"0a".repeat(20)) && is_commit(&"0a".repeat(32)));
        assert!(!is_commit("HEAD") && !is_commit(&"0g".repeat(20)) && !is_commit(&"0A".repeat(20)));
    }
}
