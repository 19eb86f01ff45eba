//! The users and groups of a root file system: passwd(5), shadow(5), group(5) and gshadow(5), read and written as texts.

use super::{rewrite, text};
use crate::config::ImageConfig;
use crate::config::dom0::{User, is_key};
use crate::error::{Error, Result};
use crate::tree::{Node, Owner, Tree};
use std::fs;
use vambrace_bsp::did_you_mean;

/// The numbers of people, as Debian has them (adduser.conf, FIRST_UID and LAST_UID).
const PEOPLE: std::ops::Range<u32> = 1000..60_000;
/// Where a new user's home is a copy of.
const SKELETON: &str = "etc/skel";
/// A file of keys longer than this is none.
const MOST_KEYS: u64 = 1 << 20;
/// Seconds of a day: shadow(5) counts days.
const DAY: u64 = 86_400;
/// Shells for who names none, best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// The four texts, line by line. A line that is not understood stays as it is.
#[derive(Debug)]
pub(super) struct Accounts {
    passwd: Vec<String>,
    shadow: Option<Vec<String>>,
    group: Vec<String>,
    gshadow: Option<Vec<String>>,
}

/// A field of a line, by its number.
fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or_default()
}

/// A line's number in field `index`.
fn number(line: &str, index: usize) -> Option<u32> {
    field(line, index).parse().ok()
}

/// `line` with another text in field `index`.
fn with_field(line: &str, index: usize, to: &str) -> String {
    let mut fields: Vec<&str> = line.split(':').collect();
    if let Some(field) = fields.get_mut(index) {
        *field = to;
    }
    fields.join(":")
}

impl Accounts {
    /// Those of `tree`.
    pub(super) fn read(tree: &Tree) -> Result<Self> {
        let lines = |path: &str| -> Result<Option<Vec<String>>> {
            Ok(text(tree, path)?.map(|text| text.lines().map(str::to_owned).collect()))
        };
        let needed = |path: &str| {
            lines(path)?.ok_or_else(|| Error::new(format!("the root file system has no /{path}")))
        };
        Ok(Self {
            passwd: needed("etc/passwd")?,
            shadow: lines("etc/shadow")?,
            group: needed("etc/group")?,
            gshadow: lines("etc/gshadow")?,
        })
    }

    /// Puts them back.
    pub(super) fn write(&self, tree: &mut Tree) -> Result<()> {
        let joined = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        rewrite(tree, "etc/passwd", joined(&self.passwd), 0o644)?;
        rewrite(tree, "etc/group", joined(&self.group), 0o644)?;
        for (path, lines) in [("etc/shadow", &self.shadow), ("etc/gshadow", &self.gshadow)] {
            if let Some(lines) = lines {
                rewrite(tree, path, joined(lines), 0o640)?;
            }
        }
        Ok(())
    }

