//! A board's page, from its description alone.

use super::markdown::{code, escaped, table as markdown_table};
use crate::report::{board_facts, booted};
use std::collections::BTreeMap;
use vambrace_bsp::{Board, Method, Origin};

/// Facts that a page has told before it comes to all of them.
const TOLD: [&str; 6] = ["board", "name", "boot", "serial line", "note", "booted"];

/// The boards, a line each, with links to their pages.
pub(super) fn table(boards: &[&Board]) -> String {
    let rows: Vec<[String; 4]> = boards
        .iter()
        .map(|board| {
            let methods: Vec<&str> = board.boot.keys().map(|method| method.name()).collect();
            [
                format!("[{}](boards/{}.md)", code(&board.id), board.id),
                escaped(&format!("{} ({}, {})", board.name, board.vendor, board.soc)),
                methods.join(", "),
                escaped(&booted(board).join("; ")),
            ]
        })
        .collect();
    markdown_table(["board", "machine", "boots by", "seen"], &rows)
}

/// The boards' lines in the contents.
pub(super) fn contents(boards: &[&Board]) -> String {
    boards.iter().map(|board| format!("  - [{}](boards/{}.md)\n", escaped(&board.name), board.id)).collect()
}

/// The page of `board`; `layouts` says what each layout is.
pub(super) fn page(board: &Board, profiles: &[String], layouts: &BTreeMap<String, String>) -> String {
    let mut text = format!("# {}\n\n", escaped(&board.name));
    text.push_str(&format!(
        "{}: {}, {}; {}, Debian's {}.\n\n",
        code(&board.id),
        escaped(&board.vendor),
        escaped(&board.soc),
        board.architecture,
        board.architecture.debian()
    ));
    text.push_str("## What works, and how that was seen\n\n");
    text.push_str(&list(&booted(board)));
    if !board.notes.is_empty() {
        text.push_str("\nGood to know:\n\n");
        text.push_str(&list(&board.notes));
    }
    in_qemu(&mut text, board);
    onto_a_medium(&mut text, board);
    text.push_str("\n## How it boots\n\n");
    text.push_str(&methods(board, layouts));
    let id = &board.id;
    text.push_str(&format!(
        "\n`vambrace plan {id}` says what is loaded to which address (physical), `vambrace explain {id}` draws it.\n"
    ));
    serial(&mut text, board);
    text.push_str("\n## What else is described\n\n");
    let facts: Vec<[String; 2]> = board_facts(board, profiles)
        .into_iter()
        .filter(|[name, _]| !TOLD.contains(&name.as_str()))
        .map(|cells| cells.map(|cell| escaped(&cell)))
        .collect();
    text.push_str(&markdown_table(["what", "value"], &facts));
    text
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {}\n", escaped(line))).collect()
}

fn in_qemu(text: &mut String, board: &Board) {
    let Some(qemu) = &board.qemu else { return };
    let id = &board.id;
    text.push_str(&format!("\n## In QEMU\n\n```sh\nvambrace boot {id}\nvambrace boot {id} --check\n"));
    let others = qemu.variants.keys().filter(|name| Some(*name) != qemu.default_variant.as_ref());
    others.for_each(|name| text.push_str(&format!("vambrace boot {id}:{name}\n")));
    text.push_str("```\n");
    if let Some(before) = qemu.before {
        text.push_str(&format!("\nIt takes a QEMU before {before}: later ones do not have the machine.\n"));
    }
    if !qemu.power_off {
        text.push_str("\nThe machine cannot be switched off from inside: Ctrl-] and then x ends it.\n");
    }
}

fn onto_a_medium(text: &mut String, board: &Board) {
    if board.emulated || board.default_method == Method::Direct {
        return;
    }
    let id = &board.id;
    text.push_str(&format!(
        "\n## Onto a medium\n\n```sh\nvambrace build {id}\nvambrace flash {id}\n```\n\n\
         The second one builds what is not up to date by itself, and asks before it writes: see \
         [Flashing a card](../flashing.md).\n"
    ));
}

