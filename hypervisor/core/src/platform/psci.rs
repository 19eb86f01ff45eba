//! The firmware's power interface (Linux binding arm/psci; Arm DEN 0022).

use alloc::string::String;

use super::error::{PlatformError, Problem};
use super::tree::{Node, NodeId, Tree};

const NAMES: &[&str] = &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];

/// Instruction that calls the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `smc`.
    Smc,
    /// `hvc`; the hypervisor runs under another one.
    Hvc,
}

/// Version that the tree promises; the firmware's own PSCI_VERSION may be higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PsciVersion {
    /// 0.1: function identifiers are those in the tree.
    V0_1,
    /// 0.2: standard function identifiers.
    V0_2,
    /// 1.0 or later.
    V1_0,
}

/// The firmware's PSCI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Psci {
    /// Its node.
    pub node: NodeId,
    /// Path of its node.
    pub path: String,
    /// Version by `compatible`.
    pub version: PsciVersion,
    /// How it is called.
    pub conduit: Conduit,
    /// Function identifier of CPU_ON for version 0.1.
    pub cpu_on: Option<u32>,
    /// Function identifier of CPU_OFF for version 0.1.
    pub cpu_off: Option<u32>,
    /// Function identifier of CPU_SUSPEND for version 0.1.
    pub cpu_suspend: Option<u32>,
    /// Function identifier of MIGRATE for version 0.1.
    pub migrate: Option<u32>,
}

/// Whether the node describes PSCI.
pub(crate) fn is_psci(node: Node<'_, '_>) -> bool {
    node.is_available() && node.is_compatible_any(NAMES)
}

/// Finds the PSCI node.
pub(crate) fn find(tree: &Tree<'_>) -> Result<Option<Psci>, PlatformError> {
    let Some(node) = tree.nodes().find(|node| is_psci(*node)) else { return Ok(None) };
    let conduit = match node.string("method") {
        Some("smc") => Conduit::Smc,
        Some("hvc") => Conduit::Hvc,
        Some(_) => return Err(node.error("method", Problem::Value("\"smc\" or \"hvc\""))),
        None => return Err(node.error("method", Problem::Missing)),
    };
    let version = if node.is_compatible("arm,psci-1.0") {
        PsciVersion::V1_0
    } else if node.is_compatible("arm,psci-0.2") {
        PsciVersion::V0_2
    } else {
        PsciVersion::V0_1
    };
    Ok(Some(Psci {
        node: node.id(),
        path: node.path(),
        version,
        conduit,
        cpu_on: node.cell("cpu_on")?,
        cpu_off: node.cell("cpu_off")?,
        cpu_suspend: node.cell("cpu_suspend")?,
        migrate: node.cell("migrate")?,
    }))
}
