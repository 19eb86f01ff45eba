//! What an image's description adds to dom0's root file system: folders and files laid over it, its name, its users.
//!
//! It is done to the finished tree, packages and all, whether that becomes an ext4 file system or a RAM disk, and without
//! running anything of it. Contents stay in the user's files until they are written.

mod accounts;

use crate::config::ImageConfig;
use crate::config::dom0::File;
use crate::error::{Error, Result};
use crate::tree::{Data, Node, Owner, Owners, Tree, read_file, read_folder};
use accounts::Accounts;

/// `tree` with everything that `config` says of dom0's root file system; `epoch` is the day on which passwords are set.
///
/// # Errors
///
/// Files that cannot be read, and what cannot be in the tree, with the field at fault.
pub(crate) fn with_own(mut tree: Tree, config: &ImageConfig, epoch: u64) -> Result<Tree> {
    let dom0 = &config.dom0;
    if !dom0.adds() {
        return Ok(tree);
    }
    let at = |field: String| move |error: Error| config.blame(&field, error);
    // Users first: files may belong to them.
    if !dom0.users.is_empty() {
        let mut accounts = Accounts::read(&tree).map_err(at("dom0.user".into()))?;
        for (index, user) in dom0.users.iter().enumerate() {
            let field = format!("dom0.user.{index}");
            accounts.add(&mut tree, user, config, epoch, &field)?;
        }
        accounts.write(&mut tree).map_err(at("dom0.user".into()))?;
    }
    for (index, folder) in dom0.folders.iter().enumerate() {
        let field = format!("dom0.folders.{index}");
        let over = read_folder(&config.dir.join(folder), Owners::Root).map_err(at(field.clone()))?;
        lay_over(&mut tree, &over).map_err(at(field))?;
    }
    for (index, file) in dom0.files.iter().enumerate() {
        let field = format!("dom0.file.{index}");
        let node = made(file, config, &tree, &field)?;
        let path = file.path.trim_start_matches('/');
        tree.replace(path, node).map_err(at(format!("{field}.path")))?;
    }
    if let Some(name) = &dom0.hostname {
        named(&mut tree, name).map_err(at("dom0.hostname".into()))?;
    }
    Ok(tree)
}

/// Puts everything of `over` into `tree`. A folder that is there keeps whom it belongs to.
fn lay_over(tree: &mut Tree, over: &Tree) -> Result<()> {
    let mut first = std::collections::BTreeMap::new();
    for entry in over.iter() {
        if entry.node.is_dir() && tree.get(entry.path).is_some_and(Node::is_dir) {
            continue;
        }
        match first.get(&entry.inode) {
            Some(path) => {
                tree.remove(entry.path);
                tree.link(entry.path, path)?;
            }
            None => {
                tree.replace(entry.path, entry.node.clone())?;
                first.insert(entry.inode, entry.path);
            }
        }
    }
    Ok(())
}

/// The file that a description has at `field`.
fn made(file: &File, config: &ImageConfig, tree: &Tree, field: &str) -> Result<Node> {
    let owner = match &file.owner {
        None => Owner::ROOT,
        Some(text) => Accounts::read(tree)
            .and_then(|accounts| accounts.owner(text))
            .map_err(|error| config.blame(&format!("{field}.owner"), error))?,
    };
    let (data, mode) = match (&file.from, &file.text) {
        (Some(path), _) => {
            let path = config.dir.join(path);
            let (data, executable) =
                read_file(&path).map_err(|error| config.blame(&format!("{field}.from"), error))?;
            (data, if executable { 0o755 } else { 0o644 })
        }
        (None, text) => (Data::from(text.clone().unwrap_or_default()), 0o644),
    };
    Ok(Node::file(file.mode.unwrap_or(mode), data).owned_by(owner))
}

/// Gives dom0 the name `name`: in /etc/hostname, and in /etc/hosts in the place of its name of before.
fn named(tree: &mut Tree, name: &str) -> Result<()> {
    let before = text(tree, "etc/hostname")?.unwrap_or_default();
    let before = before.trim();
    if let Some(hosts) = text(tree, "etc/hosts")?
        && !before.is_empty()
    {
        let word = |word: &str| if word == before { name.to_owned() } else { word.to_owned() };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        let hosts: String = hosts.lines().map(|text| line(text) + "\n").collect();
        rewrite(tree, "etc/hosts", hosts, 0o644)?;
    }
    rewrite(tree, "etc/hostname", format!("{name}\n"), 0o644)
}

