//! The conformance suite: vectors recorded from Node peers, scenarios against live ones, and adapters to any
//! implementation of the hypercore wire protocol.

// The print macros panic when stdout is full or stderr is closed, and print foreign text unescaped: see `out`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod adapter;
pub mod cli;
pub mod coverage;
pub mod diff;
pub mod dissect;
mod drain;
pub mod faulty;
pub mod foreign;
pub mod group;
pub mod id;
pub mod live;
pub mod matrix;
pub mod node;
pub mod npm;
pub mod out;
pub mod proxy;
pub mod reference;
pub mod report;
pub mod run;
pub mod scripted;
pub mod term;
pub mod vectors;
