//! Worlds of 2 to 20 peers in virtual time, each from one seed.
//!
//! Cores, replicators, sessions and protocols are the real code. Simulated are the byte streams, the clock, the order
//! in which tasks run, and the stores. Beside honest peers, quick and slow ones, there are liars; links delay,
//! fragment, stall, reset and half close; stores fail and lose power; peers crash and come back.
//!
//! Invariants of each world:
//! - nothing panics;
//! - memory stays below [`Report::memory_limit`];
//! - no task works without progress, and liars get no more than [`MAX_ASKED_OF_LIARS`] requests;
//! - [`SETTLED_WITHIN`] after the last fault, each honest peer that can be reached from the writer over honest seeders has
//!   the writer's length, fork and tree, each seeder holds every block that an honest peer linked with it holds, and
//!   every wait for something available is over;
//! - every block read is right, and every byte is found at its position;
//! - accepted data is never lost: appends, and blocks that a reader has returned;
//! - no core is frozen, since no writer here signs two histories.

mod executor;
mod honest;
mod liar;
mod link;
mod plan;
mod random;
mod store;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use executor::Executor;
use plan::{CALM, Element, Plan, Role, WRITER};
use random::Random;
use world::World;

/// Virtual time after the last fault in which everything available must have arrived.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(180);

/// Maximum number of requests to all liars of a world together.
pub const MAX_ASKED_OF_LIARS: u64 = 2500;

/// Memory allowed for any world, in bytes.
const MEMORY: u64 = 3 << 20;

/// Additional bytes for each link.
const MEMORY_OF_LINK: u64 = 1 << 20;

/// A repeatable world.
#[derive(Debug, Clone)]
pub struct Scenario(Plan);

/// The results of a world.
#[derive(Debug, Clone)]
pub struct Report {
    /// Virtual time until all had what they wanted.
    pub time: Duration,
    /// The number of polls of tasks.
    pub polls: u64,
    /// The number of connections made.
    pub connections: u64,
    /// The number of requests to liars.
    pub asked_of_liars: u64,
    /// The most bytes allocated at once.
    pub memory: u64,
    /// The limit of that.
    pub memory_limit: u64,
    /// A number that is the same in every run with the same seed.
    pub trace: u64,
    /// The broken invariants, in words.
    pub failures: Vec<String>,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scenario {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Plan::new(seed, &liar::usual()))
    }

    /// Parses a world as printed: its seed, and after a colon the elements to leave out.
    pub fn parse(text: &str) -> Option<Self> {
        let (seed, without) = text.split_once(':').unwrap_or((text, ""));
        let mut scenario = Self::new(seed.parse().ok()?);
        for element in without.split(',').filter(|element| !element.is_empty()) {
            scenario.0.without.insert(element.parse().ok()?);
        }
        Some(scenario)
    }

    /// The contents of the world, an element per line.
    pub fn describe(&self) -> String {
        let plan = &self.0;
        let mut text = format!(
            "encrypted: {}, compat: {}\n",
            plan.is_encrypted, plan.is_compat
        );
        for (at, element) in plan.kept() {
            text.push_str(&format!("{at}: {element:?}\n"));
        }
        text
    }

    /// Runs the world to its end.
    pub fn run(&self) -> Report {
        let mut report = None;
        let memory = allocation_counter::measure(|| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&self.0)));
            report = Some(outcome.unwrap_or_else(|panic| {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                Report::failed(format!("panic: {}", said.unwrap_or_default()))
            }));
        });
        let mut report = report.expect("the world was run");
        let links = self
            .0
            .kept()
            .filter(|(_, it)| matches!(it, Element::Link { .. }));
        report.memory = memory.bytes_max;
        report.memory_limit = MEMORY + MEMORY_OF_LINK * links.count() as u64;
        if report.memory > report.memory_limit {
            report.failures.push(format!(
                "{} bytes of memory, and {} are allowed",
                report.memory, report.memory_limit
            ));
        }
        report
    }

    /// A world with fewer elements that still fails, found in at most `tries` runs.
    pub fn shrink(&self, tries: usize) -> Self {
        let mut smallest = self.clone();
        let Some(kind) = self.run().kind() else {
            return smallest;
        };
        let mut tries = tries;
        let mut piece = smallest.0.elements.len() / 2;
        while piece > 0 {
            let mut at = 0;
            while at < smallest.0.elements.len() {
                let mut smaller = smallest.clone();
                smaller
                    .0
                    .without
                    .extend(at..(at + piece).min(smallest.0.elements.len()));
                at += piece;
                if smaller.0.without.len() == smallest.0.without.len() {
                    continue;
                }
                if tries == 0 {
                    return smallest;
                }
                tries -= 1;
                if smaller.run().kind().as_ref() == Some(&kind) {
                    smallest = smaller;
                }
            }
            piece /= 2;
        }
        smallest
    }
}

impl Report {
    /// The first failure without its numbers: a smaller world must show it, too.
    fn kind(&self) -> Option<String> {
        let failure = self.failures.first()?;
        let words = failure.split(" (at ").next()?;
        Some(words.chars().filter(|it| it.is_alphabetic()).collect())
    }

