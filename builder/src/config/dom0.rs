//! dom0, as an image's description has it: its machine, and what is added to its root file system.

use crate::tree::Owners;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use vambrace_bsp::{Architecture, Size};

/// dom0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dom0 {
    /// Its architecture, where it is not the board's: `armv7` on a 64-bit board.
    #[schemars(with = "Option<String>")]
    pub architecture: Option<Architecture>,
    /// Its memory, such as `512M`.
    #[schemars(with = "Option<String>")]
    pub memory: Option<Size>,
    /// Its virtual CPUs; without it, as many as the machine has.
    pub cpus: Option<u32>,
    /// Added to its kernel's command line.
    pub args: Option<String>,
    /// Its name in the network.
    pub hostname: Option<String>,
    /// Debian packages beside those of the profile, which has to be one that installs packages.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Folders whose contents are laid over the root file system, in this order; everything in them belongs to root and
    /// keeps its permission bits. Relative to the description's folder, as all paths of this machine.
    #[serde(default)]
    pub folders: Vec<PathBuf>,
    /// Files, laid over that.
    #[serde(default, rename = "file")]
    pub files: Vec<File>,
    /// Users, and what root is reached with.
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
    /// A root file system of your own in place of the profile's: a folder, or a tar archive.
    pub root: Option<PathBuf>,
    /// Whom what is in the folder `root` belongs to; an archive has its own owners.
    #[serde(default)]
    pub owners: Owners,
    /// A kernel of your own in place of Debian's; it takes a `ramdisk`.
    pub kernel: Option<PathBuf>,
    /// A RAM disk of your own in place of the one that finds the root file system.
    pub ramdisk: Option<PathBuf>,
}

/// A file in dom0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Its absolute path in dom0. What is there before is replaced.
    pub path: String,
    /// What is in it: a file of this machine.
    pub from: Option<PathBuf>,
    /// What is in it, as text.
    pub text: Option<String>,
    /// Its permission bits, such as `0o600`; without it 0o644, or 0o755 where the file that it is made of can be executed.
    pub mode: Option<u32>,
    /// Whom it belongs to: USER or USER:GROUP, by name or number; without it root.
    pub owner: Option<String>,
}

/// A user of dom0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// The name. One that is there already, such as `root`, gets the keys, the password and the groups.
    pub name: String,
    /// SSH public keys, as text; or a file of them, by its path.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// The hash of a password, as `mkpasswd` prints it (crypt(5)); without it no password opens the account.
    pub password_hash: Option<String>,
    /// Groups beside the user's own, such as `sudo`; they have to be there.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The login shell, which has to be there; without it /bin/bash if that is, else /bin/sh.
    pub shell: Option<String>,
    /// The number; without it the first free one from 1000 on.
    pub uid: Option<u32>,
}

/// How a text of `ssh-keys` begins that is a key and no path.
const KEY_TYPES: [&str; 4] = ["ssh-", "ecdsa-", "sk-", "cert-authority"];

/// Whether a text of `ssh-keys` is a key; else it is the path of a file of keys.
pub(crate) fn is_key(text: &str) -> bool {
    KEY_TYPES.iter().any(|start| text.starts_with(start)) && text.contains(' ')
}

impl Dom0 {
    /// Whether something is added to the root file system, beside packages.
    pub fn adds(&self) -> bool {
        self.hostname.is_some()
            || !(self.folders.is_empty() && self.files.is_empty() && self.users.is_empty())
    }

    /// The files and folders of this machine that are laid over the root file system, relative to the description's folder.
    pub fn layer(&self) -> Vec<PathBuf> {
        let mut all = self.folders.clone();
        all.extend(self.files.iter().filter_map(|file| file.from.clone()));
        let keys = self.users.iter().flat_map(|user| &user.ssh_keys).filter(|key| !is_key(key));
        all.extend(keys.map(PathBuf::from));
        all
    }

    /// All files and folders of this machine that it names, relative to the description's folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut all = self.layer();
        all.extend([&self.root, &self.kernel, &self.ramdisk].into_iter().flatten().cloned());
        all
    }
}
