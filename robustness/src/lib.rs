//! Hostile environments for `hypercore-protocol`, and the invariants that must hold in them.
//!
//! [`simulation`] runs whole worlds of peers in virtual time from one seed. The binary `soak` does the same over real
//! sockets, with Node peers.

pub mod simulation;
