//! The maps of an image: what is on it, and what its boot script or its manifest say of RAM.

use std::path::Path;

use super::of_plan::Planned;
use super::{Explanation, Handover};
use crate::build::{Manifest, manifest_path};
use crate::cache::read_json;
use crate::draw::{Map, Role, Span};
use crate::error::Result;
use crate::inspect::{Account, Kind, inspect};
use crate::progress::Progress;

/// Explains the image at `path`.
///
/// # Errors
/// What cannot be read.
pub fn of_image(path: &Path, progress: &Progress) -> Result<Explanation> {
    let account = inspect(path, progress)?;
    let manifest = read_json::<Manifest>(&manifest_path(path));
    let planned = manifest.and_then(|manifest| Planned::read(&manifest.plan).ok());
    Ok(explain(&account, planned))
}

fn explain(account: &Account, planned: Option<Planned>) -> Explanation {
    let there = |planned: &Planned| {
        let found = account.partitions.iter().map(|partition| (partition.entry.start, partition.entry.size));
        let asked = planned.disk.partitions.iter().map(|partition| (partition.start, partition.size));
        planned.disk.size == account.size && found.eq(asked)
    };
    let medium = account.map();
    let (memory, remarks) = match planned {
        Some(planned) if there(&planned) => (planned.memory(), planned.remarks()),
        other => {
            let mut remarks: Vec<String> = Vec::new();
            if other.is_some() {
                remarks.push("the manifest beside it is of another image, and was left aside".into());
            }
            let memory = by_script(account);
            remarks.push(match memory {
                Some(_) => {
                    "where RAM begins and ends, and what U-Boot keeps of it, is not on the image".into()
                }
                None => "nothing on the image says where in RAM things are put".into(),
            });
            (memory.into_iter().collect(), remarks)
        }
    };
    Explanation::new(account.source.clone(), medium, memory, remarks)
}

/// RAM as a boot script fills it, where its addresses are numbers: that of the first partition that has a script.
fn by_script(account: &Account) -> Option<Handover> {
    let loads = account.loads();
    let spans = loads.iter().map(|load| {
        let role = match load.kind {
            Kind::Hypervisor => Role::Hypervisor,
            _ => Role::Boot,
        };
        Span::new(&load.path, load.address, load.size, role)
    });
    let spans: Vec<Span> = spans.collect();
    let start = spans.iter().map(|span| span.start).min()?;
    let end = spans.iter().map(Span::end).max()?;
    let when = "the boot script has loaded everything".to_owned();
    // Room behind the last, for what has to move.
    let end = end.saturating_add(256 << 20);
    Some(Handover { map: Map::new(format!("RAM, {when}"), start, end, spans), when })
}
