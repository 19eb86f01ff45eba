//! dpkg's records of what has been unpacked (`/var/lib/dpkg`), as dpkg itself leaves them before it configures: deb822(5),
//! deb-triggers(5), dpkg-query(1). The records of a release are read by the dpkg of that release only, and their form has
//! been the same since the file `format` in them has said 1.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tree::{Node, Tree};

const INFO: &str = "var/lib/dpkg/info";

/// The records of all packages.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// The stanzas of `status` by package.
    status: BTreeMap<String, String>,
    /// The files in `info`.
    info: BTreeMap<String, (u32, Vec<u8>)>,
    /// Who wants to know when something below a path changes.
    paths: Vec<String>,
    /// Who wants to know of an event, by its name.
    events: BTreeMap<String, Vec<String>>,
}

/// The record of one package while it is unpacked.
#[derive(Debug)]
pub(super) struct Record {
    package: String,
    /// How its files in `info` are called: with the architecture where several may be installed at once.
    base: String,
    control: String,
    files: Vec<(String, u32, Vec<u8>)>,
    list: Vec<u8>,
    conffiles: Vec<String>,
}

impl Database {
    /// Begins the record of the package with these control files.
    pub(super) fn begin(&self, files: Vec<(String, u32, Vec<u8>)>) -> Result<Record> {
        let text = |name: &str| -> Result<Option<String>> {
            let Some((_, _, data)) = files.iter().find(|(file, ..)| file == name) else { return Ok(None) };
            let text = String::from_utf8(data.clone());
            text.map(Some).map_err(|_| Error::new(format!("its {name} is not UTF-8")))
        };
        let control = text("control")?.ok_or_else(|| Error::new("it has no control file"))?;
        let field = |name: &str| {
            let line = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        // Names become those of files, and lines of dpkg's records.
        let plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        };
        let named = |name: &str| {
            field(name).filter(plain).ok_or_else(|| Error::new(format!("its control file has no {name}")))
        };
        let (package, arch) = (named("Package")?, named("Architecture")?);
        if control.trim_end().contains("\n\n") || !control.starts_with("Package:") {
            return Err(Error::new("its control file is not one stanza that begins with the name"));
        }
        let shared = field("Multi-Arch").as_deref() == Some("same");
        let base = if shared { format!("{package}:{arch}") } else { package.clone() };
        let conffiles = text("conffiles")?.unwrap_or_default();
        // A line that begins with a word is about a file of an older version.
        let conffiles = conffiles.lines().map(str::trim).filter(|line| line.starts_with('/'));
        let conffiles = conffiles.map(str::to_owned).collect();
        Ok(Record { package, base, control, files, list: Vec::new(), conffiles })
    }

    /// Takes the record of a package that has been unpacked.
    pub(super) fn end(&mut self, record: Record) {
        let Record { package, base, control, files, list, conffiles } = record;
        let (first, rest) = control.trim_end().split_once('\n').unwrap_or((control.trim_end(), ""));
        let mut stanza = format!("{first}\nStatus: install ok unpacked\n{rest}\n");
        if !conffiles.is_empty() {
            stanza.push_str("Conffiles:\n");
            for path in conffiles {
                stanza.push_str(&format!(" {path} newconffile\n"));
            }
        }
        self.status.insert(package.clone(), stanza);
        for (name, mode, data) in files {
            if name == "triggers" {
                self.triggers(&base, &String::from_utf8_lossy(&data));
            }
            if name != "control" && !name.contains('/') {
                self.info.insert(format!("{base}.{name}"), (mode, data));
            }
        }
        self.info.insert(format!("{base}.list"), (0o644, list));
    }

