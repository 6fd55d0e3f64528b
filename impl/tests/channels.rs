//! Channels of any protocol, commands from other tasks, and extensions, between two of this crate.
//!
//! Quiet moments are found on tokio's paused clock: it moves only when no task can go on.
#![cfg(feature = "tokio")]

use std::time::Duration;

use hypercore_protocol::connection::{ConnectionError, Ignored};
use hypercore_protocol::mux::MuxError;
use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::schema::{self, Range};
use hypercore_protocol::{
    Buffer, Channel, ChannelOptions, CloseReason, Commands, Error, Event, Extension, Message,
    MuxChannel, Protocol, ProtocolBuilder, discovery_key,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const KEY: [u8; 32] = [7; 32];

/// Waits, but not for ever.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("took too long")
}

/// Waits until no task can go on. Only on a paused clock.
async fn quiet() {
    sleep(Duration::from_secs(1)).await;
}

fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator).keep_alive(None)
}

type Peer = Protocol<Tokio<DuplexStream>>;

/// A protocol that a task of its own polls, and nothing else.
struct Side {
    commands: Commands,
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<Result<(), Error>>,
}

impl Side {
    fn run(mut protocol: Peer) -> Self {
        let commands = protocol.commands();
        let (sender, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = protocol.next().await {
                // A test that is done with events drops the receiver.
                let _ = sender.send(event?);
            }
            Ok(())
        });
        Self {
            commands,
            events,
            task,
        }
    }

    async fn event(&mut self) -> Event {
        soon(self.events.recv()).await.expect("an event")
    }

    async fn channel(&mut self) -> Channel {
        loop {
            if let Event::Channel(channel) = self.event().await {
                return channel;
            }
        }
    }
}

fn connected() -> (Peer, Peer) {
    connected_with(|builder| builder)
}

fn connected_with(options: impl Fn(ProtocolBuilder) -> ProtocolBuilder) -> (Peer, Peer) {
    let (a, b) = duplex(16 * 1024);
    let connect = |is_initiator, io| options(builder(is_initiator)).connect(io);
    (connect(true, a), connect(false, b))
}

async fn sides_with(options: impl Fn(ProtocolBuilder) -> ProtocolBuilder) -> (Side, Side) {
    let (a, b) = connected_with(options);
    let (mut a, mut b) = (Side::run(a), Side::run(b));
    assert!(matches!(a.event().await, Event::Handshake(_)));
    assert!(matches!(b.event().await, Event::Handshake(_)));
    (a, b)
}

async fn sides() -> (Side, Side) {
    sides_with(|builder| builder).await
}

fn chat() -> ChannelOptions {
    ChannelOptions::new("chat")
}

/// The same channel on both sides, open.
async fn chats(a: &Side, b: &Side) -> (MuxChannel, MuxChannel) {
    let here = a.commands.open_channel(chat()).unwrap();
    let there = b.commands.open_channel(chat()).unwrap();
    soon(here.opened()).await.unwrap();
    soon(there.opened()).await.unwrap();
    (here, there)
}

/// The channel of a core on both sides, open.
async fn cores(a: &mut Side, b: &mut Side) -> (Channel, Channel) {
    a.commands.open(KEY).await.unwrap();
    b.commands.open(KEY).await.unwrap();
    (a.channel().await, b.channel().await)
}

