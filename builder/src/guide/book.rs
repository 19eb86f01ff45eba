//! A book: pages, some of them with marks for what the program knows.

use crate::cache::replace_file;
use crate::error::{Error, Result, ResultExt};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What begins and ends a line that stands for something generated. It is a comment, so a page reads well without it.
const MARK: (&str, &str) = ("<!-- vambrace docs: ", " -->");
/// Folders in folders of pages.
const MAX_DEPTH: usize = 4;

/// The files of a book, by their paths below its folder, with `/` between folders.
#[derive(Debug)]
pub(super) struct Book {
    files: BTreeMap<String, String>,
    /// What pages show beside their text.
    pictures: BTreeMap<String, Vec<u8>>,
}

impl Book {
    /// Reads `book.toml` in `dir`, and the pages and their pictures below its folder `src`.
    ///
    /// # Errors
    ///
    /// What cannot be read, or is too deep.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut book = Self { files: BTreeMap::new(), pictures: BTreeMap::new() };
        book.take(dir, "book.toml")?;
        book.take_folder(dir, "src", 0)?;
        Ok(book)
    }

    fn take(&mut self, dir: &Path, name: &str) -> Result<()> {
        let path = dir.join(name);
        let text = fs::read_to_string(&path).context_at(&path, || "cannot read a file of the guide")?;
        self.files.insert(name.to_owned(), text);
        Ok(())
    }

    fn take_folder(&mut self, dir: &Path, name: &str, depth: usize) -> Result<()> {
        let path = dir.join(name);
        if depth > MAX_DEPTH {
            return Err(Error::new("the guide has too many folders in folders").at(path));
        }
        let failed = || "cannot list the guide's pages";
        for entry in fs::read_dir(&path).context_at(&path, failed)? {
            let entry = entry.context_at(&path, failed)?;
            let Some(file) = entry.file_name().to_str().map(|file| format!("{name}/{file}")) else {
                continue;
            };
            let kind = entry.file_type().context_at(&path, failed)?;
            if kind.is_dir() {
                self.take_folder(dir, &file, depth + 1)?;
            } else if kind.is_file() && file.ends_with(".md") {
                self.take(dir, &file)?;
            } else if kind.is_file() && file.ends_with(".png") {
                let path = dir.join(&file);
                let bytes = fs::read(&path).context_at(&path, || "cannot read a picture of the guide")?;
                self.pictures.insert(file, bytes);
            }
        }
        Ok(())
    }

    /// Adds a page.
    ///
    /// # Errors
    ///
    /// A page of this name.
    pub(super) fn add(&mut self, name: &str, text: String) -> Result<()> {
        match self.files.insert(name.to_owned(), text) {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("the guide has a page {name}, which is generated"))),
        }
    }

    /// Puts `content` where a page has the mark `name`.
    ///
    /// # Errors
    ///
    /// No page has it, and what it stands for would be lost.
    pub(super) fn fill(&mut self, name: &str, content: &str) -> Result<()> {
        let mark = format!("{}{name}{}", MARK.0, MARK.1);
        let mut found = false;
        for text in self.files.values_mut() {
            if text.lines().any(|line| line == mark) {
                *text = text.replace(&mark, content.trim_end());
                found = true;
            }
        }
        if found { Ok(()) } else { Err(Error::new(format!("no page of the guide has the mark `{name}`"))) }
    }

    /// Sees to it that no mark is left.
    ///
    /// # Errors
    ///
    /// The first one that nothing has filled.
    pub(super) fn complete(&self) -> Result<()> {
        for (name, text) in &self.files {
            let left = text.lines().zip(1..).find(|(line, _)| line.starts_with(MARK.0.trim_end()));
            if let Some((line, number)) = left {
                return Err(Error::new(format!("nothing stands behind the mark `{line}`"))
                    .at_text(format!("{name}:{number}")));
            }
        }
        Ok(())
    }

    /// Writes all files below `dir`.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let texts = self.files.iter().map(|(name, text)| (name, text.as_bytes()));
        let pictures = self.pictures.iter().map(|(name, bytes)| (name, bytes.as_slice()));
        texts.chain(pictures).try_for_each(|(name, bytes)| replace_file(&dir.join(name), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(page: &str) -> (tempfile::TempDir, Book) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::write(dir.path().join("book.toml"), "[book]\n").unwrap();
        fs::write(dir.path().join("src/a.md"), page).unwrap();
        fs::write(dir.path().join("src/deep/b.md"), "b\n").unwrap();
        fs::write(dir.path().join("src/a.txt"), "no page\n").unwrap();
        fs::write(dir.path().join("src/deep/c.png"), b"\x89PNG\xff").unwrap();
        let book = Book::read(dir.path()).unwrap();
        (dir, book)
    }

    #[test]
    fn a_mark_is_filled_and_the_rest_stays() {
        let (dir, mut book) = book("x\n\n<!-- vambrace docs: list -->\n\ny\n");
        assert!(book.complete().unwrap_err().to_string().starts_with("src/a.md:3: "), "it is left");
        book.fill("list", "- 1\n- 2\n\n").unwrap();
        book.complete().unwrap();
        assert!(book.fill("list", "").unwrap_err().what().contains("`list`"), "it is filled once");
        book.add("src/c.md", "c\n".into()).unwrap();
        assert!(book.add("src/c.md", String::new()).is_err());
        let out = dir.path().join("out");
        book.write(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join("src/a.md")).unwrap(), "x\n\n- 1\n- 2\n\ny\n");
        assert!(out.join("src/deep/b.md").is_file() && out.join("src/c.md").is_file());
        assert!(out.join("book.toml").is_file() && !out.join("src/a.txt").exists());
        assert_eq!(fs::read(out.join("src/deep/c.png")).unwrap(), b"\x89PNG\xff");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (dir, _) = book("");
        fs::remove_file(dir.path().join("book.toml")).unwrap();
        assert!(Book::read(dir.path()).unwrap_err().to_string().contains("book.toml: cannot read"));
    }
}
