//! Which commit broke a boot: git halves the commits between a good one and a bad one, and each is booted.

use std::path::Path;
use std::process::Output;

use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use crate::sources::{git_in, is_commit};

/// What a commit turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Its boots pass.
    Good,
    /// They do not: what failed, in a line.
    Bad(String),
    /// It cannot be told, since the image cannot be made: why, in a line.
    Skip(String),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The first bad commit; several where those between could not be tried.
    pub commits: Vec<String>,
    /// What failed there, in a line, where it was tried.
    pub what: Option<String>,
    /// The commits that were tried, in that order.
    pub tried: Vec<(String, Step)>,
}

impl Found {
    /// What was found, for people.
    pub fn told(&self) -> String {
        let count = self.tried.len();
        match (self.commits.as_slice(), &self.what) {
            ([one], Some(what)) => {
                format!("{one} is the first bad commit, of {count} that were tried\n{what}\n")
            }
            (several, _) => format!(
                "the first bad commit is one of these; those between could not be tried:\n{}\n",
                several.join("\n")
            ),
        }
    }
}

/// Finds the first bad commit of the repository at `root` behind `good`, up to `bad`. `test` is given a folder with the
/// sources of each commit that is tried; the repository's own files are left as they are.
///
/// # Errors
///
/// What is no commit, a good one that is not good or a bad one that is not bad, and whatever `test` reports.
pub fn bisect(
    root: &Path,
    (good, bad): (&str, &str),
    progress: &Progress,
    mut test: impl FnMut(&Path) -> Result<Step>,
) -> Result<Found> {
    let (good, bad) = (commit(root, good)?, commit(root, bad)?);
    let tree = Tree::new(root, &bad)?;
    let mut tried = Vec::new();
    let mut one = |commit: &str| -> Result<Step> {
        let subject = git(&tree.path(), &["log", "-1", "--format=%h %s", commit])?;
        progress.line(format!("trying {}", subject.trim_end()));
        let step = test(&tree.path())?;
        let told = match &step {
            Step::Good => "good".to_owned(),
            Step::Bad(what) => format!("bad: {what}"),
            Step::Skip(why) => format!("cannot be tried: {why}"),
        };
        progress.line(format!("  {told}"));
        tried.push((commit.to_owned(), step.clone()));
        Ok(step)
    };
    let untried = |commit: &str, why: &str| {
        Error::new(format!("nothing can be said of the commit {commit}: {why}"))
            .help("name one near it whose boots can be tried")
    };
    let mut what = match one(&bad)? {
        Step::Bad(what) => what,
        Step::Good => {
            return Err(Error::new(format!("the commit {bad} is not bad: its boots do not fail")));
        }
        Step::Skip(why) => return Err(untried(&bad, &why)),
    };
    git(&tree.path(), &["checkout", "--quiet", "--detach", &good])?;
    match one(&good)? {
        Step::Good => {}
        Step::Bad(_) => {
            return Err(Error::new(format!("the commit {good} is not good: its boots do not pass"))
                .help("name an older one"));
        }
        Step::Skip(why) => return Err(untried(&good, &why)),
    }
    git(&tree.path(), &["bisect", "start", &bad, &good])?;
    loop {
        // The bad one, and what lies between it and the good ones.
        let list = git(&tree.path(), &["rev-list", "refs/bisect/bad", "--not", "--glob=refs/bisect/good-*"])?;
        let suspects: Vec<String> = list.lines().map(str::to_owned).collect();
        if suspects.len() <= 1 {
            return Ok(Found { commits: suspects, what: Some(what), tried });
        }
        let now = commit(&tree.path(), "HEAD")?;
        let word = match one(&now)? {
            Step::Good => "good",
            Step::Bad(said) => {
                what = said;
                "bad"
            }
            Step::Skip(_) => "skip",
        };
        let output = run(&tree.path(), &["bisect", word])?;
        match output.status.code() {
            Some(0) => {}
            // Nothing is left but what cannot be tried.
            Some(2) => return Ok(Found { commits: suspects, what: None, tried }),
            _ => return Err(failed(&["bisect", word], &output)),
        }
    }
}