#[tokio::test]
async fn commands_wake_a_protocol_that_only_its_own_task_polls() {
    let (mut a, mut b) = sides().await;
    let commands = a.commands.clone();
    b.commands.pair("chat", None);
    let chat = tokio::spawn(async move {
        let options = chat().id(b"room").handshake(b"ada");
        let chat = commands.open_channel(options).unwrap();
        assert_eq!(
            (chat.protocol(), chat.id()),
            ("chat", Some(b"room".as_slice()))
        );
        chat.send(2, "early").await.unwrap();
        assert_eq!(chat.opened().await.unwrap(), b"bob");
        chat
    });
    let Event::RemoteOpen(open) = b.event().await else {
        panic!("not the open");
    };
    assert_eq!(
        (&open.protocol[..], open.id.as_deref(), &open.handshake[..]),
        ("chat", Some(b"room".as_slice()), b"ada".as_slice())
    );
    let there = ChannelOptions::new(open.protocol).id(open.id.unwrap());
    let mut there = b.commands.open_channel(there.handshake("bob")).unwrap();
    let message = soon(there.next()).await.unwrap();
    assert_eq!((message.kind, &message.body[..]), (2, &b"early"[..]));
    let here = soon(chat).await.unwrap();
    assert_eq!(soon(there.opened()).await.unwrap(), b"ada");

    let info = &a.commands.channels()[0];
    assert_eq!((info.handle, info.opened), (here.handle(), true));
    a.commands.open(KEY).await.unwrap();
    assert!(matches!(b.event().await, Event::DiscoveryKey(key) if key == discovery_key(&KEY)));
    b.commands.reject(&discovery_key(&KEY)).await.unwrap();
    assert!(matches!(
        a.event().await,
        Event::Close {
            reason: CloseReason::Rejected,
            ..
        }
    ));
    assert_eq!(a.commands.handshake_hash(), b.commands.handshake_hash());
    assert_eq!(
        a.commands.remote_public_key(),
        Some(b.commands.public_key())
    );
    assert!(a.commands.is_initiator() && !b.commands.is_initiator());
    assert_eq!(a.commands.ignored(), Ignored::default());

    // The end of one side, too, is a command.
    a.commands.send_keep_alive().await.unwrap();
    a.commands.end().await;
    assert!(matches!(b.event().await, Event::End(_)));
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
    soon(b.task).await.unwrap().unwrap();
    soon(a.task).await.unwrap().unwrap();
    assert_eq!(
        a.commands.open_channel(crate::chat()).unwrap_err(),
        ConnectionError::Closed.into()
    );
    assert_eq!(
        a.commands.register_extension("x").unwrap_err(),
        ConnectionError::Closed.into()
    );
    assert_eq!(a.commands.channels(), []);
}

#[tokio::test]
async fn a_close_says_who_closed() {
    let (mut a, mut b) = sides().await;
    let (here, there) = chats(&a, &b).await;
    here.send(0, "last").await.unwrap();
    here.close().await.unwrap();
    assert_eq!(
        here.send(0, "later").await,
        Err(MuxError::Closed.into()),
        "at once, before anybody polled"
    );
    assert_eq!(soon(here.closed()).await, CloseReason::Local);
    assert_eq!(soon(there.closed()).await, CloseReason::Remote);
    assert_eq!(soon(there.recv()).await.unwrap().body, b"last");
    assert_eq!(soon(there.recv()).await, None);
    assert!(there.is_closed());
    assert_eq!(
        soon(there.opened()).await.unwrap(),
        Buffer::new(),
        "it was open once"
    );

    let unknown = a
        .commands
        .open_channel(ChannelOptions::new("other"))
        .unwrap();
    assert_eq!(soon(unknown.opened()).await, Err(CloseReason::Rejected));
    assert_eq!(unknown.close_reason(), Some(CloseReason::Rejected));

    b.commands.pair("chat", Some(b"x"));
    let refused = a.commands.open_channel(chat().id(b"x")).unwrap();
    assert!(matches!(b.event().await, Event::RemoteOpen(_)));
    b.commands.unpair("chat", Some(b"x"));
    b.commands.reject_channel("chat", Some(b"x")).unwrap();
    assert_eq!(soon(refused.opened()).await, Err(CloseReason::Rejected));

    let (here, there) = chats(&a, &b).await;
    b.task.abort();
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
    assert!(matches!(a.event().await, Event::End(_)));
    assert_eq!(soon(here.closed()).await, CloseReason::Stream);
}

#[tokio::test]
async fn a_channel_closes_with_its_last_handle_and_loses_nothing() {
    let (a, b) = sides().await;
    let (here, there) = chats(&a, &b).await;
    let clone = here.clone();
    drop(here);
    let bodies: Vec<(u64, Buffer)> = (0..50).map(|kind| (kind, vec![1; 1000].into())).collect();
    clone.send_batch(&bodies).await.unwrap();
    assert!(clone.try_send(50, "last").unwrap());
    drop(clone);
    for kind in 0..51 {
        assert_eq!(soon(there.recv()).await.unwrap().kind, kind);
    }
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.close_reason(), Some(CloseReason::Remote));
    // Its name is free again, on both sides.
    drop(there);
    chats(&a, &b).await;
}

