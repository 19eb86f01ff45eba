//! Debian packages of any suite and architecture, through apt's own download and signature check.
//!
//! apt runs with a configuration, lists and cache of ours, so that the host's own lists stay as they are and
//! no root is needed. Only how the host reaches the network (proxies, certificates, credentials) is kept.
//! See apt.conf(5), apt-get(8) and apt-secure(8).

mod package;
mod pool;
mod sources;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;

pub use package::Package;
use package::{package_name, parse_stanza, word};

/// The environment variable that names the mirror, when neither the options nor the host's sources shall.
pub const MIRROR_VARIABLE: &str = "VAMBRACE_DEBIAN_MIRROR";

/// Host settings that say how to reach the network; nothing that loosens the signature check is among them.
const KEPT_SETTINGS: &[&str] = &[
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::socks",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Max-FutureTime",
    "Acquire::Proxy-Auto-Detect",
];

/// Which archive to take packages from.
#[derive(Clone, Debug)]
pub struct AptOptions {
    /// The archive's address as apt takes it. By default `VAMBRACE_DEBIAN_MIRROR`, else that of the host's own sources.
    pub mirror: Option<String>,
    /// The release, such as `trixie`.
    pub suite: String,
    /// The components, such as `main`.
    pub components: Vec<String>,
    /// The keyring that signs the archive. By default that of the host's `debian-archive-keyring`.
    pub keyring: Option<PathBuf>,
}

impl Default for AptOptions {
    fn default() -> Self {
        Self { mirror: None, suite: "trixie".into(), components: vec!["main".into()], keyring: None }
    }
}

/// Access to one suite of an archive.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
    mirror: String,
    keyring: PathBuf,
    suite: String,
    components: Vec<String>,
}

