//! What labgrid has to be told of the boards of a plan: an environment of each, what the exporter has, and the places.
//!
//! Drivers are bound by labgrid to resources of a place, by class; `exporter.yaml` and `places.sh` are to be completed by
//! whoever knows which cable leads where. Formats: labgrid's "Configuration" manual, exporter and environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{USUAL_BAUD, board_tags, told};
use crate::cache::replace_file;
use crate::decision::Decision;
use crate::error::{Result, ResultExt};
use crate::progress::Progress;

/// Writes what labgrid needs for the boards of `decisions` into the folder `dir`, which is made if it is not there:
/// BOARD.yaml, an environment; exporter.yaml; and places.sh. The first two are to be completed, and stay as they are where they
/// are there.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write_config<'a>(
    dir: &Path,
    decisions: impl IntoIterator<Item = &'a Decision>,
    progress: &Progress,
) -> Result<()> {
    fs::create_dir_all(dir).context_at(dir, || "cannot make the folder")?;
    let mut places: BTreeMap<String, &Decision> = BTreeMap::new();
    for decision in decisions {
        places.entry(place(decision)).or_insert(decision);
    }
    let write = |name: &str, text: &str| to_complete(&dir.join(name), text, progress);
    for (place, decision) in &places {
        write(&format!("{}.yaml", decision.board.id), &environment(place, decision))?;
    }
    write("exporter.yaml", &exporter(&places))?;
    replace_file(&dir.join("places.sh"), commands(&places).as_bytes())
}

/// Writes a file that somebody completes by hand, unless it is there: then it has been.
pub(in super::super) fn to_complete(path: &Path, text: &str, progress: &Progress) -> Result<()> {
    if path.exists() {
        progress.line(format!("{} is there already, and stays as it is", path.display()));
        return Ok(());
    }
    replace_file(path, text.as_bytes())
}

/// The name of a place, of what tells it from others.
fn place(decision: &Decision) -> String {
    board_tags(decision).into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("-")
}

fn environment(place: &str, decision: &Decision) -> String {
    format!(
        "# {name} at a labgrid place with a power switch, a serial line, and a card that can be moved to the exporter.\n\
         # `vambrace test --labgrid-env` takes any place that has the board in the place of this one. Another power\n\
         # switch or card has another driver: without this file, `vambrace` takes those that the place's resources have.\n\
         targets:\n\
         \x20 main:\n\
         \x20   resources:\n\
         \x20     RemotePlace:\n\
         \x20       name: {place}\n\
         \x20   drivers:\n\
         \x20     SerialDriver: {{}}\n\
         \x20     NetworkPowerDriver: {{}}\n\
         \x20     USBSDMuxDriver: {{}}\n\
         \x20     USBStorageDriver: {{}}\n",
        name = decision.board.name
    )
}

fn exporter(places: &BTreeMap<String, &Decision>) -> String {
    let mut text = "# What the computer beside the boards has: for `labgrid-exporter exporter.yaml`.\n\
                    # What says CHANGE-ME is for you; `labgrid-suggest` tells what is plugged in.\n"
        .to_owned();
    for (index, (place, decision)) in places.iter().enumerate() {
        let serial = decision.board.serial.as_ref();
        let baud = serial.map_or(USUAL_BAUD, |serial| serial.baud);
        let connector = serial.and_then(|serial| serial.connector.as_deref());
        let connector = connector.map(|name| format!("  # At {name}.\n")).unwrap_or_default();
        text.push_str(&format!(
            "\n{place}:\n\
             {connector}\
             \x20 USBSerialPort:\n\
             \x20   match:\n\
             \x20     ID_SERIAL_SHORT: CHANGE-ME\n\
             \x20   speed: {baud}\n\
             \x20 NetworkPowerPort:\n\
             \x20   model: simplerest\n\
             \x20   host: 'http://CHANGE-ME/relay/{{index}}/{{value}}'\n\
             \x20   index: {index}\n\
             \x20 USBSDMuxDevice:\n\
             \x20   match:\n\
             \x20     '@ID_PATH': CHANGE-ME\n"
        ));
    }
    text
}

fn commands(places: &BTreeMap<String, &Decision>) -> String {
    let mut text = "#!/bin/sh\n\
                    # Makes the places of these boards at the coordinator that LG_COORDINATOR names. A plan that asks for CPUs or\n\
                    # memory finds those places that have the tags: cpus=4, memory=2G.\n\
                    set -eu\n"
        .to_owned();
    for (place, decision) in places {
        let tags = told(&board_tags(decision), " ");
        text.push_str(&format!(
            "if ! labgrid-client -p {place} show >/dev/null 2>&1; then\n\
             \x20   labgrid-client -p {place} create\n\
             \x20   labgrid-client -p {place} add-match '*/{place}/*'\n\
             fi\n\
             labgrid-client -p {place} set-tags {tags}\n"
        ));
    }
    text
}
