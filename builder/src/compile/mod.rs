//! Compiling the hypervisor, and making the flat image that a loader puts into memory.

mod flat;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result, ResultExt};
use crate::kernel::KernelImage;
use crate::progress::Progress;
use crate::toolchain::{ARMV7, CoreLibrary, Toolchain, cargo_home};

pub use flat::{Flat, flatten};

/// The package, and the name of its binary.
const PACKAGE: &str = "vambrace-hypervisor";
/// The cargo profile, in the workspace's `Cargo.toml`.
const PROFILE: &str = "hypervisor";
/// Lines of the compiler's output that an error shows.
const SHOWN_LINES: usize = 80;
/// How the hypervisor's code is generated. The linker's arguments stand in `hypervisor/build.rs`, beside its script.
const CODEGEN: &[&str] = &[
    // It runs wherever it was loaded, and relocates itself.
    "-Crelocation-model=pie",
    // Nothing unwinds.
    "-Cforce-unwind-tables=no",
];
/// The same for 32-bit ARM alone: Thumb code, which is a quarter smaller.
const CODEGEN_ARMV7: &str = "-Ctarget-feature=+thumb-mode";

/// What to compile.
#[derive(Clone, Debug)]
pub struct CompileRequest {
    /// The folder of the sources, with the workspace's `Cargo.toml`.
    pub workspace: PathBuf,
    /// The compiler's target.
    pub target: String,
    /// The drivers and other features to compile in.
    pub features: Vec<String>,
    /// Variables that the sources read, all beginning with `VAMBRACE_`.
    pub env: Vec<(String, String)>,
    /// Where the compiler keeps its work; should belong to these builds alone.
    pub target_dir: PathBuf,
}

/// A compiled hypervisor.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The image as a loader puts it into memory.
    pub flat: Vec<u8>,
    /// Memory that it needs, in bytes: the image and what lies zeroed or unused behind it.
    pub memory_size: u64,
    /// The linked file with its symbols, for debuggers.
    pub elf: PathBuf,
}

/// Compiles the hypervisor. The image does not depend on the folders in which it was made.
///
/// # Errors
/// When the sources do not compile (the compiler's last words are given), the toolchain was found for another target, or
/// what was linked is not an image that a loader can start.
pub fn compile_hypervisor(
    toolchain: &Toolchain,
    request: &CompileRequest,
    progress: &Progress,
) -> Result<Compiled> {
    if toolchain.target != request.target {
        return Err(Error::new(format!(
            "the toolchain is for {}, the board needs {}",
            toolchain.target, request.target
        )));
    }
    if let Some((name, _)) = request.env.iter().find(|(name, _)| !name.starts_with("VAMBRACE_")) {
        return Err(Error::new(format!("`{name}` cannot be passed to the hypervisor's build")));
    }
    let workspace = fs::canonicalize(&request.workspace)
        .context_at(&request.workspace, || "cannot find the hypervisor's sources")?;
    let manifest = workspace.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::new("there is no Cargo.toml: these are not Vambrace's sources").at(&manifest));
    }
    let step = progress.step("compiling the hypervisor");
    // The sources of other crates must be there before their folders can be named below.
    run(
        cargo(toolchain, &manifest, "fetch").args(["--locked", "--target", &request.target]),
        &request.target_dir,
    )
    .map_err(|error| error.context("cannot download the crates that the hypervisor is built from"))?;
    let mut command = cargo(toolchain, &manifest, "build");
    command
        .args([
            "--locked",
            "--package",
            PACKAGE,
            "--bin",
            PACKAGE,
            "--profile",
            PROFILE,
            "--target",
            &request.target,
        ])
        .args(["--no-default-features", "--features", &request.features.join(",")])
        .arg("--target-dir")
        .arg(&request.target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain, &workspace)?.join("\x1f"))
        .envs(request.env.iter().map(|(name, value)| (name, value)));
    if toolchain.core == CoreLibrary::Built {
        command
            .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"])
            .env("RUSTC_BOOTSTRAP", "1");
    }
    run(&mut command, &request.target_dir).map_err(|error| {
        error
            .context("cannot compile the hypervisor")
            .help(format!("the toolchain is {}", toolchain.describe()))
    })?;
    step.finish();
    let elf = request.target_dir.join(&request.target).join(PROFILE).join(PACKAGE);
    let bytes = fs::read(&elf).context_at(&elf, || "cannot read the linked hypervisor")?;
    let flat = flatten(&bytes).map_err(|error| error.at(&elf))?;
    let image = KernelImage::parse(&flat.bytes).map_err(|error| {
        Error::new("the linked hypervisor is not an image that a loader can start").because(error).at(&elf)
    })?;
    if image.image_size < flat.memory_size {
        return Err(Error::new(format!(
            "the hypervisor's header claims {} bytes of memory, its segments take {}",
            image.image_size, flat.memory_size
        ))
        .at(&elf));
    }
    Ok(Compiled { flat: flat.bytes, memory_size: flat.memory_size, elf })
}

