//! How an image was built: everything that a user asked for, and what beside packages and sources it was made of.

use crate::cache::Cache;
use crate::config::{ImageConfig, Setting};
use crate::decision::{Decision, Request};
use crate::error::{Error, Result};
use crate::firmware::FirmwareSource;
use crate::hypervisor::HypervisorKind;
use crate::sources::{Sources, is_commit};
use crate::tree::Owners;
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::{Architecture, DeviceTree, Method, Size, Source};

/// How an image was built. Nothing in it depends on the machine or the day, nor on the folder that it was built in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    /// The SHA-256 of the image's block map, in hexadecimal.
    pub map: String,
    /// The time in archives and file systems, in seconds since 1970.
    pub epoch: u64,
    /// The builder's version.
    pub builder: String,
    /// The sources' state, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
    /// What was asked for.
    pub request: Asked,
    /// The user's own files that it was made of.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OwnFile>,
}

/// What was asked for, as the command line's options have it. What is `None` was left to the builder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// The board's name; a variant may follow after a colon.
    pub board: String,
    /// The folder with boards of the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boards_dir: Option<String>,
    /// The image's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What was put over it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dom0_arch: Option<Architecture>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dom0_mem: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dom0_cpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hypervisor_args: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dom0_args: Option<String>,
    hypervisor: HypervisorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hypervisor_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hypervisor_board: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    slots: bool,
}

/// A file that is neither in the sources nor in a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnFile {
    /// Its path: below the sources where it is there, else as it was given.
    pub path: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Record {
    /// The record of an image whose block map has this hash.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn new(
        workspace: &Workspace,
        decision: &Decision,
        cache: &Cache,
        sources: Option<Sources>,
        epoch: u64,
        map: &str,
    ) -> Result<Self> {
        let (root, request) = (workspace.root(), &decision.request);
        let mut files = Vec::new();
        if let Some((file, text)) = request.config.source() {
            let sha256 = crate::cache::sha256(text.as_bytes());
            files.push(OwnFile { path: name(root, Path::new(file)), sha256 });
        }
        let mut own = request.config.files();
        own.extend(request.hypervisor_file.clone());
        if let (Some(_), Some(Source::Folder(folder))) =
            (workspace.boards_dir(), workspace.boards().source(&decision.board.id))
        {
            own.push(folder.join("board.toml"));
            if let DeviceTree::File { path } = &decision.board.device_tree {
                own.push(folder.join(path));
            }
            for source in decision.firmware.values() {
                if let FirmwareSource::File { path, field: None } = source {
                    own.push(path.clone());
                }
            }
        }
        for path in own {
            let file = OwnFile { path: name(root, &path), sha256: cache.hash_path(&path, Owners::Root)? };
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(Self {
            map: map.to_owned(),
            epoch,
            builder: env!("CARGO_PKG_VERSION").to_owned(),
            sources,
            request: Asked::of(workspace, request),
            files,
        })
    }

    /// The field that cannot be so, and what is wrong with it.
    pub(crate) fn fault(&self) -> Option<(String, String)> {
        let hash = |text: &str| text.len() == 64 && is_commit(text);
        // What is printed must not be a command to the terminal.
        if serde_json::to_value(self).is_ok_and(|value| has_control(&value)) {
            return Some(("request".to_owned(), "there is a control character in it".to_owned()));
        }
        if !hash(&self.map) {
            return Some(("map".to_owned(), "this is no SHA-256".to_owned()));
        }
        if let Some(sources) = self.sources.as_ref().filter(|sources| !is_commit(&sources.commit)) {
            return Some((
                "sources.commit".to_owned(),
                format!("`{}` is no commit", sources.commit.escape_default()),
            ));
        }
        let wrong = self.files.iter().position(|file| !hash(&file.sha256))?;
        Some((format!("file.{wrong}.sha256"), "this is no SHA-256".to_owned()))
    }

    /// The request that it was built by, with the image in the folder `out`.
    ///
    /// # Errors
    ///
    /// A file of the user's that is not there, or is another than the one that the image was made of.
    pub fn request(&self, root: &Path, cache: &Cache, out: &Path) -> Result<Request> {
        for file in &self.files {
            let path = find(root, &file.path);
            let found = cache.hash_path(&path, Owners::Root).map_err(|error| {
                error.help(
                    "the image was made of this file: put it there, or run this where its path leads to it",
                )
            })?;
            if found != file.sha256 {
                return Err(Error::new("this is another file than the one that the image was made of")
                    .at(&path)
                    .help(format!("that one has the SHA-256 {}", file.sha256)));
            }
        }
        let asked = self.request.clone();
        let settings = asked.set.iter().map(|text| text.parse()).collect::<Result<Vec<Setting>>>()?;
        let config = match asked.config.as_deref() {
            Some(file) => ImageConfig::read(&find(root, file), &settings)?,
            None => ImageConfig::with("", "", &settings)?,
        };
        Ok(Request {
            board: asked.board,
            variant: asked.variant,
            method: asked.method,
            profile: asked.profile,
            layout: asked.layout,
            dom0_arch: asked.dom0_arch,
            dom0_mem: asked.dom0_mem,
            memory: asked.memory,
            cpus: asked.cpus,
            dom0_cpus: asked.dom0_cpus,
            hypervisor_args: asked.hypervisor_args,
            dom0_args: asked.dom0_args,
            kind: asked.hypervisor,
            hypervisor_file: asked.hypervisor_file.as_deref().map(|file| find(root, file)),
            hypervisor_board: asked.hypervisor_board,
            slots: asked.slots,
            config,
            out: Some(out.to_path_buf()),
        })
    }

    /// The folder with boards of the user's own.
    pub fn boards_dir(&self, root: &Path) -> Option<PathBuf> {
        self.request.boards_dir.as_deref().map(|folder| find(root, folder))
    }
}

