//! From the device tree to a plan: what the machine is, what the command line wants, where everything goes.
//!
//! ```text
//!   device tree --> Tree --> Platform ----+
//!   command line -----------> Options ----+--> BootMap --> (hal: heap, GIC, CPUs) --> dom0
//!   kernel module --------> KernelImage --+
//! ```
//!
//! Nothing is changed here; a bad tree, module or option is an error before anything runs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::PaRange;
use crate::bootmap::{BootMap, KernelModule, MapError, Request};
use crate::cmdline::Options;
use crate::dom0_tree::{self, TreeError};
use crate::domain_spec::DomainError;
use crate::frames::NotReleasable;
use crate::idregs::{has_aarch32, has_aarch64};
use crate::image::{ImageError, KernelImage, Kind, Packing};
use crate::machine::{Memory, Processor};
use crate::p2m::P2mError;
use crate::platform::{Platform, PlatformError, StaticGuest};
use crate::static_guest;
use crate::vgic::VgicError;

/// Dom0's memory when the command line does not say: half of RAM, at most this.
const DOM0_MEM_DEFAULT: u64 = 1 << 30;
/// Heap besides the frame table: domains, trees, and dom0's event channels with all 131,072 ports open, twice over
/// while their table grows.
const HEAP_BASE: u64 = 16 << 20;

/// Why the machine cannot be brought up.
#[derive(Debug)]
pub enum BootError {
    /// The device tree.
    Platform(PlatformError),
    /// No kernel among the modules.
    NoKernel,
    /// The kernel.
    Kernel(ImageError),
    /// The CPU cannot run a kernel of this width.
    WrongWidth {
        /// It is a 32-bit one.
        aarch32: bool,
    },
    /// Memory.
    Map(MapError),
    /// Dom0's device tree.
    Tree(TreeError),
    /// No free address space for dom0's grant table.
    NoAddressSpace,
    /// Dom0's stage-2 tables.
    Stage2(P2mError),
    /// Dom0's interrupt controller.
    Vgic(VgicError),
    /// Dom0 itself.
    Domain(DomainError),
    /// The books of free memory.
    Frames(NotReleasable),
    /// Memory of dom0's that cannot be written.
    Unwritable(PaRange),
    /// Dom0 needs a page and there is none.
    OutOfMemory,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(e) => write!(f, "{e}"),
            Self::NoKernel => f.write_str(
                "no kernel for dom0: /chosen needs a module node compatible with \"multiboot,kernel\"",
            ),
            Self::Kernel(e) => write!(f, "dom0's kernel: {e}"),
            Self::WrongWidth { aarch32: true } => f.write_str(
                "dom0's kernel is a 32-bit one, which this CPU does not run: give it an arm64 Image",
            ),
            Self::WrongWidth { aarch32: false } => f.write_str(
                "dom0's kernel is a 64-bit one, which this CPU does not run: give it an ARM zImage",
            ),
            Self::Map(e) => write!(f, "{e}"),
            Self::Tree(e) => write!(f, "dom0's device tree: {e}"),
            Self::NoAddressSpace => f.write_str("no free address space for dom0's grant table"),
            Self::Stage2(P2mError::OutOfMemory)
            | Self::Domain(DomainError::OutOfMemory)
            | Self::OutOfMemory => f.write_str("out of memory for dom0"),
            Self::Stage2(e) => write!(f, "dom0's address space: {e:?}"),
            Self::Vgic(e) => write!(f, "dom0's interrupt controller: {e}"),
            Self::Domain(e) => write!(f, "dom0: {e}"),
            Self::Frames(e) => write!(f, "free memory: {e}"),
            Self::Unwritable(range) => {
                write!(f, "memory at {}..{} cannot be written", range.start, range.end)
            }
        }
    }
}

