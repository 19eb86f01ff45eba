//! Finding a Rust toolchain that can build for bare metal.
//!
//! There are two ways. A toolchain with the target installed (`rustup target add`) has its core library ready made. One
//! without it, such as Debian's, compiles the core library itself, for which it needs the library's source
//! and an LLVM linker.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Error, Result, ResultExt};

/// The 64-bit bare-metal target without floating-point registers, which belong to the guests.
pub const AARCH64: &str = "aarch64-unknown-none-softfloat";
/// The 32-bit one, for ARMv7-A.
pub const ARMV7: &str = "armv7a-none-eabi";
/// The oldest LLVM linker that packs relative relocations, which the hypervisor's start-up code expects.
const OLDEST_LLD: u32 = 15;
/// Newest version that is looked for by name.
const NEWEST_LLD: u32 = 60;

/// How the core library comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreLibrary {
    /// It came with the target.
    Installed,
    /// Cargo compiles it from the library source beside the compiler (`-Zbuild-std`).
    Built,
}

/// A compiler, its cargo and its linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The target that it was found for.
    pub target: String,
    /// The compiler itself, not rustup's proxy.
    pub rustc: PathBuf,
    /// Cargo.
    pub cargo: PathBuf,
    /// The folder that holds the compiler's libraries.
    pub sysroot: PathBuf,
    /// The compiler's version, such as `1.95.0`.
    pub version: String,
    /// How the core library comes to be.
    pub core: CoreLibrary,
    /// The linker, where it is not the compiler's own.
    pub linker: Option<PathBuf>,
}

impl Toolchain {
    /// Finds a toolchain for `target`: `RUSTC`, the one on `PATH`, Debian's, rustup's, and of these first one with the
    /// target installed. `core` takes only toolchains of that way.
    ///
    /// # Errors
    /// When none will do: with what each lacks, and the ways to get one.
    pub fn find_for(target: &str, core: Option<CoreLibrary>) -> Result<Self> {
        let mut lacks = Vec::new();
        let mut found = Vec::new();
        for rustc in candidates() {
            match Compiler::ask(&rustc) {
                Ok(compiler) if found.iter().any(|other: &Compiler| other.sysroot == compiler.sysroot) => {}
                Ok(compiler) => found.push(compiler),
                Err(error) => lacks.push(error.to_string()),
            }
        }
        for way in [CoreLibrary::Installed, CoreLibrary::Built] {
            if core.is_some_and(|core| core != way) {
                continue;
            }
            for compiler in &found {
                match compiler.toolchain(target, way) {
                    Ok(toolchain) => return Ok(toolchain),
                    Err(lack) => {
                        lacks.push(format!("{} ({}): {lack}", compiler.rustc.display(), compiler.version))
                    }
                }
            }
        }
        let mut seen = String::new();
        for lack in &lacks {
            // Writing to a String cannot fail.
            let _ = write!(seen, "{}{lack}", if seen.is_empty() { "" } else { "\n" });
        }
        let error = Error::new(format!("no Rust toolchain can build for {target}"))
            .help(format!("with rustup: rustup target add {target}"))
            .help("without rustup, on Debian: apt-get install cargo-web rustc-web rust-web-src gcc libc6-dev lld-22");
        Err(if seen.is_empty() { error } else { error.because(Error::new(seen)) })
    }

    /// One line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let core = match self.core {
            CoreLibrary::Installed => "target installed",
            CoreLibrary::Built => "core library built from source",
        };
        let linker =
            self.linker.as_ref().map_or(String::new(), |linker| format!(", linker {}", linker.display()));
        format!("rustc {} ({}), {core}{linker}", self.version, self.rustc.display())
    }

    /// A number that changes when another toolchain would be found. Starts no process and costs some file
    /// look-ups: it says that something changed, not what.
    #[must_use]
    pub fn fingerprint() -> String {
        let mut hash = DefaultHasher::new();
        let mut look = |path: PathBuf| {
            let state = fs::metadata(&path).ok().map(|meta| {
                (
                    meta.len(),
                    meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()),
                )
            });
            (path, state).hash(&mut hash);
        };
        for rustc in candidates() {
            look(rustc);
        }
        if let Some(folder) = rustup_home() {
            look(folder.join("settings.toml"));
            for entry in fs::read_dir(folder.join("toolchains")).into_iter().flatten().flatten() {
                look(entry.path());
                look(entry.path().join("lib/rustlib"));
            }
        }
        look("/usr/lib/rustlib".into());
        look("/usr/lib/rustlib/src/rust".into());
        for name in ["rust-toolchain.toml", "rust-toolchain"] {
            look(name.into());
        }
        for variable in ["RUSTC", "CARGO", "RUSTUP_TOOLCHAIN", "CARGO_HOME"] {
            env::var_os(variable).hash(&mut hash);
        }
        format!("{:016x}", hash.finish())
    }
}

/// A compiler and what it says of itself.
#[derive(Debug)]
struct Compiler {
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
    host: String,
}