#[tokio::test]
async fn a_cork_keeps_everything_until_the_last_is_dropped() {
    let (mut a, mut b) = connected();
    let here = a.open_channel(chat()).unwrap();
    let there = b.open_channel(chat()).unwrap();
    let b = Side::run(b);
    soon(a.drive(here.opened())).await.unwrap();
    let outer = a.cork();
    let inner = a.commands().cork();
    for kind in 0..3 {
        here.send(kind, "x").await.unwrap();
    }
    inner.uncork();
    // What goes around the cork arrives alone.
    let (answer, mut answers) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        while let Some(message) = there.recv().await {
            answer.send(message.kind).await.unwrap();
        }
    });
    soon(a.drive(tokio::task::yield_now())).await;
    assert!(answers.try_recv().is_err());
    drop(outer);
    for kind in 0..3 {
        assert_eq!(soon(a.drive(answers.recv())).await, Some(kind));
    }
    // What is corked when the protocol is closed is sent as well, and the guard may come after it.
    let cork = a.cork();
    here.send(9, "last").await.unwrap();
    soon(a.close()).await.unwrap();
    drop(cork);
    assert_eq!(soon(answers.recv()).await, Some(9));
    soon(reader).await.unwrap();
    drop(b);
}

/// Sends until nothing moves any more, and returns how many bytes were accepted.
async fn fill(send: impl AsyncFn(Buffer) -> Result<(), Error>) -> usize {
    let mut accepted = 0;
    loop {
        let message = Buffer::from(vec![5; 8 * 1024]);
        tokio::select! {
            biased;
            sent = send(message.clone()) => sent.unwrap(),
            () = quiet() => return accepted,
        }
        accepted += message.len();
    }
}

