//! Results and events of a `Session`: streams that fail, cores that a remote lacks, other protocols beside them.
#![cfg(all(feature = "tokio", feature = "replication"))]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hypercore_protocol::replication::{
    Core, CoreOptions, Memory, PeerError, Replicator, Session, SessionError, SessionEvent,
    SessionEvents, SessionOptions,
};
use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::schema::Sync;
use hypercore_protocol::{
    Channel, ChannelOptions, CloseReason, DiscoveryKey, Error, ErrorClass, Event, Key, KeyPair,
    Message, Pattern, Protocol, ProtocolBuilder,
};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;

/// Waits with a time-out. Virtual time advances only while nothing else can happen.
async fn soon<F: Future>(future: F) -> F::Output {
    let patience = Duration::from_secs(120);
    let waited = tokio::time::timeout(patience, future).await;
    waited.expect("took too long")
}

fn writer(seed: u8, blocks: usize) -> Replicator {
    let options = CoreOptions::writer(KeyPair::from_seed(&[seed; 32]));
    let core = Replicator::new(Core::open(Memory::new(), options).expect("a core"));
    let blocks: Vec<String> = (0..blocks).map(|at| format!("block {at}")).collect();
    core.append(&blocks).expect("it is writable");
    core
}

fn reader(key: Key) -> Replicator {
    Replicator::new(Core::open(Memory::new(), CoreOptions::reader(key)).expect("a core"))
}

/// A stream that the remote has reset.
struct Reset;

impl AsyncRead for Reset {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// The ways in which a stream fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    ClosedAtOnce,
    Reset,
    Silent,
    Http,
    BothInitiators,
    OtherPattern,
    OtherKey,
    DiesAfterTheHandshake,
}

const FAILURES: [Failure; 8] = [
    Failure::ClosedAtOnce,
    Failure::Reset,
    Failure::Silent,
    Failure::Http,
    Failure::BothInitiators,
    Failure::OtherPattern,
    Failure::OtherKey,
    Failure::DiesAfterTheHandshake,
];

/// Polls a protocol to its end.
fn run(mut protocol: Protocol<Tokio<DuplexStream>>) -> JoinHandle<()> {
    tokio::spawn(async move { while protocol.next().await.is_some() {} })
}

impl Failure {
    /// A session of one core whose stream fails in this way, and the remote's task.
    async fn session(self, core: &Replicator) -> (Session<Tokio<Box<dyn Socket>>>, JoinHandle<()>) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let mut builder = ProtocolBuilder::new(true);
        let mut socket: Box<dyn Socket> = Box::new(ours);
        let responder = ProtocolBuilder::new(false);
        let task = match self {
            Self::ClosedAtOnce => tokio::spawn(async move { drop(theirs) }),
            Self::Reset => {
                socket = Box::new(Reset);
                tokio::spawn(async {})
            }
            Self::Silent => tokio::spawn(async move {
                // Until the other side has given up.
                let _ = theirs.read_to_end(&mut Vec::new()).await;
            }),
            Self::Http => tokio::spawn(async move {
                let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                theirs.write_all(answer).await.expect("a stream");
                let _ = theirs.read_to_end(&mut Vec::new()).await;
            }),
            Self::BothInitiators => run(ProtocolBuilder::new(true).connect(theirs)),
            Self::OtherPattern => run(responder.pattern(Pattern::IK).connect(theirs)),
            Self::OtherKey => {
                builder = builder.remote_public_key(*KeyPair::from_seed(&[9; 32]).public_key());
                run(responder.connect(theirs))
            }
            Self::DiesAfterTheHandshake => {
                let key = core.key();
                tokio::spawn(async move {
                    let mut protocol = responder.connect(theirs);
                    protocol.open(key).expect("an open stream");
                    while let Some(Ok(event)) = protocol.next().await {
                        if let Event::Channel(_channel) = event {
                            // A record cut to its first byte.
                            protocol.send_raw_for_testing_only(&[9, 0, 0, 1]);
                            drop(protocol);
                            return;
                        }
                    }
                })
            }
        };
        let mut session = Session::new(builder.connect(socket));
        session.add(core).expect("an open stream");
        (session, task)
    }

    fn is(self, error: &SessionError) -> bool {
        if matches!(self, Self::ClosedAtOnce | Self::OtherPattern) {
            return matches!(error, SessionError::EndedBeforeHandshake);
        }
        let SessionError::Stream(error) = error else {
            return false;
        };
        let text = error.to_string();
        match self {
            Self::ClosedAtOnce | Self::OtherPattern => unreachable!("they are errors of their own"),
            Self::DiesAfterTheHandshake => error.class() == ErrorClass::Truncated,
            Self::Reset => matches!(
                error,
                Error::Io {
                    kind: io::ErrorKind::ConnectionReset,
                    ..
                }
            ),
            Self::Silent => text.contains("the handshake took longer"),
            Self::Http => text.contains("does not speak this protocol"),
            Self::BothInitiators => text.contains("the remote seems to be an initiator, too"),
            Self::OtherKey => text.contains("another public key"),
        }
    }
}

