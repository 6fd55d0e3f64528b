//! Tests between two protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{join, poll_fn};
use hypercore_protocol::connection::{ChannelError, ConnectionError};
use hypercore_protocol::runtime::Io;
use hypercore_protocol::schema::{Data, DataBlock, Extension};
use hypercore_protocol::{
    Channel, CloseReason, End, Error, ErrorClass, Event, Key, KeyPair, Layer, Message, Protocol,
    ProtocolBuilder, discovery_key,
};

use crate::node::messages::messages;
use crate::node::soon;
use crate::pipe::pipe;
use crate::rt::{Runtime, Task};

pub(crate) const KEY: Key = Key::new([3; 32]);

pub(crate) fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator)
        .seed([u8::from(is_initiator) + 1; 32])
        .keep_alive(None)
}

pub(crate) async fn pair<R: Runtime>() -> (Protocol<R::Io>, Protocol<R::Io>) {
    let (one, two) = R::sockets().await;
    (
        R::connect(builder(true), one),
        R::connect(builder(false), two),
    )
}

async fn event<S: Io>(protocol: &mut Protocol<S>) -> Event {
    match soon(protocol.next()).await {
        Some(Ok(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// Opens [`KEY`] at both sides, in one task.
pub(crate) async fn channels<A: Io, B: Io>(
    a: &mut Protocol<A>,
    b: &mut Protocol<B>,
) -> (Channel, Channel) {
    fn poll<S: Io>(protocol: &mut Protocol<S>, cx: &mut Context<'_>, opened: &mut Option<Channel>) {
        while let Poll::Ready(event) = protocol.poll_next_unpin(cx) {
            match event {
                Some(Ok(Event::Channel(channel))) => *opened = Some(channel),
                Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    a.open(KEY).expect("an open channel");
    b.open(KEY).expect("an open channel");
    let (mut here, mut there) = (None, None);
    // A side whose channel is open may still have to send messages that the other one waits for.
    soon(poll_fn(|cx| {
        poll(a, cx, &mut here);
        poll(b, cx, &mut there);
        match (&here, &there) {
            (Some(_), Some(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }))
    .await;
    here.zip(there).expect("both are open")
}

/// Polls a protocol to its end in a separate task, and returns its events.
pub(crate) fn run<R: Runtime, S: Io<Timer: Send> + Send + 'static>(
    mut protocol: Protocol<S>,
) -> Task<Vec<Result<Event, Error>>> {
    R::spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = protocol.next().await {
            events.push(event);
        }
        events
    })
}

pub(crate) fn block(index: u64, length: usize) -> Data {
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

/// The events after the last expected one: the kinds, and why channels closed.
fn is_clean_end(events: &[Result<Event, Error>]) -> bool {
    matches!(
        events,
        [
            Ok(Event::End(End::Clean)),
            Ok(Event::Close {
                reason: CloseReason::Stream,
                ..
            })
        ]
    )
}

pub(crate) async fn both_sides_agree_on_keys_and_handshake_hash<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (here, there) = channels(&mut a, &mut b).await;
    assert_eq!(a.public_key(), *KeyPair::from_seed(&[2; 32]).public_key());
    assert_eq!(a.remote_public_key(), Some(b.public_key()));
    assert_eq!(b.remote_public_key(), Some(a.public_key()));
    assert!(a.handshake_hash().is_some());
    assert_eq!(a.handshake_hash(), b.handshake_hash());
    assert!(a.is_initiator() && !b.is_initiator());
    assert_eq!((here.key(), there.key()), (&KEY, &KEY));
    assert!(here.remote_handshake().seeks);
}

pub(crate) async fn every_message_passes_both_ways<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (mut here, mut there) = channels(&mut a, &mut b).await;
    let _running = (run::<R, _>(a), run::<R, _>(b));
    let messages: Vec<Message> = messages().into_iter().map(|(message, _)| message).collect();
    for message in &messages {
        soon(here.send(message.clone())).await.expect("it is sent");
        assert_eq!(soon(there.next()).await.as_ref(), Some(message));
        soon(there.send(message.clone())).await.expect("it is sent");
        assert_eq!(soon(here.next()).await.as_ref(), Some(message));
    }
    soon(here.send_batch(&messages)).await.expect("it is sent");
    for message in &messages {
        assert_eq!(soon(there.next()).await.as_ref(), Some(message));
    }
}

pub(crate) async fn extensions_keep_their_names<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (here, there) = channels(&mut a, &mut b).await;
    let _running = (run::<R, _>(a), run::<R, _>(b));
    for (name, byte) in [("one", 1), ("one", 2), ("two", 3), ("one", 4)] {
        let sent = soon(here.extension(name, vec![byte])).await;
        sent.expect("it is sent");
        let expected = Extension {
            name: name.into(),
            message: vec![byte].into(),
        };
        assert_eq!(soon(there.recv()).await, Some(expected.into()));
    }
}

/// Clones of a channel send and receive in separate tasks, on every thread of the runtime.
pub(crate) async fn channels_work_from_many_tasks<R: Runtime>() {
    const TASKS: u64 = 4;
    const EACH: u64 = 200;
    let (mut a, mut b) = pair::<R>().await;
    let (here, there) = channels(&mut a, &mut b).await;
    let (_a, b) = (run::<R, _>(a), run::<R, _>(b));
    let senders: Vec<_> = (0..TASKS)
        .map(|task| {
            let channel = here.clone();
            R::spawn(async move {
                for index in 0..EACH {
                    let sent = channel.data(block(task * EACH + index, 500)).await;
                    sent.expect("it is sent");
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..TASKS)
        .map(|_| {
            let channel = there.clone();
            R::spawn(async move {
                let mut indexes = Vec::new();
                while let Some(Message::Data(data)) = channel.recv().await {
                    assert_eq!(data, block(data.request, 500));
                    indexes.push(data.request);
                }
                indexes
            })
        })
        .collect();
    for sender in senders {
        sender.join().await;
    }
    drop(here);
    let mut all = Vec::new();
    for reader in readers {
        let indexes = reader.join().await;
        // The messages of one sending task stay in order at a receiving one.
        for task in 0..TASKS {
            let of_task = indexes.iter().filter(|&&index| index / EACH == task);
            assert!(of_task.is_sorted(), "{indexes:?}");
        }
        all.extend(indexes);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..TASKS * EACH));
    assert_eq!(soon(there.closed()).await, CloseReason::Remote);
    drop(b);
}

pub(crate) async fn one_task_sends_more_than_the_buffers_hold<R: Runtime>() {
    let (one, two) = pipe(1000);
    let mut a = builder(true).connect_with(one);
    let mut b = builder(false).connect_with(two);
    let (here, there) = channels(&mut a, &mut b).await;
    let _b = run::<R, _>(b);
    let reader = R::spawn(async move {
        let mut count = 0;
        while there.recv().await.is_some() {
            count += 1;
        }
        count
    });
    for index in 0..40 {
        let sent = soon(a.drive(here.data(block(index, 64 * 1024)))).await;
        sent.expect("it is sent");
    }
    soon(a.close()).await.expect("all is sent");
    assert_eq!(reader.join().await, 40);
}

pub(crate) async fn either_side_closes_a_channel<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (mut here, mut there) = channels(&mut a, &mut b).await;
    let _running = (run::<R, _>(a), run::<R, _>(b));
    here.have(0, 1).await.expect("it is sent");
    here.close();
    assert_eq!(soon(here.closed()).await, CloseReason::Local);
    assert_eq!(soon(there.closed()).await, CloseReason::Remote);
    assert!(soon(there.next()).await.is_some());
    assert!(soon(there.next()).await.is_none());
    assert!(soon(here.next()).await.is_none());
    for channel in [here, there] {
        let refused = soon(channel.have(0, 1)).await;
        assert_eq!(refused, Err(ChannelError::Closed.into()));
        channel.close();
    }
}

pub(crate) async fn an_open_is_rejected<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let _channels = channels(&mut a, &mut b).await;
    let unwanted = [4; 32];
    let handle = a.open(unwanted).expect("an open channel");
    let b = R::spawn(async move {
        match event(&mut b).await {
            Event::DiscoveryKey(announced) => {
                assert_eq!(announced, discovery_key(&Key::new(unwanted)))
            }
            other => panic!("{other:?}"),
        }
        b.reject(&discovery_key(&Key::new(unwanted)));
        while b.next().await.is_some() {}
    });
    match event(&mut a).await {
        Event::Close {
            channel, reason, ..
        } => assert_eq!((channel, reason), (handle, CloseReason::Rejected)),
        other => panic!("{other:?}"),
    }
    drop(b);
}

pub(crate) async fn ends_are_clean_and_one_side_can_end_before_the_other<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (mut here, mut there) = channels(&mut a, &mut b).await;
    here.have(0, 1).await.expect("it is sent");
    a.end();
    let refused = soon(here.have(0, 2)).await;
    assert_eq!(refused, Err(ChannelError::Closed.into()));
    // The other side reads the end only after its own messages.
    for index in 0..20 {
        there.data(block(index, 1000)).await.expect("it is sent");
    }
    let (a, b) = (run::<R, _>(a), run::<R, _>(b));
    assert!(soon(there.next()).await.is_some());
    assert!(soon(there.next()).await.is_none());
    for index in 0..20 {
        assert_eq!(soon(here.next()).await, Some(block(index, 1000).into()));
    }
    for events in [a.join().await, b.join().await] {
        assert!(is_clean_end(&events), "{events:?}");
    }
}

pub(crate) async fn close_sends_everything_and_ends_with_the_remote<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (here, there) = channels(&mut a, &mut b).await;
    for index in 0..3 {
        let sent = here.data(block(index, 60_000)).await;
        sent.expect("it is accepted");
    }
    let b = run::<R, _>(b);
    let started = Instant::now();
    soon(a.close()).await.expect("all is sent");
    // The close time-out, for a remote that does not end, was not needed.
    assert!(started.elapsed() < Duration::from_secs(9));
    let mut count = 0;
    while soon(there.recv()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(here.close_reason(), Some(CloseReason::Stream));
    assert_eq!(there.close_reason(), Some(CloseReason::Stream));
    let events = b.join().await;
    assert!(is_clean_end(&events), "{events:?}");
}

pub(crate) async fn a_stream_that_breaks_off_is_lost<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (_here, mut there) = channels(&mut a, &mut b).await;
    // The first two bytes of a record only.
    a.send_raw_for_testing_only(&[9, 0]);
    let b = run::<R, _>(b);
    let (closed, events) = join(soon(a.close()), b.join()).await;
    closed.expect("it is sent");
    match &events[..] {
        [Err(error), Ok(Event::Close { reason, .. })] => {
            assert_eq!(
                (error.layer(), error.class()),
                (Layer::Frame, ErrorClass::Truncated)
            );
            assert_eq!(*reason, CloseReason::Stream);
        }
        other => panic!("{other:?}"),
    }
    assert!(soon(there.next()).await.is_none());
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
}

pub(crate) async fn a_dropped_protocol_ends_the_stream_for_all<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (mut here, there) = channels(&mut a, &mut b).await;
    let waiting = {
        let here = here.clone();
        R::spawn(async move { here.closed().await })
    };
    let b = run::<R, _>(b);
    drop(a);
    assert_eq!(waiting.join().await, CloseReason::Stream);
    assert!(soon(here.next()).await.is_none());
    let refused = soon(here.have(0, 1)).await;
    assert_eq!(refused, Err(ChannelError::Closed.into()));
    here.close();
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
    let events = b.join().await;
    assert!(is_clean_end(&events), "{events:?}");
}

pub(crate) async fn a_dropped_protocol_sends_what_the_socket_takes<R: Runtime>() {
    let (mut a, mut b) = pair::<R>().await;
    let (here, there) = channels(&mut a, &mut b).await;
    for index in 0..3 {
        // Nothing is polled from here on.
        let sent = here.data(block(index, 10_000)).await;
        sent.expect("it is accepted");
    }
    let cork = a.cork();
    here.data(block(3, 10_000)).await.expect("it is accepted");
    drop(a);
    drop(cork);
    let b = run::<R, _>(b);
    for index in 0..4 {
        let received = soon(there.recv()).await;
        assert_eq!(received, Some(block(index, 10_000).into()));
    }
    assert_eq!(soon(there.recv()).await, None);
    let events = b.join().await;
    assert!(is_clean_end(&events), "{events:?}");
}

pub(crate) async fn a_handshake_has_a_time_limit<R: Runtime>() {
    let limit = Duration::from_millis(100);
    let (socket, _silent) = R::sockets().await;
    let started = Instant::now();
    let mut protocol = R::connect(builder(true).handshake_timeout(Some(limit)), socket);
    let error = soon(protocol.next()).await;
    assert!(started.elapsed() >= limit);
    let expected = ConnectionError::HandshakeTimeout(limit).into();
    assert!(
        matches!(&error, Some(Err(error)) if *error == expected),
        "{error:?}"
    );
    assert!(soon(protocol.next()).await.is_none());
}

pub(crate) async fn a_silent_remote_is_given_up<R: Runtime>() {
    let limit = Duration::from_millis(200);
    let (one, two) = R::sockets().await;
    let mut a = R::connect(builder(true), one);
    let mut b = R::connect(builder(false).idle_timeout(Some(limit)), two);
    let (_here, there) = channels(&mut a, &mut b).await;
    let error = soon(b.next()).await;
    let expected = ConnectionError::IdleTimeout(limit).into();
    assert!(
        matches!(&error, Some(Err(error)) if *error == expected),
        "{error:?}"
    );
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
}

/// A stream that counts what is read from it.
struct Counted<S>(S, Arc<AtomicUsize>);

impl<S: Io> Io for Counted<S> {
    type Timer = S::Timer;

    fn timer(&self) -> S::Timer {
        self.0.timer()
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let read = self.0.poll_read(cx, buffer);
        if let Poll::Ready(Ok(count)) = read {
            self.1.fetch_add(count, Ordering::SeqCst);
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

pub(crate) async fn keep_alives_keep_a_stream<R: Runtime>() {
    let limit = Duration::from_secs(2);
    let (one, two) = R::sockets().await;
    let mut a = R::connect(builder(true).keep_alive(Some(limit / 10)), one);
    let count = Arc::new(AtomicUsize::new(0));
    let mut b = builder(false)
        .idle_timeout(Some(limit))
        .connect_with(Counted(R::io(two), Arc::clone(&count)));
    let _channels = channels(&mut a, &mut b).await;
    let before = b.ignored().mux.empty_records;
    let start = Instant::now();
    let a = run::<R, _>(a);
    // An empty record is a length of 3 bytes and 17 bytes of overhead.
    let enough = count.load(Ordering::SeqCst) + 15 * 20;
    let kept = b.drive(poll_fn(|_| match count.load(Ordering::SeqCst) {
        read if read >= enough => Poll::Ready(()),
        _ => Poll::Pending,
    }));
    soon(kept).await;
    assert!(start.elapsed() > limit);
    assert!(b.ignored().mux.empty_records - before >= 15);
    drop(a);
    assert!(matches!(event(&mut b).await, Event::End(End::Clean)));
}

pub(crate) async fn close_gives_up_on_a_remote_that_takes_nothing<R: Runtime>() {
    let limit = Duration::from_millis(200);
    let (one, two) = pipe(1000);
    let mut a = builder(true).close_timeout(limit).connect_with(one);
    let mut b = builder(false).connect_with(two);
    let (here, _there) = channels(&mut a, &mut b).await;
    here.data(block(0, 2000)).await.expect("it is accepted");
    let error = soon(a.close()).await;
    assert_eq!(error, Err(ConnectionError::CloseTimeout(limit).into()));
}