impl Apt {
    /// Prepares a private apt below `dir`. Nothing is downloaded yet.
    ///
    /// # Errors
    /// When a field would not survive apt's configuration format, no mirror of Debian or no keyring is found, or
    /// `dir` cannot be made.
    pub fn open(dir: &Path, options: &AptOptions) -> Result<Self> {
        let host = sources::host_mirror(Path::new("/etc/apt"));
        let named = options
            .mirror
            .clone()
            .or_else(|| std::env::var(MIRROR_VARIABLE).ok().filter(|uri| !uri.is_empty()));
        let mirror = named.or_else(|| host.as_ref().map(|host| host.uri.clone())).ok_or_else(|| {
            Error::new("no Debian mirror: the apt sources of this machine (/etc/apt) name none")
                .help(format!("set {MIRROR_VARIABLE} to the address of a Debian mirror"))
        })?;
        let keyring = find_keyring(options.keyring.clone(), host.and_then(|host| host.keyring))?;
        if !word(&options.suite) || options.suite.starts_with('-') {
            return Err(Error::new(format!("`{}` is not the name of a Debian release", options.suite)));
        }
        if let Some(bad) = options.components.iter().find(|component| !word(component)) {
            return Err(Error::new(format!("`{bad}` is not the name of an archive component")));
        }
        if mirror.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') || !mirror.contains(':') {
            return Err(Error::new(format!("`{mirror}` is not the address of a mirror")));
        }
        fs::create_dir_all(dir.join("debs")).context_at(dir, || "cannot make the folder for packages")?;
        let dir = fs::canonicalize(dir).context_at(dir, || "cannot find the folder for packages")?;
        let awkward =
            |path: &Path| path.to_string_lossy().chars().any(|c| c.is_control() || "\"\\;{}".contains(c));
        for path in [&dir, &keyring] {
            if awkward(path) || path.to_str().is_none() {
                return Err(
                    Error::new("apt cannot use a path with quotes, backslashes or braces in it").at(path)
                );
            }
        }
        let (suite, components) = (options.suite.clone(), options.components.clone());
        Ok(Self { dir, mirror, keyring, suite, components })
    }

    /// The address that packages come from.
    pub fn mirror(&self) -> &str {
        &self.mirror
    }

    /// Downloads the archive's lists for `arch` anew and checks their signature.
    ///
    /// # Errors
    /// When apt is not there, the network or the mirror is out of reach, the mirror does not carry the suite, or
    /// the signature is not good. The lists from before stay in use.
    pub fn update(&self, arch: &str, progress: &Progress) -> Result<()> {
        let _lock = self.lock()?;
        self.update_locked(arch, progress)
    }

    fn update_locked(&self, arch: &str, progress: &Progress) -> Result<()> {
        let config = self.configure(arch)?;
        let step = progress.step(format!("updating the package lists of {} {arch}", self.suite));
        let output =
            run(self.apt("apt-get", &config).args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]))?;
        let text = messages(&output);
        if !output.status.success() || !self.has_lists(arch) {
            return Err(
                self.explain(format!("cannot update the package lists of {} {arch}", self.suite), &text)
            );
        }
        step.finish();
        Ok(())
    }

    /// Looks `name` up. `arch` is a Debian architecture; a package of architecture `all` is found under any.
    /// The lists are downloaded only when there are none yet.
    ///
    /// # Errors
    /// When there is no such package (near names are given), or the lists cannot be had.
    pub fn resolve(&self, name: &str, arch: &str) -> Result<Package> {
        self.resolve_version(name, arch, None)
    }

    /// As [`Apt::resolve`], and with `version` exactly that version.
    ///
    /// # Errors
    /// As [`Apt::resolve`], and when the archive has the package in other versions only: they are named.
    pub fn resolve_version(&self, name: &str, arch: &str, version: Option<&str>) -> Result<Package> {
        if !package_name(name) {
            return Err(Error::new(format!("`{name}` is not the name of a Debian package")));
        }
        let config = {
            let _lock = self.lock()?;
            if !self.has_lists(arch) {
                self.update_locked(arch, &Progress::plain())?;
            }
            self.configure(arch)?
        };
        let output = run(self.apt("apt-cache", &config).args(["show", "--", name]))?;
        let shown = String::from_utf8_lossy(&output.stdout);
        let mut versions: Vec<Package> =
            shown.split("\n\n").filter_map(parse_stanza).filter(|package| package.name == name).collect();
        if let Some(version) = version {
            let known: Vec<String> = versions.iter().map(|package| package.version.clone()).collect();
            versions.retain(|package| package.version == version);
            if versions.is_empty() && !known.is_empty() {
                return Err(Error::new(format!("{name} {version} ({arch}) is not in Debian {}", self.suite))
                    .help(format!(
                        "it has {}; change the pinned version, or update the package lists",
                        known.join(", ")
                    )));
            }
        }
        // apt lists the newest first.
        versions.into_iter().next().ok_or_else(|| self.missing(name, arch, &config))
    }

    fn missing(&self, name: &str, arch: &str, config: &Path) -> Error {
        let error = Error::new(format!("there is no package `{name}` for {arch} in Debian {}", self.suite));
        let stem: String = name.chars().take(name.len().div_ceil(2).max(3)).collect();
        let near = run(self.apt("apt-cache", config).args(["pkgnames", "--", &stem])).map(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
            let shared = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            names.sort_by(|a, b| shared(b).cmp(&shared(a)).then_with(|| a.cmp(b)));
            names.truncate(5);
            names
        });
        match near {
            Ok(near) if !near.is_empty() => error.help(format!("near names: {}", near.join(", "))),
            _ => error.help("check the name; a newer package may need the package lists to be updated"),
        }
    }

    /// Everything that has to be installed so that `names` are, on a system that has nothing yet: with what they depend on, the
    /// packages without which no Debian is, and those that Debian calls required. Sorted by name.
    ///
    /// # Errors
    /// As [`Apt::resolve`], and when some cannot be installed together; apt's reasons are given.
    pub fn closure(&self, names: &[String], arch: &str) -> Result<Vec<Package>> {
        if let Some(bad) = names.iter().find(|name| !package_name(name)) {
            return Err(Error::new(format!("`{bad}` is not the name of a Debian package")));
        }
        let config = {
            let _lock = self.lock()?;
            if !self.has_lists(arch) {
                self.update_locked(arch, &Progress::plain())?;
            }
            self.configure(arch)?
        };
        let failed =
            || format!("cannot find out what {} need in Debian {} {arch}", names.join(", "), self.suite);
        let output = run(self.apt("apt-cache", &config).args(["dumpavail"]))?;
        let all = String::from_utf8_lossy(&output.stdout);
        let every_system = all.split("\n\n").filter(|stanza| package::is_essential(stanza));
        let every_system: Vec<Package> = every_system.filter_map(parse_stanza).collect();
        if every_system.is_empty() {
            return Err(self.explain(failed(), &messages(&output)));
        }
        let output = run(self
            .apt("apt-get", &config)
            .args(["-q", "-s", "--no-install-recommends", "install", "--"])
            .args(every_system.iter().map(|package| &package.name))
            .args(names))?;
        if !output.status.success() {
            return Err(self.explain(failed(), &messages(&output)));
        }
        // `Inst NAME[:ARCH] (VERSION ORIGIN [ARCH])`, once for each.
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
                Some((name.split(':').next()?, rest.split_whitespace().next()?))
            })
            .collect();
        let packages: BTreeMap<String, Package> = all
            .split("\n\n")
            .filter_map(parse_stanza)
            .filter(|package| wanted.get(package.name.as_str()) == Some(&package.version.as_str()))
            .map(|package| (package.name.clone(), package))
            .collect();
        match wanted.keys().find(|name| !packages.contains_key(**name)) {
            None if !packages.is_empty() => Ok(packages.into_values().collect()),
            None => Err(self.explain(failed(), &text)),
            Some(name) => Err(Error::new(failed()).because(Error::new(format!(
                "the lists have no {name} of the version that apt would install"
            )))),
        }
    }

    /// Downloads all of `packages` that are not there with the right hash, in one go, and returns their paths in the same
    /// order.
    ///
    /// # Errors
    /// As [`Apt::fetch`].
    pub fn fetch_all(&self, packages: &[Package], arch: &str, progress: &Progress) -> Result<Vec<PathBuf>> {
        let there = |package: &Package| -> Result<bool> {
            let path = self.path(package);
            Ok(path.exists() && sha256_file(&path)? == package.sha256)
        };
        let mut missing = Vec::new();
        for package in packages {
            if !package_name(&package.name) || !word(&package.version) || !word(&package.arch) {
                let what = format!("`{} {}` is not a Debian package", package.name, package.version);
                return Err(Error::new(what));
            }
            if !there(package)? {
                missing.push(package);
            }
        }
        if missing.len() > 1 {
            let _lock = self.lock()?;
            let config = self.configure(arch)?;
            let bytes: u64 = missing.iter().map(|package| package.size).sum();
            let step = progress.step(format!("downloading {} packages ({})", missing.len(), size(bytes)));
            let folder = tempfile::Builder::new()
                .prefix("partial-")
                .tempdir_in(self.dir.join("debs"))
                .context_at(&self.dir, || "cannot make a folder for the download")?;
            let exact = missing.iter().map(|package| format!("{}={}", package.name, package.version));
            let output = run(self
                .apt("apt-get", &config)
                .current_dir(folder.path())
                .args(["-q", "download", "--"])
                .args(exact))?;
            // One that is not in the lists keeps all from being downloaded.
            if !output.status.success() {
                self.fetch_by_path(&missing, &config, folder.path())?;
            }
            for package in missing {
                let path = self.path(package);
                let Some(name) = path.file_name() else { continue };
                let fetched = folder.path().join(name);
                // One that is not what it should be, or could not be had, is left to the download by itself: it explains.
                if fetched.is_file() && sha256_file(&fetched)? == package.sha256 {
                    fs::rename(&fetched, &path).context_at(&path, || "cannot keep the package")?;
                }
            }
            step.finish();
        }
        packages.iter().map(|package| self.fetch(package, progress)).collect()
    }

    /// Where the `.deb` of `package` is or will be kept.
    pub fn path(&self, package: &Package) -> PathBuf {
        let version = package.version.replace(':', "%3a");
        self.dir.join("debs").join(format!("{}_{version}_{}.deb", package.name, package.arch))
    }

    /// Downloads `package`, unless it is there with the right hash, and returns its path.
    ///
    /// # Errors
    /// When it cannot be downloaded, is no longer on the mirror, or is not what the signed index says.
    pub fn fetch(&self, package: &Package, progress: &Progress) -> Result<PathBuf> {
        if !package_name(&package.name) || !word(&package.version) || !word(&package.arch) {
            return Err(Error::new(format!(
                "`{} {}` is not a Debian package",
                package.name, package.version
            )));
        }
        let path = self.path(package);
        if path.exists() && sha256_file(&path)? == package.sha256 {
            return Ok(path);
        }
        let _lock = self.lock()?;
        // Another build may have brought it while this one waited for the lock.
        if path.exists() && sha256_file(&path)? == package.sha256 {
            return Ok(path);
        }
        let arch = if package.arch == "all" { self.any_arch()? } else { package.arch.clone() };
        let config = self.configure(&arch)?;
        let step = progress.step(format!(
            "downloading {} {} ({})",
            package.name,
            package.version,
            size(package.size)
        ));
        let folder = tempfile::Builder::new()
            .prefix("partial-")
            .tempdir_in(self.dir.join("debs"))
            .context_at(&self.dir, || "cannot make a folder for the download")?;
        let exact = format!("{}={}", package.name, package.version);
        let mut command = self.apt("apt-get", &config);
        let output = run(command.current_dir(folder.path()).args(["-q", "download", "--", &exact]))?;
        let failed = || format!("cannot download {} {} ({})", package.name, package.version, package.arch);
        if !output.status.success() {
            let output = self.fetch_by_path(&[package], &config, folder.path())?;
            if !output.status.success() {
                return Err(self.explain(failed(), &messages(&output)));
            }
        }
        let fetched = fs::read_dir(folder.path())
            .context_at(folder.path(), || "cannot read the download folder")?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| self.explain(failed(), &messages(&output)))?;
        let sha256 = sha256_file(&fetched)?;
        if sha256 != package.sha256 {
            return Err(Error::new(format!(
                "{} {}: the file has SHA-256 {sha256}, the signed index says {}",
                package.name, package.version, package.sha256
            ))
            .help("update the package lists"));
        }
        fs::rename(&fetched, &path).context_at(&path, || "cannot keep the package")?;
        step.finish();
        Ok(path)
    }

    /// The folder of apt's state for `arch`. Another mirror has another one: lists of one say nothing about the other.
    fn state(&self, arch: &str) -> PathBuf {
        self.dir.join(format!("{}-{arch}-{}", self.suite, self.source_id()))
    }

    fn source_id(&self) -> String {
        let source = format!("{}\n{}\n{}", self.mirror, self.components.join(" "), self.keyring.display());
        Sha256::digest(source.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn has_lists(&self, arch: &str) -> bool {
        fs::read_dir(self.state(arch).join("lists")).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    }

    /// An architecture whose lists are there: where to find a package of architecture `all`.
    fn any_arch(&self) -> Result<String> {
        let (prefix, suffix) = (format!("{}-", self.suite), format!("-{}", self.source_id()));
        let mut archs: Vec<String> = fs::read_dir(&self.dir)
            .context_at(&self.dir, || "cannot read the folder for packages")?
            .flatten()
            .filter_map(|entry| {
                Some(entry.file_name().to_str()?.strip_prefix(&prefix)?.strip_suffix(&suffix)?.to_owned())
            })
            .filter(|arch| self.has_lists(arch))
            .collect();
        archs.sort();
        Ok(archs.into_iter().next().unwrap_or_else(|| "arm64".into()))
    }

    fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::create(&path).context_at(&path, || "cannot make the lock file")?;
        file.lock().context_at(&path, || "cannot lock the package folder")?;
        Ok(file)
    }

    /// Writes apt's configuration and source for `arch`; returns the configuration's path.
    fn configure(&self, arch: &str) -> Result<PathBuf> {
        if !word(arch) || arch.starts_with('-') {
            return Err(Error::new(format!("`{arch}` is not a Debian architecture")));
        }
        let state = self.state(arch);
        for folder in ["lists/partial", "cache/archives/partial", "etc", "empty"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder).context_at(&folder, || "cannot make a folder for apt")?;
        }
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nArchitectures: {arch}\nSigned-By: {}\n",
            self.mirror,
            self.suite,
            self.components.join(" "),
            self.keyring.display()
        );
        write_if_new(&state.join("etc/debian.sources"), &source)?;
        write_if_new(&state.join("status"), "")?;
        let root = state.display();
        let mut config = format!(
            "Dir::Etc::SourceList \"/dev/null\";\n\
             Dir::Etc::SourceParts \"{root}/etc\";\n\
             Dir::Etc::Main \"/dev/null\";\n\
             Dir::Etc::Parts \"{root}/empty\";\n\
             Dir::Etc::Preferences \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"{root}/empty\";\n\
             Dir::State \"{root}\";\n\
             Dir::State::Lists \"{root}/lists\";\n\
             Dir::State::Status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             APT::Architecture \"{arch}\";\n\
             APT::Architectures {{ \"{arch}\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n"
        );
        config.push_str(&network_settings()?);
        let path = state.join("apt.conf");
        write_if_new(&path, &config)?;
        Ok(path)
    }

    fn apt(&self, program: &str, config: &Path) -> Command {
        let mut command = Command::new(program);
        // apt's words are read below, so they must be the English ones.
        command.env("LC_ALL", "C.UTF-8").env("APT_CONFIG", config).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Turns what apt printed into what the user can do about it.
    fn explain(&self, what: String, text: &str) -> Error {
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let told: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("E:") || line.starts_with("W:") || line.starts_with("Err:"))
            .collect();
        let error = Error::new(what).because(Error::new(if told.is_empty() {
            text.trim().to_owned()
        } else {
            told.join("\n")
        }));
        if has(&[
            "NO_PUBKEY",
            "is not signed",
            "couldn't be verified",
            "BADSIG",
            "EXPKEYSIG",
            "Sub-process gpgv",
            "keyring",
        ]) {
            error.help("the archive's signature could not be checked: install a newer debian-archive-keyring")
        } else if has(&["404", "does not have a Release file"]) {
            error.help(format!(
                "{} does not have it (any more): update the package lists, or check the suite `{}`",
                self.mirror, self.suite
            ))
        } else if has(&[
            "Could not resolve",
            "Temporary failure resolving",
            "Could not connect",
            "Connection failed",
            "timed out",
            "Connection refused",
            "Unable to connect",
            "Network is unreachable",
            "No route to host",
        ]) {
            error.help(format!(
                "no way to {}: check the network and the proxy, or name another mirror in {MIRROR_VARIABLE}",
                self.mirror
            ))
        } else if has(&["No space left"]) {
            error.help("the disk is full")
        } else {
            error.help(format!("packages come from {}; {MIRROR_VARIABLE} names another mirror", self.mirror))
        }
    }
}

