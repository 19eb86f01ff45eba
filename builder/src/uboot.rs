//! What U-Boot reads: boot scripts and kernels in its legacy image format.
//!
//! The header follows U-Boot's include/image.h (all fields big endian).

use crate::error::{Error, Result};
use vambrace_bsp::Architecture;

const MAGIC: u32 = 0x2705_1956;
const OS_LINUX: u8 = 5;
const ARCH_ARM: u8 = 2;
const ARCH_ARM64: u8 = 22;
const TYPE_KERNEL: u8 = 2;
const TYPE_SCRIPT: u8 = 6;
const NAME: &[u8] = b"vambrace";
/// Bytes of the header.
pub const HEADER: usize = 64;
/// Longest command line that U-Boot's shell takes, with room for the command itself (CONFIG_SYS_CBSIZE is 512 or more).
const MAX_LINE: usize = 2048;

/// Wraps `data` into an image of this kind; `address` is where it is loaded to and entered.
fn image(kind: u8, architecture: Architecture, address: u32, data: &[u8], time: u32) -> Result<Vec<u8>> {
    let size = u32::try_from(data.len()).map_err(|_| Error::new("U-Boot's image format ends at 4 GiB"))?;
    let arch = match architecture {
        Architecture::Aarch64 => ARCH_ARM64,
        Architecture::Armv7 => ARCH_ARM,
    };
    let header = |header_crc: u32| {
        let mut header = Vec::with_capacity(HEADER);
        for word in [MAGIC, header_crc, time, size, address, address, crc32(data)] {
            header.extend_from_slice(&word.to_be_bytes());
        }
        header.extend_from_slice(&[OS_LINUX, arch, kind, 0]);
        header.extend_from_slice(NAME);
        header.resize(HEADER, 0);
        header
    };
    // The header's sum is taken with its own field at zero.
    let mut image = header(crc32(&header(0)));
    image.extend_from_slice(data);
    Ok(image)
}

/// Wraps `data`, an executable that is loaded to `address` and entered there, into a kernel image (`uImage`).
///
/// # Errors
/// When it has 4 GiB or more.
pub fn kernel_image(data: &[u8], architecture: Architecture, address: u32) -> Result<Vec<u8>> {
    image(TYPE_KERNEL, architecture, address, data, 0)
}

/// The address in the header of a kernel image that `bootm` is to put `offset` bytes behind `base`, the start of RAM.
///
/// It is absolute (U-Boot, common/bootm.c, `bootm_load_os`), and the field ends at 4 GiB. Where RAM is above, U-Boot counts from
/// the start of RAM: X-Gene's is told 0x80000 (Debian's flash-kernel, all.db).
#[must_use]
pub(crate) fn load_address(base: u64, offset: u32) -> u32 {
    base.checked_add(offset.into()).and_then(|address| u32::try_from(address).ok()).unwrap_or(offset)
}

/// Wraps the commands of `text` into a script image (`boot.scr`); `epoch` is its time in seconds since 1970.
///
/// # Errors
/// When the text is empty, has characters that U-Boot's shell does not take or a line that it would cut, or when the time
/// is past 2106.
pub fn boot_script(text: &str, architecture: Architecture, epoch: u64) -> Result<Vec<u8>> {
    if text.trim().is_empty() {
        return Err(Error::new("the boot script is empty"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(bad) = line.chars().find(|&c| !(c == '\t' || c == ' ' || c.is_ascii_graphic())) {
            return Err(Error::new(format!("line {number} of the boot script has the character {bad:?}")));
        }
        if line.len() > MAX_LINE {
            return Err(Error::new(format!(
                "line {number} of the boot script is over {MAX_LINE} characters"
            )));
        }
    }
    let length = u32::try_from(text.len()).map_err(|_| Error::new("the boot script is too long"))?;
    let time = u32::try_from(epoch)
        .map_err(|_| Error::new(format!("time {epoch} is past 2106, too late for U-Boot")))?;
    // A script is a multi-part image of one part: a list of sizes that ends with zero, then the text.
    let mut data = Vec::with_capacity(text.len() + 8);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&0_u32.to_be_bytes());
    data.extend_from_slice(text.as_bytes());
    image(TYPE_SCRIPT, architecture, 0, &data, time)
}

/// The sum that U-Boot's images and GPTs have (ISO 3309).
pub(crate) fn crc32(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn mkimage_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (source, theirs) = (dir.path().join("boot.cmd"), dir.path().join("boot.scr"));
        let text = "echo hello\nsetenv bootargs 'console=hvc0 a=$b'\n";
        std::fs::write(&source, text).unwrap();
        let made = Command::new("mkimage")
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .args(["-A", "arm64", "-O", "linux", "-T", "script", "-C", "none", "-n", "vambrace", "-d"])
            .args([&source, &theirs])
            .output();
        // Where U-Boot's tools are missing, the known header below stands.
        let Ok(made) = made else { return };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(
            boot_script(text, Architecture::Aarch64, 1_700_000_000).unwrap(),
            std::fs::read(theirs).unwrap()
        );
    }

    #[test]
    fn a_kernel_s_address_is_absolute_where_it_can_be() {
        assert_eq!(load_address(0x4000_0000, 0x20_0000), 0x4020_0000);
        assert_eq!(load_address(0xffff_f000, 0xfff), 0xffff_ffff);
        for base in [0xffff_f001, 0x40_0000_0000, u64::MAX] {
            assert_eq!(load_address(base, 0xfff), 0xfff, "{base:#x}");
        }
    }

    #[test]
    fn the_header_has_its_fields_in_place() {
        let image = boot_script("echo hi\n", Architecture::Aarch64, 0x1234_5678).unwrap();
        assert_eq!(image.len(), 64 + 8 + 8);
        assert_eq!(&image[..4], [0x27, 0x05, 0x19, 0x56]);
        assert_eq!(&image[8..16], [0x12, 0x34, 0x56, 0x78, 0, 0, 0, 16]);
        assert_eq!(&image[28..41], b"\x05\x16\x06\x00vambrace\0");
        assert_eq!(&image[64..72], [0, 0, 0, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn scripts_that_u_boot_would_garble_are_refused() {
        for text in ["", " \n", "echo \u{fc}", "echo \x1b", "a\rb\n"] {
            assert!(boot_script(text, Architecture::Aarch64, 0).is_err(), "{text:?}");
        }
        assert!(boot_script(&"x".repeat(3000), Architecture::Aarch64, 0).is_err());
        assert!(boot_script("x", Architecture::Aarch64, 1 << 32).is_err());
    }
}
