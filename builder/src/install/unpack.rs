//! Unpacking packages into a file tree, as dpkg does it onto a disk.

use std::collections::BTreeSet;

use super::database::Database;
use crate::apt::Package;
use crate::cpio::{Node, Owner, Tree};
use crate::deb::{Content, Deb, Item};
use crate::error::{Error, Result};
use crate::progress::Step;

/// Folders that are links into `/usr` on every system since Debian 12. Before 13 no package has the links.
const MERGED: &[&str] = &["bin", "lib", "sbin"];
/// Symbolic links followed for one path.
const MAX_LINKS: usize = 32;
/// How dpkg calls a configuration file that has been unpacked and not yet configured.
const NEW: &str = ".dpkg-new";

/// Which paths of packages stay out (dpkg(1), `--path-exclude`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Patterns of what stays out.
    pub(crate) exclude: Vec<String>,
    /// Patterns of what is there all the same.
    pub(crate) include: Vec<String>,
}

impl Rules {
    fn keeps(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        !any(&self.exclude) || any(&self.include)
    }

    /// The same rules for dpkg, so that what is installed later follows them as well.
    fn config(&self) -> String {
        let mut text = String::new();
        for (word, patterns) in [("path-exclude", &self.exclude), ("path-include", &self.include)] {
            for pattern in patterns {
                text.push_str(&format!("{word}={pattern}\n"));
            }
        }
        text
    }
}

/// Whether `path` is what `pattern` says; `*` is any text, slashes too.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    true
}

/// Unpacks `packages` into a new tree, with dpkg's records of them as unpacked and to be configured.
pub(crate) fn unpack(packages: &[(Package, Deb)], rules: &Rules, step: &Step) -> Result<Tree> {
    let mut tree = Tree::new();
    for name in MERGED {
        tree.insert(&format!("usr/{name}"), Node::Dir { mode: 0o755 })?;
        tree.insert(name, Node::Symlink { target: format!("usr/{name}") })?;
    }
    let mut order: Vec<&(Package, Deb)> = packages.iter().collect();
    // It has the folders that all the others put things into, with their right modes.
    order.sort_by_key(|(package, _)| (package.name != "base-files", &package.name));
    let mut database = Database::default();
    for (done, (package, deb)) in order.iter().enumerate() {
        step.set(done as u64, order.len() as u64);
        one(&mut tree, &mut database, deb, rules)
            .map_err(|error| error.context(format!("cannot unpack {} {}", package.name, package.version)))?;
    }
    database.write(&mut tree)?;
    let config = rules.config();
    if !config.is_empty() {
        let node = Node::File { mode: 0o644, data: config.into_bytes() };
        tree.replace("etc/dpkg/dpkg.cfg.d/vambrace", node)?;
    }
    Ok(tree)
}

fn one(tree: &mut Tree, database: &mut Database, deb: &Deb, rules: &Rules) -> Result<()> {
    let mut record = database.begin(deb.control()?)?;
    let configuration: BTreeSet<String> = record.conffiles().into_iter().collect();
    deb.unpack(|item| {
        record.list(&item.path);
        if item.path == "/" || !rules.keeps(&item.path) {
            return Ok(());
        }
        let end = if configuration.contains(&item.path) { NEW } else { "" };
        put(tree, item, end)
    })?;
    // A configuration file that stays out is none that dpkg would have to ask about.
    record.finish(|path| place(tree, &format!("{path}{NEW}")).is_ok_and(|at| tree.get(&at).is_some()));
    database.end(record);
    Ok(())
}

