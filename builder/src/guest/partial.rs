//! A guest's partial device tree (Xen, docs/misc/arm/passthrough.txt): what of the machine it names, for xl.

use crate::error::{Error, Result};
use crate::fdt::CellCounts;
use vambrace_core::platform::tree::{Node, Tree, total_size};

/// Bytes of a page, in which xl counts.
const PAGE: u64 = 4096;
/// Nodes in nodes that are followed.
const MAX_DEPTH: usize = 32;

/// What a guest is given of the machine, in xl's units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Registers: first page in the machine, number of pages, first page in the guest.
    pub iomem: Vec<(u64, u64, u64)>,
    /// Interrupts, as the GIC counts them.
    pub irqs: Vec<u32>,
    /// The devices' paths in the machine's tree (`xen,path`).
    pub paths: Vec<String>,
    /// Those behind an IOMMU.
    pub dtdev: Vec<String>,
}

impl Resources {
    /// Reads them from the partial tree `blob`.
    ///
    /// # Errors
    ///
    /// Bytes that are no device tree, and one without `/passthrough` or with properties that cannot be.
    pub fn of(blob: &[u8]) -> Result<Self> {
        if total_size(blob).is_none() {
            return Err(Error::new("this is not a device tree blob"));
        }
        let damaged = |error| Error::new(format!("the device tree is damaged: {error}"));
        let tree = Tree::parse(blob).map_err(damaged)?;
        let devices = tree
            .root()
            .child("passthrough")
            .ok_or_else(|| Error::new("the partial device tree has no node `/passthrough`"))?;
        let mut resources = Self::default();
        for device in devices.children() {
            resources.add(&device, 0)?;
        }
        Ok(resources)
    }

    fn add(&mut self, node: &Node<'_, '_>, depth: usize) -> Result<()> {
        let odd =
            |name: &str| Error::new(format!("`{name}` of {} in the partial device tree is odd", node.name()));
        if depth > MAX_DEPTH {
            return Err(odd("nodes"));
        }
        if node.has("xen,reg") {
            self.iomem.extend(registers(node)?);
        }
        let interrupts = node.cells("interrupts").unwrap_or_default();
        for entry in interrupts.chunks_exact(3) {
            // Kind 0 is a shared interrupt, counted from 32.
            if let [0, number, _] = entry {
                self.irqs.push(number.checked_add(32).ok_or_else(|| odd("interrupts"))?);
            }
        }
        if node.has("xen,path") {
            let path = node.string("xen,path").unwrap_or_default();
            // Devicetree Specification 0.4, 2.2.1 and 2.2.3; nothing that a boot script or xl would take for its own.
            let of_a_name = |c: char| c.is_ascii_alphanumeric() || ",._+-@/".contains(c);
            if !path.starts_with('/') || !path.chars().all(of_a_name) {
                return Err(odd("xen,path"));
            }
            self.paths.push(path.to_owned());
            if !node.has("xen,force-assign-without-iommu") {
                self.dtdev.push(path.to_owned());
            }
        }
        node.children().try_for_each(|child| self.add(&child, depth + 1))
    }
}

