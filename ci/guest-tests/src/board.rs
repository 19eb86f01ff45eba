//! What the device tree tells this guest.

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};

/// The interrupt controller's kind and addresses (intermediate physical).
#[derive(Clone, Copy, Debug)]
pub enum GicAddresses {
    /// GICv2.
    V2 {
        /// GICD.
        distributor: u64,
        /// GICC.
        cpu: u64,
    },
    /// GICv3.
    V3 {
        /// GICD.
        distributor: u64,
        /// The first run of redistributors.
        redistributors: u64,
        /// Its bytes.
        size: u64,
    },
}

/// Facts of the board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// The kernel's command line.
    pub arguments: &'static str,
    /// Its interrupt controller.
    pub gic: Option<GicAddresses>,
    /// MPIDR affinities of the CPUs, in the tree's order.
    pub cpus: [u64; crate::start::MAX_CPUS],
    /// How many of them.
    pub cpu_count: usize,
    /// `/hypervisor` `reg` entry 0: free addresses for the grant table, base and bytes.
    pub grant_window: Option<(u64, u64)>,
    /// `/hypervisor` `reg` entry 1: free addresses for what is mapped at run time.
    pub extended: Option<(u64, u64)>,
    /// Memory that is shared with other guests (`xen,shared-memory-v1`): base and bytes.
    pub shared_memory: Option<(u64, u64)>,
    /// INTID of the event-channel interrupt.
    pub event_intid: Option<u32>,
    /// INTID of the virtual timer.
    pub timer_intid: u32,
    /// All of memory, base and bytes of the first bank.
    pub memory: Option<(u64, u64)>,
    /// `/hypervisor` says `xen,xen`.
    pub is_xen: bool,
    /// `/psci` `method` is `hvc`.
    pub psci_hvc: bool,
}

impl Board {
    /// Reads the device tree at `dtb`.
    ///
    /// # Safety
    ///
    /// `dtb` is what the boot protocol gave: readable memory that nobody writes any more.
    pub unsafe fn read(dtb: u64) -> Option<Self> {
        // SAFETY: the caller's promise.
        let fdt: Fdt<'static> = unsafe { Fdt::from_raw(dtb as *const u8) }.ok()?;
        let root = fdt.root();
        let mut board = Board {
            arguments: "",
            gic: None,
            cpus: [0; crate::start::MAX_CPUS],
            cpu_count: 0,
            grant_window: None,
            extended: None,
            shared_memory: None,
            event_intid: None,
            timer_intid: 27,
            memory: None,
            is_xen: false,
            psci_hvc: false,
        };
        if let Some(arguments) = root.child("chosen").and_then(|node| node.property("bootargs")) {
            board.arguments =
                arguments.value_as::<&str>().ok().map_or("", |text| text.trim_end_matches('\0'));
        }
        board.read_below(root, 0);
        Some(board)
    }

    fn read_below(&mut self, node: dtoolkit::fdt::FdtNode<'static>, depth: usize) {
        for child in node.children() {
            let compatible =
                |name: &str| child.compatible().is_some_and(|mut names| names.any(|n| n == name));
            let device = |name: &[u8]| child.property("device_type").is_some_and(|p| p.value() == name);
            let reg = |index: usize| -> Option<(u64, u64)> {
                let reg = child.reg().ok()??.nth(index)?;
                Some((reg.address().ok()?, reg.size().ok()?))
            };
            if compatible("arm,cortex-a15-gic")
                || compatible("arm,gic-400")
                || compatible("arm,cortex-a9-gic")
            {
                if let (Some(d), Some(c)) = (reg(0), reg(1)) {
                    self.gic = Some(GicAddresses::V2 { distributor: d.0, cpu: c.0 });
                }
            } else if compatible("arm,gic-v3") {
                if let (Some(d), Some(r)) = (reg(0), reg(1)) {
                    self.gic = Some(GicAddresses::V3 { distributor: d.0, redistributors: r.0, size: r.1 });
                }
            } else if compatible("xen,xen") {
                self.is_xen = true;
                self.grant_window = reg(0);
                self.extended = reg(1);
                self.event_intid = ppi(&child, 0);
            } else if compatible("xen,shared-memory-v1") {
                self.shared_memory = reg(0);
            } else if compatible("arm,armv8-timer") || compatible("arm,armv7-timer") {
                self.timer_intid = ppi(&child, 2).unwrap_or(27);
            } else if compatible("arm,psci-1.0") || compatible("arm,psci-0.2") || compatible("arm,psci") {
                self.psci_hvc = child.property("method").is_some_and(|p| p.value() == b"hvc\0");
            } else if device(b"memory\0") {
                self.memory = self.memory.or(reg(0));
            } else if device(b"cpu\0") && self.cpu_count < self.cpus.len() {
                let cells = child.property("reg").map_or(0, |p| {
                    p.value().chunks(4).fold(0, |n, cell| cell.iter().fold(n, |n, &b| n << 8 | u64::from(b)))
                });
                self.cpus[self.cpu_count] = cells;
                self.cpu_count += 1;
            }
            if depth < 3 {
                self.read_below(child, depth + 1);
            }
        }
    }

    /// The value of `key=` on the command line.
    pub fn argument(&self, key: &str) -> Option<&'static str> {
        self.arguments.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether `word` stands on the command line.
    pub fn flag(&self, word: &str) -> bool {
        self.arguments.split_ascii_whitespace().any(|w| w == word)
    }
}

/// INTID of entry `index` of three cells in `interrupts`, if it is a PPI.
fn ppi(node: &dtoolkit::fdt::FdtNode<'static>, index: usize) -> Option<u32> {
    let property = node.property("interrupts")?;
    let cell = |n: usize| {
        let bytes = property.value().get(12 * index + 4 * n..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    (cell(0)? == 1).then_some(16 + cell(1)?)
}

/// A number in decimal or, with `0x`, hexadecimal.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