/// What may be on the way when nothing moves: the buffers of 64 KiB of both sides, what the driver has taken to write
/// out, the wire, and a message beyond each.
const ON_THE_WAY: usize = 64 * 1024 * 4;

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_channel_slows_the_sender() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (a, b) = sides_with(small).await;
    let (here, there) = chats(&a, &b).await;
    let accepted = fill(async |message| here.send(0, message).await).await;
    assert!(accepted <= ON_THE_WAY, "{accepted}");
    assert!(!here.try_send(0, "more").unwrap());
    let mut taken = 0;
    while taken < accepted {
        taken += soon(there.recv()).await.unwrap().body.len();
    }
    assert!(here.try_send(0, "more").unwrap());

    // Messages of no bytes at all have a bound, too.
    let mut accepted = 0;
    loop {
        tokio::select! {
            biased;
            sent = here.send(0, "") => sent.unwrap(),
            () = quiet() => break,
        }
        accepted += 1;
        assert!(accepted < 100_000);
    }
    // A reader that goes away lets everything else go on.
    drop(there);
    assert_eq!(soon(here.closed()).await, CloseReason::Remote);
    chats(&a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn a_cork_does_not_block_those_who_send() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(1024);
    let (a, b) = sides_with(small).await;
    let (here, there) = chats(&a, &b).await;
    let cork = a.commands.cork();
    for kind in 0..100 {
        soon(here.send(kind, vec![0; 1000])).await.unwrap();
    }
    quiet().await;
    drop(cork);
    for kind in 0..100 {
        assert_eq!(soon(there.recv()).await.unwrap().kind, kind);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_sends_on_an_unanswered_open_has_a_bound() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (a, mut b) = sides_with(small).await;
    b.commands.pair("chat", None);
    let here = a.commands.open_channel(chat()).unwrap();
    let accepted = fill(async |message| here.send(0, message).await).await;
    assert!(accepted <= ON_THE_WAY, "{accepted}");
    assert!(matches!(b.event().await, Event::RemoteOpen(_)));
    let there = b.commands.open_channel(chat()).unwrap();
    let mut taken = 0;
    while taken < accepted {
        taken += soon(there.recv()).await.unwrap().body.len();
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_of_the_stream_opens_once_both_have_registered_it() {
    let (mut a, mut b) = sides().await;
    let here = a.commands.register_extension("notes").unwrap();
    assert_eq!(here.name(), "notes");
    quiet().await;
    assert!(!here.try_send("not yet").unwrap() && !here.is_closed());
    let sending = here.clone();
    let sending = tokio::spawn(async move { sending.send("first").await });
    quiet().await;
    assert!(!sending.is_finished(), "it waits for the other side");
    let there = b.commands.register_extension("notes").unwrap();
    soon(there.opened()).await.unwrap();
    soon(here.opened()).await.unwrap();
    soon(sending).await.unwrap().unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), b"first");
    there.send(b"").await.unwrap();
    there.send(vec![1; 300_000]).await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), b"");
    assert_eq!(soon(here.recv()).await.unwrap().len(), 300_000);

    // Again: the same one. One dropped handle changes nothing.
    drop(b.commands.register_extension("notes").unwrap());
    assert!(there.try_send("again").unwrap());
    assert_eq!(soon(here.recv()).await.unwrap(), b"again");
    // Nobody else sees what happens there.
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());

    // Dropped on one side, it ends on both, after what was sent; and it can be registered again, in any order.
    here.send("bye").await.unwrap();
    drop(here);
    assert_eq!(soon(there.recv()).await.unwrap(), b"bye");
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.close_reason(), Some(CloseReason::Remote));
    assert_eq!(there.send("more").await, Err(MuxError::Closed.into()));
    let again = b.commands.register_extension("notes").unwrap();
    drop(there);
    quiet().await;
    let here = a.commands.register_extension("notes").unwrap();
    soon(again.opened()).await.unwrap();
    again.send("new").await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), b"new");

    // Registered at the same time.
    let here = a.commands.register_extension("other").unwrap();
    let there = b.commands.register_extension("other").unwrap();
    soon(here.opened()).await.unwrap();
    soon(there.opened()).await.unwrap();

    // Waiting or not, the end of the stream ends them all.
    let waiting = a.commands.register_extension("nobody").unwrap();
    quiet().await;
    b.task.abort();
    assert_eq!(soon(waiting.opened()).await, Err(CloseReason::Stream));
    assert_eq!(soon(here.closed()).await, CloseReason::Stream);
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_the_channel_of_its_name_without_an_id() {
    let (a, b) = sides().await;
    // A plain channel reaches it, as one of Node's would.
    let plain = a
        .commands
        .open_channel(ChannelOptions::new("notes"))
        .unwrap();
    assert_eq!(soon(plain.opened()).await, Err(CloseReason::Rejected));
    let extension = b.commands.register_extension("notes").unwrap();
    quiet().await;
    let plain = a
        .commands
        .open_channel(ChannelOptions::new("notes"))
        .unwrap();
    soon(plain.opened()).await.unwrap();
    let refused = a.commands.register_extension("notes").unwrap_err();
    assert_eq!(refused, MuxError::AlreadyOpen.into());
    // Other types of message are none of its own.
    plain.send(1, "other").await.unwrap();
    plain.send(0, "hello").await.unwrap();
    assert_eq!(soon(extension.recv()).await.unwrap(), b"hello");
    extension.send("back").await.unwrap();
    let message = soon(plain.recv()).await.unwrap();
    assert_eq!((message.kind, &message.body[..]), (0, &b"back"[..]));
    // Nor is a channel of the name that has an id, or a second one.
    for options in [
        ChannelOptions::new("notes").id(b"x"),
        ChannelOptions::new("notes").unique(false),
    ] {
        let channel = a.commands.open_channel(options).unwrap();
        assert_eq!(soon(channel.opened()).await, Err(CloseReason::Rejected));
    }
    assert!(!extension.is_closed());
    extension.close().await;
    assert_eq!(extension.close_reason(), Some(CloseReason::Local));
    assert_eq!(soon(plain.closed()).await, CloseReason::Remote);
    // It is unregistered although a handle is left.
    let plain = a
        .commands
        .open_channel(ChannelOptions::new("notes"))
        .unwrap();
    assert_eq!(soon(plain.opened()).await, Err(CloseReason::Rejected));
}

#[tokio::test(start_paused = true)]
async fn waiting_to_send_ends_with_our_side() {
    let (a, _b) = sides().await;
    let extension = a.commands.register_extension("notes").unwrap();
    let waiting = tokio::spawn(async move { extension.send("never").await });
    quiet().await;
    a.commands.end().await;
    assert_eq!(soon(waiting).await.unwrap(), Err(MuxError::Closed.into()));
}

