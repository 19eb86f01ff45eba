//! A device tree as an index over its blob (Devicetree Specification 0.4, chapters 2 and 5).
//!
//! The blob comes from firmware and may be anything, so every offset is checked once, here, while the index is built:
//! after that nodes, names and values are slices that cannot fail. The EFI application reads by it too. Two crates were
//! tried and left for tests: dtoolkit refuses, and vm-fdt cannot write, names longer than 31 characters, which more than
//! half of the trees in a Linux 6.12 package have.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::error::{PlatformError, Problem};
use crate::addr::{Pa, PaRange};

/// Largest blob accepted, in bytes; the arm64 boot protocol sets this limit (Linux, booting.rst).
pub const MAX_BYTES: usize = 2 << 20;
/// Deepest nesting accepted; real trees stay below 10.
pub const MAX_DEPTH: usize = 16;
/// Most nodes accepted; real trees stay below 5,000.
pub const MAX_NODES: usize = 32 * 1024;
/// Longest node or property name accepted, in bytes. The specification says 31, and nobody keeps to it.
const MAX_NAME: usize = 255;
/// Most entries accepted in the memory reservation block.
const MAX_RESERVATIONS: usize = 256;

const HEADER_BYTES: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A node by its place in its tree, in the order of the blob. Means nothing in another tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(u32);

#[derive(Clone, Copy)]
struct NodeEntry<'a> {
    name: &'a str,
    parent: u32,
    /// First property in `Tree::properties`; the properties end where those of the next node begin.
    properties: u32,
    /// One past the last node of the subtree.
    end: u32,
}

/// A property: its name and its raw value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Property<'a> {
    /// Name.
    pub name: &'a str,
    /// Value as it stands in the blob, big-endian.
    pub value: &'a [u8],
}

/// A parsed device tree. Its memory is bounded by a small multiple of the blob's length.
pub struct Tree<'a> {
    nodes: Vec<NodeEntry<'a>>,
    properties: Vec<Property<'a>>,
    phandles: BTreeMap<u32, NodeId>,
    reservations: Vec<PaRange>,
}

impl fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} nodes, {} properties)", self.nodes.len(), self.properties.len())
    }
}

fn word(blob: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*blob.get(offset..)?.first_chunk()?))
}

fn long(blob: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*blob.get(offset..)?.first_chunk()?))
}

/// The string that starts at `offset` and ends with a NUL within [`MAX_NAME`] bytes. Only printable ASCII without
/// `/` is accepted: names become paths on the console and in dom0's tree.
fn name_at(block: &[u8], offset: usize) -> Option<&str> {
    let tail = block.get(offset..)?;
    let end = tail.iter().take(MAX_NAME + 1).position(|&b| b == 0)?;
    let name = core::str::from_utf8(tail.get(..end)?).ok()?;
    name.bytes().all(|b| b.is_ascii_graphic() && b != b'/').then_some(name)
}

/// Total size in bytes that the header of a blob announces, or `None` where this is no flattened device tree. Needs
/// the first eight bytes; the boot code uses it to find out how much to map.
pub fn total_size(head: &[u8]) -> Option<u32> {
    (word(head, 0)? == MAGIC).then(|| word(head, 4))?
}

impl<'a> Tree<'a> {
    /// Checks the blob and builds the index. Bytes after the size in the header are ignored.
    pub fn parse(blob: &'a [u8]) -> Result<Self, PlatformError> {
        let fail = PlatformError::blob;
        let short = |need: usize| fail(Problem::Truncated { need: need as u64, have: blob.len() as u64 });
        if word(blob, 0).is_some_and(|magic| magic != MAGIC) {
            return Err(fail(Problem::NotATree));
        }
        if blob.len() < HEADER_BYTES {
            return Err(short(HEADER_BYTES));
        }
        let field = |index: usize| word(blob, index * 4).unwrap_or(0);
        let total = field(1) as usize;
        if total > MAX_BYTES {
            return Err(fail(Problem::TooLarge { what: "bytes in the blob", limit: MAX_BYTES as u64 }));
        }
        let blob = blob.get(..total).ok_or_else(|| short(total))?;
        if !(field(6)..=field(5)).contains(&17) {
            return Err(fail(Problem::Version(field(5))));
        }
        let block = |start: u32, size: u32| {
            let end = u64::from(start) + u64::from(size);
            let cut = || fail(Problem::Truncated { need: end, have: total as u64 });
            let end = usize::try_from(end).map_err(|_| cut())?;
            blob.get(start as usize..end).ok_or_else(cut)
        };
        let structure = block(field(2), field(9))?;
        let strings = block(field(3), field(8))?;
        let mut tree = Self {
            nodes: Vec::new(),
            properties: Vec::new(),
            phandles: BTreeMap::new(),
            reservations: reservations(blob, field(4) as usize)?,
        };
        tree.index(structure, strings, u64::from(field(2)))?;
        tree.index_phandles()?;
        Ok(tree)
    }

