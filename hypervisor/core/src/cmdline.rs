//! The hypervisor's command line, with the option names of Xen (docs/misc/xen-command-line).
//!
//! A command line never stops the boot: what is unknown or malformed is kept as a [`Warning`] for the console.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Most warnings kept.
const MAX_WARNINGS: usize = 16;
/// Longest option name that is compared with the known ones, in bytes.
const MAX_NAME: usize = 32;

/// What the command line says. `None` stands for an option that was not given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `dom0_mem=SIZE`: dom0's memory in bytes.
    pub dom0_mem: Option<u64>,
    /// `dom0_mem=max:SIZE`: how far dom0 may be ballooned up, in bytes.
    pub dom0_mem_max: Option<u64>,
    /// `dom0_max_vcpus=N`: dom0's vCPUs, at least 1.
    pub dom0_max_vcpus: Option<u32>,
    /// `maxcpus=N` (or `nosmp`): physical CPUs to bring up, at least 1.
    pub max_cpus: Option<u32>,
    /// `dtuart=PATH[:OPTIONS]`: path or alias of the console UART in the device tree.
    pub dtuart: Option<String>,
    /// `xen-version=MAJOR.MINOR`: the release that the hypervisor calls itself, for a toolstack that looks at that.
    pub xen_version: Option<(u16, u16)>,
    /// `noreboot`: halt instead of resetting after a crash or dom0's reboot.
    pub noreboot: bool,
    /// `panic=SECONDS`, as Linux has it: how long after a defect of its own, or a refusal to start dom0, the hypervisor resets
    /// the machine; without it, it halts.
    pub panic: Option<u32>,
    /// `conswitch=C[x]`: the letter that with Ctrl, three times, moves the console between dom0 and the hypervisor.
    pub console_switch: Option<u8>,
    /// `conswitch=Cx`: start with input going to the hypervisor.
    pub console_starts_in_hypervisor: bool,
    /// What was not understood.
    pub warnings: Vec<Warning>,
}

/// An option that was not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// No option has this name.
    Unknown {
        /// The option as given.
        option: String,
        /// The known name that is nearest to it, if one is near.
        nearest: Option<&'static str>,
    },
    /// An option of Xen's that changes nothing here.
    NoEffect {
        /// The option as given.
        option: String,
    },
    /// The option's value does not fit it.
    Value {
        /// The option as given.
        option: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unknown { option, .. } | Self::NoEffect { option } | Self::Value { option, .. }) = self;
        f.write_str("command line: \"")?;
        // Not as `Debug` shows it, which takes tables of Unicode with it.
        for c in option.chars() {
            f.write_char(if c.is_ascii_graphic() { c } else { '?' })?;
        }
        f.write_str("\" ")?;
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => {
                write!(f, "is unknown: did you mean {nearest}?")
            }
            Self::Unknown { nearest: None, .. } => f.write_str("is unknown"),
            Self::NoEffect { .. } => f.write_str("has no effect here"),
            Self::Value { expected, .. } => write!(f, "is ignored: it takes {expected}"),
        }
    }
}

const NAMES: &[&str] = &[
    "dom0_mem",
    "dom0_max_vcpus",
    "maxcpus",
    "nosmp",
    "console",
    "dtuart",
    "noreboot",
    "panic",
    "loglvl",
    "guest_loglvl",
    "bootscrub",
    "sync_console",
    "sched",
    "conswitch",
    "xen-version",
];

impl Options {
    /// Reads a command line: options separated by blanks, `name` or `name=value`, with double quotes around blanks
    /// that belong to a value. A later option overrides an earlier one of the same name.
    pub fn parse(line: &str) -> Self {
        let mut options = Self::default();
        let mut quoted = false;
        let is_gap = |c: char| {
            quoted ^= c == '"';
            !quoted && c.is_ascii_whitespace()
        };
        for option in line.split(is_gap) {
            let option: String = option.chars().filter(|&c| c != '"').collect();
            if !option.is_empty() {
                options.apply(&option);
            }
        }
        options
    }

