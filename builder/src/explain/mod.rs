//! What lies where on the medium and in RAM at each hand-over of a boot, shown to be apart, or with the smallest change
//! that puts it apart.
//!
//! ```text
//! board --> Decision --> Plan --+                      +--> maps: medium, RAM at each hand-over
//!                               +--> Explanation ------+
//! image --> Account, manifest --+                      +--> conflicts, each with what mends it
//! ```

mod mend;
mod of_image;
mod of_plan;
mod report;

use serde::Serialize;

pub use of_image::of_image;
pub use of_plan::{of_board, of_plan};

use crate::draw::{Conflict, Map};

/// What lies where, and what is wrong with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What is explained.
    pub title: String,
    /// The medium.
    pub medium: Map,
    /// RAM at each hand-over, in their order. Empty where the firmware decides at run time, or nobody knows.
    pub memory: Vec<Handover>,
    /// What there is to say beside the maps.
    pub remarks: Vec<String>,
    /// What lies over one another, and what mends it.
    pub conflicts: Vec<Mended>,
}

/// RAM at one moment of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handover {
    /// Who has the CPU, and what it does next.
    pub when: String,
    /// What lies where.
    pub map: Map,
}

/// Two things that lie over one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// On what: the medium, or RAM at a hand-over.
    pub place: String,
    /// The two.
    #[serde(flatten)]
    pub conflict: Conflict,
    /// The smallest change that puts them apart; `None` where none is known.
    pub change: Option<String>,
}

impl Explanation {
    /// Puts the maps together and finds what lies over one another in them.
    fn new(title: String, medium: Map, memory: Vec<Handover>, remarks: Vec<String>) -> Self {
        let mut conflicts: Vec<Mended> = Vec::new();
        let of_medium = medium.conflicts().into_iter().map(|conflict| Mended {
            place: "the medium".to_owned(),
            change: mend::medium(&medium, &conflict),
            conflict,
        });
        conflicts.extend(of_medium);
        for handover in &memory {
            for conflict in handover.map.conflicts() {
                // What is wrong at one moment is so at the next as well, and is said once.
                if !conflicts.iter().any(|known| known.conflict == conflict) {
                    let change = mend::memory(&handover.map, &conflict);
                    conflicts.push(Mended { place: format!("RAM, {}", handover.when), change, conflict });
                }
            }
        }
        Self { title, medium, memory, remarks, conflicts }
    }

    /// Whether no map has two things with a byte in common.
    pub fn is_disjoint(&self) -> bool {
        self.conflicts.is_empty()
    }
}