    fn index(&mut self, structure: &'a [u8], strings: &'a [u8], base: u64) -> Result<(), PlatformError> {
        let bad = |offset: usize, what| {
            PlatformError::blob(Problem::Structure { offset: base + offset as u64, what })
        };
        let mut offset = 0;
        // Nodes that are open, outermost first.
        let mut open: Vec<u32> = Vec::new();
        // Whether the innermost open node may still have properties: they come before its children.
        let mut in_properties = false;
        loop {
            let token_at = offset;
            let token =
                word(structure, offset).ok_or_else(|| bad(offset, "the structure block ends early"))?;
            offset += 4;
            match token {
                NOP => {}
                BEGIN_NODE => {
                    let name = name_at(structure, offset).ok_or_else(|| bad(offset, "bad node name"))?;
                    if open.is_empty() != self.nodes.is_empty() {
                        return Err(bad(token_at, "a second root node"));
                    }
                    if name.is_empty() != open.is_empty() {
                        return Err(bad(offset, "bad node name"));
                    }
                    if open.len() >= MAX_DEPTH {
                        let limit = MAX_DEPTH as u64;
                        return Err(PlatformError::blob(Problem::TooLarge {
                            what: "levels of nodes",
                            limit,
                        }));
                    }
                    if self.nodes.len() >= MAX_NODES {
                        let limit = MAX_NODES as u64;
                        return Err(PlatformError::blob(Problem::TooLarge { what: "nodes", limit }));
                    }
                    let id = self.nodes.len() as u32;
                    self.nodes.push(NodeEntry {
                        name,
                        parent: open.last().copied().unwrap_or(0),
                        properties: self.properties.len() as u32,
                        end: id + 1,
                    });
                    open.push(id);
                    in_properties = true;
                    offset = (offset + name.len() + 1).next_multiple_of(4);
                }
                END_NODE => {
                    let id = open.pop().ok_or_else(|| bad(token_at, "a node ends that never began"))?;
                    let end = self.nodes.len() as u32;
                    if let Some(node) = self.nodes.get_mut(id as usize) {
                        node.end = end;
                    }
                    in_properties = false;
                }
                PROP => {
                    if !in_properties {
                        return Err(bad(token_at, "a property outside of a node or after its children"));
                    }
                    let length =
                        word(structure, offset).ok_or_else(|| bad(offset, "a property is cut off"))?;
                    let name = word(structure, offset + 4)
                        .and_then(|name| name_at(strings, name as usize))
                        .filter(|name| !name.is_empty())
                        .ok_or_else(|| bad(offset, "bad property name"))?;
                    offset += 8;
                    let value = structure
                        .get(offset..)
                        .and_then(|tail| tail.get(..length as usize))
                        .ok_or_else(|| bad(token_at, "a property is cut off"))?;
                    self.properties.push(Property { name, value });
                    // Cannot overflow: the value lies within a slice.
                    offset = (offset + value.len()).next_multiple_of(4);
                }
                END if open.is_empty() && !self.nodes.is_empty() => return Ok(()),
                END => return Err(bad(token_at, "the tree ends inside a node")),
                _ => return Err(bad(token_at, "unknown token")),
            }
        }
    }

    fn index_phandles(&mut self) -> Result<(), PlatformError> {
        let mut phandles = BTreeMap::new();
        for node in self.nodes() {
            if let Some(phandle) = node.phandle()?
                && phandles.insert(phandle, node.id()).is_some()
            {
                return Err(node.error("phandle", Problem::DuplicatePhandle(phandle)));
            }
        }
        self.phandles = phandles;
        Ok(())
    }

