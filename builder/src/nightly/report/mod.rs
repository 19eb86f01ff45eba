//! The report of a night, for people and for programs.
//!
//! ```text
//!   Night, nights before --> History --+--> html: report.html, one page that needs nothing else
//!   consoles ---> Consoles (shortened) +--> markdown: report.md, for a CI system's summary
//!                                      +--> junit: junit.xml
//!   Night ---------------------------------> report.json, with everything
//! ```
//!
//! The page: `html` is its frame and what is seen first, `boots` the section of each boot, `matrix` boards beside
//! scenarios, `timeline` the stages of each boot as bars, `trends` the nights before; `page.css` and `page.js` are a part of
//! it. `history` knows what has changed, `mark` how a verdict is shown, `text` makes what others have written harmless.

mod boots;
mod consoles;
mod history;
mod html;
mod junit;
mod mark;
mod markdown;
mod matrix;
mod text;
mod timeline;
mod trends;

use std::path::PathBuf;

use super::outcome::Night;
use super::store::Store;
use crate::cache::{replace_file, to_json};
use crate::error::Result;
use consoles::Consoles;
use history::History;

/// Writes the report of `night`, the last one in `store`, and gives the path of the page for people.
///
/// A console that cannot be read is told in the report.
///
/// # Errors
///
/// What cannot be read of the nights before, or written.
pub fn write(store: &Store, night: &Night) -> Result<PathBuf> {
    let consoles = Consoles::read(store, night);
    let kept = store.nights()?;
    let history = History::new(&kept, night);
    let page = store.dir().join("report.html");
    replace_file(&store.dir().join("report.json"), &to_json(night)?)?;
    replace_file(&store.dir().join("junit.xml"), &junit::xml(night, &consoles)?)?;
    let summary = markdown::markdown(night, &consoles, &history);
    replace_file(&store.dir().join("report.md"), summary.as_bytes())?;
    replace_file(&page, html::page(night, &consoles, &history).as_bytes())?;
    Ok(page)
}
