//! Whether a domain's kernel is a 32-bit or a 64-bit one (`XEN_DOMCTL_set_address_size`, `_get_address_size`).

use core::sync::atomic::Ordering;

use vambrace_abi::domctl::XenDomctlAddressSize;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::{Domain, mpidr_of_vcpu};
use crate::idregs::{has_aarch32, has_aarch64};
use crate::machine::{ContextSpec, Machine};
use crate::trap::GuestRegs;

/// EBUSY once it has memory.
pub(super) fn set<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlAddressSize = call.body()?;
    call.not_self(domain)?;
    let hv = call.caller.hv;
    let m = &hv.machine;
    let aarch32 = match request.size {
        32 if has_aarch32(m) => true,
        64 if has_aarch64(m) => false,
        _ => return Err(Errno::EINVAL),
    };
    if domain.pages() != 0 {
        return Err(Errno::EBUSY);
    }
    if domain.aarch32.swap(aarch32, Ordering::AcqRel) == aarch32 {
        return Ok(0);
    }
    hv.pause(domain);
    for (index, vcpu) in domain.vcpus.iter().enumerate() {
        // What registers it had are those of the other width.
        hv.take_offline(vcpu);
        let mut run = vcpu.run.lock();
        run.regs = GuestRegs::default();
        let spec =
            ContextSpec { mpidr: mpidr_of_vcpu(index), counter_offset: domain.counter_offset, aarch32 };
        run.context = m.new_context(&spec);
    }
    hv.unpause(domain);
    Ok(0)
}

/// Stock Xen does not tell on ARM; `xl dump-core` asks for it.
pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    call.answer(&XenDomctlAddressSize { size: if domain.is_aarch32() { 32 } else { 64 } })
}
