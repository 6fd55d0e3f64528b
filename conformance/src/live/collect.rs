//! Collects the results of scenarios from cucumber's events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cucumber::event::{self, Source, StepError};
use cucumber::{Event, Writer, cli, gherkin, parser, writer};

use super::trouble::Trouble;
use super::world::LiveWorld;
use super::{Context, LiveSummary, ScenarioInfo, ScenarioOutcome, ScenarioResult};

pub(super) type Report = Box<dyn FnMut(&ScenarioResult) + Send>;

/// A writer that prints nothing: it fills a [`LiveSummary`] and calls back.
pub(super) struct Collect {
    context: Arc<Context>,
    summary: Arc<Mutex<LiveSummary>>,
    report: Report,
    running: HashMap<String, Running>,
    failed: usize,
}

struct Running {
    started: Instant,
    outcome: ScenarioOutcome,
    failure: String,
}

impl Collect {
    pub(super) fn new(
        context: Arc<Context>,
        summary: Arc<Mutex<LiveSummary>>,
        report: Report,
    ) -> Self {
        Self {
            context,
            summary,
            report,
            running: HashMap::new(),
            failed: 0,
        }
    }

    fn scenario(
        &mut self,
        feature: &gherkin::Feature,
        scenario: &gherkin::Scenario,
        event: event::Scenario<LiveWorld>,
    ) {
        let info = ScenarioInfo::new(feature, scenario);
        let running = self
            .running
            .entry(info.id.clone())
            .or_insert_with(|| Running {
                started: Instant::now(),
                outcome: ScenarioOutcome::Passed,
                failure: String::new(),
            });
        match event {
            event::Scenario::Background(step, event) | event::Scenario::Step(step, event) => {
                if let Some(text) = fault(&event) {
                    running.outcome = if Trouble::is_unsupported(&text) {
                        ScenarioOutcome::Unsupported
                    } else {
                        ScenarioOutcome::Failed
                    };
                    running.failure = format!("{}{}\n  {text}\n", step.keyword, step.value);
                }
            }
            event::Scenario::Hook(_, event::Hook::Failed(_, info)) => {
                running.outcome = ScenarioOutcome::Failed;
                running.failure.push_str(&text_of(&*info));
            }
            event::Scenario::Finished => self.finish(info),
            _ => {}
        }
    }

    fn finish(&mut self, info: ScenarioInfo) {
        let Some(running) = self.running.remove(&info.id) else {
            return;
        };
        let mut failure = running.failure;
        let mut details = self
            .context
            .details
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(details) = details.remove(&info.id) {
            failure.push_str(&details);
        }
        drop(details);
        let recordings = self.context.recordings.lock();
        let recording = recordings
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&info.id);
        if running.outcome == ScenarioOutcome::Failed {
            self.failed += 1;
        }
        let result = ScenarioResult {
            scenario: info,
            recording,
            outcome: running.outcome,
            failure,
            duration: running.started.elapsed(),
        };
        (self.report)(&result);
        self.summary().scenarios.push(result);
    }

    fn summary(&self) -> std::sync::MutexGuard<'_, LiveSummary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Collect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Collect")
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn fault(event: &event::Step<LiveWorld>) -> Option<String> {
    match event {
        event::Step::Started | event::Step::Passed(..) => None,
        event::Step::Skipped | event::Step::Failed(_, _, _, StepError::NotFound) => {
            Some("no step function matches".into())
        }
        event::Step::Failed(_, _, _, StepError::Panic(info)) => Some(text_of(&**info)),
        event::Step::Failed(_, _, _, error) => Some(error.to_string()),
    }
}

fn text_of(info: &(dyn std::any::Any + Send)) -> String {
    info.downcast_ref::<String>()
        .cloned()
        .or_else(|| info.downcast_ref::<&str>().map(|&text| text.into()))
        .unwrap_or_else(|| "panicked".into())
}

impl Writer<LiveWorld> for Collect {
    type Cli = cli::Empty;

    async fn handle_event(
        &mut self,
        event: parser::Result<Event<event::Cucumber<LiveWorld>>>,
        _cli: &Self::Cli,
    ) {
        let event = match event {
            Ok(event) => event.into_inner(),
            Err(error) => {
                self.summary().errors.push(error.to_string());
                return;
            }
        };
        if let event::Cucumber::Feature(feature, event) = event {
            let (scenario, event): (Source<gherkin::Scenario>, _) = match event {
                event::Feature::Scenario(scenario, event)
                | event::Feature::Rule(_, event::Rule::Scenario(scenario, event)) => {
                    (scenario, event)
                }
                _ => return,
            };
            self.scenario(&feature, &scenario, event.event);
        }
    }
}

/// Events of concurrent scenarios are distinguished by the scenario's id, so their order does not matter.
impl writer::Normalized for Collect {}

impl writer::NonTransforming for Collect {}

/// Runs after each scenario: returns its ends to the pool, and keeps their reports if it failed.
pub(super) async fn after(
    feature: &gherkin::Feature,
    scenario: &gherkin::Scenario,
    finished: &event::ScenarioFinished,
    world: Option<&mut LiveWorld>,
) {
    let Some(world) = world else { return };
    let passed = matches!(finished, event::ScenarioFinished::StepPassed);
    if !passed {
        let id = ScenarioInfo::new(feature, scenario).id;
        // First, since it takes the stderr of both ends.
        let recording = match world.context.config.record {
            true => world.recording().await,
            false => None,
        };
        if let Some(recording) = recording {
            let all = world.context.recordings.lock();
            let mut all = all.unwrap_or_else(PoisonError::into_inner);
            all.insert(id.clone(), recording);
        }
        let details = world.details();
        let mut all = world
            .context
            .details
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(id, details);
    }
    if let Err(trouble) = world.finish(passed).await {
        // cucumber recognises a failed hook only by a panic.
        panic!("{trouble}");
    }
}
