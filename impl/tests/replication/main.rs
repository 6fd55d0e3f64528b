//! Cores replicated between this crate and Node peers of both releases, in either direction, with either side as
//! initiator.
//!
//! `matrix` goes through the combinations of releases, roles and kinds of cores. `refused` has corrupted data from
//! either side. This file has the tests with more than two peers or one core.
//!
//! The Node side is `examples-nodejs/interop/replication.js`.
#![cfg(all(feature = "js_interop_tests", feature = "replication"))]

#[path = "../node/mod.rs"]
mod node;
#[path = "../random/mod.rs"]
mod random;

mod matrix;
mod refused;
mod support;

use hypercore_protocol::replication::{
    CoreError, Memory, PeerError, Replicator, ReplicatorEvent, Session, SessionError, SessionEvent,
};
use hypercore_protocol::{CloseReason, ProtocolBuilder};
use node::soon;
use serde_json::json;
use support::{
    Kind, Link, Ours, RELEASES, Theirs, assert_same_blocks, close, connect, download, event,
    for_every_case, link, node_reads, reader, start, writer,
};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn two_histories_are_a_conflict() {
    for_every_case!(|case, node| {
        if case.kind == Kind::Default && case.release == RELEASES[0] {
            // It makes those as compat cores, which are a separate kind.
            continue;
        }
        // We know one by its tree, and Node serves another with the same key.
        let context = case.to_string();
        let one = Ours::of(case.kind, 1, Memory::new());
        one.extend(4, 20);
        let length = one.core.length();
        let core = reader(one.core.key());
        let first = link(&core, &one.core).await;
        soon(core.has_length(length)).await.expect("a store");
        drop(first);

        let mut theirs = Theirs::of(node, &context, case.kind, 1).await;
        assert_eq!(theirs.key, one.core.key(), "{context}");
        theirs.extend(node, 4, 21).await;
        let mut events = core.events();
        let get = core.get(length - 1);
        let link = Link::with(node, &[&core], case.is_initiator).await;
        let conflict = event(&mut events, |event| match event {
            ReplicatorEvent::Conflict(conflict) => Some(conflict.clone()),
            _ => None,
        })
        .await;
        let wanted = (length, 0);
        assert_eq!((conflict.length, conflict.fork), wanted, "{context}");
        assert!(matches!(soon(get).await, Err(CoreError::Frozen)));
        let ended = link.end().await;
        let is_conflict = matches!(
            &ended,
            Err(SessionError::Peer {
                error: PeerError::Conflict,
                ..
            })
        );
        assert!(is_conflict, "{context}: {ended:?}");
        // Node got our proof. With a prologue, it compares only the prologue.
        if case.kind != Kind::Prologue {
            let mut theirs = node.event("conflict").await;
            while theirs["core"] != context {
                theirs = node.event("conflict").await;
            }
            assert_eq!(theirs["length"], length, "{context}");
        }
        node.ask("disconnect", json!({})).await;
        close(node, &context).await;
    });
}

#[tokio::test]
async fn two_that_send_to_each_other_do_not_wait_for_one_another() {
    // More than all buffers in between hold, in both directions at once and on two channels.
    const COUNT: u64 = 64;
    const SIZE: usize = 1 << 20;
    let cores: [Replicator; 2] = [5, 6].map(writer);
    for core in &cores {
        core.append(&vec![vec![1; SIZE]; COUNT as usize])
            .expect("it is writable");
    }
    let copies = [reader(cores[0].key()), reader(cores[1].key())];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let dialled = TcpStream::connect(address).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    let _links = [
        Link::over(dialled, &[&cores[0], &copies[1]], true).await,
        Link::over(accepted, &[&copies[0], &cores[1]], false).await,
    ];
    let all = futures::future::join_all(copies.iter().map(|copy| copy.download(..COUNT)));
    for downloaded in soon(all).await {
        downloaded.expect("a store");
    }
}

