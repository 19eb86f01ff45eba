//! What the scheduler tells about vCPUs, CPUs and domains.

use super::CpuMask;
use crate::machine::CpuId;

/// What a vCPU does, as the scheduler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Not brought up, or switched off.
    Offline,
    /// Waits for an interrupt or event.
    Blocked,
    /// Would run: waits for a CPU, for its pause to end, or for its domain's cap to allow it.
    Runnable,
    /// Runs on the CPU.
    Running(CpuId),
}

/// A vCPU's account.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// What it does.
    pub status: Status,
    /// How often it is paused; it runs only with 0.
    pub pauses: u32,
    /// Time it has run, in counter ticks, without what [`Account::running_since`] adds.
    pub run_time: u64,
    /// If it runs: the counter's value from which on its time is not in `run_time` yet.
    pub running_since: Option<u64>,
    /// CPU it ran on last.
    pub last_cpu: CpuId,
    /// CPUs it may run on, of those in its pool (hard affinity).
    pub affinity: CpuMask,
    /// CPUs it had better run on (soft affinity).
    pub soft_affinity: CpuMask,
    /// Share of a CPU relative to others.
    pub weight: u32,
}

impl Account {
    /// Time it has run until `now`, in counter ticks.
    pub fn run_time_at(&self, now: u64) -> u64 {
        self.run_time + self.running_since.map_or(0, |since| now.saturating_sub(since))
    }
}

/// A physical CPU's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuAccount {
    /// It takes part.
    pub online: bool,
    /// Time with nothing to run, in counter ticks.
    pub idle_time: u64,
    /// The pool that has it, if any.
    pub pool: Option<u32>,
}

/// A domain's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainAccount {
    /// Share of a CPU relative to others, for each of its vCPUs: 1 to 65535.
    pub weight: u16,
    /// What all its vCPUs together may use at most, in per cent of a CPU; 0 for no limit.
    pub cap: u16,
    /// Its pool.
    pub pool: u32,
}

/// A pool of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolAccount {
    /// Its number.
    pub id: u32,
    /// Its CPUs.
    pub cpus: CpuMask,
    /// Domains in it.
    pub domains: u32,
    /// Shortest turn before a waking vCPU may push another aside, in microseconds.
    pub ratelimit_us: u32,
}

/// How a vCPU spent the time between two turns, in counter ticks. What is left was blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waited {
    /// Waiting for a CPU.
    pub runnable: u64,
    /// Switched off, or paused while it would have run.
    pub offline: u64,
}

/// What a vCPU that is not on a CPU does, as its guest is told (`vcpu.h`, RUNSTATE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idleness {
    /// Waits for a CPU.
    Runnable,
    /// Waits for an interrupt or event, paused or not.
    Blocked,
    /// Switched off, or paused while it would run.
    Offline,
}
