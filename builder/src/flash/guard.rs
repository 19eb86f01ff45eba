//! What keeps an image off the wrong disk.

use super::disk::{Bus, Disk, Machine, listed};
use crate::error::{Error, Result};
use crate::report::size;
use clap::ValueEnum;

/// A reason for which a disk is refused until somebody says that it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reason {
    /// A disk that cannot be taken out
    Fixed,
    /// A disk that is larger than --limit
    Large,
}

/// What is taken without a word, and what somebody has said a word for.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// The size in bytes above which a disk is large.
    pub(super) limit: u64,
    /// What is meant nevertheless.
    pub(super) allowed: Vec<Reason>,
}

impl Guard {
    /// The disk that `wanted` names, or the only one that can be taken out.
    ///
    /// # Errors
    ///
    /// None, or several.
    pub(super) fn choose(machine: &Machine, wanted: Option<&str>) -> Result<Disk> {
        if let Some(wanted) = wanted {
            return machine.find(wanted);
        }
        let disks = machine.disks()?;
        let mut removable = disks.iter().filter(|disk| disk.removable);
        match (removable.next(), removable.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Err(Error::new("there is no disk that can be taken out")
                .help("put a card or a stick in, or name a disk, such as /dev/sdb")),
            _ => Err(Error::new("which disk is meant? there are several that can be taken out")
                .help(format!("name its path or its serial number; {}", listed(&disks)))),
        }
    }

    /// Lets `disk` pass.
    ///
    /// # Errors
    ///
    /// The reason for which it is refused.
    pub(super) fn check(&self, disk: &Disk) -> Result<()> {
        let refused = |why: String| Err(Error::new(why).at(&disk.path));
        if disk.size == 0 {
            return refused("there is no medium in it".into());
        }
        if !disk.uses.is_empty() {
            let system = disk.uses.iter().any(|one| one.system);
            let uses: Vec<&str> = disk.uses.iter().map(|one| one.what.as_str()).collect();
            let error = Error::new(format!("this disk is in use: {}", uses.join("; "))).at(&disk.path);
            return Err(match system {
                true => error.help("the running system is on it: nothing makes `vambrace flash` write there"),
                false => error.help(
                    "if it is the right one, give it free: unmount what is mounted, end swapping, RAID, LVM or cipher on it",
                ),
            });
        }
        if disk.read_only {
            return refused("this disk is read-only: look for a switch on the card or its adapter".into());
        }
        if !disk.removable && !self.allowed.contains(&Reason::Fixed) {
            let kind =
                if disk.bus == Bus::Virtual { "a disk without a device" } else { "built into this machine" };
            return Err(Error::new(format!("this is {kind}, no card and no stick: {}", disk.line()))
                .at(&disk.path)
                .help("if it is meant, say so with `--allow fixed`"));
        }
        if disk.size > self.limit && !self.allowed.contains(&Reason::Large) {
            return Err(Error::new(format!(
                "this disk is larger than {}, which few cards are: {}",
                size(self.limit),
                disk.line()
            ))
            .at(&disk.path)
            .help("if it is meant, say so with `--allow large`, or name another `--limit`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::tests::{machine, named};
    use super::*;

    fn refused(guard: &Guard, disk: &Disk, why: &str) {
        let said = guard.check(disk).unwrap_err().report();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn only_a_free_removable_disk_of_a_usual_size_passes() {
        let (_dir, machine) = machine();
        let guard = Guard { limit: 64 << 30, allowed: Vec::new() };
        let card = named(&machine, "mmcblk0");
        guard.check(&card).unwrap();
        refused(&guard, &Disk { read_only: true, ..card.clone() }, "read-only");
        refused(&guard, &Disk { size: 0, ..card.clone() }, "no medium");
        refused(&guard, &Disk { size: 65 << 30, ..card.clone() }, "--allow large");
        refused(&guard, &Disk { removable: false, ..card }, "--allow fixed");
        refused(&guard, &named(&machine, "sdb"), "unmount what is mounted");
        refused(&guard, &named(&machine, "sda"), "the running system is on it");
        refused(&guard, &named(&machine, "loop0"), "without a device");
    }

    #[test]
    fn no_word_opens_a_disk_that_is_in_use() {
        let (_dir, machine) = machine();
        let guard = Guard { limit: 64 << 30, allowed: vec![Reason::Fixed, Reason::Large] };
        for name in ["sda", "sdb", "sdc"] {
            refused(&guard, &named(&machine, name), "in use");
        }
        guard.check(&named(&machine, "loop0")).unwrap();
        guard.check(&Disk { size: 1 << 40, removable: false, ..named(&machine, "mmcblk0") }).unwrap();
    }

    #[test]
    fn the_only_removable_disk_is_taken_and_of_two_none() {
        let (dir, machine) = machine();
        let said = Guard::choose(&machine, None).unwrap_err().report();
        assert!(said.contains("several") && said.contains("4C53000") && said.contains("SC32G"), "{said}");
        std::fs::remove_file(dir.path().join("sys/block/sdb")).unwrap();
        assert_eq!(Guard::choose(&machine, None).unwrap().name, "mmcblk0");
        std::fs::remove_file(dir.path().join("sys/block/mmcblk0")).unwrap();
        assert!(
            Guard::choose(&machine, None).unwrap_err().report().contains("no disk that can be taken out")
        );
        assert_eq!(
            Guard::choose(&machine, Some("0x1234abcd")).unwrap_err().what(),
            "no disk has the serial number `0x1234abcd`"
        );
    }
}
