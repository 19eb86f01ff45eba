//! Writes a flattened device tree (Devicetree Specification 0.4, chapter 5), with names as long as real trees have: dom0's,
//! those of static guests, and the one that the EFI application hands to the hypervisor.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::TreeError;
use crate::addr::PaRange;
use crate::platform::tree::Node;

const HEADER_BYTES: u32 = 40;
/// An entry of the memory reservation block: address and size.
const RESERVATION_BYTES: usize = 16;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
/// Oldest version that a reader may know: 16 differs only in a field of the header.
const COMPATIBLE_VERSION: u32 = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// A tree that is being written.
#[derive(Debug)]
pub struct Writer {
    /// Memory reservations.
    reserved: Vec<PaRange>,
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Offsets of the names in `strings`.
    names: BTreeMap<String, u32>,
    depth: u32,
    limit: usize,
}

impl Writer {
    /// A writer that refuses to grow beyond `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            reserved: Vec::new(),
            structure: Vec::new(),
            strings: Vec::new(),
            names: BTreeMap::new(),
            depth: 0,
            limit,
        }
    }

    /// Sets a range of physical memory apart, which is not empty.
    pub fn reserve(&mut self, range: PaRange) {
        self.reserved.push(range);
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        let reserved = self.reserved.len() * RESERVATION_BYTES;
        let blocks = reserved + self.structure.len() + self.strings.len();
        let size = blocks + bytes.len() + HEADER_BYTES as usize + 64;
        if size > self.limit {
            return Err(TreeError::TooLarge(self.limit));
        }
        self.structure.extend_from_slice(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// Opens a node below the one that is open.
    pub fn begin(&mut self, name: &str) -> Result<(), TreeError> {
        self.depth += 1;
        self.push(&BEGIN_NODE.to_be_bytes())?;
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.push(&text)
    }

    /// Closes the node opened last.
    pub fn end(&mut self) -> Result<(), TreeError> {
        self.depth = self.depth.saturating_sub(1);
        self.push(&END_NODE.to_be_bytes())
    }

    /// Writes a property of the open node; properties come before child nodes.
    pub fn property(&mut self, name: &str, value: &[u8]) -> Result<(), TreeError> {
        let offset = match self.names.get(name) {
            Some(&offset) => offset,
            None => {
                let offset = self.strings.len() as u32;
                self.strings.extend_from_slice(name.as_bytes());
                self.strings.push(0);
                self.names.insert(String::from(name), offset);
                offset
            }
        };
        self.push(&PROP.to_be_bytes())?;
        self.push(&(value.len() as u32).to_be_bytes())?;
        self.push(&offset.to_be_bytes())?;
        self.push(value)
    }

    /// A property of one string.
    pub fn string(&mut self, name: &str, value: &str) -> Result<(), TreeError> {
        self.strings(name, &[value])
    }

    /// A property that is a list of strings.
    pub fn strings(&mut self, name: &str, values: &[&str]) -> Result<(), TreeError> {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        self.property(name, &bytes)
    }

    /// A property of 32-bit cells.
    pub fn cells(&mut self, name: &str, values: &[u32]) -> Result<(), TreeError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        self.property(name, &bytes)
    }

    /// Copies the properties of a node other than those named to the open node.
    pub fn properties(&mut self, node: Node<'_, '_>, left_out: &[&str]) -> Result<(), TreeError> {
        for property in node.properties().iter().filter(|property| !left_out.contains(&property.name)) {
            self.property(property.name, property.value)?;
        }
        Ok(())
    }

    /// Copies a node and what is below it, each without the properties named. The recursion is as deep as the tree, which
    /// its parser bounds.
    pub fn copy(&mut self, node: Node<'_, '_>, left_out: &[&str]) -> Result<(), TreeError> {
        self.begin(node.name())?;
        self.properties(node, left_out)?;
        for child in node.children() {
            self.copy(child, left_out)?;
        }
        self.end()
    }

    /// The blob.
    pub fn finish(mut self) -> Result<Vec<u8>, TreeError> {
        debug_assert_eq!(self.depth, 0, "every node is closed");
        self.push(&END.to_be_bytes())?;
        // As `push` has seen to it, all of this is below the limit.
        let reserved_size = (self.reserved.len() + 1) * RESERVATION_BYTES;
        let structure_at = HEADER_BYTES + reserved_size as u32;
        let structure_size = self.structure.len() as u32;
        let strings_at = structure_at + structure_size;
        let strings_size = self.strings.len() as u32;
        let header = [
            MAGIC,
            strings_at + strings_size,
            structure_at,
            strings_at,
            HEADER_BYTES,
            VERSION,
            COMPATIBLE_VERSION,
            // The CPU that boots, which nobody asks for on ARM.
            0,
            strings_size,
            structure_size,
        ];
        let mut blob = Vec::with_capacity((strings_at + strings_size) as usize);
        blob.extend(header.iter().flat_map(|field| field.to_be_bytes()));
        for (start, size) in self.reserved.iter().map(|range| (range.start.0, range.size())).chain([(0, 0)]) {
            blob.extend_from_slice(&start.to_be_bytes());
            blob.extend_from_slice(&size.to_be_bytes());
        }
        blob.append(&mut self.structure);
        blob.append(&mut self.strings);
        Ok(blob)
    }
}
