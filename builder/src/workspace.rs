//! Where the sources and descriptions are: hypervisor, boards, layouts, root file systems.

use crate::error::{Error, Result, ResultExt};
use crate::layout::Layout;
use crate::profile::Profile;
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::{Catalog, did_you_mean};

/// The folder with the project's sources, and what can be chosen from.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    boards: Catalog,
    boards_dir: Option<PathBuf>,
}

impl Workspace {
    /// Finds the sources and reads the boards.
    ///
    /// The sources are `wanted`, or the nearest folder upwards from the current one that has them, or those this
    /// program was compiled from. Boards come from the sources, then from `boards_dir`, which wins.
    ///
    /// # Errors
    ///
    /// No sources, and a folder of boards that cannot be listed.
    pub fn open(wanted: Option<&Path>, boards_dir: Option<&Path>) -> Result<Self> {
        let root = match wanted {
            Some(dir) if is_root(dir) => dir.to_path_buf(),
            Some(dir) => {
                return Err(Error::new(
                    "these are not Vambrace's sources: there is no hypervisor/ with bsp/ and images/",
                )
                .at(dir)
                .help("name the folder of a clone with --workspace or VAMBRACE_WORKSPACE"));
            }
            None => find_root().ok_or_else(|| {
                Error::new("Vambrace's sources are not here")
                    .help("run this in a clone of them, or name one with --workspace or VAMBRACE_WORKSPACE")
            })?,
        };
        // The current folder's name may be a symbolic link; artifacts and reports should not depend on it.
        let root = fs::canonicalize(&root).context_at(&root, || "cannot find the sources")?;
        let mut boards = Catalog::embedded().map_err(described)?;
        let own = root.join("bsp/boards");
        if own.is_dir() {
            boards.add_dir(&own).map_err(described)?;
        }
        if let Some(dir) = boards_dir {
            boards.add_dir(dir).map_err(described)?;
        }
        Ok(Self { root, boards, boards_dir: boards_dir.map(Path::to_path_buf) })
    }

    /// The folder of the sources.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with boards of the user's own.
    pub fn boards_dir(&self) -> Option<&Path> {
        self.boards_dir.as_deref()
    }

    /// The boards that are known.
    pub fn boards(&self) -> &Catalog {
        &self.boards
    }

    /// The names of the layouts, sorted.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn layouts(&self) -> Result<Vec<String>> {
        names(&self.root.join("images"), |path| {
            path.extension().is_some_and(|extension| extension == "toml").then(|| path.file_stem()).flatten()
        })
    }

    /// The names of the root file systems, sorted.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn profiles(&self) -> Result<Vec<String>> {
        names(&self.root.join("dom0-rootfs"), |path| {
            path.join("profile.toml").is_file().then(|| path.file_name()).flatten()
        })
    }

    /// Reads the layout called `id`.
    ///
    /// # Errors
    ///
    /// No such layout, with the nearest one; a fault in its description.
    pub fn layout(&self, id: &str) -> Result<Layout> {
        known("layout", id, &self.layouts()?)?;
        Layout::read(&self.root.join("images").join(format!("{id}.toml")))
    }

    /// Reads the root file system called `id`.
    ///
    /// # Errors
    ///
    /// No such profile, with the nearest one; a fault in its description.
    pub fn profile(&self, id: &str) -> Result<Profile> {
        known("profile", id, &self.profiles()?)?;
        Profile::read(&self.root.join("dom0-rootfs").join(id))
    }
}

/// A fault in a description, as an error of the builder.
#[expect(clippy::boxed_local, reason = "descriptions' errors come boxed, straight into `map_err`")]
pub(crate) fn described(fault: Box<vambrace_bsp::Error>) -> Error {
    let mut error = Error::new(fault.fault());
    if let Some(place) = fault.place() {
        error = error.at_text(place);
    }
    if let Some(snippet) = fault.snippet {
        error = error.snippet(snippet);
    }
    match fault.help {
        Some(help) => error.help(help),
        None => error,
    }
}

fn known(kind: &str, id: &str, all: &[String]) -> Result<()> {
    if all.iter().any(|name| name == id) {
        return Ok(());
    }
    Err(Error::new(format!("no {kind} is called `{id}`"))
        .help(did_you_mean(id, all.iter().map(String::as_str))))
}

fn names(dir: &Path, name: impl Fn(&Path) -> Option<&std::ffi::OsStr>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).context_at(dir, || "cannot list the folder")? {
        let path = entry.context_at(dir, || "cannot list the folder")?.path();
        if let Some(name) = name(&path).and_then(|name| name.to_str()) {
            all.push(name.to_owned());
        }
    }
    all.sort();
    Ok(all)
}

fn is_root(dir: &Path) -> bool {
    dir.join("hypervisor/Cargo.toml").is_file()
        && dir.join("bsp/boards").is_dir()
        && dir.join("images").is_dir()
}

fn find_root() -> Option<PathBuf> {
    let current = std::env::current_dir().ok()?;
    let compiled_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    current.ancestors().chain(compiled_from).find(|dir| is_root(dir)).map(Path::to_path_buf)
}
