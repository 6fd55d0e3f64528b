//! Runs simulated worlds: see `.ci/simulate`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypercore_robustness::simulation::{Report, Scenario};

/// How many failing worlds are shrunk and shown.
const SHOWN: usize = 3;

const USAGE: &str = "usage: simulate [WORLDS] [SEED]\n       simulate --replay WORLD";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--replay", world] => replay(world),
        [] => run(2000, 1),
        [worlds] => worlds
            .parse()
            .map_or_else(|_| usage(), |worlds| run(worlds, 1)),
        [worlds, seed] => match (worlds.parse(), seed.parse()) {
            (Ok(worlds), Ok(seed)) => run(worlds, seed),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn replay(world: &str) -> ExitCode {
    let Some(scenario) = Scenario::parse(world) else {
        return usage();
    };
    print!("{}", scenario.describe());
    let report = scenario.run();
    println!("{report:#?}");
    if report.failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    let smaller = scenario.shrink(400);
    if smaller.to_string() != scenario.to_string() {
        println!("with less it fails, too: .ci/simulate --replay {smaller}");
    }
    ExitCode::FAILURE
}

fn run(worlds: u64, seed: u64) -> ExitCode {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let totals = Mutex::new(Totals::default());
    // Panics are part of the report of their world.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= worlds {
                        break;
                    }
                    let scenario = Scenario::new(seed.wrapping_add(at));
                    let report = scenario.run();
                    totals.lock().expect("sound").add(&report);
                    if !report.failures.is_empty() {
                        failed
                            .lock()
                            .expect("sound")
                            .insert(at, (scenario, report.failures));
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("sound");
    let failed = failed.into_inner().expect("sound");
    println!(
        "{worlds} worlds from seed {seed}: {} failed; {:.0} virtual hours in {:.1} s; {} connections, {} polls, {} requests \
         to liars; at most {} bytes of memory, {:.0} s of virtual time, {} requests to liars in one world",
        failed.len(),
        totals.time.as_secs_f64() / 3600.0,
        started.elapsed().as_secs_f64(),
        totals.connections,
        totals.polls,
        totals.asked,
        totals.most_memory,
        totals.most_time.as_secs_f64(),
        totals.most_asked,
    );
    for (scenario, failures) in failed.values().take(200) {
        println!("FAILED {scenario}: {}", failures.join("; "));
    }
    for (scenario, _) in failed.values().take(SHOWN) {
        let smaller = scenario.shrink(300);
        println!("\n.ci/simulate --replay {scenario}\nsmaller: .ci/simulate --replay {smaller}");
        print!("{}", smaller.describe());
        for failure in smaller.run().failures {
            println!("  {failure}");
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Totals {
    time: Duration,
    most_time: Duration,
    polls: u64,
    connections: u64,
    asked: u64,
    most_asked: u64,
    most_memory: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.time += report.time;
        self.most_time = self.most_time.max(report.time);
        self.polls += report.polls;
        self.connections += report.connections;
        self.asked += report.asked_of_liars;
        self.most_asked = self.most_asked.max(report.asked_of_liars);
        self.most_memory = self.most_memory.max(report.memory);
    }
}
