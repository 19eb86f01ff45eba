//! Taking away from a new system what is different each time it is made, and what belongs to one machine alone.

use crate::error::Result;
use crate::tree::{Kind, Node, Tree};

/// Folders that are emptied: caches, and what the running system has in memory.
const EMPTIED: &[&str] = &[
    "boot/grub",
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/lib/dpkg/updates",
    "var/tmp",
];

/// Files and folders that go: made anew by whoever needs them, on the machine that they are for.
const GONE: &[&str] = &[
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "etc/openvswitch/.conf.db.~lock~",
    "etc/openvswitch/conf.db",
    "etc/openvswitch/system-id.conf",
    "etc/lvm/backup",
    "etc/lvm/archive",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/catalog/database",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
];

/// What is in the names of a host's keys.
const KEY: &[u8] = b"_key";

/// Makes the same system from each run: see above. Host keys are made on the first boot, as is the machine's number.
pub(crate) fn normalise(tree: &mut Tree) -> Result<()> {
    for folder in EMPTIED {
        if let Some(node) = tree.get(folder).filter(|node| node.is_dir()).cloned() {
            tree.remove(folder);
            tree.insert(folder, node)?;
        }
    }
    for path in GONE {
        tree.remove(path);
    }
    let paths: Vec<Vec<u8>> = tree.iter().map(|entry| entry.path.to_owned()).collect();
    for path in paths {
        let key = path
            .strip_prefix(b"etc/ssh/ssh_host_")
            .is_some_and(|name| name.windows(KEY.len()).any(|word| word == KEY));
        // Python writes them again where they are missing, and not the same bytes each time.
        let compiled = path.ends_with(b"/__pycache__");
        if key || compiled {
            tree.remove(&path);
            continue;
        }
        if path.starts_with(b"var/log/")
            && let Some(node @ Node { kind: Kind::File(_), .. }) = tree.get(&path)
        {
            let node = Node { kind: Kind::File("".into()), ..node.clone() };
            tree.replace(&path, node)?;
        }
    }
    // systemd numbers the machine on the first boot when the file is there and empty (machine-id(5)).
    tree.replace("etc/machine-id", Node::file(0o444, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Owner;

    #[test]
    fn what_belongs_to_one_machine_goes_and_the_rest_stays() {
        let mut tree = Tree::new();
        for path in [
            "etc/machine-id",
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/ssh/ssh_config",
            "etc/passwd-",
            "etc/passwd",
            "var/log/dpkg.log",
            "var/cache/apt/pkgcache.bin",
            "usr/lib/python3/__pycache__/x.pyc",
        ] {
            tree.insert(path, Node::file(0o640, &b"text"[..])).unwrap();
        }
        let owner = Owner { user: 0, group: 4 };
        tree.replace("var/log/dpkg.log", Node::file(0o640, "text").owned_by(owner)).unwrap();
        normalise(&mut tree).unwrap();
        let files = tree.iter().filter(|entry| entry.node.data().is_some());
        let paths: Vec<String> = files.map(|entry| entry.shown()).collect();
        assert_eq!(paths, ["etc/machine-id", "etc/passwd", "etc/ssh/ssh_config", "var/log/dpkg.log"]);
        let is = |path: &str, node: Node| tree.get(path).unwrap().same(&node).unwrap();
        assert!(is("var/log/dpkg.log", Node::file(0o640, "").owned_by(owner)));
        assert!(is("var/cache/apt", Node::dir(0o755)));
        assert!(is("etc/machine-id", Node::file(0o444, "")));
    }
}