#[tokio::test(start_paused = true)]
async fn an_extension_of_a_core_takes_its_messages_from_the_channel() {
    let (mut a, mut b) = sides().await;
    let (here, there) = cores(&mut a, &mut b).await;
    let (one, two) = (
        there.register_extension("one"),
        there.register_extension("two"),
    );
    soon(one.opened()).await.unwrap();
    for (name, message) in [
        ("one", "1"),
        ("one", "2"),
        ("two", "3"),
        ("none", "4"),
        ("none", "5"),
        ("one", "6"),
    ] {
        here.extension(name, message).await.unwrap();
    }
    here.have(1, 2).await.unwrap();
    for message in ["1", "2", "6"] {
        assert_eq!(soon(one.recv()).await.unwrap(), message.as_bytes());
    }
    assert_eq!(soon(two.recv()).await.unwrap(), b"3");
    for text in ["4", "5"] {
        let Some(Message::Extension(schema::Extension { name, message, .. })) =
            soon(there.recv()).await
        else {
            panic!("not the extension");
        };
        assert_eq!((&name[..], &message[..]), ("none", text.as_bytes()));
    }
    assert!(matches!(
        soon(there.recv()).await,
        Some(Message::Range(Range { start: 1, .. }))
    ));

    // From an extension to the channel of a side that has not registered it.
    one.send("up").await.unwrap();
    assert!(one.try_send("up again").unwrap());
    for text in ["up", "up again"] {
        let Some(Message::Extension(extension)) = soon(here.recv()).await else {
            panic!("not the extension");
        };
        assert_eq!(extension.name, "one");
        assert_eq!(extension.message, text.as_bytes());
    }

    // Unregistered, its messages are the channel's again.
    let same = there.register_extension("one");
    drop(one);
    here.extension("one", "still").await.unwrap();
    assert_eq!(soon(same.recv()).await.unwrap(), b"still");
    same.close().await;
    assert_eq!(soon(same.recv()).await, None);
    here.extension("one", "gone").await.unwrap();
    assert!(matches!(
        soon(there.recv()).await,
        Some(Message::Extension(_))
    ));

    // It keeps its channel open, and ends with it.
    let last = there.register_extension("last");
    drop((there, two, same));
    here.extension("last", "word").await.unwrap();
    assert_eq!(soon(last.recv()).await.unwrap(), b"word");
    here.extension("last", "words").await.unwrap();
    here.close().await.unwrap();
    assert_eq!(soon(last.closed()).await, CloseReason::Remote);
    assert_eq!(soon(last.recv()).await.unwrap(), b"words");
    assert_eq!(soon(last.recv()).await, None);
    assert_eq!(last.send("too late").await, Err(MuxError::Closed.into()));
    quiet().await;
    assert_eq!(
        here.register_extension("late").close_reason(),
        Some(CloseReason::Local)
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_an_extension_slows_the_sender() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (mut a, mut b) = sides_with(small).await;
    let (here, there) = cores(&mut a, &mut b).await;
    let pairs: [(Extension, Extension); 2] = [
        (here.register_extension("x"), there.register_extension("x")),
        (
            a.commands.register_extension("x").unwrap(),
            b.commands.register_extension("x").unwrap(),
        ),
    ];
    for (here, there) in &pairs {
        soon(here.opened()).await.unwrap();
        let accepted = fill(async |message| here.send(message).await).await;
        assert!(accepted <= ON_THE_WAY, "{accepted}");
        let mut taken = 0;
        while taken < accepted {
            taken += soon(there.recv()).await.unwrap().len();
        }
    }
    // A full one that is dropped does not stop the others.
    let [(here, there), stream] = pairs;
    fill(async |message| stream.0.send(message).await).await;
    drop(stream);
    here.send("on").await.unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), b"on");
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * at / 251) as u8).collect()
}

