//! The trait of a part of the matrix: a column for each implementation, and the jobs that fill its cells.

use std::fmt;

use super::cell::Cell;
use super::plan::Unit;
use super::setup::{Implementation, Matrix};
use crate::run::Kind;

/// A part of the matrix.
pub(super) trait Part: fmt::Debug + Sync {
    /// Its name, as in the ids of cells and on the command line.
    fn name(&self) -> &'static str;

    /// The kind of its checks in reports.
    fn kind(&self) -> Kind;

    /// The roles of an implementation, one cell each; a single unnamed one if there is no connection.
    fn roles(&self) -> Vec<&'static str> {
        vec![""]
    }

    /// Whether it reports how a release differs from the recording of its line, whatever the implementation.
    fn is_of_release(&self) -> bool {
        false
    }

    /// The names of parts without their own jobs, whose cells its jobs fill as well.
    fn fills(&self) -> &[&'static str] {
        &[]
    }

    /// Whether a job runs several things at a time, so that a few of them keep all processors busy.
    fn is_busy(&self) -> bool {
        false
    }

    /// The time that its cells of one release take, in seconds, if no report has it.
    fn usual_seconds(&self) -> f64;

    /// Records the results of the checks in the cells of a job.
    ///
    /// # Errors
    /// Why nothing could be checked.
    fn fill(&self, task: &Task<'_>, cells: &mut [Cell]) -> Result<(), String>;
}

/// The task of a job.
pub(super) struct Task<'a> {
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) unit: &'a Unit,
    /// The implementation; none for jobs about the release alone.
    pub(super) implementation: Option<&'a Implementation>,
}
