//! systemd-boot's entries: files of a few lines, and unified kernel images.
//!
//! By the Boot Loader Specification of the UAPI group, and loader.conf(5) of systemd.

use super::super::fault::Fault;
use super::super::script;
use super::super::volume::Volume;
use super::{Medium, Place, Verdict};
use std::cmp::Reverse;

/// Where the two kinds lie, with their files' endings.
const PLACES: [(&str, &str); 2] = [("loader/entries", ".conf"), ("efi/linux", ".efi")];
/// A pattern longer than this is none.
const LONGEST: usize = 255;

/// An entry.
struct Entry<'a> {
    place: &'a Place<'a>,
    path: String,
    name: String,
}

impl Entry<'_> {
    /// Before others comes what has tries left, then what has the later name.
    fn order(&self) -> (bool, Reverse<&str>) {
        let stem = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem);
        let tries = stem.rsplit_once('+').map(|(_, tries)| tries.split('-').next().unwrap_or_default());
        (
            tries.is_some_and(|tries| !tries.is_empty() && tries.bytes().all(|digit| digit == b'0')),
            Reverse(&self.name),
        )
    }
}

impl Medium<'_> {
    /// What systemd-boot, which was started from `own`, starts when nobody chooses.
    pub(super) fn systemd_boot(&self, own: &Place<'_>, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for place in &self.places {
            let Some(volume @ Volume::Fat(_)) = place.volume else { continue };
            let Ok((listed, _)) = volume.list() else { continue };
            for file in listed.into_iter().filter(|file| !file.folder) {
                let Some((folder, name)) = file.path.rsplit_once('/') else { continue };
                let (folder, name) = (folder.to_ascii_lowercase(), name.to_ascii_lowercase());
                if PLACES.iter().any(|(place, ending)| *place == folder && name.ends_with(ending)) {
                    entries.push(Entry { place, path: file.path, name });
                }
            }
        }
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        let config = own.text("loader/loader.conf").unwrap_or_default();
        let default = config.lines().filter_map(|line| line.trim().strip_prefix("default")).next_back();
        let default = default.map(|pattern| pattern.trim().to_ascii_lowercase()).unwrap_or_default();
        let wanted = |entry: &&Entry<'_>| {
            let stem = entry.name.rsplit_once('.').map_or("", |(stem, _)| stem);
            matches(&default, &entry.name) || matches(&default, stem)
        };
        let Some(entry) = entries.iter().find(wanted).or(entries.first()) else {
            let what =
                "it finds nothing to start: neither loader/entries/*.conf nor EFI/Linux/*.efi is there";
            verdict.fails(Fault::error(own.at("loader/entries"), what).help("add an entry"), faults);
            return;
        };
        let at = entry.place.at(&entry.path);
        if entry.name.ends_with(".efi") {
            if let Some(file) = entry.place.file(&entry.path) {
                self.started(&file, "", None, verdict, faults);
            }
            return;
        }
        let text = entry.place.text(&entry.path).unwrap_or_default();
        let choice = script::loader_entry(&text);
        let label = if choice.label.is_empty() { entry.name.clone() } else { choice.label.clone() };
        verdict.step(format!("systemd-boot's entry `{label}`"), at);
        self.choice(entry.place, &entry.path, &choice, None, verdict, faults);
    }
}

/// Whether `name` is one that `pattern` stands for, in which `*` is anything and `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern.is_empty() || pattern.len() > LONGEST || name.len() > LONGEST {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Whether the pattern so far stands for the first so many characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        let mut next = vec![false; name.len() + 1];
        let first = reached.iter().position(|&reached| reached);
        for (index, slot) in next.iter_mut().enumerate() {
            let before = index.checked_sub(1);
            *slot = match wanted {
                '*' => first.is_some_and(|first| first <= index),
                '?' => before.is_some_and(|before| reached[before]),
                c => before.is_some_and(|before| reached[before] && name[before] == c),
            };
        }
        reached = next;
        if !reached.contains(&true) {
            return false;
        }
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{errors, kernel, of_files};
    use super::*;

    /// systemd-boot by its mark, in what PE calls a program for 64-bit ARM.
    fn loader() -> Vec<u8> {
        let mut loader = vec![0; 1024];
        loader[..2].copy_from_slice(b"MZ");
        loader[60] = 128;
        loader[128..134].copy_from_slice(b"PE\0\0\x64\xaa");
        loader[512..538].copy_from_slice(b"#### LoaderInfo: systemd-b");
        loader[517..].iter_mut().zip(b"LoaderInfo: systemd-boot 257 ####").for_each(|(to, from)| *to = *from);
        loader
    }

    fn started(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let mut all = vec![("EFI/BOOT/BOOTAA64.EFI".to_owned(), loader()), ("linux".to_owned(), kernel())];
        all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
        let account = of_files(all);
        let verdict = account.verdicts.iter().find(|verdict| verdict.way == "UEFI firmware").unwrap();
        (verdict.steps.iter().map(|step| step.what.clone()).collect(), errors(&account))
    }

    #[test]
    fn an_entry_is_chosen_as_systemd_boot_does() {
        let old = ("loader/entries/a-1.conf", "title Old\nlinux /linux\n");
        let new = ("loader/entries/a-2.conf", "# x\ntitle   New one\nlinux linux\ninitrd /no\n");
        let failed = ("loader/entries/z+0-3.conf", "title Failed\nlinux /linux\n");
        let (steps, faults) = started(&[old]);
        assert!(steps.iter().any(|step| step == "systemd-boot's entry `Old`"), "{steps:?}");
        assert!(
            steps.last().unwrap().starts_with("kernel Linux") && faults.is_empty(),
            "{steps:?} {faults:?}"
        );
        let (steps, faults) = started(&[old, new, failed]);
        assert!(steps.iter().any(|step| step.ends_with("`New one`")), "{steps:?}");
        assert!(faults.iter().any(|fault| fault.contains("`/no`, which is not there")), "{faults:?}");
        let (steps, faults) = started(&[old, new, ("loader/loader.conf", "timeout 3\ndefault a-1*\n")]);
        assert!(steps.iter().any(|step| step.ends_with("`Old`")) && faults.is_empty(), "{steps:?}");
        let (_, faults) = started(&[]);
        assert!(faults.iter().any(|fault| fault.contains("nothing to start")), "{faults:?}");
    }

    #[test]
    fn patterns_are_matched_whole() {
        for (pattern, name, wanted) in [
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*", "x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", false),
            ("abc", "abc", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