/// Asserts that the failure is returned, also by all later calls.
macro_rules! is_told {
    ($way:literal, |$session:ident, $core:ident| $first:expr) => {
        for failure in FAILURES {
            let $core = reader(writer(1, 1).key());
            let (mut session, task) = failure.session(&$core).await;
            let $session = &mut session;
            let context = format!("{failure:?}, {}", $way);
            let told = soon($first).await;
            assert!(failure.is(&told), "{context}: {told:?}");
            let again = soon(session.run()).await.expect_err(&context);
            assert!(failure.is(&again), "{context}, run again: {again:?}");
            let again = soon(session.drive($core.update())).await;
            let again = again.expect_err(&context);
            assert!(failure.is(&again), "{context}, drive again: {again:?}");
            soon(task).await.expect("it does not panic");
        }
    };
}

#[tokio::test(start_paused = true)]
async fn a_failed_stream_is_told_to_an_update() {
    is_told!("update", |session, core| async {
        let updated = session.drive(core.update()).await;
        updated.map(Result::unwrap).expect_err("a failure")
    });
}

#[tokio::test(start_paused = true)]
async fn a_failed_stream_is_told_to_a_get() {
    is_told!("get", |session, core| async {
        let got = session.drive(core.get(0)).await;
        got.map(Result::unwrap).expect_err("a failure")
    });
}

