//! CPUs, and how secondary ones are started (Devicetree Specification 0.4, section 3.8; Linux binding arm/cpus).

use alloc::string::String;
use alloc::vec::Vec;

use super::address::{address_cells, entries};
use super::error::{PlatformError, Problem};
use super::release::Release;
use super::sequence::Step;
use super::tree::{NodeId, Tree};
use crate::addr::Pa;

/// Most CPUs accepted.
const MAX_CPUS: usize = 1024;
/// Affinity fields of MPIDR_EL1: Aff3 in bits 39:32, Aff2 to Aff0 in bits 23:0 (Arm ARM, MPIDR_EL1).
pub const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

/// How a CPU is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// PSCI CPU_ON.
    Psci,
    /// The CPU waits for an address to appear in a 64-bit word of memory.
    SpinTable {
        /// Physical address of the word.
        release: Pa,
    },
    /// The board's registers start it.
    Registers {
        /// The way's name, for the log.
        name: &'static str,
        /// What is to be done, in order.
        steps: Vec<Step>,
        /// In which state the CPU arrives.
        arrival: Arrival,
    },
    /// A way that is not known, by its name in the tree.
    Other(String),
    /// The tree does not say.
    Unknown,
}

/// In which state a CPU arrives that the board's registers start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// As firmware starts a hypervisor: at EL2, or in Hyp mode.
    Hypervisor,
    /// In the Secure state, in Supervisor mode: it leaves that by itself.
    Secure,
    /// In the Non-secure state, in Supervisor mode: the monitor in a TI OMAP5's ROM takes it to Hyp mode.
    OmapMonitor,
}

/// A CPU of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its node.
    pub node: NodeId,
    /// Affinity fields as in MPIDR_EL1, other bits 0.
    pub mpidr: u64,
    /// `compatible`, most specific first.
    pub compatible: Vec<String>,
    /// How it is started.
    pub enable: EnableMethod,
}

/// Reads `/cpus`, in the order of the tree.
pub(crate) fn find(tree: &Tree<'_>) -> Result<Vec<Cpu>, PlatformError> {
    let root = tree.root();
    let missing =
        || PlatformError { path: String::from("/cpus"), property: String::new(), problem: Problem::Missing };
    let cpus = root.child("cpus").ok_or_else(missing)?;
    let cells = address_cells(cpus)?;
    let has_psci = tree.nodes().any(super::psci::is_psci);
    let release = if has_psci { None } else { Release::find(tree)? };
    let mut found: Vec<Cpu> = Vec::new();
    for node in cpus.children() {
        if node.string("device_type") != Some("cpu") && node.base_name() != "cpu" {
            continue;
        }
        // "disabled" with an enable-method means parked, and can be started; "fail" is broken.
        let can_start = match node.string("status") {
            None | Some("okay" | "ok") => true,
            Some("disabled") => node.has("enable-method") || cpus.has("enable-method"),
            Some(_) => false,
        };
        if !can_start {
            continue;
        }
        if found.len() >= MAX_CPUS {
            return Err(cpus.error("", Problem::TooLarge { what: "CPUs", limit: MAX_CPUS as u64 }));
        }
        let registers = entries(node, "reg", [cells])?;
        let [reg] = *registers.first().ok_or_else(|| node.error("reg", Problem::Missing))?;
        let mpidr = u64::try_from(reg)
            .ok()
            .filter(|reg| reg & !MPIDR_AFFINITY == 0)
            .ok_or_else(|| node.error("reg", Problem::Value("the affinity fields of an MPIDR")))?;
        if found.iter().any(|cpu| cpu.mpidr == mpidr) {
            return Err(node.error("reg", Problem::Value("an MPIDR that no other CPU has")));
        }
        let method = node.string("enable-method").or_else(|| cpus.string("enable-method"));
        let enable = match method {
            Some("psci") => EnableMethod::Psci,
            Some("spin-table") => {
                let name = "cpu-release-addr";
                let release = node.number(name)?.ok_or_else(|| node.error(name, Problem::Missing))?;
                EnableMethod::SpinTable { release: Pa(release) }
            }
            None if has_psci => EnableMethod::Psci,
            other => match (&release, other) {
                (Some(release), _) => release.method(mpidr),
                (None, Some(other)) => EnableMethod::Other(String::from(other)),
                (None, None) => EnableMethod::Unknown,
            },
        };
        let compatible = node.strings("compatible").map(String::from).collect();
        found.push(Cpu { node: node.id(), mpidr, compatible, enable });
    }
    if found.is_empty() {
        Err(cpus.error("", Problem::Unsupported("no CPU is described")))
    } else {
        Ok(found)
    }
}