/// The entries of `xen,reg` in pages: machine address, size, guest address, in the cells of the node above.
fn registers(node: &Node<'_, '_>) -> Result<Vec<(u64, u64, u64)>> {
    let odd = |why: String| {
        Error::new(format!("`xen,reg` of {} in the partial device tree has {why}", node.name()))
    };
    let bus = node.parent();
    let name = format!("`{}`", bus.map(|bus| bus.path()).unwrap_or_default());
    let counts = CellCounts::of(bus.as_ref(), CellCounts { address: 2, size: 1 }).checked(&name)?;
    let (address, size) = (counts.address as usize, counts.size as usize);
    let entry = 2 * address + size;
    let cells = node.cells("xen,reg").map_err(|_| odd("a part of a cell".into()))?;
    if !cells.len().is_multiple_of(entry) {
        return Err(odd(format!(
            "{} cells, no multiple of {entry}: an address, a size and an address by the cells of {name}",
            cells.len()
        )));
    }
    let number = |cells: &[u32]| cells.iter().fold(0, |number, cell| number << 32 | u64::from(*cell));
    let entries = cells.chunks_exact(entry).map(|entry| {
        let (from, rest) = entry.split_at(address);
        let (size, to) = rest.split_at(size);
        (number(from) / PAGE, number(size).div_ceil(PAGE), number(to) / PAGE)
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_interrupts_and_paths_are_read() {
        let mut fdt = vm_fdt::FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        let passthrough = fdt.begin_node("passthrough").unwrap();
        fdt.property_u32("#address-cells", 2).unwrap();
        fdt.property_u32("#size-cells", 2).unwrap();
        let device = fdt.begin_node("serial@9040000").unwrap();
        fdt.property_array_u64("xen,reg", &[0x904_0000, 0x1000, 0x1000_0000]).unwrap();
        fdt.property_array_u32("interrupts", &[0, 8, 4, 1, 9, 4]).unwrap();
        fdt.property_string("xen,path", "/pl011@9040000").unwrap();
        fdt.end_node(device).unwrap();
        fdt.end_node(passthrough).unwrap();
        fdt.end_node(root).unwrap();
        let blob = fdt.finish().unwrap();
        let resources = Resources::of(&blob).unwrap();
        assert_eq!(resources.iomem, [(0x9040, 1, 0x10000)]);
        assert_eq!(resources.irqs, [40]);
        assert_eq!(resources.paths, ["/pl011@9040000"]);
        assert_eq!(resources.dtdev, ["/pl011@9040000"]);
        let at = blob.windows(6).position(|bytes| bytes == b"/pl011").unwrap();
        for bad in [b'"', b';', b'$', b' ', 7] {
            let mut blob = blob.clone();
            blob[at + 2] = bad;
            assert!(Resources::of(&blob).unwrap_err().what().contains("xen,path"), "{bad}");
        }
        assert!(Resources::of(&blob[..40]).is_err());
        assert!(Resources::of(b"no tree").is_err());
    }

    /// A partial tree whose `/passthrough` has these numbers of cells, with a device with this `xen,reg`.
    fn with_cells(counts: Option<(u32, u32)>, reg: &[u32]) -> Result<Vec<(u64, u64, u64)>> {
        let mut fdt = vm_fdt::FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        // Those of the root are not the devices'.
        fdt.property_u32("#address-cells", 2).unwrap();
        fdt.property_u32("#size-cells", 2).unwrap();
        let passthrough = fdt.begin_node("passthrough").unwrap();
        if let Some((address, size)) = counts {
            fdt.property_u32("#address-cells", address).unwrap();
            fdt.property_u32("#size-cells", size).unwrap();
        }
        let device = fdt.begin_node("serial@9040000").unwrap();
        fdt.property_array_u32("xen,reg", reg).unwrap();
        fdt.end_node(device).unwrap();
        fdt.end_node(passthrough).unwrap();
        fdt.end_node(root).unwrap();
        Resources::of(&fdt.finish().unwrap()).map(|resources| resources.iomem)
    }

    #[test]
    fn registers_have_the_cells_of_the_node_above() {
        let two = [0x904_0000, 0x1000, 0x1000_0000, 0x905_0000, 0x2000, 0x1000_1000];
        assert_eq!(
            with_cells(Some((1, 1)), &two).unwrap(),
            [(0x9040, 1, 0x10000), (0x9050, 2, 0x10001)],
            "two entries have as many bytes as one of two cells each"
        );
        let high = [1, 0x904_0000, 0x1000, 0, 0x1000_0000];
        for counts in [Some((2, 1)), None] {
            assert_eq!(with_cells(counts, &high).unwrap(), [(0x10_9040, 1, 0x10000)]);
        }
        assert_eq!(with_cells(Some((1, 2)), &[0x904_0000, 0, 0x1000, 0]).unwrap(), [(0x9040, 1, 0)]);
        let error = with_cells(Some((2, 2)), &two[..5]).unwrap_err();
        assert!(error.what().contains("has 5 cells, no multiple of 6"), "{error}");
        for counts in [(3, 1), (0, 1), (2, 0), (1, 3)] {
            let error = with_cells(Some(counts), &two).unwrap_err();
            assert!(error.what().contains("`/passthrough` of the device tree has addresses of"), "{error}");
        }
    }
}