    /// The root node.
    pub fn root(&self) -> Node<'_, 'a> {
        Node { tree: self, id: NodeId(0) }
    }
    /// Every node, parents before children.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_, 'a>> {
        (0..self.nodes.len() as u32).map(|id| Node { tree: self, id: NodeId(id) })
    }
    /// The node with this phandle.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'_, 'a>> {
        self.phandles.get(&phandle).map(|&id| Node { tree: self, id })
    }
    /// The node with this identifier, which must come from this tree (else another node, or the root, is returned).
    pub fn node(&self, id: NodeId) -> Node<'_, 'a> {
        Node { tree: self, id: if (id.0 as usize) < self.nodes.len() { id } else { NodeId(0) } }
    }
    /// The node at a full path (`/soc/serial@1c28000`). A component without unit address finds the first node of
    /// that name, as in Linux and U-Boot.
    pub fn by_path(&self, path: &str) -> Option<Node<'_, 'a>> {
        let mut node = self.root();
        for part in path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()) {
            node = node.child(part)?;
        }
        Some(node)
    }
    /// The node at a full path, or behind an alias (`serial0`, also `soc/...` relative to an alias).
    pub fn by_path_or_alias(&self, path: &str) -> Option<Node<'_, 'a>> {
        if path.starts_with('/') {
            return self.by_path(path);
        }
        let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
        let mut node = self.by_path(self.by_path("/aliases")?.string(alias)?)?;
        for part in rest.split('/').filter(|part| !part.is_empty()) {
            node = node.child(part)?;
        }
        Some(node)
    }
    /// The memory reservation block (`/memreserve/`), physical addresses.
    pub fn reservations(&self) -> &[PaRange] {
        &self.reservations
    }
    /// The largest phandle in use, 0 when there is none.
    pub fn max_phandle(&self) -> u32 {
        self.phandles.last_key_value().map_or(0, |(&phandle, _)| phandle)
    }
    fn entry(&self, id: NodeId) -> NodeEntry<'a> {
        // Identifiers are only made by this module, below `nodes.len()`, and a parsed tree has a root.
        let fallback = NodeEntry { name: "", parent: 0, properties: 0, end: 0 };
        self.nodes.get(id.0 as usize).copied().unwrap_or(fallback)
    }
}

