//! An image that is there as a file, in any packing, and what of it has to be written to a medium.
//!
//! What an image holds is read in order, as pieces of the ranges that its [`BlockMap`] names. The map comes from a
//! `.bmap` file beside the image, or from the image itself.

mod base;
pub mod bmap;
mod map;
mod pack;
pub mod packing;
mod source;
mod used;

pub(crate) use base::{ABOUT, SPARE, open, remove_spare, replace, watch};
pub use base::{Base, Bases, Known, Last, Placed};
pub(crate) use map::is_zero;
pub use map::{BlockMap, Range, Rest};
pub use pack::{Packed, pack, packed_path};
pub(crate) use pack::{beside, prepare};
pub use source::{Image, Piece};
pub(crate) use used::map_and_check;
pub use used::map_of;
