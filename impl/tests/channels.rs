//! Channels of any protocol, commands from other tasks, and extensions, between two peers of this crate.
//!
//! Idle moments are detected with tokio's paused clock: it advances only when no task can run.
#![cfg(feature = "tokio")]

use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use hypercore_protocol::connection::{ConnectionError, Ignored};
use hypercore_protocol::mux::{Limits, MuxError};
use hypercore_protocol::runtime::{Duplex, Io, Tokio};
use hypercore_protocol::schema::{self, Range};
use hypercore_protocol::{
    Buffer, Channel, ChannelOptions, CloseReason, Error, Event, Extension, Key, Message,
    MuxChannel, Protocol, ProtocolBuilder, ProtocolHandle, TrySendError, discovery_key,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, simplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const KEY: Key = Key::new([7; 32]);

/// Waits with a time-out.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("took too long")
}

/// Waits until no task can run. Only on a paused clock.
async fn quiet() {
    sleep(Duration::from_secs(1)).await;
}

fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator).keep_alive(None)
}

type Peer = Protocol<Tokio<DuplexStream>>;

#[tokio::test]
async fn a_channel_is_a_stream_of_bytes_in_messages_of_one_type() {
    let (a, b) = sides().await;
    let (here, there) = chats(&a, &b).await;
    let others = here.clone();
    let (mut here, mut there) = (here.into_io(7), there.into_io(7));
    let bytes = noise(300_000);
    let written = bytes.clone();
    let writer = tokio::spawn(async move {
        here.write_all(&written[..100_000]).await.unwrap();
        others.send(6, "of another type").await.unwrap();
        here.write_all(&written[100_000..]).await.unwrap();
        here.shutdown().await.unwrap();
        assert_eq!(others.close_reason(), Some(CloseReason::Local));
    });
    let mut read = Vec::new();
    soon(there.read_to_end(&mut read)).await.unwrap();
    assert!(read == bytes, "{} of {} bytes", read.len(), bytes.len());
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn channels_and_extensions_are_sinks_that_wait_flush_and_close() {
    let (mut a, b) = connected_with(|builder| builder.send_buffer(64 * 1024));
    let mut here = a.open_channel(chat()).unwrap();
    let mut by_name = a.register_extension("by name").unwrap();
    let there = b.open_channel(chat()).unwrap();
    let their = b.register_extension("by name").unwrap();
    let b = Side::run(b);
    soon(a.drive(here.opened())).await.unwrap();
    soon(a.drive(by_name.opened())).await.unwrap();

    // The socket is not written to meanwhile: the sinks fill up, and flushing does not finish.
    let message = Buffer::from(vec![1; 1024]);
    let mut fed = 0;
    while let Some(fitted) = here.feed((0, message.clone())).now_or_never() {
        fitted.unwrap();
        fed += 1;
    }
    assert_eq!(fed, 63, "with their heads, 64 are more than the buffer");
    assert!(by_name.feed(message.clone()).now_or_never().is_none());
    assert!(here.flush().now_or_never().is_none());
    assert!(by_name.flush().now_or_never().is_none());

    // Polling the protocol makes room, and empties the buffer.
    soon(a.drive(here.flush())).await.unwrap();
    soon(a.drive(by_name.send(message.clone()))).await.unwrap();
    soon(a.drive(SinkExt::<(u64, Buffer)>::close(&mut here)))
        .await
        .unwrap();
    assert_eq!(here.close_reason(), Some(CloseReason::Local));
    let refused = here.feed((0, message.clone())).await.unwrap_err();
    assert!(refused.is_closed(), "{refused:?}");
    soon(a.drive(SinkExt::<Buffer>::close(&mut by_name)))
        .await
        .unwrap();
    assert_eq!(by_name.close_reason(), Some(CloseReason::Local));

    let received: Vec<_> = soon(a.drive(there.clone().collect())).await;
    assert_eq!(received.len(), fed);
    assert_eq!(there.close_reason(), Some(CloseReason::Remote));
    let received: Vec<_> = soon(a.drive(their.collect())).await;
    assert_eq!(received, [message]);
    drop(b);
}

#[tokio::test]
async fn a_core_channel_is_a_sink() {
    let (mut a, mut b) = sides().await;
    a.handle.open(KEY).unwrap();
    b.handle.open(KEY).unwrap();
    let (mut here, there) = (soon(a.channel()).await, soon(b.channel()).await);
    let range = |start| Range {
        drop: false,
        start,
        length: 1,
    };
    let messages: Vec<Message> = (0..10).map(|start| range(start).into()).collect();
    let all = futures::stream::iter(messages.clone());
    soon(all.map(Ok).forward(&mut here)).await.unwrap();
    assert_eq!(here.close_reason(), Some(CloseReason::Local));
    assert_eq!(soon(there.collect::<Vec<_>>()).await, messages);
}

#[tokio::test]
async fn an_extension_that_is_registered_twice_stays_until_both_are_dropped() {
    let (a, b) = sides().await;
    let first = a.handle.register_extension("twice").unwrap();
    let second = a.handle.register_extension("twice").unwrap();
    let there = b.handle.register_extension("twice").unwrap();
    soon(there.opened()).await.unwrap();
    drop(first);
    soon(second.send("still here")).await.unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), b"still here");
    drop(second);
    assert_eq!(soon(there.closed()).await, CloseReason::Remote);
}

