//! The hypercore wire protocol.
