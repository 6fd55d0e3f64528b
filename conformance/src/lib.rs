//! The conformance suite: vectors recorded from Node peers, scenarios against live ones, and the adapters by which any
//! implementation of the hypercore wire protocol is asked.

pub mod adapter;
pub mod cli;
pub mod diff;
pub mod reference;
pub mod vectors;
pub mod verdict;