    fn failed(failure: String) -> Self {
        Self {
            time: Duration::ZERO,
            polls: 0,
            connections: 0,
            asked_of_liars: 0,
            memory: 0,
            memory_limit: 0,
            trace: 0,
            failures: vec![failure],
        }
    }
}

fn run(plan: &Plan) -> Report {
    let mut executor = Executor::new(Random::new(plan.seed, 1));
    let sim = executor.sim().clone();
    let mut world = match World::new(plan, &sim) {
        Ok(world) => world,
        Err(error) => return Report::failed(format!("the writer's core: {error}")),
    };
    for (_, element) in plan.kept() {
        if let Element::Peer { peer, role, slow } = element {
            world.add_peer(*peer, *role, *slow);
        }
    }
    for (_, element) in plan.kept() {
        if let Element::Link {
            dialler, accepter, ..
        } = element
        {
            world.links.push((*dialler, *accepter));
        }
    }
    let world = Rc::new(world);
    for peer in world.peers.values() {
        if peer.role == Role::Seeder && peer.id != WRITER {
            let task = honest::seed(Rc::clone(&world), Rc::clone(peer));
            sim.spawn(format!("seeder {}", peer.id), task);
        }
    }
    for (at, element) in plan.kept() {
        begin(
            &world,
            at,
            element,
            Random::new(plan.seed, 1000 + at as u64),
        );
    }
    let ended = observe(&world, &mut executor);
    if let Err(busy) = ended {
        world.fail(format!(
            "a busy loop: {} polls of the task \"{}\"",
            busy.polls, busy.task
        ));
    } else {
        world.check_held();
    }
    if world.asked_of_liars() > MAX_ASKED_OF_LIARS {
        world.fail(format!("liars were asked {} times", world.asked_of_liars()));
    }
    Report {
        time: sim.now(),
        polls: executor.polls_in_all,
        connections: world.connections(),
        asked_of_liars: world.asked_of_liars(),
        memory: 0,
        memory_limit: 0,
        trace: executor.trace.get(),
        failures: world.failures.take(),
    }
}

/// Starts the task of an element.
fn begin(world: &Rc<World>, at: usize, element: &Element, random: Random) {
    let sim = world.sim.clone();
    let world = Rc::clone(world);
    match element.clone() {
        Element::Peer { .. } => {}
        Element::Link {
            link,
            dialler,
            accepter,
            options,
        } => {
            let peers = (world.peers.get(&dialler), world.peers.get(&accepter));
            let (Some(dialler), Some(accepter)) = peers else {
                return;
            };
            let name = format!("peer {} dials on link {link}", dialler.id);
            let (dialler, accepter) = (Rc::clone(dialler), Rc::clone(accepter));
            let task = world.keep_linked(link, dialler, accepter, options, random);
            sim.spawn(name, task);
        }
        Element::Want {
            at: time,
            peer,
            want,
        } => {
            let Some(peer) = world.peers.get(&peer).cloned() else {
                return;
            };
            sim.clone()
                .spawn(format!("reader {} wants {want:?}", peer.id), async move {
                    sim.sleep_until(time).await;
                    honest::want(world, peer, want).await;
                });
        }
        Element::LinkFault {
            at: time,
            link,
            fault,
        } => {
            sim.clone().spawn(format!("fault {at}"), async move {
                sim.sleep_until(time).await;
                world.break_link(link, fault);
            });
        }
        Element::Append { at: time, .. }
        | Element::Truncate { at: time, .. }
        | Element::Clear { at: time, .. }
        | Element::StoreFault { at: time, .. }
        | Element::Crash { at: time, .. } => {
            let element = element.clone();
            sim.clone().spawn(format!("element {at}"), async move {
                sim.sleep_until(time).await;
                honest::happen(world, element, random).await;
            });
        }
    }
}

/// Runs the world, inspecting it every second, until all is as it should be or the time is up.
fn observe(world: &Rc<World>, executor: &mut Executor) -> Result<(), executor::Busy> {
    let second = Duration::from_secs(1);
    let mut now = Duration::ZERO;
    while now < CALM {
        now += second;
        executor.run_until(now)?;
        world.check_always();
        if !world.failures.borrow().is_empty() {
            return Ok(());
        }
    }
    for peer in world.peers.values() {
        peer.store.mend();
    }
    // A core truncated to nothing could not be proven.
    let last = Rc::clone(world);
    world.sim.spawn("the last append", async move {
        honest::append(&last, vec![b"the last block".to_vec()]).await;
        last.is_complete.set(true);
    });
    loop {
        now += second;
        executor.run_until(now)?;
        world.check_always();
        if !world.failures.borrow().is_empty() {
            return Ok(());
        }
        let missing = world.missing();
        if world.is_complete.get() && missing.is_empty() {
            return Ok(());
        }
        if now >= CALM + SETTLED_WITHIN {
            for failure in missing {
                world.fail(failure);
            }
            if !world.is_complete.get() {
                world.fail("the last append did not end");
            }
            return Ok(());
        }
    }
}