impl Compiler {
    fn ask(rustc: &Path) -> Result<Self> {
        let run = |args: &[&str]| -> Result<String> {
            let output =
                Command::new(rustc).args(args).output().context_at(rustc, || "cannot run the compiler")?;
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::new(format!("the compiler does not work: {told}")).at(rustc));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let about = run(&["-vV"])?;
        let field = |name: &str| {
            about.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let strange = || Error::new("this is not a Rust compiler").at(rustc);
        let version = field("release:").ok_or_else(strange)?;
        let host = field("host:").ok_or_else(strange)?;
        let sysroot = PathBuf::from(run(&["--print", "sysroot"])?.trim());
        // Behind rustup's proxy the compiler may be another one in another folder: keep the real one.
        let real = sysroot.join("bin/rustc");
        let rustc = if real.is_file() { real } else { rustc.to_owned() };
        Ok(Self { rustc, sysroot, version, host })
    }

    fn toolchain(&self, target: &str, core: CoreLibrary) -> std::result::Result<Toolchain, String> {
        let needed = env!("CARGO_PKG_RUST_VERSION");
        if numbers(&self.version) < numbers(needed) {
            return Err(format!("it is older than {needed}"));
        }
        let rustlib = self.sysroot.join("lib/rustlib");
        match core {
            CoreLibrary::Installed => {
                let library = rustlib.join(target).join("lib");
                let has_core = fs::read_dir(library).is_ok_and(|entries| {
                    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
                });
                if !has_core {
                    return Err(format!("it has no {target}"));
                }
            }
            CoreLibrary::Built => {
                if !rustlib.join("src/rust/library/core/src/lib.rs").is_file() {
                    return Err(
                        "it has no library source (rustup component rust-src, or Debian's rust-web-src)"
                            .into(),
                    );
                }
            }
        }
        let own_linker = rustlib.join(&self.host).join("bin/rust-lld").is_file();
        let linker = if own_linker { None } else { find_lld() };
        if !own_linker && linker.is_none() {
            return Err(format!(
                "there is no LLVM linker of version {OLDEST_LLD} or later (Debian's lld-22)"
            ));
        }
        let cargo = [self.sysroot.join("bin/cargo")]
            .into_iter()
            .chain(env::var_os("CARGO").map(PathBuf::from))
            .chain(on_path("cargo"))
            .chain([PathBuf::from("/usr/bin/cargo")])
            .find(|path| path.is_file())
            .ok_or("there is no cargo")?;
        Ok(Toolchain {
            target: target.to_owned(),
            rustc: self.rustc.clone(),
            cargo,
            sysroot: self.sysroot.clone(),
            version: self.version.clone(),
            core,
            linker,
        })
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = env::var_os("RUSTC").map(PathBuf::from).into_iter().collect();
    all.extend(on_path("rustc"));
    all.push("/usr/bin/rustc".into());
    all.extend(cargo_home().map(|home| home.join("bin/rustc")));
    let mut known = Vec::new();
    all.retain(|path| {
        let new = path.is_file() && !known.contains(path);
        known.push(path.clone());
        new
    });
    all
}

/// Cargo's own folder.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

fn rustup_home() -> Option<PathBuf> {
    env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".rustup")))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The newest LLVM linker under Debian's versioned name, or one without a version that is new enough.
fn find_lld() -> Option<PathBuf> {
    let versioned = (OLDEST_LLD..=NEWEST_LLD).rev().find_map(|version| on_path(&format!("ld.lld-{version}")));
    versioned.or_else(|| {
        on_path("ld.lld").filter(|path| lld_version(path).is_some_and(|version| version >= OLDEST_LLD))
    })
}

/// `Debian LLD 19.1.7 (compatible with GNU linkers)` gives 19.
fn lld_version(lld: &Path) -> Option<u32> {
    let output = Command::new(lld).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    words.find(|&word| word == "LLD")?;
    words.next()?.split('.').next()?.parse().ok()
}

fn numbers(version: &str) -> Vec<u32> {
    let plain = version.split(['-', '+']).next().unwrap_or(version);
    plain.split('.').map(|part| part.parse().unwrap_or(0)).chain([0, 0]).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.95.0-nightly") == numbers("1.95"));
        assert!(numbers("1.63.0") < numbers("1.95"));
    }

    #[test]
    fn the_fingerprint_is_steady() {
        assert_eq!(Toolchain::fingerprint(), Toolchain::fingerprint());
    }

    #[test]
    fn a_target_that_nobody_has_names_both_ways() {
        // Whatever this machine has, it has no such target ready made.
        let report =
            Toolchain::find_for("armv3-none-none", Some(CoreLibrary::Installed)).unwrap_err().report();
        assert!(report.contains("rustup target add armv3-none-none"), "{report}");
        assert!(report.contains("rust-web-src"), "{report}");
        assert!(report.contains("it has no armv3-none-none"), "{report}");
    }

    #[test]
    fn this_machine_s_compiler_is_found_without_its_proxy() {
        let compiler = Compiler::ask(&candidates()[0]).unwrap();
        assert!(compiler.sysroot.is_dir());
        assert!(numbers(&compiler.version) >= numbers("1.85"));
        assert!(Compiler::ask(Path::new("/bin/true")).is_err());
    }
}
