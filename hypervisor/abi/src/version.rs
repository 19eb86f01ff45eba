//! `xen_version`: version, features and build facts (`version.h`, `features.h`).
//!
//! `x0` is one of `XENVER_*`, `x1` the guest virtual address of the structure named at it.

use crate::memory::XenUlong;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// No argument; answers `major << 16 | minor`.
pub const XENVER_VERSION: u32 = 0;
/// Fills [`XenExtraversion`].
pub const XENVER_EXTRAVERSION: u32 = 1;
/// Fills [`XenCompileInfo`].
pub const XENVER_COMPILE_INFO: u32 = 2;
/// Fills [`XenCapabilitiesInfo`].
pub const XENVER_CAPABILITIES: u32 = 3;
/// Fills [`XenChangesetInfo`].
pub const XENVER_CHANGESET: u32 = 4;
/// Fills [`XenPlatformParameters`].
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// Fills [`XenFeatureInfo::submap`] for its `submap_idx`.
pub const XENVER_GET_FEATURES: u32 = 6;
/// No argument; answers the page size in bytes, 4096.
pub const XENVER_PAGESIZE: u32 = 7;
/// Fills the caller's UUID ([`crate::domid::DomainHandle`]).
pub const XENVER_GUEST_HANDLE: u32 = 8;
/// Fills [`XenCommandline`].
pub const XENVER_COMMANDLINE: u32 = 9;
/// Fills a [`XenVarbuf`] with the build identifier; answers its length in bytes.
pub const XENVER_BUILD_ID: u32 = 10;
/// As `XENVER_EXTRAVERSION`, into a [`XenVarbuf`]. Since Xen 4.18.
pub const XENVER_EXTRAVERSION2: u32 = 11;
/// As `XENVER_CAPABILITIES`, into a [`XenVarbuf`]. Since Xen 4.18.
pub const XENVER_CAPABILITIES2: u32 = 12;
/// As `XENVER_CHANGESET`, into a [`XenVarbuf`]. Since Xen 4.18.
pub const XENVER_CHANGESET2: u32 = 13;
/// As `XENVER_COMMANDLINE`, into a [`XenVarbuf`]. Since Xen 4.18.
pub const XENVER_COMMANDLINE2: u32 = 14;

/// The part of the version after `major.minor`, for example `.1-debian`, ended by NUL (`xen_extraversion_t`).
pub type XenExtraversion = [u8; 16];
/// Which guests can run, words separated by spaces, ended by NUL (`xen_capabilities_info_t`).
pub type XenCapabilitiesInfo = [u8; 1024];
/// The source revision, ended by NUL (`xen_changeset_info_t`).
pub type XenChangesetInfo = [u8; 64];
/// The hypervisor's command line, ended by NUL (`xen_commandline_t`).
pub type XenCommandline = [u8; 1024];

/// Answer of `XENVER_version` by Xen 4.17.
pub const XEN_VERSION_4_17: u32 = 0x0004_0011;
/// Answer of `XENVER_version` by Xen 4.20.
pub const XEN_VERSION_4_20: u32 = 0x0004_0014;

/// Who built the hypervisor, when, with what; each ended by NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenCompileInfo {
    /// Compiler and its version.
    pub compiler: [u8; 64],
    /// Who.
    pub compile_by: [u8; 16],
    /// On which machine.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}

/// Where the hypervisor lies in a guest's address space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenPlatformParameters {
    /// First virtual address of the hypervisor's area.
    pub virt_start: XenUlong,
}

/// One 32-bit word of features.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenFeatureInfo {
    /// In: which word. Only 0 exists ([`XENFEAT_NR_SUBMAPS`]).
    pub submap_idx: u32,
    /// Out: the word; bit numbers are `XENFEAT_*`.
    pub submap: u32,
}

/// Head of a buffer of any length (`xen_varbuf`; before Xen 4.18 known as `xen_build_id`). The data follows
/// at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenVarbuf {
    /// In: bytes of room after this word; 0 with a null handle asks for the length only.
    pub len: u32,
}

/// Page-table pages may be mapped writable.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// x86: descriptor tables may be mapped writable.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// The guest's frame numbers are intermediate physical: the hypervisor translates.
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The guest kernel runs in supervisor mode.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// x86 only.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// x86 only.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// x86 only.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// Grant mappings honour the software bits of a page-table entry.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// x86 only.
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// x86 only.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// x86 only.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// The caller may act as dom0.
pub const XENFEAT_DOM0: u32 = 11;
/// `XENMEMF_vnode` is understood.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// The SMC calling convention is served.
pub const XENFEAT_ARM_SMCCC_SUPPORTED: u32 = 14;
/// x86 only.
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// The caller's memory is not mapped one to one.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// The caller's memory is mapped one to one (frame number = physical frame number).
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;
/// The runstate area can be registered by physical address. Since Xen 4.19.
pub const XENFEAT_RUNSTATE_PHYS_AREA: u32 = 18;
/// The time area can be registered by physical address. Since Xen 4.19.
pub const XENFEAT_VCPU_TIME_PHYS_AREA: u32 = 19;
/// A device model sees all MSI-X table writes. Since Xen 4.20.
pub const XENFEAT_DM_MSIX_ALL_WRITES: u32 = 20;
/// How many words of features there are.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn feature_info_crosses_the_boundary() {
        let mut info = XenFeatureInfo::read_from_bytes(&[0; 8]).unwrap();
        info.submap = 1 << XENFEAT_DIRECT_MAPPED;
        assert_eq!(info.as_bytes(), [0, 0, 0, 0, 0, 0, 2, 0]);
    }
}
