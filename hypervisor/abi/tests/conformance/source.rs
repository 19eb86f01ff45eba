//! The public items of this crate, read from its source, so that no table can forget one.

use std::path::Path;

/// Every top-level `pub const` and `pub type`, every `pub struct` and its fields but implicit padding
/// (`_...`), as
/// `module::NAME` and `module::Type.field`, from all files in `directory`. What lies in a folder is in the module of the
/// folder's name, which exports it.
pub(crate) fn items(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    collect(directory, None, &mut found);
    found
}

fn collect(directory: &Path, parent: Option<&str>, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("the crate's source is there") {
        let path = entry.expect("the crate's source can be listed").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("modules have plain names");
        let module = parent.unwrap_or(stem).to_string();
        if path.is_dir() {
            collect(&path, Some(&module), found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the crate's source can be read");
        let mut structure = None;
        for line in text.lines() {
            let name = |rest: &str| {
                rest.split([':', ' ', '<', '{', '(', '=']).next().unwrap_or_default().to_string()
            };
            if let Some(rest) = line.strip_prefix("pub struct ") {
                let item = format!("{module}::{}", name(rest));
                structure = line.ends_with('{').then(|| item.clone());
                found.push(item);
            } else if line == "}" {
                structure = None;
            } else if let (Some(structure), Some(rest)) = (&structure, line.strip_prefix("    pub ")) {
                if !rest.starts_with('_') {
                    found.push(format!("{structure}.{}", name(rest)));
                }
            } else if let Some(rest) =
                line.strip_prefix("pub const ").or_else(|| line.strip_prefix("pub type "))
                && !rest.starts_with("fn ")
            {
                found.push(format!("{module}::{}", name(rest)));
            }
        }
    }
}