/// A line for each boot method.
fn methods(board: &Board, layouts: &BTreeMap<String, String>) -> String {
    let rows: Vec<[String; 3]> = board
        .boot
        .iter()
        .map(|(method, boot)| {
            let default = if *method == board.default_method { ", the default" } else { "" };
            let described = boot.layouts.iter().map(|id| match layouts.get(id) {
                Some(what) => format!("{}: {}", code(id), escaped(what)),
                None => code(id),
            });
            [
                format!("{}{default}", code(method.name())),
                firmware(board, *method, &boot.firmware),
                described.collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    markdown_table(["method", "firmware", "layouts, the first one unless another is asked for"], &rows)
}

fn firmware(board: &Board, method: Method, names: &[String]) -> String {
    if method == Method::Direct {
        return "none: a loader puts the files to their addresses".to_owned();
    }
    let files = names.iter().filter_map(|name| {
        let file = board.firmware.get(name)?;
        let as_file = file.file.as_ref().map(|file| format!("as the file {}", code(file)));
        let raw = file.offset.map(|offset| format!("at byte {}", offset.bytes()));
        let places: Vec<String> = as_file.into_iter().chain(raw).collect();
        let place = match (places.is_empty(), file.qemu.is_empty()) {
            (false, _) => format!("on the image {}", places.join(" or ")),
            (true, true) => "not on the image".to_owned(),
            (true, false) => "in QEMU; elsewhere the board's own".to_owned(),
        };
        let name = escaped(name);
        Some(match file.origin() {
            Origin::Package { package, .. } => format!("{name} of Debian's {}, {place}", code(package)),
            Origin::Beside { .. } => format!("{name} of the board's folder, {place}"),
            Origin::User => format!(
                "{name} of your own, {place}: see [`[firmware]`](../own-image.md#firmware); without it, the board's from elsewhere"
            ),
        })
    });
    let files: Vec<String> = files.collect();
    if files.is_empty() { "the board's own, not on the image".to_owned() } else { files.join("; ") }
}

fn serial(text: &mut String, board: &Board) {
    if board.emulated {
        return;
    }
    text.push_str("\n## The serial console\n\n");
    match &board.serial {
        Some(serial) => {
            let baud = serial.baud;
            text.push_str(&format!("{baud} baud, 8 data bits, no parity, 1 stop bit, no flow control"));
            if let Some(connector) = &serial.connector {
                text.push_str(&format!(", at the connector {}", escaped(connector)));
            }
            text.push_str(&format!(":\n\n```sh\npicocom --baud {baud} /dev/ttyUSB0\n```\n\n"));
        }
        None => text.push_str(
            "The line is the one that the firmware speaks on, at the firmware's speed: this description does not know it.\n\n",
        ),
    }
    text.push_str(match &board.console {
        Some(_) => "The hypervisor speaks on it from its first instructions on.\n",
        None => "The hypervisor speaks on what `/chosen/stdout-path` of the device tree names, once it has read that.\n",
    });
    text.push_str("See [Serial consoles](../consoles.md) for the cable and for the keys.\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use vambrace_bsp::Catalog;

    fn page_of(id: &str) -> String {
        let catalog = Catalog::embedded().unwrap();
        let layouts = BTreeMap::from([("sunxi-mbr".to_owned(), "an MBR | and so on".to_owned())]);
        page(catalog.get(id).unwrap(), &["minimal".into()], &layouts)
    }

    #[test]
    fn a_board_with_a_card_says_how_to_flash_and_to_listen() {
        let text = page_of("bananapi");
        for part in [
            "# Banana Pi M1\n",
            "- never: the image is checked",
            "vambrace flash bananapi\n",
            "picocom --baud 115200",
            "at the connector J11",
            "on the image at byte 8192",
            "`sunxi-mbr`: an MBR \\| and so on",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("## In QEMU"), "{text}");
    }

    #[test]
    fn firmware_of_the_user_s_has_its_places() {
        let text = page_of("omap5-uevm");
        for part in [
            "MLO of your own, on the image as the file `MLO` or at byte 131072",
            "u-boot of your own, on the image as the file `u-boot.img` or at byte 393216",
            "a file of yours, named under \\[firmware\\]",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_machine_of_qemu_is_booted_and_not_flashed() {
        let text = page_of("qemu-arm64");
        assert!(text.contains("vambrace boot qemu-arm64:gicv3\n"), "{text}");
        assert!(!text.contains("vambrace flash") && !text.contains("picocom"), "{text}");
        assert!(page_of("rtsm-ve-armv8").contains("It takes a QEMU before 9.0"));
    }

    #[test]
    fn every_board_is_in_the_table_and_in_the_contents() {
        let catalog = Catalog::embedded().unwrap();
        let boards: Vec<&Board> = catalog.iter().map(|(_, board)| board.as_ref().unwrap()).collect();
        let (table, contents) = (table(&boards), contents(&boards));
        for board in boards {
            let link = format!("](boards/{}.md)", board.id);
            assert!(table.contains(&link) && contents.contains(&link), "{link}");
        }
    }
}
