//! The user guide, the manual pages and the completions: what `vambrace docs` writes.
//!
//! ```text
//!   builder/guide (pages) ------+
//!   boards, layouts, profiles --+--> Book --> OUT/guide, for mdBook
//!   an image's schema, a plan's --+
//!   the command line -----------+--> OUT/man/man1, OUT/completions
//! ```
//!
//! What the program knows is not written down a second time. A page says with a mark where that belongs, and the whole
//! book is written elsewhere, so that nothing generated lies among the sources.

mod board;
mod book;
mod commands;
pub(crate) mod markdown;
mod schema;

use crate::config;
use crate::error::{Error, Result, ResultExt};
use crate::nightly::plan::TestPlan;
use crate::workspace::{Workspace, described};
use book::Book;
use clap::Command;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Writes the guide, the manual pages of `command` and its completions into folders of `out`; gives their names.
///
/// Files of the same names are replaced, others stay.
///
/// # Errors
///
/// Sources that cannot be read, a page and this program that know different marks, and whatever cannot be written.
pub fn write(workspace: &Workspace, command: &Command, out: &Path) -> Result<[&'static str; 3]> {
    let names = ["guide", "man", "completions"];
    let [guide, man, completions] = names.map(|name| out.join(name));
    let sources = workspace.root().join("builder/guide");
    fs::create_dir_all(&guide).context_at(&guide, || "cannot make the folder")?;
    if fs::canonicalize(&guide).ok() == fs::canonicalize(&sources).ok() {
        return Err(Error::new("the guide's sources are here, and would be written over")
            .at(&guide)
            .help("name another folder with --out"));
    }
    book(workspace, command, &sources)?.write(&guide)?;
    commands::manual(command, &man.join("man1"))?;
    commands::completions(command, &completions)?;
    Ok(names)
}

/// The whole book.
fn book(workspace: &Workspace, command: &Command, sources: &Path) -> Result<Book> {
    let mut book = Book::read(sources)?;
    let profiles = workspace.profiles()?;
    let mut layouts = BTreeMap::new();
    for id in workspace.layouts()? {
        layouts.insert(id.clone(), workspace.layout(&id)?.description);
    }
    let mut boards = Vec::new();
    for (_, board) in workspace.boards().iter() {
        boards.push(board.as_ref().map_err(|error| described(error.clone()))?);
    }
    for board in &boards {
        book.add(&format!("src/boards/{}.md", board.id), board::page(board, &profiles, &layouts))?;
    }
    book.fill("boards", &board::table(&boards))?;
    book.fill("boards in the contents", &board::contents(&boards))?;
    book.fill("configuration", &schema::reference(&config::init::schema()))?;
    book.fill("test plan", &schema::reference(&TestPlan::schema()))?;
    book.fill("commands", &commands::reference(command))?;
    book.complete()?;
    Ok(book)
}
