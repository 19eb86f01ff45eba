//! What is in blocks of code can be typed, or read.

use crate::page::{Page, made, root, written};
use crate::ti;
use std::io::Write;
use std::process::{Command, Stdio};
use vambrace::config::ImageConfig;
use vambrace::nightly::case::cases;
use vambrace::nightly::plan::TestPlan;
use vambrace_bsp::Catalog;

/// The pages as they are written, and as they are made.
fn all() -> Vec<Page> {
    let out = tempfile::tempdir().unwrap();
    let mut pages = written();
    pages.extend(made(out.path()));
    pages
}

/// The words of a line of a shell up to what a shell does with them: comments, pipes, redirections.
fn words(line: &str) -> Vec<String> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("quotes in `{line}`"));
    words
        .into_iter()
        .take_while(|word| !matches!(word.as_str(), "|" | ">" | ">>" | "<" | "&&" | ";"))
        .collect()
}

/// The command lines of this program in a page: in blocks of a shell's, indented, and behind the prompt in what a terminal
/// shows.
fn commands(page: &Page) -> Vec<Vec<String>> {
    let lines = page.blocks.iter().flat_map(|block| {
        let of_shell = matches!(block.info.as_str(), "" | "sh");
        let of_terminal = block.info == "text";
        block.text.lines().filter_map(move |line| match line.trim().strip_prefix("$ ") {
            Some(typed) => (of_shell || of_terminal).then_some(typed),
            None => of_shell.then_some(line.trim()),
        })
    });
    lines
        .filter(|line| line.starts_with("vambrace ") || line.starts_with("ci/vambrace "))
        .map(words)
        .collect()
}

/// The board that a command line names, if it names one.
fn board(words: &[String]) -> Option<String> {
    let matches = vambrace::cli::command()
        .try_get_matches_from(words.iter().map(|word| word.trim_start_matches("ci/")))
        .unwrap_or_else(|error| panic!("`{}`: {error}", words.join(" ")));
    let (_, matches) = matches.subcommand()?;
    let board = matches.try_get_one::<String>("board").ok().flatten()?;
    (!board.contains(['/', '.'])).then(|| board.split(':').next().unwrap_or_default().to_owned())
}

#[test]
fn commands_are_understood_and_name_boards_that_are_there() {
    let catalog = Catalog::embedded().unwrap();
    let mut count = 0;
    for page in all() {
        for words in commands(&page) {
            count += 1;
            let Some(id) = board(&words) else { continue };
            // What somebody who ports a board calls his own.
            assert!(
                id == "my-board" || catalog.get(&id).is_ok(),
                "{}: `{}`: no such board",
                page.path.display(),
                words.join(" ")
            );
        }
    }
    assert!(count > 60, "{count} commands are too few: are they still found?");
}

#[test]
fn a_wrong_command_would_be_found() {
    assert_eq!(
        words("vambrace build a --method uefi  # a comment"),
        ["vambrace", "build", "a", "--method", "uefi"]
    );
    assert_eq!(words("vambrace plan a | less"), ["vambrace", "plan", "a"]);
    assert_eq!(board(&words("ci/vambrace boot qemu-arm64:gicv3 -- -s")).as_deref(), Some("qemu-arm64"));
    assert_eq!(board(&words("vambrace flash image.img")), None);
    let wrong = std::panic::catch_unwind(|| board(&words("vambrace build a --mehtod uefi")));
    assert!(wrong.is_err());
}

#[test]
fn the_hypervisor_takes_the_options_that_are_told() {
    let text = std::fs::read_to_string(root().join("builder/guide/src/reference/hypervisor.md")).unwrap();
    let options: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(options.len() > 8, "{options:?}");
    for option in options {
        let warnings = vambrace_core::cmdline::Options::parse(option).warnings;
        assert!(warnings.is_empty(), "{option}: {warnings:?}");
    }
}

#[test]
fn descriptions_of_images_are_read() {
    let mut count = 0;
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.info.starts_with("toml image")) {
            count += 1;
            if let Err(error) = ImageConfig::parse(&page.path.display().to_string(), &block.text) {
                panic!("{}", error.report());
            }
        }
    }
    assert!(count > 4, "{count} descriptions are too few: are they still found?");
}

#[test]
fn descriptions_of_images_can_be_planned() {
    let dir = tempfile::tempdir().unwrap();
    // What they name of their reader's.
    std::fs::create_dir(dir.path().join("overlay")).unwrap();
    std::fs::write(dir.path().join("bob.pub"), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA bob@home\n").unwrap();
    std::fs::create_dir(dir.path().join("u-boot")).unwrap();
    std::fs::write(dir.path().join("u-boot/MLO"), ti::mlo(50_000, 0x4030_0000)).unwrap();
    std::fs::write(dir.path().join("u-boot/u-boot.img"), ti::uboot(300_000, 2)).unwrap();
    for page in written() {
        for block in page.blocks.iter().filter(|block| block.info.starts_with("toml image")) {
            std::fs::write(dir.path().join("image.toml"), &block.text).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_vambrace"))
                .args(["plan", "--config", "image.toml"])
                .current_dir(dir.path())
                .env("VAMBRACE_CACHE", dir.path().join("cache"))
                .env("VAMBRACE_WORKSPACE", root())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}\n{}", page.path.display(), block.text);
        }
    }
}

#[test]
fn test_plans_are_read_and_have_boots() {
    let workspace = vambrace::workspace::Workspace::open(Some(&root()), None).unwrap();
    let mut count = 0;
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.info == "toml test-plan") {
            count += 1;
            let plan = TestPlan::parse(&page.path.display().to_string(), &block.text)
                .unwrap_or_else(|error| panic!("{}", error.report()));
            assert!(!cases(&plan, &workspace).unwrap().is_empty());
        }
    }
    assert!(count > 2, "{count} plans are too few: are they still found?");
}

#[test]
fn every_block_of_toml_is_toml() {
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.info.starts_with("toml")) {
            let read: Result<toml::Table, _> = toml::from_str(&block.text);
            assert!(read.is_ok(), "{}: {}\n{}", page.path.display(), read.unwrap_err(), block.text);
        }
    }
}

#[test]
fn every_block_of_a_shell_s_is_a_shell_s() {
    let mut count = 0;
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.info == "sh") {
            count += 1;
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            shell.stdin.take().unwrap().write_all(block.text.as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success(), "{}:\n{}", page.path.display(), block.text);
        }
    }
    assert!(count > 30, "{count} blocks are too few: are they still found?");
}

#[test]
fn a_block_says_what_it_is() {
    for page in written() {
        for block in page.blocks.iter().filter(|block| !block.info.is_empty()) {
            assert!(
                matches!(block.info.as_str(), "sh" | "text" | "toml" | "toml image" | "toml test-plan"),
                "{}: `{}`",
                page.path.display(),
                block.info
            );
        }
    }
}
