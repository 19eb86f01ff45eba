//! Two file systems, compared by path.

use super::Difference;
use crate::error::{Error, Result, ResultExt};
use std::collections::BTreeMap;
use std::io::Read;

/// Paths of a file system that are looked at, and their bytes: a whole desktop has a fifth of these.
const MOST: usize = 1 << 20;
const MOST_BYTES: usize = 256 << 20;
/// Folders in folders: each path is followed from the root on.
const DEEPEST: usize = 128;

/// What is known of one path: each fact with its name, in the order in which they are compared.
pub(super) type Facts = Vec<(&'static str, String)>;

/// A file system that can be read.
pub(super) trait Files {
    /// What is known of the file system itself.
    fn itself(&self) -> Facts;

    /// All paths, with what is known of each.
    fn paths(&self) -> &Paths;

    /// The bytes of the file at `path`; `None` for what has none.
    fn open<'a>(&'a self, path: &str) -> Result<Option<Box<dyn Read + 'a>>>;
}

/// Paths, each once, and not more than can be kept.
#[derive(Debug, Default)]
pub(super) struct Paths {
    facts: BTreeMap<String, Facts>,
    bytes: usize,
}

impl Paths {
    /// Adds a path.
    ///
    /// # Errors
    ///
    /// It is there twice, or there are too many.
    pub(super) fn add(&mut self, path: String, facts: Facts) -> Result<()> {
        self.bytes += path.len();
        let depth = path.bytes().filter(|&byte| byte == b'/').count();
        if self.facts.len() >= MOST || self.bytes > MOST_BYTES || depth > DEEPEST {
            return Err(Error::new(format!(
                "it has more than {MOST} files, or folders that lead into themselves"
            )));
        }
        match self.facts.insert(path.clone(), facts) {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("{} is there twice", path.escape_default()))),
        }
    }
}

/// The first difference of two file systems, by path.
///
/// # Errors
///
/// A file that cannot be read, with its path.
pub(super) fn difference(a: &dyn Files, b: &dyn Files) -> Result<Option<Difference>> {
    if let Some((fact, x, y)) = first(&a.itself(), &b.itself()) {
        return Ok(Some(Difference::of("the file system", fact, &x, &y)));
    }
    let (facts_a, facts_b) = (&a.paths().facts, &b.paths().facts);
    let mut both = facts_a.keys().chain(facts_b.keys()).collect::<Vec<_>>();
    both.sort();
    both.dedup();
    for path in both {
        // A name may be anything; a terminal takes some of it for commands.
        let shown = format!("/{}", path.escape_debug());
        match (facts_a.get(path), facts_b.get(path)) {
            (Some(_), None) => return Ok(Some(Difference::new(shown, "it is not there in the other"))),
            (None, _) => return Ok(Some(Difference::new(shown, "it is only there in the other"))),
            (Some(x), Some(y)) => {
                if let Some((fact, x, y)) = first(x, y) {
                    return Ok(Some(Difference::of(shown, fact, &x, &y)));
                }
            }
        }
        let failed = || format!("cannot read {shown}");
        if let (Some(x), Some(y)) = (a.open(path)?, b.open(path)?)
            && let Some(at) = bytes(x, y).context(failed)?
        {
            return Ok(Some(Difference::new(shown, format!("its content differs from byte {at} on"))));
        }
    }
    Ok(None)
}

/// The first fact that is another.
fn first(a: &Facts, b: &Facts) -> Option<(&'static str, String, String)> {
    let other = |name: &str| b.iter().find(|(other, _)| *other == name).map_or("none", |(_, value)| value);
    a.iter()
        .find(|(name, value)| other(name) != value)
        .map(|(name, value)| (*name, value.clone(), other(name).to_owned()))
}

/// Where the first byte of two files differs.
fn bytes(mut a: Box<dyn Read + '_>, mut b: Box<dyn Read + '_>) -> std::io::Result<Option<u64>> {
    let (mut left, mut right) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    let mut at = 0;
    loop {
        let (x, y) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        let (x, y) = (left.get(..x).unwrap_or_default(), right.get(..y).unwrap_or_default());
        if x != y {
            let same = x.iter().zip(y).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if x.is_empty() {
            return Ok(None);
        }
        at += x.len() as u64;
    }
}

fn fill(from: &mut dyn Read, into: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_once_and_there_is_an_end_to_them() {
        let mut paths = Paths::default();
        paths.add("a".into(), Vec::new()).unwrap();
        assert!(paths.add("a".into(), Vec::new()).unwrap_err().report().contains("there twice"));
        assert!(paths.add("a/".repeat(DEEPEST + 1), Vec::new()).is_err());
        paths.bytes = MOST_BYTES;
        assert!(paths.add("b".into(), Vec::new()).unwrap_err().report().contains("into themselves"));
    }
}
