//! What can be wrong with a device tree, in words that name the node and the property.

use alloc::string::String;
use core::fmt;

/// A device tree that cannot be used, and where it is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformError {
    /// Full path of the node; empty where the blob as a whole is wrong.
    pub path: String,
    /// Name of the property; empty where the node as a whole is wrong.
    pub property: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a device tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The blob does not start with the magic number of a flattened device tree.
    NotATree,
    /// The blob's header asks for a version that is not readable as version 17.
    Version(u32),
    /// The blob is shorter than its header says, or its header points outside of it.
    Truncated {
        /// Bytes that the header asks for.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The blob, or a list in it, is larger than any real one.
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The most that is accepted.
        limit: u64,
    },
    /// The structure block is malformed.
    Structure {
        /// Offset in the blob, in bytes.
        offset: u64,
        /// What was met there.
        what: &'static str,
    },
    /// The node or property is required and missing.
    Missing,
    /// The property's length is not what its format asks for.
    Length {
        /// Bytes that there are.
        have: u64,
        /// Bytes of one entry.
        entry: u64,
    },
    /// A cell count outside of what the property allows.
    Cells(u32),
    /// The value is not one of those that the binding names.
    Value(&'static str),
    /// An address or a size that no 64-bit address reaches.
    Overflow,
    /// A reference to a node that is not there.
    NoNode(u32),
    /// Two nodes claim the same phandle.
    DuplicatePhandle(u32),
    /// References that lead in a circle.
    Loop,
    /// An address that the buses above the node do not pass on.
    Untranslatable(u64),
    /// Something that the hardware or the firmware has and this hypervisor cannot work with.
    Unsupported(&'static str),
}

impl PlatformError {
    /// An error that concerns the blob as a whole.
    pub(crate) fn blob(problem: Problem) -> Self {
        Self { path: String::new(), property: String::new(), problem }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree => write!(f, "this is no flattened device tree (wrong magic number)"),
            Self::Version(v) => write!(f, "format version {v} is not compatible with version 17"),
            Self::Truncated { need, have } => {
                write!(f, "truncated: {need} bytes are needed, {have} are there")
            }
            Self::TooLarge { what, limit } => write!(f, "too many {what}: the limit is {limit}"),
            Self::Structure { offset, what } => write!(f, "{what} at offset {offset:#x}"),
            Self::Missing => write!(f, "missing"),
            Self::Length { have, entry } => {
                write!(f, "{have} bytes long, which is not a whole number of {entry}-byte entries")
            }
            Self::Cells(n) => write!(f, "a count of {n} cells makes no sense here"),
            Self::Value(expected) => write!(f, "unknown value, expected {expected}"),
            Self::Overflow => write!(f, "an address or size runs past the end of the address space"),
            Self::NoNode(phandle) => write!(f, "no node has phandle {phandle:#x}"),
            Self::DuplicatePhandle(phandle) => write!(f, "phandle {phandle:#x} is used by two nodes"),
            Self::Loop => write!(f, "references lead in a circle"),
            Self::Untranslatable(address) => write!(f, "no bus above passes on address {address:#x}"),
            Self::Unsupported(what) => write!(f, "{what}"),
        }
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device tree")?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        if !self.property.is_empty() {
            write!(f, ": property {}", self.property)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl core::error::Error for PlatformError {}
