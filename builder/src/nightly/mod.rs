//! `vambrace test`: the boots of a plan, how each went, and the report of a night.
//!
//! ```text
//!   plan.toml --> TestPlan --> Case, Case ... --> runner: build, boot, diagnose --> Night --> report: HTML, JUnit, JSON, Markdown
//!                                                                                    |
//!                                                                 history: nights before, last good consoles
//! ```

pub mod bisect;
pub mod case;
mod difference;
pub mod figures;
mod image;
pub mod lab;
pub mod lava;
pub mod outcome;
pub mod plan;
mod queue;
pub mod report;
pub mod runner;
pub mod store;
