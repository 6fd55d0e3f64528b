//! One thread, a clock that only the executor advances, and tasks in an order determined by the seed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hypercore_protocol::runtime::Timer;

use super::random::Random;

/// The number of polls without any time passing that counts as a busy loop.
const MAX_POLLS_AT_ONCE: u64 = 20_000;

/// The number of polls in one virtual second that counts as working without progress.
const MAX_POLLS_A_SECOND: u64 = 60_000;

/// The virtual time and the alarms set in it. Clones share both.
#[derive(Clone)]
pub(crate) struct Clock(Arc<ClockState>);

#[derive(Default)]
struct ClockState {
    now: AtomicU64,
    alarms: Mutex<Alarms>,
}

#[derive(Default)]
struct Alarms {
    last: u64,
    by_time: BTreeMap<(Duration, u64), Waker>,
}

impl Clock {
    fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.now.load(Ordering::Relaxed))
    }

    pub(crate) fn timer(&self) -> SimTimer {
        let mut alarms = self.alarms();
        alarms.last += 1;
        SimTimer {
            clock: self.clone(),
            id: alarms.last,
            deadline: None,
        }
    }

    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.0
            .alarms
            .lock()
            .expect("nothing panics with the alarms")
    }

    /// Advances to the next alarm, unless it is after `limit`, and wakes all that are due then.
    fn advance(&self, limit: Duration) -> bool {
        let mut due = Vec::new();
        {
            let mut alarms = self.alarms();
            let Some((&(time, _), _)) = alarms.by_time.first_key_value() else {
                return false;
            };
            if time > limit {
                return false;
            }
            let nanos =
                u64::try_from(time.as_nanos()).expect("a virtual time of less than centuries");
            self.0.now.fetch_max(nanos, Ordering::Relaxed);
            while let Some(entry) = alarms.by_time.first_entry() {
                if entry.key().0 > time {
                    break;
                }
                due.push(entry.remove());
            }
        }
        due.into_iter().for_each(Waker::wake);
        true
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

impl hypercore_protocol::replication::Clock for Clock {
    fn now(&self) -> Duration {
        self.now()
    }
}

/// A timer of the virtual time.
pub(crate) struct SimTimer {
    clock: Clock,
    id: u64,
    deadline: Option<Duration>,
}

impl Timer for SimTimer {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()> {
        let is_due = deadline.is_some_and(|deadline| deadline <= self.clock.now());
        let next = deadline.filter(|_| !is_due);
        let mut alarms = self.clock.alarms();
        if let Some(earlier) = self.deadline.filter(|_| self.deadline != next) {
            alarms.by_time.remove(&(earlier, self.id));
        }
        self.deadline = next;
        if let Some(next) = next {
            alarms.by_time.insert((next, self.id), cx.waker().clone());
        }
        if is_due {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        if let Some(deadline) = self.deadline {
            self.clock.alarms().by_time.remove(&(deadline, self.id));
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The woken tasks. Sorted, so that the order in which a map with random hashes woke them does not matter.
type Ready = BTreeSet<usize>;

struct TaskWaker {
    task: usize,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.ready.lock().expect("nothing panics with the queue");
        ready.insert(self.task);
    }
}

/// The interface of tasks: the time, sleeping, starting others.
#[derive(Clone)]
pub(crate) struct Sim {
    clock: Clock,
    spawned: Rc<RefCell<Vec<(String, Task)>>>,
}

impl Sim {
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + 'static) {
        self.spawned
            .borrow_mut()
            .push((name.into(), Box::pin(task)));
    }

    pub(crate) async fn sleep_until(&self, deadline: Duration) {
        let mut timer = self.clock.timer();
        poll_fn(|cx| timer.poll_deadline(cx, Some(deadline))).await;
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }
}

/// Some task works without end.
#[derive(Debug)]
pub(crate) struct Busy {
    pub(crate) polls: u64,
    pub(crate) task: String,
}

pub(crate) struct Executor {
    sim: Sim,
    ready: Arc<Mutex<Ready>>,
    tasks: Vec<(String, Option<(Task, Waker)>)>,
    random: Random,
    /// Of each task, in the present virtual second.
    polls: Vec<u64>,
    polls_at_once: u64,
    polls_in_second: u64,
    second: u64,
    pub(crate) polls_in_all: u64,
    /// A hash of all events, to check that a seed repeats them.
    pub(crate) trace: Rc<Cell<u64>>,
}

impl Executor {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            sim: Sim {
                clock: Clock::new(),
                spawned: Rc::default(),
            },
            ready: Arc::default(),
            tasks: Vec::new(),
            random,
            polls: Vec::new(),
            polls_at_once: 0,
            polls_in_second: 0,
            second: 0,
            polls_in_all: 0,
            trace: Rc::default(),
        }
    }

    pub(crate) fn sim(&self) -> &Sim {
        &self.sim
    }

    fn take_spawned(&mut self) {
        for (name, future) in self.sim.spawned.take() {
            let task = self.tasks.len();
            let waker = Waker::from(Arc::new(TaskWaker {
                task,
                ready: Arc::clone(&self.ready),
            }));
            self.polls.push(0);
            waker.wake_by_ref();
            self.tasks.push((name, Some((future, waker))));
        }
    }

    /// Runs until the time is `limit`, or until nothing can happen before.
    pub(crate) fn run_until(&mut self, limit: Duration) -> Result<(), Busy> {
        loop {
            self.take_spawned();
            let next = {
                let mut ready = self.ready.lock().expect("sound");
                let at = usize::try_from(self.random.below(ready.len() as u64)).expect("an index");
                let task = ready.iter().nth(at).copied();
                task.inspect(|task| {
                    ready.remove(task);
                })
            };
            let Some(task) = next else {
                if self.sim.clock.advance(limit) {
                    self.polls_at_once = 0;
                    let second = self.sim.now().as_secs();
                    if second != self.second {
                        self.second = second;
                        self.polls_in_second = 0;
                        self.polls.fill(0);
                    }
                    continue;
                }
                // As an alarm at the limit itself, so that the clock stops there.
                let nanos = u64::try_from(limit.as_nanos()).expect("a virtual time");
                self.sim.clock.0.now.fetch_max(nanos, Ordering::Relaxed);
                return Ok(());
            };
            self.poll(task)?;
        }
    }

    fn poll(&mut self, task: usize) -> Result<(), Busy> {
        let Some((future, waker)) = &mut self.tasks[task].1 else {
            return Ok(());
        };
        self.polls_in_all += 1;
        self.polls_at_once += 1;
        self.polls_in_second += 1;
        self.polls[task] += 1;
        let now = self.sim.clock.0.now.load(Ordering::Relaxed);
        let trace = self.trace.get() ^ now ^ (task as u64).rotate_left(40);
        self.trace
            .set(trace.wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5));
        let waker = waker.clone();
        if future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.tasks[task].1 = None;
        }
        if self.polls_at_once > MAX_POLLS_AT_ONCE || self.polls_in_second > MAX_POLLS_A_SECOND {
            let polls = self.polls.iter().copied().enumerate();
            let (task, polls) = polls.max_by_key(|(_, polls)| *polls).expect("tasks");
            return Err(Busy {
                polls,
                task: self.tasks[task].0.clone(),
            });
        }
        Ok(())
    }
}
