//! Where the tree to check comes from: a file, or a board that is known.

use crate::cache::Cache;
use crate::decision::{Decision, Request};
use crate::error::{Error, Result, ResultExt};
use crate::parts::{Maker, epoch};
use crate::progress::Progress;
use crate::workspace::{Workspace, described};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use vambrace_bsp::DeviceTree;
use vambrace_core::platform::tree::MAX_BYTES;

/// Whether `what` means a file rather than a board.
pub(crate) fn is_file(what: &str) -> bool {
    what.contains(['/', '.']) || Path::new(what).is_file()
}

/// Reads a file of at most the size that a tree can have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let unreadable = || "cannot read the device tree";
    let mut blob = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    File::open(path)
        .context_at(path, unreadable)?
        .take(limit)
        .read_to_end(&mut blob)
        .context_at(path, unreadable)?;
    if blob.len() as u64 == limit {
        return Err(Error::new(format!(
            "the file has more than {} MiB; no device tree that boots has",
            MAX_BYTES >> 20
        ))
        .at(path));
    }
    Ok(blob)
}

/// The tree of a board that is known, with where it came from.
pub(super) fn of_board(workspace: &Workspace, id: &str, progress: &Progress) -> Result<(String, Vec<u8>)> {
    let board = workspace.boards().get(id).map_err(described)?;
    if matches!(board.device_tree, DeviceTree::Firmware {}) {
        let error = Error::new(format!(
            "the device tree of {id} is in its firmware, so it cannot be checked before the board runs"
        ))
        .help("get it from the running board (cp /sys/firmware/fdt board.dtb), and check that file");
        return Err(if board.qemu.is_some() {
            error
                .help("or from QEMU: add dumpdtb=board.dtb to -machine in what `vambrace boot --print` shows")
        } else {
            error
        });
    }
    let request = Request { board: id.to_owned(), ..Request::default() };
    let decision = Decision::new(workspace, &request)?;
    let cache = Cache::open(None)?;
    let maker =
        Maker { root: workspace.root(), decision: &decision, cache: &cache, progress, epoch: epoch()? };
    if !matches!(board.device_tree, DeviceTree::File { .. }) {
        maker.resolve_packages()?;
    }
    let tree = maker.device_tree()?.ok_or_else(|| Error::new(format!("{id} has no device tree to check")))?;
    Ok((tree.artifact.from.clone(), tree.data.to_vec()))
}
