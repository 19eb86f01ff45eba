//! The board's firmware on the medium: where each file comes from, where a layout has it, and whether it is what the board's
//! ROM and U-Boot's first stage take.
//!
//! ```text
//!   board.toml: package, or a file beside it --+
//!   [firmware] NAME = "FILE" -----------------+--> FirmwareSource --> Part --> checked --> a file on FAT, or raw at its offset
//! ```

use crate::config::ImageConfig;
use crate::error::{Error, Result};
use crate::inspect::{Kind, Mlo, look_at, sunxi_spl};
use crate::layout::{Content, File, Filesystem, FirmwarePlace, Layout};
use crate::tree::Data;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vambrace_bsp::{Board, BootMethod, Firmware, FirmwareFormat, Origin, did_you_mean};

/// More than any firmware has; what is longer is not read to be looked at.
const MOST: u64 = 64 << 20;
/// What U-Boot's legacy images and FITs begin with.
const UBOOT_MAGICS: [[u8; 4]; 2] = [[0x27, 0x05, 0x19, 0x56], [0xd0, 0x0d, 0xfe, 0xed]];

/// Where a firmware file is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareSource {
    /// A Debian package.
    Package {
        /// The package's name.
        package: String,
        /// Debian's name of its architecture.
        arch: String,
        /// The absolute path in the package.
        path: String,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The field of the image's description that names it; `None` where the board's description does.
        field: Option<String>,
    },
}

