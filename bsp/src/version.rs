//! QEMU's versions, as far as they make a difference to a board.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A version of QEMU: its first two numbers, such as 9.0. The third only mends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct QemuVersion {
    major: u32,
    minor: u32,
}

impl QemuVersion {
    /// The version of the program that says `said` when it is started with `--version`; `None` if that names none.
    pub fn said(said: &str) -> Option<Self> {
        let number = said.split_once("version ")?.1.split_whitespace().next()?;
        let mut parts = number.splitn(3, '.');
        format!("{}.{}", parts.next()?, parts.next()?).parse().ok()
    }
}

impl FromStr for QemuVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        version.ok_or_else(|| format!("`{text}` is not a version of QEMU; write it like 9.0"))
    }
}

impl TryFrom<String> for QemuVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<QemuVersion> for String {
    fn from(version: QemuVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_their_version_in_the_first_line() {
        let said = |text| QemuVersion::said(text).map(|version| version.to_string());
        assert_eq!(
            said("QEMU emulator version 7.2.18 (Debian 1:7.2+dfsg-7)\nCopyright").as_deref(),
            Some("7.2")
        );
        assert_eq!(said("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)").as_deref(), Some("10.0"));
        assert_eq!(said("QEMU emulator version 11.0\n").as_deref(), Some("11.0"));
        assert_eq!(said("QEMU emulator version unknown"), None);
        assert_eq!(said(""), None);
    }

    #[test]
    fn versions_are_in_the_order_of_their_numbers() {
        let version = |text: &str| text.parse::<QemuVersion>().unwrap();
        assert!(version("9.0") < version("10.0"));
        assert!(version("9.0") < version("9.10"));
        assert!("9".parse::<QemuVersion>().is_err());
        assert!("9.x".parse::<QemuVersion>().is_err());
    }
}
