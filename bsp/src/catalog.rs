//! All boards: those compiled in, and those of a folder.

use crate::board::Board;
use crate::check::{check, wrong_folder};
use crate::error::{Error, Result};
use crate::suggest::did_you_mean;
use crate::text::read;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where a board was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is compiled in.
    Embedded,
    /// The folder it was read from.
    Folder(PathBuf),
}

/// The boards that are known, by their ids.
#[derive(Debug, Clone)]
pub struct Catalog {
    boards: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    source: Source,
    text: String,
    /// A description that cannot be read spoils its own board only.
    board: Result<Board>,
}

/// Reads one description, from `file`, and checks it.
///
/// # Errors
///
/// Any fault, with file, line and field.
pub fn parse(file: &str, text: &str) -> Result<Board> {
    let board: Board = read(file, text)?;
    check(file, text, &board)?;
    Ok(board)
}

impl Catalog {
    /// The boards of the project, as they were compiled in.
    ///
    /// # Errors
    ///
    /// A fault in a description; a test sees to it that there is none.
    pub fn embedded() -> Result<Self> {
        let mut boards = BTreeMap::new();
        for (folder, text) in EMBEDDED {
            let file = format!("bsp/boards/{folder}/board.toml");
            let board = parse(&file, text)?;
            if board.id != *folder {
                return Err(Box::new(wrong_folder(&file, text, &board, folder)));
            }
            let entry = Entry { source: Source::Embedded, text: (*text).to_owned(), board: Ok(board) };
            boards.insert((*folder).to_owned(), entry);
        }
        Ok(Self { boards })
    }

    /// Adds the boards in the folders of `dir`; one with the name of a known board takes its place.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed. A fault in one description is kept for whoever asks for that board.
    pub fn add_dir(&mut self, dir: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| {
            Box::new(
                Error::new(format!("cannot list the boards: {error}"))
                    .file(dir.display().to_string())
                    .help("a folder of boards has one folder per board, each with a board.toml"),
            )
        };
        for item in fs::read_dir(dir).map_err(unreadable)? {
            let folder = item.map_err(unreadable)?.path();
            let file = folder.join("board.toml");
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if !file.is_file() {
                continue;
            }
            let place = file.display().to_string();
            let (text, board) = match fs::read_to_string(&file) {
                Ok(text) => {
                    let board = parse(&place, &text).and_then(|board| {
                        if board.id == name {
                            Ok(board)
                        } else {
                            Err(Box::new(wrong_folder(&place, &text, &board, name)))
                        }
                    });
                    (text, board)
                }
                Err(error) => (String::new(), Err(Box::new(Error::new(error.to_string()).file(place)))),
            };
            self.boards.insert(name.to_owned(), Entry { source: Source::Folder(folder), text, board });
        }
        Ok(())
    }

    /// The board called `id`.
    ///
    /// # Errors
    ///
    /// No such board, with the nearest one; or a fault in its description.
    pub fn get(&self, id: &str) -> Result<&Board> {
        match self.boards.get(id) {
            Some(Entry { board: Ok(board), .. }) => Ok(board),
            Some(Entry { board: Err(error), .. }) => Err(error.clone()),
            None => Err(Box::new(
                Error::new(format!("no board is called `{id}`")).help(did_you_mean(id, self.ids())),
            )),
        }
    }

    /// The text of the description of `id`, as it was read.
    pub fn text(&self, id: &str) -> Option<&str> {
        self.boards.get(id).map(|entry| entry.text.as_str())
    }

    /// Where `id` was read from.
    pub fn source(&self, id: &str) -> Option<&Source> {
        self.boards.get(id).map(|entry| &entry.source)
    }

    /// The names of all boards, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.boards.keys().map(String::as_str)
    }

    /// All boards, sorted by name; a description that cannot be read is there as its error.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Result<Board>)> {
        self.boards.iter().map(|(id, entry)| (id.as_str(), &entry.board))
    }
}
