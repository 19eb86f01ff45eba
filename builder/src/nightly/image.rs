//! The image of a boot.

use super::case::Case;
use crate::build::{Built, Options, build};
use crate::cache::Cache;
use crate::chosen::{Chosen, lock_of};
use crate::decision::Decision;
use crate::error::Result;
use crate::image::packing::Packing;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Builds it, and packs it so; with the cache that it was made from. The packages of its description's lock are in it; where
/// there is none they are pinned in the image's folder, and nothing is left beside the description.
pub(super) fn image(
    workspace: &Workspace,
    case: &Case,
    decision: &Decision,
    pack: &[Packing],
) -> Result<(Cache, Built)> {
    let beside = lock_of(None, case.config.as_deref(), decision.kind)?;
    let lock = beside.map(|beside| match (beside.exists(), &decision.request.out) {
        (false, Some(own)) => own.join("packages.lock"),
        _ => beside,
    });
    let chosen = Chosen::open(Cache::open(None)?, lock)?;
    let options = Options { pack: pack.to_vec(), ..chosen.options(false, None) };
    let built = build(workspace, decision, &chosen.cache, &options, &Progress::quiet())?;
    Ok((chosen.cache, built))
}
