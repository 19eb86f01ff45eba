//! What the `compatible` string of a CPU says of its architecture (Linux binding `arm/cpus.yaml`).

use vambrace_bsp::Architecture;

/// What a hypervisor can do with a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Core {
    /// It has the virtualization extensions of this architecture.
    Capable(Architecture),
    /// It has none: no hypervisor runs on it.
    WithoutVirtualization,
    /// The name is not known here.
    Unknown,
}

/// The core that a `compatible` string names.
pub(super) fn core(compatible: &str) -> Core {
    const V7: Core = Core::Capable(Architecture::Armv7);
    const V8: Core = Core::Capable(Architecture::Aarch64);
    if let Some(model) = compatible.strip_prefix("arm,cortex-a") {
        let digits = model.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        return match digits.parse() {
            Ok(5 | 8 | 9) => Core::WithoutVirtualization,
            // The Cortex-A32 is of ARMv8-A, without AArch64.
            Ok(7 | 12 | 15 | 17 | 32) => V7,
            Ok(34_u32..) => V8,
            _ => Core::Unknown,
        };
    }
    let starts = |names: &[&str]| names.iter().any(|name| compatible.starts_with(name));
    if starts(&["brcm,brahma-b15"]) {
        V7
    } else if starts(&[
        "arm,cortex-x",
        "arm,neoverse-",
        "arm,armv8",
        "apm,potenza",
        "apm,strega",
        "ampere,",
        "apple,",
        "brcm,brahma-b53",
        "brcm,vulcan",
        "cavium,thunder",
        "fujitsu,",
        "hisilicon,tsv110",
        "nvidia,tegra132-denver",
        "nvidia,tegra186-denver",
        "nvidia,tegra194-carmel",
        "qcom,kryo",
        "qcom,falkor",
        "qcom,oryon",
        "samsung,mongoose",
    ]) {
        V8
    } else if starts(&[
        "arm,arm7",
        "arm,arm9",
        "arm,arm10",
        "arm,arm11",
        "faraday,",
        "intel,",
        "marvell,feroceon",
        "marvell,mohawk",
        "marvell,pj4",
        "marvell,sheeva",
        "marvell,xsc3",
        "marvell,xscale",
        "mrvl,pj4",
        "qcom,krait",
        "qcom,scorpion",
    ]) {
        Core::WithoutVirtualization
    } else {
        Core::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_known_by_their_names() {
        for (name, expected) in [
            ("arm,cortex-a7", Core::Capable(Architecture::Armv7)),
            ("arm,cortex-a15", Core::Capable(Architecture::Armv7)),
            ("arm,cortex-a53", Core::Capable(Architecture::Aarch64)),
            ("arm,cortex-a78ae", Core::Capable(Architecture::Aarch64)),
            ("arm,cortex-a9", Core::WithoutVirtualization),
            ("marvell,sheeva-v7", Core::WithoutVirtualization),
            ("apm,potenza", Core::Capable(Architecture::Aarch64)),
            ("arm,cortex-a", Core::Unknown),
            ("arm,cortex-a99999999999999999999", Core::Unknown),
            ("riscv", Core::Unknown),
        ] {
            assert_eq!(core(name), expected, "{name}");
        }
    }
}
