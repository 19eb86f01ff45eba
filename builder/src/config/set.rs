//! What the command line puts over a description: `--set dom0.memory=1G`.

use super::ImageConfig;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::str::FromStr;
use toml::{Table, Value};

/// A field of a description and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The path of the field, part by part.
    path: Vec<String>,
    value: Value,
    /// As it was written.
    text: String,
}

/// No value can be a number that is not equal to itself: TOML has `nan`, and no field takes floats.
impl Eq for Setting {}

impl Setting {
    /// Whether a field at `path`, such as `dom0.memory`, is this one's or in it.
    pub fn concerns(&self, path: &str) -> bool {
        let own = self.path.join(".");
        path.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a fault in it is.
    pub(super) fn shown(&self) -> String {
        format!("--set {}", self.text)
    }
}

impl FromStr for Setting {
    type Err = Error;

    /// Reads `KEY=VALUE`. What is no value of TOML's is a text: `dom0.hostname=shed` takes no quotes.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(format!("`{}` {what}", text.escape_default()))
                .help("write it like dom0.memory=1G, or dom0.packages=[\"htop\"]")
        };
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        let name = |part: &String| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !path.iter().all(name) {
            return Err(wrong("does not begin with the name of a field"));
        }
        let value = value.trim();
        let parsed = toml::from_str::<Table>(&format!("value = {value}\n")).ok();
        let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
        // A size such as 1G is no number, and `nan` is nothing at all.
        let value =
            parsed.filter(|value| !value.is_float()).unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { path, value, text: text.to_owned() })
    }
}

/// The description in `text`, which has been read already, with `settings` over it, the later over the earlier.
pub(super) fn over(text: &str, settings: &[Setting]) -> Result<ImageConfig> {
    let broken = |error: toml::de::Error| Error::new(error.message().to_owned());
    let mut table: Table = toml::from_str(text).map_err(broken)?;
    for setting in settings {
        put(&mut table, &setting.path, &setting.value).map_err(|error| error.at_text(setting.shown()))?;
        // One by one, so that the one at fault is named.
        ImageConfig::deserialize(table.clone()).map_err(|error| {
            let what = error.message().trim().replace("unknown field", "unknown key");
            Error::new(what).at_text(setting.shown())
        })?;
    }
    ImageConfig::deserialize(table).map_err(broken)
}

/// Puts `value` to `path` in `table`; tables on the way that are not there are made.
fn put(table: &mut Table, path: &[String], value: &Value) -> Result<()> {
    let Some((last, way)) = path.split_last() else { return Ok(()) };
    let mut inside = table;
    for part in way {
        let next = inside.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
        inside = next.as_table_mut().ok_or_else(|| {
            Error::new(format!("`{part}` has no fields of its own"))
                .help("a list, such as the guests, is set as a whole")
        })?;
    }
    inside.insert(last.clone(), value.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "board = \"b\"\n[dom0]\nmemory = \"256M\"\nhostname = \"old\"\n[[guest]]\nname = \"a\"\nmemory = \"64M\"\n";

    fn with(settings: &[&str]) -> Result<ImageConfig> {
        let settings: Result<Vec<Setting>> = settings.iter().map(|text| text.parse()).collect();
        ImageConfig::with("f.toml", TEXT, &settings?)
    }

    #[test]
    fn what_is_set_goes_over_the_file() {
        let config = with(&[
            "dom0.memory=1G",
            "dom0.hostname = shed",
            "dom0.packages=[\"htop\", \"vim\"]",
            "machine.cpus=2",
            "machine.cpus=4",
            "disk.size=4G",
        ])
        .unwrap();
        assert_eq!(config.dom0.memory.map(|size| size.bytes()), Some(1 << 30));
        assert_eq!(config.dom0.hostname.as_deref(), Some("shed"));
        assert_eq!((config.dom0.packages.len(), config.machine.cpus), (2, Some(4)));
        assert_eq!((config.board.as_deref(), config.guests.len()), (Some("b"), 1));
        assert_eq!(config.settings().len(), 6);
    }

    #[test]
    fn what_cannot_be_set_is_told_with_the_setting() {
        for (setting, wanted) in [
            ("dom0.memory", "has no `=`"),
            ("=1", "the name of a field"),
            ("dom0.memory=lots", "--set dom0.memory=lots: "),
            ("dom0.colour=red", "unknown key `colour`"),
            ("guest.name=b", "is set as a whole"),
            ("dom0.hostname=two words", "--set dom0.hostname=two words: "),
            ("machine.cpus=nan", "--set machine.cpus=nan: "),
        ] {
            let said = with(&[setting]).unwrap_err().report();
            assert!(said.contains(wanted), "{setting}: {said}");
        }
        // A fault of the file's stays one.
        let settings = ["dom0.memory=1G".parse().unwrap()];
        let said =
            ImageConfig::with("f.toml", "[dom0]\nhostname = \"a b\"\n", &settings).unwrap_err().report();
        assert!(said.contains("f.toml:2:"), "{said}");
    }
}
