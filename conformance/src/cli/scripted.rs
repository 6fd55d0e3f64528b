//! The conversations and deviations of the scripted peer, as part of a run, and the commands that are about them.

use std::time::Instant;

use super::progress::Bar;
use super::{End, Trouble};
use crate::adapter::Reach;
use crate::live::ScenarioInfo;
use crate::run::verdict::Verdict;
use crate::run::{Progress as _, Run, Selection};
use crate::scripted::command::{Ended, Fault};
use crate::scripted::{self, Item};

/// Those that are selected.
pub(super) fn wanted(selection: &Selection) -> Result<Vec<Item>, Trouble> {
    let mut items = scripted::items().map_err(Trouble::environment)?;
    items.retain(|item| selection.matches(item.layer(), &item.id()));
    Ok(items)
}

/// Plays them on the implementation of a run.
pub(super) async fn run(run: &mut Run, reach: &Reach, validate: bool, items: Vec<Item>) {
    if items.is_empty() {
        return;
    }
    if !run.implementation.live {
        run.checks.extend(items.iter().map(|item| {
            let mut check = item.check();
            check.verdict = Verdict::Unsupported;
            check.reason = Some("the adapter does not declare live operations".into());
            check
        }));
        return;
    }
    let began = Instant::now();
    let mut bar = Bar::new();
    bar.begin("scripts and deviations", items.len());
    let mut config = scripted::Config::new(reach.clone());
    config.validate = validate;
    let checks = scripted::run(config, items, |check| {
        bar.next(&check.id);
        bar.done(check);
    })
    .await;
    bar.end();
    run.checks.extend(checks);
    run.duration += began.elapsed();
}

/// For lists: what stands in a row there.
pub(super) fn rows(items: &[Item]) -> impl Iterator<Item = ScenarioInfo> {
    items.iter().map(|item| ScenarioInfo {
        id: item.id(),
        name: item.comment(),
        feature: item.layer().to_owned(),
        clauses: item.clauses().to_vec(),
        tags: Vec::new(),
        release: None,
        location: String::new(),
    })
}

/// Carries out a command of the scripted peer.
pub(super) fn command(command: impl Future<Output = Ended>) -> Result<End, Trouble> {
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    match runtime.block_on(command) {
        Ok(true) => Ok(End::Expected),
        Ok(false) => Ok(End::Regression),
        Err(Fault::Usage(message)) => Err(Trouble::usage(message)),
        Err(Fault::Environment(message)) => Err(Trouble::environment(message)),
    }
}
