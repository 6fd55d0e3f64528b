//! Jobs that fill cells, several at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cell::{Cell, CellId, NODE, PartId, State};
use super::part::Task;
use super::parts::live;
use super::plan::Unit;
use super::setup::{Implementation, Matrix, lock};

/// One job, run on one thread.
#[derive(Clone, Debug)]
struct Job {
    unit: Unit,
    /// The implementation; none for jobs about the release alone.
    implementation: Option<Implementation>,
}

impl Job {
    fn is_busy(&self) -> bool {
        self.unit.part.part().is_busy()
    }
}

impl Matrix<'_> {
    /// Runs all jobs of some units, and returns their cells.
    pub(super) fn run_all(&self, units: &[Unit]) -> Vec<Cell> {
        let jobs: Vec<Job> = units.iter().flat_map(|unit| self.jobs(unit)).collect();
        let total = jobs.len();
        let queue = Queue::new(jobs);
        let found = Mutex::new(Vec::new());
        let threads = self.arguments.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1
        });
        let began = Instant::now();
        // cucumber replaces the panic hook by a silent one, and restores the previous one when it is done: two runs at
        // a time would leave the silent hook installed, or print the panics of scenarios.
        let hook = Arc::new(std::panic::take_hook());
        let loud = Arc::clone(&hook);
        std::panic::set_hook(Box::new(move |info| {
            if !live::is_playing() {
                loud(info);
            }
        }));
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, total.max(1)) {
                scope.spawn(|| {
                    while let Some(job) = queue.take() {
                        let made = self.do_job(&job);
                        let done = queue.finish(&job);
                        self.say(&progress(&made, began.elapsed(), done, total));
                        lock(&found).extend(made);
                    }
                });
            }
        });
        std::panic::set_hook(Box::new(move |info| hook(info)));
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self, unit: &Unit) -> Vec<Job> {
        let job = |implementation| Job {
            unit: unit.clone(),
            implementation,
        };
        if unit.part.part().is_of_release() {
            return vec![job(None)];
        }
        let implementations = self.implementations.iter().cloned();
        implementations.map(|one| job(Some(one))).collect()
    }

    fn do_job(&self, job: &Job) -> Vec<Cell> {
        let began = Instant::now();
        let mut cells = self.cells_of(job);
        if let Some(reason) = self.missing(&job.unit) {
            return cells
                .into_iter()
                .map(|cell| unavailable(cell, &reason))
                .collect();
        }
        let task = Task {
            matrix: self,
            unit: &job.unit,
            implementation: job.implementation.as_ref(),
        };
        let filled = job.unit.part.part().fill(&task, &mut cells);
        let seconds = began.elapsed().as_secs_f64() / cells.len().max(1) as f64;
        for cell in &mut cells {
            cell.seconds = (seconds * 100.0).round() / 100.0;
            if let Err(reason) = &filled {
                *cell = unavailable(cell.clone(), reason);
            }
            cell.settle();
        }
        cells
    }

    fn cells_of(&self, job: &Job) -> Vec<Cell> {
        let Job {
            unit,
            implementation,
        } = job;
        if let Some(one) = implementation {
            return cells_of_part(&one.name, unit, unit.part);
        }
        let mut cells = cells_of_part(NODE, unit, unit.part);
        let others = PartId::all()
            .filter(|part| *part != unit.part && part.unit() == unit.part)
            .filter(|part| self.wants(*part));
        for part in others {
            for one in &self.implementations {
                cells.extend(cells_of_part(&one.name, unit, part));
            }
        }
        cells
    }
}

/// The cells of an implementation in a unit.
fn cells_of_part(implementation: &str, unit: &Unit, part: PartId) -> Vec<Cell> {
    let id = |role: &str| CellId {
        implementation: implementation.to_owned(),
        release: unit.release.clone(),
        runtime: unit.runtime.clone(),
        part,
        role: role.to_owned(),
    };
    let roles = part.part().roles();
    roles.into_iter().map(|role| Cell::new(id(role))).collect()
}

/// Marks a cell as unavailable.
fn unavailable(cell: Cell, reason: &str) -> Cell {
    Cell {
        state: State::Unavailable,
        note: Some(reason.to_owned()),
        ..cell
    }
}

/// How many busy jobs run at a time: each already runs several things at a time, and a single one leaves processors
/// idle while its last ones wait.
const BUSY: usize = 2;

/// Waiting jobs.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    waiting: VecDeque<Job>,
    busy: usize,
    done: usize,
}

impl Queue {
    fn new(jobs: Vec<Job>) -> Self {
        let state = QueueState {
            waiting: jobs.into(),
            busy: 0,
            done: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// The next runnable job; waits until there is one, or returns `None` if no job is left.
    fn take(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            let full = state.busy == BUSY;
            let next = state
                .waiting
                .iter()
                .position(|job| !(full && job.is_busy()));
            if let Some(job) = next.and_then(|next| state.waiting.remove(next)) {
                state.busy += usize::from(job.is_busy());
                return Some(job);
            }
            if state.waiting.is_empty() {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Marks a job as done, and returns the number of done jobs.
    fn finish(&self, job: &Job) -> usize {
        let mut state = lock(&self.state);
        if job.is_busy() {
            state.busy -= 1;
        }
        state.done += 1;
        self.changed.notify_all();
        state.done
    }
}

fn progress(made: &[Cell], after: Duration, done: usize, total: usize) -> String {
    let cells: Vec<String> = made
        .iter()
        .map(|cell| {
            let mut text = format!("{} {}", cell.id, cell.state);
            if !cell.faults.is_empty() {
                text += &format!(
                    " ({} of {})",
                    cell.faults.len(),
                    cell.faults.len() + cell.passed
                );
            }
            text
        })
        .collect();
    let cells = if cells.is_empty() {
        "nothing".into()
    } else {
        cells.join("\n          ")
    };
    format!("{:>4} s {done:>3}/{total} {cells}", after.as_secs())
}
