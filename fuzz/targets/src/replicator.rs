//! A replicator with several peers: some lie, one may be honest. The fuzzer is the network, the clock and the executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::replication::{
    Clock, Core, Events, Replicator, ReplicatorEvent, ReplicatorOptions, Session, SessionError,
};
use hypercore_protocol::runtime::{Io, Timer};
use hypercore_protocol::schema::{Cancel, NoData, Range, Request, Sync, Unwant, Want};
use hypercore_protocol::transport::Mode;
use hypercore_protocol::{Connection, ConnectionConfig, ConnectionEvent, Message, ProtocolBuilder};

use crate::input::Input;
use crate::packets;
use crate::proofs;
use crate::world::{self, World};

const HASH: [u8; 64] = [5; 64];

/// Rounds in which all woken tasks run, before the fuzzer continues.
const ROUNDS: usize = 64;

/// The time-out for an honest peer to deliver a block in the presence of liars, in seconds of virtual time.
const PATIENCE: u64 = 600;

/// The time of all replicators, in seconds.
#[derive(Debug, Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// A task is polled only when it was woken, so that a lost wake-up is detected.
struct Woken(AtomicBool);

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One end of a stream, and its clock.
#[derive(Default)]
struct Wire {
    arriving: VecDeque<u8>,
    leaving: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    timer: Option<(Duration, Waker)>,
    /// The written bytes are not read.
    is_blocked: bool,
    is_ended: bool,
    now: Duration,
}

#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Wire>>);