/// The text of a file that is not long, if it is there.
fn text(tree: &Tree, path: &str) -> Result<Option<String>> {
    const LONGEST: u64 = 1 << 20;
    let Some(data) = tree.get(path).and_then(Node::data) else { return Ok(None) };
    let bytes = data.bytes(LONGEST).map_err(|error| error.at(path))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::new("the file is no text").at(path))?;
    Ok(Some(text))
}

/// Gives the file at `path` this text; whom it belongs to and who may read it stays as it was, or becomes root and `mode`.
fn rewrite(tree: &mut Tree, path: &str, text: String, mode: u32) -> Result<()> {
    let (owner, mode) = match tree.get(path) {
        Some(node) if node.data().is_some() => (node.owner, node.mode),
        _ => (Owner::ROOT, mode),
    };
    tree.replace(path, Node::file(mode, text).owned_by(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn base() -> Tree {
        let mut tree = Tree::new();
        tree.insert("etc/hostname", Node::file(0o644, "old\n")).unwrap();
        tree.insert("etc/hosts", Node::file(0o644, "127.0.0.1 localhost\n127.0.1.1 old old.example\n"))
            .unwrap();
        tree.insert("etc/passwd", Node::file(0o644, "root:x:0:0:root:/root:/bin/bash\n")).unwrap();
        tree.insert("etc/group", Node::file(0o644, "root:x:0:\nsudo:x:27:\n")).unwrap();
        tree.insert("etc/motd", Node::symlink("/run/motd")).unwrap();
        tree.insert("srv", Node::dir(0o2775).owned_by(Owner { user: 0, group: 27 })).unwrap();
        tree
    }

    fn read(tree: &Tree, path: &str) -> String {
        text(tree, path).unwrap().unwrap_or_else(|| panic!("{path} is not there"))
    }

    #[test]
    fn folders_files_and_the_name_are_laid_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("over/srv/www")).unwrap();
        fs::write(dir.path().join("over/srv/www/a"), "a").unwrap();
        fs::hard_link(dir.path().join("over/srv/www/a"), dir.path().join("over/srv/b")).unwrap();
        fs::write(dir.path().join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.path().join("tool"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let path = dir.path().join("x.toml");
        fs::write(
            &path,
            "[dom0]\nhostname = \"shed\"\nfolders = [\"over\"]\n\
             [[dom0.file]]\npath = \"/etc/motd\"\ntext = \"hello\\n\"\n\
             [[dom0.file]]\npath = \"/usr/local/bin/tool\"\nfrom = \"tool\"\nowner = \"root:sudo\"\n\
             [[dom0.file]]\npath = \"/etc/key\"\ntext = \"k\"\nmode = 0o600\nowner = \"7:8\"\n",
        )
        .unwrap();
        let config = ImageConfig::read(&path, &[]).unwrap();
        let tree = with_own(base(), &config, 0).unwrap();
        assert_eq!(read(&tree, "etc/hostname"), "shed\n");
        assert_eq!(read(&tree, "etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 shed old.example\n");
        assert_eq!(read(&tree, "etc/motd"), "hello\n");
        assert_eq!((read(&tree, "srv/www/a"), tree.inode("srv/b")), ("a".into(), tree.inode("srv/www/a")));
        let srv = tree.get("srv").unwrap();
        assert_eq!((srv.mode, srv.owner.group), (0o2775, 27));
        let tool = tree.get("usr/local/bin/tool").unwrap();
        assert_eq!((tool.mode, tool.owner), (0o755, Owner { user: 0, group: 27 }));
        let key = tree.get("etc/key").unwrap();
        assert_eq!((key.mode, key.owner), (0o600, Owner { user: 7, group: 8 }));
    }

    #[test]
    fn what_cannot_be_there_is_told_with_its_field() {
        for (text, wanted) in [
            (
                "folders = [\"nowhere\"]\n",
                "x.toml:2:12: in `dom0.folders.0`: nowhere: cannot list the folder",
            ),
            ("[[dom0.file]]\npath = \"/etc/motd/x\"\ntext = \"\"\n", "is not a directory"),
            ("[[dom0.file]]\npath = \"/srv\"\ntext = \"\"\n", "is in the tree twice"),
            ("[[dom0.file]]\npath = \"/x\"\nfrom = \"gone\"\n", "x.toml:4:8: in `dom0.file.0.from`"),
            ("[[dom0.file]]\npath = \"/x\"\ntext = \"\"\nowner = \"root:sud\"\n", "did you mean `sudo`"),
        ] {
            let config = ImageConfig::parse("x.toml", &format!("[dom0]\n{text}")).unwrap();
            let said = with_own(base(), &config, 0).unwrap_err().report();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
