//! Progress reports of a run.

use serde_json::Value;

use super::check::Check;

/// Receives the progress of a run.
pub trait Progress: Send {
    /// A stage with `total` checks begins.
    fn begin(&mut self, stage: &str, total: usize);
    /// A check is about to run.
    fn next(&mut self, id: &str);
    /// A check is done.
    fn done(&mut self, check: &Check);
    /// A check failed with this input and answer, both unabridged.
    fn failed(&mut self, check: &Check, input: &Value, answer: &Value) {
        let _ = (check, input, answer);
    }
    /// Another message.
    fn say(&mut self, line: &str);
    /// The stage is over.
    fn end(&mut self);
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: usize) {}
    fn next(&mut self, _: &str) {}
    fn done(&mut self, _: &Check) {}
    fn say(&mut self, _: &str) {}
    fn end(&mut self) {}
}
