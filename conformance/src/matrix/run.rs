//! The command: resolves, installs, runs, judges and reports.

use std::path::Path;
use std::time::Instant;

use super::arguments::{Done, MatrixArguments, MatrixError, environment};
use super::cell::{Cell, PartId, compare_with_node};
use super::gate::{Judgement, Rules, changes, judge, settled};
use super::parts::drift;
use super::plan::{Costs, Shard, Unit, shard};
use super::render::{Judged, history, terminal};
use super::report::{BISECT, FORMAT, KIND, MatrixReport};
use super::setup::Matrix;
use crate::out;
use crate::report::model::Suite;
use crate::term::Paint;

/// The result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Everything is as expected.
    Expected,
    /// A required cell is not as required, or an expected failure passed.
    Regression,
    /// Something required is missing on this machine.
    Incomplete,
}

/// Runs the command.
///
/// # Errors
/// If the arguments are invalid, or nothing can be run here.
pub fn run(arguments: &MatrixArguments) -> Done<Verdict> {
    let usage = MatrixError::Usage;
    let rules = Rules::of(arguments.rules.as_deref()).map_err(usage)?;
    let baseline = read_optional(arguments.baseline.as_deref())?;
    let costs = read_optional(arguments.costs.as_deref())?;
    // Open the files before the run; later write as many as possible, even if one fails.
    let files = arguments
        .reports
        .open()
        .map_err(|error| environment(&error))?;
    let mut report = if arguments.merge.is_empty() {
        let costs = Costs::from_cells(costs.as_ref().map_or(&[], |report| &report.cells));
        run_cells(Matrix::prepare(arguments, &rules)?, &costs)?
    } else {
        let reports = arguments.merge.iter().map(|path| MatrixReport::read(path));
        let reports = reports.collect::<Result<_, _>>().map_err(usage)?;
        MatrixReport::merge(reports).map_err(usage)?
    };
    report.judgement = judge(&rules, &mut report.cells);
    let settled = |cells: &[Cell]| settled(&rules, cells);
    report.changes =
        baseline.map(|baseline| changes(&settled(&baseline.cells), &settled(&report.cells)));
    let judged = Judged { report, rules };
    let written = files.write(&judged);
    let report = judged.report;
    let printed = out::print(&terminal::text(&report, &Paint::stdout()));
    written.map_err(|error| environment(&error))?;
    printed.map_err(|error| environment(&error))?;
    // For a subset of the cells, a rule without a match is no fault.
    let has = |part: PartId| report.cells.iter().any(|cell| cell.id.part == part);
    let whole = report.set == "default"
        && report.shard == Shard::WHOLE
        && PartId::all().all(has)
        && arguments.implementations.is_empty();
    if whole && !report.judgement.idle.is_empty() {
        let idle = report.judgement.idle.join("\n  ");
        return Err(usage(format!("rules that apply to no cell:\n  {idle}")));
    }
    Ok(
        if !report.judgement.regressions.is_empty() || !report.judgement.passes.is_empty() {
            Verdict::Regression
        } else if report.lacks_something_here() || !report.judgement.missing.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Expected
        },
    )
}

fn read_optional(path: Option<&Path>) -> Done<Option<MatrixReport>> {
    path.map(MatrixReport::read)
        .transpose()
        .map_err(MatrixError::Usage)
}

/// Runs the planned cells.
fn run_cells(mut matrix: Matrix<'_>, costs: &Costs) -> Done<MatrixReport> {
    let began = Instant::now();
    if matrix.units.is_empty()
        && matrix
            .releases
            .iter()
            .all(|release| release.unavailable.is_none())
    {
        return Err(MatrixError::Usage("nothing is selected".into()));
    }
    let plan = matrix.digest(costs);
    let own = matrix.arguments.shard.unwrap_or(Shard::WHOLE);
    let units = shard(std::mem::take(&mut matrix.units), costs, own);
    let served = matrix.served();
    matrix.install(&units);
    let mut found = matrix.run_all(&units);
    if matrix.arguments.bisect {
        let runtime = matrix
            .runtimes
            .first()
            .map(|runtime| runtime.name.clone())
            .unwrap_or_default();
        loop {
            let versions = history::next(&found, &matrix.files, &served);
            if versions.is_empty() {
                break;
            }
            for version in &versions {
                matrix.note_release(version, BISECT, None);
            }
            let unit = |release| Unit {
                release,
                runtime: runtime.clone(),
                part: drift::id(),
            };
            let more: Vec<Unit> = versions.into_iter().map(unit).collect();
            matrix.install(&more);
            found.extend(matrix.run_all(&more));
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    compare_with_node(&mut found);
    matrix
        .releases
        .sort_by_cached_key(|subject| semver::Version::parse(&subject.name).ok());
    Ok(MatrixReport {
        format: FORMAT,
        kind: KIND.into(),
        suite: Suite::this(),
        set: matrix.set.clone(),
        shard: own,
        plan,
        implementations: matrix
            .implementations
            .iter()
            .map(|one| one.name.clone())
            .collect(),
        releases: matrix.releases.clone(),
        runtimes: matrix.runtimes.clone(),
        served,
        seconds: began.elapsed().as_secs_f64(),
        checks: Vec::new(),
        cells: found,
        judgement: Judgement::default(),
        changes: None,
    })
}