fn find_keyring(named: Option<PathBuf>, of_source: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(named) = named {
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Error::new("there is no such keyring").at(named))
        };
    }
    // The whole keyring first: a host's source may name one that holds its own release's key only.
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"]
        .into_iter()
        .map(PathBuf::from)
        .chain(of_source)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::new("the keys that sign Debian's archive are not on this machine")
                .help("install debian-archive-keyring")
        })
}

/// How the host reaches the network, in apt's configuration format.
fn network_settings() -> Result<String> {
    let output = run(Command::new("apt-config").env("LC_ALL", "C.UTF-8").arg("dump"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| KEPT_SETTINGS.iter().any(|kept| line.starts_with(kept)))
        .filter(|line| line.ends_with(';') && !line.contains("Verify-Peer") && !line.contains("Verify-Host"))
        .fold(String::new(), |all, line| all + line + "\n"))
}

fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(std::process::Stdio::null()).output().map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let failed = Error::new(format!("cannot run {program}")).because(error);
        if missing {
            failed.help("packages come through apt: on a system without it, build in a Debian container")
        } else {
            failed
        }
    })
}

fn messages(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Keeps the file's time when nothing changed: apt rebuilds its index when a source is newer.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).context_at(path, || "cannot write apt's configuration")
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).context_at(path, || "cannot open the file")?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 17];
    loop {
        let read = file.read(&mut buffer).context_at(path, || "cannot read the file")?;
        if read == 0 {
            break;
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn size(bytes: u64) -> String {
    if bytes >= 10 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes.div_ceil(1024)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_apt_would_take_for_options_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = |suite: &str, mirror: &str| AptOptions {
            mirror: Some(mirror.into()),
            suite: suite.into(),
            keyring: Some("/dev/null".into()),
            ..AptOptions::default()
        };
        // /dev/null is not a regular file, so give a real keyring.
        let keyring = dir.path().join("key.gpg");
        fs::write(&keyring, b"x").unwrap();
        let open = |suite: &str, mirror: &str| {
            Apt::open(dir.path(), &AptOptions { keyring: Some(keyring.clone()), ..options(suite, mirror) })
        };
        assert!(open("-o", "http://m.example/debian").is_err());
        assert!(open("trixie main\nURIs: x", "http://m.example/debian").is_err());
        assert!(open("trixie", "http://m.example/debian\nx").is_err());
        assert!(open("trixie", "nothing").is_err());
        let apt = open("trixie", "http://m.example/debian").unwrap();
        assert!(apt.resolve("-oDir=x", "arm64").is_err());
        assert!(apt.configure("arm64\";").is_err());
        let config = apt.configure("arm64").unwrap();
        let source = fs::read_to_string(config.with_file_name("etc").join("debian.sources")).unwrap();
        assert!(
            source.contains(
                "URIs: http://m.example/debian\nSuites: trixie\nComponents: main\nArchitectures: arm64\n"
            ),
            "{source}"
        );
    }

    #[test]
    fn an_unreachable_mirror_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = dir.path().join("key.gpg");
        fs::write(&keyring, b"x").unwrap();
        let options = AptOptions {
            mirror: Some("file:/nonexistent/debian".into()),
            keyring: Some(keyring),
            ..AptOptions::default()
        };
        let apt = Apt::open(&dir.path().join("apt"), &options).unwrap();
        let report = apt.resolve("busybox-static", "arm64").unwrap_err().report();
        assert!(report.contains("cannot update the package lists of trixie arm64"), "{report}");
        assert!(report.contains("help:"), "{report}");
    }
}
