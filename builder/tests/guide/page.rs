//! Pages of Markdown, and what is in them.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::fs;
use std::path::{Path, PathBuf};

/// The project's sources.
pub(crate) fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

/// A page.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    /// Their texts, and whether one is code and nothing else.
    pub(crate) headings: Vec<Heading>,
    /// Where they lead.
    pub(crate) links: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

pub(crate) struct Heading {
    pub(crate) level: HeadingLevel,
    pub(crate) text: String,
    pub(crate) is_code: bool,
}

/// A block of code.
pub(crate) struct Block {
    /// What stands behind its fence, empty for one that is indented.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut page =
            Self { path: path.to_owned(), headings: Vec::new(), links: Vec::new(), blocks: Vec::new() };
        let mut heading = None;
        let mut block = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { level, .. }) => heading = Some((level, String::new(), true)),
                Event::End(TagEnd::Heading(_)) => {
                    let (level, text, is_code) = heading.take().unwrap();
                    page.headings.push(Heading { level, text, is_code });
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block { info, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.push(block.take().unwrap()),
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    }
                    if let Some((_, all, is_code)) = &mut heading {
                        all.push_str(&text);
                        *is_code = false;
                    }
                }
                Event::Code(text) => {
                    if let Some((_, all, _)) = &mut heading {
                        all.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// The names by which links reach its headings, as GitHub and mdBook make them: a second one of the same text gets a
    /// number.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for heading in &self.headings {
            let plain: String = heading
                .text
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
                .collect();
            let name = (0..).map(|n| if n == 0 { plain.clone() } else { format!("{plain}-{n}") });
            let free = name.into_iter().find(|name| !all.contains(name)).unwrap();
            all.push(free);
        }
        all
    }
}

/// All pages below `dir`.
pub(crate) fn below(dir: &Path) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pages.extend(below(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(Page::read(&path));
        }
    }
    pages
}

/// The pages that are written by hand: the guide's, and those of the repository.
pub(crate) fn written() -> Vec<Page> {
    let of_repository = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let of_tests = ["ci/bench/README.md", "ci/toolstack-tests/README.md"];
    let mut pages: Vec<Page> =
        of_repository.iter().chain(&of_tests).map(|name| Page::read(&root().join(name))).collect();
    pages.extend(below(&root().join("builder/guide/src")));
    pages
}

/// The whole documentation in `out`, as `vambrace docs` writes it.
pub(crate) fn made(out: &Path) -> Vec<Page> {
    let workspace = vambrace::workspace::Workspace::open(Some(&root()), None).unwrap();
    vambrace::guide::write(&workspace, &vambrace::cli::command(), out).unwrap();
    below(&out.join("guide/src"))
}
