//! A layout with two slots, made of one that has its files once.

use super::{FOLDER, LISTING, SCRIPT, SlotName, State, path};
use crate::error::{Error, Result};
use crate::layout::{Content, File, Layout, SlotFile};
use vambrace_bsp::{Board, BootMethod, Method};

/// Whether something runs at each boot that can choose a slot.
///
/// # Errors
///
/// Nothing does with this boot method.
fn check_method(method: Method) -> Result<()> {
    if method == Method::Uboot {
        return Ok(());
    }
    Err(Error::new(format!(
        "there are no slots with the boot method {method}: nobody chooses between them before the hypervisor starts"
    ))
    .help("boot through U-Boot (--method uboot), or leave out --slots"))
}

/// The same for what starts `board` by `method`, which `boot` describes.
///
/// # Errors
///
/// Nothing does with this boot method, or it is too old for that.
pub(crate) fn check_slots(board: &Board, method: Method, boot: &BootMethod) -> Result<()> {
    check_method(method)?;
    if boot.old.is_none() {
        return Ok(());
    }
    let id = &board.id;
    Err(Error::new(format!("the U-Boot of {id} is too old for slots: it cannot note what it has tried"))
        .help("leave out --slots"))
}

/// `layout` with what is loaded in the folder of slot a, and the files that tell slots apart.
///
/// # Errors
///
/// A boot method without a script that could choose, and a layout whose files are not in the folder of slots.
pub fn with_slots(mut layout: Layout) -> Result<Layout> {
    check_method(layout.method)?;
    if layout.root().is_none() {
        return Err(Error::new(format!(
            "the layout `{}` has dom0's root file system in the ramdisk, and slots want it on the medium",
            layout.id
        ))
        .help("choose a layout with a root partition with --layout, or leave out --slots"));
    }
    let (index, _) = layout
        .find(Content::BootScript)
        .ok_or_else(|| Error::new(format!("the layout `{}` has no boot script", layout.id)))?;
    let id = layout.id.clone();
    for (number, partition) in layout.partitions.iter_mut().enumerate() {
        for file in partition.files.iter_mut().filter(|file| file.content != Content::BootScript) {
            let name = file.path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
            let Some(name) = name.filter(|_| number == index) else {
                return Err(Error::new(format!(
                    "in the layout `{id}`, {} is not in the folder {FOLDER} beside the boot script",
                    file.path
                ))
                .help("slots are in that folder: put it there, or leave out --slots"));
            };
            file.path = path(SlotName::A, name);
        }
        if number == index {
            let [good, copy] = State::GOOD_PATHS;
            let added = [
                (path(SlotName::A, SCRIPT), SlotFile::Script),
                (path(SlotName::A, LISTING), SlotFile::Listing),
                (good.to_owned(), SlotFile::Good),
                (copy.to_owned(), SlotFile::Good),
                (State::TRIAL_PATH.to_owned(), SlotFile::Trial),
            ];
            partition.files.extend(added.map(|(path, file)| File { path, content: Content::Slot(file) }));
        }
    }
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_move_into_the_first_slot() {
        let text = include_str!("../../../images/gpt-uboot-root.toml");
        let layout = with_slots(Layout::parse("l", text, "gpt-uboot-root").unwrap()).unwrap();
        let place = |content| layout.find(content).map(|(_, path)| path);
        assert_eq!(place(Content::BootScript), Some("boot.scr"));
        assert_eq!(place(Content::Hypervisor), Some("vambrace/a/hypervisor.bin"));
        assert_eq!(place(Content::Slot(SlotFile::Script)), Some("vambrace/a/slot.scr"));
        assert_eq!(place(Content::Slot(SlotFile::Trial)), Some("vambrace/trial"));
    }

    #[test]
    fn layouts_without_a_choice_are_refused() {
        let said = |text: &str, id| {
            let layout = Layout::parse("l", text, id).unwrap();
            with_slots(layout).unwrap_err().report()
        };
        let uefi = said(include_str!("../../../images/gpt-uefi.toml"), "gpt-uefi");
        assert!(uefi.contains("no slots with the boot method uefi") && uefi.contains("--method"), "{uefi}");
        let direct = said(include_str!("../../../images/gpt-direct.toml"), "gpt-direct");
        assert!(direct.contains("method direct"), "{direct}");
        let ramdisk = said(include_str!("../../../images/gpt-uboot.toml"), "gpt-uboot");
        assert!(ramdisk.contains("in the ramdisk"), "{ramdisk}");
        let text = include_str!("../../../images/gpt-uboot-root.toml").replace("vambrace/kernel", "kernel");
        assert!(said(&text, "gpt-uboot-root").contains("not in the folder"), "{text}");
    }
}
