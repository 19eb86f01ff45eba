//! The grant table of a domain: frames shared with the guest, in which it says who may use which of its pages
//! (`grant_table.h`); and what the domain uses of what others grant.
//!
//! ```text
//!   shared frames (both versions)            status frames (version 2 only)
//!   v1: 512 entries of 8 bytes a frame       2048 words of 2 bytes a frame: the hypervisor says there
//!   v2: 256 entries of 16 bytes a frame      which entries it uses; in version 1 it does so in the flags
//!
//!          the granter's table                                        the mapping domain's table
//!   entry (the guest's word)  --pin-->  active (ours)  <-----------  maptrack: handle -> granter, entry, page, place
//!                                         |
//!                                         +-- one reference to the page, as long as anybody has it pinned
//! ```
//!
//! The guest reaches the frames by `XENMEM_add_to_physmap`; they come one by one as it asks for them, and stay until the
//! domain ends. What stands in them is the guest's word: it is read when somebody first uses an entry, and believed only
//! as far as it names the guest's own pages. From then on what counts is our own record, and that the page stays the
//! granter's, until the last user is gone: the guest may write what it likes, give the page back, or end.
//!
//! No two tables are ever locked at once: a mapping takes a handle from its own domain's table, then pins the entry in
//! the granter's, then maps the page, and only then is the handle good for anything.

mod active;
mod book;
mod cache_flush;
mod copy;
mod entry;
mod maptrack;
mod table;

#[cfg(test)]
mod tests;

pub use active::{Granted, Pages, Search};
pub use cache_flush::CacheFlush;
pub use copy::copy;
pub use entry::Want;
pub use maptrack::{Mapping, Maptrack, Swept};
pub use table::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, GrantTable, UNMAPPED_GFN, Version};