/// A protocol that is only polled by its own task.
struct Side {
    handle: ProtocolHandle,
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<Result<(), Error>>,
}

impl Side {
    fn run(mut protocol: Peer) -> Self {
        let handle = protocol.handle();
        let (sender, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = protocol.next().await {
                // A test that needs no more events drops the receiver.
                let _ = sender.send(event?);
            }
            Ok(())
        });
        Self {
            handle,
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
    let here = a.handle.open_channel(chat()).unwrap();
    let there = b.handle.open_channel(chat()).unwrap();
    soon(here.opened()).await.unwrap();
    soon(there.opened()).await.unwrap();
    (here, there)
}

/// The channel of a core on both sides, open.
async fn cores(a: &mut Side, b: &mut Side) -> (Channel, Channel) {
    a.handle.open(KEY).unwrap();
    b.handle.open(KEY).unwrap();
    (a.channel().await, b.channel().await)
}

#[tokio::test]
async fn commands_wake_a_protocol_that_only_its_own_task_polls() {
    let (mut a, mut b) = sides().await;
    let handle = a.handle.clone();
    b.handle.pair("chat", None);
    let chat = tokio::spawn(async move {
        let options = chat().id(b"room").handshake(b"ada");
        let chat = handle.open_channel(options).unwrap();
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
    let mut there = b.handle.open_channel(there.handshake("bob")).unwrap();
    let message = soon(there.next()).await.unwrap();
    assert_eq!((message.kind, &message.body[..]), (2, &b"early"[..]));
    let here = soon(chat).await.unwrap();
    assert_eq!(soon(there.opened()).await.unwrap(), b"ada");

    let info = &a.handle.channels()[0];
    assert_eq!((info.handle, info.opened), (here.handle(), true));
    a.handle.open(KEY).unwrap();
    assert!(matches!(b.event().await, Event::DiscoveryKey(key) if key == discovery_key(&KEY)));
    b.handle.reject(&discovery_key(&KEY));
    assert!(matches!(
        a.event().await,
        Event::Close {
            reason: CloseReason::Rejected,
            ..
        }
    ));
    assert_eq!(a.handle.handshake_hash(), b.handle.handshake_hash());
    assert_eq!(a.handle.remote_public_key(), Some(b.handle.public_key()));
    assert!(a.handle.is_initiator() && !b.handle.is_initiator());
    assert_eq!(a.handle.ignored(), Ignored::default());

    // Ending one side is a command, too.
    a.handle.send_keep_alive().unwrap();
    a.handle.end();
    assert!(matches!(b.event().await, Event::End(_)));
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
    soon(b.task).await.unwrap().unwrap();
    soon(a.task).await.unwrap().unwrap();
    assert_eq!(
        a.handle.open_channel(crate::chat()).unwrap_err(),
        ConnectionError::Closed.into()
    );
    assert_eq!(
        a.handle.register_extension("x").unwrap_err(),
        ConnectionError::Closed.into()
    );
    assert_eq!(a.handle.channels(), []);
}

#[tokio::test]
async fn a_close_says_who_closed() {
    let (mut a, mut b) = sides().await;
    let (here, there) = chats(&a, &b).await;
    here.send(0, "last").await.unwrap();
    here.close();
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

    let unknown = a.handle.open_channel(ChannelOptions::new("other")).unwrap();
    assert_eq!(soon(unknown.opened()).await, Err(CloseReason::Rejected));
    assert_eq!(unknown.close_reason(), Some(CloseReason::Rejected));

    b.handle.pair("chat", Some(b"x"));
    let refused = a.handle.open_channel(chat().id(b"x")).unwrap();
    assert!(matches!(b.event().await, Event::RemoteOpen(_)));
    b.handle.unpair("chat", Some(b"x"));
    b.handle.reject_channel("chat", Some(b"x"));
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
    clone.try_send(50, "last").unwrap();
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
    let (mut a, b) = connected();
    let here = a.open_channel(chat()).unwrap();
    let there = b.open_channel(chat()).unwrap();
    let b = Side::run(b);
    soon(a.drive(here.opened())).await.unwrap();
    let outer = a.cork();
    let inner = a.handle().cork();
    for kind in 0..3 {
        here.send(kind, "x").await.unwrap();
    }
    inner.uncork();
    // A message sent past the cork arrives alone.
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
    // Corked messages are sent when the protocol is closed, and the guard may outlive it.
    let cork = a.cork();
    here.send(9, "last").await.unwrap();
    soon(a.close()).await.unwrap();
    drop(cork);
    assert_eq!(soon(answers.recv()).await, Some(9));
    soon(reader).await.unwrap();
    drop(b);
}

/// Sends until nothing moves any more, and returns the number of accepted bytes.
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
        assert!(accepted < 16 << 20, "nothing holds it up");
    }
}

/// The maximum in transit when nothing moves: the buffers of 64 KiB of both sides, the driver's write buffer, the wire,
/// and a message beyond each.
const ON_THE_WAY: usize = 64 * 1024 * 4;

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_channel_slows_the_sender() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (a, b) = sides_with(small).await;
    let (here, there) = chats(&a, &b).await;
    let accepted = fill(async |message| here.send(0, message).await).await;
    assert!(accepted <= ON_THE_WAY, "{accepted}");
    assert_eq!(here.try_send(0, "more"), Err(TrySendError::Full));
    let mut taken = 0;
    while taken < accepted {
        taken += soon(there.recv()).await.unwrap().body.len();
    }
    here.try_send(0, "more").unwrap();

