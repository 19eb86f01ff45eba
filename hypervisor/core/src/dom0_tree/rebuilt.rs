//! The nodes that dom0 finds in place of the host's.

use alloc::format;
use alloc::vec::Vec;

use super::{Builder, GUEST_TIMERS, TreeError, guest_redistributors, push_cells, registers, unit_name};
use crate::machine::Intid;
use crate::platform::tree::Node;
use crate::platform::{GicFrames, Problem, address_cells, size_cells};

/// Level-sensitive, active low, in an interrupt specifier (Linux binding arm,gic).
const LEVEL_LOW: u32 = 8;

impl<'b, 'a> Builder<'b, 'a> {
    /// Interrupt specifiers of PPIs for the GIC, level-sensitive; with GICv2 they also name the CPUs they go to.
    fn ppis(&self, intids: &[Intid]) -> Result<Vec<u32>, TreeError> {
        let gic = self.tree.node(self.platform.gic.node);
        let cells = gic.cell("#interrupt-cells")?.unwrap_or(3);
        if !(3..=8).contains(&cells) {
            return Err(gic.error("#interrupt-cells", Problem::Cells(cells)).into());
        }
        let mask = match self.platform.gic.frames {
            GicFrames::V2 { .. } => ((1_u32 << self.spec.vcpus.min(8)) - 1) << 8,
            GicFrames::V3 { .. } => 0,
        };
        let mut specifiers = Vec::new();
        for intid in intids {
            specifiers.extend([1, intid.saturating_sub(16), mask | LEVEL_LOW]);
            specifiers.extend((3..cells).map(|_| 0));
        }
        Ok(specifiers)
    }

    pub(super) fn memory(&mut self) -> Result<(), TreeError> {
        let registers = registers(self.tree.root(), "dom0's memory", self.spec.memory)?;
        let start = self.spec.memory.first().map_or(0, |bank| bank.start.0);
        self.out.begin(&unit_name("memory", start))?;
        self.out.string("device_type", "memory")?;
        self.out.property("reg", &registers)?;
        self.out.end()
    }

    pub(super) fn cpus(&mut self) -> Result<(), TreeError> {
        let (tree, cpus) = (self.tree, &self.platform.cpus);
        // One type for all: a vCPU runs on any CPU.
        let first = cpus.first();
        let mut compatible: Vec<&str> =
            first.map(|cpu| cpu.compatible.iter().map(|name| name.as_str()).collect()).unwrap_or_default();
        if compatible.is_empty() {
            compatible.push("arm,armv8");
        }
        super::cpus(&mut self.out, self.spec.vcpus, &compatible, |index| match cpus.get(index as usize) {
            // Thermal zones and the like refer to the host's CPUs.
            Some(cpu) => Ok(tree.node(cpu.node).phandle()?),
            None => Ok(None),
        })
    }

    pub(super) fn timer(&mut self) -> Result<(), TreeError> {
        let host = self.tree.node(self.platform.timer.node);
        let specifiers = self.ppis(&GUEST_TIMERS)?;
        self.out.begin("timer")?;
        self.out.properties(
            host,
            &[
                "interrupts",
                "interrupts-extended",
                "interrupt-names",
                "interrupt-parent",
                "status",
                "clock-frequency",
                // The hypervisor is the firmware that configures them.
                "arm,cpu-registers-not-fw-configured",
            ],
        )?;
        self.out.cells("interrupt-parent", &[self.gic_phandle])?;
        self.out.cells("interrupts", &specifiers)?;
        if let Some(frequency) = self.platform.timer.frequency {
            self.out.cells("clock-frequency", &[frequency])?;
        }
        self.out.end()
    }

