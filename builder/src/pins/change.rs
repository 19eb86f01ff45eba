//! What moves from one set of pins to another.

use super::{Name, Pins};
use crate::apt::Package;
use std::collections::BTreeSet;
use std::fmt;

/// One package that is another in the new pins, or only in the old or the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it stands for.
    pub name: Name,
    /// The old package.
    pub old: Option<Package>,
    /// The new package.
    pub new: Option<Package>,
}

impl Pins {
    /// What is different in `new`, sorted by name.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let names: BTreeSet<&Name> = self.packages.keys().chain(new.packages.keys()).collect();
        let change = |name: &Name| {
            let (old, new) = (self.packages.get(name), new.packages.get(name));
            let which = |package: &Package| (package.version.clone(), package.sha256.clone());
            (old.map(which) != new.map(which)).then(|| Change {
                name: name.clone(),
                old: old.cloned(),
                new: new.cloned(),
            })
        };
        let mut changes: Vec<Change> = names.into_iter().filter_map(change).collect();
        changes.sort_by(|a, b| (&a.name.name, &a.name).cmp(&(&b.name.name, &b.name)));
        changes
    }
}

impl fmt::Display for Change {
    /// `name 1.0 -> 1.1 (trixie arm64)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { release, arch, name } = &self.name;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old.version == new.version => {
                write!(f, "{name} {}: built anew", new.version)?;
            }
            (Some(old), Some(new)) => write!(f, "{name} {} -> {}", old.version, new.version)?,
            (None, Some(new)) => write!(f, "{name} {} added", new.version)?,
            (Some(old), None) => write!(f, "{name} {} removed", old.version)?,
            (None, None) => write!(f, "{name}")?,
        }
        write!(f, " ({release} {arch})")
    }
}

/// Lines that tell the changes, and how many there are of each kind.
pub fn report(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changes: every package is the newest\n".to_owned();
    }
    let count = |wanted: fn(&Change) -> bool| changes.iter().filter(|change| wanted(change)).count();
    let moved = count(|change| change.old.is_some() && change.new.is_some());
    let added = count(|change| change.old.is_none());
    let removed = count(|change| change.new.is_none());
    let mut text: String = changes.iter().map(|change| format!("{change}\n")).collect();
    text.push_str(&format!("{moved} changed, {added} added, {removed} removed\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{package, pins};
    use super::*;

    #[test]
    fn each_kind_of_change_is_told_once() {
        let (old, mut new) = (pins(), pins());
        assert_eq!(old.changes(&new), []);
        assert!(report(&[]).contains("nothing changes"));
        new.set_package("trixie", "arm64", "adduser", package("adduser", "3.153"));
        let mut rebuilt = package("busybox-static", "1:1.37.0-6+b3");
        rebuilt.sha256 = "00".repeat(32);
        new.set_package("trixie", "arm64", "busybox-static", rebuilt);
        new.set_package("trixie", "armhf", "adduser", package("adduser", "3.153"));
        new.packages.remove(&Name::new("trixie", "arm64", "linux-image-arm64"));
        assert_eq!(
            report(&old.changes(&new)),
            "adduser 3.152 -> 3.153 (trixie arm64)\n\
             adduser 3.153 added (trixie armhf)\n\
             busybox-static 1:1.37.0-6+b3: built anew (trixie arm64)\n\
             linux-image-arm64 6.12.57-1 removed (trixie arm64)\n\
             2 changed, 1 added, 1 removed\n"
        );
    }
}
