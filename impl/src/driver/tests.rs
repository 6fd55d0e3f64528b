use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::TrySendError;
use crate::class::{ErrorClass, Layer};
use crate::connection::ChannelError;
use crate::runtime::Tokio;
use crate::wire::{Data, DataBlock, Message, Want};
use crate::{Buffer, ChannelOptions, CloseReason, ConnectionError, End, Key};

const KEY: Key = Key::new([3; 32]);
const PATIENCE: Duration = Duration::from_secs(20);

fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator)
        .seed([u8::from(is_initiator) + 1; 32])
        .keep_alive(None)
}

fn pair() -> (Protocol<Tokio<DuplexStream>>, Protocol<Tokio<DuplexStream>>) {
    let (a, b) = duplex(16 * 1024);
    (builder(true).connect(a), builder(false).connect(b))
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Waits with a time-out.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("took too long")
}

async fn event<S: Io>(protocol: &mut Protocol<S>) -> Event {
    soon(protocol.next()).await.unwrap().unwrap()
}

/// Opens [`KEY`] on both sides.
async fn channels<S: Io>(a: &mut Protocol<S>, b: &mut Protocol<S>) -> (Channel, Channel) {
    async fn one<S: Io>(protocol: &mut Protocol<S>) -> Channel {
        protocol.open(KEY).unwrap();
        assert!(matches!(event(protocol).await, Event::Handshake(_)));
        loop {
            match event(protocol).await {
                Event::Channel(channel) => return channel,
                Event::DiscoveryKey(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let (here, there) = tokio::join!(one(a), async {
        let channel = one(b).await;
        // The other side may still wait for what this one has queued.
        b.drive(tokio::task::yield_now()).await;
        channel
    });
    (here, there)
}

/// Polls a protocol to its end in a task of its own, and returns the kinds of its events.
fn run<S: Io<Timer: Send> + Send + 'static>(
    mut protocol: Protocol<S>,
) -> tokio::task::JoinHandle<Vec<Result<Event, Error>>> {
    tokio::spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = protocol.next().await {
            events.push(event);
        }
        events
    })
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

#[tokio::test]
async fn two_tasks_exchange_messages() {
    let (mut a, mut b) = pair();
    let (mut here, there) = channels(&mut a, &mut b).await;
    assert_eq!(a.remote_public_key(), Some(b.public_key()));
    assert_eq!(a.handshake_hash().unwrap(), b.handshake_hash().unwrap());
    assert_eq!(here.key(), &KEY);
    assert!(here.remote_handshake().seeks);
    let (a, b) = (run(a), run(b));
    let echo = tokio::spawn(async move {
        while let Some(message) = there.recv().await {
            there.send(message).await.unwrap();
        }
        there.close_reason()
    });
    let messages: Vec<Message> = (0..5)
        .map(|start| {
            Want {
                start,
                length: 9,
                any: false,
            }
            .into()
        })
        .collect();
    here.send_batch(&messages[..4]).await.unwrap();
    here.send(messages[4].clone()).await.unwrap();
    for message in &messages {
        assert_eq!(soon(here.next()).await.as_ref(), Some(message));
    }
    here.close();
    assert_eq!(soon(here.next()).await, None);
    assert_eq!(here.close_reason(), Some(CloseReason::Local));
    assert_eq!(
        here.send(messages[0].clone()).await,
        Err(ChannelError::Closed.into())
    );
    assert_eq!(soon(echo).await.unwrap(), Some(CloseReason::Remote));
    a.abort();
    let events = soon(b).await.unwrap();
    assert!(matches!(
        events[..],
        [
            Ok(Event::Close {
                reason: CloseReason::Remote,
                ..
            }),
            Ok(Event::End(End::Clean))
        ]
    ));
}

#[tokio::test]
async fn a_discovery_key_can_be_answered_and_rejected() {
    let (mut a, b) = pair();
    a.open(KEY).unwrap();
    let refused = a.open([4; 32]).unwrap();
    let b = tokio::spawn(async move {
        let mut b = b;
        let mut channels = Vec::new();
        while let Some(event) = b.next().await {
            match event.unwrap() {
                Event::DiscoveryKey(discovery_key) => {
                    if discovery_key == crate::discovery_key(&KEY) {
                        b.open(KEY).unwrap();
                    } else {
                        b.reject(&discovery_key);
                    }
                }
                Event::Channel(channel) => channels.push(channel),
                _ => {}
            }
        }
        channels.len()
    });
    let (mut opened, mut rejected) = (false, false);
    let mut held = None;
    while !(opened && rejected) {
        match event(&mut a).await {
            Event::Channel(channel) => {
                opened = true;
                held = Some(channel);
            }
            Event::Close {
                reason,
                discovery_key,
                channel,
            } => {
                assert_eq!(channel, refused);
                assert_eq!(reason, CloseReason::Rejected);
                assert_eq!(discovery_key, crate::discovery_key(&Key::new([4; 32])));
                rejected = true;
            }
            _ => {}
        }
    }
    soon(a.close()).await.unwrap();
    let held = held.unwrap();
    assert_eq!(held.close_reason(), Some(CloseReason::Stream));
    assert_eq!(soon(b).await.unwrap(), 1);
}

#[tokio::test]
async fn a_slow_reader_slows_the_sender_and_loses_nothing() {
    const COUNT: u64 = 300;
    const LENGTH: usize = 64 * 1024;
    let (mut a, mut b) = pair();
    let (here, mut there) = channels(&mut a, &mut b).await;
    let (a, b) = (run(a), run(b));
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        for index in 0..COUNT {
            here.data(block(index, LENGTH)).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        here
    });
    // Without a reader, once there is no more progress, only the buffers' size was accepted.
    let mut last = 0;
    loop {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let now = sent.load(Ordering::SeqCst);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(
        last * LENGTH <= 256 * 1024 * 2 + 16 * 1024 + 64 * 1024 + 3 * LENGTH,
        "{last} accepted"
    );
    for index in 0..COUNT {
        match soon(there.next()).await {
            Some(Message::Data(data)) => assert_eq!(data, block(index, LENGTH)),
            other => panic!("{other:?}"),
        }
    }
    drop(soon(sender).await.unwrap());
    assert_eq!(soon(there.closed()).await, CloseReason::Remote);
    a.abort();
    b.abort();
}

#[tokio::test]
async fn try_send_says_when_the_buffer_is_full() {
    let (mut a, mut b) = pair();
    let (here, _there) = channels(&mut a, &mut b).await;
    let message = Message::from(block(0, 64 * 1024));
    let mut accepted = 0;
    while accepted < 100 && here.try_send(&message).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 4);
    drop(a);
    assert_eq!(
        here.try_send(&message),
        Err(TrySendError::from(Error::from(ChannelError::Closed)))
    );
}

#[tokio::test]
async fn one_task_can_send_more_than_the_buffers_hold() {
    let (mut a, mut b) = pair();
    let (here, there) = channels(&mut a, &mut b).await;
    let b = run(b);
    let reader = tokio::spawn(async move {
        let mut count = 0;
        while there.recv().await.is_some() {
            count += 1;
        }
        count
    });
    for index in 0..100 {
        soon(a.drive(here.data(block(index, 64 * 1024))))
            .await
            .unwrap();
    }
    soon(a.close()).await.unwrap();
    assert_eq!(soon(reader).await.unwrap(), 100);
    b.abort();
}

#[tokio::test]
async fn large_records_pass() {
    let (mut a, mut b) = pair();
    let (here, mut there) = channels(&mut a, &mut b).await;
    let (a, b) = (run(a), run(b));
    let largest = crate::transport::MAX_PLAINTEXT_BYTES - 20;
    for length in [65_535, 65_536, 1 << 20, largest] {
        here.data(block(1, length)).await.unwrap();
        assert_eq!(
            soon(there.next()).await,
            Some(block(1, length).into()),
            "{length}"
        );
    }
    let error = here
        .data(block(1, crate::transport::MAX_PLAINTEXT_BYTES))
        .await
        .unwrap_err();
    assert_eq!(
        (error.layer(), error.class()),
        (Layer::Mux, ErrorClass::TooLarge)
    );
    a.abort();
    b.abort();
}

#[tokio::test]
async fn what_was_accepted_is_sent_before_the_channel_closes_with_its_last_handle() {
    let (mut a, mut b) = pair();
    let (here, mut there) = channels(&mut a, &mut b).await;
    let clone = here.clone();
    for index in 0..4 {
        here.data(block(index, 1000)).await.unwrap();
    }
    drop(here);
    assert!(!clone.is_closed());
    drop(clone);
    let (a, b) = (run(a), run(b));
    for index in 0..4 {
        assert_eq!(soon(there.next()).await, Some(block(index, 1000).into()));
    }
    assert_eq!(soon(there.next()).await, None);
    assert_eq!(there.close_reason(), Some(CloseReason::Remote));
    a.abort();
    b.abort();
}

#[tokio::test]
async fn close_flushes_everything() {
    let (one, two) = tcp().await;
    let mut a = builder(true).connect(one);
    let mut b = builder(false).connect(two);
    let (here, there) = channels(&mut a, &mut b).await;
    for index in 0..3 {
        here.data(block(index, 60_000)).await.unwrap();
    }
    let b = run(b);
    let ((), count) = tokio::join!(async { soon(a.close()).await.unwrap() }, async {
        let mut count = 0;
        while soon(there.recv()).await.is_some() {
            count += 1;
        }
        count
    });
    assert_eq!(count, 3);
    assert_eq!(here.close_reason(), Some(CloseReason::Stream));
    assert_eq!(there.close_reason(), Some(CloseReason::Stream));
    assert!(matches!(
        soon(b).await.unwrap()[..],
        [
            Ok(Event::End(End::Clean)),
            Ok(Event::Close {
                reason: CloseReason::Stream,
                ..
            })
        ]
    ));
}

#[tokio::test]
async fn ending_one_side_leaves_the_other() {
    let (mut a, mut b) = pair();
    let (mut here, mut there) = channels(&mut a, &mut b).await;
    here.have(0, 1).await.unwrap();
    a.end();
    assert_eq!(here.have(0, 2).await, Err(ChannelError::Closed.into()));
    assert_eq!(a.open([9; 32]), Err(ConnectionError::Closed.into()));
    let a = run(a);
    // The other side reads to the end before it answers, and what it sends before that still arrives.
    for index in 0..20 {
        there.data(block(index, 1000)).await.unwrap();
    }
    let b = run(b);
    assert!(soon(there.next()).await.is_some());
    assert_eq!(soon(there.next()).await, None);
    for index in 0..20 {
        assert_eq!(soon(here.next()).await, Some(block(index, 1000).into()));
    }
    assert_eq!(soon(here.next()).await, None);
    for events in [soon(a).await.unwrap(), soon(b).await.unwrap()] {
        assert!(matches!(
            events[..],
            [
                Ok(Event::End(End::Clean)),
                Ok(Event::Close {
                    reason: CloseReason::Stream,
                    ..
                })
            ]
        ));
    }
}

#[tokio::test]
async fn a_truncated_end_and_a_reset_are_told_from_a_clean_one() {
    // Truncated: the first byte of a record, and the end.
    let (one, two) = tcp().await;
    let mut a = builder(true).connect(one);
    let mut b = builder(false).connect(two);
    let (_here, _there) = channels(&mut a, &mut b).await;
    a.send_raw_for_testing_only(&[9, 0]);
    let (closed, ()) = tokio::join!(soon(a.close()), async {
        let error = soon(b.next()).await.unwrap().unwrap_err();
        assert_eq!(
            (error.layer(), error.class()),
            (Layer::Frame, ErrorClass::Truncated)
        );
        assert!(matches!(
            event(&mut b).await,
            Event::Close {
                reason: CloseReason::Stream,
                ..
            }
        ));
        // The other side sees the end although the socket is not dropped.
        assert!(soon(b.next()).await.is_none());
    });
    assert!(closed.is_ok());

    // Reset: closing a socket with unread bytes in it.
    let (one, two) = tcp().await;
    let mut a = builder(true).connect(one);
    let mut b = builder(false).connect(two);
    let (here, there) = channels(&mut a, &mut b).await;
    there.have(0, 1).await.unwrap();
    b.drive(tokio::task::yield_now()).await;
    a.io().get_ref().readable().await.unwrap();
    // The protocol first: a channel that is dropped before it says that it closes.
    drop((a, here));
    let error = loop {
        match soon(b.next()).await.unwrap() {
            Ok(Event::Close { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            Error::Io {
                kind: ErrorKind::ConnectionReset,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(soon(there.closed()).await, CloseReason::Stream);
}

#[tokio::test]
async fn small_messages_share_a_record_unless_they_are_not_to() {
    for (coalesce, records) in [(true, 1), (false, 3)] {
        let (one, two) = tcp().await;
        let mut a = builder(true).coalesce(coalesce).connect(one);
        let mut b = builder(false).connect(two);
        let (here, _there) = channels(&mut a, &mut b).await;
        for block in 0..3 {
            here.have(block, 1).await.unwrap();
        }
        a.drive(tokio::task::yield_now()).await;

        // Nothing polls the other side, so the bytes stay in its socket.
        let socket = b.io().get_ref();
        soon(socket.readable()).await.unwrap();
        let mut bytes = [0; 1024];
        let length = soon(socket.peek(&mut bytes)).await.unwrap();
        let mut rest = &bytes[..length];
        let mut seen = 0;
        while let Some((&[a, b, c], after)) = rest.split_first_chunk() {
            rest = &after[u32::from_le_bytes([a, b, c, 0]) as usize..];
            seen += 1;
        }
        assert_eq!(seen, records, "coalesce: {coalesce}");
    }
}

#[tokio::test]
async fn a_dropped_protocol_closes_its_channels() {
    let (mut a, mut b) = pair();
    let (mut here, _there) = channels(&mut a, &mut b).await;
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move { here.closed().await })
    };
    drop(a);
    assert_eq!(soon(waiting).await.unwrap(), CloseReason::Stream);
    assert_eq!(soon(here.next()).await, None);
    assert_eq!(here.have(0, 1).await, Err(ChannelError::Closed.into()));
    here.close();
}

#[tokio::test]
async fn garbage_is_a_typed_error() {
    let (a, mut b) = duplex(1024);
    let mut protocol = builder(false).connect(a);
    b.write_all(&[32, 0, 0]).await.unwrap();
    b.write_all(&[0; 32]).await.unwrap();
    let error = soon(protocol.next()).await.unwrap().unwrap_err();
    assert_eq!(error.layer(), Layer::Noise);
    assert!(soon(protocol.next()).await.is_none());
}

#[tokio::test]
async fn bad_options_are_the_first_event() {
    let (a, _b) = duplex(1024);
    let mut protocol = ProtocolBuilder::new(true)
        .pattern(crate::Pattern::IK)
        .connect(a);
    let error = soon(protocol.next()).await.unwrap().unwrap_err();
    assert_eq!(error.layer(), Layer::Noise);
    assert!(soon(protocol.next()).await.is_none());
}

#[tokio::test]
async fn ik_needs_the_key_and_pins_it() {
    let (a, b) = duplex(1024);
    let remote = *crate::KeyPair::from_seed(&[1; 32]).public_key();
    let mut a = builder(true)
        .pattern(crate::Pattern::IK)
        .remote_public_key(remote)
        .connect(a);
    let mut b = builder(false).pattern(crate::Pattern::IK).connect(b);
    let (_here, _there) = channels(&mut a, &mut b).await;
    assert_eq!(a.remote_public_key(), Some(remote));
}

#[tokio::test(start_paused = true)]
async fn time_limits_and_keep_alives() {
    let (a, mut silent) = duplex(1024);
    let mut protocol = ProtocolBuilder::new(true).connect(a);
    let start = tokio::time::Instant::now();
    let error = protocol.next().await.unwrap().unwrap_err();
    assert_eq!(
        error,
        ConnectionError::HandshakeTimeout(Duration::from_secs(30)).into()
    );
    assert_eq!(start.elapsed().as_secs(), 30);
    let mut hello = [0; 35];
    silent.read_exact(&mut hello).await.unwrap();

    let (one, two) = duplex(1024);
    let minute = Duration::from_secs(60);
    let mut a = builder(true)
        .keep_alive(Some(minute / 4))
        .idle_timeout(None)
        .connect(one);
    let mut b = builder(false).idle_timeout(Some(minute)).connect(two);
    let (_here, _there) = channels(&mut a, &mut b).await;
    // Kept alive as long as the other side runs.
    let a = run(a);
    assert!(timeout(10 * minute, b.next()).await.is_err());
    assert!(b.ignored().mux.empty_records >= 39);
    a.abort();
    assert!(matches!(event(&mut b).await, Event::End(End::Clean)));

    let (one, two) = duplex(1024);
    let mut a = builder(true).connect(one);
    let mut b = builder(false).idle_timeout(Some(minute)).connect(two);
    let (_here, _there) = channels(&mut a, &mut b).await;
    let error = b.next().await.unwrap().unwrap_err();
    assert_eq!(error, ConnectionError::IdleTimeout(minute).into());
    drop(a);
}

/// How long a protocol lasts until it fails, and with what.
async fn lasts<S: Io>(protocol: &mut Protocol<S>) -> (Duration, Error) {
    let start = tokio::time::Instant::now();
    loop {
        match timeout(Duration::from_secs(100_000), protocol.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return (start.elapsed(), error),
            other => panic!("{other:?}"),
        }
    }
}

/// A peer that stopped, with its socket open: no keep-alive comes.
#[tokio::test(start_paused = true)]
async fn a_frozen_peer_is_noticed_by_default() {
    let (mut a, mut b) = pair();
    let (_here, _there) = channels(&mut a, &mut b).await;
    let limit = Duration::from_secs(30);
    let (after, error) = lasts(&mut b).await;
    assert_eq!(error, ConnectionError::IdleTimeout(limit).into());
    assert!(after >= limit && after < 2 * limit, "{after:?}");
}

/// The peer reads nothing, and our data fills the socket. A full queue on our side does not suspend the write time-out.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    for queue_is_full in [false, true] {
        let (one, two) = duplex(16 * 1024);
        let limit = Duration::from_secs(7);
        let mut a = builder(true).connect(one);
        let mut b = builder(false)
            .write_timeout(Some(limit))
            .receive_buffer(1)
            .connect(two);
        let (here, there) = channels(&mut a, &mut b).await;
        if queue_is_full {
            for index in 0..3 {
                here.data(block(index, 10)).await.unwrap();
            }
            a.drive(tokio::task::yield_now()).await;
        }
        there.data(block(0, 100_000)).await.unwrap();
        let (after, error) = lasts(&mut b).await;
        assert_eq!(error, ConnectionError::WriteTimeout(limit).into());
        assert!(after >= limit && after < 2 * limit, "{after:?}");
        assert_eq!(there.close_reason(), Some(CloseReason::Stream));
    }
}

/// A peer that reads a little now and then is only slow, and causes no time-out.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_kept() {
    let (one, two) = duplex(1024);
    let limit = Duration::from_secs(7);
    let mut a = builder(true)
        .idle_timeout(None)
        .record_timeout(None)
        .connect(one);
    let mut b = builder(false)
        .write_timeout(Some(limit))
        .idle_timeout(None)
        .connect(two);
    let (here, there) = channels(&mut a, &mut b).await;
    let sent = block(0, 20_000);
    there.data(sent.clone()).await.unwrap();
    let b = run(b);
    let received = loop {
        tokio::time::sleep(limit - Duration::from_secs(1)).await;
        a.drive(tokio::task::yield_now()).await;
        if let Poll::Ready(message) =
            pin!(here.recv()).poll(&mut Context::from_waker(Waker::noop()))
        {
            break message;
        }
    };
    assert_eq!(received, Some(sent.into()));
    drop(a);
    let events = b.await.unwrap();
    assert!(!format!("{events:?}").contains("Timeout"), "{events:?}");
}

/// An application that leaves a queue full gets a time-out; the remote may be long gone.
#[tokio::test(start_paused = true)]
async fn an_application_that_takes_nothing_has_a_limit() {
    let limit = Duration::from_secs(600);
    let (one, two) = duplex(16 * 1024);
    let mut a = builder(true)
        .keep_alive(Some(Duration::from_secs(5)))
        .connect(one);
    let mut b = builder(false).receive_buffer(1).connect(two);
    let (here, there) = channels(&mut a, &mut b).await;
    for index in 0..3 {
        here.data(block(index, 10)).await.unwrap();
    }
    let a = run(a);
    let (after, error) = lasts(&mut b).await;
    assert_eq!(error, ConnectionError::StallTimeout(limit).into());
    assert!(after >= limit && after < limit + limit / 10, "{after:?}");
    // What had arrived is still there.
    assert_eq!(there.recv().await, Some(block(0, 10).into()));
    a.abort();

    // The same while events are not taken during `drive`.
    let (one, two) = duplex(16 * 1024);
    let a = builder(true)
        .keep_alive(Some(Duration::from_secs(5)))
        .connect(one);
    let mut b = builder(false).connect(two);
    for key in 0..100 {
        a.open([key; 32]).unwrap();
    }
    b.pair("never", None);
    let waits = b.open_channel(ChannelOptions::new("never")).unwrap();
    let a = run(a);
    let closed = timeout(2 * limit, b.drive(waits.closed())).await;
    assert_eq!(closed, Ok(CloseReason::Stream));
    a.abort();
}

/// A task that polls late still gets data that arrived in time.
#[tokio::test(start_paused = true)]
async fn a_late_poll_is_not_the_peers_fault() {
    let (mut a, mut b) = pair();
    let (here, there) = channels(&mut a, &mut b).await;
    here.data(block(0, 10)).await.unwrap();
    a.drive(tokio::task::yield_now()).await;
    tokio::time::advance(Duration::from_secs(1000)).await;
    b.drive(tokio::task::yield_now()).await;
    assert_eq!(there.recv().await, Some(block(0, 10).into()));
    assert!(timeout(Duration::from_secs(29), b.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_longest_durations_are_no_overflow() {
    let (one, two) = duplex(16 * 1024);
    let longest = |builder: ProtocolBuilder| {
        let max = Some(Duration::MAX);
        let builder = builder
            .idle_timeout(max)
            .record_timeout(max)
            .stall_timeout(max);
        let builder = builder
            .write_timeout(max)
            .handshake_timeout(max)
            .keep_alive(max);
        builder.close_timeout(Duration::MAX)
    };
    let mut a = longest(builder(true)).connect(one);
    let mut b = longest(builder(false)).connect(two);
    let (here, _there) = channels(&mut a, &mut b).await;
    here.data(block(0, 100_000)).await.unwrap();
    let year = Duration::from_secs(31_557_600);
    assert!(timeout(year, a.close()).await.is_err());
}

/// A record of millions of ignored messages does not block other tasks until it is read.
#[tokio::test]
async fn a_poll_reads_only_so_much() {
    let (one, two) = duplex(4 * 1024 * 1024);
    let mut a = builder(true).connect(one);
    let mut b = builder(false).connect(two);
    let (_here, _there) = channels(&mut a, &mut b).await;
    let batch: Vec<_> = [0, 0, 0]
        .into_iter()
        .chain([1, 9].repeat(200_000))
        .collect();
    a.send_plaintext_for_testing_only(&batch).unwrap();
    a.drive(tokio::task::yield_now()).await;
    let mut polls = 0;
    while b.ignored().mux.controls < 200_000 {
        let next = pin!(b.next()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(next.is_pending());
        polls += 1;
        let most = polls * u64::from(run::PACKETS_PER_POLL);
        assert!(b.ignored().mux.controls <= most, "after {polls} polls");
    }
    assert!(polls >= 48, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn an_end_behind_a_full_queue_waits_quietly() {
    let (a, b) = duplex(1 << 20);
    let mut a = builder(true).connect(a);
    let mut b = builder(false)
        .keep_alive(Some(Duration::from_secs(1)))
        .idle_timeout(Some(Duration::from_secs(1)))
        .receive_buffer(1)
        .connect(b);
    let (here, there) = channels(&mut a, &mut b).await;
    for index in 0..3 {
        here.data(block(index, 10)).await.unwrap();
    }
    a.end();
    let a = run(a);
    // The queue is full and the end has arrived: no deadline is due, and polling does not spin.
    assert!(timeout(Duration::from_secs(60), b.next()).await.is_err());
    let b = run(b);
    for index in 0..3 {
        assert_eq!(there.recv().await, Some(block(index, 10).into()));
    }
    assert_eq!(there.recv().await, None);
    let events = b.await.unwrap();
    assert!(
        matches!(events[0], Ok(Event::End(End::Clean))),
        "{events:?}"
    );
    a.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_gives_up_on_a_remote_that_takes_nothing() {
    let (mut a, mut b) = pair();
    let (here, _there) = channels(&mut a, &mut b).await;
    here.data(block(0, 200_000)).await.unwrap();
    assert_eq!(
        a.close().await,
        Err(ConnectionError::CloseTimeout(Duration::from_secs(10)).into())
    );
    drop(b);
}

#[tokio::test]
async fn an_end_before_the_handshake_is_told() {
    let (a, b) = duplex(1024);
    let mut protocol = builder(false).connect(a);
    drop(b);
    assert!(matches!(
        event(&mut protocol).await,
        Event::End(End::BeforeHandshake)
    ));
    assert!(soon(protocol.next()).await.is_none());
}

#[tokio::test]
async fn hostile_opens_end_the_stream_and_nothing_else() {
    for record in [
        &b"\x00\x01\xff\0\0\0\0\x02\0\0\0\x01a\0"[..],
        b"\x00\x01\xff\0\0\0\0\0\0\0\x40\x01a\0",
        b"\x01\x03\x02\x01\0\x05\xfe\xff\xff\xff\xff",
    ] {
        let (mut a, mut b) = pair();
        let (_here, there) = channels(&mut a, &mut b).await;
        a.send_plaintext_for_testing_only(record).unwrap();
        let a = run(a);
        let error = soon(b.next()).await.unwrap().unwrap_err();
        assert!(matches!(error.layer(), Layer::Mux | Layer::Message));
        assert_eq!(there.close_reason(), Some(CloseReason::Stream));
        drop(b);
        soon(a).await.unwrap();
    }
}

#[test]
fn handles_can_go_to_other_tasks() {
    fn check<T: Send + std::marker::Sync + 'static>() {}
    check::<Channel>();
    check::<Event>();
    check::<Protocol<Tokio<TcpStream>>>();
    check::<Buffer>();
}
