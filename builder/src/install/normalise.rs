//! Taking away from a new system what is different each time it is made, and what belongs to one machine alone.

use crate::cpio::{Node, Tree};
use crate::error::Result;

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

/// Makes the same system from each run: see above. Host keys are made on the first boot, as is the machine's number.
pub(crate) fn normalise(tree: &mut Tree) -> Result<()> {
    for folder in EMPTIED {
        if let Some(Node::Dir { mode }) = tree.get(folder) {
            let (mode, owner) = (*mode, tree.owner(folder));
            tree.remove(folder);
            tree.insert(folder, Node::Dir { mode })?;
            tree.set_owner(folder, owner);
        }
    }
    for path in GONE {
        tree.remove(path);
    }
    let paths: Vec<String> = tree.iter().map(|(path, _)| path.to_owned()).collect();
    for path in paths {
        let key = path.strip_prefix("etc/ssh/ssh_host_").is_some_and(|name| name.contains("_key"));
        // Python writes them again where they are missing, and not the same bytes each time.
        let compiled = path.ends_with("/__pycache__");
        if key || compiled {
            tree.remove(&path);
            continue;
        }
        let log = path.starts_with("var/log/");
        if (log || path == "etc/machine-id")
            && let Some(Node::File { mode, .. }) = tree.get(&path)
        {
            let (mode, owner) = (*mode, tree.owner(&path));
            tree.replace(&path, Node::File { mode, data: Vec::new() })?;
            tree.set_owner(&path, owner);
        }
    }
    // systemd numbers the machine on the first boot when the file is there and empty (machine-id(5)).
    tree.replace("etc/machine-id", Node::File { mode: 0o444, data: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Owner;

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
            tree.insert(path, Node::File { mode: 0o640, data: b"text".to_vec() }).unwrap();
        }
        let owner = Owner { user: 0, group: 4 };
        tree.set_owner("var/log/dpkg.log", owner);
        normalise(&mut tree).unwrap();
        let paths: Vec<&str> =
            tree.iter().filter(|(_, n)| matches!(n, Node::File { .. })).map(|(p, _)| p).collect();
        assert_eq!(paths, ["etc/machine-id", "etc/passwd", "etc/ssh/ssh_config", "var/log/dpkg.log"]);
        assert_eq!(tree.get("var/log/dpkg.log"), Some(&Node::File { mode: 0o640, data: Vec::new() }));
        assert_eq!(tree.owner("var/log/dpkg.log"), owner);
        assert!(matches!(tree.get("var/cache/apt"), Some(Node::Dir { .. })));
        assert_eq!(tree.get("etc/machine-id"), Some(&Node::File { mode: 0o444, data: Vec::new() }));
    }
}