    /// Whom `USER` or `USER:GROUP` stands for. Without a group it is the user's own.
    pub(super) fn owner(&self, text: &str) -> Result<Owner> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let line = self.passwd.iter().find(|line| field(line, 0) == user);
        let uid = match (line, user.parse()) {
            (Some(line), _) => number(line, 2).ok_or_else(|| Error::new("/etc/passwd is damaged"))?,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(unknown("user", user, &self.passwd)),
        };
        let gid = match group {
            Some(group) => self.group_number(group)?,
            None => line.and_then(|line| number(line, 3)).unwrap_or(uid),
        };
        Ok(Owner { user: uid, group: gid })
    }

    fn group_number(&self, group: &str) -> Result<u32> {
        match (self.group.iter().find(|line| field(line, 0) == group), group.parse()) {
            (Some(line), _) => number(line, 2).ok_or_else(|| Error::new("/etc/group is damaged")),
            (None, Ok(gid)) => Ok(gid),
            (None, Err(_)) => Err(unknown("group", group, &self.group)),
        }
    }

    /// Adds `user`, or what is said of one who is there; `at` is the description's field.
    pub(super) fn add(
        &mut self,
        tree: &mut Tree,
        user: &User,
        config: &ImageConfig,
        epoch: u64,
        at: &str,
    ) -> Result<()> {
        let told = |name: &str, error: Error| config.blame(&format!("{at}.{name}"), error);
        if !self.passwd.iter().any(|line| field(line, 0) == user.name) {
            self.make(tree, user, epoch).map_err(|(name, error)| told(name, error))?;
        } else if user.uid.is_some() {
            return Err(told("uid", Error::new(format!("`{}` is there already, with a number", user.name))));
        }
        let shell = user.shell.as_deref();
        if let Some(shell) = shell {
            if !is_there(tree, shell) {
                return Err(told("shell", Error::new(format!("{shell} is not in the root file system"))));
            }
            self.each_of(&user.name, |line| *line = with_field(line, 6, shell));
        }
        if let Some(hash) = &user.password_hash {
            let day = (epoch / DAY).to_string();
            match &mut self.shadow {
                Some(shadow) => {
                    for line in shadow.iter_mut().filter(|line| field(line, 0) == user.name) {
                        *line = with_field(&with_field(line, 1, hash), 2, &day);
                    }
                }
                None => self.each_of(&user.name, |line| *line = with_field(line, 1, hash)),
            }
        }
        for (index, group) in user.groups.iter().enumerate() {
            self.join(&user.name, group).map_err(|error| told(&format!("groups.{index}"), error))?;
        }
        if !user.ssh_keys.is_empty() {
            let keys = keys(user, config, at)?;
            self.authorize(tree, &user.name, keys).map_err(|error| told("ssh-keys", error))?;
        }
        Ok(())
    }

    /// Has `change` change the line of the user `name`.
    fn each_of(&mut self, name: &str, change: impl Fn(&mut String)) {
        self.passwd.iter_mut().filter(|line| field(line, 0) == name).for_each(change);
    }

    /// Makes the user, a group of the same name and number, and a home.
    fn make(
        &mut self,
        tree: &mut Tree,
        user: &User,
        epoch: u64,
    ) -> std::result::Result<(), (&'static str, Error)> {
        let name = &user.name;
        let taken = |id: u32| {
            let is = |line: &String| number(line, 2) == Some(id);
            self.passwd.iter().any(is) || self.group.iter().any(is)
        };
        let uid = match user.uid {
            Some(uid) if taken(uid) => {
                return Err(("uid", Error::new(format!("the number {uid} is somebody's already"))));
            }
            Some(uid) => uid,
            None => {
                let free = PEOPLE.clone().find(|uid| !taken(*uid));
                free.ok_or_else(|| ("uid", Error::new("no number is free")))?
            }
        };
        if self.group.iter().any(|line| field(line, 0) == *name) {
            return Err(("name", Error::new(format!("there is a group `{name}` already, and no such user"))));
        }
        let shell = SHELLS.iter().find(|shell| is_there(tree, shell)).unwrap_or(&SHELLS[1]);
        self.passwd.push(format!("{name}:x:{uid}:{uid}::/home/{name}:{shell}"));
        self.group.push(format!("{name}:x:{uid}:"));
        // `*` is no password's hash, and does not lock the account as `!` does: keys open it.
        if let Some(shadow) = &mut self.shadow {
            shadow.push(format!("{name}:*:{}:0:99999:7:::", epoch / DAY));
        }
        if let Some(gshadow) = &mut self.gshadow {
            gshadow.push(format!("{name}:!::"));
        }
        self.home(tree, name, Owner { user: uid, group: uid }).map_err(|error| ("name", error))
    }

    /// Makes the home folder of a new user.
    fn home(&self, tree: &mut Tree, name: &str, owner: Owner) -> Result<()> {
        let home = format!("home/{name}");
        if tree.get(&home).is_some() {
            return Err(Error::new(format!("/{home} is there already, and no such user")));
        }
        tree.insert(&home, Node::dir(0o700).owned_by(owner))?;
        let inside = format!("{SKELETON}/");
        let copied: Vec<(Vec<u8>, Node)> = tree
            .iter()
            .filter_map(|entry| {
                Some((entry.path.strip_prefix(inside.as_bytes())?.to_vec(), entry.node.clone()))
            })
            .collect();
        for (path, node) in copied {
            tree.insert([home.as_bytes(), b"/", &path].concat(), node.owned_by(owner))?;
        }
        Ok(())
    }

    /// Makes the user `name` a member of `group`.
    fn join(&mut self, name: &str, group: &str) -> Result<()> {
        let unknown = unknown("group", group, &self.group);
        let mut found = false;
        for (lines, index) in [(Some(&mut self.group), 3), (self.gshadow.as_mut(), 3)] {
            for line in lines.into_iter().flatten().filter(|line| field(line, 0) == group) {
                found = true;
                let mut members: Vec<&str> =
                    field(line, index).split(',').filter(|one| !one.is_empty()).collect();
                if !members.contains(&name) {
                    members.push(name);
                }
                *line = with_field(line, index, &members.join(","));
            }
        }
        if found { Ok(()) } else { Err(unknown) }
    }

    /// Lets who has one of `keys` log in as `name`.
    fn authorize(&self, tree: &mut Tree, name: &str, keys: String) -> Result<()> {
        let line = self.passwd.iter().find(|line| field(line, 0) == name);
        let line = line.ok_or_else(|| Error::new("the user is not there"))?;
        let (Some(user), Some(group)) = (number(line, 2), number(line, 3)) else {
            return Err(Error::new("/etc/passwd is damaged"));
        };
        let home = field(line, 5).trim_matches('/');
        if home.is_empty() {
            return Err(Error::new(format!("`{name}` has no home folder for keys")));
        }
        let owner = Owner { user, group };
        if tree.get(home).is_none() {
            tree.insert(home, Node::dir(0o700).owned_by(owner))?;
        }
        let folder = format!("{home}/.ssh");
        // Whatever is there: the server takes no keys from a folder that others can write to.
        tree.insert(&folder, Node::dir(0o700).owned_by(owner))?;
        let path = format!("{folder}/authorized_keys");
        let before = text(tree, &path)?.unwrap_or_default();
        tree.replace(path, Node::file(0o600, before + &keys).owned_by(owner))
    }
}

