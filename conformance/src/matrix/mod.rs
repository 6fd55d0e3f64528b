//! The matrix: every implementation with every release of Node's hypercore, on every runtime, in every role.
//!
//! Releases and runtimes are installed once, into a [`cache`]. A [`cell`] holds what was checked in one place; what Node
//! itself fails in the same place limits a cell and does not fail it. The rules of the [`gate`] say which cells must come
//! out right and which failures are known.

pub mod cache;
pub mod cell;
mod cells;
mod columns;
mod conversation;
pub mod gate;
pub mod history;
mod lacks;
pub mod npm;
pub mod page;
mod patient;
mod peers;
pub mod plan;
mod replication;
pub mod report;
mod run;
mod scenarios;
mod table;
pub mod wire;

pub use run::{MatrixArguments, MatrixError, Verdict, run};
