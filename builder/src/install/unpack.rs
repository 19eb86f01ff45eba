//! Unpacking packages into a file tree, as dpkg does it onto a disk.

use std::collections::BTreeSet;

use super::database::Database;
use crate::apt::Package;
use crate::deb::Deb;
use crate::error::{Error, Result};
use crate::progress::Step;
use crate::tree::{Item, Node, Source, Tree, shown, walk_tar};

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

/// A package, and its files as an archive.
pub(crate) struct Unpacked {
    pub(crate) package: Package,
    pub(crate) deb: Deb,
    pub(crate) files: Source,
}

/// Unpacks `packages` into a new tree, with dpkg's records of them as unpacked and to be configured.
pub(crate) fn unpack(packages: &[Unpacked], rules: &Rules, step: &Step) -> Result<Tree> {
    let mut tree = Tree::new();
    for name in MERGED {
        tree.insert(format!("usr/{name}"), Node::dir(0o755))?;
        tree.insert(name, Node::symlink(format!("usr/{name}")))?;
    }
    let mut order: Vec<&Unpacked> = packages.iter().collect();
    // It has the folders that all the others put things into, with their right modes.
    order.sort_by_key(|unpacked| (unpacked.package.name != "base-files", &unpacked.package.name));
    let mut database = Database::default();
    for (done, unpacked) in order.iter().enumerate() {
        step.set(done as u64, order.len() as u64);
        let package = &unpacked.package;
        one(&mut tree, &mut database, unpacked, rules)
            .map_err(|error| error.context(format!("cannot unpack {} {}", package.name, package.version)))?;
    }
    database.write(&mut tree)?;
    let config = rules.config();
    if !config.is_empty() {
        tree.replace("etc/dpkg/dpkg.cfg.d/vambrace", Node::file(0o644, config))?;
    }
    Ok(tree)
}

fn one(tree: &mut Tree, database: &mut Database, unpacked: &Unpacked, rules: &Rules) -> Result<()> {
    let mut record = database.begin(unpacked.deb.control()?)?;
    let configuration: BTreeSet<String> = record.conffiles().into_iter().collect();
    walk_tar(&unpacked.files, |item| {
        let path = [b"/".as_slice(), &parts(&item.path).join(&b'/')].concat();
        if path.contains(&b'\n') {
            // dpkg's records have a line for each.
            return Err(Error::new(format!("`{}` has a line end in its name", shown(&path))));
        }
        record.list(&path);
        let text = String::from_utf8_lossy(&path);
        if path == b"/" || !rules.keeps(&text) {
            return Ok(());
        }
        let end = if configuration.contains(text.as_ref()) { NEW } else { "" };
        put(tree, item, end)
    })?;
    // A configuration file that stays out is none that dpkg would have to ask about.
    let new = |path: &str| place(tree, format!("{path}{NEW}").as_bytes());
    record.finish(|path| new(path).is_ok_and(|at| tree.get(&at).is_some()));
    database.end(record);
    Ok(())
}

