//! The conformance suite: vectors recorded from Node peers, scenarios against live ones, and the adapters by which any
//! implementation of the hypercore wire protocol is asked.

pub mod adapter;
pub mod archive;
pub mod broken;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod coverage;
pub mod deviant;
pub mod diff;
pub mod dissect;
pub mod expected;
pub mod explain;
pub mod fields;
pub mod live;
pub mod matrix;
pub mod merge;
pub mod node;
pub mod proxy;
pub mod reference;
pub mod report;
pub mod runner;
pub mod smoke;
pub mod spec;
pub mod vectors;
pub mod verdict;
