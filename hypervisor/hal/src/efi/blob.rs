//! Writes a device tree blob (Devicetree Specification 0.4, chapter 5), version 17.

use alloc::vec::Vec;

use vambrace_core::addr::PaRange;

use super::tree::TreeError;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE_VERSION: u32 = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;
const HEADER_SIZE: usize = 40;
/// Deepest tree written; a limit on the recursion of whoever copies one.
const DEPTH_LIMIT: usize = 64;

/// A blob under construction: the structure and the strings block.
#[derive(Default)]
pub(super) struct Blob {
    structure: Vec<u8>,
    strings: Vec<u8>,
    depth: usize,
}

fn word(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_be_bytes());
}

fn size(bytes: usize) -> Result<u32, TreeError> {
    u32::try_from(bytes).map_err(|_| TreeError::Write)
}

impl Blob {
    /// Opens a node; the root's name is empty.
    pub(super) fn begin(&mut self, name: &str) -> Result<(), TreeError> {
        if self.depth == DEPTH_LIMIT || name.contains('\0') {
            return Err(TreeError::Write);
        }
        self.depth += 1;
        word(&mut self.structure, BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.align();
        Ok(())
    }

    /// Closes the node opened last.
    pub(super) fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        word(&mut self.structure, END_NODE);
    }

    /// Adds a property to the node opened last, which has no child yet.
    pub(super) fn property(&mut self, name: &str, value: &[u8]) -> Result<(), TreeError> {
        let name = self.string(name)?;
        word(&mut self.structure, PROPERTY);
        word(&mut self.structure, size(value.len())?);
        word(&mut self.structure, name);
        self.structure.extend_from_slice(value);
        self.align();
        Ok(())
    }

    /// Adds a property that is text.
    pub(super) fn text(&mut self, name: &str, value: &str) -> Result<(), TreeError> {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.property(name, &bytes)
    }

    /// The blob, with the memory reservations and the boot CPU's number.
    pub(super) fn finish(mut self, reserved: &[PaRange], boot_cpu: u32) -> Result<Vec<u8>, TreeError> {
        word(&mut self.structure, END);
        let structure = HEADER_SIZE + (reserved.len() + 1) * 16;
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let mut blob = Vec::with_capacity(total);
        for value in [MAGIC, size(total)?, size(structure)?, size(strings)?, HEADER_SIZE as u32] {
            word(&mut blob, value);
        }
        for value in [VERSION, LAST_COMPATIBLE_VERSION, boot_cpu] {
            word(&mut blob, value);
        }
        word(&mut blob, size(self.strings.len())?);
        word(&mut blob, size(self.structure.len())?);
        for (start, length) in reserved.iter().map(|range| (range.start.0, range.size())).chain([(0, 0)]) {
            blob.extend_from_slice(&start.to_be_bytes());
            blob.extend_from_slice(&length.to_be_bytes());
        }
        blob.extend_from_slice(&self.structure);
        blob.extend_from_slice(&self.strings);
        Ok(blob)
    }

    fn align(&mut self) {
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
    }

    /// Offset of a name in the strings block.
    fn string(&mut self, name: &str) -> Result<u32, TreeError> {
        if name.contains('\0') {
            return Err(TreeError::Write);
        }
        let mut at = 0;
        for known in self.strings.split(|byte| *byte == 0) {
            if known == name.as_bytes() && at < self.strings.len() {
                return size(at);
            }
            at += known.len() + 1;
        }
        let new = size(self.strings.len())?;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        Ok(new)
    }
}