    fn apply(&mut self, option: &str) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        // `no-name` is the negation of a switch.
        let (name, value) = match (name.strip_prefix("no-"), value) {
            (Some(positive), None) => (positive, Some("no")),
            _ => (name, value),
        };
        let expected = match name {
            "dom0_mem" => match value.and_then(dom0_mem) {
                Some((size, max)) => {
                    self.dom0_mem = size.or(self.dom0_mem);
                    self.dom0_mem_max = max.or(self.dom0_mem_max);
                    None
                }
                None => Some("a size such as 512M or 1G, and optionally ,max:SIZE"),
            },
            "dom0_max_vcpus" => set(&mut self.dom0_max_vcpus, value.and_then(count), "a number from 1"),
            "maxcpus" => set(&mut self.max_cpus, value.and_then(count), "a number from 1"),
            "nosmp" => match switch(value) {
                Some(true) => set(&mut self.max_cpus, Some(1), ""),
                Some(false) => None,
                None => Some("yes or no"),
            },
            // What we do in any case: the UART is the console, and is written to at once.
            "console" => match value {
                Some(list) if list.split(',').any(|name| name == "dtuart") => None,
                _ => Some("dtuart"),
            },
            "sync_console" => None,
            "dtuart" => {
                let path = value.filter(|path| !path.is_empty()).map(str::to_owned);
                set(&mut self.dtuart, path, "a device-tree path or alias")
            }
            "xen-version" => set(&mut self.xen_version, value.and_then(release), "4.17 to 4.20"),
            "panic" => set(&mut self.panic, value.and_then(seconds), "seconds, from 1 to 3600"),
            "noreboot" => assign(&mut self.noreboot, switch(value)),
            "loglvl" | "guest_loglvl" | "bootscrub" | "sched" => {
                return self.warn(Warning::NoEffect { option: option.to_owned() });
            }
            "conswitch" => match value.map(str::as_bytes) {
                Some(&[letter, ref rest @ ..])
                    if letter.is_ascii_alphabetic() && matches!(rest, [] | [b'x']) =>
                {
                    self.console_starts_in_hypervisor = !rest.is_empty();
                    set(&mut self.console_switch, Some(letter.to_ascii_lowercase()), "")
                }
                _ => Some("a letter, and optionally x"),
            },
            _ => {
                let warning = Warning::Unknown { option: option.to_owned(), nearest: nearest(name) };
                return self.warn(warning);
            }
        };
        if let Some(expected) = expected {
            self.warn(Warning::Value { option: option.to_owned(), expected });
        }
    }

    fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }
}

/// A release whose interface this is: those between the two toolstacks that are served.
fn release(value: &str) -> Option<(u16, u16)> {
    let (major, minor) = value.split_once('.')?;
    let release = (major.parse().ok()?, minor.parse().ok()?);
    ((4, 17)..=(4, 20)).contains(&release).then_some(release)
}

/// Stores a value that could be read; else answers what was expected.
fn set<T>(slot: &mut Option<T>, value: Option<T>, expected: &'static str) -> Option<&'static str> {
    match value {
        Some(value) => {
            *slot = Some(value);
            None
        }
        None => Some(expected),
    }
}

fn assign(slot: &mut bool, value: Option<bool>) -> Option<&'static str> {
    match value {
        Some(value) => {
            *slot = value;
            None
        }
        None => Some("yes or no"),
    }
}

fn switch(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("yes" | "on" | "true" | "enable" | "1") => Some(true),
        Some("no" | "off" | "false" | "disable" | "0") => Some(false),
        Some(_) => None,
    }
}

fn count(value: &str) -> Option<u32> {
    value.parse().ok().filter(|&count| count > 0)
}

fn seconds(value: &str) -> Option<u32> {
    count(value).filter(|&seconds| seconds <= 3600)
}

/// A size in bytes: a number (decimal, or hexadecimal after 0x) and B, K, M, G or T; without a letter it counts KiB.
pub fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        // In hexadecimal a last B is a digit.
        b'B' | b'b' if !text.starts_with("0x") => (text.get(..text.len() - 1)?, 0),
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        b'T' | b't' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 10),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

