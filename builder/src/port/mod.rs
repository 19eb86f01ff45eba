//! The porting kit: what a device tree lacks for the hypervisor, and a first board description from it.
//!
//! The tree is read by the hypervisor's own parser, so what is said of it is what the hypervisor will make of it. Nobody
//! has to have the board for that: [`check`] is for the tree, [`describe`] writes the `board.toml` that can be derived from
//! it and says in comments what cannot, and [`create`] puts both into a folder.

mod command;
mod cpu;
mod create;
mod describe;
mod facts;
mod finding;
#[cfg(test)]
mod fixture;
mod lint;
mod report;
mod source;
mod survey;
#[cfg(test)]
mod tests;
mod uart;

pub use command::{BoardCommand, run};
pub use create::create;
pub use describe::describe;
pub use facts::Facts;
pub use finding::{Finding, Fix, Level};
pub use report::Report;
pub(crate) use source::is_file;

use crate::error::{Error, Result};
use survey::Survey;
use vambrace_core::platform::tree::{MAX_BYTES, Tree};

/// Reads the tree that lies in `blob`, which may be anything.
fn tree(blob: &[u8]) -> Result<Tree<'_>> {
    let source = |text: &[u8]| blob.trim_ascii_start().starts_with(text);
    if source(b"/dts-v1/") || source(b"/*") || source(b"//") {
        return Err(Error::new("this is the source of a device tree")
            .help("compile it: dtc -I dts -O dtb -o board.dtb FILE"));
    }
    let tree = Tree::parse(blob).map_err(|error| {
        Error::new("this is no device tree that the hypervisor could read").because(error).help(format!(
            "a device tree blob (.dtb) begins with the bytes d0 0d fe ed, is whole, and has at most {} MiB",
            MAX_BYTES >> 20
        ))
    })?;
    let root = tree.root();
    if root.child("images").is_some() && root.child("configurations").is_some() {
        return Err(Error::new(
            "this is a FIT image, which has the form of a device tree but describes no board",
        )
        .help("take the tree out of it: dumpimage -T flat_dt -p POSITION -o board.dtb FILE"));
    }
    if root.children().any(|node| node.child("__overlay__").is_some()) {
        return Err(Error::new("this is an overlay, not a board's device tree")
            .help("apply it first: fdtoverlay -i base.dtb -o board.dtb FILE"));
    }
    Ok(tree)
}

/// Checks the device tree in `blob` for what the hypervisor needs.
///
/// # Errors
///
/// What is no device tree that the hypervisor's parser could read: source, an overlay, a FIT image, a damaged file. What
/// is wrong in a tree that can be read is in the report.
pub fn check(blob: &[u8]) -> Result<Report> {
    let tree = tree(blob)?;
    let survey = Survey::of(&tree, blob);
    Ok(Report { facts: Facts::of(&survey), findings: lint::all(&survey) })
}
