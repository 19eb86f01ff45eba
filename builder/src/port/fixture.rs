//! Small boards as device trees. The crates that write trees refuse names that real ones have, so this one does it.

/// A node of a tree for a test.
#[derive(Clone, Default)]
pub(super) struct TestNode {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<TestNode>,
}

/// A node called `name`.
pub(super) fn node(name: &str) -> TestNode {
    TestNode { name: name.to_owned(), ..TestNode::default() }
}

impl TestNode {
    pub(super) fn cells(self, name: &str, cells: &[u32]) -> Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    pub(super) fn strings(self, name: &str, strings: &[&str]) -> Self {
        let bytes: Vec<u8> = strings.iter().flat_map(|text| text.bytes().chain([0])).collect();
        self.bytes(name, &bytes)
    }

    pub(super) fn bytes(mut self, name: &str, bytes: &[u8]) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), bytes.to_vec()));
        self
    }

    pub(super) fn flag(self, name: &str) -> Self {
        self.bytes(name, &[])
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.children.retain(|child| child.name != name);
        self
    }

    pub(super) fn with(mut self, child: TestNode) -> Self {
        self.children.retain(|known| known.name != child.name);
        self.children.push(child);
        self
    }

    /// Changes the child called `name`.
    pub(super) fn change(mut self, name: &str, change: impl FnOnce(TestNode) -> TestNode) -> Self {
        let at = self.children.iter().position(|child| child.name == name).unwrap();
        let child = self.children.remove(at);
        self.children.insert(at, change(child));
        self
    }

    /// The tree with this root, as Devicetree Specification 0.4, chapter 5, has it.
    pub(super) fn blob(&self) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Vec::new());
        self.write(&mut structure, &mut strings);
        structure.extend(9_u32.to_be_bytes());
        let (structure_at, strings_at) = (40 + 16, 40 + 16 + structure.len());
        let total = strings_at + strings.len();
        let sizes = [strings.len(), structure.len()];
        let header = [0xd00d_feed, total, structure_at, strings_at, 40, 17, 16, 0, sizes[0], sizes[1]];
        let mut blob: Vec<u8> = header.iter().flat_map(|field| (*field as u32).to_be_bytes()).collect();
        blob.extend([0; 16]);
        blob.extend(structure);
        blob.extend(strings);
        blob
    }

    fn write(&self, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
        structure.extend(1_u32.to_be_bytes());
        structure.extend(self.name.as_bytes());
        structure.push(0);
        structure.resize(structure.len().next_multiple_of(4), 0);
        for (name, value) in &self.properties {
            for word in [3, value.len(), strings.len()] {
                structure.extend((word as u32).to_be_bytes());
            }
            strings.extend(name.as_bytes());
            strings.push(0);
            structure.extend(value);
            structure.resize(structure.len().next_multiple_of(4), 0);
        }
        for child in &self.children {
            child.write(structure, strings);
        }
        structure.extend(2_u32.to_be_bytes());
    }
}

/// An ARMv7 board that has everything: 1 GiB of RAM at 1 GiB, two Cortex-A7 with PSCI, GICv2 (phandle 1), timer, a
/// DesignWare UART on SPI 5.
pub(super) fn board() -> TestNode {
    let cpu = |name: &str, number| {
        node(name)
            .strings("device_type", &["cpu"])
            .strings("compatible", &["arm,cortex-a7"])
            .cells("reg", &[number])
    };
    node("")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .cells("interrupt-parent", &[1])
        .strings("model", &["Test \"board\""])
        .strings("compatible", &["maker,board", "vendor,soc"])
        .with(
            node("memory@40000000")
                .strings("device_type", &["memory"])
                .cells("reg", &[0x4000_0000, 0x4000_0000]),
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
            node("gic@1c81000")
                .strings("compatible", &["arm,gic-400"])
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[3])
                .cells(
                    "reg",
                    &[0x1c8_1000, 0x1000, 0x1c8_2000, 0x2000, 0x1c8_4000, 0x2000, 0x1c8_6000, 0x2000],
                )
                .cells("interrupts", &[1, 9, 0xf04])
                .cells("phandle", &[1]),
        )
        .with(
            node("timer")
                .strings("compatible", &["arm,armv7-timer"])
                .cells("interrupts", &[1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08, 1, 10, 0xf08]),
        )
        .with(
            node("serial@1c28000")
                .strings("compatible", &["maker,uart", "snps,dw-apb-uart"])
                .cells("reg", &[0x1c2_8000, 0x400])
                .cells("reg-shift", &[2])
                .cells("reg-io-width", &[4])
                .cells("interrupts", &[0, 5, 4]),
        )
        .with(node("aliases").strings("serial0", &["/serial@1c28000"]))
        .with(
            node("chosen")
                .strings("stdout-path", &["serial0:115200n8"])
                .cells("#address-cells", &[1])
                .cells("#size-cells", &[1]),
        )
}
