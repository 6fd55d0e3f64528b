//! Backpressure over real sockets, and its memory bounds: those in the documentation of the driver, `src/driver.rs`,
//! measured with a counting allocator.
//!
//! A separate test program whose tests take turns, since the allocator counts for the whole process.

mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_timer::Delay;
use hypercore_protocol::schema::{Data, DataBlock};
use hypercore_protocol::{
    Channel, Event, Key, Message, Protocol, ProtocolBuilder, ProtocolHandle, runtime::Io,
};
#[cfg(feature = "js_interop_tests")]
use hypercore_protocol::{ChannelOptions, MuxChannel};
use node::soon;
use peak_alloc::PeakAlloc;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static TURN: Mutex<()> = Mutex::const_new(());

const KEY: Key = Key::new([3; 32]);

/// The defaults of the builder.
const SEND_BUFFER: usize = 256 * 1024;
const RECEIVE_BUFFER: usize = 256 * 1024;
/// The requested socket buffer in each direction; Linux doubles it.
const SOCKET_BUFFER: u32 = 32 * 1024;
const READ_BUFFER: usize = 64 * 1024;
/// Everything else: tasks, wakers, channels, timers.
const REST: usize = 256 * 1024;

fn builder(is_initiator: bool) -> ProtocolBuilder {
    // However long a test leaves the other side alone.
    ProtocolBuilder::new(is_initiator)
        .keep_alive(None)
        .idle_timeout(None)
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    let sized = socket
        .set_send_buffer_size(SOCKET_BUFFER)
        .and(socket.set_recv_buffer_size(SOCKET_BUFFER));
    sized.expect("a size");
    socket
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listening = socket();
    let localhost = "127.0.0.1:0".parse().expect("an address");
    listening.bind(localhost).expect("an address");
    let listener = listening.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (dialled, accepted) = tokio::join!(socket().connect(address), listener.accept());
    (
        dialled.expect("a connection"),
        accepted.expect("a connection").0,
    )
}

