//! What a run reports while it goes on.

use serde_json::Value;

use super::check::Check;

/// Told how the run goes, as it goes.
pub trait Progress: Send {
    /// A stage with so many checks begins.
    fn begin(&mut self, stage: &str, total: usize);
    /// A check is about to run.
    fn next(&mut self, id: &str);
    /// A check is done.
    fn done(&mut self, check: &Check);
    /// A check failed to which this input was given and this answer came, neither of them abridged.
    fn failed(&mut self, check: &Check, input: &Value, answer: &Value) {
        let _ = (check, input, answer);
    }
    /// Something to tell in between.
    fn say(&mut self, line: &str);
    /// The stage is over.
    fn end(&mut self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: usize) {}
    fn next(&mut self, _: &str) {}
    fn done(&mut self, _: &Check) {}
    fn say(&mut self, _: &str) {}
    fn end(&mut self) {}
}
