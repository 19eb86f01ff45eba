//! Where this host gets its Debian packages from: its apt sources, one-line and deb822 (sources.list(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A place that serves the main Debian archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// As apt takes it.
    pub(super) uri: String,
    /// The keyring file that the source names for itself.
    pub(super) keyring: Option<PathBuf>,
}

/// Suites of Debian's main archive that a host's own sources may name.
const SUITES: &[&str] = &[
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
    "experimental",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];
/// Suites beside a release that live in the same archive. Not `-security`: that one is served elsewhere.
const BESIDE: &[&str] = &["", "-updates", "-proposed-updates", "-backports", "-backports-sloppy"];

/// The first mirror of Debian's main archive among the sources below `etc` (`/etc/apt`).
pub(super) fn host_mirror(etc: &Path) -> Option<Mirror> {
    let mut files = vec![etc.join("sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir(etc.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line(&text),
            Some("sources") => deb822(&text),
            _ => None,
        }
    })
}

/// Whether this source is Debian's main archive, rather than its security archive or a third party.
fn is_debian(uri: &str, suites: &[&str], components: &[&str], keyring: Option<&str>) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    if matches!(scheme, "" | "cdrom") || !components.contains(&"main") {
        return false;
    }
    // Third parties name their suites like Debian's; a key of their own tells them apart.
    if keyring.is_some_and(|keyring| keyring.starts_with('/') && !keyring.contains("debian-archive")) {
        return false;
    }
    let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    if last.contains("security") || last.contains("ports") {
        return false;
    }
    suites.iter().any(|suite| {
        BESIDE.iter().any(|beside| suite.strip_suffix(beside).is_some_and(|base| SUITES.contains(&base)))
    })
}

fn mirror(uri: &str, keyring: Option<&str>) -> Mirror {
    let keyring = keyring.filter(|path| path.starts_with('/')).map(PathBuf::from);
    Mirror { uri: uri.trim_end_matches('/').to_owned(), keyring }
}

/// `deb [signed-by=... arch=...] URI SUITE COMPONENT...`
fn one_line(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or("").trim();
        let rest = line.strip_prefix("deb")?;
        if !rest.starts_with([' ', '\t', '[']) {
            return None;
        }
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let components: Vec<&str> = words.collect();
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        is_debian(uri, &[suite], &components, keyring).then(|| mirror(uri, keyring))
    })
}

/// Stanzas of `Field: value` lines; a line that begins with white space continues the field.
fn deb822(text: &str) -> Option<Mirror> {
    let mut stanzas = vec![BTreeMap::<String, String>::new()];
    let mut field = String::new();
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            stanzas.push(BTreeMap::new());
            continue;
        }
        let Some(stanza) = stanzas.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            let value = stanza.entry(field.clone()).or_default();
            value.push('\n');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            field = name.trim().to_ascii_lowercase();
            stanza.insert(field.clone(), value.trim().to_owned());
        }
    }
    stanzas.iter().find_map(|stanza| {
        let words =
            |name: &str| stanza.get(name).map_or("", String::as_str).split_whitespace().collect::<Vec<_>>();
        let off = matches!(
            stanza.get("enabled").map(|on| on.to_ascii_lowercase()).as_deref(),
            Some("no" | "false" | "0")
        );
        if off || !words("types").contains(&"deb") {
            return None;
        }
        // A key written out in the stanza begins with a line of its own and is no path: then the host's keyring serves.
        let keyring = words("signed-by").first().copied();
        words("uris")
            .into_iter()
            .find(|uri| is_debian(uri, &words("suites"), &words("components"), keyring))
            .map(|uri| mirror(uri, keyring))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(mirror: Option<Mirror>) -> Option<String> {
        mirror.map(|mirror| mirror.uri)
    }

    #[test]
    fn one_line_sources() {
        let text = "# deb http://off.example/debian trixie main\n\
                    deb-src http://src.example/debian trixie main\n\
                    deb http://sec.example/debian-security trixie-security main\n\
                    deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.example/apt stable main\n\
                    deb cdrom:[Debian]/ trixie main\n\
                    deb http://contrib.example/debian trixie contrib\n\
                    deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://good.example/debian/ bookworm-updates main contrib # x\n";
        let found = one_line(text).unwrap();
        assert_eq!(found.uri, "http://good.example/debian");
        assert_eq!(found.keyring, Some("/usr/share/keyrings/debian-archive-keyring.gpg".into()));
        assert_eq!(uri(one_line("deb http://ubuntu.example/ubuntu noble main\n")), None);
        assert_eq!(uri(one_line("deb [oops http://x/debian trixie main\n")), None);
        assert_eq!(uri(one_line("deb\ndeb x\n")), None);
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n\
                    Types: deb-src\nURIs: http://src.example/debian\nSuites: trixie\nComponents: main\n\n\
                    # a remark\nTypes: deb\nURIs: http://sec.example/debian-security\nSuites: trixie-security\nComponents: main\n\n\
                    Types: deb deb-src\nURIs:\n http://good.example/debian\n http://second.example/debian\n\
                    Suites: trixie trixie-updates\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let found = deb822(text).unwrap();
        assert_eq!(found, Mirror { uri: "http://good.example/debian".into(), keyring: None });
        assert_eq!(uri(deb822("")), None);
        assert_eq!(uri(deb822(" stray\n:\nTypes deb")), None);
    }

    #[test]
    fn a_host_s_files_are_read_in_order() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        let write =
            |name: &str, text: &str| fs::write(etc.path().join("sources.list.d").join(name), text).unwrap();
        write("b.list", "deb http://b.example/debian trixie main\n");
        write("a.list.disabled", "deb http://a.example/debian trixie main\n");
        write("z.sources", "Types: deb\nURIs: http://z.example/debian\nSuites: trixie\nComponents: main\n");
        assert_eq!(uri(host_mirror(etc.path())).as_deref(), Some("http://b.example/debian"));
        assert_eq!(host_mirror(&etc.path().join("nowhere")), None);
    }
}
