//! Tests of what only works together: the run loop, hypercalls, the emulated firmware, on a [`crate::testing::World`].

mod aarch32;
mod calls;
mod grants;
mod interrupts;
mod life;
mod memory;
mod p2m;
mod psci;
mod run;
mod sched;