/// The parts of a path without `.`, `..` and doubled slashes; `..` stops at the root.
fn parts(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// Puts `item` where the links in the tree lead, with `end` behind its name.
fn put(tree: &mut Tree, item: Item, end: &str) -> Result<()> {
    let own = parts(&item.path).join(&b'/');
    let path = place(tree, &[&own, end.as_bytes()].concat())?;
    let (node, other) = match item.node() {
        Ok(node) => (node, None),
        Err(target) => {
            let target = parts(&target).join(&b'/');
            // A configuration file has its new name already.
            let names = [place(tree, &target)?, place(tree, &[&target, NEW.as_bytes()].concat())?];
            let found = names.into_iter().find_map(|at| Some((tree.get(&at)?.clone(), Some(at))));
            found.ok_or_else(|| {
                let (own, target) = (shown(&own), shown(&target));
                Error::new(format!("/{own} is another name of /{target}, which is not there"))
            })?
        }
    };
    match tree.get(&path) {
        // A link to a folder stays: what comes is put where it leads.
        Some(there) if there.target().is_some() && node.is_dir() => return Ok(()),
        // Several packages have the folder; whoever came first says how it is.
        Some(there) if there.is_dir() && node.is_dir() => return Ok(()),
        // Whom it belongs to and what else is said of it is the first package's matter.
        Some(there)
            if there.same(&Node { owner: there.owner, xattrs: there.xattrs.clone(), ..node.clone() })? =>
        {
            return Ok(());
        }
        Some(there) if there.is_dir() => {}
        None => {}
        Some(_) => {
            return Err(Error::new(format!("/{} is in another package too, and differs there", shown(&own))));
        }
    }
    match other {
        Some(other) => tree.link(path, other),
        None => tree.insert(path, node),
    }
}

/// Where `path` leads through the links of the tree, without a leading slash. Its last part is not followed.
pub(super) fn place(tree: &Tree, path: &[u8]) -> Result<Vec<u8>> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|&byte| byte == b'/').rev().filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let mut left = parts(path);
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"." => continue,
            b".." => {
                at.pop();
                continue;
            }
            _ => at.push(part),
        }
        if left.is_empty() {
            break;
        }
        if let Some(target) = tree.get(at.join(&b'/')).and_then(Node::target) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::new(format!("{} leads through too many links", shown(path))));
            }
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            left.extend(parts(target));
        }
    }
    Ok(at.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Member, Owner, Xattrs};

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
        tree.insert("usr/lib/x", Node::file(0o644, "x")).unwrap();
        for (path, target) in
            [("lib", "usr/lib"), ("up", "usr/lib/../.."), ("abs", "/lib"), ("loop", "loop/x")]
        {
            tree.insert(path, Node::symlink(target)).unwrap();
        }
        tree
    }

    #[test]
    fn links_of_the_tree_are_followed_but_for_the_last() {
        let tree = tree();
        let at = |path: &str| String::from_utf8(place(&tree, path.as_bytes()).unwrap()).unwrap();
        assert_eq!(at("/lib/y"), "usr/lib/y");
        assert_eq!(at("/abs/y/z"), "usr/lib/y/z");
        assert_eq!(at("/up/y"), "y");
        assert_eq!(at("/lib"), "lib");
        assert_eq!(at("/../../etc/../lib/x"), "usr/lib/x", "nothing leads outside");
        assert!(place(&tree, b"/loop/y").is_err());
    }

    #[test]
    fn what_is_there_stays_and_what_differs_is_refused() {
        let mut tree = tree();
        let owner = Owner { user: 0, group: 42 };
        let item = |path: &str, member| Item {
            path: path.into(),
            mode: 0o644,
            owner,
            member,
            xattrs: Xattrs::new(),
        };
        let file = |text: &str| Member::File(Kind::File(text.into()));
        let link = |target: &str| Member::HardLink(target.into());
        put(&mut tree, item("./lib/", Member::File(Kind::Dir)), "").unwrap();
        assert!(tree.get("lib").unwrap().target().is_some());
        put(&mut tree, item("/lib/new", file("n")), ".dpkg-new").unwrap();
        assert_eq!(tree.get("usr/lib/new.dpkg-new").unwrap().owner, owner);
        put(&mut tree, item("./usr/lib/x", file("x")), "").unwrap();
        assert!(put(&mut tree, item("./lib/x", file("y")), "").is_err());
        put(&mut tree, item("./hard", link("./lib/x")), "").unwrap();
        assert_eq!(tree.inode("hard"), tree.inode("usr/lib/x"));
        put(&mut tree, item("./hard", link("./lib/x")), "").unwrap();
        put(&mut tree, item("./conf", link("./lib/new")), "").unwrap();
        assert_eq!(tree.inode("conf"), tree.inode("usr/lib/new.dpkg-new"));
        let report = put(&mut tree, item("./hard2", link("lib/z")), "").unwrap_err().report();
        assert!(report.contains("/hard2 is another name of /lib/z"), "{report}");
        put(&mut tree, item("../../out", file("o")), "").unwrap();
        assert!(tree.get("out").is_some(), "nothing leads outside");
    }
}