/// A protocol run to its end by a task.
struct Side {
    handle: ProtocolHandle,
    channels: tokio::sync::mpsc::UnboundedReceiver<Channel>,
    task: JoinHandle<()>,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn run<S: Io<Timer: Send> + Send + 'static>(mut protocol: Protocol<S>) -> Side {
    let handle = protocol.handle();
    let (opened, channels) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(event) = protocol.next().await {
            match event.expect("nothing breaks a rule") {
                // Dropped when the test is over.
                Event::Channel(channel) => drop(opened.send(channel)),
                Event::Handshake(_)
                | Event::DiscoveryKey(_)
                | Event::Close { .. }
                | Event::End(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    Side {
        handle,
        channels,
        task,
    }
}

impl Side {
    async fn open(&mut self, key: Key) {
        self.handle.open(key).expect("an open channel");
    }

    async fn channel(&mut self) -> Channel {
        soon(self.channels.recv()).await.expect("a channel")
    }
}

/// Two running sides, with a channel of a core open at both.
async fn pair() -> (Side, Side, Channel, Channel) {
    let (one, two) = sockets().await;
    let mut a = run(builder(true).connect(one));
    let mut b = run(builder(false).connect(two));
    a.open(KEY).await;
    b.open(KEY).await;
    let (here, there) = (a.channel().await, b.channel().await);
    (a, b, here, there)
}

/// Waits until a count no longer grows, which can only be detected by a time-out.
async fn settled(count: &AtomicU64) -> u64 {
    soon(async {
        loop {
            let before = count.load(Ordering::SeqCst);
            Delay::new(Duration::from_millis(300)).await;
            if before > 0 && before == count.load(Ordering::SeqCst) {
                return before;
            }
        }
    })
    .await
}

/// Does something with each message. The time-outs cover a hundred of them together: expired timers stay in memory for
/// a while, and one for each message would dominate the measurement, and the time.
async fn each(total: u64, mut act: impl AsyncFnMut(u64)) {
    for start in (0..total).step_by(100) {
        soon(async {
            for index in start..total.min(start + 100) {
                act(index).await;
            }
        })
        .await;
    }
}

/// The most bytes allocated since this was made, beyond those allocated then.
struct Growth(usize);

impl Growth {
    /// Starts once earlier allocations have been freed.
    async fn measure() -> Self {
        let mut used = usize::MAX;
        while MEMORY.current_usage() != used {
            used = MEMORY.current_usage();
            Delay::new(Duration::from_millis(100)).await;
        }
        MEMORY.reset_peak_usage();
        Self(used)
    }

    fn peak(&self) -> usize {
        MEMORY.peak_usage().saturating_sub(self.0)
    }

    fn check(&self, bound: usize, what: &str) {
        let peak = self.peak();
        eprintln!("{what}: {peak} of {bound} bytes");
        assert!(peak <= bound, "{what}: {peak} bytes, more than {bound}");
    }
}

/// The send buffer and one message beyond it: in the buffer being filled and in the one being written, either of which
/// may have twice the capacity of its contents.
fn to_send(length: usize) -> usize {
    4 * (SEND_BUFFER + length)
}

/// The queue, where a message counts with all its memory, and one beyond it: at most twice that in memory. And the read
/// buffers: a piece of 64 KiB, and one record.
fn to_receive(length: usize) -> usize {
    2 * (RECEIVE_BUFFER + length + 2048) + READ_BUFFER + 3 * length
}

fn block(index: u64, length: usize) -> Data {
    Data {
        request: index,
        block: Some(DataBlock {
            index,
            value: vec![index as u8; length].into(),
            nodes: Vec::new(),
        }),
        ..Data::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_stops_the_sender_whatever_the_size_of_the_messages() {
    let _turn = TURN.lock().await;
    for (length, total) in [
        (1, 100_000_u64),
        (1000, 30_000),
        (60_000, 500),
        (1 << 20, 30),
    ] {
        let (_a, _b, here, there) = pair().await;
        let growth = Growth::measure().await;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let sender = tokio::spawn(async move {
            for index in 0..total {
                here.data(block(index, length)).await.expect("it is sent");
                count.fetch_add(1, Ordering::SeqCst);
            }
            here
        });
        let accepted = settled(&sent).await;
        let held = accepted as usize * length;
        let room = SEND_BUFFER + RECEIVE_BUFFER + READ_BUFFER + 8 * SOCKET_BUFFER as usize;
        assert!(accepted < total, "{length}: the sender never waits");
        // Elsewhere the kernel may hold more than requested.
        if cfg!(target_os = "linux") {
            assert!(held <= room + 3 * length, "{length}: {held} accepted");
        }
        // The sender makes each message before it waits for room.
        let bound = to_send(length) + to_receive(length) + 2 * length + REST;
        growth.check(bound, &format!("messages of {length} bytes, unread"));
        each(total, async |index| match there.recv().await {
            Some(Message::Data(data)) => assert_eq!(data, block(index, length)),
            other => panic!("{other:?}"),
        })
        .await;
        growth.check(bound, &format!("messages of {length} bytes, read"));
        drop(soon(sender).await.expect("no panic"));
    }
}

/// A small waiting message does not keep its large record alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_in_large_records_stay_small() {
    let _turn = TURN.lock().await;
    for rest_of_record in [900, 50_000] {
        let (mut a, mut b, here, there) = pair().await;
        let other = [4; 32];
        a.open(Key::new(other)).await;
        b.open(Key::new(other)).await;
        let (filler, filled) = (a.channel().await, b.channel().await);
        let taken = tokio::spawn(async move {
            let mut count = 0;
            while filled.recv().await.is_some() {
                count += 1;
            }
            count
        });
        let growth = Growth::measure().await;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let handle = a.handle.clone();
        let sender = tokio::spawn(async move {
            for index in 0..20_000 {
                // Both in one record.
                let cork = handle.cork();
                let small = here.try_send(&block(index, 1).into());
                let filling = filler.try_send(&block(index, rest_of_record).into());
                drop(cork);
                if small.is_err() || filling.is_err() {
                    let block = block(index, rest_of_record);
                    if filler.data(block).await.is_err() {
                        return;
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let accepted = settled(&sent).await;
        assert!((300..20_000).contains(&accepted), "{accepted} were sent");
        let bound = to_send(2 * rest_of_record) + to_receive(1) + 8 * rest_of_record + REST;
        growth.check(bound, &format!("1 byte in records of {rest_of_record}"));
        drop((there, a, b));
        // It is told that the channel is closed.
        soon(sender).await.expect("no panic");
        assert!(soon(taken).await.expect("no panic") >= 100);
    }
}

#[cfg(feature = "replication")]
mod replicated {
    use hypercore_protocol::replication::{Core, CoreOptions, Memory, Replicator};
    use hypercore_protocol::schema::{Bitfield, Range, Request, RequestBlock, Sync, Want};

    use super::*;

    /// The documented memory of a peer of a `Replicator`, with the default options.
    const PEER: usize = 8 * 1024 * 1024;

    const BLOCKS: u64 = 20_000;

    fn want(start: u64, any: bool) -> Message {
        let length = BLOCKS;
        Want { start, length, any }.into()
    }

    fn range(drop: bool, start: u64, length: u64) -> Message {
        Range {
            drop,
            start,
            length,
        }
        .into()
    }

    /// A peer that knows the core's key, sends this message repeatedly, and reads nothing.
    async fn flood(what: &str, count: u64, message: impl Fn(u64) -> Message + Send + 'static) {
        let core = Core::open(Memory::new(), CoreOptions::default()).expect("a core");
        let core = Replicator::new(core);
        core.append(&vec!["x"; BLOCKS as usize])
            .expect("it is writable");
        core.clear(1..2).expect("a block");
        let (one, two) = sockets().await;
        let mut a = run(builder(true).connect(one));
        let mut b = run(builder(false).connect(two));
        a.open(core.key()).await;
        b.open(core.key()).await;
        let (here, there) = (a.channel().await, b.channel().await);
        let growth = Growth::measure().await;
        let serving = tokio::spawn(core.replicate(there));
        let sent = Arc::new(AtomicU64::new(0));
        let sends = Arc::clone(&sent);
        let sending = tokio::spawn(async move {
            for at in 0..count {
                // Until the server reads no more.
                if here.send(message(at)).await.is_err() {
                    break;
                }
                sends.fetch_add(1, Ordering::SeqCst);
            }
            here
        });
        settled(&sent).await;
        // Both sides keep their data in this process: the peer's part is the memory of a channel.
        let bound = PEER + to_send(64) + to_receive(1) + REST;
        growth.check(
            bound,
            &format!("{what}, {} sent", sent.load(Ordering::SeqCst)),
        );
        serving.abort();
        sending.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_peer_that_reads_nothing_keeps_within_its_bound() {
        let _turn = TURN.lock().await;
        flood("one want", 15_000, |_| want(0, false)).await;
        flood("any want", 15_000, |at| want(at, at % 2 == 0)).await;
        flood("syncs", 15_000, |at| {
            Sync {
                fork: at % 2,
                length: at,
                uploading: true,
                downloading: true,
                ..Sync::default()
            }
            .into()
        })
        .await;
        flood("ranges", 15_000, |at| range(at % 3 == 0, at * 7, 1 + at)).await;
        flood("bitfields", 2_000, |at| {
            let bitfield = vec![0x5555_5555; 256];
            let start = at * 8192;
            Bitfield { start, bitfield }.into()
        })
        .await;
        flood("requests", 15_000, |id| {
            let block = Some(RequestBlock { index: 1, nodes: 0 });
            let id = id + 1;
            Request {
                id,
                block,
                ..Request::default()
            }
            .into()
        })
        .await;
    }
}

#[cfg(feature = "js_interop_tests")]
mod with_node {
    use serde_json::json;

    use super::*;
    use crate::node::Node;

    /// A channel of the protocol `flood` with a Node peer.
    async fn flood(options: serde_json::Value) -> (Node, Side, MuxChannel) {
        let mut node = Node::start("interop/flood.js", &options);
        let listening = node.event("listening").await;
        let port = listening["port"].as_u64().expect("a port") as u16;
        let socket = socket().connect(([127, 0, 0, 1], port).into()).await;
        let side = run(builder(true).connect(socket.expect("a connection")));
        let options = ChannelOptions::new("flood");
        let channel = side.handle.open_channel(options).expect("a channel");
        soon(channel.opened()).await.expect("it opens");
        (node, side, channel)
    }

    async fn count(node: &mut Node) -> u64 {
        node.write_line("count").await;
        node.event("count").await["count"]
            .as_u64()
            .expect("a count")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_reader_here_stops_node() {
        let _turn = TURN.lock().await;
        for (length, total) in [(1, 400_000_u64), (1000, 40_000), (60_000, 1000)] {
            let growth = Growth::measure().await;
            let options = json!({ "mode": "send", "count": total, "length": length });
            let (mut node, _side, channel) = flood(options).await;
            // Until the number of messages that Node accepts for sending no longer grows.
            let sent = AtomicU64::new(0);
            let stopped = loop {
                sent.store(count(&mut node).await, Ordering::SeqCst);
                let before = settled(&sent).await;
                if count(&mut node).await == before {
                    break before;
                }
            };
            assert!(stopped < total, "{length}: Node never waits");
            growth.check(
                to_receive(length) + REST,
                &format!("messages of {length} bytes from Node, unread"),
            );
            each(total, async |index| {
                let message = channel.recv().await.expect("a message");
                assert_eq!(message.body.len(), length);
                assert!(message.body.iter().all(|&byte| byte == index as u8));
            })
            .await;
            assert_eq!(node.event("all").await["count"], total);
            growth.check(
                to_receive(length) + REST,
                &format!("messages of {length} bytes from Node, read"),
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_reader_in_node_stops_the_sender_here() {
        let _turn = TURN.lock().await;
        for (length, total) in [(1, 400_000_u64), (1000, 40_000), (60_000, 1000)] {
            let options = json!({ "mode": "read", "count": total });
            let (mut node, _side, channel) = flood(options).await;
            let growth = Growth::measure().await;
            let sent = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&sent);
            let sender = tokio::spawn(async move {
                for index in 0..total {
                    let sent = channel.send(0, vec![index as u8; length]).await;
                    sent.expect("it is sent");
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                channel
            });
            let accepted = settled(&sent).await;
            assert!(accepted < total, "{length}: the sender never waits");
            growth.check(
                to_send(length) + REST,
                &format!("messages of {length} bytes to Node, unread"),
            );
            // The first line lets it read.
            assert!(count(&mut node).await <= accepted);
            assert_eq!(node.event("all").await["count"], total);
            growth.check(
                to_send(length) + REST,
                &format!("messages of {length} bytes to Node, read"),
            );
            drop(soon(sender).await.expect("no panic"));
        }
    }
}
