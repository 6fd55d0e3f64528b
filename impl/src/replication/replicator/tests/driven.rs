//! Streams with peers that keep silent, in virtual time.

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::runtime::{Tokio, TokioTimer};
use crate::{Event, Protocol, ProtocolBuilder};

type Stream = Protocol<Tokio<DuplexStream>>;

const T: Duration = Duration::from_secs(15);

fn streams() -> (Stream, Stream) {
    let (one, other) = tokio::io::duplex(4096);
    let here = ProtocolBuilder::new(true)
        .idle_timeout(None)
        .write_timeout(None)
        .connect(one);
    (
        here,
        ProtocolBuilder::new(false)
            .idle_timeout(None)
            .write_timeout(None)
            .connect(other),
    )
}

/// Opens a core on a stream, runs the stream in a task, and returns the channel.
async fn channel(stream: Stream, key: Key) -> Channel {
    let (opened, mut channels) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut stream = stream;
        stream.open(key).unwrap();
        while let Some(event) = stream.next().await {
            if let Ok(Event::Channel(channel)) = event {
                // The test may be over.
                let _ = opened.send(channel);
            }
        }
    });
    channels.recv().await.unwrap()
}

async fn channels(key: Key) -> (Channel, Channel) {
    let (one, other) = streams();
    tokio::join!(channel(one, key), channel(other, key))
}

fn replicators(blocks: usize) -> (Replicator, Replicator) {
    let source = Replicator::new(writer(blocks).core);
    let core = Core::open(Memory::new(), CoreOptions::reader(source.key()));
    (source, Replicator::new(core.unwrap()))
}

/// Connects them by a stream.
async fn link(one: &Replicator, other: &Replicator) {
    let (here, there) = channels(one.key()).await;
    tokio::spawn(one.replicate(here));
    tokio::spawn(other.replicate(there));
}

/// A peer that claims to have all of a core, and then only reads.
async fn liar(channel: Channel) {
    let sync = Sync {
        length: 5,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        ..Sync::default()
    };
    channel.sync(sync).await.unwrap();
    channel.have(0, 5).await.unwrap();
    while channel.recv().await.is_some() {}
}

