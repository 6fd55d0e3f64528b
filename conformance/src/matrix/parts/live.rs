//! The live scenarios, with a peer of any release in place of the pinned one of its line.

use std::collections::BTreeMap;

use crate::adapter::AdapterCommand;
use crate::live::{self, LiveConfig, ScenarioInfo, ScenarioOutcome};
use crate::matrix::answers::line_of;
use crate::matrix::cell::{Cell, Fault};
use crate::matrix::part::{Part, Task};
use crate::run::Kind;

/// The roles of the implementation.
const ROLES: [&str; 2] = ["initiator", "responder"];

/// How many scenarios run at a time in one job.
const CONCURRENCY: usize = 4;

thread_local! {
    static IS_PLAYING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread runs scenarios: a failed step panics, and is reported elsewhere.
pub(in crate::matrix) fn is_playing() -> bool {
    IS_PLAYING.get()
}

/// The part `live`.
#[derive(Debug)]
pub(in crate::matrix) struct Live;

impl Part for Live {
    fn name(&self) -> &'static str {
        "live"
    }

    fn kind(&self) -> Kind {
        Kind::Live
    }

    fn roles(&self) -> Vec<&'static str> {
        ROLES.to_vec()
    }

    fn is_busy(&self) -> bool {
        true
    }

    fn usual_seconds(&self) -> f64 {
        20.0
    }

    fn fill(&self, task: &Task<'_>, cells: &mut [Cell]) -> Result<(), String> {
        let Some(one) = task.implementation else {
            return Ok(());
        };
        let node = task.matrix.adapter_of(task.unit)?;
        let mut by_role: BTreeMap<&'static str, Cell> =
            ROLES.into_iter().zip(cells.iter().cloned()).collect();
        play(&mut by_role, &one.command, &task.unit.release, &node)?;
        for cell in cells {
            if let Some(played) = by_role.remove(cell.id.role.as_str()) {
                *cell = played;
            }
        }
        Ok(())
    }
}

/// The role that a scenario's name gives to the implementation.
fn role_of(scenario: &ScenarioInfo) -> Option<&'static str> {
    ROLES
        .into_iter()
        .find(|role| scenario.id.contains(&format!("-as-{role}-with-node-")))
}

/// The id without the pinned release, so that the check is the same with every release.
fn id_of(scenario: &ScenarioInfo) -> String {
    let release = scenario.release.as_deref().unwrap_or_default();
    let id = scenario.id.strip_suffix(release).unwrap_or(&scenario.id);
    id.strip_suffix("-with-node-").unwrap_or(id).to_owned()
}

/// Runs all scenarios of the release's line, and records the results in the cell of each role.
fn play(
    cells: &mut BTreeMap<&'static str, Cell>,
    implementation: &AdapterCommand,
    release: &str,
    node: &AdapterCommand,
) -> Result<(), String> {
    let line = line_of(release);
    let mut config = LiveConfig::new(implementation.clone(), node.clone());
    config.releases = vec![line.to_owned()];
    config.stand_ins.insert(line.to_owned(), node.clone());
    config.concurrency = CONCURRENCY;
    // With an old release half of them fail; a fresh process after each would cost too much.
    config.keep_after_failure = true;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let plays = live::run(config, |scenario| role_of(scenario).is_some(), |_| {});
    IS_PLAYING.set(true);
    let summary = runtime.block_on(plays);
    IS_PLAYING.set(false);
    if let Some(error) = summary.errors.first() {
        return Err(error.clone());
    }
    let mut results = summary.scenarios;
    // They run concurrently, and reports should not depend on the order.
    results.sort_by(|a, b| a.scenario.id.cmp(&b.scenario.id));
    for result in results {
        let Some(cell) = role_of(&result.scenario).and_then(|role| cells.get_mut(role)) else {
            continue;
        };
        match result.outcome {
            ScenarioOutcome::Passed => cell.pass(id_of(&result.scenario)),
            ScenarioOutcome::Unsupported => cell.unsupported += 1,
            _ => cell.faults.push(Fault::new(
                id_of(&result.scenario),
                first_lines(&result.failure),
            )),
        }
    }
    Ok(())
}

/// The failed step and the reason, with the expected and the actual value; a rerun shows the ends' reports.
fn first_lines(failure: &str) -> String {
    const LINES: usize = 5;
    const LENGTH: usize = 160;
    let lines = failure.lines().map(str::trim);
    let shortened = lines
        .filter(|line| !line.is_empty())
        .take(LINES)
        .map(|line| match line.char_indices().nth(LENGTH) {
            Some((cut, _)) => format!("{}…", &line[..cut]),
            None => line.to_owned(),
        });
    shortened.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_and_what_came_are_both_told() {
        let long = "é".repeat(200);
        let failure =
            format!("Then it comes\n\nNode: expected data\n    {long}\n  and got\n    1\nmore");
        let cut = "é".repeat(160);
        assert_eq!(
            first_lines(&failure),
            format!("Then it comes | Node: expected data | {cut}… | and got | 1")
        );
    }

    #[test]
    fn every_scenario_has_a_role_and_an_id_without_its_release() {
        let all = live::scenarios(&live::features()).expect("the features");
        for scenario in &all {
            assert!(role_of(scenario).is_some(), "{}", scenario.id);
            assert!(!id_of(scenario).contains("-with-node-"), "{}", scenario.id);
        }
    }
}
