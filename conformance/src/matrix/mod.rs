//! The matrix: every implementation with every release of Node's hypercore, on every runtime, in every role.
//!
//! Releases and runtimes are installed once, into a [`cache`](crate::npm::cache). A [`cell`] holds the checks of one
//! combination; failures that Node shares limit a cell and do not fail it. The rules of the [`gate`] say which cells
//! are required and which failures are known.

mod answers;
mod arguments;
mod bare;
pub mod cell;
mod compare;
mod conversation;
pub mod gate;
mod jobs;
mod missing_features;
mod part;
mod peers;
pub mod plan;
mod render;
pub mod report;
mod run;
mod setup;
mod silence_limit;

/// One file for each part.
mod parts {
    pub(super) mod drift;
    pub(super) mod live;
    pub(super) mod replication;
    pub(super) mod vectors;
}

pub use arguments::{MatrixArguments, MatrixError};
pub use run::{Verdict, run};

/// The parts, in the order of their columns. A new one is a file in `parts/` and its lines here.
static PARTS: [&dyn part::Part; 4] = [
    &parts::drift::Drift,
    &parts::vectors::Vectors,
    &parts::live::Live,
    &parts::replication::Replication,
];

impl cell::PartId {
    /// The part's behaviour.
    fn part(self) -> &'static dyn part::Part {
        PARTS[self.place()]
    }
}
