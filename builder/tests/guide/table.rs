//! The table of boards in the README, against their descriptions.

use crate::page::root;
use std::collections::BTreeMap;
use std::fs;
use vambrace_bsp::{Board, Catalog, Method};

/// The cells of the table's lines, by the boards that a line names.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().skip_while(|line| !line.starts_with("| board |")).skip(2) {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { break };
        let cells: Vec<String> = cells.split(" | ").map(str::to_owned).collect();
        for id in cells[0].split(", ") {
            let id = id.trim_matches('`').to_owned();
            assert!(rows.insert(id.clone(), cells.clone()).is_none(), "{id} is there twice");
        }
    }
    rows
}

fn boots_by(board: &Board, method: Method) -> bool {
    board.boot.contains_key(&method)
}

#[test]
fn the_readme_says_of_each_board_what_its_description_says() {
    let catalog = Catalog::embedded().unwrap();
    let rows = rows();
    assert_eq!(rows.keys().map(String::as_str).collect::<Vec<_>>(), catalog.ids().collect::<Vec<_>>());
    for (id, board) in catalog.iter() {
        let (board, row) = (board.as_ref().unwrap(), &rows[id]);
        let [_, machine, boots, verified] = row.as_slice() else { panic!("{id}: {row:?}") };
        assert_eq!(verified.contains("never booted"), board.never_booted(), "{id}: {verified}");
        assert_eq!(verified.contains("QEMU"), !board.never_booted(), "{id}: {verified}");
        assert_eq!(boots.contains("UEFI"), boots_by(board, Method::Uefi), "{id}: {boots}");
        assert_eq!(boots.contains("`-kernel`"), boots_by(board, Method::Direct), "{id}: {boots}");
        let on_card = board.firmware.values().any(vambrace_bsp::Firmware::is_on_medium);
        assert_eq!(boots.contains("on the card"), on_card, "{id}: {boots}");
        // The chip, by the last word of what the description calls it: "Allwinner H3" is a SunXi H3 there.
        let chip = board.soc.rsplit(' ').next().unwrap();
        assert!(
            machine.contains(chip) || board.soc == "any" || machine.contains(&board.vendor),
            "{id}: {machine}"
        );
    }
}