fn cargo(toolchain: &Toolchain, manifest: &Path, what: &str) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    // Variables of the user's own builds, or of a cargo that runs us, must not change the hypervisor.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = name.starts_with("VAMBRACE_") || name.ends_with("RUSTFLAGS");
        let profile = name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_BUILD_")
            || name.starts_with("CARGO_PKG_");
        let wrapper = matches!(
            &*name,
            "RUSTC_WORKSPACE_WRAPPER" | "RUSTC_WRAPPER" | "CARGO_TARGET_DIR" | "CARGO_MANIFEST_DIR"
        );
        let bootstrap = matches!(&*name, "RUSTC_BOOTSTRAP" | "RUSTUP_TOOLCHAIN" | "CARGO_INCREMENTAL");
        if ours || profile || wrapper || bootstrap {
            command.env_remove(&*name);
        }
    }
    command.env("RUSTC", &toolchain.rustc).arg(what).arg("--manifest-path").arg(manifest);
    // Cargo reads its configuration from the folder that it runs in.
    if let Some(folder) = manifest.parent() {
        command.current_dir(folder);
    }
    command
}

/// The compiler's flags; no path of this machine is left in what they make.
fn flags(toolchain: &Toolchain, workspace: &Path) -> Result<Vec<String>> {
    let mut flags: Vec<String> = CODEGEN.iter().map(|&flag| flag.to_owned()).collect();
    if toolchain.target == ARMV7 {
        flags.push(CODEGEN_ARMV7.to_owned());
    }
    if let Some(linker) = &toolchain.linker {
        flags.push(format!("-Clinker={}", utf8(linker)?));
        flags.push("-Clinker-flavor=ld.lld".into());
    }
    // Of several that fit, the compiler takes the last.
    let library = toolchain.sysroot.join("lib/rustlib/src/rust");
    let real = fs::canonicalize(&library).unwrap_or_else(|_| library.clone());
    let mut mapped = vec![(library, "/rust"), (real, "/rust")];
    if let Some(home) = cargo_home() {
        mapped.push((home.clone(), "/cargo"));
        // Below this, cargo has a folder for each registry, whose name depends on how that is reached.
        let mut registries: Vec<PathBuf> = fs::read_dir(home.join("registry/src"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        registries.sort();
        mapped.extend(registries.into_iter().map(|registry| (registry, "/crates")));
    }
    mapped.push((workspace.to_owned(), "/vambrace"));
    for (from, to) in mapped {
        let from = utf8(&from)?.to_owned();
        if from.contains('=') {
            return Err(Error::new("the compiler cannot hide a path with `=` in it")
                .at(from)
                .help("move the sources to another folder"));
        }
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::new("the compiler cannot be given a path that is not UTF-8").at(path))
}

fn run(command: &mut Command, target_dir: &Path) -> Result<()> {
    fs::create_dir_all(target_dir).context_at(target_dir, || "cannot make the compiler's folder")?;
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("CARGO_TERM_COLOR", "never")
        .env("CARGO_TERM_PROGRESS_WHEN", "never")
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let error = Error::new(format!("cargo failed ({})", output.status)).snippet(shown(&text));
    Err(if text.contains("No space left") {
        error.help("the disk is full: free some space, or name another folder")
    } else {
        error
    })
}

/// The first error and what follows it, else the last lines.
fn shown(text: &str) -> String {
    let from_error =
        text.lines().skip_while(|line| !line.starts_with("error")).take(SHOWN_LINES).collect::<Vec<_>>();
    if !from_error.is_empty() {
        return from_error.join("\n");
    }
    let mut last = VecDeque::new();
    for line in text.lines() {
        if last.len() == SHOWN_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::AARCH64;

    fn toolchain(target: &str) -> Toolchain {
        Toolchain {
            target: target.into(),
            rustc: "/nonexistent/rustc".into(),
            cargo: "/nonexistent/cargo".into(),
            sysroot: "/nonexistent".into(),
            version: "1.95.0".into(),
            core: CoreLibrary::Installed,
            linker: Some("/usr/bin/ld.lld-22".into()),
        }
    }

    #[test]
    fn requests_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let request = CompileRequest {
            workspace: dir.path().into(),
            target: AARCH64.into(),
            features: vec![],
            env: vec![],
            target_dir: dir.path().join("target"),
        };
        let compile = |toolchain: &Toolchain, request: &CompileRequest| {
            compile_hypervisor(toolchain, request, &Progress::quiet()).unwrap_err().report()
        };
        assert!(compile(&toolchain("other"), &request).contains("is for other"));
        assert!(compile(&toolchain(AARCH64), &request).contains("not Vambrace's sources"));
        let path = CompileRequest { env: vec![("PATH".into(), "x".into())], ..request.clone() };
        assert!(compile(&toolchain(AARCH64), &path).contains("`PATH`"));
        fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        assert!(compile(&toolchain(AARCH64), &request).contains("/nonexistent/cargo"));
    }

    #[test]
    fn the_workspace_comes_last_among_the_paths() {
        let flags = flags(&toolchain(AARCH64), Path::new("/home/x/vambrace")).unwrap();
        assert_eq!(flags.last().unwrap(), "--remap-path-prefix=/home/x/vambrace=/vambrace");
        assert!(flags.contains(&"-Crelocation-model=pie".to_owned()));
        assert!(flags.contains(&"-Clinker=/usr/bin/ld.lld-22".to_owned()));
        assert!(super::flags(&toolchain(AARCH64), Path::new("/a=b")).is_err());
    }

    #[test]
    fn an_error_shows_where_it_begins() {
        assert_eq!(shown("Compiling x\nwarning: y\nerror[E1]: z\n --> a\n"), "error[E1]: z\n --> a");
        assert_eq!(shown("a\nb"), "a\nb");
    }
}
