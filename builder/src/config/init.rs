//! A first description of an image, for its user to go on from.

use super::{ImageConfig, USUAL_FILE};
use crate::error::{Error, Result, ResultExt};
use schemars::schema_for;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file with the schema that editors read, beside the description.
const SCHEMA_FILE: &str = "vambrace.schema.json";

/// What the description of an image can say, as a JSON Schema (draft 2020-12).
pub fn schema() -> Value {
    schema_for!(ImageConfig).to_value()
}

/// The text of a first description, for `board` with the root file system `profile`. What begins with `#` and a letter is a
/// suggestion that holds when the `#` goes.
pub fn template(board: &str, profile: &str) -> String {
    let name: String = board.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!(
        "#:schema ./{SCHEMA_FILE}
# An image of Vambrace. `vambrace plan` shows what comes of it, `vambrace build` makes it, `vambrace boot` boots it in QEMU,
# `vambrace flash` writes it to a card. Options of the command line go over what is said here. Beside it {lock}
# will pin all packages: keep both under version control.

board = \"{board}\"
profile = \"{profile}\"

[dom0]
hostname = \"{name}\"
#memory = \"512M\"
#args = \"quiet\"
# Debian packages, with all that they depend on; only where the profile installs packages.
#packages = [\"htop\"]
# Folders of yours, laid over the root file system.
#folders = [\"overlay\"]

# Who may log in over the network. A key is a line of text, or a file with such lines.
#[[dom0.user]]
#name = \"root\"
#ssh-keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA... you@example.org\"]

#[[dom0.file]]
#path = \"/etc/motd\"
#text = \"Hello.\\n\"

# The size of the image; without it, what the contents need.
#[disk]
#size = \"4G\"

# A guest, with its root file system in a file.
#[[guest]]
#name = \"web\"
#memory = \"192M\"
#[[guest.disk]]
#name = \"root\"
#on = \"file\"
#content = \"debian-guest\"
",
        lock = Path::new(USUAL_FILE).with_extension("lock").display(),
    )
}

/// Writes a first description to `path`, with its schema beside it, and gives the paths of both.
///
/// # Errors
///
/// A description that is there already, which stays as it is, and what cannot be written.
pub fn init(path: &Path, board: &str, profile: &str) -> Result<[PathBuf; 2]> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let there = error.kind() == ErrorKind::AlreadyExists;
        let error = Error::new("cannot write the description").because(error).at(path);
        if there { error.help("it stays as it is; name another file with --output") } else { error }
    })?;
    file.write_all(template(board, profile).as_bytes())
        .context_at(path, || "cannot write the description")?;
    let beside = path.with_file_name(SCHEMA_FILE);
    crate::cache::replace_file(&beside, &crate::cache::to_json(&schema())?)?;
    Ok([path.to_path_buf(), beside])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_suggestion_of_the_template_holds() {
        let text = template("qemu-arm64:gicv3", "debian");
        assert_eq!(
            ImageConfig::parse("f", &text).unwrap().dom0.hostname.as_deref(),
            Some("qemu-arm64-gicv3")
        );
        let suggested = |line: &str| {
            let rest = line
                .strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
            rest.unwrap_or(line).to_owned() + "\n"
        };
        let all: String = text.lines().map(suggested).collect();
        let config = ImageConfig::parse("f", &all).unwrap();
        assert_eq!((config.dom0.users.len(), config.dom0.files.len(), config.guests.len()), (1, 1, 1));
        assert_eq!(config.disk.size.map(|size| size.bytes()), Some(4 << 30));
        assert!(!all.contains("\n#p") && !all.contains("\n#["), "{all}");
    }

    #[test]
    fn a_description_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vambrace.toml");
        let [_, schema] = init(&path, "qemu-arm64", "minimal").unwrap();
        assert!(fs::read_to_string(schema).unwrap().contains("json-schema.org"));
        fs::write(&path, "mine").unwrap();
        assert!(init(&path, "qemu-arm64", "minimal").unwrap_err().report().contains("stays as it is"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn the_schema_knows_every_field_by_its_name() {
        let schema = schema();
        for pointer in [
            "/properties/board",
            "/properties/dom0",
            "/properties/guest",
            "/$defs/Dom0/properties/packages",
            "/$defs/User/properties/ssh-keys",
            "/$defs/Guest/properties/memory",
            "/$defs/Disk/properties/size",
        ] {
            assert!(schema.pointer(pointer).is_some(), "{pointer}: {schema:#}");
        }
        assert!(schema.pointer("/properties/dir").is_none());
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
        // Two types of one name would be told apart by a number, which means nothing to a reader.
        let names: Vec<&String> = schema["$defs"].as_object().unwrap().keys().collect();
        assert!(
            !names.iter().any(|name| name.ends_with(|c: char| c.is_ascii_digit() && c != '0')),
            "{names:?}"
        );
    }
}