async fn in_flight(replicator: &Replicator) {
    let mut events = replicator.events();
    while replicator.peers().iter().all(|peer| peer.in_flight == 0) {
        events.next().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_costs_one_time_out() {
    let (source, reader) = replicators(5);
    let (here, there) = channels(source.key()).await;
    tokio::spawn(reader.replicate(here));
    tokio::spawn(liar(there));
    in_flight(&reader).await;
    link(&reader, &source).await;
    let start = Instant::now();
    assert_eq!(reader.get(3).await.unwrap(), b"block 3");
    let passed = start.elapsed();
    assert!(
        passed >= T - Duration::from_secs(1) && passed < T * 2,
        "{passed:?}"
    );
    assert!(!reader.update().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_nobody_polls_costs_one_time_out() {
    let (source, reader) = replicators(5);
    let (here, there) = channels(source.key()).await;
    tokio::spawn(liar(there));
    let mut dead = Box::pin(reader.replicate(here));
    tokio::select! {
        ended = &mut dead => panic!("{ended:?}"),
        () = in_flight(&reader) => {}
    }
    link(&reader, &source).await;
    let start = Instant::now();
    assert_eq!(reader.get(3).await.unwrap(), b"block 3");
    let passed = start.elapsed();
    assert!(
        passed >= T - Duration::from_secs(1) && passed < T * 2,
        "{passed:?}"
    );
    drop(dead);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_silent_is_let_go_and_it_is_said_why() {
    let (source, reader) = replicators(5);
    let (here, there) = channels(source.key()).await;
    let closed = tokio::spawn(async move {
        let channel = there.clone();
        tokio::join!(liar(there), channel.closed()).1
    });
    let mut events = reader.events();
    let ended = reader.replicate(here).await;
    assert!(matches!(ended, Err(PeerError::Unresponsive)), "{ended:?}");
    assert_eq!(closed.await.unwrap(), CloseReason::Remote);
    let mut seen = Vec::new();
    while let Some(event) = events.try_next() {
        seen.push(match event {
            ReplicatorEvent::RequestTimedOut { .. } => "timed out",
            ReplicatorEvent::PeerPaused { .. } => "paused",
            ReplicatorEvent::PeerLetGo { error, .. } => {
                assert!(matches!(error, PeerError::Unresponsive), "{error}");
                "let go"
            }
            ReplicatorEvent::PeerRemoved(_) => "removed",
            _ => continue,
        });
    }
    let mut expected = ["timed out", "paused"].repeat(3);
    expected.extend(["timed out", "let go", "removed"]);
    assert_eq!(seen, expected);
}

/// It reads nothing from its socket, so that sending blocks.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_let_go() {
    let (source, reader) = replicators(5);
    let (here, mut there) = streams();
    let opened = tokio::spawn(channel(here, source.key()));
    there.open(source.key()).unwrap();
    let liar = loop {
        match there.next().await {
            Some(Ok(Event::Channel(channel))) => break channel,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let here = there.drive(opened).await.unwrap();
    let sync = Sync {
        length: 5,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        ..Sync::default()
    };
    there.drive(liar.sync(sync)).await.unwrap();
    // Until the message has been written.
    there
        .drive(tokio::time::sleep(Duration::from_secs(1)))
        .await;
    // The messages that fill the buffers are not counted as the reader's.
    let filler = here.clone();
    while filler
        .try_send(
            &crate::wire::Extension {
                name: "".into(),
                message: vec![0; 16 * 1024].into(),
            }
            .into(),
        )
        .is_ok()
    {}
    let start = Instant::now();
    let ended = tokio::time::timeout(T * 20, reader.replicate(here))
        .await
        .unwrap();
    assert!(matches!(ended, Err(PeerError::Unresponsive)), "{ended:?}");
    assert!(start.elapsed() < T * 12, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_can_have_a_limit() {
    let (_source, reader) = replicators(5);
    let limit = Duration::from_secs(5);
    let start = Instant::now();
    let error = reader.get(3).within(TokioTimer::new(), limit).await;
    assert!(
        matches!(error, Err(CoreError::TimedOut(passed)) if passed == limit),
        "{error:?}"
    );
    assert!(start.elapsed() >= limit);
    let error = reader.download(0..5).within(TokioTimer::new(), limit).await;
    assert!(matches!(error, Err(CoreError::TimedOut(_))), "{error:?}");
    let updated = reader.update().within(TokioTimer::new(), limit).await;
    assert!(!updated.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_another_core_is_refused() {
    let (source, _reader) = replicators(5);
    let (here, _there) = channels(Key::new([9; 32])).await;
    let ended = source.replicate(here).await;
    assert!(matches!(ended, Err(PeerError::OtherCore)), "{ended:?}");
    assert!(source.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_number_that_no_core_can_have_ends_the_call_and_no_peer() {
    let (source, reader) = replicators(5);
    link(&reader, &source).await;
    for block in [1 << 52, 1 << 53, 1 << 54, u64::MAX] {
        let got = reader.get(block).await;
        assert!(matches!(got, Err(CoreError::TooLarge { .. })), "{got:?}");
    }
    let found = reader.seek_padded(3, 1 << 60).await;
    assert!(
        matches!(found, Err(CoreError::TooLarge { .. })),
        "{found:?}"
    );
    let far = reader.get((1 << 52) - 1);
    assert_eq!(reader.get(3).await.unwrap(), b"block 3");
    assert_eq!(reader.peers().len(), 1);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn events_beyond_the_limit_are_counted() {
    for limit in [1, 2, 3] {
        let options = ReplicatorOptions {
            max_events: limit,
            ..ReplicatorOptions::default()
        };
        let core = Core::open(Memory::new(), CoreOptions::default()).unwrap();
        let core = Replicator::with_options(core, options);
        let mut events = core.events();
        for _ in 0..2 {
            core.append(&["x"]).unwrap();
        }
        let first = events.try_next();
        if limit < 2 {
            assert!(
                matches!(first, Some(ReplicatorEvent::Lagged(1))),
                "{first:?}"
            );
        } else {
            assert!(
                matches!(first, Some(ReplicatorEvent::Upgraded(_))),
                "{first:?}"
            );
        }
        assert!(events.try_next().is_some());
        assert!(events.try_next().is_none());
    }
}