    // Empty messages are bounded, too.
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
    // A reader that goes away does not block the rest.
    drop(there);
    assert_eq!(soon(here.closed()).await, CloseReason::Remote);
    chats(&a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn a_cork_does_not_block_those_who_send() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(1024);
    let (a, b) = sides_with(small).await;
    let (here, there) = chats(&a, &b).await;
    let cork = a.handle.cork();
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
    b.handle.pair("chat", None);
    let here = a.handle.open_channel(chat()).unwrap();
    let accepted = fill(async |message| here.send(0, message).await).await;
    assert!(accepted <= ON_THE_WAY, "{accepted}");
    assert!(matches!(b.event().await, Event::RemoteOpen(_)));
    let there = b.handle.open_channel(chat()).unwrap();
    let mut taken = 0;
    while taken < accepted {
        taken += soon(there.recv()).await.unwrap().body.len();
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_of_the_stream_opens_once_both_have_registered_it() {
    let (mut a, mut b) = sides().await;
    let here = a.handle.register_extension("notes").unwrap();
    assert_eq!(here.name(), "notes");
    quiet().await;
    assert_eq!(here.try_send("not yet"), Err(TrySendError::Full));
    assert!(!here.is_closed());
    let sending = here.clone();
    let sending = tokio::spawn(async move { sending.send("first").await });
    quiet().await;
    assert!(!sending.is_finished(), "it waits for the other side");
    let there = b.handle.register_extension("notes").unwrap();
    soon(there.opened()).await.unwrap();
    soon(here.opened()).await.unwrap();
    soon(sending).await.unwrap().unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), b"first");
    there.send(b"").await.unwrap();
    there.send(vec![1; 300_000]).await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), b"");
    assert_eq!(soon(here.recv()).await.unwrap().len(), 300_000);

    // Registering again returns the same one. Dropping one handle changes nothing.
    drop(b.handle.register_extension("notes").unwrap());
    there.try_send("again").unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), b"again");
    // No events are reported for it.
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());

    // Dropped on one side, it ends on both, after all sent messages; and it can be registered again, in any order.
    here.send("bye").await.unwrap();
    drop(here);
    assert_eq!(soon(there.recv()).await.unwrap(), b"bye");
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.close_reason(), Some(CloseReason::Remote));
    assert_eq!(there.send("more").await, Err(MuxError::Closed.into()));
    let again = b.handle.register_extension("notes").unwrap();
    drop(there);
    quiet().await;
    let here = a.handle.register_extension("notes").unwrap();
    soon(again.opened()).await.unwrap();
    again.send("new").await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), b"new");

    // Registered at the same time.
    let here = a.handle.register_extension("other").unwrap();
    let there = b.handle.register_extension("other").unwrap();
    soon(here.opened()).await.unwrap();
    soon(there.opened()).await.unwrap();

    // Pending or open, the end of the stream ends them all.
    let waiting = a.handle.register_extension("nobody").unwrap();
    quiet().await;
    b.task.abort();
    assert_eq!(soon(waiting.opened()).await, Err(CloseReason::Stream));
    assert_eq!(soon(here.closed()).await, CloseReason::Stream);
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_the_channel_of_its_name_without_an_id() {
    let (a, mut b) = sides().await;
    // A plain channel reaches it, as one of Node's would.
    let plain = a.handle.open_channel(ChannelOptions::new("notes")).unwrap();
    assert_eq!(soon(plain.opened()).await, Err(CloseReason::Rejected));
    let extension = b.handle.register_extension("notes").unwrap();
    quiet().await;
    let plain = a.handle.open_channel(ChannelOptions::new("notes")).unwrap();
    soon(plain.opened()).await.unwrap();
    let refused = a.handle.register_extension("notes").unwrap_err();
    assert_eq!(refused, MuxError::AlreadyOpen.into());
    // Messages of other types are not its own.
    plain.send(1, "other").await.unwrap();
    plain.send(0, "hello").await.unwrap();
    assert_eq!(soon(extension.recv()).await.unwrap(), b"hello");
    extension.send("back").await.unwrap();
    let message = soon(plain.recv()).await.unwrap();
    assert_eq!((message.kind, &message.body[..]), (0, &b"back"[..]));
    // Nor is a channel of that name with an id, or a second one.
    for options in [
        ChannelOptions::new("notes").id(b"x"),
        ChannelOptions::new("notes").unique(false),
    ] {
        let channel = a.handle.open_channel(options).unwrap();
        assert_eq!(soon(channel.opened()).await, Err(CloseReason::Rejected));
    }
    assert!(!extension.is_closed());
    extension.close();
    assert_eq!(extension.close_reason(), Some(CloseReason::Local));
    assert_eq!(soon(plain.closed()).await, CloseReason::Remote);
    // One with an id goes to the application that pairs it, even while the extension waits.
    let _waits = b.handle.register_extension("talk").unwrap();
    b.handle.pair("talk", None);
    let talk = ChannelOptions::new("talk").id(b"x");
    let _talk = a.handle.open_channel(talk).unwrap();
    let Event::RemoteOpen(open) = b.event().await else {
        panic!("not the open");
    };
    assert_eq!(open.id.as_deref(), Some(&b"x"[..]));
    // It is unregistered although a handle is left.
    let plain = a.handle.open_channel(ChannelOptions::new("notes")).unwrap();
    assert_eq!(soon(plain.opened()).await, Err(CloseReason::Rejected));
}