#[tokio::test]
async fn an_extension_of_the_stream_is_a_stream_of_bytes() {
    let (a, b) = sides().await;
    let here = a.commands.register_extension("bytes").unwrap();
    let there = b.commands.register_extension("bytes").unwrap();
    let (mut here, mut there) = (here.into_io(), there.into_io());
    assert_eq!(here.extension().name(), "bytes");
    let bytes = noise(1_500_000);
    let written = bytes.clone();
    let writer = tokio::spawn(async move {
        here.write_all(&written).await.unwrap();
        here.flush().await.unwrap();
        // Both directions at once would end together: the answer comes before the end.
        let mut answer = [0; 6];
        here.read_exact(&mut answer).await.unwrap();
        here.shutdown().await.unwrap();
        let refused = here.write_all(b"more").await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
        answer
    });
    let mut read = vec![0; bytes.len()];
    soon(there.read_exact(&mut read)).await.unwrap();
    assert!(read == bytes);
    there.write_all(b"thanks").await.unwrap();
    assert_eq!(&soon(writer).await.unwrap(), b"thanks");
    assert_eq!(soon(there.read(&mut [0; 8])).await.unwrap(), 0);
    let refused = there.write_all(b"more").await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_bytes_has_messages_of_64_kib_and_notices_a_lost_stream() {
    let (a, b) = sides().await;
    let here = a.commands.register_extension("bytes").unwrap();
    let there = b.commands.register_extension("bytes").unwrap();
    let mut here = here.into_io();
    here.write_all(&noise(150_000)).await.unwrap();
    for length in [65_536, 65_536, 150_000 - 131_072] {
        assert_eq!(soon(there.recv()).await.unwrap().len(), length);
    }
    there.send("").await.unwrap();
    there.send("ab").await.unwrap();
    let mut two = [0; 2];
    soon(here.read_exact(&mut two[..1])).await.unwrap();
    soon(here.read_exact(&mut two[1..])).await.unwrap();
    assert_eq!(&two, b"ab");
    // Not an end that the other side has agreed to.
    there.send("cut").await.unwrap();
    quiet().await;
    b.task.abort();
    let mut rest = Vec::new();
    let error = soon(here.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(rest, b"cut");
}

#[tokio::test]
async fn an_extension_of_a_core_is_a_stream_of_bytes() {
    let (mut a, mut b) = sides().await;
    let (here, there) = cores(&mut a, &mut b).await;
    let mut io = here.register_extension("bytes").into_io();
    let mut echo = there.register_extension("bytes").into_io();
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(&mut echo);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let bytes = noise(700_000);
    let (mut read, mut write) = tokio::io::split(&mut io);
    let mut back = vec![0; bytes.len()];
    let (written, filled) =
        soon(async { tokio::join!(write.write_all(&bytes), read.read_exact(&mut back)) }).await;
    written.unwrap();
    filled.unwrap();
    assert!(back == bytes);
    // Ends here alone: the other side reads on until the channel closes.
    io.shutdown().await.unwrap();
    assert!(!here.is_closed() && !there.is_closed());
}

/// What a slow reader of bytes has not read holds up the writer.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_bytes_slows_the_writer() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (a, b) = sides_with(small).await;
    let mut here = a.commands.register_extension("bytes").unwrap().into_io();
    let mut there = b.commands.register_extension("bytes").unwrap().into_io();
    let bytes = noise(1 << 20);
    let mut written = 0;
    loop {
        tokio::select! {
            biased;
            count = here.write(&bytes[written..]) => written += count.unwrap(),
            () = quiet() => break,
        }
    }
    assert!(written <= ON_THE_WAY + 64 * 1024, "{written}");
    let mut read = vec![0; written];
    soon(there.read_exact(&mut read)).await.unwrap();
    assert!(read == bytes[..written]);
}

#[cfg(feature = "futures-io")]
#[tokio::test]
async fn the_traits_of_futures_io_do_the_same() {
    use futures::{AsyncReadExt, AsyncWriteExt};

    let (a, b) = sides().await;
    let here = a.commands.register_extension("bytes").unwrap().into_io();
    let there = b.commands.register_extension("bytes").unwrap().into_io();
    let bytes = noise(400_000);
    let (mut read, mut write) = AsyncReadExt::split(there);
    let echo = tokio::spawn(async move { futures::io::copy(&mut read, &mut write).await });
    let (mut read, mut write) = AsyncReadExt::split(here);
    let mut back = vec![0; bytes.len()];
    let (written, filled) =
        soon(async { tokio::join!(write.write_all(&bytes), read.read_exact(&mut back)) }).await;
    written.unwrap();
    filled.unwrap();
    assert!(back == bytes);
    soon(write.close()).await.unwrap();
    assert_eq!(soon(echo).await.unwrap().unwrap(), 400_000);
    assert_eq!(soon(read.read(&mut [0; 4])).await.unwrap(), 0);
}