impl FirmwareSource {
    /// Where it comes from, in a few words.
    pub fn what(&self) -> String {
        match self {
            Self::Package { package, .. } => package.clone(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }
}

/// The firmware of `boot`, by name, as far as somebody has it: what is the user's to name is there if `config` names it.
///
/// # Errors
///
/// A name that the boot method has no firmware of; some of the user's files without the others.
pub(crate) fn sources(
    board: &Board,
    boot: &BootMethod,
    folder: &Path,
    config: &ImageConfig,
) -> Result<BTreeMap<String, FirmwareSource>> {
    if let Some(name) = config.firmware.keys().find(|name| !boot.firmware.contains(name)) {
        let text = format!("{} takes no firmware called `{}`", board.id, name.escape_default());
        let error = config.at(&format!("firmware.{name}"), text);
        return Err(if boot.firmware.is_empty() {
            error.help("it starts from firmware of its own, which this builder knows nothing of")
        } else {
            error.help(did_you_mean(name, boot.firmware.iter().map(String::as_str)))
        });
    }
    let mut sources = BTreeMap::new();
    let mut missing = Vec::new();
    for name in &boot.firmware {
        let Some(firmware) = board.firmware.get(name) else {
            return Err(Error::new(format!("{} has no firmware called `{name}`", board.id)));
        };
        let source = match (config.firmware.get(name), firmware.origin()) {
            (Some(path), _) => {
                FirmwareSource::File { path: config.dir.join(path), field: Some(format!("firmware.{name}")) }
            }
            (None, Origin::Package { package, path }) => FirmwareSource::Package {
                package: package.to_owned(),
                arch: firmware.architecture.clone().unwrap_or_else(|| board.architecture.debian().to_owned()),
                path: path.to_owned(),
            },
            (None, Origin::Beside { path }) => FirmwareSource::File { path: folder.join(path), field: None },
            (None, Origin::User) => {
                missing.push(name.as_str());
                continue;
            }
        };
        sources.insert(name.clone(), source);
    }
    // QEMU's is not on the medium.
    let on_medium = |name: &&String| board.firmware.get(*name).is_some_and(Firmware::is_on_medium);
    if let (Some(has), Some(first)) = (sources.keys().find(on_medium), missing.first()) {
        let text =
            format!("`{has}` alone does not boot {}: `{}` is not named", board.id, missing.join("`, `"));
        let help = format!("name it too, `{first} = \"FILE\"` under [firmware], or neither of them");
        return Err(config.at(&format!("firmware.{has}"), text).help(help));
    }
    Ok(sources)
}

/// `layout` with the files that the board's ROM reads, where it is one with files: `names` are those of the firmware that
/// is on the medium.
///
/// # Errors
///
/// Firmware that the layout has no place for.
pub(crate) fn with_firmware(mut layout: Layout, board: &Board, names: &[String]) -> Result<Layout> {
    for (index, name) in names.iter().enumerate() {
        let Some(firmware) = board.firmware.get(name) else { continue };
        let path = firmware.file.as_ref().filter(|_| layout.firmware == FirmwarePlace::Files);
        let Some(path) = path else {
            // QEMU's is not on the medium.
            if firmware.offset.is_none() && firmware.file.is_some() {
                let text = format!("the layout `{}` has no place for {}'s `{name}`", layout.id, board.id);
                return Err(Error::new(text).help(
                    "its ROM reads it as a file: choose a layout whose firmware is in files, with --layout",
                ));
            }
            continue;
        };
        let id = layout.id.clone();
        let partition = layout.partitions.iter_mut().find(|partition| partition.takes_firmware());
        let partition =
            partition.ok_or_else(|| Error::new(format!("the layout `{id}` has no marked FAT partition")))?;
        if let Some(other) = partition.files.iter().find(|file| file.path.eq_ignore_ascii_case(path)) {
            let text =
                format!("in the layout `{id}`, `{}` is where {}'s ROM reads `{name}`", other.path, board.id);
            return Err(Error::new(text).help("give the layout's file another name"));
        }
        partition.files.push(File { path: path.clone(), content: Content::Firmware(index) });
    }
    Ok(layout)
}

impl crate::layout::Partition {
    /// Whether a ROM that reads files finds them there.
    pub(crate) fn takes_firmware(&self) -> bool {
        self.bootable && self.filesystem == Filesystem::Fat32
    }
}

/// Checks that `data` is what `firmware` has to be. `as_file` says whether it lies in a file system, and not raw.
///
/// # Errors
///
/// Data of another form, or for another board, with what it should be.
pub(crate) fn check(firmware: &Firmware, data: &Data, as_file: bool) -> Result<()> {
    let Some(format) = firmware.format else { return Ok(()) };
    let bytes = data.bytes(MOST)?;
    match format {
        FirmwareFormat::Mlo => mlo(firmware, &bytes, as_file),
        FirmwareFormat::UBootImage => uboot_image(&bytes),
        FirmwareFormat::Egon => egon(&bytes),
    }
}

/// An MLO: the ROM finds it by its headers, and copies as much as they say to where they say.
fn mlo(firmware: &Firmware, bytes: &[u8], as_file: bool) -> Result<()> {
    const HELP: &str = "MLO is the file of that name from U-Boot's build for the board: SPL behind TI's headers, which \
                        u-boot.bin and u-boot-spl.bin do not have";
    let size = bytes.len() as u64;
    let bare = || {
        Mlo::without_table(bytes, size).filter(|mlo| firmware.memory.is_some_and(|to| to.base <= mlo.address))
    };
    let Some(mlo) = Mlo::with_table(bytes).or_else(bare) else {
        return Err(Error::new(format!("it is no MLO: it is {}", look_at(bytes).what)).help(HELP));
    };
    if !mlo.table && !as_file {
        let text = "it is an MLO without a table of contents (`CHSETTINGS`), by which the ROM finds one outside of file systems";
        return Err(
            Error::new(text).help("take U-Boot's own MLO, or a layout that has it in a file (--layout)")
        );
    }
    if let Some(wrong) = mlo.fault(size) {
        return Err(Error::new(format!("it is a damaged MLO: {wrong}")).help("get it or make it again"));
    }
    let Some(window) = &firmware.memory else { return Ok(()) };
    let (from, to) = (window.base, window.end());
    let end = mlo.address.saturating_add(mlo.code);
    if !(from..to).contains(&mlo.address) {
        let text = format!(
            "it is an MLO for another chip: it loads to {:#x}, outside of {from:#x} to {to:#x}",
            mlo.address
        );
        return Err(Error::new(text).help("take the one that U-Boot's build for this board makes"));
    }
    if end > to {
        let text = format!(
            "this MLO does not fit the chip's memory: from {:#x} it reaches to {end:#x}, and the ROM loads up to {to:#x}",
            mlo.address
        );
        return Err(Error::new(text).help("take the one that U-Boot's build for this board makes"));
    }
    Ok(())
}

/// U-Boot with a header that its first stage reads.
fn uboot_image(bytes: &[u8]) -> Result<()> {
    const HELP: &str = "u-boot.img is the file of that name from U-Boot's build for the board; u-boot.bin has no header that MLO reads";
    let thing = look_at(bytes);
    let known = UBOOT_MAGICS.iter().any(|magic| bytes.starts_with(magic));
    if !known || thing.kind != Kind::Firmware {
        return Err(Error::new(format!("it is no image of U-Boot: it is {}", thing.what)).help(HELP));
    }
    if let Some(wrong) = thing.what_is_wrong() {
        return Err(
            Error::new(format!("it is a damaged image of U-Boot: {wrong}")).help("get it or make it again")
        );
    }
    if let Some(cpu) = thing.cpu.filter(|cpu| *cpu != crate::inspect::Cpu::Arm) {
        return Err(
            Error::new(format!("it is a U-Boot for {}, and MLO runs on 32-bit ARM", cpu.name())).help(HELP)
        );
    }
    Ok(())
}

/// A first stage for Allwinner's boot ROM, with U-Boot behind it.
fn egon(bytes: &[u8]) -> Result<()> {
    const HELP: &str =
        "take u-boot-sunxi-with-spl.bin of U-Boot's build for the board: U-Boot behind its first stage";
    let Some(spl) = sunxi_spl(bytes) else {
        let what = look_at(bytes).what;
        return Err(Error::new(format!("it is no first stage for SunXi: it is {what}")).help(HELP));
    };
    if let Some(wrong) = spl.what_is_wrong() {
        let text = format!("it is a damaged first stage for SunXi: {wrong}");
        return Err(Error::new(text).help("get it or make it again"));
    }
    if bytes.len() as u64 <= spl.size {
        return Err(Error::new("it is a first stage for SunXi alone, with no U-Boot behind it").help(HELP));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::spl;
    use crate::ti::{mlo as made, uboot};
    use crate::uboot::kernel_image;
    use vambrace_bsp::{Architecture, Catalog};

    fn board() -> Board {
        Catalog::embedded().unwrap().get("omap5-uevm").unwrap().clone()
    }

    fn of(text: &str) -> Result<BTreeMap<String, FirmwareSource>> {
        let board = board();
        let mut config = ImageConfig::parse("my.toml", text).unwrap();
        config.dir = "my".into();
        sources(&board, board.method(None).unwrap().1, Path::new("boards/x"), &config)
    }

    #[test]
    fn the_user_names_all_of_it_or_nothing() {
        assert_eq!(of("").unwrap(), BTreeMap::new());
        let both = of("[firmware]\nMLO = \"a/MLO\"\nu-boot = \"u-boot.img\"\n").unwrap();
        let file =
            |path: &str, field: &str| FirmwareSource::File { path: path.into(), field: Some(field.into()) };
        assert_eq!(both["MLO"], file("my/a/MLO", "firmware.MLO"));
        assert_eq!(both["u-boot"], file("my/u-boot.img", "firmware.u-boot"));
        for (text, wanted) in [
            (
                "[firmware]\nMLO = \"MLO\"\n",
                "my.toml:2:7: in `firmware.MLO`: `MLO` alone does not boot omap5-uevm: `u-boot` is not named",
            ),
            ("[firmware]\nu-boot = \"u\"\n", "`u-boot` alone does not boot omap5-uevm: `MLO` is not named"),
            ("[firmware]\nMLO = \"MLO\"\nuboot = \"u\"\n", "takes no firmware called `uboot`"),
        ] {
            let said = of(text).unwrap_err().report();
            assert!(said.contains(wanted), "{text}: {said}");
        }
        let said = of("[firmware]\nuboot = \"u\"\n").unwrap_err().report();
        assert!(said.contains("my.toml:2:9") && said.contains("did you mean `u-boot`?"), "{said}");
    }

    #[test]
    fn a_file_of_the_user_s_goes_before_the_board_s_and_debian_s() {
        let mut board = board();
        for (name, path) in [("MLO", "MLO"), ("u-boot", "build/u-boot.img")] {
            board.firmware.get_mut(name).unwrap().path = Some(path.into());
        }
        let of = |text: &str, board: &Board| {
            let config = ImageConfig::parse("my.toml", text).unwrap();
            sources(board, board.method(None).unwrap().1, Path::new("boards/x"), &config).unwrap()
        };
        let file = |path: &str, field: Option<&str>| FirmwareSource::File {
            path: path.into(),
            field: field.map(str::to_owned),
        };
        let beside = of("", &board);
        assert_eq!(
            (&beside["MLO"], &beside["u-boot"]),
            (&file("boards/x/MLO", None), &file("boards/x/build/u-boot.img", None))
        );
        let named = of("[firmware]\nu-boot = \"mine\"\n", &board);
        assert_eq!(
            (&named["MLO"], &named["u-boot"]),
            (&file("boards/x/MLO", None), &file("mine", Some("firmware.u-boot")))
        );
        let debian = Catalog::embedded().unwrap().get("bananapi").unwrap().clone();
        assert!(
            matches!(&of("", &debian)["u-boot"], FirmwareSource::Package { arch, .. } if arch == "armhf")
        );
        assert_eq!(
            of("[firmware]\nu-boot = \"mine\"\n", &debian)["u-boot"],
            file("mine", Some("firmware.u-boot"))
        );
    }

    #[test]
    fn files_are_in_the_root_of_the_marked_partition_where_the_layout_has_files() {
        let names = ["MLO".to_owned(), "u-boot".to_owned()];
        let mbr = || Layout::parse("l", include_str!("../../images/mbr-uboot.toml"), "mbr-uboot").unwrap();
        let layout = with_firmware(mbr(), &board(), &names).unwrap();
        assert_eq!(layout.find(Content::Firmware(0)), Some((0, "MLO")));
        assert_eq!(layout.find(Content::Firmware(1)), Some((0, "u-boot.img")));
        assert_eq!(with_firmware(mbr(), &board(), &[]).unwrap(), mbr());
        let gpt = || {
            Layout::parse("l", include_str!("../../images/gpt-uboot-root.toml"), "gpt-uboot-root").unwrap()
        };
        assert_eq!(with_firmware(gpt(), &board(), &names).unwrap(), gpt());
        // What the ROM reads from a fixed byte alone stays there, and what it reads from files alone has no other place.
        let mut board = board();
        board.firmware.get_mut("MLO").unwrap().offset = None;
        let said = with_firmware(gpt(), &board, &names).unwrap_err().report();
        assert!(said.contains("no place for omap5-uevm's `MLO`"), "{said}");
        let mlo = board.firmware.get_mut("MLO").unwrap();
        (mlo.file, mlo.offset) = (None, Some(vambrace_bsp::Size(128 << 10)));
        assert_eq!(with_firmware(mbr(), &board, &names).unwrap().find(Content::Firmware(0)), None);
        let mut taken = mbr();
        taken.partitions[0].files[0].path = "U-BOOT.IMG".into();
        assert!(with_firmware(taken, &board, &names).unwrap_err().what().contains("`U-BOOT.IMG` is where"));
    }

    /// What is said of `bytes` as the firmware called `name`; nothing if it is taken.
    fn said(name: &str, bytes: &[u8], as_file: bool) -> String {
        let firmware = &board().firmware[name];
        check(firmware, &bytes.into(), as_file).map(|()| String::new()).unwrap_or_else(|error| error.report())
    }

    #[test]
    fn a_file_that_the_rom_would_not_take_is_refused_with_what_it_should_be() {
        const BASE: u32 = 0x4030_0000;
        let good = made(70_000, BASE);
        assert_eq!((said("MLO", &good, true), said("MLO", &good, false)), (String::new(), String::new()));
        // All of the chip's memory, and a byte more.
        assert_eq!(said("MLO", &made(120 << 10, BASE), false), "");
        assert_eq!(said("MLO", &made((100 << 10) - 4, BASE + (20 << 10) + 4), false), "");
        let image = uboot(3000, 2);
        let cases: [(&[u8], bool, &str); 10] = [
            (
                &made((120 << 10) + 1, BASE),
                false,
                "does not fit the chip's memory: from 0x40300000 it reaches to 0x4031e001",
            ),
            (
                &made(1000, 0x402f_0400),
                false,
                "for another chip: it loads to 0x402f0400, outside of 0x40300000 to 0x4031e000",
            ),
            (&made(1000, u32::MAX), true, "for another chip"),
            (&good[..70_000], true, "damaged MLO: it is cut short: 70000 bytes of 70520"),
            (&good[512..], false, "without a table of contents (`CHSETTINGS`)"),
            (&image, true, "it is no MLO: it is legacy U-Boot image"),
            // SPL and U-Boot by themselves begin with the vectors of an ARM.
            (
                &[0x0f, 0, 0, 0xea, 0x14, 0xf0, 0x9f, 0xe5, 0x14, 0xf0, 0x9f, 0xe5],
                true,
                "it is no MLO: it is data",
            ),
            (&good[..515], true, "it is no MLO"),
            (&[0; 4096], true, "it is no MLO"),
            (&[0xff; 4096], true, "it is no MLO"),
        ];
        for (bytes, as_file, wanted) in cases {
            let said = said("MLO", bytes, as_file);
            assert!(said.contains(wanted) && said.contains("help: "), "{wanted}: {said}");
        }
        // In a file the ROM takes the header without the table.
        assert_eq!(said("MLO", &good[512..], true), "");
        assert!(said("MLO", &good[512..70_000], true).contains("it is no MLO"));
    }

    #[test]
    fn u_boot_has_a_header_with_a_right_sum_and_is_for_the_cpu() {
        let good = uboot(3000, 2);
        assert_eq!(said("u-boot", &good, true), "");
        let mut damaged = good.clone();
        damaged[70] ^= 1;
        let foreign = uboot(3000, 22);
        let kernel = kernel_image(b"x", Architecture::Armv7, 0).unwrap();
        let mlo = made(1000, 0x4030_0000);
        let cases: [(&[u8], &str); 6] = [
            (&damaged, "damaged image of U-Boot: the data's checksum is wrong"),
            (&good[..100], "damaged image of U-Boot: it is cut short"),
            (&foreign, "a U-Boot for 64-bit ARM"),
            (&kernel, "no image of U-Boot: it is legacy U-Boot image `vambrace`: kernel"),
            (&mlo, "no image of U-Boot: it is first stage for TI (MLO)"),
            (b"\xd0\x0d\xfe\xed rest", "no image of U-Boot"),
        ];
        for (bytes, wanted) in cases {
            let said = said("u-boot", bytes, true);
            assert!(said.contains(wanted) && said.contains("help: "), "{wanted}: {said}");
        }
    }

    #[test]
    fn a_first_stage_for_sunxi_is_whole_and_has_u_boot_behind_it() {
        let board = Catalog::embedded().unwrap().get("pine64-plus").unwrap().clone();
        let said = |bytes: &[u8]| {
            let checked = check(&board.firmware["u-boot"], &bytes.into(), false);
            checked.map(|()| String::new()).unwrap_or_else(|error| error.report())
        };
        let (spl, next) = (spl(8192), uboot(3000, 22));
        assert_eq!(said(&[&spl[..], &next].concat()), "");
        let mut damaged = [&spl[..], &next].concat();
        damaged[5000] ^= 1;
        let cases: [(&[u8], &str); 4] = [
            (&damaged, "damaged first stage for SunXi: its checksum is wrong"),
            (&spl[..8000], "damaged first stage for SunXi: it is cut short"),
            (&spl, "with no U-Boot behind it"),
            (&next, "it is no first stage for SunXi: it is legacy U-Boot image"),
        ];
        for (bytes, wanted) in cases {
            let said = said(bytes);
            assert!(said.contains(wanted) && said.contains("help: "), "{wanted}: {said}");
        }
    }

    #[test]
    fn firmware_without_a_form_is_taken_as_it_is() {
        let firmware = Firmware { format: None, memory: None, ..board().firmware["MLO"].clone() };
        check(&firmware, &[1, 2, 3][..].into(), false).unwrap();
    }
}
