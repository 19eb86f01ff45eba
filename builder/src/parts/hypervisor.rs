//! The hypervisor as a part of the image: compiled from its sources, or a file as it is.

use super::{MAX_MODULE, Maker, Part, artifact, describe};
use crate::cache::{Inputs, Stored};
use crate::compile::{CompileRequest, compile_hypervisor};
use crate::decision::{Decision, HypervisorSource};
use crate::error::{Error, Result, ResultExt};
use crate::kernel::{Format, KernelImage};
use crate::plan::Header;
use crate::toolchain::Toolchain;
use crate::tree::Data;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use vambrace_bsp::Method;

impl Maker<'_> {
    /// The key of the hypervisor: its sources, how it is compiled, and with what.
    pub(super) fn hypervisor_key(&self, source: &HypervisorSource) -> Result<String> {
        let mut inputs = Inputs::new("hypervisor", 2);
        match source {
            HypervisorSource::File(path) => inputs.add("file", self.cache.hash_file(path)?),
            HypervisorSource::Package { suite, arch, package, path } => {
                inputs.add("package", self.package_of(suite, package, arch)?.sha256);
                inputs.add("path", path);
            }
            HypervisorSource::Compile { target, features, env, .. } => {
                inputs.add("target", target);
                inputs.add("features", features.join(" "));
                inputs.add("env", format!("{env:?}"));
                inputs.add("toolchain", Toolchain::fingerprint());
                for path in hypervisor_sources(self.root)? {
                    let name = path.strip_prefix(self.root).unwrap_or(&path).to_string_lossy().into_owned();
                    inputs.add(&name, self.cache.hash_file(&path)?);
                }
            }
        }
        Ok(inputs.key())
    }

    /// The hypervisor, compiled or as it was given.
    ///
    /// # Errors
    ///
    /// No toolchain, sources that do not compile, and a file that the boot method does not start.
    pub fn hypervisor(&self) -> Result<Part> {
        let source = &self.decision.hypervisor;
        let (data, stored): (Data, Stored) = match source {
            HypervisorSource::File(path) => {
                let (data, sha256) = self.cache.contents(path)?;
                let stored = Stored { sha256, size: data.len(), from: path.display().to_string() };
                (data, stored)
            }
            HypervisorSource::Package { suite, arch, package, path } => {
                let package = self.package_of(suite, package, arch)?;
                let from = format!("{}, {path}", describe(&package));
                self.part("hypervisor", self.hypervisor_key(source)?, &from, || {
                    let deb = self.fetch_of(suite, &package)?;
                    let _step = self.progress.step(format!("unpacking the hypervisor of {}", package.name));
                    deb.read(path)
                })?
            }
            HypervisorSource::Compile { board, target, features, env } => {
                let key = self.hypervisor_key(source)?;
                match self.cache.lookup("hypervisor", &key) {
                    Some((data, stored)) => (data, stored),
                    None => {
                        // The linked file has one name; another build must not put its own there meanwhile.
                        let target_dir = self.cache.folder("target").join(board);
                        let _lock = locked(&target_dir)?;
                        let request = CompileRequest {
                            workspace: self.root.to_path_buf(),
                            target: target.clone(),
                            features: features.clone(),
                            env: env.clone(),
                            target_dir,
                        };
                        let toolchain = Toolchain::find_for(target, None)?;
                        let (compiler, drivers) = (&toolchain.version, features.join(", "));
                        let from = format!("compiled for {board} by rustc {compiler}: {drivers}");
                        let data = compile_hypervisor(&toolchain, &request, self.progress)?.flat;
                        // Sources that were saved meanwhile may be in it or not: that is under no key.
                        let stored = if self.hypervisor_key(source)? == key {
                            self.cache.store("hypervisor", &key, &data, &from)?
                        } else {
                            Stored { sha256: crate::cache::sha256(&data), size: data.len() as u64, from }
                        };
                        (data.into(), stored)
                    }
                }
            }
        };
        let header = hypervisor_header(self.decision, &data, &stored.from)?;
        Ok(Part { artifact: artifact(stored, header), data })
    }
}

/// Makes the folder `dir` and holds a lock on it until the file is dropped; waits for whoever has it.
fn locked(dir: &Path) -> Result<File> {
    fs::create_dir_all(dir).context_at(dir, || "cannot make the folder")?;
    let path = dir.join(".lock");
    let file = File::create(&path).context_at(&path, || "cannot make the lock")?;
    file.lock().context_at(&path, || "cannot take the lock")?;
    Ok(file)
}

/// The header of a hypervisor, as far as the boot method needs one.
pub(super) fn hypervisor_header(decision: &Decision, data: &Data, from: &str) -> Result<Option<Header>> {
    match decision.method {
        Method::Uboot | Method::Direct => {
            let format = Format::of(decision.board.architecture);
            KernelImage::parse_as(data, format).map(|image| Some((&image).into())).map_err(|error| {
                Error::new(format!(
                    "{} cannot be started with the hypervisor ({from}): {}",
                    decision.board.id,
                    error.what()
                ))
                .help(format!(
                    "give a hypervisor that is {}, or let vambrace compile its own",
                    format.article()
                ))
            })
        }
        Method::Uefi => {
            let bytes = data.bytes(MAX_MODULE)?;
            if !bytes.starts_with(b"MZ") {
                return Err(Error::new(format!(
                    "UEFI cannot start the hypervisor ({from}): it is not an EFI application"
                ))
                .help("boot it with --method uboot, or give one that is a PE/COFF file"));
            }
            Ok(KernelImage::parse(&bytes).ok().as_ref().map(Header::from))
        }
    }
}

/// Every file the hypervisor is compiled from, sorted.
fn hypervisor_sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock"]
        .iter()
        .map(|name| root.join(name))
        .filter(|path| path.is_file())
        .collect();
    let mut folders = vec![root.join("hypervisor")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context_at(&folder, || "cannot list the sources")? {
            let entry = entry.context_at(&folder, || "cannot list the sources")?;
            let name = entry.file_name();
            let hidden = name.to_str().is_none_or(|name| name.starts_with('.') || name == "target");
            let kind = entry.file_type().context_at(entry.path(), || "cannot look at it")?;
            if kind.is_dir() && !hidden {
                folders.push(entry.path());
            } else if kind.is_file() && !hidden {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
