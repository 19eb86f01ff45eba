//! `slot.txt`: what a slot's files are, for what installs and checks them.
//!
//! ```text
//! vambrace-slot 1
//! board qemu-arm64
//! kernel 6.12.57+deb13-arm64
//! file 9f86d0...0a08 1536 slot.scr
//! ```

use super::{LISTING, SCRIPT};
use crate::disk::fat_name;
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::Write as _;

/// The first line. The number changes with what the script that chooses and a slot's script expect of each other.
const FORMAT: &str = "vambrace-slot 1";
/// A release that is not known.
const UNKNOWN: &str = "-";
/// Bytes of a listing, and files in it: a slot has five, and three of each static guest.
pub(super) const MOST_TEXT: u64 = 64 << 10;
const MOST_FILES: usize = 256;

/// What a slot has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The board that it is for.
    pub board: String,
    /// The release of dom0's kernel, by which its modules' folder is called; `None` where that is not known.
    pub kernel: Option<String>,
    /// The files, but for the listing itself.
    pub files: Vec<Listed>,
}

/// A file of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The path in the slot's folder.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Listing {
    /// The kernel's release by the package that it is from: `linux-image-RELEASE VERSION (ARCHITECTURE)`.
    pub fn release(from: &str) -> Option<String> {
        let package = from.split_whitespace().next()?.strip_prefix("linux-image-")?;
        let release = package.strip_suffix("-unsigned").unwrap_or(package);
        // A package that only depends on the newest kernel has no release in its name.
        release.starts_with(|c: char| c.is_ascii_digit()).then(|| release.to_owned())
    }

    /// The text.
    pub fn text(&self) -> String {
        let kernel = self.kernel.as_deref().unwrap_or(UNKNOWN);
        let mut text = format!("{FORMAT}\nboard {}\nkernel {kernel}\n", self.board);
        for Listed { name, size, sha256 } in &self.files {
            let _ = writeln!(text, "file {sha256} {size} {name}");
        }
        text
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// Another form or version, a line that is none of a listing's, a name that is no path in a folder, or one twice.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |number: usize, why: &str| Error::new(format!("line {number} of {LISTING} {why}"));
        if bytes.len() as u64 > MOST_TEXT {
            return Err(Error::new(format!("{LISTING} has more than {} KiB", MOST_TEXT >> 10)));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::new(format!("{LISTING} is no text")))?;
        let mut lines = (1..).zip(text.lines());
        match lines.next() {
            Some((_, FORMAT)) => {}
            Some((_, other)) if other.starts_with("vambrace-slot ") => {
                return Err(Error::new(format!("{LISTING} has the form `{}`", other.escape_default()))
                    .help(format!("this vambrace knows `{FORMAT}`; take the one that made it")));
            }
            _ => return Err(wrong(1, &format!("is not `{FORMAT}`"))),
        }
        let mut listing = Self { board: String::new(), kernel: None, files: Vec::new() };
        for (number, line) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["board", board] if plain(board) => listing.board = (*board).to_owned(),
                ["kernel", UNKNOWN] => listing.kernel = None,
                ["kernel", release] if plain(release) => listing.kernel = Some((*release).to_owned()),
                ["file", sha256, size, name] => {
                    let hash = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
                    let size = size.parse().ok().filter(|_| hash && fine(name));
                    let size = size.ok_or_else(|| wrong(number, "is no hash, size and name of a file"))?;
                    let twice = |listed: &Listed| listed.name.eq_ignore_ascii_case(name);
                    if listing.files.iter().any(twice) || listing.files.len() >= MOST_FILES {
                        return Err(wrong(number, "names a file a second time, or one too many"));
                    }
                    let sha256 = sha256.to_ascii_lowercase();
                    listing.files.push(Listed { name: (*name).to_owned(), size, sha256 });
                }
                _ => return Err(wrong(number, "is none that this vambrace knows")),
            }
        }
        if listing.board.is_empty() || !listing.files.iter().any(|file| file.name == SCRIPT) {
            return Err(Error::new(format!("{LISTING} names no board, or no {SCRIPT}")));
        }
        Ok(listing)
    }
}

/// Whether a shell can take it as a word, too.
fn plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~".contains(&b))
}

/// Whether it is a path of plain words in the slot's folder, other than the listing's own.
fn fine(name: &str) -> bool {
    let parts = name.split('/').all(|part| plain(part) && !part.starts_with('.'));
    parts && fat_name(name).is_ok() && !name.eq_ignore_ascii_case(LISTING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listing() -> Listing {
        let file = |name: &str, size| Listed { name: name.into(), size, sha256: "0a".repeat(32) };
        Listing {
            board: "qemu-arm64".into(),
            kernel: Some("6.12.57+deb13-arm64".into()),
            files: vec![file(SCRIPT, 7), file("guests/web/kernel", 1 << 33)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let unknown = Listing { kernel: None, ..listing() };
        for listing in [listing(), unknown] {
            assert_eq!(Listing::parse(listing.text().as_bytes()).unwrap(), listing);
        }
        assert_eq!(
            Listing::release("linux-image-6.1.0-1-armmp-unsigned 6.1 (armhf)").unwrap(),
            "6.1.0-1-armmp"
        );
        assert_eq!(Listing::release("linux-image-arm64 6.12 (arm64)"), None);
        assert_eq!(Listing::release("a file"), None);
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        let good = listing().text();
        for (from, to) in [
            ("vambrace-slot 1", "vambrace-slot 2"),
            ("vambrace-slot 1", "x"),
            ("board qemu-arm64\n", ""),
            ("board qemu-arm64", "board $(x)"),
            ("guests/web/kernel", "../kernel"),
            ("guests/web/kernel", "/kernel"),
            ("guests/web/kernel", ".hidden"),
            ("guests/web/kernel", "a b"),
            ("guests/web/kernel", "SLOT.scr"),
            ("guests/web/kernel", "slot.txt"),
            (" slot.scr", " other"),
            (" 7 ", " -7 "),
            ("0a0a", "0a"),
            ("kernel 6", "colonel 6"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad != good && Listing::parse(bad.as_bytes()).is_err(), "{to}");
        }
        let long = format!("{good}{}", "board x\n".repeat(10_000));
        assert!(Listing::parse(long.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "vambrace-slot 1\n(board|kernel|file|x|[0-9a-f]{64}|slot.scr| |7|\n|é){0,40}") {
            let _ = Listing::parse(text.as_bytes());
        }
    }
}
