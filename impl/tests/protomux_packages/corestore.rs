//! corestore 7.12.5: many cores over one stream.
//!
//! From the package's `index.js`: on `replicate` the store opens the channel of each open core, in one batch; it pairs
//! `hypercore/alpha` without an id, and answers the open of any core that it stores, loading it first. It rejects the
//! others. The channels are those of hypercore 11.37.1.

use hypercore_protocol::schema::{Request, RequestBlock, Sync};
use hypercore_protocol::{Channel, CloseReason, DiscoveryKey, Event, Key, Message, discovery_key};
use serde_json::{Value, json};

use crate::node::{hex, soon, unhex};
use crate::{Pair, in_each_role};

/// The key of a new core in Node's store.
async fn create(pair: &mut Pair, name: &str, blocks: [&str; 2]) -> Key {
    let blocks = blocks.map(hex);
    let input = json!({ "name": name, "blocks": blocks });
    let core = pair.ask("store.create", input).await;
    unhex(&core["key"]).try_into().expect("a key")
}

/// The next channel open on both sides; the store may open it before we do.
async fn opened(pair: &mut Pair) -> Channel {
    loop {
        match pair.event().await {
            Event::Channel(channel) => return channel,
            Event::DiscoveryKey(_) => {}
            other => panic!("{}: {other:?}", pair.role),
        }
    }
}

async fn announced(pair: &mut Pair) -> DiscoveryKey {
    match pair.event().await {
        Event::DiscoveryKey(discovery_key) => discovery_key,
        other => panic!("{}: {other:?}", pair.role),
    }
}

/// Requests a block and waits for it.
async fn block(channel: &Channel, index: u64) -> Vec<u8> {
    // A core closes the channel to a peer that wants nothing.
    let sync = Sync {
        downloading: true,
        ..Sync::default()
    };
    let request = Request {
        id: index + 1,
        block: Some(RequestBlock { index, nodes: 0 }),
        ..Request::default()
    };
    let messages = [sync.into(), request.into()];
    soon(channel.send_batch(&messages))
        .await
        .expect("an open channel");
    loop {
        match soon(channel.recv()).await.expect("an open channel") {
            Message::Data(data) => {
                assert_eq!(data.request, index + 1);
                return data.block.expect("a block").value.to_vec();
            }
            // The core's own state.
            Message::Sync(_) | Message::Range(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn blocks_of_two_cores_are_read_over_one_stream() {
    in_each_role(async |mut pair| {
        // One that the store offers by itself, and one that it has to load.
        let one = create(&mut pair, "one", ["1a", "1b"]).await;
        let two = create(&mut pair, "two", ["2a", "2b"]).await;
        pair.ask("store.replicate", json!({ "offer": ["one"] }))
            .await;
        assert_eq!(announced(&mut pair).await, discovery_key(&one));
        let mut channels = Vec::new();
        for key in [two, one] {
            pair.handle.open(key).expect("an open channel");
            let channel = opened(&mut pair).await;
            assert_eq!(channel.key(), &key, "{}", pair.role);
            channels.push(channel);
        }
        let [two, one] = &channels[..] else {
            unreachable!()
        };
        for (index, expected) in [(0, ["1a", "2a"]), (1, ["1b", "2b"])] {
            let blocks = tokio::join!(block(one, index), block(two, index));
            let expected = (expected[0].into(), expected[1].into());
            assert_eq!(blocks, expected, "{}", pair.role);
        }

        // Closing one does not affect the other.
        one.close();
        assert_eq!(block(two, 0).await, b"2a", "{}", pair.role);
        pair.ask("peer.stop", Value::Null).await;
    })
    .await;
}

#[tokio::test]
async fn a_core_that_the_store_lacks_is_rejected() {
    in_each_role(async |mut pair| {
        let known = create(&mut pair, "known", ["a", "b"]).await;
        pair.ask("store.replicate", Value::Null).await;
        let unknown = [9; 32];
        let channel = pair.handle.open(unknown);
        let ours = channel.expect("an open channel");
        match pair.event().await {
            Event::Close {
                channel,
                discovery_key: closed,
                reason,
                ..
            } => {
                assert_eq!((channel, closed), (ours, discovery_key(&Key::new(unknown))));
                assert_eq!(reason, CloseReason::Rejected, "{}", pair.role);
            }
            other => panic!("{}: {other:?}", pair.role),
        }
        // The stream is still alive.
        pair.handle.open(known).expect("an open channel");
        let channel = opened(&mut pair).await;
        assert_eq!(block(&channel, 1).await, b"b", "{}", pair.role);
        pair.ask("peer.stop", Value::Null).await;
    })
    .await;
}

#[tokio::test]
async fn the_store_asks_us_for_a_core() {
    in_each_role(async |mut pair| {
        let key = [8; 32];
        pair.ask("store.replicate", Value::Null).await;
        pair.ask("store.get", json!({ "key": hex(key) })).await;
        assert_eq!(announced(&mut pair).await, discovery_key(&Key::new(key)));
        pair.handle.open(key).expect("an open channel");
        let channel = opened(&mut pair).await;
        let peer = pair.node.event("store.peerAdd").await;
        assert_eq!(peer["discoveryKey"], hex(discovery_key(&Key::new(key))));
        channel.close();
        pair.node.event("store.peerRemove").await;
        pair.ask("peer.stop", Value::Null).await;
    })
    .await;
}
