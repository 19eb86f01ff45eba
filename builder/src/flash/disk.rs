//! The disks of this machine, as the kernel tells of them in `/sys/block`, and what each is used for.
//!
//! By the kernel's Documentation/ABI/stable/sysfs-block and Documentation/filesystems/proc.rst.

use crate::error::{Error, Result, ResultExt};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of the unit in which the kernel counts, whatever a medium's own blocks are.
const SECTOR: u64 = 512;
/// How deep devices can lie on each other: a file system on LVM on a cipher on a RAID has four.
const DEPTH: usize = 16;

/// Where the kernel tells of itself; another place in tests.
#[derive(Debug, Clone)]
pub struct Machine {
    sys: PathBuf,
    proc: PathBuf,
    dev: PathBuf,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// USB: a stick, a card reader, a case.
    Usb,
    /// A card in a slot of this machine.
    Sd,
    /// A chip that is soldered on, or something else that cannot be taken out.
    Fixed,
    /// No device: a loop device, a RAM disk.
    Virtual,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The kernel's name, such as `sdb`.
    pub name: String,
    /// Its node.
    pub path: PathBuf,
    /// Its size in bytes; 0 where a reader holds no medium.
    pub size: u64,
    /// Who made it, and what it is called.
    pub model: Option<String>,
    /// The serial number.
    pub serial: Option<String>,
    /// How it is attached.
    pub bus: Bus,
    /// Whether it is made to be taken out.
    pub removable: bool,
    /// Whether the kernel lets nobody write.
    pub read_only: bool,
    /// The number of its node, `MAJOR:MINOR`.
    pub number: String,
    /// What the kernel counts up with each medium that is put in, so that a card in another one's place is another disk.
    pub sequence: Option<String>,
    /// What it is used for, in words; empty where nobody uses it.
    pub uses: Vec<Use>,
}

/// Something that a disk is used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// In words, such as `/dev/sdb1 is mounted on /mnt`.
    pub what: String,
    /// Whether the running system is there.
    pub system: bool,
}

/// A mounted file system.
#[derive(Debug)]
struct Mount {
    number: String,
    source: PathBuf,
    place: String,
}

impl Default for Machine {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

impl Machine {
    /// The machine that is described below `root`.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Self {
        Self { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") }
    }