/// The sources of one commit after another, in a folder of their own.
struct Tree<'a> {
    root: &'a Path,
    dir: tempfile::TempDir,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Path, commit: &str) -> Result<Self> {
        let dir = tempfile::tempdir().context(|| "cannot make a folder for the sources")?;
        let tree = Self { root, dir };
        let path = tree.path().display().to_string();
        git(root, &["worktree", "add", "--quiet", "--detach", &path, commit])?;
        Ok(tree)
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("sources")
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        // What is left of it git forgets by itself in time.
        let path = self.path().display().to_string();
        let _ = run(self.root, &["worktree", "remove", "--force", &path]);
    }
}

/// The commit that `name` stands for.
fn commit(root: &Path, name: &str) -> Result<String> {
    // A name is never an option.
    let found = git(root, &["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]);
    let found = found.map_err(|error| Error::new(format!("`{name}` is no commit")).because(error))?;
    let found = found.trim();
    match is_commit(found) {
        true => Ok(found.to_owned()),
        false => Err(Error::new(format!("git says `{}` for the commit `{name}`", found.escape_default()))),
    }
}

fn run(root: &Path, args: &[&str]) -> Result<Output> {
    git_in(root).args(args).output().context(|| "cannot run git")
}

fn git(root: &Path, args: &[&str]) -> Result<String> {
    let output = run(root, args)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(args, &output)),
    }
}

fn failed(args: &[&str], output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    Error::new(format!("`git {}` failed: {}", args.join(" "), said.trim().escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A repository with a commit for each of `states`, what the file `state` has; gives their names.
    fn repository(states: &[&str]) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet"]).unwrap();
        let commits = states.iter().enumerate().map(|(number, state)| {
            fs::write(dir.path().join("state"), state).unwrap();
            fs::write(dir.path().join("number"), number.to_string()).unwrap();
            git(dir.path(), &["add", "."]).unwrap();
            let own = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
            git(dir.path(), &[&own[..], &["commit", "--quiet", "--message", state]].concat()).unwrap();
            commit(dir.path(), "HEAD").unwrap()
        });
        let commits = commits.collect();
        (dir, commits)
    }

    fn find(root: &Path, good: &str, bad: &str) -> Result<Found> {
        bisect(root, (good, bad), &Progress::quiet(), |sources| {
            Ok(match fs::read_to_string(sources.join("state")).unwrap().as_str() {
                "good" => Step::Good,
                "skip" => Step::Skip("it does not compile".into()),
                other => Step::Bad(format!("stage {other}")),
            })
        })
    }

    #[test]
    fn the_first_bad_commit_is_found() {
        let (dir, commits) =
            repository(&["good", "good", "good", "skip", "good", "one", "two", "two", "two"]);
        let found = find(dir.path(), &commits[0], "HEAD").unwrap();
        assert_eq!((found.commits, found.what.as_deref()), (vec![commits[5].clone()], Some("stage one")));
        assert!(found.tried.len() < commits.len(), "{:?}", found.tried);
        assert_eq!(fs::read_to_string(dir.path().join("state")).unwrap(), "two", "nothing is changed");
        assert_eq!(git(dir.path(), &["worktree", "list"]).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_cannot_be_tried_stays_suspect() {
        let (dir, commits) = repository(&["good", "skip", "skip", "bad"]);
        let found = find(dir.path(), &commits[0], &commits[3]).unwrap();
        let mut suspects = found.commits;
        suspects.sort();
        let mut expected = commits[1..].to_vec();
        expected.sort();
        assert_eq!((suspects, found.what), (expected, None));
    }

    #[test]
    fn what_is_not_as_it_was_said_is_refused() {
        let (dir, commits) = repository(&["bad", "good", "bad"]);
        let said = |good: &str, bad: &str| find(dir.path(), good, bad).unwrap_err().report();
        assert!(said(&commits[0], &commits[2]).contains("is not good"));
        assert!(said(&commits[1], &commits[1]).contains("is not bad"));
        assert!(said("--help", "HEAD").contains("`--help` is no commit"));
        assert!(said(&commits[1], "nothing").contains("`nothing` is no commit"));
        let (dir, commits) = repository(&["good", "skip"]);
        let untried = find(dir.path(), &commits[0], &commits[1]).unwrap_err().report();
        assert!(untried.contains("nothing can be said of") && untried.contains("compile"), "{untried}");
    }
}
