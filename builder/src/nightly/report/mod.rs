//! The report of a night, for people and for programs.

use std::path::PathBuf;

use super::outcome::Night;
use super::store::Store;
use crate::cache::{replace_file, to_json};
use crate::error::Result;

/// Writes the report of `night`, the last one in `store`, and gives the path of the page for people.
///
/// # Errors
///
/// What cannot be read of the nights before, or written.
pub fn write(store: &Store, night: &Night) -> Result<PathBuf> {
    let page = store.dir().join("report.json");
    replace_file(&page, &to_json(night)?)?;
    Ok(page)
}