    /// All disks with something in them, but for RAM disks and what lies on other disks, in the order of their names.
    ///
    /// # Errors
    ///
    /// A kernel that does not tell.
    pub fn disks(&self) -> Result<Vec<Disk>> {
        let folder = self.sys.join("block");
        let mut names: Vec<String> = names(&folder).context_at(&folder, || "cannot list the disks")?;
        names.sort();
        let mut disks = Vec::new();
        for name in names {
            let layered = ["dm-", "md", "zram", "ram", "nbd", "loop", "sr", "fd"];
            if layered.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            match self.disk(&name) {
                Ok(disk) if disk.size == 0 => {}
                Ok(disk) => disks.push(disk),
                // It was pulled out meanwhile.
                Err(_) if !folder.join(&name).exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(disks)
    }

    /// The disk that a person means by `wanted`: a path of its node, or of a link to it, or its serial number.
    ///
    /// # Errors
    ///
    /// What is no disk, or a part of one.
    pub fn find(&self, wanted: &str) -> Result<Disk> {
        if !wanted.contains('/') {
            let disks = self.disks()?;
            let found: Vec<&Disk> =
                disks.iter().filter(|disk| disk.serial.as_deref() == Some(wanted)).collect();
            return match found.as_slice() {
                [one] => Ok((*one).clone()),
                [] => {
                    let error = Error::new(format!("no disk has the serial number `{wanted}`"));
                    let node = self.node(wanted);
                    Err(match node.exists() {
                        true => error.help(format!("a disk is named by its path: {}", node.display())),
                        false => error.help(listed(&disks)),
                    })
                }
                _ => Err(Error::new(format!("several disks have the serial number `{wanted}`"))
                    .help("name its path, such as /dev/sdb")),
            };
        }
        let path = Path::new(wanted);
        let meta = fs::metadata(path).context_at(path, || "cannot find the device")?;
        if !meta.file_type().is_block_device() {
            return Err(Error::new("this is no disk").at(path).help(listed(&self.disks()?)));
        }
        let device = meta.rdev();
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let place = self.sys.join("dev/block").join(&number);
        let place = fs::canonicalize(&place).context_at(path, || "the kernel does not know this disk")?;
        let name = file_name(&place);
        if place.join("partition").exists() {
            let whole = place.parent().map(file_name).unwrap_or_default();
            return Err(Error::new(format!("this is a partition of {}", self.node(&whole).display()))
                .at(path)
                .help("an image has partitions of its own: name the whole disk"));
        }
        self.disk(&name)
    }

    /// The disk with the kernel's name `name`.
    fn disk(&self, name: &str) -> Result<Disk> {
        let link = self.sys.join("block").join(name);
        let folder = fs::canonicalize(&link).context_at(&link, || "cannot find the disk")?;
        let sectors: u64 = read(&folder.join("size")).and_then(|text| text.parse().ok()).unwrap_or(0);
        let flag = |name: &str| read(&folder.join(name)).is_some_and(|text| text != "0");
        let device = folder.join("device");
        // The device's own folder, which may be far from the block device's.
        let device = fs::canonicalize(&device).unwrap_or(device);
        let usb = device.ancestors().find(|folder| folder.join("idVendor").exists());
        let text = |path: PathBuf| read(&path).filter(|text| !text.is_empty());
        let card = text(device.join("type")).is_some_and(|kind| kind == "SD");
        let bus = match () {
            () if usb.is_some() => Bus::Usb,
            () if card => Bus::Sd,
            () if folder.strip_prefix(&self.sys).is_ok_and(|path| path.starts_with("devices/virtual")) => {
                Bus::Virtual
            }
            () => Bus::Fixed,
        };
        let vendor = text(device.join("vendor")).filter(|vendor| !vendor.starts_with("0x"));
        let model = text(device.join("model")).or_else(|| text(device.join("name")));
        let model = match (vendor, model) {
            (Some(vendor), Some(model)) => Some(format!("{vendor} {model}")),
            (one, other) => other.or(one),
        };
        let serial = text(device.join("serial"))
            .or_else(|| text(folder.join("serial")))
            .or_else(|| text(usb?.join("serial")));
        let mut disk = Disk {
            name: name.to_owned(),
            path: self.node(name),
            size: sectors.saturating_mul(SECTOR),
            model,
            serial,
            bus,
            removable: flag("removable") || matches!(bus, Bus::Usb | Bus::Sd),
            read_only: flag("ro"),
            number: read(&folder.join("dev")).unwrap_or_default(),
            sequence: text(folder.join("diskseq")),
            uses: Vec::new(),
        };
        disk.uses = self.uses(&folder, &disk)?;
        Ok(disk)
    }

    /// The size of a block of the disk, in bytes: what is read or written past the cache is a multiple of it.
    pub(super) fn block_size(&self, disk: &Disk) -> usize {
        let path = self.sys.join("block").join(&disk.name).join("queue/logical_block_size");
        read(&path).and_then(|text| text.parse().ok()).unwrap_or(512)
    }

    /// The node of the device with this name. The kernel writes a slash as an exclamation mark.
    fn node(&self, name: &str) -> PathBuf {
        self.dev.join(name.replace('!', "/"))
    }

    /// What uses the disk at `folder`, one of its partitions, or anything that lies on them.
    fn uses(&self, folder: &Path, disk: &Disk) -> Result<Vec<Use>> {
        // Each device with its name: the disk, its partitions, and what lies on each.
        let mut layers = vec![(folder.to_path_buf(), disk.name.clone(), 0)];
        let mut devices: Vec<(String, String)> = Vec::new();
        let mut uses = Vec::new();
        while let Some((folder, name, depth)) = layers.pop() {
            let number = read(&folder.join("dev")).unwrap_or_default();
            if depth > DEPTH || devices.iter().any(|(known, _)| *known == name) {
                continue;
            }
            for part in names(&folder).unwrap_or_default() {
                if folder.join(&part).join("partition").exists() {
                    layers.push((folder.join(&part), part, depth));
                }
            }
            for holder in names(&folder.join("holders")).unwrap_or_default() {
                let place = self.sys.join("block").join(&holder);
                let called =
                    read(&place.join("dm/name")).map_or(String::new(), |called| format!(" ({called})"));
                let what = format!(
                    "{} is a part of {}{called}",
                    self.node(&name).display(),
                    self.node(&holder).display()
                );
                uses.push(Use { what, system: false });
                layers.push((place, holder, depth + 1));
            }
            devices.push((name, number));
        }
        for mount in self.mounts()? {
            let source = fs::canonicalize(&mount.source).unwrap_or(mount.source);
            // btrfs and others have a number of their own, and name their device.
            let found =
                devices.iter().find(|(name, number)| *number == mount.number || self.node(name) == source);
            if let Some((name, _)) = found {
                let system = ["/", "/boot", "/efi", "/usr", "/var", "/home", "/nix"].iter().any(|root| {
                    mount.place == *root || (root.len() > 1 && mount.place.starts_with(&format!("{root}/")))
                });
                let what = format!("{} is mounted on {}", self.node(name).display(), mount.place);
                uses.push(Use { what, system });
            }
        }
        let swaps = fs::read_to_string(self.proc.join("swaps")).unwrap_or_default();
        for line in swaps.lines().skip(1) {
            let path = PathBuf::from(unescaped(line.split_whitespace().next().unwrap_or_default()));
            let path = fs::canonicalize(&path).unwrap_or(path);
            if devices.iter().any(|(name, _)| self.node(name) == path) {
                uses.push(Use { what: format!("{} is swap space", path.display()), system: true });
            }
        }
        for other in names(&self.sys.join("block")).unwrap_or_default() {
            let backing = self.sys.join("block").join(&other).join("loop/backing_file");
            let Some(backing) = read(&backing).map(PathBuf::from) else { continue };
            if devices.iter().any(|(name, _)| self.node(name) == backing) {
                let what = format!("{} is what {} shows", backing.display(), self.node(&other).display());
                uses.push(Use { what, system: false });
            }
        }
        Ok(uses)
    }

    /// What is mounted. Without knowing that, nothing is known to be free.
    fn mounts(&self) -> Result<Vec<Mount>> {
        let path = self.proc.join("self/mountinfo");
        let text = fs::read(&path).context_at(&path, || "cannot find out what is mounted")?;
        let text = String::from_utf8_lossy(&text);
        let mount = |line: &str| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(2);
            let number = front.next()?.to_owned();
            let place = unescaped(front.nth(1)?).replace(char::is_control, "?");
            Some(Mount { number, place, source: unescaped(back.split(' ').nth(1)?).into() })
        };
        Ok(text.lines().filter_map(mount).collect())
    }
}

/// The disks that can be taken out, for a person to choose from.
pub(super) fn listed(disks: &[Disk]) -> String {
    let lines: Vec<String> =
        disks.iter().filter(|disk| disk.removable).map(|disk| format!("  {}", disk.line())).collect();
    if lines.is_empty() {
        return "no disk of this machine can be taken out: put a card or a stick in".to_owned();
    }
    format!("these can be taken out:\n{}", lines.join("\n"))
}

impl Disk {
    /// Path, model, size and serial number.
    pub fn line(&self) -> String {
        format!(
            "{}  {}  {}  serial {}",
            self.path.display(),
            self.model.as_deref().unwrap_or("(no model)"),
            crate::report::size(self.size),
            self.serial.as_deref().unwrap_or("(none)")
        )
    }
}

/// The content of a small file, without white space around it and without what would confuse a terminal.
fn read(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').replace(char::is_control, "?"))
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A field of mountinfo or swaps: space, tab, line end and backslash are three octal digits behind a backslash.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine made of files: a system disk, a stick, a card, a disk under LVM, a RAID half, an empty reader.
    pub(crate) fn machine() -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let disk = |name: &str, at: &str, number: &str, sectors: &str, removable: &str| {
            let folder = format!("sys/devices/{at}/block/{name}");
            for (field, text) in [("dev", number), ("size", sectors), ("removable", removable), ("ro", "0")] {
                file(&format!("{folder}/{field}"), &format!("{text}\n"));
            }
            file(&format!("{folder}/queue/logical_block_size"), "512\n");
            fs::create_dir_all(root.join("sys/block")).unwrap();
            symlink(root.join(&folder), root.join("sys/block").join(name)).unwrap();
            let device = root.join("sys/devices").join(at);
            symlink(device, root.join(&folder).join("device")).unwrap();
            folder
        };
        let part = |folder: &str, name: &str, number: &str| {
            file(&format!("{folder}/{name}/partition"), "1\n");
            file(&format!("{folder}/{name}/dev"), &format!("{number}\n"));
        };
        let sda = disk("sda", "pci/ata1/0:0:0:0", "8:0", "1000000", "0");
        part(&sda, "sda1", "8:1");
        part(&sda, "sda2", "8:2");
        let sdb = disk("sdb", "pci/usb1/1-2/1-2:1.0/host6/6:0:0:0", "8:16", "31116288", "1");
        part(&sdb, "sdb1", "8:17");
        file("sys/devices/pci/usb1/1-2/idVendor", "0781\n");
        file("sys/devices/pci/usb1/1-2/serial", "4C53000\n");
        file("sys/devices/pci/usb1/1-2/1-2:1.0/host6/6:0:0:0/vendor", "SanDisk \n");
        file("sys/devices/pci/usb1/1-2/1-2:1.0/host6/6:0:0:0/model", "Ultra\x1b[2J\n");
        disk("mmcblk0", "pci/mmc_host/mmc0/mmc0:aaaa", "179:0", "62333952", "0");
        file("sys/devices/pci/mmc_host/mmc0/mmc0:aaaa/type", "SD\n");
        file("sys/devices/pci/mmc_host/mmc0/mmc0:aaaa/name", "SC32G\n");
        file("sys/devices/pci/mmc_host/mmc0/mmc0:aaaa/serial", "0x1234abcd\n");
        let sdc = disk("sdc", "pci/ata2/1:0:0:0", "8:32", "2000000", "0");
        part(&sdc, "sdc1", "8:33");
        fs::create_dir_all(root.join(&sdc).join("sdc1/holders/dm-0")).unwrap();
        let mapped = disk("dm-0", "virtual/dm", "253:0", "1000", "0");
        file(&format!("{mapped}/dm/name"), "vg-data\n");
        disk("sdd", "pci/usb1/1-3/2:0:0:0", "8:48", "0", "1");
        disk("loop0", "virtual/loop", "7:0", "131072", "0");
        for name in ["sda", "sdb", "sdb1", "sdc1"] {
            file(&format!("dev/{name}"), "");
        }
        let base = root.display();
        file(
            "proc/self/mountinfo",
            &format!(
                "22 1 8:1 / / rw - ext4 {base}/dev/sda1 rw\n\
                 23 22 0:40 / /data\\040of\\040mine rw shared:1 - btrfs {base}/dev/sdb1 rw\n\
                 24 22 253:0 / /srv rw - ext4 /dev/mapper/vg-data rw\n\
                 garbage\n"
            ),
        );
        file("proc/swaps", &format!("Filename Type Size Used Priority\n{base}/dev/sda2 partition 1 0 -2\n"));
        let machine = Machine::below(root);
        (dir, machine)
    }

