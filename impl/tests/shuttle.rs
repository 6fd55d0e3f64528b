//! Tasks on several threads that share a protocol or a core, in orders of the threads that shuttle draws: one in which a wake-up
//! is lost leaves all threads waiting, which shuttle reports as a deadlock, with a schedule to replay it.
//!
//! `.ci/shuttle` builds this with `--cfg shuttle`; in any other build there is nothing here.
#![cfg(shuttle)]

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use hypercore_protocol::replication::{Core, CoreOptions, Memory, Replicator, Session};
use hypercore_protocol::runtime::{Io, Timer};
use hypercore_protocol::schema::Want;
use hypercore_protocol::{Channel, Event, Key, KeyPair, Message, Protocol, ProtocolBuilder};
use shuttle::future::block_on;
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

const KEY: Key = Key::new([3; 32]);

/// How many orders of the threads are tried for each test; `SHUTTLE_ITERATIONS` says otherwise.
fn iterations() -> usize {
    std::env::var("SHUTTLE_ITERATIONS").map_or(500, |count| count.parse().expect("a number"))
}

fn check(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(test, iterations());
}

/// One direction of a pipe that takes few bytes at a time, so that both ends wait often.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    ended: bool,
    wakers: Vec<Waker>,
}

const CAPACITY: usize = 96;

impl Way {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

struct Pipe {
    incoming: Arc<Mutex<Way>>,
    outgoing: Arc<Mutex<Way>>,
}

fn pipe() -> (Pipe, Pipe) {
    let (one, two) = (Arc::default(), Arc::default());
    let end = |incoming: &Arc<Mutex<Way>>, outgoing: &Arc<Mutex<Way>>| Pipe {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
    };
    (end(&one, &two), end(&two, &one))
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for way in [&self.incoming, &self.outgoing] {
            let mut way = way.lock().expect("no poll panics");
            way.ended = true;
            way.wake();
        }
    }
}

/// A clock that stands still: what ends a wait here is a wake-up, never a deadline.
struct Stopped;

impl Timer for Stopped {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn poll_deadline(&mut self, _cx: &mut Context<'_>, _deadline: Option<Duration>) -> Poll<()> {
        Poll::Pending
    }
}

impl Io for Pipe {
    type Timer = Stopped;

    fn timer(&self) -> Stopped {
        Stopped
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut way = self.incoming.lock().expect("no poll panics");
        if way.bytes.is_empty() && !way.ended {
            way.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let count = way.bytes.len().min(buffer.len());
        for (byte, read) in buffer.iter_mut().zip(way.bytes.drain(..count)) {
            *byte = read;
        }
        way.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = self.outgoing.lock().expect("no poll panics");
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(CAPACITY - way.bytes.len());
        if count == 0 {
            way.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        way.bytes.extend(&bytes[..count]);
        way.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.outgoing.lock().expect("no poll panics");
        way.ended = true;
        way.wake();
        Poll::Ready(Ok(()))
    }
}

/// Without encryption, which takes no part in who wakes whom and would only cost time. The buffers hold about two messages.
fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator)
        .unencrypted([7; 64])
        .keep_alive(None)
        .send_buffer(64)
        .receive_buffer(300)
}

fn protocols() -> (Protocol<Pipe>, Protocol<Pipe>) {
    let (ours, theirs) = pipe();
    (
        builder(true).connect_with(ours),
        builder(false).connect_with(theirs),
    )
}

/// Opens the core's channel, hands it to `task` on a thread of its own, and runs the protocol until the channel is closed.
fn run(mut protocol: Protocol<Pipe>, task: fn(Channel)) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        block_on(async move {
            protocol.open(KEY).expect("it can be opened");
            let mut user = None;
            while let Some(event) = protocol.next().await {
                match event.expect("nothing fails") {
                    Event::Channel(channel) => {
                        user = Some(thread::spawn(move || task(channel)));
                    }
                    Event::Close { .. } => break,
                    _ => {}
                }
            }
            drop(protocol);
            let user = user.expect("the remote opens it too");
            user.join().expect("it ends");
        });
    })
}

const MESSAGES: u64 = 8;

fn want(start: u64) -> Want {
    Want {
        start,
        length: 1,
        any: false,
    }
}

/// A sender waits for room and a reader for messages, each on a thread of its own beside the two that run the protocols.
#[test]
fn a_sender_and_a_reader_on_threads_of_their_own_get_to_the_end() {
    check(|| {
        let (ours, theirs) = protocols();
        let sender = run(ours, |channel| {
            block_on(async {
                for start in 0..MESSAGES {
                    channel.want(want(start)).await.expect("it is open");
                }
                // The reader closes it once it has all.
                channel.closed().await;
            });
        });
        let reader = run(theirs, |channel| {
            block_on(async {
                for start in 0..MESSAGES {
                    let message = channel.recv().await;
                    assert_eq!(message, Some(Message::Want(want(start))));
                }
                channel.close();
            });
        });
        sender.join().expect("it ends");
        reader.join().expect("it ends");
    });
}

/// Blocks are asked for on other threads than the one that runs the reader's session, and appended on another than the one that
/// runs the writer's.
#[test]
fn blocks_reach_readers_on_threads_of_their_own() {
    check(|| {
        let (ours, theirs) = pipe();
        let key_pair = KeyPair::from_seed(&[1; 32]);
        let core = Core::open(Memory::new(), CoreOptions::writer(key_pair)).expect("a core");
        let writer = Replicator::new(core);
        let core = Core::open(Memory::new(), CoreOptions::reader(writer.key())).expect("a core");
        let reader = Replicator::new(core);

        let appending = thread::spawn({
            let writer = writer.clone();
            move || {
                for block in ["a", "b"] {
                    writer.append(&[block]).expect("it is writable");
                }
            }
        });
        let serving = thread::spawn(move || {
            block_on(async move {
                let mut session = Session::new(builder(false).connect_with(theirs));
                session.add(&writer).expect("it is not open yet");
                // The reader drops its end where it pleases.
                let _ = session.run().await;
            });
        });
        let (done, is_done) = oneshot::channel();
        let asking = thread::spawn({
            let reader = reader.clone();
            move || {
                assert_eq!(block_on(reader.get(1)).expect("it arrives"), b"b");
                done.send(()).expect("it is waited for");
            }
        });
        block_on(async move {
            let mut session = Session::new(builder(true).connect_with(ours));
            session.add(&reader).expect("it is not open yet");
            let both = async {
                assert_eq!(reader.get(0).await.expect("it arrives"), b"a");
                is_done.await.expect("the other reader ends");
            };
            session.drive(both).await.expect("the stream lasts");
        });
        for thread in [appending, serving, asking] {
            thread.join().expect("it ends");
        }
    });
}
