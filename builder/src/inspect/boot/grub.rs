//! GRUB: where it looks for its configuration, and what that starts.
//!
//! What is appended to its core is by GRUB's include/grub/kernel.h.

use super::super::fault::Fault;
use super::super::script::{self, is_plain};
use super::super::thing::MOST;
use super::{File, Medium, Place, Verdict};
use crate::bytes::{find, u32_at, u64_at};

/// Where GRUB's configuration is met, beside the place that it has inside.
const CONFIGS: [&str; 6] = [
    "EFI/BOOT/grub.cfg",
    "EFI/debian/grub.cfg",
    "EFI/ubuntu/grub.cfg",
    "boot/grub/grub.cfg",
    "grub/grub.cfg",
    "boot/grub2/grub.cfg",
];
/// What shim starts, beside itself: GRUB, or what finds the way to it.
const BESIDE_SHIM: [&str; 4] = ["grubaa64.efi", "fbaa64.efi", "grubarm.efi", "fbarm.efi"];
/// What begins the list of what is appended, and the kind of what is looked for there.
const APPENDED: &[u8] = b"mimg";
const PREFIX: u32 = 3;
/// Places that are tried, and objects that are followed in each; GRUB has one and some 130.
const MOST_LISTS: usize = 8;
const MOST_OBJECTS: usize = 2000;

/// The folder in which GRUB's core looks for its configuration: on the medium that it was loaded from, if no other is
/// named.
fn prefix(bytes: &[u8]) -> Option<String> {
    let mut from = 0;
    for _ in 0..MOST_LISTS {
        from += find(bytes.get(from..)?, APPENDED)?;
        let prefix = prefix_in(bytes.get(from..)?).filter(|prefix| prefix.starts_with('/'));
        if prefix.is_some() {
            return prefix;
        }
        from += APPENDED.len();
    }
    None
}

fn prefix_in(list: &[u8]) -> Option<String> {
    // With 64-bit sizes a word of padding comes first.
    let offset = match u32_at(list, 4)? {
        0 => usize::try_from(u64_at(list, 8)?).ok()?,
        offset => usize::try_from(offset).ok()?,
    };
    let mut at = offset;
    for _ in 0..MOST_OBJECTS {
        let size = usize::try_from(u32_at(list, at.checked_add(4)?)?).ok()?;
        let object = list.get(at..at.checked_add(size)?)?.get(8..)?;
        if u32_at(list, at)? == PREFIX {
            let end = object.iter().position(|&byte| byte == 0)?;
            return String::from_utf8(object.get(..end)?.to_vec()).ok();
        }
        at += size;
    }
    None
}

impl Medium<'_> {
    /// What shim at `path` starts.
    pub(super) fn shim(
        &self,
        place: &Place<'_>,
        path: &str,
        file: &File,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let paths = BESIDE_SHIM.map(|name| format!("{folder}/{name}"));
        match paths.iter().find_map(|path| Some((path, place.file(path)?))) {
            Some((path, next)) => {
                self.started(&next, "", file.thing.cpu, verdict, faults);
                self.grub(place, path, verdict, faults);
            }
            None => {
                let fault = Fault::error(file.at.clone(), "what shim starts is not beside it: grubaa64.efi");
                verdict.fails(fault.help("copy it there, under this name"), faults);
            }
        }
    }

    /// The configuration of GRUB, which is at `path`, wherever it is. Its paths count from a partition that it finds when it
    /// runs.
    pub(super) fn grub(&self, place: &Place<'_>, path: &str, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
        let core = place.volume.and_then(|volume| volume.find(path)?.read(MOST).ok());
        let own = core
            .and_then(|core| prefix(&core))
            .map(|prefix| format!("{}/grub.cfg", prefix.trim_matches('/')));
        let own = own.into_iter().filter_map(|path| Some((place, path.clone(), place.text(&path)?)));
        let found = own.chain(self.places.iter().flat_map(|place| {
            CONFIGS.iter().filter_map(move |path| Some((place, (*path).to_owned(), place.text(path)?)))
        }));
        let mut configured = false;
        for (place, path, text) in found {
            configured = true;
            let Some(choice) = script::grub(&text) else { continue };
            verdict.step(format!("GRUB's entry `{}`", choice.label), place.at(&path));
            let kernel = choice.kernel.as_deref().unwrap_or_default();
            let all = std::iter::once(kernel).chain(choice.others.iter().map(String::as_str));
            let mut started: Option<File> = None;
            for name in all.filter(|name| is_plain(name)) {
                let file = self.places.iter().find_map(|place| place.file(name));
                match (file, &started) {
                    (Some(file), None) => {
                        self.started(&file, "", None, verdict, faults);
                        started = Some(file);
                    }
                    (Some(file), Some(started)) => self.beside(started, &file, verdict, faults),
                    (None, _) => faults.push(Fault::warning(
                        place.at(&path),
                        format!("it names `{name}`, which is on none of the partitions"),
                    )),
                }
            }
            return;
        }
        if !configured {
            faults.push(Fault::note(
                "GRUB",
                "no configuration of its own was found: it has one inside, or stops at its prompt",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A core with these objects behind it.
    fn core(wide: bool, objects: &[(u32, &[u8])]) -> Vec<u8> {
        let mut core = b"GNU GRUB mimg".to_vec();
        core.extend_from_slice(APPENDED);
        match wide {
            true => core.extend([0, 24, 0, 99, 0].iter().flat_map(|word: &u32| word.to_le_bytes())),
            false => core.extend([12, 99].iter().flat_map(|word: &u32| word.to_le_bytes())),
        }
        for (kind, data) in objects {
            core.extend(kind.to_le_bytes());
            core.extend(u32::try_from(data.len() + 8).unwrap().to_le_bytes());
            core.extend_from_slice(data);
        }
        core
    }

    #[test]
    fn the_place_that_grub_has_inside_is_found() {
        let objects: [(u32, &[u8]); 3] = [(0, b"module"), (2, b"config\0"), (PREFIX, b"/a/b\0\0\0\0")];
        for wide in [false, true] {
            assert_eq!(prefix(&core(wide, &objects)).as_deref(), Some("/a/b"));
            assert_eq!(prefix(&core(wide, &objects[..2])), None);
            assert_eq!(prefix(&core(wide, &[(PREFIX, b"(memdisk)/x\0")])), None);
            assert_eq!(prefix(&core(wide, &[(PREFIX, b"/no end")])), None);
        }
        // An object without a size leads nowhere.
        let mut circle = core(true, &[(0, b"")]);
        let size = circle.len() - 4;
        circle[size..].fill(0);
        assert_eq!(prefix(&circle), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(wide: bool, at in 13_usize..80, value: u8, kind in 0_u32..5) {
            let mut core = core(wide, &[(0, b"module"), (kind, b"/a\0")]);
            if let Some(byte) = core.get_mut(at) {
                *byte = value;
            }
            let _ = prefix(&core);
        }
    }
}
