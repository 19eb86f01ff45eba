//! The hypervisor's UART drivers, and the devices that each of them drives.

use vambrace_bsp::Driver;

/// A driver and the `compatible` strings that it knows.
pub(super) const DRIVERS: &[(Driver, &[&str])] = &[
    (Driver::Pl011, &["arm,pl011", "arm,sbsa-uart"]),
    (
        Driver::Ns16550,
        &[
            "ns16550",
            "ns16550a",
            "ns16450",
            "ns16850",
            "ns8250",
            "nxp,lpc1850-uart",
            "nvidia,tegra20-uart",
            "marvell,armada-38x-uart",
            "snps,dw-apb-uart",
            "ti,omap2-uart",
            "ti,omap3-uart",
            "ti,omap4-uart",
            "ti,am3352-uart",
            "ti,am4372-uart",
            "ti,am654-uart",
            "ti,dra742-uart",
        ],
    ),
    (
        Driver::Exynos4210,
        &[
            "samsung,s5pv210-uart",
            "samsung,exynos4210-uart",
            "samsung,exynos5433-uart",
            "samsung,exynos850-uart",
        ],
    ),
];

/// The driver for a device with these `compatible` strings.
pub(super) fn driver<'a>(compatible: impl IntoIterator<Item = &'a str>) -> Option<Driver> {
    compatible
        .into_iter()
        .find_map(|name| DRIVERS.iter().find(|(_, names)| names.contains(&name)).map(|(driver, _)| *driver))
}

/// log2 of the distance of registers that a driver assumes where the tree has no `reg-shift`.
pub(super) fn default_shift<'a>(compatible: impl IntoIterator<Item = &'a str>) -> u32 {
    if compatible.into_iter().any(|name| name.starts_with("ti,")) { 2 } else { 0 }
}

/// All drivers in words.
pub(super) fn list() -> String {
    let line = |(driver, names): &(Driver, &[&str])| format!("{} ({})", driver.name(), names.join(", "));
    DRIVERS.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hypervisor_s_drivers_know_these_names_and_no_others() {
        for ((driver, names), source) in DRIVERS.iter().zip([
            include_str!("../../../hypervisor/hal/src/uart/mod.rs"),
            include_str!("../../../hypervisor/hal/src/uart/ns16550.rs"),
            include_str!("../../../hypervisor/hal/src/uart/exynos4210.rs"),
        ]) {
            let code = source.split("#[cfg(test)]").next().unwrap();
            for name in *names {
                assert!(code.contains(&format!("\"{name}\"")), "{}: {name}", driver.name());
            }
            if !matches!(driver, Driver::Pl011) {
                let there = code
                    .split('"')
                    .skip(1)
                    .step_by(2)
                    .filter(|text| text.contains("uart") || text.starts_with("ns"));
                for name in there {
                    assert!(names.contains(&name), "{}: {name} is missing here", driver.name());
                }
            }
        }
    }

    #[test]
    fn the_first_name_that_fits_counts() {
        assert_eq!(driver(["maker,uart", "snps,dw-apb-uart"]), Some(Driver::Ns16550));
        assert_eq!(driver(["maker,uart"]), None);
        assert_eq!((default_shift(["ti,omap4-uart"]), default_shift(["ns16550a"])), (2, 0));
    }
}