#[tokio::test(start_paused = true)]
async fn waiting_to_send_ends_with_our_side() {
    let (a, mut b) = connected();
    let a = Side::run(a);
    assert!(matches!(
        soon(b.next()).await,
        Some(Ok(Event::Handshake(_)))
    ));
    let extension = a.handle.register_extension("notes").unwrap();
    let waiting = tokio::spawn(async move { extension.send("never").await });
    quiet().await;
    a.handle.end();
    // The other side is no longer polled and has not noticed yet.
    assert_eq!(soon(waiting).await.unwrap(), Err(MuxError::Closed.into()));
    drop(b);
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
    one.try_send("up again").unwrap();
    for text in ["up", "up again"] {
        let Some(Message::Extension(extension)) = soon(here.recv()).await else {
            panic!("not the extension");
        };
        assert_eq!(&*extension.name, "one");
        assert_eq!(extension.message, text.as_bytes());
    }

    // Unregistered, its messages go to the channel again.
    let same = there.register_extension("one");
    drop(one);
    here.extension("one", "still").await.unwrap();
    assert_eq!(soon(same.recv()).await.unwrap(), b"still");
    same.close();
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
    here.close();
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
            a.handle.register_extension("x").unwrap(),
            b.handle.register_extension("x").unwrap(),
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
    // A full one that is dropped does not block the others.
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
    let here = a.handle.register_extension("bytes").unwrap();
    let there = b.handle.register_extension("bytes").unwrap();
    let (mut here, mut there) = (here.into_io(), there.into_io());
    let bytes = noise(1_500_000);
    let written = bytes.clone();
    let writer = tokio::spawn(async move {
        here.write_all(&written).await.unwrap();
        here.flush().await.unwrap();
        // With both directions at once, both would end together: the answer comes before the end.
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
    let here = a.handle.register_extension("bytes").unwrap();
    let there = b.handle.register_extension("bytes").unwrap();
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
    // The other side has not agreed to this end.
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
    // Only ends here: the other side reads on until the channel closes.
    io.shutdown().await.unwrap();
    assert!(!here.is_closed() && !there.is_closed());
}

/// Unread bytes block the writer.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_bytes_slows_the_writer() {
    let small = |builder: ProtocolBuilder| builder.send_buffer(64 * 1024).receive_buffer(64 * 1024);
    let (a, b) = sides_with(small).await;
    let mut here = a.handle.register_extension("bytes").unwrap().into_io();
    let mut there = b.handle.register_extension("bytes").unwrap().into_io();
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
    let here = a.handle.register_extension("bytes").unwrap().into_io();
    let there = b.handle.register_extension("bytes").unwrap().into_io();
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

/// Two protocols over the same two pipes, each with a separate reader and writer: one core is opened.
async fn over_halves<A: Io, B: Io>(mut a: Protocol<A>, mut b: Protocol<B>) {
    async fn opened<S: Io>(protocol: &mut Protocol<S>) -> Channel {
        protocol.open(KEY).unwrap();
        loop {
            if let Event::Channel(channel) = protocol.next().await.unwrap().unwrap() {
                return channel;
            }
        }
    }
    let (here, there) = soon(async { tokio::join!(opened(&mut a), opened(&mut b)) }).await;
    here.want(3..8).await.unwrap();
    let (closed, received) = soon(async { tokio::join!(a.close(), b.drive(there.recv())) }).await;
    let want = schema::Want {
        start: 3,
        length: 5,
        any: false,
    };
    assert_eq!(received, Some(want.into()));
    // The end of one direction ends the other side's reading, and no more.
    closed.unwrap();
    assert!(matches!(soon(b.next()).await, Some(Ok(Event::End(_)))));
}

#[tokio::test]
async fn a_reader_and_a_writer_are_a_stream() {
    let ((read_a, write_b), (read_b, write_a)) = (simplex(100), simplex(100));
    let (a, b) = (Duplex::new(read_a, write_a), Duplex::new(read_b, write_b));
    over_halves(builder(true).connect(a), builder(false).connect(b)).await;

    let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dialled = smol::net::TcpStream::connect(address);
    let (a, b) = tokio::join!(dialled, listener.accept());
    let (a, b) = (a.unwrap(), b.unwrap().0);
    let (a, b) = (Duplex::new(a.clone(), a), Duplex::new(b.clone(), b));
    over_halves(
        builder(true).connect_futures(a),
        builder(false).connect_futures(b),
    )
    .await;
}

#[tokio::test]
async fn the_limits_are_those_of_the_builder() {
    let mut limits = Limits::default();
    limits.max_pending = 1;
    let (mut a, mut b) = sides_with(|builder| builder.limits(limits.clone())).await;
    a.handle.open(KEY).unwrap();
    assert!(matches!(b.event().await, Event::DiscoveryKey(key) if key == discovery_key(&KEY)));
    // The first is still unanswered.
    let second = a.handle.open([8; 32]).unwrap();
    match a.event().await {
        Event::Close {
            channel, reason, ..
        } => assert_eq!((channel, reason), (second, CloseReason::Rejected)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_send_is_told_that_the_channel_is_closed() {
    let (a, b) = sides().await;
    let (full, unread) = chats(&a, &b).await;
    let other = || chat().id(b"other");
    let here = a.handle.open_channel(other()).unwrap();
    let there = b.handle.open_channel(other()).unwrap();
    soon(there.opened()).await.unwrap();
    fill(async |message| full.send(0, message).await).await;
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { here.send(0, "more").await }
    });
    quiet().await;
    assert!(!waiting.is_finished());
    // This makes no room, since the full channel is not read.
    there.close();
    let refused = soon(waiting).await.unwrap();
    assert_eq!(refused, Err(MuxError::Closed.into()));
    assert_eq!(unread.close_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_close_goes_on_as_long_as_the_remote_takes_something() {
    const BLOCKS: u64 = 10;
    let (a, b) = duplex(1024);
    let limit = Duration::from_secs(5);
    let mut a = builder(true).close_timeout(limit).connect(a);
    let mut b = builder(false).connect(b);
    let here = a.open_channel(chat()).unwrap();
    let there = b.open_channel(chat()).unwrap();
    soon(async { tokio::join!(a.drive(here.opened()), b.drive(there.opened())) })
        .await
        .0
        .unwrap();
    for kind in 0..BLOCKS {
        here.send(kind, vec![0; 4096]).await.unwrap();
    }
    let slow = tokio::spawn(async move {
        // A little of it per second.
        while b.drive(async { there.close_reason() }).await.is_none() {
            b.drive(tokio::task::yield_now()).await;
            sleep(Duration::from_secs(1)).await;
        }
        let mut kinds = Vec::new();
        while let Some(message) = there.recv().await {
            kinds.push(message.kind);
        }
        kinds
    });
    let start = tokio::time::Instant::now();
    a.close().await.unwrap();
    assert!(start.elapsed() > 3 * limit, "{:?}", start.elapsed());
    let kinds = soon(slow).await.unwrap();
    assert!(kinds.into_iter().eq(0..BLOCKS));
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_that_is_closed_stops_nothing() {
    let (mut a, mut b) = sides().await;
    let (here, there) = chats(&a, &b).await;
    let accepted = fill(async |message| here.send(0, message).await).await;
    assert!(accepted > 0);
    there.close();
    assert_eq!(there.close_reason(), Some(CloseReason::Local), "at once");
    assert_eq!(soon(here.closed()).await, CloseReason::Remote);
    // The queued messages are still there, and the other channels are not blocked by them.
    let (core, other) = cores(&mut a, &mut b).await;
    core.have(1, 2).await.unwrap();
    assert!(soon(other.recv()).await.is_some());
    assert_eq!(soon(there.recv()).await.unwrap().body.len(), 8 * 1024);
    let mut taken = 1;
    while soon(there.recv()).await.is_some() {
        taken += 1;
    }
    assert!(taken * 8 * 1024 <= 256 * 1024 + 8 * 1024, "{taken}");

    // The same for a core's channel, and an extension on it.
    let extension = other.register_extension("x");
    fill(async |message| core.extension("x", message).await).await;
    extension.close();
    fill(async |message| core.extension("x", message).await).await;
    other.close();
    assert_eq!(soon(core.closed()).await, CloseReason::Remote);
    chats(&a, &b).await;
}

#[tokio::test]
async fn what_was_accepted_before_the_handshake_is_sent_by_an_end_and_a_close() {
    for close in [true, false] {
        let (mut a, b) = connected();
        let here = a.open_channel(chat()).unwrap();
        here.send(0, "early").await.unwrap();
        let cork = a.cork();
        here.send(1, "corked").await.unwrap();
        let there = b.open_channel(chat()).unwrap();
        let b = Side::run(b);
        let closing = tokio::spawn(async move {
            if close {
                a.close().await
            } else {
                a.end();
                while let Some(event) = a.next().await {
                    event?;
                }
                Ok(())
            }
        });
        assert_eq!(soon(there.recv()).await.unwrap().body, b"early");
        assert_eq!(soon(there.recv()).await.unwrap().body, b"corked");
        assert_eq!(soon(there.recv()).await, None);
        soon(closing).await.unwrap().unwrap();
        soon(b.task).await.unwrap().unwrap();
        drop(cork);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_before_the_handshake_gives_up_in_time() {
    let (a, b) = connected_with(|builder| builder.close_timeout(Duration::from_secs(3)));
    let here = a.open_channel(chat()).unwrap();
    here.send(0, "never").await.unwrap();
    let started = tokio::time::Instant::now();
    let limit = ConnectionError::CloseTimeout(Duration::from_secs(3));
    assert_eq!(soon(a.close()).await, Err(limit.into()));
    assert_eq!(started.elapsed().as_secs(), 3);
    assert_eq!(here.close_reason(), Some(CloseReason::Stream));
    // Nothing was accepted: there is nothing to wait for.
    let (a, _c) = connected();
    soon(a.close()).await.unwrap();
    drop(b);
}

/// xorshift64*; the same seed gives the same steps, though not the same interleaving.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn fork(&mut self) -> Self {
        Self(self.roll(u64::MAX) << 1 | 1)
    }
}

/// Each message carries its number, so that a lost, duplicated or misplaced one is detected.
fn numbered(number: u32, dice: &mut Dice) -> Vec<u8> {
    let length = match dice.roll(20) {
        0 => 70_000,
        1..=3 => 5_000,
        _ => 0,
    };
    let mut message = vec![0; 4 + length];
    message[..4].copy_from_slice(&number.to_le_bytes());
    message
}

fn number(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[..4].try_into().unwrap())
}

/// How many messages of a sender were accepted before it went away.
async fn send_some(channel: MuxChannel, handle: ProtocolHandle, mut dice: Dice) -> u32 {
    let mut accepted = 0;
    let clone = channel.clone();
    for _ in 0..dice.roll(60) {
        let cork = (dice.roll(10) == 0).then(|| handle.cork());
        let message = numbered(accepted, &mut dice);
        let sent = match dice.roll(5) {
            0 => match channel.try_send(0, &message) {
                Ok(()) => {
                    accepted += 1;
                    Ok(())
                }
                Err(TrySendError::Rejected(error)) => Err(error),
                Err(_) => Ok(()),
            },
            1 => {
                let more = numbered(accepted + 1, &mut dice);
                let batch = [(0, message.into()), (1, more.into())];
                clone.send_batch(&batch).await.map(|()| accepted += 2)
            }
            2 => tokio::select! {
                biased;
                // Given up unless accepted at once.
                sent = channel.send(0, message) => sent.map(|()| accepted += 1),
                () = tokio::task::yield_now() => Ok(()),
            },
            _ => channel.send(0, message).await.map(|()| accepted += 1),
        };
        drop(cork);
        if sent.is_err() {
            // The other side went away.
            assert!(soon(channel.closed()).await != CloseReason::Local);
            break;
        }
    }
    match dice.roll(4) {
        0 => channel.close(),
        1 => handle.close_channel(channel.handle()),
        2 => {
            drop(channel);
            tokio::task::yield_now().await;
        }
        _ => {}
    }
    accepted
}

/// The messages that a reader got before the end, or before it went away: then the flag is set.
async fn read_some(channel: MuxChannel, mut dice: Dice) -> (u32, bool) {
    let most = match dice.roll(3) {
        0 => u32::try_from(dice.roll(40)).unwrap(),
        _ => u32::MAX,
    };
    let mut read = 0;
    while read < most {
        let message = if dice.roll(8) == 0 {
            // A dropped future loses nothing.
            tokio::select! {
                biased;
                message = channel.recv() => message,
                () = tokio::task::yield_now() => continue,
            }
        } else {
            channel.recv().await
        };
        let Some(message) = message else {
            return (read, false);
        };
        assert_eq!(number(&message.body), read);
        read += 1;
    }
    if dice.roll(2) == 0 {
        channel.close();
    }
    (read, true)
}

/// Bytes over an extension, from one task to another, ended in some way. Fails only if the stream is lost.
async fn bytes_some(here: Extension, there: Extension, mut dice: Dice) -> std::io::Result<()> {
    let length = usize::try_from(dice.roll(400_000)).unwrap();
    let cut = dice.roll(3) == 0;
    let writer = tokio::spawn(async move {
        let mut io = here.into_io();
        io.write_all(&noise(length)).await?;
        if length % 2 == 0 {
            io.shutdown().await?;
        }
        Ok(())
    });
    let mut io = there.into_io();
    let mut read = Vec::new();
    let most = if cut { length / 2 } else { usize::MAX };
    let result = (&mut io).take(most as u64).read_to_end(&mut read).await;
    assert!(read == noise(length)[..read.len()]);
    drop(io);
    let written: std::io::Result<()> = writer.await.unwrap();
    if cut {
        // The writer may or may not have noticed.
        return Ok(());
    }
    written?;
    assert!(result? == length);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handles_can_be_dropped_at_any_moment() {
    let seed = std::env::var("STRESS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = seed.unwrap_or_else(|| now.unwrap().as_nanos() as u64) | 1;
    println!("STRESS_SEED={seed}");
    let mut dice = Dice(seed);
    for _ in 0..60 {
        soon(drop_at_random(&mut dice)).await;
    }
}

async fn drop_at_random(dice: &mut Dice) {
    let send = 1 << (10 + dice.roll(9));
    let receive = 1 << (10 + dice.roll(9));
    let options = |builder: ProtocolBuilder| builder.send_buffer(send).receive_buffer(receive);
    let (a, b) = sides_with(options).await;
    for side in [&a, &b] {
        // An open waits if it arrives before the other side has opened its own.
        side.handle.pair("stress", None);
        side.handle.pair("chat", None);
    }
    let mut pairs = Vec::new();
    let mut others = Vec::new();
    for index in 0..1 + dice.roll(8) {
        let options = ChannelOptions::new("stress").id(index.to_le_bytes());
        let here = a.handle.open_channel(options.clone()).unwrap();
        let there = b.handle.open_channel(options).unwrap();
        let (handle, one, two) = (a.handle.clone(), dice.fork(), dice.fork());
        let sender = tokio::spawn(send_some(here, handle, one));
        let reader = tokio::spawn(read_some(there, two));
        pairs.push((sender, reader));
    }
    for index in 0..dice.roll(3) {
        let name = format!("bytes {index}");
        let here = a.handle.register_extension(&name).unwrap();
        let there = b.handle.register_extension(&name).unwrap();
        let (here, there) = if dice.roll(2) == 0 {
            (here, there)
        } else {
            (there, here)
        };
        // Dropping one side at once leaves the other.
        drop(here.clone());
        others.push(tokio::spawn(bytes_some(here, there, dice.fork())));
    }
    let lost = dice.roll(4) == 0;
    if lost {
        for _ in 0..dice.roll(50) {
            tokio::task::yield_now().await;
        }
        let victim = if dice.roll(2) == 0 { &a } else { &b };
        victim.task.abort();
    }
    for (sender, reader) in pairs {
        // Every waiting task returns, whatever happened.
        let accepted = sender.await;
        let (read, went) = reader.await.unwrap();
        if !lost {
            let accepted = accepted.unwrap();
            assert!(
                read == accepted || (went && read < accepted),
                "{read} of {accepted}"
            );
        }
    }
    for other in others {
        let ended = other.await.unwrap();
        assert!(lost || ended.is_ok(), "{ended:?}");
    }
    if !lost {
        // The stream is still good, and every channel is closed.
        chats(&a, &b).await;
        a.handle.end();
        soon(a.task).await.unwrap().unwrap();
        soon(b.task).await.unwrap().unwrap();
        assert_eq!(a.handle.channels(), []);
        assert_eq!(b.handle.channels(), []);
    }
}
