//! Numbers that something else has measured: counts of instructions, sizes, times.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result, ResultExt};

/// Numbers by name.
pub type Figures = BTreeMap<String, f64>;

/// Bytes of a file of figures.
const MAX: u64 = 4 << 20;
/// Most figures of a night.
const MAX_FIGURES: usize = 2000;
/// Objects in objects.
const MAX_DEPTH: usize = 8;

/// Adds the numbers in the file at `path`, a JSON object: its own, and those of the objects in it, whose names are joined by
/// `/`. What is no number is passed over.
///
/// # Errors
///
/// A file that cannot be read, that is no such object, or that has more numbers than a night keeps.
pub fn read(path: &Path, into: &mut Figures) -> Result<()> {
    let mut bytes = Vec::new();
    let file = File::open(path).context_at(path, || "cannot open the figures")?;
    file.take(MAX + 1).read_to_end(&mut bytes).context_at(path, || "cannot read the figures")?;
    if bytes.len() as u64 > MAX {
        return Err(Error::new(format!("the figures have more than {} MiB", MAX >> 20)).at(path));
    }
    let value: Value = serde_json::from_slice(&bytes).context_at(path, || "the figures are no JSON")?;
    if !value.is_object() {
        return Err(Error::new("the figures are no JSON object").at(path));
    }
    add("", &value, 0, into);
    if into.len() > MAX_FIGURES {
        return Err(Error::new(format!("more than {MAX_FIGURES} figures")).at(path));
    }
    Ok(())
}

fn add(name: &str, value: &Value, depth: usize, into: &mut Figures) {
    match value {
        Value::Number(number) => into.extend(number.as_f64().map(|number| (name.to_owned(), number))),
        Value::Object(fields) if depth < MAX_DEPTH => {
            for (key, value) in fields {
                let name = if name.is_empty() { key.clone() } else { format!("{name}/{key}") };
                add(&name, value, depth + 1, into);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_from_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        std::fs::write(&path, r#"{"a": 1, "b": {"c": 2.5, "d": "x"}, "e": [3]}"#).unwrap();
        let mut figures = Figures::new();
        read(&path, &mut figures).unwrap();
        assert_eq!(figures.into_iter().collect::<Vec<_>>(), [("a".into(), 1.0), ("b/c".into(), 2.5)]);
        for bad in ["[1]", "{", ""] {
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path, &mut Figures::new()).is_err(), "{bad}");
        }
    }
}