impl Asked {
    fn of(workspace: &Workspace, request: &Request) -> Self {
        let named = |path: &Path| name(workspace.root(), path);
        let request = request.clone();
        Self {
            board: request.board,
            boards_dir: workspace.boards_dir().map(named),
            config: request.config.source().map(|(file, _)| named(Path::new(file))),
            set: request.config.settings().iter().map(|setting| setting.text().to_owned()).collect(),
            variant: request.variant,
            method: request.method,
            profile: request.profile,
            layout: request.layout,
            dom0_arch: request.dom0_arch,
            dom0_mem: request.dom0_mem,
            memory: request.memory,
            cpus: request.cpus,
            dom0_cpus: request.dom0_cpus,
            hypervisor_args: request.hypervisor_args,
            dom0_args: request.dom0_args,
            hypervisor: request.kind,
            hypervisor_file: request.hypervisor_file.as_deref().map(named),
            hypervisor_board: request.hypervisor_board,
            slots: request.slots,
        }
    }
}

/// Whether a text in `value` has a control character.
fn has_control(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains(char::is_control),
        serde_json::Value::Array(all) => all.iter().any(has_control),
        serde_json::Value::Object(all) => all.values().any(has_control),
        _ => false,
    }
}

/// The path as it is recorded: of what lies in the sources the path there, which is the same in every clone.
fn name(root: &Path, path: &Path) -> String {
    let inside = fs::canonicalize(path).ok();
    let inside = inside.as_deref().and_then(|path| path.strip_prefix(root).ok());
    inside.unwrap_or(path).to_string_lossy().into_owned()
}

/// Where the file is that was recorded as `name`.
fn find(root: &Path, name: &str) -> PathBuf {
    let inside = root.join(name);
    if inside.exists() { inside } else { PathBuf::from(name) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The record of an image that could be.
    pub(crate) fn record() -> Record {
        Record {
            map: "0a".repeat(32),
            epoch: 1_767_225_600,
            builder: "0.1.0".into(),
            sources: Some(Sources { commit: "0b".repeat(20), modified: false }),
            request: Asked {
                board: "qemu-arm64:gicv3".into(),
                method: Some(Method::Uefi),
                dom0_arch: Some(Architecture::Armv7),
                dom0_mem: Some(Size(512 << 20)),
                dom0_args: Some("quiet \"x\"".into()),
                ..Asked::default()
            },
            files: vec![OwnFile { path: "my/image.toml".into(), sha256: "0c".repeat(32) }],
        }
    }

    fn workspace() -> Workspace {
        Workspace::open(Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")), None).unwrap()
    }

    #[test]
    fn the_request_comes_back_from_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("web.toml");
        let kernel = dir.path().join("own-kernel");
        fs::write(&kernel, "a kernel").unwrap();
        fs::write(
            &config,
            "[[guest]]\nname = \"a\"\nmemory = \"64M\"\nstart = \"static\"\nkernel = \"own-kernel\"\n",
        )
        .unwrap();
        let (workspace, cache) = (workspace(), Cache::open(Some(dir.path())).unwrap());
        let request = Request {
            board: "qemu-arm64".into(),
            variant: Some("gicv3".into()),
            memory: Some(Size(4 << 30)),
            cpus: Some(2),
            dom0_args: Some("quiet".into()),
            slots: true,
            config: ImageConfig::read(&config, &[]).unwrap(),
            out: Some("out".into()),
            ..Request::default()
        };
        let decision = Decision::new(&workspace, &request).unwrap();
        let record = Record::new(&workspace, &decision, &cache, None, 7, &"0a".repeat(32)).unwrap();
        assert_eq!((record.epoch, record.files.len()), (7, 2), "{record:?}");
        let again = record.request(workspace.root(), &cache, Path::new("out")).unwrap();
        assert_eq!(again, request);

        fs::write(&kernel, "another").unwrap();
        let said = record.request(workspace.root(), &cache, Path::new("out")).unwrap_err().report();
        assert!(said.contains("own-kernel: this is another file") && said.contains("that one has"), "{said}");
        fs::remove_file(&kernel).unwrap();
        let said = record.request(workspace.root(), &cache, Path::new("out")).unwrap_err().report();
        assert!(said.contains("own-kernel") && said.contains("the image was made of this file"), "{said}");
    }

    #[test]
    fn a_file_of_the_sources_has_the_same_name_in_every_clone() {
        let (workspace, dir) = (workspace(), tempfile::tempdir().unwrap());
        let inside = workspace.root().join("builder/../images/gpt-uboot.toml");
        assert_eq!(name(workspace.root(), &inside), "images/gpt-uboot.toml");
        assert_eq!(
            find(workspace.root(), "images/gpt-uboot.toml"),
            workspace.root().join("images/gpt-uboot.toml")
        );
        let outside = dir.path().join("x");
        assert_eq!(name(workspace.root(), &outside), outside.to_str().unwrap());
        assert_eq!(find(workspace.root(), outside.to_str().unwrap()), outside);
    }

    #[test]
    fn hashes_are_hashes() {
        assert_eq!(record().fault(), None);
        let mut wrong = record();
        wrong.files[0].sha256 = "x".into();
        assert_eq!(wrong.fault().unwrap().0, "file.0.sha256");
        wrong.sources = Some(Sources { commit: "HEAD; reboot".into(), modified: true });
        assert_eq!(wrong.fault().unwrap().0, "sources.commit");
        wrong.map.clear();
        assert_eq!(wrong.fault().unwrap().0, "map");
        wrong.request.board = "\u{1b}[2J".into();
        assert_eq!(wrong.fault().unwrap().0, "request");
    }
}
