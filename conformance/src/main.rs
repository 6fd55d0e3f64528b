//! The `hypercore-conformance` command.
fn main() {}
