//! What a board wants done to registers, in order, to start a CPU or to end the machine: data that `hal` carries out.

use crate::addr::Pa;

/// One step of a sequence. Registers are 32 bits wide unless the step says otherwise, little-endian, at physical addresses, and are device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes a register.
    Write {
        /// Which.
        register: Pa,
        /// What.
        value: u32,
    },
    /// Writes a register of 16 bits, which takes no wider access.
    WriteHalf {
        /// Which.
        register: Pa,
        /// What.
        value: u16,
    },
    /// Waits, at most for a second, until all bits of `mask` in a register of 16 bits are set.
    AwaitHalf {
        /// Which.
        register: Pa,
        /// Bits that are looked at.
        mask: u16,
    },
    /// Reads a register and writes it back with the bits of `mask` as `value` has them.
    Update {
        /// Which.
        register: Pa,
        /// Bits that change.
        mask: u32,
        /// What they become.
        value: u32,
    },
    /// Writes where the CPU that is being started is to begin: the physical address of the hypervisor's entry for
    /// secondary CPUs, which must be below 4 GiB.
    WriteEntry {
        /// Where that is written.
        register: Pa,
    },
    /// Writes the register that belongs to the CPU which executes this: `register + stride * MPIDR.Aff0`.
    WriteOwn {
        /// The register of the CPU with affinity 0.
        register: Pa,
        /// Distance between the CPUs' registers in bytes.
        stride: u64,
        /// What.
        value: u32,
    },
    /// Waits, at most for a second, until the bits of `mask` in a register are those of `value`.
    Await {
        /// Which.
        register: Pa,
        /// Bits that are looked at.
        mask: u32,
        /// What they are waited for to be.
        value: u32,
    },
    /// Waits.
    Delay {
        /// At least so long.
        microseconds: u32,
    },
    /// Calls a function of the firmware's without arguments (Arm DEN0028).
    Firmware {
        /// The function's number.
        function: u32,
    },
    /// Raises an SGI on all CPUs but this one: the CPU that is being started sleeps in `wfi`, and is not known by a number
    /// to the interrupt controller yet.
    Interrupt,
    /// Sends an event (`sev`): the CPU that is being started sleeps in `wfe`.
    Event,
    /// Has this CPU wait for interrupts (`wfi`), as power controllers ask a CPU to before they take its power away. After a
    /// second it goes on: nothing came of it.
    Idle,
}
