//! From a domain's first run to its end.

use alloc::sync::Arc;

use vambrace_abi::domctl::XenDomctlMaxVcpus;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::hypercall::Outcome;
use crate::life::{Progress, Stage};
use crate::machine::Machine;

/// How often a toolstack may pause a domain.
const MAX_PAUSES: u32 = 255;

/// EOVERFLOW when it was paused too often.
pub(super) fn pause<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    call.not_self(domain)?;
    {
        let mut life = domain.life.lock();
        if life.toolstack_pauses >= MAX_PAUSES {
            return Err(Errno::EOVERFLOW);
        }
        life.toolstack_pauses += 1;
    }
    call.caller.hv.pause(domain);
    Ok(0)
}

/// EINVAL for one that no toolstack has paused.
pub(super) fn unpause<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    {
        let mut life = domain.life.lock();
        life.toolstack_pauses = life.toolstack_pauses.checked_sub(1).ok_or(Errno::EINVAL)?;
        life.started |= life.toolstack_pauses == 0;
    }
    call.caller.hv.unpause(domain);
    Ok(0)
}

pub(super) fn resume<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    call.not_self(domain)?;
    // To resume one that runs is no error.
    let _ = call.caller.hv.resume(domain);
    Ok(0)
}

/// No ARM build of Xen can start a domain over with its memory kept.
pub(super) fn soft_reset<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    call.not_self(domain)?;
    if domain.shutdown_reason().is_none() {
        return Err(Errno::EINVAL);
    }
    Err(Errno::ENOSYS)
}

/// The vCPUs are there since the domain was made; a toolstack asks for them all the same.
pub(super) fn max_vcpus<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlMaxVcpus = call.body()?;
    call.not_self(domain)?;
    if request.max as usize != domain.vcpus.len() {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

pub(super) fn destroy<M: Machine>(call: &Call<'_, '_, M>, domain: &Arc<Domain<M>>) -> Outcome {
    if domain.is_hardware || call.not_self(domain).is_err() {
        return Outcome::Done(Err(Errno::EINVAL));
    }
    match call.caller.hv.destroy(domain) {
        Ok(Progress::Done) => Outcome::Done(Ok(0)),
        Ok(Progress::Again) => call.again(),
        // Another CPU does it: this call ends when that is finished, as the caller expects.
        Err(Errno::EBUSY) if domain.life.lock().stage != Stage::Dead => call.again(),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}
