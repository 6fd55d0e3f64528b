//! A byte stream between two peers: with delays, fragmentation, limits, stalls and breaks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hypercore_protocol::runtime::{Io, Timer};

use super::executor::{Clock, SimTimer};
use super::random::Random;

#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOptions {
    pub(crate) latency: Duration,
    /// Maximum additional delay of each piece; pieces keep their order.
    pub(crate) jitter: Duration,
    /// Bytes in transit in one direction above which writing waits.
    pub(crate) capacity: usize,
    /// Maximum bytes of one write or read.
    pub(crate) piece: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkFault {
    /// Both ends see a reset; data in transit is lost.
    Reset,
    /// Nothing arrives, in both directions, for this long.
    Stall(Duration),
    /// One direction ends; the other continues.
    HalfClose,
}

struct Way {
    pieces: VecDeque<(Duration, Vec<u8>)>,
    /// Bytes taken from the first piece.
    taken: usize,
    bytes: usize,
    last_arrival: Duration,
    stalled_until: Duration,
    /// When the end arrives after the last piece.
    ended: Option<Duration>,
    is_reset: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    random: Random,
}

impl Way {
    fn new(random: Random) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            pieces: VecDeque::new(),
            taken: 0,
            bytes: 0,
            last_arrival: Duration::ZERO,
            stalled_until: Duration::ZERO,
            ended: None,
            is_reset: false,
            reader_gone: false,
            reader: None,
            writer: None,
            random,
        }))
    }

    fn arrival(&mut self, options: &LinkOptions, now: Duration) -> Duration {
        let jitter = u64::try_from(options.jitter.as_micros()).expect("less than centuries");
        let late = Duration::from_micros(self.random.below(jitter + 1));
        self.last_arrival = self.last_arrival.max(now + options.latency + late);
        self.last_arrival
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

/// One end of a link.
pub(crate) struct SimIo {
    incoming: Rc<RefCell<Way>>,
    outgoing: Rc<RefCell<Way>>,
    options: LinkOptions,
    clock: Clock,
    alarm: SimTimer,
}

/// Breaks a link.
#[derive(Clone)]
pub(crate) struct LinkControl([Rc<RefCell<Way>>; 2]);

impl LinkControl {
    pub(crate) fn apply(&self, fault: LinkFault, now: Duration) {
        match fault {
            LinkFault::Reset => {
                for way in &self.0 {
                    let mut way = way.borrow_mut();
                    way.is_reset = true;
                    way.pieces.clear();
                    way.wake();
                }
            }
            LinkFault::Stall(time) => {
                for way in &self.0 {
                    let mut way = way.borrow_mut();
                    way.stalled_until = way.stalled_until.max(now + time);
                    way.wake();
                }
            }
            LinkFault::HalfClose => {
                let mut way = self.0[0].borrow_mut();
                way.ended = way.ended.or(Some(now));
                way.wake();
            }
        }
    }
}

pub(crate) fn link(
    clock: &Clock,
    options: LinkOptions,
    random: &mut Random,
) -> (SimIo, SimIo, LinkControl) {
    let ways = [
        Way::new(Random::new(random.next(), 1)),
        Way::new(Random::new(random.next(), 2)),
    ];
    let end = |incoming: usize, outgoing: usize| SimIo {
        incoming: Rc::clone(&ways[incoming]),
        outgoing: Rc::clone(&ways[outgoing]),
        options,
        clock: clock.clone(),
        alarm: clock.timer(),
    };
    (
        end(1, 0),
        end(0, 1),
        LinkControl([Rc::clone(&ways[0]), Rc::clone(&ways[1])]),
    )
}

impl Io for SimIo {
    type Timer = SimTimer;

    fn timer(&self) -> SimTimer {
        self.clock.timer()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let now = self.clock.now();
        let mut way = self.incoming.borrow_mut();
        if way.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let next = way
            .pieces
            .front()
            .map(|(arrival, _)| *arrival)
            .or(way.ended);
        let Some(arrival) = next.map(|arrival| arrival.max(way.stalled_until)) else {
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if arrival > now {
            way.reader = Some(cx.waker().clone());
            let alarm = self.alarm.poll_deadline(cx, Some(arrival));
            debug_assert!(alarm.is_pending());
            return Poll::Pending;
        }
        let taken = way.taken;
        let Some((_, piece)) = way.pieces.front() else {
            return Poll::Ready(Ok(0));
        };
        let count = (piece.len() - taken).min(buffer.len());
        buffer[..count].copy_from_slice(&piece[taken..taken + count]);
        if taken + count == piece.len() {
            way.pieces.pop_front();
            way.taken = 0;
        } else {
            way.taken += count;
        }
        way.bytes -= count;
        way.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.clock.now();
        let mut way = self.outgoing.borrow_mut();
        if way.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way.ended.is_some() || way.reader_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.options.capacity.saturating_sub(way.bytes);
        let most = room.min(self.options.piece).min(bytes.len());
        if most == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = usize::try_from(way.random.between(1, most as u64)).expect("a count");
        // Sometimes small pieces, usually as much as there is room for.
        let count = if way.random.one_in(4) { count } else { most };
        let arrival = way.arrival(&self.options, now);
        way.pieces.push_back((arrival, bytes[..count].to_vec()));
        way.bytes += count;
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.clock.now();
        let mut way = self.outgoing.borrow_mut();
        let arrival = way.arrival(&self.options, now);
        way.ended = way.ended.or(Some(arrival));
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut way = self.outgoing.borrow_mut();
        let arrival = way.arrival(&self.options, now);
        way.ended = way.ended.or(Some(arrival));
        way.wake();
        drop(way);
        let mut way = self.incoming.borrow_mut();
        way.reader_gone = true;
        way.pieces.clear();
        way.wake();
    }
}
