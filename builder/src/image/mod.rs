//! An image that is there as a file, in any packing, and what of it has to be written to a medium.
//!
//! What an image holds is read in order, as pieces of the ranges that its [`BlockMap`] names. The map comes from a
//! `.bmap` file beside the image, or from the image itself.

pub mod bmap;
mod map;
pub mod packing;
mod source;

pub(crate) use map::is_zero;
pub use map::{BlockMap, Range, Rest};
pub use source::{Image, Piece};