/// The user's keys, a line each.
fn keys(user: &User, config: &ImageConfig, at: &str) -> Result<String> {
    let mut all = String::new();
    for (index, key) in user.ssh_keys.iter().enumerate() {
        if is_key(key) {
            all.push_str(&format!("{}\n", key.trim()));
            continue;
        }
        let failed = |what: String| config.at(&format!("{at}.ssh-keys.{index}"), what);
        let path = config.dir.join(key);
        let about = |what: &str| failed(format!("{} {what}", path.display()));
        let meta = fs::metadata(&path).map_err(|error| about("cannot be read").because(error))?;
        if !meta.is_file() || meta.len() > MOST_KEYS {
            return Err(about("is no file of keys"));
        }
        let text = fs::read_to_string(&path).map_err(|error| about("cannot be read").because(error))?;
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.iter().any(|line| line.contains("PRIVATE KEY")) {
            return Err(about("is a private key").help("name the public one: FILE.pub"));
        }
        if lines.is_empty() || !lines.iter().all(|line| line.is_ascii() && line.contains(' ')) {
            return Err(about("has no keys of SSH in it, or more than that"));
        }
        lines.iter().for_each(|line| all.push_str(&format!("{line}\n")));
    }
    Ok(all)
}

/// Whether there is something at an absolute path, links of folders on the way followed.
fn is_there(tree: &Tree, path: &str) -> bool {
    /// Links that are followed at most, as Linux does.
    const LINKS: usize = 40;
    let mut path = path.trim_matches('/').to_owned();
    for _ in 0..LINKS {
        if tree.get(&path).is_some() {
            return true;
        }
        // The first folder on the way that is a link.
        let ends = path.match_indices('/').map(|(at, _)| at);
        let link = ends.filter_map(|end| {
            let target = tree.get(path.get(..end)?)?.target()?;
            Some((end, String::from_utf8(target.to_vec()).ok()?))
        });
        let Some((end, target)) = link.into_iter().next() else { return false };
        let rest = path.get(end..).unwrap_or_default().to_owned();
        let folder = match target.strip_prefix('/') {
            Some(absolute) => absolute.to_owned(),
            None => match path.get(..end).and_then(|way| way.rsplit_once('/')) {
                Some((folder, _)) => format!("{folder}/{target}"),
                None => target,
            },
        };
        path = folder.trim_matches('/').to_owned() + &rest;
    }
    false
}

fn unknown(what: &str, name: &str, lines: &[String]) -> Error {
    let known = lines.iter().map(|line| field(line, 0));
    let known: Vec<&str> = known.collect();
    Error::new(format!("there is no {what} `{}`", name.escape_default())).help(did_you_mean(name, known))
}

#[cfg(test)]
mod tests {
    use super::super::with_own;
    use super::*;

    fn base() -> Tree {
        let mut tree = Tree::new();
        let files = [
            (
                "etc/passwd",
                0o644,
                "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n",
            ),
            ("etc/group", 0o644, "root:x:0:\ndaemon:x:1:\nsudo:x:27:\nusers:x:1000:\n"),
            ("etc/shadow", 0o640, "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n"),
            ("etc/gshadow", 0o640, "root:*::\nsudo:*::\n"),
            ("etc/skel/.bashrc", 0o644, "# hello\n"),
            ("usr/bin/bash", 0o755, ""),
            ("usr/bin/zsh", 0o755, ""),
        ];
        for (path, mode, data) in files {
            tree.insert(path, Node::file(mode, data)).unwrap();
        }
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
        tree.insert("root", Node::dir(0o700)).unwrap();
        tree
    }

    fn with(text: &str) -> Result<Tree> {
        with_own(base(), &ImageConfig::parse("x.toml", text).unwrap(), 86_400 * 20_454)
    }