macro_rules! from {
    ($($variant:ident($source:ty)),* $(,)?) => {
        $(impl From<$source> for BootError {
            fn from(e: $source) -> Self {
                Self::$variant(e)
            }
        })*
    };
}
from!(
    Platform(PlatformError),
    Kernel(ImageError),
    Map(MapError),
    Tree(TreeError),
    Stage2(P2mError),
    Vgic(VgicError),
    Domain(DomainError),
    Frames(NotReleasable),
);

/// Everything decided.
pub struct Plan {
    /// The command line, understood.
    pub options: Options,
    /// Dom0's kernel.
    pub kernel: KernelImage,
    /// Who gets which memory.
    pub map: BootMap,
    /// The hypervisor in memory (physical).
    pub image: PaRange,
    /// Guests that are started with dom0.
    pub guests: Vec<StaticGuest>,
    /// Why others are not, in words.
    pub refused_guests: Vec<String>,
}

/// Plans the boot. `image` is the hypervisor in memory, `tree` the device tree's blob; both physical.
pub fn plan<M: Memory + Processor>(
    m: &M,
    platform: &Platform,
    image: PaRange,
    tree: PaRange,
) -> Result<Plan, BootError> {
    let options = Options::parse(&platform.boot.hypervisor_args);
    let module = platform.boot.kernel().ok_or(BootError::NoKernel)?;
    // Before it is read; the arrangement checks all modules again, against each other.
    let (what, range) = ("the kernel module", module.range);
    if !platform.ram.iter().any(|bank| bank.contains_range(range)) {
        return Err(MapError::OutsideRam(what, range).into());
    }
    for (other, there) in [("the hypervisor", image), ("the device tree", tree)] {
        if range.overlaps(there) {
            return Err(MapError::Overlap(what, range, other, there).into());
        }
    }
    let kernel = KernelImage::inspect(module.range.size(), |offset, buffer| {
        m.read(module.range.start.offset(offset), buffer).is_ok()
    })?;
    let runs = if kernel.is_aarch32() { has_aarch32(m) } else { has_aarch64(m) };
    if !runs {
        return Err(BootError::WrongWidth { aarch32: kernel.is_aarch32() });
    }
    // What of the module is copied, or stays.
    let (range, packed) = match kernel.packing {
        Packing::Plain { offset } => {
            let part = PaRange::new(module.range.start.offset(offset), kernel.file_size).unwrap_or_default();
            (part, part.end != module.range.end)
        }
        Packing::Gzip { .. } => (module.range, true),
    };
    let ram: u64 = platform.ram.iter().map(|bank| bank.size()).sum();
    let dom0_mem = options.dom0_mem.unwrap_or_else(|| (ram / 2).min(DOM0_MEM_DEFAULT));
    let mut reserved: Vec<PaRange> = platform.reserved.iter().map(|r| r.range).collect();
    let (guests, refused_guests) = static_guest::accept(platform, &[image, tree]);
    reserved.extend(guests.iter().flat_map(StaticGuest::reserved));
    let others: Vec<PaRange> = guests.iter().flat_map(StaticGuest::files).map(|(_, range)| range).collect();
    let book = crate::frames::Frames::book_bytes(&platform.ram);
    let map = BootMap::arrange(&Request {
        ram: &platform.ram,
        reserved: &reserved,
        hypervisor: image,
        host_tree: tree,
        kernel: KernelModule {
            range,
            text_offset: kernel.text_offset,
            memory_size: kernel.memory_size,
            packed,
            zimage: match kernel.kind {
                Kind::Arm64 => None,
                Kind::Zimage { span } => Some(span),
            },
        },
        ramdisk: platform.boot.ramdisk().map(|module| module.range),
        others: &others,
        // Ours is the host's with a few nodes more; what is written is checked against the room again.
        tree_size: (tree.size() * 2).clamp(64 << 10, dom0_tree::MAX_BYTES as u64),
        dom0_mem,
        // The book is one allocation, and the heap's blocks are powers of two, aligned to their size.
        heap: (HEAP_BASE + book).max(2 * book.next_power_of_two()),
        heap_limit: m.heap_limit(),
    })?;
    Ok(Plan { options, kernel, map, image, guests, refused_guests })
}
