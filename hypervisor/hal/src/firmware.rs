//! Calls to the secure firmware (SMCCC, Arm DEN 0028; PSCI, Arm DEN 0022).

use vambrace_core::addr::Pa;
use vambrace_core::platform::{Conduit, Psci};

use crate::cpu;

/// Number of PSCI's CPU_ON since version 0.2, for this width of CPU (Arm DEN 0022, 5.1.4).
const CPU_ON: u32 = if cfg!(target_pointer_width = "64") { 0xc400_0003 } else { 0x8400_0003 };
/// CPU_ON's answer for a CPU that runs.
const ALREADY_ON: i32 = -4;

/// Why the firmware did not start a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuOnError {
    /// The firmware cannot be called from here: `hvc` would reach the hypervisor itself.
    Conduit,
    /// It refused, with this PSCI error.
    Refused(i32),
}

/// Calls the firmware with seven arguments; returns the first four result registers. `None` where the conduit reaches
/// no firmware from here, and for the PSCI functions that continue at an address of the caller's: CPU_ON (see
/// [`cpu_on`]), CPU_SUSPEND, CPU_DEFAULT_SUSPEND and SYSTEM_SUSPEND, and where PSCI 0.1 has given them other numbers.
///
/// Firmware is trusted: what it does with addresses among the arguments of its own services is not checked here.
pub fn call(psci: &Psci, function: u64, args: [u64; 7]) -> Option<[u64; 4]> {
    let number = function as u32;
    let continues_elsewhere =
        matches!(number & !(1 << 30), 0x8400_0001 | 0x8400_0003 | 0x8400_000c | 0x8400_000e)
            || psci.cpu_on == Some(number)
            || psci.cpu_suspend == Some(number);
    if psci.conduit != Conduit::Smc || continues_elsewhere {
        return None;
    }
    // SAFETY: the functions that would run code or resume at an address given are refused above; the firmware returns
    // here with the registers kept that SMCCC says.
    Some(unsafe { cpu::firmware::smc(function, args) })
}

/// Starts the CPU with affinity `mpidr` at `entry` (physical).
///
/// # Safety
/// `entry` is code that keeps off all Rust memory but what is made for it, until it has a stack of its own.
pub(crate) unsafe fn cpu_on(psci: &Psci, mpidr: u64, entry: Pa) -> Result<(), CpuOnError> {
    if psci.conduit != Conduit::Smc {
        return Err(CpuOnError::Conduit);
    }
    let function = psci.cpu_on.unwrap_or(CPU_ON);
    // SAFETY: by this function's contract.
    let result = unsafe { cpu::firmware::smc(u64::from(function), [mpidr, entry.0, 0, 0, 0, 0, 0]) };
    match result[0] as i32 {
        // ALREADY_ON: it is ours from an earlier try, and waits at the slot.
        0 | ALREADY_ON => Ok(()),
        error => Err(CpuOnError::Refused(error)),
    }
}
