//! `vcpu_op`: shared areas of a vCPU (`vcpu.h`). On ARM vCPUs go up and down by PSCI, so that is all.

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::vcpu::*;

use super::Caller;
use crate::addr::{GuestVa, Ipa, Pa};
use crate::domain::Vcpu;
use crate::machine::{Access, Machine};
use crate::p2m::P2m;
use crate::runstate::Area;

pub(super) fn op<M: Machine>(
    caller: &Caller<'_, M>,
    command: u64,
    vcpu: u64,
    argument: u64,
) -> HypercallResult {
    let target =
        usize::try_from(vcpu).ok().and_then(|v| caller.domain().vcpus.get(v)).ok_or(Errno::ENOENT)?;
    match u32::try_from(command).map_err(|_| Errno::EINVAL)? {
        VCPUOP_REGISTER_VCPU_INFO => {
            let info = caller.memory().read(XenHandle::<VcpuRegisterVcpuInfo>::new(argument))?;
            register_vcpu_info(caller, target.key.vcpu.into(), &info)
        }
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let area = caller.memory().read(XenHandle::<VcpuRegisterRunstateMemoryArea>::new(argument))?;
            let at = Some(area.addr.address()).filter(|at| *at != 0);
            let translate = |va| caller.hv.machine.translate(GuestVa(va), Access::Write);
            register_runstate(caller, target, at, |_, va| translate(va))
        }
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA => {
            let area = caller.memory().read(XenHandle::<VcpuRegisterRunstateMemoryArea>::new(argument))?;
            let at = Some(area.addr.address()).filter(|at| *at != u64::MAX);
            register_runstate(caller, target, at, |p2m, ipa| {
                let mapping = p2m.lookup(&caller.hv.machine, Ipa(ipa))?;
                mapping.kind.is_writable().then_some(mapping.pa)
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Has the hypervisor keep a vCPU's runstate at guest address `at`, of which `find` gives the physical address; nowhere
/// for `None`. The area may cross into a second page, and holds the one or two.
fn register_runstate<M: Machine>(
    caller: &Caller<'_, M>,
    target: &Vcpu<M>,
    at: Option<u64>,
    find: impl Fn(&P2m, u64) -> Option<Pa>,
) -> HypercallResult {
    let (hv, domain) = (caller.hv, caller.domain());
    let area = match at {
        None => None,
        Some(at) if !at.is_multiple_of(8) => return Err(Errno::EINVAL),
        Some(at) => {
            let p2m = domain.p2m.lock();
            let area = Area::find(at, |at| find(&p2m, at)).ok_or(Errno::EFAULT)?;
            let mut frames = hv.frames.lock();
            for (held, page) in area.pages().enumerate() {
                if frames.hold(page, domain.id).is_err() {
                    area.pages().take(held).for_each(|page| frames.put(page));
                    return Err(Errno::EFAULT);
                }
            }
            Some(area)
        }
    };
    let old = {
        let mut runstate = target.runstate.lock();
        let old = core::mem::replace(&mut runstate.area, area);
        runstate.publish(&hv.machine, domain.runstate_update_flag());
        old
    };
    if let Some(old) = old {
        let mut frames = hv.frames.lock();
        old.pages().for_each(|page| frames.put(page));
    }
    Ok(0)
}

fn register_vcpu_info<M: Machine>(
    caller: &Caller<'_, M>,
    vcpu: u32,
    info: &VcpuRegisterVcpuInfo,
) -> HypercallResult {
    let page = caller.hv.page(caller.domain(), info.mfn)?;
    let notify =
        caller.domain().events.lock().register_vcpu_info(&caller.hv.machine, vcpu, page.pa, info.offset)?;
    page.keep();
    if notify {
        caller.hv.raise_event(caller.domain(), vcpu as usize);
    }
    Ok(0)
}
