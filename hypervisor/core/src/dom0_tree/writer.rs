//! Writes a flattened device tree (Devicetree Specification 0.4, chapter 5), with names as long as real trees have.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::TreeError;

const HEADER_BYTES: u32 = 40;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
/// Oldest version that a reader may know: 16 differs only in a field of the header.
const COMPATIBLE_VERSION: u32 = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// A tree that is being written.
pub(crate) struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Offsets of the names in `strings`.
    names: BTreeMap<String, u32>,
    depth: u32,
    limit: usize,
}

impl Writer {
    /// A writer that refuses to grow beyond `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { structure: Vec::new(), strings: Vec::new(), names: BTreeMap::new(), depth: 0, limit }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        let size = self.structure.len() + self.strings.len() + bytes.len() + HEADER_BYTES as usize + 64;
        if size > self.limit {
            return Err(TreeError::TooLarge(self.limit));
        }
        self.structure.extend_from_slice(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// Opens a node below the one that is open.
    pub(crate) fn begin(&mut self, name: &str) -> Result<(), TreeError> {
        self.depth += 1;
        self.push(&BEGIN_NODE.to_be_bytes())?;
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.push(&text)
    }

    /// Closes the node opened last.
    pub(crate) fn end(&mut self) -> Result<(), TreeError> {
        self.depth = self.depth.saturating_sub(1);
        self.push(&END_NODE.to_be_bytes())
    }

    /// Writes a property of the open node; properties come before child nodes.
    pub(crate) fn property(&mut self, name: &str, value: &[u8]) -> Result<(), TreeError> {
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
    pub(crate) fn string(&mut self, name: &str, value: &str) -> Result<(), TreeError> {
        self.strings(name, &[value])
    }

    /// A property that is a list of strings.
    pub(crate) fn strings(&mut self, name: &str, values: &[&str]) -> Result<(), TreeError> {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        self.property(name, &bytes)
    }

    /// A property of 32-bit cells.
    pub(crate) fn cells(&mut self, name: &str, values: &[u32]) -> Result<(), TreeError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        self.property(name, &bytes)
    }

    /// The blob, with an empty memory reservation block.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, TreeError> {
        debug_assert_eq!(self.depth, 0, "every node is closed");
        self.push(&END.to_be_bytes())?;
        let structure_at = HEADER_BYTES + 16;
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
            0,
            strings_size,
            structure_size,
        ];
        let mut blob: Vec<u8> = header.iter().flat_map(|field| field.to_be_bytes()).collect();
        blob.extend_from_slice(&[0; 16]);
        blob.append(&mut self.structure);
        blob.append(&mut self.strings);
        Ok(blob)
    }
}