    pub(super) fn hypervisor(&mut self) -> Result<(), TreeError> {
        let mut windows = Vec::from([self.spec.space.grant_table]);
        windows.extend(&self.spec.space.extended);
        let registers = registers(self.tree.root(), "the grant table or an extended region", &windows)?;
        let specifier = self.ppis(&[self.spec.event_interrupt])?;
        let (major, minor) = self.spec.version;
        self.out.begin("hypervisor")?;
        self.out.strings("compatible", &[&format!("xen,xen-{major}.{minor}"), "xen,xen"])?;
        self.out.property("reg", &registers)?;
        self.out.cells("interrupt-parent", &[self.gic_phandle])?;
        self.out.cells("interrupts", &specifier)?;
        self.out.end()
    }

    /// The host's `/chosen` without what its loader said to the hypervisor, and without child nodes: modules, and frame
    /// buffers in RAM that dom0 may not have.
    pub(super) fn chosen(&mut self) -> Result<(), TreeError> {
        self.out.begin("chosen")?;
        if let Some(host) = self.tree.root().child("chosen") {
            for property in host.properties() {
                let name = property.name;
                let dropped = ["bootargs", "stdout-path", "linux,stdout-path", "phandle", "linux,phandle"];
                let dropped_kinds =
                    ["xen,", "linux,initrd-", "linux,uefi-", "linux,usable-", "linux,elfcorehdr"];
                if !dropped.contains(&name) && !dropped_kinds.iter().any(|kind| name.starts_with(kind)) {
                    self.out.property(name, property.value)?;
                }
            }
        }
        self.out.string("bootargs", self.spec.bootargs)?;
        if let Some(ramdisk) = self.spec.ramdisk {
            self.out.property("linux,initrd-start", &ramdisk.start.0.to_be_bytes())?;
            self.out.property("linux,initrd-end", &ramdisk.end.0.to_be_bytes())?;
        }
        self.out.end()
    }

    /// The GIC as a guest sees it: no virtualization, no ITS, and redistributors for the vCPUs only.
    pub(super) fn gic(&mut self, node: Node<'b, 'a>) -> Result<(), TreeError> {
        let bus = node.parent().unwrap_or(node);
        let (address, size) = (address_cells(bus)?, size_cells(bus)?);
        // The host's own addresses, in the terms of the GIC's bus, whatever translation lies above it.
        let entry = (address as usize + size as usize) * 4;
        let host = node.property("reg").unwrap_or(&[]);
        let mut frames = host.chunks_exact(entry.max(1));
        let mut registers = Vec::new();
        // Distributor.
        registers.extend_from_slice(frames.next().unwrap_or(&[]));
        let mut regions = 0;
        match self.platform.gic.frames {
            GicFrames::V2 { .. } => registers.extend_from_slice(frames.next().unwrap_or(&[])),
            GicFrames::V3 { .. } => {
                for region in guest_redistributors(&self.platform.gic, self.spec.vcpus) {
                    let frame = frames.next().unwrap_or(&[]);
                    registers.extend_from_slice(frame.get(..address as usize * 4).unwrap_or(&[]));
                    push_cells(&mut registers, region.size(), size)
                        .ok_or(TreeError::DoesNotFit("a redistributor region", region))?;
                    regions += 1;
                }
            }
        }
        self.out.begin(node.name())?;
        self.out.properties(
            node,
            &[
                "reg",
                "interrupts",
                "interrupts-extended",
                "#redistributor-regions",
                "redistributor-stride",
                "mbi-ranges",
                "mbi-alias",
                "msi-controller",
                "phandle",
                "linux,phandle",
            ],
        )?;
        self.out.property("reg", &registers)?;
        if regions > 1 {
            self.out.cells("#redistributor-regions", &[regions])?;
        }
        self.out.cells("phandle", &[self.gic_phandle])?;
        for child in node.children() {
            let is_frame = self.platform.gic.message_frames.iter().any(|frame| frame.node == child.id());
            if is_frame && !self.platform.hidden.contains(&child.id()) {
                self.node(child)?;
            }
        }
        self.out.end()
    }
}
