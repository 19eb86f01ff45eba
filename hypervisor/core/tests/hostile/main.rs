//! What comes from outside may be anything: properties of the parsers, the virtual GIC, the event channels and the grant
//! tables under arbitrary input. None panics, none asks for or hands out what is not there, and each ends.

mod command_line;
mod device_tree;
mod event_channels;
mod grants;
mod kernel_image;
mod virtual_gic;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases each time, and nothing written to the source folder.
fn few(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 4 } else { cases };
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
