//! A flattened device tree that is being written (Devicetree Specification 0.4, chapter 5), with names of any length.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// Collects the structure and the names of a tree.
#[derive(Debug, Default)]
pub(super) struct Writer {
    structure: Vec<u8>,
    names: Vec<u8>,
    /// Where each name is in `names`.
    offsets: BTreeMap<String, u32>,
}

impl Writer {
    fn word(&mut self, value: u32) {
        self.structure.extend(value.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    /// Opens a node; its properties come before its children.
    pub(super) fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.padded(&text);
    }

    /// Closes the node opened last.
    pub(super) fn end(&mut self) {
        self.word(END_NODE);
    }

    /// A property of the open node.
    pub(super) fn property(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let length = fits(value.len())?;
        let offset = match self.offsets.get(name) {
            Some(offset) => *offset,
            None => {
                let offset = fits(self.names.len())?;
                self.names.extend(name.as_bytes());
                self.names.push(0);
                self.offsets.insert(name.to_owned(), offset);
                offset
            }
        };
        self.word(PROPERTY);
        self.word(length);
        self.word(offset);
        self.padded(value);
        Ok(())
    }

    /// A property of one 32-bit cell.
    pub(super) fn cell(&mut self, name: &str, value: u32) -> Result<()> {
        self.property(name, &value.to_be_bytes())
    }

    /// A property of strings, each with its NUL.
    pub(super) fn strings(&mut self, name: &str, values: &[&str]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes().chain([0])).collect();
        self.property(name, &bytes)
    }

    /// The blob, with these memory reservations (address and size in bytes) and the boot CPU's number.
    pub(super) fn finish(mut self, reservations: &[(u64, u64)], boot_cpu: u32) -> Result<Vec<u8>> {
        self.word(END);
        // The block of reservations ends with an empty one.
        let structure_at = HEADER + 16 * (reservations.len() + 1);
        let names_at = structure_at + self.structure.len();
        let total = names_at + self.names.len();
        let header = [
            MAGIC,
            fits(total)?,
            fits(structure_at)?,
            fits(names_at)?,
            fits(HEADER)?,
            17,
            16,
            boot_cpu,
            fits(self.names.len())?,
            fits(self.structure.len())?,
        ];
        let mut blob = Vec::with_capacity(total);
        blob.extend(header.iter().flat_map(|word| word.to_be_bytes()));
        for (address, size) in reservations.iter().chain(&[(0, 0)]) {
            blob.extend(address.to_be_bytes());
            blob.extend(size.to_be_bytes());
        }
        blob.extend(self.structure);
        blob.extend(self.names);
        Ok(blob)
    }
}

fn fits(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::new("the device tree is larger than 4 GiB"))
}
