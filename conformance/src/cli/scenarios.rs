//! The live scenarios, as part of a run.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Trouble;
use super::progress::Bar;
use crate::live::{self, LiveConfig, ScenarioInfo, ScenarioOutcome, ScenarioResult};
use crate::run::verdict::Verdict;
use crate::run::{Check, Kind, Progress as _, Run, Selection};

/// The layer of the live scenarios, in filters and reports.
pub(super) const LAYER: &str = "live";

/// The scenarios that are selected, if the features are here.
pub(super) fn wanted(selection: &Selection) -> Result<Vec<ScenarioInfo>, Trouble> {
    let folder = live::features();
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut scenarios = live::scenarios(&folder).map_err(Trouble::environment)?;
    scenarios.retain(|scenario| selection.matches(LAYER, &scenario.id));
    Ok(scenarios)
}

/// Plays them on the implementation of a run.
pub(super) async fn run(run: &mut Run, config: LiveConfig, scenarios: &[ScenarioInfo]) {
    if !run.implementation.live {
        run.checks.extend(scenarios.iter().map(|scenario| {
            let mut check = live_check(scenario);
            check.verdict = Verdict::Unsupported;
            check.reason = Some("the adapter does not declare live operations".into());
            check
        }));
        return;
    }
    let began = Instant::now();
    let mut bar = Bar::new();
    bar.begin("live scenarios", scenarios.len());
    let bar = Arc::new(Mutex::new(bar));
    let told = Arc::clone(&bar);
    let wanted: HashSet<String> = scenarios
        .iter()
        .map(|scenario| scenario.id.clone())
        .collect();
    let summary = live::run(
        config,
        move |scenario| wanted.contains(&scenario.id),
        move |result| {
            if let Ok(mut bar) = told.lock() {
                bar.next(&result.scenario.id);
                bar.done(&scenario_check(result));
            }
        },
    )
    .await;
    if let Ok(mut bar) = bar.lock() {
        bar.end();
    }
    let mut checks: Vec<Check> = summary.scenarios.iter().map(scenario_check).collect();
    // They run several at a time, and reports should not depend on which was first.
    checks.sort_by(|a, b| a.id.cmp(&b.id));
    let ran: HashSet<&str> = summary
        .scenarios
        .iter()
        .map(|result| result.scenario.id.as_str())
        .collect();
    for scenario in scenarios
        .iter()
        .filter(|scenario| !ran.contains(scenario.id.as_str()))
    {
        let mut check = live_check(scenario);
        check.verdict = Verdict::Unsupported;
        check.reason = Some("not played on this implementation".into());
        checks.push(check);
    }
    for (at, error) in summary.errors.iter().enumerate() {
        checks.push(
            Check::new(Kind::Live, format!("live.features.{at}"), LAYER, "features").failed(error),
        );
    }
    run.checks.extend(checks);
    run.duration += began.elapsed();
}

fn live_check(scenario: &ScenarioInfo) -> Check {
    let mut check = Check::new(Kind::Live, &scenario.id, LAYER, &scenario.feature)
        .with_comment(format!("{} ({})", scenario.name, scenario.location));
    check.clauses.clone_from(&scenario.clauses);
    check
}

fn scenario_check(result: &ScenarioResult) -> Check {
    let mut check = live_check(&result.scenario);
    check.duration = result.duration;
    match result.outcome {
        ScenarioOutcome::Passed => check,
        ScenarioOutcome::Unsupported => {
            check.verdict = Verdict::Unsupported;
            check.reason = Some(result.failure.clone());
            check
        }
        _ => check.failed(&result.failure),
    }
}
