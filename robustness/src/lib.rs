//! Surroundings that want to hurt `hypercore-protocol`, and what must hold in them.
//!
//! [`simulation`] runs whole worlds of peers in virtual time from one seed. The binary `soak` does the like over real
//! sockets, with Node peers.

pub mod simulation;
