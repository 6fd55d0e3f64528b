//! Runs every live scenario with the reference implementation against Node.
//!
//! This is a program of its own instead of a libtest harness. Of cargo test's arguments it supports words, which select
//! the scenarios with one of them in their id, `--list` and `--exact`; others are ignored.
//!
//! `HYPERCORE_CONFORMANCE_ADAPTER` selects another implementation, by its command line; `node` stands for Node itself.
//! Without Node or npm the scenarios are skipped, which is a failure where `CI` is set.

use std::process::ExitCode;

use hypercore_conformance::adapter::AdapterCommand;
use hypercore_conformance::live::{self, LiveConfig, ScenarioInfo, ScenarioOutcome};
use hypercore_conformance::node;

fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    if arguments.list {
        return list(&arguments);
    }
    let folder = match node::ensure_node_modules() {
        Ok(folder) => folder,
        Err(missing) => {
            println!("The live scenarios are left out: {missing}");
            println!("0 passed, 0 failed");
            let required = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
            return if required || !missing.is_absent() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let node = node::adapter_command(&folder);
    let implementation = match implementation(&node) {
        Ok(command) => command,
        Err(error) => {
            println!("HYPERCORE_CONFORMANCE_ADAPTER: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(play(LiveConfig::new(implementation, node), arguments))
}

fn implementation(node: &AdapterCommand) -> Result<AdapterCommand, String> {
    match std::env::var("HYPERCORE_CONFORMANCE_ADAPTER") {
        Ok(line) if line == "node" => Ok(node.clone()),
        Ok(line) => AdapterCommand::parse(&line),
        Err(_) => Ok(AdapterCommand::new(
            env!("CARGO_BIN_EXE_hypercore-conformance"),
            ["adapter"],
        )),
    }
}

/// As cucumber's `fail_on_skipped` and `run_and_exit`: a scenario that did not pass, or an empty run, is a failure.
async fn play(config: LiveConfig, arguments: Arguments) -> ExitCode {
    let filtered = !arguments.words.is_empty();
    let summary = live::run(
        config,
        move |scenario| arguments.takes(scenario),
        |result| {
            let milliseconds = result.duration.as_millis();
            let verdict = match result.outcome {
                ScenarioOutcome::Passed => "ok",
                ScenarioOutcome::Unsupported => "UNSUPPORTED",
                _ => "FAILED",
            };
            println!("{} ... {verdict} ({milliseconds} ms)", result.scenario.id);
        },
    )
    .await;
    for result in &summary.scenarios {
        if result.outcome != ScenarioOutcome::Passed {
            let scenario = &result.scenario;
            println!("\n{} ({})", scenario.name, scenario.location);
            println!("  tests {}", scenario.clauses.join(", "));
            println!("{}", result.failure.trim_end());
            println!(
                "  rerun: cargo test -p hypercore-conformance --test cucumber -- --exact {}",
                scenario.id
            );
        }
    }
    for error in &summary.errors {
        println!("\n{error}");
    }
    let passed = summary.count(ScenarioOutcome::Passed);
    let failed = summary.scenarios.len() - passed + summary.errors.len();
    println!("\n{passed} passed, {failed} failed");
    // A filter meant for another test binary selects nothing here.
    if failed == 0 && (passed > 0 || filtered) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn list(arguments: &Arguments) -> ExitCode {
    match live::scenarios(&live::features()) {
        Ok(all) => {
            for scenario in all.iter().filter(|scenario| arguments.takes(scenario)) {
                println!("{}: test", scenario.id);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments of cargo test.
#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    exact: bool,
    list: bool,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => parsed.exact = true,
                "--list" => parsed.list = true,
                // These take a value, which is not a filter.
                "--test-threads" | "--format" | "--color" | "--logfile" | "--skip" | "-Z"
                | "--shuffle-seed" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                _ => parsed.words.push(argument),
            }
        }
        parsed
    }

    fn takes(&self, scenario: &ScenarioInfo) -> bool {
        self.words.is_empty()
            || self.words.iter().any(|word| {
                if self.exact {
                    scenario.id == *word
                } else {
                    scenario.id.contains(word.as_str())
                }
            })
    }
}
