//! Why a guest cannot be built.

use core::fmt;

use vambrace_abi::errno::Errno;

use crate::addr::PaRange;
use crate::dom0_tree::TreeError;
use crate::image::ImageError;
use crate::p2m::P2mError;
use crate::platform::PlatformError;

/// Why a guest cannot be built.
#[derive(Debug)]
pub enum GuestError {
    /// The domain cannot be made.
    Domain(Errno),
    /// Its kernel.
    Kernel(ImageError),
    /// The CPU cannot run a kernel of this width.
    WrongWidth {
        /// It is a 32-bit one.
        aarch32: bool,
    },
    /// More vCPUs than the interrupt controller serves.
    TooManyVcpus {
        /// What it is to have.
        asked: u32,
        /// The most that it can have.
        limit: u32,
    },
    /// No memory for it.
    OutOfMemory,
    /// Its memory is too small for its kernel, RAM disk and device tree: this many bytes more, at least.
    TooSmall(&'static str, u64),
    /// Something lies where it must not.
    Place {
        /// What.
        what: &'static str,
        /// Where.
        range: PaRange,
        /// Why not.
        why: &'static str,
    },
    /// Its stage-2 tables.
    Stage2(P2mError),
    /// Memory of its that cannot be reached.
    Unreachable(PaRange),
    /// Its partial device tree, or the host's that it refers to.
    Tree(PlatformError),
    /// Its device tree cannot be written.
    Write(TreeError),
    /// An interrupt of a device's.
    Interrupt {
        /// Which.
        intid: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Its sharers disagree about shared memory.
    Shared(&'static str),
    /// A port of a static event channel, or of xenstore's.
    Port(Errno),
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(e) => write!(f, "the domain cannot be made ({e:?})"),
            Self::Kernel(e) => write!(f, "its kernel: {e}"),
            Self::WrongWidth { aarch32 } => {
                let bits = if *aarch32 { 32 } else { 64 };
                write!(f, "its kernel is a {bits}-bit one, which this CPU does not run")
            }
            Self::TooManyVcpus { asked, limit } => {
                write!(f, "{asked} vCPUs, but the interrupt controller serves at most {limit}")
            }
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TooSmall(what, size) => {
                write!(f, "its memory has no room for its {what} of {} KiB", size.div_ceil(1024))
            }
            Self::Place { what, range, why } => {
                write!(f, "{what} at {}..{} {why}", range.start, range.end)
            }
            Self::Stage2(e) => write!(f, "its address space: {e:?}"),
            Self::Unreachable(range) => {
                write!(f, "memory at {}..{} cannot be reached", range.start, range.end)
            }
            Self::Tree(e) => write!(f, "{e}"),
            Self::Write(e) => write!(f, "its device tree: {e}"),
            Self::Interrupt { intid, why } => write!(f, "interrupt {intid} {why}"),
            Self::Shared(why) => write!(f, "shared memory: {why}"),
            Self::Port(e) => write!(f, "an event channel cannot be opened ({e:?})"),
        }
    }
}

impl core::error::Error for GuestError {}

impl From<ImageError> for GuestError {
    fn from(e: ImageError) -> Self {
        Self::Kernel(e)
    }
}

impl From<P2mError> for GuestError {
    fn from(e: P2mError) -> Self {
        match e {
            P2mError::OutOfMemory => Self::OutOfMemory,
            other => Self::Stage2(other),
        }
    }
}

impl From<PlatformError> for GuestError {
    fn from(e: PlatformError) -> Self {
        Self::Tree(e)
    }
}

impl From<TreeError> for GuestError {
    fn from(e: TreeError) -> Self {
        Self::Write(e)
    }
}