fn reservations(blob: &[u8], mut offset: usize) -> Result<Vec<PaRange>, PlatformError> {
    let mut ranges = Vec::new();
    loop {
        let cut = || {
            PlatformError::blob(Problem::Structure {
                offset: offset as u64,
                what: "the memory reservation block is cut off",
            })
        };
        let start = long(blob, offset).ok_or_else(cut)?;
        let size = long(blob, offset + 8).ok_or_else(cut)?;
        if (start, size) == (0, 0) {
            return Ok(ranges);
        }
        if ranges.len() >= MAX_RESERVATIONS {
            let limit = MAX_RESERVATIONS as u64;
            return Err(PlatformError::blob(Problem::TooLarge { what: "memory reservations", limit }));
        }
        let range = PaRange::new(Pa(start), size).ok_or_else(|| PlatformError::blob(Problem::Overflow))?;
        if size > 0 {
            ranges.push(range);
        }
        offset += 16;
    }
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub struct Node<'t, 'a> {
    tree: &'t Tree<'a>,
    id: NodeId,
}

impl fmt::Debug for Node<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl PartialEq for Node<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<'t, 'a> Node<'t, 'a> {
    /// Identifier within the tree.
    pub fn id(&self) -> NodeId {
        self.id
    }
    /// The tree that this node belongs to.
    pub fn tree(&self) -> &'t Tree<'a> {
        self.tree
    }
    /// Name with unit address (`serial@9000000`), empty for the root.
    pub fn name(&self) -> &'a str {
        self.tree.entry(self.id).name
    }
    /// Name without unit address.
    pub fn base_name(&self) -> &'a str {
        self.name().split('@').next().unwrap_or("")
    }
    /// The node above, `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        (self.id.0 != 0).then(|| Self { tree: self.tree, id: NodeId(self.tree.entry(self.id).parent) })
    }
    /// Full path.
    pub fn path(&self) -> String {
        let mut names = Vec::new();
        let mut at = Some(*self);
        while let Some(node) = at {
            names.push(node.name());
            at = node.parent();
        }
        if names.len() == 1 {
            return String::from("/");
        }
        let mut path = String::new();
        for name in names.iter().rev().skip(1) {
            path.push('/');
            path.push_str(name);
        }
        path
    }
    /// Nodes directly below.
    pub fn children(&self) -> impl Iterator<Item = Node<'t, 'a>> + use<'t, 'a> {
        let tree = self.tree;
        let end = tree.entry(self.id).end;
        let mut next = self.id.0 + 1;
        core::iter::from_fn(move || {
            (next < end).then(|| {
                let id = NodeId(next);
                next = tree.entry(id).end;
                Node { tree, id }
            })
        })
    }
    /// All nodes below, parents before children.
    pub fn descendants(&self) -> impl Iterator<Item = Node<'t, 'a>> + use<'t, 'a> {
        let tree = self.tree;
        (self.id.0 + 1..tree.entry(self.id).end).map(move |id| Node { tree, id: NodeId(id) })
    }
    /// Identifiers of this node and all nodes below it.
    pub fn subtree(&self) -> core::ops::Range<NodeId> {
        self.id..NodeId(self.tree.entry(self.id).end)
    }
    /// The child of this name; a name without unit address finds the first child of that name.
    pub fn child(&self, name: &str) -> Option<Self> {
        self.children()
            .find(|child| child.name() == name)
            .or_else(|| self.children().find(|child| !name.contains('@') && child.base_name() == name))
    }
    /// All properties, in the order of the blob.
    pub fn properties(&self) -> &'t [Property<'a>] {
        let tree = self.tree;
        let start = tree.entry(self.id).properties as usize;
        let end = tree
            .nodes
            .get(self.id.0 as usize + 1)
            .map_or(tree.properties.len(), |next| next.properties as usize);
        tree.properties.get(start..end).unwrap_or(&[])
    }
    /// The raw value of a property.
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.properties().iter().find(|property| property.name == name).map(|property| property.value)
    }
    /// Whether the property is there, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }
    /// A string property, `None` where it is missing or no printable string.
    pub fn string(&self, name: &str) -> Option<&'a str> {
        let value = self.property(name)?;
        let text = value.split(|&b| b == 0).next()?;
        core::str::from_utf8(text).ok().filter(|text| !text.contains(char::is_control))
    }
    /// The strings of a list property; what is no UTF-8 is left out.
    pub fn strings(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let value = self.property(name).unwrap_or(&[]);
        value
            .split(|&b| b == 0)
            .filter_map(|text| core::str::from_utf8(text).ok())
            .filter(|text| !text.is_empty())
    }
    /// Whether `compatible` lists `name`.
    pub fn is_compatible(&self, name: &str) -> bool {
        self.strings("compatible").any(|compatible| compatible == name)
    }
    /// Whether `compatible` lists any of `names`.
    pub fn is_compatible_any(&self, names: &[&str]) -> bool {
        self.strings("compatible").any(|compatible| names.contains(&compatible))
    }
    /// Whether `status` says that the device may be used (missing, `okay` or the older `ok`).
    pub fn is_available(&self) -> bool {
        self.property("status").is_none() || matches!(self.string("status"), Some("okay" | "ok"))
    }
    /// A property of one 32-bit cell.
    pub fn cell(&self, name: &'static str) -> Result<Option<u32>, PlatformError> {
        let Some(value) = self.property(name) else { return Ok(None) };
        let bytes: [u8; 4] = value
            .try_into()
            .map_err(|_| self.error(name, Problem::Length { have: value.len() as u64, entry: 4 }))?;
        Ok(Some(u32::from_be_bytes(bytes)))
    }
    /// A property of one number in one or two cells.
    pub fn number(&self, name: &'static str) -> Result<Option<u64>, PlatformError> {
        match self.property(name) {
            None => Ok(None),
            Some(value) if value.len() == 8 => Ok(long(value, 0)),
            Some(_) => Ok(self.cell(name)?.map(u64::from)),
        }
    }
    /// The cells of a property, which must be a whole number of them. Empty where it is missing.
    pub fn cells(&self, name: &'static str) -> Result<Vec<u32>, PlatformError> {
        let value = self.property(name).unwrap_or(&[]);
        let (words, rest) = value.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(self.error(name, Problem::Length { have: value.len() as u64, entry: 4 }));
        }
        Ok(words.iter().map(|&bytes| u32::from_be_bytes(bytes)).collect())
    }
    /// `phandle`, or its old spelling `linux,phandle`. 0 and all ones are no phandles by the specification.
    pub fn phandle(&self) -> Result<Option<u32>, PlatformError> {
        let phandle = match self.cell("phandle")? {
            Some(phandle) => Some(phandle),
            None => self.cell("linux,phandle")?,
        };
        Ok(phandle.filter(|&phandle| phandle != 0 && phandle != u32::MAX))
    }
    /// An error about a property of this node, or about the node where `property` is empty.
    pub fn error(&self, property: &str, problem: Problem) -> PlatformError {
        PlatformError { path: self.path(), property: String::from(property), problem }
    }
}