impl Pipe {
    fn deliver(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        wire.arriving.extend(bytes);
        if !bytes.is_empty() {
            wire.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn end(&self) {
        let mut wire = self.0.borrow_mut();
        wire.is_ended = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    fn block(&self, is_blocked: bool) {
        let mut wire = self.0.borrow_mut();
        wire.is_blocked = is_blocked;
        if !is_blocked {
            wire.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    fn advance(&self, by: Duration) {
        let mut wire = self.0.borrow_mut();
        wire.now += by;
        let now = wire.now;
        if let Some((_, waker)) = wire.timer.take_if(|(deadline, _)| *deadline <= now) {
            waker.wake();
        }
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().leaving)
    }
}

impl Io for Pipe {
    type Timer = Self;

    fn timer(&self) -> Self {
        self.clone()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        if wire.arriving.is_empty() && !wire.is_ended {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(wire.arriving.len());
        for (to, from) in buffer.iter_mut().zip(wire.arriving.drain(..count)) {
            *to = from;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        if wire.is_blocked {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.leaving.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Timer for Pipe {
    fn now(&self) -> Duration {
        self.0.borrow().now
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()> {
        let mut wire = self.0.borrow_mut();
        match deadline {
            Some(deadline) if deadline <= wire.now => Poll::Ready(()),
            Some(deadline) => {
                wire.timer = Some((deadline, cx.waker().clone()));
                Poll::Pending
            }
            None => {
                wire.timer = None;
                Poll::Pending
            }
        }
    }
}

/// A session running as a task.
struct Task {
    session: Session<Pipe>,
    pipe: Pipe,
    woken: Arc<Woken>,
    is_alive: bool,
}

impl Task {
    fn new(is_initiator: bool, replicator: &Replicator) -> Self {
        let pipe = Pipe::default();
        let builder = ProtocolBuilder::new(is_initiator).unencrypted(HASH);
        // Liars stay connected, though they are silent.
        let builder = builder.keep_alive(None).idle_timeout(None);
        let mut session = Session::new(builder.connect_with(pipe.clone()));
        session.add(replicator).expect("it is the first core");
        Self {
            session,
            pipe,
            woken: Woken::new(),
            is_alive: true,
        }
    }

    /// Runs the session if it was woken. Returns whether it was.
    fn poll(&mut self) -> bool {
        if !self.is_alive || !self.woken.take() {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        // A dropped peer does not affect the others on the stream: run the session again.
        for _ in 0..8 {
            match pin!(self.session.run()).poll(&mut cx) {
                Poll::Ready(Err(SessionError::Peer { error, .. })) => drop(error.to_string()),
                Poll::Ready(_) => {
                    self.is_alive = false;
                    break;
                }
                Poll::Pending => break,
            }
        }
        true
    }
}

/// The other end of a stream.
enum Other {
    /// The fuzzer.
    Hostile {
        connection: Box<Connection>,
        channel: Option<ChannelHandle>,
        asked: Vec<Request>,
    },
    /// A replicator of the writer's core.
    Honest(Box<Task>),
}

struct Peer {
    task: Task,
    other: Other,
}

impl Peer {
    /// Carries pending bytes, and runs woken tasks. Returns whether anything moved.
    fn turn(&mut self, size: &mut usize) -> bool {
        let mut moved = self.task.poll();
        let leaving = self.task.pipe.take();
        moved |= !leaving.is_empty();
        match &mut self.other {
            Other::Honest(other) => {
                other.pipe.deliver(&leaving);
                moved |= other.poll();
                let bytes = other.pipe.take();
                moved |= !bytes.is_empty();
                self.task.pipe.deliver(&bytes);
            }
            Other::Hostile {
                connection, asked, ..
            } => {
                connection.receive(&leaving, Duration::ZERO);
                while let Ok(Some(event)) = connection.poll_event() {
                    if let ConnectionEvent::Message {
                        message: Message::Request(request),
                        ..
                    } = event
                    {
                        asked.push(request);
                    }
                }
                // Forget the oldest.
                asked.drain(..asked.len().saturating_sub(256));
                let bytes = connection.transmit().to_vec();
                connection.consume_transmit(bytes.len(), Duration::ZERO);
                *size += bytes.len();
                moved |= !bytes.is_empty();
                self.task.pipe.deliver(&bytes);
            }
        }
        moved
    }
}

struct Wait {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

struct Run<'a> {
    world: &'a World,
    time: Arc<Time>,
    replicator: Replicator,
    peers: Vec<Peer>,
    waits: Vec<Wait>,
    events: Events,
    twice: bool,
    forked: bool,
    size: usize,
}

impl Run<'_> {
    /// Until all are idle, or for some rounds.
    fn turn(&mut self) {
        for _ in 0..ROUNDS {
            let mut moved = false;
            for peer in &mut self.peers {
                moved |= peer.turn(&mut self.size);
            }
            self.waits.retain_mut(|wait| {
                if !wait.woken.take() {
                    return true;
                }
                moved = true;
                let waker = Waker::from(Arc::clone(&wait.woken));
                let mut cx = Context::from_waker(&waker);
                wait.future.as_mut().poll(&mut cx).is_pending()
            });
            while let Some(event) = self.events.try_next() {
                if let ReplicatorEvent::Conflict(_) = event {
                    assert!(self.twice, "a conflict of one signed history");
                }
            }
            if !moved {
                break;
            }
        }
        let (world, twice) = (self.world, self.twice);
        self.replicator.with_core(|core| world.check(core, twice));
    }

    fn wait(&mut self, choices: &mut Input<'_>) {
        if self.waits.len() >= 64 {
            return;
        }
        let replicator = self.replicator.clone();
        let (one, other) = (choices.number(), choices.number());
        let (start, end) = (one.min(other), one.max(other));
        let kind = choices.below(6);
        let future = async move {
            // The result is checked by the contents of the core.
            match kind {
                0 => drop(replicator.get(one).await),
                1 => drop(replicator.update().await),
                2 => drop(replicator.download(start..end).await),
                3 => drop(replicator.seek(one).await),
                4 => drop(replicator.has_length(one).await),
                _ => drop(replicator.download_all().await),
            }
        };
        self.waits.push(Wait {
            future: Box::pin(future),
            woken: Woken::new(),
        });
    }

    /// A liar's next message.
    fn lie(&mut self, choices: &mut Input<'_>, at: usize) -> Option<Message> {
        let world = self.world;
        let Other::Hostile { asked, .. } = &mut self.peers.get_mut(at)?.other else {
            return None;
        };
        let whole = |length, fork| {
            Message::Sync(Sync {
                fork,
                length,
                remote_length: 0,
                can_upgrade: true,
                uploading: true,
                downloading: true,
                has_manifest: true,
                allow_push: false,
            })
        };
        Some(match choices.below(16) {
            0 => Message::Sync(packets::sync(choices)),
            1 => whole(29, 0),
            2 => whole(20, 1),
            3 => Message::Range(Range {
                drop: choices.below(8) == 1,
                start: 0,
                length: 29,
            }),
            4 => Message::Range(packets::range(choices)),
            5 => Message::Bitfield(packets::bitfield(choices)),
            6 => Message::Request(packets::request(choices)),
            7 => Message::Want(Want {
                start: choices.number(),
                length: choices.number(),
                any: choices.flag(),
            }),
            8 => packets::message(choices),
            9 => Message::Cancel(Cancel {
                request: choices.number(),
            }),
            10 => Message::Unwant(Unwant {
                start: choices.number(),
                length: choices.number(),
                any: choices.flag(),
            }),
            11 => Message::NoData(NoData {
                request: asked.pop().map_or(1, |request| request.id),
                reason: choices.number(),
            }),
            12 => {
                // An unrequested answer.
                let history = self.history(choices);
                let core = &history.core;
                let mut data = self
                    .replicator
                    .with_core(|reader| proofs::honest(choices, core, reader));
                proofs::spoil(choices, &mut data, world.key.into());
                Message::Data(data)
            }
            _ => {
                if asked.is_empty() {
                    return None;
                }
                let request = asked.remove(choices.below(asked.len()));
                let history = self.history(choices);
                let id = request.id;
                let Ok(Some(mut data)) = history.core.create_proof(&request) else {
                    return Some(Message::NoData(NoData {
                        request: id,
                        reason: 1,
                    }));
                };
                data.request = id;
                if choices.below(4) == 1 {
                    proofs::spoil(choices, &mut data, world.key.into());
                }
                Message::Data(data)
            }
        })
    }

    fn step(&mut self, choices: &mut Input<'_>) {
        let at = choices.below(self.peers.len());
        match choices.below(20) {
            0..=11 => {
                for _ in 0..=choices.pick(&[0, 0, 0, 0, 3, 30]) {
                    let message = self.lie(choices, at);
                    let Other::Hostile {
                        connection,
                        channel: Some(channel),
                        ..
                    } = &mut self.peers[at].other
                    else {
                        break;
                    };
                    if let Some(message) = message {
                        let _ = connection.send(*channel, &message);
                    }
                }
            }
            12 | 13 => self.wait(choices),
            14 => {
                if !self.waits.is_empty() {
                    let given_up = choices.below(self.waits.len());
                    drop(self.waits.swap_remove(given_up));
                }
            }
            15 => {
                if let Other::Hostile { .. } = self.peers[at].other {
                    let is_blocked = choices.flag();
                    self.peers[at].task.pipe.block(is_blocked);
                }
            }
            16 => {
                let key = self.world.key;
                if let Other::Hostile {
                    connection,
                    channel,
                    ..
                } = &mut self.peers[at].other
                {
                    if let Some(channel) = channel.take() {
                        connection.close(channel);
                    } else {
                        *channel = connection.open(key).ok();
                    }
                }
            }
            17 => {
                let by = Duration::from_secs(u64::from(choices.byte()));
                self.advance(by);
            }
            18 => {
                let start = choices.below(32) as u64;
                let end = start + choices.below(32) as u64;
                let _ = self.replicator.clear(start..end);
            }
            _ => {
                if let Other::Hostile { connection, .. } = &mut self.peers[at].other {
                    if choices.below(4) == 1 {
                        self.peers[at].task.pipe.end();
                    } else {
                        let record = packets::record(choices, false, &HASH);
                        let _ = connection.send_plaintext_for_testing_only(&record);
                    }
                }
            }
        }
        self.turn();
        let _ = (self.replicator.peers(), self.replicator.info().is_ok());
    }

    fn history(&mut self, choices: &mut Input<'_>) -> &'static world::History {
        let world = &world::worlds()[usize::from(self.world.key != world::worlds()[0].key)];
        match choices.below(10) {
            0..=6 => &world.writer,
            7 | 8 => {
                self.forked = true;
                &world.forked
            }
            _ => {
                self.twice = true;
                &world.twin
            }
        }
    }

    /// With an honest peer connected, a block arrives, whatever the others do.
    fn deliver(&mut self) {
        let is_honest = |peer: &Peer| match &peer.other {
            Other::Honest(other) => other.is_alive && peer.task.is_alive,
            Other::Hostile { .. } => false,
        };
        let is_reader = !self.replicator.with_core(Core::is_writable);
        // A peer with another history does not help.
        if self.twice || self.forked || !is_reader || !self.peers.iter().any(is_honest) {
            return;
        }
        let came = Rc::new(Cell::new(None));
        let (replicator, told) = (self.replicator.clone(), Rc::clone(&came));
        self.waits.push(Wait {
            future: Box::pin(async move { told.set(Some(replicator.get(28).await.is_ok())) }),
            woken: Woken::new(),
        });
        for _ in 0..PATIENCE / 5 {
            self.turn();
            if let Some(came) = came.get() {
                assert!(came, "a block of an honest peer is refused");
                return;
            }
            self.advance(Duration::from_secs(5));
        }
        panic!("an honest peer is there, and its block did not come in {PATIENCE} seconds");
    }

    fn advance(&mut self, by: Duration) {
        self.time.0.fetch_add(by.as_secs(), Ordering::Relaxed);
        for peer in &self.peers {
            peer.task.pipe.advance(by);
            if let Other::Honest(other) = &peer.other {
                other.pipe.advance(by);
            }
        }
    }
}

fn hostile(replicator: &Replicator, key: [u8; 32]) -> Peer {
    let mut config = ConnectionConfig::new(true);
    config.transport.mode = Mode::Unencrypted {
        handshake_hash: HASH,
    };
    config.keep_alive = None;
    let mut connection = Box::new(Connection::new(config, Duration::ZERO));
    let channel = connection.open(key).ok();
    Peer {
        task: Task::new(false, replicator),
        other: Other::Hostile {
            connection,
            channel,
            asked: Vec::new(),
        },
    }
}

pub(crate) fn replicator(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let (shape, options_shape) = (choices.byte(), choices.byte());
    let world = &world::worlds()[usize::from(shape & 1)];
    let core: Core = match usize::from(shape >> 1 & 7) {
        6 | 7 => world.writer_again(),
        choice => world.reader(choice).0,
    };
    let time = Arc::new(Time::default());
    let mut options = ReplicatorOptions::default();
    options.clock = Arc::<Time>::clone(&time);
    options.eager_upgrade = options_shape & 1 == 0;
    options.upload = options_shape & 2 == 0;
    options.reorgs = options_shape & 4 == 0;
    if options_shape & 8 != 0 {
        options.max_in_flight = 2;
    }
    let replicator = Replicator::with_options(core, options);
    let mut peers: Vec<_> = (0..1 + usize::from(shape >> 4 & 1))
        .map(|_| hostile(&replicator, world.key.into()))
        .collect();
    if shape & 32 != 0 {
        let mut options = ReplicatorOptions::default();
        options.clock = Arc::<Time>::clone(&time);
        let writer = Replicator::with_options(world.writer_again(), options);
        peers.push(Peer {
            task: Task::new(false, &replicator),
            other: Other::Honest(Box::new(Task::new(true, &writer))),
        });
    }
    let mut run = Run {
        world,
        time,
        events: replicator.events(),
        replicator,
        peers,
        waits: Vec::new(),
        twice: false,
        forked: false,
        size: input.len(),
    };
    run.turn();
    let mut steps = 0;
    while !choices.is_empty() && steps < 64 {
        steps += 1;
        run.step(&mut choices);
    }
    run.deliver();
    run.size
}
