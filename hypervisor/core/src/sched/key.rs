//! The name of a vCPU.

/// Names a vCPU: domain identifier and index within the domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct VcpuKey {
    /// Domain identifier.
    pub domain: u16,
    /// Index of the vCPU in the domain.
    pub vcpu: u16,
}

impl VcpuKey {
    /// All keys that a domain's vCPUs can have.
    pub fn all_of(domain: u16) -> core::ops::RangeInclusive<Self> {
        Self { domain, vcpu: 0 }..=Self { domain, vcpu: u16::MAX }
    }
}
