//! The CPUs that a guest finds, dom0 or another, and how it starts them.

use super::{TreeError, Writer, unit_name};
use crate::domain::mpidr_of_vcpu;
use crate::platform::MPIDR_AFFINITY;
use crate::vpsci::{V01_CPU_OFF, V01_CPU_ON};

/// Writes `/cpus` with `count` vCPUs of the types in `compatible`. `phandle` gives each its phandle, by its index.
pub(crate) fn cpus(
    out: &mut Writer,
    count: u32,
    compatible: &[&str],
    phandle: impl Fn(u32) -> Result<Option<u32>, TreeError>,
) -> Result<(), TreeError> {
    out.begin("cpus")?;
    out.cells("#address-cells", &[1])?;
    out.cells("#size-cells", &[0])?;
    for index in 0..count {
        let affinity = mpidr_of_vcpu(index as usize) & MPIDR_AFFINITY;
        out.begin(&unit_name("cpu", affinity))?;
        out.string("device_type", "cpu")?;
        out.strings("compatible", compatible)?;
        out.cells("reg", &[affinity as u32])?;
        out.string("enable-method", "psci")?;
        if let Some(phandle) = phandle(index)? {
            out.cells("phandle", &[phandle])?;
        }
        out.end()?;
    }
    out.end()
}

/// Writes `/psci`: the firmware that the hypervisor emulates.
pub(crate) fn psci(out: &mut Writer) -> Result<(), TreeError> {
    out.begin("psci")?;
    out.strings("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"])?;
    out.string("method", "hvc")?;
    out.cells("cpu_off", &[V01_CPU_OFF])?;
    out.cells("cpu_on", &[V01_CPU_ON])?;
    out.end()
}
