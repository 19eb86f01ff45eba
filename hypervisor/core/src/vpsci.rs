//! The firmware that guests see: PSCI 1.1 (Arm DEN0022) with the function numbers of 0.1 beside, and the SMC calling
//! convention (Arm DEN0028). Both conduits, `hvc #0` and `smc #0`, answer alike.

use core::sync::atomic::Ordering;

use vambrace_abi::arch_arm::{PSR_GUEST32_INIT, PSR_GUEST64_INIT};
use vambrace_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};
use vambrace_abi::smccc::{XEN_SMCCC_MAJOR_REVISION, XEN_SMCCC_MINOR_REVISION, XEN_SMCCC_UID};

use crate::addr::Ipa;
use crate::domain::{Domain, Seat, VcpuRun, mpidr_of_vcpu};
use crate::hypervisor::Hypervisor;
use crate::machine::{ContextSpec, Machine};
use crate::p2m::Kind;
use crate::run::Next;
use crate::trap::GuestRegs;

/// CPU_OFF of PSCI 0.1, where the device tree names the numbers.
pub const V01_CPU_OFF: u32 = 1;
/// CPU_ON of PSCI 0.1, where the device tree names the numbers.
pub const V01_CPU_ON: u32 = 2;

const VERSION: u32 = 0x8400_0000;
const CPU_SUSPEND: u32 = 0x8400_0001;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON: u32 = 0x8400_0003;
const AFFINITY_INFO: u32 = 0x8400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const FEATURES: u32 = 0x8400_000a;
/// Bit that makes a function number the 64-bit calling convention's.
const CONVENTION_64: u32 = 0x4000_0000;
const CPU_SUSPEND_64: u32 = CPU_SUSPEND | CONVENTION_64;
const CPU_ON_64: u32 = CPU_ON | CONVENTION_64;
const AFFINITY_INFO_64: u32 = AFFINITY_INFO | CONVENTION_64;

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// SMCCC_ARCH_WORKAROUND_1, 2 and 3: speculation barriers that only the real firmware can do.
const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

const HYPERVISOR_CALL_COUNT: u32 = 0x8600_ff00;
const HYPERVISOR_UID: u32 = 0x8600_ff01;
const HYPERVISOR_REVISION: u32 = 0x8600_ff03;

const SUCCESS: i32 = 0;
const NOT_SUPPORTED: i32 = -1;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;
const INVALID_ADDRESS: i32 = -9;

const PSCI_1_1: u64 = 0x0001_0001;
const SMCCC_1_1: u64 = 0x0001_0001;
/// No trusted OS to migrate (DEN0022, MIGRATE_INFO_TYPE).
const NO_MIGRATION: u64 = 2;

/// Whether the vCPU's address space holds its kernel; AFFINITY_INFO's answers.
const AFFINITY_ON: u64 = 0;
const AFFINITY_OFF: u64 = 1;

/// Carries out a call to the firmware. The program counter is past the instruction.
#[inline]
pub(crate) fn call<M: Machine>(hv: &Hypervisor<M>, seat: &Seat<M>, run: &mut VcpuRun<M>) -> Next {
    // Function numbers are 32 bits; the upper half of x0 is ignored (DEN0028, 2.5).
    let function = run.regs.x[0] as u32;
    match function {
        // The 64-bit convention is for AArch64 callers.
        CPU_ON_64 | CPU_SUSPEND_64 | AFFINITY_INFO_64 if seat.domain.is_aarch32() => {
            status(run, NOT_SUPPORTED)
        }
        VERSION => answer(run, PSCI_1_1),
        SMCCC_VERSION => answer(run, SMCCC_1_1),
        CPU_ON | CPU_ON_64 | V01_CPU_ON => cpu_on(hv, seat, run, function == CPU_ON_64),
        CPU_OFF | V01_CPU_OFF => {
            seat.vcpu.online.store(false, Ordering::Release);
            Next::Offline
        }
        CPU_SUSPEND | CPU_SUSPEND_64 => {
            status(run, SUCCESS);
            Next::Block
        }
        AFFINITY_INFO | AFFINITY_INFO_64 => affinity_info(seat, run, function == AFFINITY_INFO_64),
        MIGRATE_INFO_TYPE => answer(run, NO_MIGRATION),
        SYSTEM_OFF | SYSTEM_RESET => {
            let reason = if function == SYSTEM_OFF { SHUTDOWN_POWEROFF } else { SHUTDOWN_REBOOT };
            // The vCPU stops before it would go on.
            hv.shut_down(&seat.domain, reason);
            Next::Resume
        }
        FEATURES => {
            let asked = run.regs.x[1] as u32;
            let callable = asked & CONVENTION_64 == 0 || !seat.domain.is_aarch32();
            let known = callable
                && matches!(
                    asked,
                    VERSION
                        | CPU_SUSPEND
                        | CPU_OFF
                        | CPU_ON
                        | AFFINITY_INFO
                        | MIGRATE_INFO_TYPE
                        | SYSTEM_OFF
                        | SYSTEM_RESET
                        | FEATURES
                        | CPU_SUSPEND_64
                        | CPU_ON_64
                        | AFFINITY_INFO_64
                        | SMCCC_VERSION
                );
            status(run, if known { SUCCESS } else { NOT_SUPPORTED })
        }
        SMCCC_ARCH_FEATURES => arch_features(hv, run),
        HYPERVISOR_CALL_COUNT => answer(run, 3),
        HYPERVISOR_REVISION => {
            run.regs.x[1] = u64::from(XEN_SMCCC_MINOR_REVISION);
            answer(run, u64::from(XEN_SMCCC_MAJOR_REVISION))
        }
        HYPERVISOR_UID => {
            for (register, bytes) in run.regs.x.iter_mut().zip(XEN_SMCCC_UID.chunks_exact(4)) {
                *register = bytes.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
            }
            Next::Resume
        }
        function if WORKAROUNDS.contains(&function) => {
            let result = hv.machine.firmware_call(u64::from(function), [0; 7]);
            status(run, if result.is_some() { SUCCESS } else { NOT_SUPPORTED })
        }
        _ => status(run, NOT_SUPPORTED),
    }
}

