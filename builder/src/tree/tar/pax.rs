//! The records of a pax header: `LENGTH KEY=VALUE` and a line end, where the length counts everything.

use crate::error::{Error, Result};
use crate::tree::Xattrs;

/// What the keys of extended attributes begin with.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Records in their order; of two with one key the later one holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let damaged = || Error::new("a pax header of the archive is damaged");
        let (mut records, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let digits = rest.iter().position(|&byte| byte == b' ').ok_or_else(damaged)?;
            let length = rest.get(..digits).and_then(number).and_then(|length| usize::try_from(length).ok());
            let record = length.and_then(|length| rest.get(digits + 1..length)).ok_or_else(damaged)?;
            rest = rest.get(digits + 1 + record.len()..).ok_or_else(damaged)?;
            let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
            let end = record.iter().position(|&byte| byte == b'=').ok_or_else(damaged)?;
            let (key, value) = record.split_at(end);
            records.push((key.to_owned(), value.get(1..).unwrap_or_default().to_owned()));
        }
        Ok(Self(records))
    }

    /// The value that holds; an empty one is as good as none.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(own, _)| own == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The value as a number.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(|value| number(value).ok_or_else(|| bad(key))).transpose()
    }

    /// All values of a key.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(own, _)| own == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// These, over those that hold for the whole archive.
    pub(super) fn over(mut self, global: &Self) -> Self {
        self.0.splice(0..0, global.0.iter().cloned());
        self
    }

    pub(super) fn xattrs(&self) -> Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(XATTR) {
                xattrs.insert(name.to_owned(), value.clone());
            } else if key == b"RHT.security.selinux" {
                // A label has its NUL with it in a file system.
                xattrs.insert(b"security.selinux".to_vec(), [value, &b"\0"[..]].concat());
            } else if key.starts_with(b"SCHILY.acl.") && !value.is_empty() {
                return Err(Error::new("has an access control list in words, which is not read")
                    .help("make the archive with `--xattrs --xattrs-include=*` instead of `--acls`"));
            }
        }
        Ok(xattrs)
    }
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

pub(super) fn bad(key: &str) -> Error {
    Error::new(format!("has a damaged pax record `{key}`"))
}

/// Appends a record to `to`.
pub(super) fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, `=` and line end; the length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_come_back() {
        for length in [0, 1, 80, 88, 89, 90, 91, 92, 93, 980, 985, 990, 995, 9980, 9990] {
            let mut text = Vec::new();
            record(&mut text, b"a", b"\n=x");
            record(&mut text, b"SCHILY.xattr.user.k", &vec![0; length]);
            let records = Records::parse(&text).unwrap();
            assert_eq!(records.get("a"), Some(&b"\n=x"[..]));
            assert_eq!(records.xattrs().unwrap().get(&b"user.k"[..]).unwrap().len(), length);
        }
        for text in
            ["x", "3", "3 ", "5 a=", "4 a=\n", "6 a=bc\n", "0 a=\n", "99999999999999999999 a=b\n", "2 a"]
        {
            assert!(Records::parse(text.as_bytes()).is_err(), "{text}");
        }
        let global = Records::parse(b"6 k=1\n").unwrap();
        assert_eq!(Records::parse(b"6 k=2\n").unwrap().over(&global).number("k").unwrap(), Some(2));
        assert_eq!(Records::default().over(&global).number("k").unwrap(), Some(1));
        assert!(Records::parse(b"7 k=-1\n").unwrap().number("k").is_err());
    }
}