#[tokio::test]
async fn many_cores_share_a_stream_and_a_bad_one_ends_alone() {
    for release in RELEASES {
        let mut node = start(release);
        let mut cores = Vec::new();
        for seed in 10..30 {
            let name = format!("core {seed}");
            let mut theirs = Theirs::of(&mut node, &name, Kind::Default, seed).await;
            theirs.extend(&mut node, seed.into(), 10).await;
            cores.push((name, u64::from(seed), reader(theirs.key)));
        }
        // One that Node does not have, and one that it corrupts.
        let unknown = reader(writer(1).key());
        let input = json!({ "core": "core 20", "part": "block" });
        node.ask("tamper", input).await;
        let socket = connect(&mut node, true).await;
        let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
        for (_, _, core) in &cores {
            session.add(core).expect("an open stream");
        }
        session.add(&unknown).expect("an open stream");
        // Once Node has refused it, it is known to be unavailable.
        let updated = soon(session.drive(unknown.update())).await;
        assert!(!updated.expect("a stream").expect("a store"), "{release}");
        let all = cores.iter().map(|(_, count, core)| core.download(..*count));
        let all = futures::future::join_all(all.collect::<Vec<_>>());
        let mut all = std::pin::pin!(all);
        match soon(session.drive(all.as_mut())).await {
            Err(SessionError::Peer { discovery_key, .. }) => {
                assert_eq!(discovery_key, cores[10].2.discovery_key(), "{release}");
            }
            other => panic!("{release}: {other:?}"),
        }
        let others = cores.iter().filter(|(name, ..)| name != "core 20");
        for (name, count, core) in others {
            let downloaded = soon(session.drive(core.download(..*count))).await;
            downloaded.expect("the stream goes on").expect("a store");
            assert_same_blocks(core, &mut node, name, 0..*count, release).await;
        }
        assert_eq!(cores[10].2.info().expect("a hash").held, 0, "{release}");
        soon(session.close()).await.expect("an end");
    }
}

#[tokio::test]
async fn what_waits_ends_with_the_stream() {
    let core = writer(1);
    let copy = reader(core.key());
    let mut node = start(RELEASES[1]);
    let socket = connect(&mut node, true).await;
    let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
    session.add(&copy).expect("an open stream");
    // Node has refused it, so the stream is established.
    let updated = soon(session.drive(copy.update())).await;
    assert!(!updated.expect("a stream").expect("a store"));
    node.ask("disconnect", json!({})).await;
    // Not for ever, even if no peer has the block.
    let ended = soon(session.drive(copy.get(0))).await;
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn node_reads_a_core_that_is_added_when_it_asks_and_that_pauses() {
    for release in RELEASES {
        let mut node = start(release);
        let core = writer(40);
        core.append(&["one", "two", "three"])
            .expect("it is writable");
        node_reads(&mut node, release, core.key()).await;
        let socket = connect(&mut node, true).await;
        socket.set_nodelay(true).expect("a socket");
        let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
        let (handle, mut events) = (session.handle(), session.events());
        let running = tokio::spawn(async move { session.run().await });
        let mut until = async |is_it: fn(&SessionEvent) -> bool| {
            let it = async {
                loop {
                    match events.next().await {
                        Some(event) if is_it(&event) => break event,
                        Some(_) => {}
                        None => panic!("{release}: the session is over"),
                    }
                }
            };
            soon(it).await
        };
        match until(|event| matches!(event, SessionEvent::Wanted { .. })).await {
            SessionEvent::Wanted { discovery_key, .. } => {
                assert_eq!(discovery_key, core.discovery_key(), "{release}");
            }
            other => unreachable!("{other:?}"),
        }
        // Node was rejected, and opens it again.
        handle.add(&core).expect("it runs");
        download(&mut node, release, 0..1).await;
        handle.pause(&core.discovery_key()).expect("it runs");
        let closed = |event: &SessionEvent| {
            let reason = CloseReason::Local;
            matches!(event, SessionEvent::Closed { reason: it, .. } if *it == reason)
        };
        until(closed).await;
        assert_eq!(core.peers(), [], "{release}");
        handle.resume(&core.discovery_key()).expect("it runs");
        download(&mut node, release, 1..3).await;
        assert_same_blocks(&core, &mut node, release, 0..3, release).await;
        node.ask("disconnect", json!({})).await;
        // The result does not matter.
        let _ = soon(running).await.expect("it does not panic");
    }
}