    /// The disk of that name.
    pub(crate) fn named(machine: &Machine, name: &str) -> Disk {
        machine.disk(name).unwrap()
    }

    #[test]
    fn disks_are_described() {
        let (dir, machine) = machine();
        let disks = machine.disks().unwrap();
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["mmcblk0", "sda", "sdb", "sdc"], "no empty reader, nothing that lies on others");
        let [card, system, stick, _] = &disks[..] else { panic!() };
        assert_eq!((card.bus, card.removable, card.model.as_deref()), (Bus::Sd, true, Some("SC32G")));
        assert_eq!((system.bus, system.removable, system.size), (Bus::Fixed, false, 512_000_000));
        assert_eq!((stick.bus, stick.removable, stick.serial.as_deref()), (Bus::Usb, true, Some("4C53000")));
        assert_eq!(stick.model.as_deref(), Some("SanDisk Ultra?[2J"), "a name does not talk to the terminal");
        assert_eq!(stick.path, dir.path().join("dev/sdb"));
        assert_eq!(named(&machine, "loop0").bus, Bus::Virtual);
        assert!(listed(&disks).contains("sdb") && !listed(&disks).contains("sda"));
    }

    #[test]
    fn what_is_used_is_known_through_every_layer() {
        let (_dir, machine) = machine();
        let uses = |name: &str| {
            let disk = named(&machine, name);
            disk.uses.iter().map(|one| format!("{} {}", one.what, one.system)).collect::<Vec<_>>().join("; ")
        };
        assert!(uses("sda").contains("sda1 is mounted on / true"), "{}", uses("sda"));
        assert!(uses("sda").contains("sda2 is swap space true"), "{}", uses("sda"));
        assert!(uses("sdb").contains("sdb1 is mounted on /data of mine false"), "{}", uses("sdb"));
        assert!(uses("sdc").contains("is a part of") && uses("sdc").contains("(vg-data)"), "{}", uses("sdc"));
        assert!(uses("sdc").contains("dm-0 is mounted on /srv"), "{}", uses("sdc"));
        assert_eq!(uses("mmcblk0"), "");
    }

    #[test]
    fn a_disk_is_found_by_its_serial_number() {
        let (_dir, machine) = machine();
        assert_eq!(machine.find("4C53000").unwrap().name, "sdb");
        let said = machine.find("4C5300").unwrap_err().report();
        assert!(said.contains("these can be taken out") && said.contains("SC32G"), "{said}");
        let said = machine.find("sdb1").unwrap_err().report();
        assert!(said.contains("named by its path: "), "{said}");
        assert!(machine.find("/dev/null").unwrap_err().report().contains("no disk"));
        assert!(machine.find("/nowhere/x").unwrap_err().report().contains("cannot find"));
    }

    #[test]
    fn what_cannot_be_known_is_no_permission() {
        let (dir, machine) = machine();
        fs::remove_file(dir.path().join("proc/self/mountinfo")).unwrap();
        assert!(machine.disk("mmcblk0").is_err());
    }

    #[test]
    fn escaped_fields_are_read() {
        assert_eq!(unescaped("a\\040b\\134\\11"), "a b\\\\11");
        assert_eq!(unescaped("\\777\\"), "\\777\\");
    }
}