#[tokio::test(start_paused = true)]
async fn a_failed_stream_is_told_to_who_waits_for_events() {
    is_told!("events", |session, core| async {
        let mut events = core.events();
        loop {
            // The peer's arrival and departure are events.
            if let Err(error) = session.drive(events.next()).await {
                break error;
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_failed_stream_is_told_to_run() {
    is_told!("run", |session, core| async {
        session.run().await.expect_err("a failure")
    });
}

type Ours = Session<Tokio<DuplexStream>>;

fn streams() -> (Protocol<Tokio<DuplexStream>>, Protocol<Tokio<DuplexStream>>) {
    let (ours, theirs) = duplex(64 * 1024);
    let builder = ProtocolBuilder::new;
    (builder(true).connect(ours), builder(false).connect(theirs))
}

fn sessions() -> (Ours, Ours) {
    let (ours, theirs) = streams();
    (Session::new(ours), Session::new(theirs))
}

/// Runs a session to its end.
fn runs(mut session: Ours) -> JoinHandle<(Ours, Result<(), SessionError>)> {
    tokio::spawn(async move {
        let ended = session.run().await;
        (session, ended)
    })
}

/// Serves a core on a new stream.
async fn serve(core: &Replicator) -> (Ours, JoinHandle<(Ours, Result<(), SessionError>)>) {
    let (ours, mut theirs) = sessions();
    theirs.add(core).expect("an open stream");
    (ours, runs(theirs))
}

/// Waits for an event and returns its contents.
async fn event<T>(events: &mut SessionEvents, find: impl Fn(&SessionEvent) -> Option<T>) -> T {
    soon(async {
        loop {
            let event = events.next().await.expect("the session goes on");
            if let Some(found) = find(&event) {
                return found;
            }
        }
    })
    .await
}

/// Opens a core on a protocol, and waits for the other side.
async fn open(protocol: &mut Protocol<Tokio<DuplexStream>>, key: Key) -> Channel {
    protocol.open(key).expect("an open stream");
    loop {
        match protocol.next().await {
            Some(Ok(Event::Channel(channel))) => return channel,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_told_and_told_again() {
    let core = writer(1, 1);
    let (mut ours, theirs) = serve(&core).await;
    let copy = reader(core.key());
    ours.add(&copy).expect("an open stream");
    let block = soon(ours.drive(copy.get(0))).await;
    assert_eq!(block.expect("a stream").expect("a store"), b"block 0");
    theirs.abort();
    let _ = soon(theirs).await;
    let ended = soon(ours.drive(copy.get(1))).await;
    assert!(matches!(ended, Err(SessionError::Ended)), "{ended:?}");
    let ended = soon(ours.drive(copy.update())).await;
    assert!(matches!(ended, Err(SessionError::Ended)), "{ended:?}");
    // This is the expected end.
    soon(ours.run()).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_arrived_before_a_failure_is_given() {
    // The block and the failure are read at once, and the block comes after more messages than are received before an
    // answer is sent, which fails.
    let core = writer(1, 1);
    let (ours, mut theirs) = streams();
    let mut ours = Session::new(ours);
    let copy = reader(core.key());
    ours.add(&copy).expect("an open stream");
    let key = core.key();
    let remote = tokio::spawn(async move {
        let channel = open(&mut theirs, key).await;
        let sync = Sync {
            length: 1,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            ..Sync::default()
        };
        channel.sync(sync).await.expect("an open channel");
        channel.have(0, 1).await.expect("an open channel");
        let answered = async {
            loop {
                if let Some(Message::Request(request)) = channel.recv().await {
                    let data = core.with_core(|core| core.create_proof(&request));
                    let data = data.expect("a proof").expect("it is held");
                    let has_block = data.block.is_some();
                    let mut batch = Vec::new();
                    if has_block {
                        // A sync of a shorter core is answered.
                        batch.push(Message::Sync(Sync { length: 0, ..sync }));
                        let more = || Message::Unwant((32..64).into());
                        batch.extend(std::iter::repeat_with(more).take(100));
                    }
                    batch.push(data.into());
                    channel.send_batch(&batch).await.expect("an open channel");
                    if has_block {
                        break;
                    }
                }
            }
        };
        theirs.drive(answered).await;
        theirs.send_raw_for_testing_only(&[9, 0, 0, 1]);
        drop(theirs);
    });
    let got = soon(ours.drive(copy.get(0))).await;
    assert_eq!(got.expect("it came before").expect("a store"), b"block 0");
    soon(remote).await.expect("it does not panic");
    let failed = soon(ours.run()).await;
    assert!(matches!(failed, Err(SessionError::Stream(_))), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_failed_holds_no_core_up() {
    let core = writer(1, 4);
    let copy = reader(core.key());
    let (ours, mut theirs) = streams();
    let mut failed = Session::new(ours);
    failed.add(&copy).expect("an open stream");
    let key = core.key();
    let remote = tokio::spawn(async move {
        let channel = open(&mut theirs, key).await;
        let asked = async {
            let sync = Sync {
                length: 2000,
                can_upgrade: true,
                uploading: true,
                downloading: true,
                ..Sync::default()
            };
            channel.sync(sync).await.expect("an open channel");
            while !matches!(channel.recv().await, Some(Message::Request(_))) {}
        };
        theirs.drive(asked).await;
        theirs.send_raw_for_testing_only(&[5, 0, 0, 1, 2, 3, 4, 5]);
        while theirs.next().await.is_some() {}
    });
    let ended = soon(failed.run()).await;
    assert!(matches!(ended, Err(SessionError::Stream(_))), "{ended:?}");
    soon(remote).await.expect("it does not panic");
    assert_eq!(copy.peers(), []);
    // It stays in place, for a caller who waits before trying again.
    let (mut ours, _theirs) = serve(&core).await;
    ours.add(&copy).expect("an open stream");
    let block = soon(ours.drive(copy.get(3))).await;
    assert_eq!(block.expect("a stream").expect("a store"), b"block 3");
    drop(failed);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_core_is_told() {
    let (mut ours, theirs) = sessions();
    let _theirs = runs(theirs);
    let copy = reader(writer(1, 1).key());
    let key = copy.discovery_key();
    let mut events = ours.events();
    ours.add(&copy).expect("an open stream");
    let updated = soon(ours.drive(copy.update())).await;
    assert!(!updated.expect("a stream").expect("a store"));
    let rejected = soon(ours.drive(copy.get(0))).await;
    let is_it = |error: &SessionError| matches!(error, SessionError::Rejected { discovery_key, .. } if *discovery_key == key);
    let error = rejected.expect_err("the remote has none");
    assert!(is_it(&error), "{error:?}");
    assert!(error.to_string().contains("rejects the core"), "{error}");
    let told = event(&mut events, |event| match event {
        SessionEvent::Rejected { discovery_key, .. } => Some(*discovery_key),
        _ => None,
    })
    .await;
    assert_eq!(told, key);
}

#[tokio::test(start_paused = true)]
async fn an_open_without_an_answer_is_told() {
    let (ours, mut theirs) = streams();
    let remote = tokio::spawn(async move {
        // It neither opens nor rejects.
        while let Some(Ok(_)) = theirs.next().await {}
    });
    let mut options = SessionOptions::default();
    options.open_timeout = Some(Duration::from_secs(7));
    let mut ours = Session::with_options(ours, options);
    let copy = reader(writer(1, 1).key());
    let key = copy.discovery_key();
    let mut events = ours.events();
    ours.add(&copy).expect("an open stream");
    let started = tokio::time::Instant::now();
    let updated = soon(ours.drive(copy.update())).await;
    assert!(!updated.expect("a stream").expect("a store"));
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(8),
        "{took:?}"
    );
    let unanswered = soon(ours.drive(copy.get(0))).await;
    assert!(
        matches!(
            unanswered,
            Err(SessionError::Unanswered { discovery_key, timeout, .. })
                if discovery_key == key && timeout == Duration::from_secs(7)
        ),
        "{unanswered:?}"
    );
    let told = event(&mut events, |event| match event {
        SessionEvent::Unanswered { discovery_key, .. } => Some(*discovery_key),
        _ => None,
    })
    .await;
    assert_eq!(told, key);
    drop(ours);
    soon(remote).await.expect("it does not panic");
}

/// A peer's attack on one core of several: it answers with another block.
async fn lie(protocol: &mut Protocol<Tokio<DuplexStream>>, channel: Channel, core: &Replicator) {
    let lie = async {
        let sync = Sync {
            length: core.length(),
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            ..Sync::default()
        };
        channel.sync(sync).await.expect("an open channel");
        channel
            .have(0, core.length())
            .await
            .expect("an open channel");
        while let Some(message) = channel.recv().await {
            if let Message::Request(request) = message {
                let data = core.with_core(|core| core.create_proof(&request));
                let mut data = data.expect("a proof").expect("it is held");
                if let Some(block) = &mut data.block {
                    block.value = "another".into();
                }
                if channel.data(data).await.is_err() {
                    break;
                }
            }
        }
    };
    protocol.drive(lie).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_core_ends_alone() {
    let (good, bad) = (writer(1, 2), writer(2, 2));
    let (ours, mut theirs) = streams();
    let mut ours = Session::new(ours);
    let copies = [reader(bad.key()), reader(good.key())];
    for copy in &copies {
        ours.add(copy).expect("an open stream");
    }
    let remote = tokio::spawn(async move {
        let channel = open(&mut theirs, bad.key()).await;
        lie(&mut theirs, channel, &bad).await;
        // The other one is served after that.
        let mut theirs = Session::new(theirs);
        theirs.add(&good).expect("an open stream");
        theirs.run().await
    });
    let mut events = ours.events();
    let running = runs(ours);
    let _never = copies[0].get(1);
    let (key, error) = event(&mut events, |event| match event {
        SessionEvent::Failed {
            discovery_key,
            error,
            ..
        } => Some((*discovery_key, error.clone())),
        _ => None,
    })
    .await;
    assert_eq!(key, copies[0].discovery_key());
    assert!(matches!(error, PeerError::Proof(_)), "{error:?}");
    let block = soon(copies[1].get(1)).await;
    assert_eq!(block.expect("a store"), b"block 1");
    assert!(!running.is_finished());
    remote.abort();
    let _ = soon(remote).await;
    let (_, ended) = soon(running).await.expect("it does not panic");
    ended.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn the_last_core_to_fail_ends_a_run() {
    let bad = writer(2, 2);
    let (ours, mut theirs) = streams();
    let mut ours = Session::new(ours);
    let copy = reader(bad.key());
    ours.add(&copy).expect("an open stream");
    let remote = tokio::spawn(async move {
        let channel = open(&mut theirs, bad.key()).await;
        lie(&mut theirs, channel, &bad).await;
        // Once more: now it is refused.
        theirs.open(bad.key()).expect("an open stream");
        loop {
            match theirs.next().await {
                Some(Ok(Event::Close { reason, .. })) => {
                    // The first one is that of the channel on which it lied.
                    if reason == CloseReason::Rejected {
                        return;
                    }
                }
                Some(Ok(Event::Channel(_))) => panic!("it is a peer again"),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let _never = copy.get(1);
    match soon(ours.run()).await {
        Err(SessionError::Peer {
            discovery_key,
            error: PeerError::Proof(_),
            ..
        }) => assert_eq!(discovery_key, copy.discovery_key()),
        other => panic!("{other:?}"),
    }
    let _running = runs(ours);
    soon(remote).await.expect("it does not panic");
}

#[tokio::test(start_paused = true)]
async fn cores_are_added_and_removed_while_a_session_runs() {
    let core = writer(1, 8);
    let (ours, theirs) = sessions();
    let copy = reader(core.key());
    let key = copy.discovery_key();
    let (here, there) = (ours.handle(), theirs.handle());
    let (mut events, mut their_events) = (ours.events(), theirs.events());
    let (_ours, _theirs) = (runs(ours), runs(theirs));
    // The other side adds it when it is asked for it.
    here.add(&copy).expect("it runs");
    let wanted = event(&mut their_events, |event| match event {
        SessionEvent::Wanted { discovery_key, .. } => Some(*discovery_key),
        _ => None,
    })
    .await;
    assert_eq!(wanted, key);
    there.add(&core).expect("it runs");
    assert_eq!(soon(copy.get(0)).await.expect("a store"), b"block 0");
    let closed = |event: &SessionEvent| match event {
        SessionEvent::Closed { reason, .. } => Some(*reason),
        _ => None,
    };

    here.pause(&key).expect("it runs");
    assert_eq!(event(&mut their_events, closed).await, CloseReason::Remote);
    assert_eq!(event(&mut events, closed).await, CloseReason::Local);
    assert_eq!((copy.peers(), core.peers()), (vec![], vec![]));
    here.resume(&key).expect("it runs");
    assert_eq!(soon(copy.get(1)).await.expect("a store"), b"block 1");

    there.remove(&key).expect("it runs");
    assert_eq!(event(&mut events, closed).await, CloseReason::Remote);
    assert_eq!(copy.peers(), []);
    // It is no longer served.
    here.pause(&key).expect("it runs");
    here.resume(&key).expect("it runs");
    event(&mut events, |event| match event {
        SessionEvent::Rejected { discovery_key, .. } => Some(*discovery_key),
        _ => None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_learns_that_the_session_is_over() {
    let (ours, theirs) = sessions();
    let (handle, mut events) = (ours.handle(), ours.events());
    drop(theirs);
    let running = runs(ours);
    let error = event(&mut events, |event| match event {
        SessionEvent::Ended { error, .. } => Some(error.clone()),
        _ => None,
    })
    .await;
    assert!(
        matches!(error, Some(SessionError::EndedBeforeHandshake)),
        "{error:?}"
    );
    assert!(soon(events.next()).await.is_none());
    assert!(handle.add(&writer(1, 1)).is_err());
    let (ours, _) = soon(running).await.expect("it does not panic");
    drop(ours);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_beside_cores_is_rejected_when_nobody_asks_for_its_opens() {
    let core = writer(1, 8);
    let (mut ours, mut theirs) = sessions();
    let copy = reader(core.key());
    ours.add(&copy).expect("an open stream");
    theirs.add(&core).expect("an open stream");
    ours.handle().protocol().pair("chat", None);
    let chat = theirs.handle().protocol();
    let chat = chat.open_channel(ChannelOptions::new("chat"));
    let chat = chat.expect("an open stream");
    let _theirs = runs(theirs);
    let sent = tokio::spawn(async move {
        for _ in 0..100 {
            // It may be rejected by now.
            let _ = chat.send(0, vec![1; 1000]).await;
        }
        chat.closed().await
    });
    let blocks = soon(ours.drive(copy.download(..8))).await;
    blocks.expect("a stream").expect("a store");
    let closed = soon(ours.drive(sent)).await.expect("a stream");
    assert_eq!(closed.expect("it does not panic"), CloseReason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_beside_cores_is_handed_on() {
    let core = writer(1, 8);
    let (mut ours, mut theirs) = sessions();
    let copy = reader(core.key());
    ours.add(&copy).expect("an open stream");
    theirs.add(&core).expect("an open stream");
    let commands = ours.handle().protocol();
    let mut events = ours.events();
    for name in ["chat", "unanswered"] {
        commands.pair(name, None);
    }
    let dial = theirs.handle().protocol();
    let [chat, unanswered] = ["chat", "unanswered"].map(|name| {
        let opened = dial.open_channel(ChannelOptions::new(name));
        opened.expect("an open stream")
    });
    let (_ours, _theirs) = (runs(ours), runs(theirs));
    let sent = tokio::spawn(async move {
        for _ in 0..100 {
            chat.send(0, vec![1; 1000]).await.expect("an open channel");
        }
        chat
    });
    let open = event(&mut events, |event| match event {
        SessionEvent::RemoteOpen(open) if open.protocol == "chat" => Some(open.clone()),
        _ => None,
    })
    .await;
    let answered = commands.open_channel(open.options());
    let answered = answered.expect("an open stream");
    for _ in 0..100 {
        let message = soon(answered.recv()).await.expect("it is open");
        assert_eq!(message.body.len(), 1000);
    }
    let blocks = soon(copy.download(..8)).await;
    blocks.expect("a store");
    // An unanswered open is rejected in time, so that the other side learns of it.
    assert_eq!(soon(unanswered.closed()).await, CloseReason::Rejected);
    let chat = soon(sent).await.expect("it does not panic");
    assert!(!chat.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_replicated_core_has_extensions() {
    let core = writer(1, 1);
    let (mut ours, mut theirs) = sessions();
    let copy = reader(core.key());
    let key = core.discovery_key();
    ours.add(&copy).expect("an open stream");
    theirs.add(&core).expect("an open stream");
    assert!(ours.register_extension(&key, "talk"));
    assert!(!ours.register_extension(&DiscoveryKey::new([0; 32]), "talk"));
    let (mut events, mut their_events) = (ours.events(), theirs.events());
    let there = theirs.handle();
    there.register_extension(&key, "talk").expect("it runs");
    let (_ours, _theirs) = (runs(ours), runs(theirs));
    let extension = |event: &SessionEvent| match event {
        SessionEvent::Extension { extension, .. } => Some(extension.clone()),
        _ => None,
    };
    let here = event(&mut events, extension).await;
    let talk = event(&mut their_events, extension).await;
    talk.send("hello").await.expect("an open channel");
    assert_eq!(soon(here.recv()).await.expect("it is open"), b"hello");
    here.send("hi").await.expect("an open channel");
    assert_eq!(soon(talk.recv()).await.expect("it is open"), b"hi");
    assert_eq!(soon(copy.get(0)).await.expect("a store"), b"block 0");
}

#[tokio::test(start_paused = true)]
async fn a_core_that_is_opened_again_and_again_waits() {
    let core = writer(1, 1);
    let (ours, mut theirs) = streams();
    let mut ours = Session::new(ours);
    ours.add(&core).expect("an open stream");
    let mut events = ours.events();
    let running = runs(ours);
    let key = core.key();
    let started = tokio::time::Instant::now();
    let remote = tokio::spawn(async move {
        let mut opened = 0;
        while opened < 40 {
            match theirs.next().await {
                Some(Ok(Event::Channel(channel))) => {
                    opened += 1;
                    channel.close();
                    theirs.open(key).expect("an open stream");
                }
                Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {
                    // The first one, or the one after a while in which it was refused.
                    let _ = theirs.open(key);
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        theirs
    });
    let wait = event(&mut events, |event| match event {
        SessionEvent::Reopens { wait, .. } => Some(*wait),
        _ => None,
    })
    .await;
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    // The first open and 16 more at once; later ones one per second.
    let _theirs = soon(remote).await.expect("it does not panic");
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(22), "{took:?}");
    assert!(took <= Duration::from_secs(25), "{took:?}");
    drop(running);
}