    /// Takes down what the package wants to know of.
    fn triggers(&mut self, who: &str, text: &str) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(word), Some(what)) = (words.next(), words.next()) else { continue };
            let who = match word {
                "interest" | "interest-await" => who.to_owned(),
                "interest-noawait" => format!("{who}/noawait"),
                _ => continue,
            };
            if what.starts_with('/') {
                self.paths.push(format!("{what} {who}\n"));
            } else if !what.contains('/') {
                self.events.entry(what.to_owned()).or_default().push(format!("{who}\n"));
            }
        }
    }

    /// Writes the records into the system.
    pub(super) fn write(mut self, tree: &mut Tree) -> Result<()> {
        let mut put = |path: &str, mode: u32, data: Vec<u8>| tree.replace(path, Node::file(mode, data));
        let stanzas: Vec<&str> = self.status.values().map(String::as_str).collect();
        put("var/lib/dpkg/status", 0o644, stanzas.join("\n").into_bytes())?;
        put("var/lib/dpkg/available", 0o644, Vec::new())?;
        put(&format!("{INFO}/format"), 0o644, b"1\n".to_vec())?;
        for (name, (mode, data)) in self.info {
            // Scripts run, everything else is read.
            put(&format!("{INFO}/{name}"), if mode & 0o111 == 0 { 0o644 } else { 0o755 }, data)?;
        }
        self.paths.sort();
        put("var/lib/dpkg/triggers/File", 0o644, self.paths.concat().into_bytes())?;
        put("var/lib/dpkg/triggers/Unincorp", 0o644, Vec::new())?;
        for (event, mut who) in self.events {
            who.sort();
            put(&format!("var/lib/dpkg/triggers/{event}"), 0o644, who.concat().into_bytes())?;
        }
        for folder in ["updates", "parts", "alternatives"] {
            tree.insert(format!("var/lib/dpkg/{folder}"), Node::dir(0o755))?;
        }
        Ok(())
    }
}

impl Record {
    /// The configuration files, by absolute path.
    pub(super) fn conffiles(&self) -> Vec<String> {
        self.conffiles.clone()
    }

    /// Takes down that the package has `path`.
    pub(super) fn list(&mut self, path: &[u8]) {
        self.list.extend_from_slice(if path == b"/" { b"/." } else { path });
        self.list.push(b'\n');
    }

    /// Forgets the configuration files that are not `there`.
    pub(super) fn finish(&mut self, there: impl Fn(&str) -> bool) {
        self.conffiles.retain(|path| there(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(control: &str) -> Vec<(String, u32, Vec<u8>)> {
        let file = |name: &str, mode: u32, text: &str| (name.to_owned(), mode, text.as_bytes().to_vec());
        vec![
            file("control", 0o644, control),
            file("conffiles", 0o644, "/etc/a\nremove-on-upgrade /etc/old\n/etc/gone\n"),
            file("postinst", 0o755, "#!/bin/sh\n"),
            file("triggers", 0o644, "# x\ninterest-noawait /usr/lib/a\ninterest ldconfig\nactivate b\n"),
        ]
    }

    const CONTROL: &str =
        "Package: liba\nVersion: 1\nArchitecture: arm64\nMulti-Arch: same\nDescription: a\n b\n";

    #[test]
    fn records_are_dpkg_s() {
        let mut database = Database::default();
        let mut record = database.begin(files(CONTROL)).unwrap();
        assert_eq!(record.conffiles(), ["/etc/a", "/etc/gone"]);
        for path in ["/", "/etc", "/etc/a"] {
            record.list(path.as_bytes());
        }
        record.finish(|path| path != "/etc/gone");
        database.end(record);
        let mut tree = Tree::new();
        database.write(&mut tree).unwrap();
        let text = |path: &str| {
            let data = tree.get(path).and_then(Node::data).unwrap();
            String::from_utf8(data.bytes(1 << 20).unwrap()).unwrap()
        };
        assert_eq!(
            text("var/lib/dpkg/status"),
            "Package: liba\nStatus: install ok unpacked\nVersion: 1\nArchitecture: arm64\nMulti-Arch: same\n\
             Description: a\n b\nConffiles:\n /etc/a newconffile\n"
        );
        assert_eq!(text("var/lib/dpkg/info/liba:arm64.list"), "/.\n/etc\n/etc/a\n");
        assert_eq!(text("var/lib/dpkg/triggers/File"), "/usr/lib/a liba:arm64/noawait\n");
        assert_eq!(text("var/lib/dpkg/triggers/ldconfig"), "liba:arm64\n");
        assert_eq!(tree.get("var/lib/dpkg/info/liba:arm64.postinst").unwrap().mode, 0o755);
    }

    #[test]
    fn control_files_that_lie_are_refused() {
        for control in [
            "",
            "Version: 1\n",
            "Package: ../x\nArchitecture: arm64\n",
            "Package: a\n",
            "Package: a\nArchitecture: arm64\n\nPackage: b\nArchitecture: arm64\n",
            "Architecture: arm64\nPackage: a\n",
        ] {
            assert!(Database::default().begin(files(control)).is_err(), "{control:?}");
        }
        assert!(Database::default().begin(Vec::new()).is_err());
    }
}
