//! Every link leads somewhere.

use crate::page::{Page, made, root, written};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// `path` without `.` and `..`: it is compared with paths that need not be there.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

/// Follows the links of `pages`, which have to stay in `base`.
fn follow(pages: &[Page], base: &Path) {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            followed += 1;
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let to = match file {
                "" => page.path.clone(),
                file => plain(&page.path.parent().unwrap().join(file)),
            };
            let fine = to.starts_with(base)
                && to.exists()
                && anchor.is_none_or(|anchor| Page::read(&to).anchors().iter().any(|one| one == anchor));
            if !fine {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 10, "{followed} links are too few: are they still found?");
}

#[test]
fn links_between_written_pages_lead_somewhere() {
    follow(&written(), &root());
}

#[test]
fn links_in_the_book_lead_somewhere_in_the_book() {
    let out = tempfile::tempdir().unwrap();
    let dir = fs::canonicalize(out.path()).unwrap();
    follow(&made(&dir), &dir.join("guide/src"));
}

#[test]
fn the_contents_have_every_page_once() {
    let out = tempfile::tempdir().unwrap();
    let pages = made(out.path());
    let src = out.path().join("guide/src");
    let (contents, others): (Vec<Page>, Vec<Page>) =
        pages.into_iter().partition(|page| page.path.ends_with("SUMMARY.md"));
    let listed = &contents.first().unwrap().links;
    let all: BTreeSet<PathBuf> = listed.iter().map(|link| src.join(link)).collect();
    assert_eq!(all.len(), listed.len(), "a page is there twice: {listed:?}");
    assert_eq!(all, others.iter().map(|page| page.path.clone()).collect());
    for id in vambrace_bsp::Catalog::embedded().unwrap().ids() {
        assert!(all.contains(&src.join(format!("boards/{id}.md"))), "{id}");
    }
}

#[test]
fn every_command_has_a_manual_page_and_is_in_the_reference() {
    let out = tempfile::tempdir().unwrap();
    let pages = made(out.path());
    let reference = pages.iter().find(|page| page.path.ends_with("reference/commands.md")).unwrap();
    let manual = |name: &str| fs::read_to_string(out.path().join(format!("man/man1/{name}.1"))).unwrap();
    assert!(manual("vambrace").contains("vambrace\\-build(1)"));
    let flash = manual("vambrace-flash");
    assert!(flash.find("[\\fIIMAGE|BOARD").unwrap() < flash.find("[\\fIDEVICE").unwrap(), "{flash}");
    let mut count = 0;
    for command in vambrace::cli::command().get_subcommands() {
        let (name, heading) = (command.get_name(), format!("vambrace {}", command.get_name()));
        assert!(reference.headings.iter().any(|one| one.text == heading), "{heading}");
        assert!(manual(&format!("vambrace-{name}")).contains(".SH SYNOPSIS"), "{name}");
        count += 1;
    }
    assert!(count > 10);
    assert!(reference.headings.iter().any(|heading| heading.text == "vambrace board new"));
    let bash = fs::read_to_string(out.path().join("completions/vambrace.bash")).unwrap();
    assert!(bash.contains("--dom0-mem"));
}

#[test]
fn the_same_documentation_is_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for out in [&first, &second] {
        made(out.path());
    }
    for page in ["guide/src/reference/commands.md", "guide/src/boards.md", "man/man1/vambrace-boot.1"] {
        assert_eq!(fs::read(first.path().join(page)).unwrap(), fs::read(second.path().join(page)).unwrap());
    }
}

#[test]
fn the_sources_are_never_written_over() {
    let workspace = vambrace::workspace::Workspace::open(Some(&root()), None).unwrap();
    let before = fs::read(root().join("builder/guide/src/boards.md")).unwrap();
    let error =
        vambrace::guide::write(&workspace, &vambrace::cli::command(), &root().join("builder")).unwrap_err();
    assert!(error.what().contains("sources are here"), "{error}");
    assert_eq!(fs::read(root().join("builder/guide/src/boards.md")).unwrap(), before);
}