fn answer<M: Machine>(run: &mut VcpuRun<M>, value: u64) -> Next {
    run.regs.x[0] = value;
    Next::Resume
}

/// Answers with a status, sign-extended to 64 bits (DEN0022, 5.2.2).
fn status<M: Machine>(run: &mut VcpuRun<M>, status: i32) -> Next {
    answer(run, status as i64 as u64)
}

/// An argument in the call's convention.
const fn argument(value: u64, wide: bool) -> u64 {
    if wide { value } else { value & 0xffff_ffff }
}

fn cpu_on<M: Machine>(hv: &Hypervisor<M>, seat: &Seat<M>, run: &mut VcpuRun<M>, wide: bool) -> Next {
    let domain = &seat.domain;
    // An AArch64 guest of PSCI 0.1 passes 64-bit arguments under any number; a 32-bit one has none.
    let wide = wide || !run.regs.is_aarch32();
    let [_, target, entry, context, ..] = run.regs.x;
    let (target, entry, context) = (argument(target, wide), argument(entry, wide), argument(context, wide));
    let Some(vcpu) = domain.vcpu_by_affinity(target) else { return status(run, INVALID_PARAMETERS) };
    if vcpu.is_online() || vcpu.key == seat.vcpu.key {
        return status(run, ALREADY_ON);
    }
    // A 32-bit kernel may begin in Thumb code, which bit 0 says.
    let aligned = entry.is_multiple_of(4) || (domain.is_aarch32() && entry & 1 != 0);
    if !aligned || domain.p2m.lock().lookup(&hv.machine, Ipa(entry)).is_none_or(|m| m.kind == Kind::Device) {
        return status(run, INVALID_ADDRESS);
    }
    {
        // Held by the vCPU's old CPU until it has left after CPU_OFF.
        let mut fresh = vcpu.run.lock();
        if vcpu.online.swap(true, Ordering::AcqRel) {
            return status(run, ALREADY_ON);
        }
        fresh.start(&hv.machine, domain, usize::from(vcpu.key.vcpu), entry, [context, 0, 0]);
    }
    hv.bring_online(vcpu);
    status(run, SUCCESS)
}

impl<M: Machine> VcpuRun<M> {
    /// Sets a vCPU of the domain's up to begin at `entry` (intermediate physical, MMU off; bit 0 means Thumb code in a
    /// 32-bit kernel) with its first registers given.
    pub(crate) fn start(&mut self, m: &M, domain: &Domain<M>, index: usize, entry: u64, first: [u64; 3]) {
        const THUMB: u64 = 1 << 5;
        let (pc, pstate) = match (domain.is_aarch32(), entry & 1) {
            (false, _) => (entry, PSR_GUEST64_INIT),
            (true, 0) => (entry, PSR_GUEST32_INIT),
            (true, _) => (entry & !1, PSR_GUEST32_INIT | THUMB),
        };
        self.regs = GuestRegs { pc, pstate, ..GuestRegs::default() };
        for (register, value) in self.regs.x.iter_mut().zip(first) {
            *register = value;
        }
        let (mpidr, counter_offset) = (mpidr_of_vcpu(index), domain.counter_offset);
        self.context = m.new_context(&ContextSpec { mpidr, counter_offset, aarch32: domain.is_aarch32() });
        self.physical_timer.control = 0;
    }
}

fn affinity_info<M: Machine>(seat: &Seat<M>, run: &mut VcpuRun<M>, wide: bool) -> Next {
    let [_, target, level, ..] = run.regs.x;
    // Only the lowest level is a CPU; higher ones need not be served since PSCI 1.0 (DEN0022, 5.7.2).
    if argument(level, wide) != 0 {
        return status(run, INVALID_PARAMETERS);
    }
    match seat.domain.vcpu_by_affinity(argument(target, wide)) {
        Some(vcpu) => answer(run, if vcpu.is_online() { AFFINITY_ON } else { AFFINITY_OFF }),
        None => status(run, INVALID_PARAMETERS),
    }
}

/// A guest may use a workaround if the real firmware has it.
fn arch_features<M: Machine>(hv: &Hypervisor<M>, run: &mut VcpuRun<M>) -> Next {
    let function = run.regs.x[1] as u32;
    if matches!(function, SMCCC_VERSION | SMCCC_ARCH_FEATURES) {
        return status(run, SUCCESS);
    }
    if !WORKAROUNDS.contains(&function) {
        return status(run, NOT_SUPPORTED);
    }
    let args = [u64::from(function), 0, 0, 0, 0, 0, 0];
    match hv.machine.firmware_call(u64::from(SMCCC_ARCH_FEATURES), args) {
        Some([result, ..]) => status(run, result as i32),
        None => status(run, NOT_SUPPORTED),
    }
}