    fn read(tree: &Tree, path: &str) -> String {
        text(tree, path).unwrap().unwrap_or_else(|| panic!("{path} is not there"))
    }

    #[test]
    fn a_new_user_has_everything_that_adduser_gives() {
        let tree = with(
            "[[dom0.user]]\nname = \"ann\"\ngroups = [\"sudo\", \"users\"]\nssh-keys = [\"ssh-ed25519 AAAA ann\"]\n\
             password-hash = \"$y$j9T$x\"\nshell = \"/bin/zsh\"\n[[dom0.user]]\nname = \"bob\"\nuid = 2000\n",
        )
        .unwrap();
        // 1000 is a group's.
        let passwd = read(&tree, "etc/passwd");
        assert!(
            passwd.ends_with("ann:x:1001:1001::/home/ann:/bin/zsh\nbob:x:2000:2000::/home/bob:/bin/bash\n"),
            "{passwd}"
        );
        let shadow = read(&tree, "etc/shadow");
        assert!(shadow.ends_with("ann:$y$j9T$x:20454:0:99999:7:::\nbob:*:20454:0:99999:7:::\n"), "{shadow}");
        let group = read(&tree, "etc/group");
        assert!(group.contains("sudo:x:27:ann\nusers:x:1000:ann\nann:x:1001:\nbob:x:2000:\n"), "{group}");
        assert!(read(&tree, "etc/gshadow").contains("sudo:*::ann\nann:!::\n"));
        assert_eq!(tree.get("etc/shadow").unwrap().mode, 0o640);
        let own = Owner { user: 1001, group: 1001 };
        for (path, mode) in [
            ("home/ann", 0o700),
            ("home/ann/.bashrc", 0o644),
            ("home/ann/.ssh", 0o700),
            ("home/ann/.ssh/authorized_keys", 0o600),
        ] {
            let node = tree.get(path).unwrap();
            assert_eq!((node.mode, node.owner), (mode, own), "{path}");
        }
        assert_eq!(read(&tree, "home/ann/.ssh/authorized_keys"), "ssh-ed25519 AAAA ann\n");
    }

    #[test]
    fn root_gets_keys_and_a_password() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("me.pub"), "# mine\nssh-rsa AAAA me\n\nssh-rsa BBBB me\n").unwrap();
        let path = dir.path().join("x.toml");
        fs::write(
            &path,
            "[[dom0.user]]\nname = \"root\"\nssh-keys = [\"me.pub\"]\npassword-hash = \"$6$x\"\n",
        )
        .unwrap();
        let tree = with_own(base(), &ImageConfig::read(&path, &[]).unwrap(), 0).unwrap();
        assert_eq!(read(&tree, "root/.ssh/authorized_keys"), "ssh-rsa AAAA me\nssh-rsa BBBB me\n");
        assert!(read(&tree, "etc/shadow").starts_with("root:$6$x:0:0:"));
        assert_eq!(read(&tree, "etc/passwd"), read(&base(), "etc/passwd"));
        fs::write(dir.path().join("me.pub"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let said = with_own(base(), &ImageConfig::read(&path, &[]).unwrap(), 0).unwrap_err().report();
        assert!(said.contains("me.pub is a private key") && said.contains("FILE.pub"), "{said}");
    }

    #[test]
    fn what_a_user_cannot_have_is_told_with_its_line() {
        for (text, wanted) in [
            (
                "name = \"ann\"\ngroups = [\"sudoo\"]\n",
                "x.toml:3:11: in `dom0.user.0.groups.0`: there is no group `sudoo`",
            ),
            (
                "name = \"ann\"\nshell = \"/bin/fish\"\n",
                "x.toml:3:9: in `dom0.user.0.shell`: /bin/fish is not in the root file system",
            ),
            ("name = \"ann\"\nuid = 27\n", "somebody's already"),
            ("name = \"root\"\nuid = 5\n", "there already, with a number"),
            ("name = \"sudo\"\n", "a group `sudo` already"),
            (
                "name = \"ann\"\nssh-keys = [\"gone.pub\"]\n",
                "x.toml:3:13: in `dom0.user.0.ssh-keys.0`: gone.pub cannot be read",
            ),
        ] {
            let said = with(&format!("[[dom0.user]]\n{text}")).unwrap_err().report();
            assert!(said.contains(wanted), "{text}: {said}");
        }
        let bare =
            with_own(Tree::new(), &ImageConfig::parse("x.toml", "[[dom0.user]]\nname = \"a\"\n").unwrap(), 0);
        assert!(bare.unwrap_err().report().contains("no /etc/passwd"));
    }
}
