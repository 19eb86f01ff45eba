//! `vcpu_op`: shared areas of a vCPU (`vcpu.h`). On ARM vCPUs go up and down by PSCI, so that is all.

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::vcpu::*;

use super::Caller;
use crate::addr::{GuestVa, Ipa};
use crate::machine::{Access, Machine};
use crate::runstate::{Area, Runstate};

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
            let at = area.addr.address();
            let area = match at {
                0 => None,
                _ => Some(runstate_area(at, |va| caller.hv.machine.translate(GuestVa(va), Access::Write))?),
            };
            register_runstate(caller, target, area)
        }
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA => {
            let area = caller.memory().read(XenHandle::<VcpuRegisterRunstateMemoryArea>::new(argument))?;
            let at = area.addr.address();
            let area = match at {
                u64::MAX => None,
                _ => {
                    let p2m = caller.domain().p2m.lock();
                    Some(runstate_area(at, |ipa| {
                        let mapping = p2m.lookup(&caller.hv.machine, Ipa(ipa))?;
                        (mapping.writable && !mapping.device).then_some(mapping.pa)
                    })?)
                }
            };
            register_runstate(caller, target, area)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The physical places of the area at `at`, which may cross into a second page.
fn runstate_area(at: u64, find: impl Fn(u64) -> Option<crate::addr::Pa>) -> Result<Area, Errno> {
    if !at.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    Area::find(at, find).ok_or(Errno::EFAULT)
}

fn register_runstate<M: Machine>(
    caller: &Caller<'_, M>,
    target: &crate::domain::Vcpu<M>,
    area: Option<Area>,
) -> HypercallResult {
    let mut runstate = target.runstate.lock();
    runstate.area = area;
    Runstate::publish(&runstate, &caller.hv.machine, caller.domain().runstate_update_flag());
    Ok(0)
}

fn register_vcpu_info<M: Machine>(
    caller: &Caller<'_, M>,
    vcpu: u32,
    info: &VcpuRegisterVcpuInfo,
) -> HypercallResult {
    let at = Ipa::from_frame(info.mfn);
    if at.frame() != info.mfn {
        return Err(Errno::EINVAL);
    }
    let mapping = caller.domain().p2m.lock().lookup(&caller.hv.machine, at).ok_or(Errno::EINVAL)?;
    if mapping.device || !mapping.writable {
        return Err(Errno::EINVAL);
    }
    let notify = caller.domain().events.lock().register_vcpu_info(
        &caller.hv.machine,
        vcpu,
        mapping.pa,
        info.offset,
    )?;
    if notify {
        caller.hv.raise_event(caller.domain(), vcpu as usize);
    }
    Ok(0)
}
