//! Carries out what a board wants done to its registers to start a CPU or to end the machine.

use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::platform::{PowerMethod, Step};

use crate::mmio::{Mmio, barrier, send_event};
use crate::{cpu, mmu, timer};

/// What a step may need besides registers.
pub trait Host {
    /// Calls the firmware's `function` without arguments; false where there is no way to.
    fn call_firmware(&self, function: u32) -> bool;
    /// Raises an SGI on all CPUs but this one.
    fn interrupt_others(&self);
}

/// Why a sequence stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepError {
    /// The register lies in memory, or beyond what can be mapped, or is not aligned.
    Register(Pa),
    /// The register did not become within a second what was waited for.
    Timeout(Pa),
    /// There is no firmware to call.
    Firmware,
    /// The step is for starting a CPU, or the entry lies beyond 4 GiB.
    Entry,
}

/// Ends the machine: tries the `ways` in turn, each until a second after its last step. Returns where none of them has an
/// effect.
pub(crate) fn end(ways: &[PowerMethod], host: &impl Host) {
    for way in ways {
        if carry_out(&way.steps, None, host).is_ok() {
            timer::delay(1_000_000);
        }
    }
}

/// Carries the steps out, up to the first that fails. `entry` is where a CPU that is being started begins (physical).
pub fn carry_out(steps: &[Step], entry: Option<Pa>, host: &impl Host) -> Result<(), StepError> {
    for step in steps {
        match *step {
            Step::Write { register, value } => map(register)?.write32(0, value),
            Step::WriteHalf { register, value } => map(register)?.write16(0, value),
            Step::AwaitHalf { register, mask } => wait(register, |mmio| mmio.read16(0) & mask == mask)?,
            Step::Update { register, mask, value } => {
                let mmio = map(register)?;
                mmio.write32(0, mmio.read32(0) & !mask | value & mask);
            }
            Step::WriteEntry { register } => {
                let entry = entry.and_then(|entry| u32::try_from(entry.0).ok()).ok_or(StepError::Entry)?;
                map(register)?.write32(0, entry);
            }
            Step::WriteOwn { register, stride, value } => {
                let own = stride.checked_mul(cpu::boot::mpidr() & 0xff);
                let register = own.and_then(|own| register.0.checked_add(own)).map(Pa);
                map(register.ok_or(StepError::Register(Pa(u64::MAX)))?)?.write32(0, value);
            }
            Step::Await { register, mask, value } => {
                wait(register, |mmio| mmio.read32(0) & mask == value & mask)?;
            }
            Step::Delay { microseconds } => timer::delay(microseconds),
            Step::Firmware { function } => {
                if !host.call_firmware(function) {
                    return Err(StepError::Firmware);
                }
            }
            Step::Interrupt => host.interrupt_others(),
            Step::Event => send_event(),
            Step::Idle => timer::idle_a_second(),
        }
        barrier();
    }
    Ok(())
}

/// Asks the register until it is `ready`, for a second at most.
fn wait(register: Pa, ready: impl Fn(Mmio) -> bool) -> Result<(), StepError> {
    let mmio = map(register)?;
    if timer::wait_a_second(|| ready(mmio)) { Ok(()) } else { Err(StepError::Timeout(register)) }
}

fn map(register: Pa) -> Result<Mmio, StepError> {
    let refused = StepError::Register(register);
    let range = PaRange::new(register, 4).filter(|_| register.is_aligned(4)).ok_or(refused)?;
    mmu::map_device(range).map_err(|_| refused)
}
