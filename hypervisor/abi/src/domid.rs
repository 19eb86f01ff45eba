//! Domain numbers with a meaning of their own (`xen.h`, `DOMID_*`).

/// A domain's number (`domid_t`). Ordinary domains are below [`DOMID_FIRST_RESERVED`].
pub type DomId = u16;

/// A domain's UUID, sixteen bytes in the order they are printed (`xen_domain_handle_t`).
pub type DomainHandle = [u8; 16];

/// First number that no ordinary domain can have.
pub const DOMID_FIRST_RESERVED: DomId = 0x7FF0;
/// The caller itself.
pub const DOMID_SELF: DomId = 0x7FF0;
/// Owner of memory-mapped I/O pages.
pub const DOMID_IO: DomId = 0x7FF1;
/// Owner of the hypervisor's shared pages.
pub const DOMID_XEN: DomId = 0x7FF2;
/// Owner of shared copy-on-write pages.
pub const DOMID_COW: DomId = 0x7FF3;
/// No owner, or an unknown one.
pub const DOMID_INVALID: DomId = 0x7FF4;
/// The idle domain.
pub const DOMID_IDLE: DomId = 0x7FFF;
/// The bits a domain number may have.
pub const DOMID_MASK: DomId = 0x7FFF;
