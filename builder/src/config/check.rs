//! What a description cannot say: the first fault, with the path of its field.

use super::dom0::{Dom0, File, User, is_key};
use super::{Disk, ImageConfig};
use crate::guest;

/// A field, and what is wrong with it.
type Fault = Option<(String, String)>;

/// Longest name of a host, a user or a group in Debian (adduser.conf, hostname(7)).
const NAME: usize = 32;
const HOSTNAME: usize = 63;

/// The first fault.
pub(super) fn fault(config: &ImageConfig) -> Fault {
    let field = |(name, message): (String, String)| (format!("dom0.{name}"), message);
    dom0(&config.dom0).map(field).or_else(|| disk(&config.disk)).or_else(|| guest::fault(config))
}

fn disk(disk: &Disk) -> Fault {
    for (name, partition) in &disk.partitions {
        if partition.size.is_some() && partition.free.is_some() {
            let text = "a partition has either a size or room left free";
            return Some((format!("disk.partition.{name}.free"), text.to_owned()));
        }
    }
    None
}

fn dom0(dom0: &Dom0) -> Fault {
    let field = |name: &str, message: String| Some((name.to_owned(), message));
    if let Some(name) = &dom0.hostname
        && !label(name)
    {
        let text = format!("`{}` is no host name: 1 to {HOSTNAME} of a-z, 0-9 and -", name.escape_default());
        return field("hostname", text);
    }
    for (index, name) in dom0.packages.iter().enumerate() {
        if !package(name) {
            let text = format!("`{}` is no name of a Debian package", name.escape_default());
            return field(&format!("packages.{index}"), text);
        }
    }
    if dom0.root.is_some() && !dom0.packages.is_empty() {
        return field("packages", "a root file system of your own comes with its packages".into());
    }
    if dom0.kernel.is_some() && dom0.ramdisk.is_none() {
        let text = "Debian's modules do not fit a kernel of your own: name a `ramdisk` as well";
        return field("kernel", text.into());
    }
    for (index, file) in dom0.files.iter().enumerate() {
        let twice = dom0.files.iter().take(index).any(|other| other.path == file.path);
        let fault =
            if twice { Some(("path", "the file is there twice".to_owned())) } else { file_fault(file) };
        if let Some((name, message)) = fault {
            return field(&format!("file.{index}.{name}"), message);
        }
    }
    for (index, user) in dom0.users.iter().enumerate() {
        let twice = dom0.users.iter().take(index).any(|other| other.name == user.name);
        let fault =
            if twice { Some(("name".into(), "the user is there twice".into())) } else { user_fault(user) };
        if let Some((name, message)) = fault {
            return field(&format!("user.{index}.{name}"), message);
        }
    }
    None
}

