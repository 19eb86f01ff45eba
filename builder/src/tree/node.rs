//! What a name of a tree stands for.

use std::collections::BTreeMap;

use super::data::Data;
use crate::error::Result;

/// Longest path that Linux takes, in bytes, with the terminating NUL.
pub(super) const PATH_MAX: usize = 4096;
/// Longest name of an extended attribute, in bytes, and longest value (Linux, include/uapi/linux/limits.h).
const XATTR: (usize, usize) = (255, 65_536);

/// Extended attributes by their whole names, such as `security.capability`.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The user and the group that something belongs to, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

impl Owner {
    /// root, whom everything belongs to that a tree says nothing else of.
    pub const ROOT: Self = Self { user: 0, group: 0 };
}

/// The number of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The driver: 12 bits.
    pub major: u32,
    /// Which of the driver's: 20 bits.
    pub minor: u32,
}

/// A file of any kind, with everything but its names. Its time is the caller's wherever a tree is written.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 0o7777; 0o777 for a symbolic link.
    pub mode: u32,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Its extended attributes.
    pub xattrs: Xattrs,
}

/// The kinds of files.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Data),
    /// A symbolic link, with where it leads as the running system sees it.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Node {
    /// Something of root's without extended attributes.
    #[must_use]
    pub fn new(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, owner: Owner::ROOT, xattrs: Xattrs::new() }
    }

    /// A directory.
    #[must_use]
    pub fn dir(mode: u32) -> Self {
        Self::new(Kind::Dir, mode)
    }

    /// A regular file.
    #[must_use]
    pub fn file(mode: u32, data: impl Into<Data>) -> Self {
        Self::new(Kind::File(data.into()), mode)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::new(Kind::Symlink(target.into()), 0o777)
    }

    /// A character device.
    #[must_use]
    pub fn char_device(mode: u32, major: u32, minor: u32) -> Self {
        Self::new(Kind::CharDevice(Device { major, minor }), mode)
    }

    /// A block device.
    #[must_use]
    pub fn block_device(mode: u32, major: u32, minor: u32) -> Self {
        Self::new(Kind::BlockDevice(Device { major, minor }), mode)
    }

    /// The same, of this owner.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }

    /// The contents of a regular file.
    #[must_use]
    pub fn data(&self) -> Option<&Data> {
        if let Kind::File(data) = &self.kind { Some(data) } else { None }
    }

    /// Where a symbolic link leads.
    #[must_use]
    pub fn target(&self) -> Option<&[u8]> {
        if let Kind::Symlink(target) = &self.kind { Some(target) } else { None }
    }

    /// The number of a device.
    #[must_use]
    pub fn device(&self) -> Option<Device> {
        match self.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => Some(device),
            _ => None,
        }
    }

    /// The kind as the upper bits of a mode have it (inode(7)).
    #[must_use]
    pub fn type_bits(&self) -> u32 {
        match self.kind {
            Kind::Fifo => 0o010_000,
            Kind::CharDevice(_) => 0o020_000,
            Kind::Dir => 0o040_000,
            Kind::BlockDevice(_) => 0o060_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::Socket => 0o140_000,
        }
    }

    /// Whether both are alike in everything, contents included.
    ///
    /// # Errors
    /// Contents that cannot be read.
    pub fn same(&self, other: &Self) -> Result<bool> {
        let alike = self.type_bits() == other.type_bits()
            && (self.mode, self.owner) == (other.mode, other.owner)
            && (self.target(), self.device()) == (other.target(), other.device())
            && self.xattrs == other.xattrs;
        match (alike, self.data(), other.data()) {
            (true, Some(a), Some(b)) => a.same(b),
            _ => Ok(alike),
        }
    }

    /// Whether Linux could have it; otherwise what is wrong with it.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.mode > 0o7777 {
            return Err(format!("has mode {:o}; permission bits end at 7777", self.mode));
        }
        if let Some(target) = self.target()
            && (target.is_empty() || target.len() >= PATH_MAX || target.contains(&0))
        {
            return Err("has a link target that Linux does not take".into());
        }
        if let Some(Device { major, minor }) = self.device()
            && (major >= 1 << 12 || minor >= 1 << 20)
        {
            return Err(format!("has device number {major}:{minor}, out of range"));
        }
        for (name, value) in &self.xattrs {
            let space = name.iter().position(|&byte| byte == b'.').filter(|&at| at > 0);
            if space.is_none() || name.contains(&0) || name.len() > XATTR.0 || value.len() > XATTR.1 {
                return Err(format!(
                    "has an extended attribute `{}` of {} bytes, which Linux does not take",
                    name.escape_ascii(),
                    value.len()
                ));
            }
        }
        Ok(())
    }
}
