//! The configuration file beside the EFI application.
//!
//! Lines are `key=value`; `#` begins a comment. The keys are those of Xen's own file (xen, docs/misc/efi.pandoc), so
//! that one serves both:
//!
//! ```text
//! options=dom0_mem=1G console=dtuart
//! kernel=vmlinuz console=hvc0
//! ramdisk=initrd.img
//! dtb=board.dtb
//! ```
//!
//! Sections work as there: with `default=name` under `[global]`, the keys come from `[name]`, and those that are not
//! there from `[global]`. Files lie in the directory of the application, or anywhere on its file system with a leading
//! `/` or `\`.

use core::fmt;

/// Longest file accepted, in bytes.
pub const LIMIT: usize = 64 << 10;

/// What the file says; all text borrows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config<'a> {
    /// The hypervisor's command line (`options`).
    pub options: &'a str,
    /// Dom0's kernel (`kernel`, first word).
    pub kernel: &'a str,
    /// Dom0's command line (`kernel`, the rest).
    pub kernel_args: &'a str,
    /// Dom0's initial RAM disk (`ramdisk`).
    pub ramdisk: Option<&'a str>,
    /// A device tree to use in place of the firmware's (`dtb`).
    pub dtb: Option<&'a str>,
}

/// What is wrong with the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError<'a> {
    /// Not UTF-8, or longer than [`LIMIT`].
    NotText,
    /// A line (counted from 1) that is neither `key=value` nor `[section]` nor a comment.
    Line(usize),
    /// A key that has no meaning here, and its line.
    Key(usize, &'a str),
    /// A key without a value, and its line.
    Empty(usize, &'a str),
    /// No section of the name that `default` gives.
    Section(&'a str),
    /// No `kernel`.
    NoKernel,
}

impl fmt::Display for ConfigError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("it is no text of at most 64 KiB"),
            Self::Line(line) => write!(f, "line {line} is not of the form key=value"),
            Self::Key(line, key) => {
                write!(f, "line {line}: unknown key \"{key}\" (there are options, kernel, ramdisk, dtb)")
            }
            Self::Empty(line, key) => write!(f, "line {line}: {key} has no value"),
            Self::Section(name) => write!(f, "it has no section [{name}], which default names"),
            Self::NoKernel => f.write_str("it names no kernel (kernel=FILE ARGUMENTS)"),
        }
    }
}

enum Line<'a> {
    Section(&'a str),
    Pair(&'a str, &'a str),
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = Result<(usize, Line<'_>), ConfigError<'_>>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Some(Ok((number, Line::Section(name.trim()))));
        }
        let pair = line.split_once('=').map(|(key, value)| (number, Line::Pair(key.trim(), value.trim())));
        Some(pair.ok_or(ConfigError::Line(number)))
    })
}

impl<'a> Config<'a> {
    /// Reads the file's contents.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ConfigError<'a>> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = core::str::from_utf8(bytes).map_err(|_| ConfigError::NotText)?;
        if text.len() > LIMIT || text.contains('\0') {
            return Err(ConfigError::NotText);
        }
        let default = default_section(text)?;
        let mut config = Self::default();
        config.read(text, "global")?;
        if let Some(default) = default
            && !config.read(text, default)?
        {
            return Err(ConfigError::Section(default));
        }
        if config.kernel.is_empty() { Err(ConfigError::NoKernel) } else { Ok(config) }
    }

    /// Takes the keys of section `wanted`; lines before the first section are global. Returns whether it is there.
    fn read(&mut self, text: &'a str, wanted: &str) -> Result<bool, ConfigError<'a>> {
        let (mut section, mut found) = ("global", false);
        for line in lines(text) {
            match line? {
                (_, Line::Section(name)) => {
                    section = name;
                    found |= section == wanted;
                }
                (number, Line::Pair(key, value)) if section == wanted => self.set(number, key, value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    fn set(&mut self, line: usize, key: &'a str, value: &'a str) -> Result<(), ConfigError<'a>> {
        match key {
            "options" => self.options = value,
            "kernel" | "ramdisk" | "dtb" if value.is_empty() => return Err(ConfigError::Empty(line, key)),
            "kernel" => {
                let (file, args) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
                (self.kernel, self.kernel_args) = (file, args.trim());
            }
            "ramdisk" => self.ramdisk = Some(value),
            "dtb" => self.dtb = Some(value),
            // Xen's, of no use here: screen mode, and microcode, which Arm has not.
            "default" | "video" | "ucode" => {}
            _ => return Err(ConfigError::Key(line, key)),
        }
        Ok(())
    }
}

fn default_section(text: &str) -> Result<Option<&str>, ConfigError<'_>> {
    let (mut section, mut default) = ("global", None);
    for line in lines(text) {
        match line? {
            (_, Line::Section(name)) => section = name,
            (_, Line::Pair("default", name)) if section == "global" => default = Some(name),
            _ => {}
        }
    }
    Ok(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_keys() {
        let text = b"# boot\r\noptions = dom0_mem=1G console=dtuart\r\nkernel=vmlinuz console=hvc0 quiet\nramdisk=initrd\n";
        assert_eq!(
            Config::parse(text),
            Ok(Config {
                options: "dom0_mem=1G console=dtuart",
                kernel: "vmlinuz",
                kernel_args: "console=hvc0 quiet",
                ramdisk: Some("initrd"),
                dtb: None,
            })
        );
    }

    #[test]
    fn reads_sections_as_xen_does() {
        let text = b"[global]\ndefault=b\noptions=x\n[a]\nkernel=a\n[b]\nvideo=vga\nkernel=\\k root\n[c]\nnonsense=1\n";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.options, config.kernel, config.kernel_args), ("x", "\\k", "root"));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Config::parse(b""), Err(ConfigError::NoKernel));
        assert_eq!(Config::parse(b"kernel=a\nkernle=b"), Err(ConfigError::Key(2, "kernle")));
        assert_eq!(Config::parse(b"kernel="), Err(ConfigError::Empty(1, "kernel")));
        assert_eq!(Config::parse(b"\n\nkernel"), Err(ConfigError::Line(3)));
        assert_eq!(Config::parse(b"default=x\nkernel=a"), Err(ConfigError::Section("x")));
        assert_eq!(Config::parse(b"kernel=\xff"), Err(ConfigError::NotText));
    }
}
