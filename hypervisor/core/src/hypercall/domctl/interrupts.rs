//! Physical interrupts for a domain (`XEN_DOMCTL_irq_permission`, `_bind_pt_irq`, `_unbind_pt_irq`).

use vambrace_abi::domctl::{PT_IRQ_TYPE_SPI, XenDomctlBindPtIrq, XenDomctlIrqPermission};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::life::Stage;
use crate::machine::{Intid, Machine};
use crate::vgic::Effects;

pub(super) fn permit<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlIrqPermission = call.body()?;
    if request.pirq >= call.caller.hv.machine.intid_limit() {
        return Err(Errno::EINVAL);
    }
    if !call.caller.domain().permissions.lock().has_interrupt(request.pirq) {
        return Err(Errno::EPERM);
    }
    domain.permissions.lock().set_interrupt(request.pirq, request.allow_access != 0);
    Ok(0)
}

/// The interrupt of a request: the domain sees it by the number that it has.
fn interrupt<M: Machine>(call: &Call<'_, '_, M>) -> Result<Intid, Errno> {
    let request: XenDomctlBindPtIrq = call.body()?;
    if request.irq_type != PT_IRQ_TYPE_SPI {
        return Err(Errno::EOPNOTSUPP);
    }
    let physical = Intid::from(request.u[0] as u16);
    if physical != request.machine_irq {
        return Err(Errno::EINVAL);
    }
    Ok(physical)
}

/// EBUSY for an interrupt that a domain has, and for a number that stands for something else in this one.
pub(super) fn bind<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let intid = interrupt(call)?;
    let hv = call.caller.hv;
    if !call.caller.domain().permissions.lock().has_interrupt(intid) {
        return Err(Errno::EPERM);
    }
    let is_uart = domain.interrupts.uart == Some(intid) && domain.uart.get().is_some();
    // Its end gives its interrupts back, and waits for this lock before.
    let life = domain.life.lock();
    if is_uart || life.stage != Stage::Alive || !hv.claim_spi(intid, domain.id) {
        return Err(Errno::EBUSY);
    }
    let mut effects = Effects::new(hv, domain, None);
    let backed = domain.vgic.lock().set_hardware(0, intid, Some(intid), &mut effects);
    effects.tell();
    backed.map_err(|_| {
        // The domain's controller does not go so far.
        hv.release_spi(intid, domain.id);
        Errno::EBUSY
    })?;
    Ok(0)
}

/// EINVAL for an interrupt that the domain does not have.
pub(super) fn unbind<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let intid = interrupt(call)?;
    let hv = call.caller.hv;
    if hv.spi_owner(intid).is_none_or(|owner| owner.id != domain.id) {
        return Err(Errno::EINVAL);
    }
    let mut effects = Effects::new(hv, domain, None);
    let freed = domain.vgic.lock().set_hardware(0, intid, None, &mut effects);
    effects.tell();
    freed.map_err(|_| Errno::EINVAL)?;
    hv.release_spi(intid, domain.id);
    Ok(0)
}
