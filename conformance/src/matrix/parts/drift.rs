//! Whether a release still answers the vectors, and replays the conversations, as recorded for its line.

use super::vectors;
use crate::matrix::answers::{ask, describe, layers_of};
use crate::matrix::cell::{Cell, Fault, PartId};
use crate::matrix::conversation;
use crate::matrix::missing_features::of_check;
use crate::matrix::part::{Part, Task};
use crate::matrix::setup::block_on;
use crate::run::verdict::Verdict;
use crate::run::{Kind, Run};

/// The name of the part.
const NAME: &str = "drift";

/// The part, in cells.
pub(in crate::matrix) fn id() -> PartId {
    let mut all = PartId::all();
    all.find(|part| part.name() == NAME).expect("it is listed")
}

/// The part `drift`.
#[derive(Debug)]
pub(in crate::matrix) struct Drift;

impl Part for Drift {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Vector
    }

    fn is_of_release(&self) -> bool {
        true
    }

    fn usual_seconds(&self) -> f64 {
        10.0
    }

    fn fills(&self) -> &[&'static str] {
        &[vectors::NAME]
    }

    /// Requests the release's answers once, also for the cells of the vectors.
    fn fill(&self, task: &Task<'_>, cells: &mut [Cell]) -> Result<(), String> {
        let Task { matrix, unit, .. } = task;
        let node = matrix.adapter_of(unit)?;
        let (release, on) = matrix.subject_of(unit)?;
        let layers = layers_of(release, &matrix.pinned);
        let theirs = block_on(ask(&node, &matrix.files, &layers, Some(&unit.release)))??;
        for cell in cells {
            if cell.id.part != id() {
                vectors::fill(cell, matrix, &theirs, &node)?;
                continue;
            }
            note(cell, &theirs);
            let held = conversation::note(cell, &matrix.files, release, on, &matrix.examples);
            block_on(held)??;
        }
        Ok(())
    }
}

/// Records in `cell` where the release's answers differ from the recording.
fn note(cell: &mut Cell, run: &Run) {
    for check in &run.checks {
        match check.verdict {
            Verdict::Failed => cell.faults.push(Fault {
                lacks: of_check(check),
                ..Fault::new(&check.id, describe(check))
            }),
            Verdict::Unsupported => cell.unsupported += 1,
            // There is no list of expected failures here: the gate has its own.
            _ => cell.pass(&check.id),
        }
    }
}
