//! `tar` archives: packages' files, and trees in the cache. POSIX.1-2024 (pax), and GNU tar's own additions: long names,
//! sparse files of all four kinds; extended attributes as star and GNU tar have them (`SCHILY.xattr.`).
//!
//! Only headers are read; contents stay in the archive. Every size in it is an allegation until it has been held against
//! the archive's own.

mod pax;
mod read;
mod sparse;
mod write;

pub use read::{Item, Member, read_tar, walk_tar};
pub use write::write_tar;

/// Bytes of a header, and what everything is padded to.
const BLOCK: u64 = 512;