/// `SIZE`, `min:SIZE`, `max:SIZE` in any mixture, separated by commas: (size, max). A minimum is a size, since dom0
/// gets all that it asks for or the boot ends.
fn dom0_mem(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (mut plain, mut min, mut max) = (None, None, None);
    for part in value.split(',') {
        match part.split_once(':') {
            None => plain = Some(size(part)?),
            Some(("min", text)) => min = Some(size(text)?),
            Some(("max", text)) => max = Some(size(text)?),
            Some(_) => return None,
        }
    }
    Some((plain.or(min).or(max).filter(|&size| size > 0), max))
}

/// The known name with the fewest edits from `name`, if few enough to be a slip.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let limit = if name.len() < 5 { 1 } else { 3 };
    NAMES
        .iter()
        .map(|known| (edits(name.as_bytes(), known.as_bytes()), *known))
        .min()
        .filter(|&(edits, _)| edits <= limit)
        .map(|(_, known)| known)
}

/// Levenshtein distance.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (pair, y) in row.windows(2).zip(b) {
            let (diagonal, above) = match pair {
                &[diagonal, above] => (diagonal, above),
                _ => break,
            };
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    #[test]
    fn a_usual_line() {
        let options = Options::parse(
            "console=dtuart dtuart=serial0:115200n8 dom0_mem=1G,max:2G  dom0_max_vcpus=4 maxcpus=2 noreboot \
             loglvl=all guest_loglvl=error/warning bootscrub=0 sync_console conswitch=ax",
        );
        assert_eq!(options.dtuart.as_deref(), Some("serial0:115200n8"));
        assert_eq!((options.dom0_mem, options.dom0_mem_max), (Some(1 << 30), Some(2 << 30)));
        assert_eq!((options.dom0_max_vcpus, options.max_cpus), (Some(4), Some(2)));
        assert!(options.noreboot && options.panic.is_none());
        assert_eq!((options.console_switch, options.console_starts_in_hypervisor), (Some(b'a'), true));
        let idle = |option: &str| Warning::NoEffect { option: option.into() };
        assert_eq!(
            options.warnings,
            [idle("loglvl=all"), idle("guest_loglvl=error/warning"), idle("bootscrub=0")]
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512M"), Some(512 << 20));
        assert_eq!(size("4096"), Some(4096 << 10));
        assert_eq!(size("4096B"), Some(4096));
        assert_eq!(size("0x10M"), Some(16 << 20));
        assert_eq!(size("0x1B"), Some(0x1b << 10));
        for bad in ["", "M", "-1M", "1.5G", "99999999999999999999", "99999999T", "1GB", "é"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn slips_are_reported_with_the_nearest_name() {
        let options = Options::parse("dom0mem=1G maxcpu=2 flask=enforcing dom0_mem=lots nosmp=perhaps");
        let words: Vec<String> = options.warnings.iter().map(ToString::to_string).collect();
        assert!(words[0].contains("did you mean dom0_mem?"), "{}", words[0]);
        assert!(words[1].contains("did you mean maxcpus?"), "{}", words[1]);
        assert_eq!(options.warnings[2], Warning::Unknown { option: "flask=enforcing".into(), nearest: None });
        assert!(words[3].contains("512M"), "{}", words[3]);
        assert_eq!(words.len(), 5);
        assert_eq!(options.dom0_mem, None);
    }

    #[test]
    fn a_reset_is_a_matter_of_seconds() {
        assert_eq!(Options::parse("panic=10").panic, Some(10));
        for bad in ["panic", "panic=0", "panic=-1", "panic=3601", "panic=x"] {
            let options = Options::parse(bad);
            assert!(options.panic.is_none() && options.warnings.len() == 1, "{bad}");
        }
    }

    #[test]
    fn quotes_negations_and_repetition() {
        let options = Options::parse("dtuart=\"/a b\" noreboot no-noreboot dom0_mem=1G dom0_mem=max:3G");
        assert_eq!(options.dtuart.as_deref(), Some("/a b"));
        assert!(!options.noreboot);
        assert_eq!(options.dom0_mem, Some(3 << 30));
        let many = vec!["x"; 1000].join(" ");
        assert_eq!(Options::parse(&many).warnings.len(), MAX_WARNINGS);
    }
}
