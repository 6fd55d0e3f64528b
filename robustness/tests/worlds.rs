//! Simulated worlds, as many as a test may take. `.ci/simulate` runs more of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hypercore_robustness::simulation::Scenario;

/// Overridden by `WORLDS=…`.
const WORLDS: u64 = 2000;

#[test]
fn every_world_keeps_what_was_promised() {
    let worlds = std::env::var("WORLDS").map_or(WORLDS, |worlds| worlds.parse().expect("a number"));
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        break;
                    }
                    let report = Scenario::new(seed).run();
                    if !report.failures.is_empty() {
                        let world = format!(".ci/simulate --replay {seed}: {:?}", report.failures);
                        failures.lock().expect("sound").push(world);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("sound");
    assert!(
        failures.is_empty(),
        "{} of {worlds} worlds failed; each of these runs one again, and makes it smaller:\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
}

/// Otherwise a failure could not be investigated.
#[test]
fn a_seed_repeats_its_world() {
    for seed in 0..40 {
        let scenario = Scenario::new(seed);
        let (one, other) = (scenario.run(), scenario.run());
        assert_eq!(
            (one.trace, one.polls, one.time),
            (other.trace, other.polls, other.time),
            "world {seed}"
        );
    }
}
