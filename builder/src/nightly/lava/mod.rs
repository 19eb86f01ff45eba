//! The boots of a plan as jobs of LAVA, for whose lab has that: their images, what LAVA is to do with each, and what it has
//! to be told of the boards.
//!
//! ```text
//!   case --> decision --> image, packed --> jobs/NAME.yaml --> LAVA: write the card, power on, serial line, results
//!   board.toml -----------------------> device-types/vambrace-BOARD.jinja2 <-- devices/vambrace-BOARD-01.jinja2: the lab's cables
//! ```
//!
//! LAVA runs a job whole, and its report is LAVA's own. The stages are those that we follow ourselves.

mod device;
mod job;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::case::Case;
use super::image::image;
use super::lab::to_complete;
use crate::cache::{replace_file, sha256, to_json};
use crate::decision::Decision;
use crate::error::{Error, Result, ResultExt};
use crate::image::bmap;
use crate::image::packed_path;
use crate::image::packing::Packing;
use crate::progress::Progress;
use crate::workspace::Workspace;
pub use job::Visibility;
use job::{File, Job};

/// How images are packed for the way to the lab.
const PACKING: Packing = Packing::Zstd;
/// How LAVA calls that.
const PACKING_NAME: &str = "zstd";

/// Builds the images of `cases` into the folder `dir`, which is made if it is not there, and writes their jobs and what LAVA
/// has to be told of their boards. LAVA's dispatchers find the folder at `url`, or under its own path.
///
/// # Errors
///
/// An image that cannot be built, and a file that cannot be written. Jobs that were written before stay.
pub fn write_jobs(
    workspace: &Workspace,
    cases: &[Case],
    dir: &Path,
    url: Option<&str>,
    visibility: Visibility,
    progress: &Progress,
) -> Result<()> {
    for name in ["jobs", "images", "device-types", "devices"] {
        let folder = dir.join(name);
        fs::create_dir_all(&folder).context_at(&folder, || "cannot make the folder")?;
    }
    let dir = fs::canonicalize(dir).context_at(dir, || "cannot find the folder")?;
    let url =
        url.map_or_else(|| format!("file://{}", dir.display()), |url| url.trim_end_matches('/').to_owned());
    let mut boards = BTreeMap::new();
    for case in cases {
        let step = progress.step(&case.name);
        let decision = case.decide(workspace, Some(dir.join("images").join(&case.name)))?;
        let job = job(workspace, case, &decision, (&dir, &url), visibility)?;
        replace_file(&dir.join(format!("jobs/{}.yaml", case.name)), &to_json(&job)?)?;
        boards.entry(decision.board.id.clone()).or_insert(decision.board);
        step.note("written");
    }
    for board in boards.values() {
        let name = device::device_type(board);
        replace_file(&dir.join(format!("device-types/{name}.jinja2")), device::kind(board).as_bytes())?;
        to_complete(&dir.join(format!("devices/{name}-01.jinja2")), &device::example(board), progress)?;
    }
    Ok(())
}

/// The job that boots `case`, whose image is built for it.
fn job(
    workspace: &Workspace,
    case: &Case,
    decision: &Decision,
    (dir, url): (&Path, &str),
    visibility: Visibility,
) -> Result<Job> {
    let (_, built) = image(workspace, case, decision, &[PACKING])?;
    let of = |path: &Path, sha256: String| -> Result<File> {
        let name = path.strip_prefix(dir).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| Error::new("the file's name is no text").at(path))?;
        Ok(File { url: format!("{url}/{name}"), sha256, packing: None })
    };
    let packed = built.manifest.packed.iter().find(|packed| packed.packing == PACKING);
    let packed = packed.ok_or_else(|| Error::new("the image was not packed").at(&built.image))?;
    let image = of(&packed_path(&built.image, PACKING), packed.sha256.clone())?;
    let map =
        bmap::beside(&built.image).ok_or_else(|| Error::new("the image has no map").at(&built.image))?;
    let text = fs::read(&map).context_at(&map, || "cannot read the image's map")?;
    let map = of(&map, sha256(&text))?;
    let image = File { packing: Some(PACKING_NAME), ..image };
    Ok(Job::new(workspace, case, decision, image, map, visibility))
}
