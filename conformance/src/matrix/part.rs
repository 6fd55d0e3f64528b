//! What a part of the matrix is: a column for each implementation, and the jobs that fill its cells.

use std::fmt;

use super::cell::Cell;
use super::plan::Unit;
use super::setup::{Implementation, Matrix};
use crate::run::Kind;

/// A part of the matrix.
pub(super) trait Part: fmt::Debug + Sync {
    /// Its name, as in the ids of cells and on the command line.
    fn name(&self) -> &'static str;

    /// What its checks are in reports.
    fn kind(&self) -> Kind;

    /// The roles of an implementation, each of them a cell; one without a name where nobody connects.
    fn roles(&self) -> Vec<&'static str> {
        vec![""]
    }

    /// Whether it tells how a release differs from what was recorded of its line, whoever the implementation is.
    fn is_of_release(&self) -> bool {
        false
    }

    /// The names of parts that have no jobs of their own, and whose cells its jobs fill too.
    fn fills(&self) -> &[&'static str] {
        &[]
    }

    /// Whether a job runs several things at a time, so that few of them keep all processors busy.
    fn is_busy(&self) -> bool {
        false
    }

    /// How long its cells of one release take, in seconds, where no report tells.
    fn usual_seconds(&self) -> f64;

    /// Notes in the cells of a job how its checks went.
    ///
    /// # Errors
    /// Why nothing could be checked.
    fn fill(&self, task: &Task<'_>, cells: &mut [Cell]) -> Result<(), String>;
}

/// What a part is asked to do.
pub(super) struct Task<'a> {
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) unit: &'a Unit,
    /// The implementation; none for what concerns the release alone.
    pub(super) implementation: Option<&'a Implementation>,
}
