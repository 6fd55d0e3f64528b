//! Runs the live scenarios.
fn main() {}
