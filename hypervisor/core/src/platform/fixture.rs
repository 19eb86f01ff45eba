//! Device trees for tests, written by another crate than reads them.

use alloc::string::String;
use alloc::vec::Vec;

use vm_fdt::{FdtReserveEntry, FdtWriter};

/// A node for a test's tree.
#[derive(Clone, Default)]
pub(crate) struct TestNode {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<TestNode>,
}

/// A node called `name`.
pub(crate) fn node(name: &str) -> TestNode {
    TestNode { name: name.into(), ..TestNode::default() }
}

impl TestNode {
    /// With a property of 32-bit cells.
    pub(crate) fn cells(self, name: &str, cells: &[u32]) -> Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }
    /// With a property of strings.
    pub(crate) fn strings(self, name: &str, strings: &[&str]) -> Self {
        let bytes: Vec<u8> = strings.iter().flat_map(|text| text.bytes().chain([0])).collect();
        self.bytes(name, &bytes)
    }
    /// With a property of raw bytes, in place of an earlier one of the same name.
    pub(crate) fn bytes(mut self, name: &str, bytes: &[u8]) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.into(), bytes.to_vec()));
        self
    }
    /// With a property of no value.
    pub(crate) fn flag(self, name: &str) -> Self {
        self.bytes(name, &[])
    }
    /// With a child, in place of an earlier one of the same name.
    pub(crate) fn with(mut self, child: TestNode) -> Self {
        self.children.retain(|known| known.name != child.name);
        self.children.push(child);
        self
    }
    /// Without the child of this name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.children.retain(|known| known.name != name);
        self
    }
    /// The blob of a tree with this root.
    pub(crate) fn blob(&self) -> Vec<u8> {
        self.blob_with_reservations(&[])
    }
    /// The same, with entries (address, size) in the memory reservation block.
    pub(crate) fn blob_with_reservations(&self, reservations: &[(u64, u64)]) -> Vec<u8> {
        let entries: Vec<_> = reservations
            .iter()
            .map(|&(address, size)| FdtReserveEntry::new(address, size).unwrap())
            .collect();
        let mut writer = FdtWriter::new_with_mem_reserv(&entries).unwrap();
        self.write(&mut writer);
        writer.finish().unwrap()
    }
    fn write(&self, writer: &mut FdtWriter) {
        let open = writer.begin_node(&self.name).unwrap();
        for (name, value) in &self.properties {
            writer.property(name, value).unwrap();
        }
        for child in &self.children {
            child.write(writer);
        }
        writer.end_node(open).unwrap();
    }
}

/// A small board: 1 GiB of RAM at 1 GiB, two CPUs with PSCI, GICv2 (phandle 1), timer, a UART on SPI 1.
pub(crate) fn board() -> TestNode {
    let cpu = |name: &str, number| {
        node(name)
            .strings("device_type", &["cpu"])
            .strings("compatible", &["arm,cortex-a53"])
            .cells("reg", &[number])
            .strings("enable-method", &["psci"])
            .cells("phandle", &[0x100 + number])
    };
    node("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .cells("interrupt-parent", &[1])
        .strings("model", &["Test board"])
        .strings("compatible", &["test,board", "test,soc"])
        .with(
            node("memory@40000000")
                .strings("device_type", &["memory"])
                .cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000]),
        )
        .with(
            node("cpus")
                .cells("#address-cells", &[1])
                .cells("#size-cells", &[0])
                .with(cpu("cpu@0", 0))
                .with(cpu("cpu@1", 1)),
        )
        .with(node("psci").strings("compatible", &["arm,psci-0.2"]).strings("method", &["smc"]))
        .with(
            node("gic@2c001000")
                .strings("compatible", &["arm,gic-400"])
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[3])
                .cells(
                    "reg",
                    &[
                        0,
                        0x2c00_1000,
                        0,
                        0x1000,
                        0,
                        0x2c00_2000,
                        0,
                        0x2000,
                        0,
                        0x2c00_4000,
                        0,
                        0x2000,
                        0,
                        0x2c00_6000,
                        0,
                        0x2000,
                    ],
                )
                .cells("interrupts", &[1, 9, 0xf04])
                .cells("phandle", &[1]),
        )
        .with(
            node("timer")
                .strings("compatible", &["arm,armv8-timer"])
                .cells("interrupts", &[1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08, 1, 10, 0xf08]),
        )
        .with(
            node("serial@9000000")
                .strings("compatible", &["arm,pl011", "arm,primecell"])
                .cells("reg", &[0, 0x0900_0000, 0, 0x1000])
                .cells("interrupts", &[0, 1, 4]),
        )
        .with(node("aliases").strings("serial0", &["/serial@9000000"]))
        .with(node("chosen").strings("stdout-path", &["serial0:115200n8"]))
}