/// Puts `item` where the links in the tree lead, with `end` behind its name.
fn put(tree: &mut Tree, item: Item, end: &str) -> Result<()> {
    let path = place(tree, &format!("{}{end}", item.path))?;
    let node = match item.content {
        Content::Directory => Node::Dir { mode: item.mode },
        Content::File(data) => Node::File { mode: item.mode, data },
        Content::Symlink(target) => Node::Symlink { target },
        Content::HardLink(target) => {
            let at = place(tree, &target)?;
            let there = tree.get(&at).cloned();
            there.ok_or_else(|| {
                Error::new(format!("{} is another name of {target}, which is not there", item.path))
            })?
        }
    };
    match tree.get(&path) {
        // A link to a folder stays: what comes is put where it leads.
        Some(Node::Symlink { .. }) if matches!(node, Node::Dir { .. }) => return Ok(()),
        // Several packages have the folder; whoever came first says how it is.
        Some(Node::Dir { .. }) if matches!(node, Node::Dir { .. }) => return Ok(()),
        Some(there) if *there == node => return Ok(()),
        Some(Node::Dir { .. }) | None => {}
        Some(_) => {
            return Err(Error::new(format!("{} is in another package too, and differs there", item.path)));
        }
    }
    tree.insert(&path, node)?;
    tree.set_owner(&path, Owner { user: item.user, group: item.group });
    Ok(())
}

/// Where `path` leads through the links of the tree, without a leading slash. Its last part is not followed.
pub(super) fn place(tree: &Tree, path: &str) -> Result<String> {
    let mut left: Vec<String> = path.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                at.pop();
                continue;
            }
            _ => at.push(part),
        }
        if left.is_empty() {
            break;
        }
        if let Some(Node::Symlink { target }) = tree.get(&at.join("/")) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::new(format!("{path} leads through too many links")));
            }
            at.pop();
            if target.starts_with('/') {
                at.clear();
            }
            left.extend(target.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned));
        }
    }
    Ok(at.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_dpkg_s() {
        for (pattern, path, expected) in [
            ("/usr/share/man/*", "/usr/share/man/man1/x.1", true),
            ("/usr/share/man/*", "/usr/share/man", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright.gz", false),
            ("/a*b*c", "/axxbyyc", true),
            ("/a*b*c", "/axxcyy", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/a", true),
            ("*", "/anything", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        let rules = Rules { exclude: vec!["/d/*".into()], include: vec!["/d/*/c".into()] };
        assert!(rules.keeps("/d/x/c") && !rules.keeps("/d/x/y") && rules.keeps("/e"));
        assert_eq!(rules.config(), "path-exclude=/d/*\npath-include=/d/*/c\n");
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        tree.insert("usr/lib/x", Node::File { mode: 0o644, data: b"x".to_vec() }).unwrap();
        for (path, target) in
            [("lib", "usr/lib"), ("up", "usr/lib/../.."), ("abs", "/lib"), ("loop", "loop/x")]
        {
            tree.insert(path, Node::Symlink { target: target.into() }).unwrap();
        }
        tree
    }

    #[test]
    fn links_of_the_tree_are_followed_but_for_the_last() {
        let tree = tree();
        let at = |path: &str| place(&tree, path).unwrap();
        assert_eq!(at("/lib/y"), "usr/lib/y");
        assert_eq!(at("/abs/y/z"), "usr/lib/y/z");
        assert_eq!(at("/up/y"), "y");
        assert_eq!(at("/lib"), "lib");
        assert_eq!(at("/../../etc/../lib/x"), "usr/lib/x", "nothing leads outside");
        assert!(place(&tree, "/loop/y").is_err());
    }

    #[test]
    fn what_is_there_stays_and_what_differs_is_refused() {
        let mut tree = tree();
        let item = |path: &str, content| Item { path: path.into(), mode: 0o644, user: 0, group: 42, content };
        put(&mut tree, item("/lib", Content::Directory), "").unwrap();
        assert!(matches!(tree.get("lib"), Some(Node::Symlink { .. })));
        put(&mut tree, item("/lib/new", Content::File(b"n".to_vec())), ".dpkg-new").unwrap();
        assert!(tree.get("usr/lib/new.dpkg-new").is_some());
        assert_eq!(tree.owner("usr/lib/new.dpkg-new"), Owner { user: 0, group: 42 });
        put(&mut tree, item("/usr/lib/x", Content::File(b"x".to_vec())), "").unwrap();
        assert!(put(&mut tree, item("/lib/x", Content::File(b"y".to_vec())), "").is_err());
        put(&mut tree, item("/hard", Content::HardLink("/lib/x".into())), "").unwrap();
        assert_eq!(tree.get("hard"), tree.get("usr/lib/x"));
        assert!(put(&mut tree, item("/hard2", Content::HardLink("/lib/z".into())), "").is_err());
    }
}
