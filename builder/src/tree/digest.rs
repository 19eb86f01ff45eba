//! What a tree holds, as a hash.

use super::{Entry, Kind, Tree};
use crate::cache::{digest, hex};
use crate::error::{Result, ResultExt};
use crate::parallel;
use sha2::{Digest, Sha256};

/// Bytes that are read at once.
const PIECE: usize = 1 << 17;

impl Tree {
    /// A hash of all names with everything that they stand for. Files are read on all CPUs.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn digest(&self) -> Result<String> {
        let entries: Vec<Entry<'_>> = self.iter().collect();
        let contents = parallel::map(&entries, |entry| -> Result<[u8; 32]> {
            let Some(data) = entry.node.data() else { return Ok([0; 32]) };
            let mut piece = vec![0; usize::try_from(data.len()).unwrap_or(PIECE).min(PIECE)];
            digest(data.reader(), &mut piece).context(|| format!("cannot read `{}`", entry.shown()))
        })?;
        let mut hash = Sha256::new();
        for (entry, content) in entries.iter().zip(&contents) {
            header(entry, &mut hash);
            hash.update(content);
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Everything of a name but a file's contents. Each field's length goes before it, so that no two are the same text.
fn header(entry: &Entry<'_>, hash: &mut Sha256) {
    let node = entry.node;
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(entry.path);
    let kind = match &node.kind {
        Kind::Dir => "dir".into(),
        Kind::File(data) => format!("file {}", data.len()),
        Kind::Symlink(_) => "link".into(),
        Kind::CharDevice(device) => format!("char {device:?}"),
        Kind::BlockDevice(device) => format!("block {device:?}"),
        Kind::Fifo => "fifo".into(),
        Kind::Socket => "socket".into(),
    };
    add(kind.as_bytes());
    add(node.target().unwrap_or_default());
    add(format!("{} {} {} {}", node.mode, node.owner.user, node.owner.group, entry.links).as_bytes());
    for (name, value) in &node.xattrs {
        add(name);
        add(value);
    }
    add(b"");
}

#[cfg(test)]
mod tests {
    use super::super::{Node, Owner, Owners, read_folder};
    use super::*;

    #[test]
    fn every_difference_is_another_hash() {
        let base = || {
            let mut tree = Tree::new();
            tree.insert("a", Node::file(0o644, "text")).unwrap();
            tree.insert("b", Node::symlink("a")).unwrap();
            tree
        };
        let with = |change: &dyn Fn(&mut Tree)| {
            let mut tree = base();
            change(&mut tree);
            tree.digest().unwrap()
        };
        let own = Owner { user: 1, group: 0 };
        let all = [
            with(&|_| ()),
            with(&|tree| tree.replace("a", Node::file(0o644, "tex7")).unwrap()),
            with(&|tree| tree.replace("a", Node::file(0o600, "text")).unwrap()),
            with(&|tree| tree.replace("a", Node::file(0o644, "text").owned_by(own)).unwrap()),
            with(&|tree| tree.replace("b", Node::symlink("c")).unwrap()),
            with(&|tree| tree.insert("c", Node::char_device(0o600, 1, 3)).unwrap()),
            with(&|tree| tree.insert("c", Node::block_device(0o600, 1, 3)).unwrap()),
            with(&|tree| tree.link("c", "a").unwrap()),
            with(&|tree| tree.insert("c", Node::file(0o644, "text")).unwrap()),
        ];
        for (index, hash) in all.iter().enumerate() {
            assert!(!all.iter().take(index).any(|other| other == hash), "{index}");
        }
        assert_eq!(all[0], base().digest().unwrap());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "text").unwrap();
        let gone = read_folder(dir.path(), Owners::Root).unwrap();
        std::fs::remove_file(dir.path().join("a")).unwrap();
        assert!(gone.digest().unwrap_err().report().contains("`a`"));
    }
}