/// Whether it is one part of a host's name (RFC 1123, 2.1).
fn label(name: &str) -> bool {
    (1..=HOSTNAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether it is a package's name (Debian policy, 5.6.7).
fn package(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() >= 2
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|b| first(b) || matches!(b, b'+' | b'-' | b'.'))
}

fn file_fault(file: &File) -> Option<(&'static str, String)> {
    let inside = file.path.strip_prefix('/');
    let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
    if inside.is_none_or(|path| path.split('/').any(odd)) {
        let text = format!("`{}` is not an absolute path without `.` and `..`", file.path.escape_default());
        return Some(("path", text));
    }
    match (&file.from, &file.text) {
        (Some(_), Some(_)) => return Some(("text", "a file has either `from` or `text`".into())),
        (None, None) => return Some(("path", "say what is in it, with `from` or `text`".into())),
        _ => {}
    }
    if file.mode.is_some_and(|mode| mode > 0o7777) {
        return Some(("mode", "permission bits end at 0o7777; in TOML they are written like 0o644".into()));
    }
    None
}

fn user_fault(user: &User) -> Fault {
    let field = |name: &str, message: &str| Some((name.to_owned(), message.to_owned()));
    let name = |name: &str| {
        (1..=NAME).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if !name(&user.name) {
        return field("name", "a user is called 1 to 32 of a-z, 0-9, - and _, beginning with a letter");
    }
    if let Some(index) = user.groups.iter().position(|group| !name(group)) {
        return field(&format!("groups.{index}"), "this is no name of a group");
    }
    let control = |text: &str| text.contains(char::is_control);
    if let Some(index) = user.ssh_keys.iter().position(|key| control(key) || (is_key(key) && !key.is_ascii()))
    {
        return field(&format!("ssh-keys.{index}"), "a key is one line of ASCII");
    }
    // A password in plain text would be readable by whoever has the description or the image.
    if user.password_hash.as_ref().is_some_and(|hash| {
        !hash.starts_with('$') || hash.contains(':') || !hash.bytes().all(|b| b.is_ascii_graphic())
    }) {
        return field(
            "password-hash",
            "this is no hash of a password: `mkpasswd` prints one, beginning with `$`",
        );
    }
    let shell = |path: &str| path.starts_with('/') && !path.contains([':', '\n']) && !control(path);
    if user.shell.as_ref().is_some_and(|path| !shell(path)) {
        return field("shell", "a shell is an absolute path");
    }
    if user.uid.is_some_and(|uid| uid == u32::MAX || uid == 65_535) {
        return field("uid", "this number stands for no user");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        ImageConfig::parse("f.toml", text).map(|_| String::new()).unwrap_or_else(|error| error.report())
    }

    #[test]
    fn what_dom0_cannot_be_is_told_with_its_line() {
        for (text, wanted) in [
            ("[dom0]\nhostname = \"a b\"\n", "f.toml:2:12: in `dom0.hostname`: `a b` is no host name"),
            (
                "[dom0]\npackages = [\"htop\", \"rm -rf\"]\n",
                "f.toml:2:21: in `dom0.packages.1`: `rm -rf` is no name",
            ),
            ("[dom0]\nroot = \"r\"\npackages = [\"htop\"]\n", "comes with its packages"),
            ("[dom0]\nkernel = \"k\"\n", "name a `ramdisk` as well"),
            ("[[dom0.file]]\npath = \"etc/x\"\ntext = \"\"\n", "not an absolute path"),
            ("[[dom0.file]]\npath = \"/etc/../x\"\ntext = \"\"\n", "not an absolute path"),
            ("[[dom0.file]]\npath = \"/x\"\n", "say what is in it"),
            ("[[dom0.file]]\npath = \"/x\"\ntext = \"\"\nfrom = \"y\"\n", "either `from` or `text`"),
            ("[[dom0.file]]\npath = \"/x\"\ntext = \"\"\nmode = 755000\n", "0o7777"),
            ("[[dom0.user]]\nname = \"A\"\n", "a user is called"),
            ("[[dom0.user]]\nname = \"a\"\npassword-hash = \"secret\"\n", "no hash of a password"),
            ("[[dom0.user]]\nname = \"a\"\n[[dom0.user]]\nname = \"a\"\n", "there twice"),
            ("[[dom0.user]]\nname = \"a\"\nssh-keys = [\"ssh-rsa a\\nb\"]\n", "one line of ASCII"),
            ("[[dom0.user]]\nname = \"a\"\nshell = \"bash\"\n", "an absolute path"),
            ("[disk.partition.x]\nsize = \"1M\"\nfree = \"1M\"\n", "either a size or room"),
        ] {
            let report = said(text);
            assert!(report.contains(wanted), "{text}: {report}");
        }
        assert_eq!(said("[dom0]\nhostname = \"shed-2\"\npackages = [\"g++\", \"libstdc++6\"]\n"), "");
    }

    #[test]
    fn keys_and_files_of_keys_are_told_apart() {
        assert!(is_key("ssh-ed25519 AAAA me@home") && is_key("sk-ssh-ed25519@openssh.com AAAA"));
        assert!(!is_key("keys/me.pub") && !is_key("ssh-keys.pub"));
    }
}
