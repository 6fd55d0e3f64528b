//! Data corrupted by one side and refused by the other, with the cause named.

use hypercore_protocol::replication::{
    PeerError, ProofError, Replicator, ReplicatorEvent, SessionError,
};
use hypercore_protocol::schema::{Data, Sync};
use hypercore_protocol::{Buffer, Event, Message, ProtocolBuilder};
use serde_json::json;
use tokio::net::TcpStream;

use crate::node::Node;
use crate::support::{
    Case, Kind, Link, Ours, RELEASES, Theirs, close, connect, event, for_every_case, node_reads,
    reader,
};

const PARTS: [&str; 5] = ["block", "node", "upgradeNode", "signature", "manifest"];

/// The parts that answers have. The manifest of a compat core is not sent.
fn parts(is_compat: bool) -> impl Iterator<Item = &'static str> {
    let has = move |part: &&str| !is_compat || *part != "manifest";
    PARTS.into_iter().filter(has)
}

/// The fault of a part, as Node's code.
fn code(part: &str) -> &'static str {
    match part {
        "block" | "node" => "INVALID_CHECKSUM",
        _ => "INVALID_SIGNATURE",
    }
}

/// Serves a core by hand, and corrupts a part of every answer.
async fn serve_spoiled(socket: TcpStream, is_initiator: bool, core: Replicator, part: &str) {
    let mut protocol = ProtocolBuilder::new(is_initiator).connect(socket);
    protocol.open(core.key()).expect("an open stream");
    let channel = loop {
        match protocol.next().await {
            Some(Ok(Event::Channel(channel))) => break channel,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let sync = Sync {
        length: core.length(),
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: core.with_core(|core| !core.is_compat()),
        ..Sync::default()
    };
    let serve = async {
        channel.sync(sync).await?;
        channel.have(0, core.length()).await?;
        while let Some(message) = channel.recv().await {
            if let Message::Request(request) = message {
                let data = core.with_core(|core| core.create_proof(&request));
                let data = data.expect("a proof");
                channel.data(spoiled(data.expect("a block"), part)).await?;
            }
        }
        Ok::<(), hypercore_protocol::Error>(())
    };
    // It lasts until Node gives up.
    let _ = protocol.drive(serve).await;
}

fn spoiled(data: Data, part: &str) -> Data {
    let mut data = data;
    let flip = |bytes: &Buffer, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Buffer::from(bytes)
    };
    let block = data.block.as_mut();
    let upgrade = data.upgrade.as_mut();
    match part {
        "block" => block
            .into_iter()
            .for_each(|it| it.value = flip(&it.value, 0)),
        "node" => {
            let nodes = block.and_then(|it| it.nodes.first_mut());
            nodes.into_iter().for_each(|it| it.hash[31] ^= 1);
        }
        "upgradeNode" => {
            let nodes = upgrade.and_then(|it| it.nodes.first_mut());
            nodes.into_iter().for_each(|it| it.hash[31] ^= 1);
        }
        "signature" => {
            let signature = upgrade.and_then(|it| it.signature.as_mut());
            signature.into_iter().for_each(|it| *it = flip(it, 40));
        }
        _ => {
            let manifest = data.manifest.as_mut();
            manifest
                .into_iter()
                .for_each(|it| it.signers[0].public_key[31] ^= 1);
        }
    }
    data
}

#[tokio::test]
async fn what_node_spoils_is_refused() {
    for_every_case!(|case, node| {
        // 10.38.2 makes those as compat ones.
        let is_default = case.kind == Kind::Default && case.release == RELEASES[0];
        let is_compat = case.kind == Kind::Compat || is_default;
        for part in parts(is_compat) {
            println!("{part}");
            node_spoils(node, case, part).await;
        }
    });
}

async fn node_spoils(node: &mut Node, case: Case, part: &str) {
    let context = format!("{part}, {case}");
    let mut theirs = Theirs::new(node, &context, case.kind).await;
    theirs.extend(node, 5, 20).await;
    let input = json!({ "core": theirs.name, "part": part });
    node.ask("tamper", input).await;
    let core = reader(theirs.key);
    let mut events = core.events();
    let _get = core.get(2);
    let link = Link::with(node, &[&core], case.is_initiator).await;
    let error = event(&mut events, |event| match event {
        ReplicatorEvent::Refused { error, .. } => Some(error.clone()),
        _ => None,
    })
    .await;
    // The fifth block is requested with the upgrade and is one of its roots, so the signature is what does not match.
    let is_signed = case.kind == Kind::AllPatched && part == "block";
    let expected = if is_signed { "signature" } else { part };
    assert_eq!(error.code(), code(expected), "{context}: {error}");
    let wrong = error.to_string();
    let named = match expected {
        "block" | "node" => wrong.starts_with("block: the hash of node"),
        "upgradeNode" | "signature" => wrong.starts_with("upgrade.signature: signer"),
        _ => matches!(error, ProofError::WrongManifest),
    };
    assert!(named, "{context}: {wrong}");
    match link.end().await {
        Err(SessionError::Peer {
            error: PeerError::Proof(ended),
            ..
        }) => assert_eq!(ended, error, "{context}"),
        other => panic!("{context}: {other:?}"),
    }
    assert!(!core.with_core(|core| core.has(2)), "{context}");
    node.ask("disconnect", json!({})).await;
    close(node, &theirs.name).await;
}

#[tokio::test]
async fn what_rust_spoils_is_refused_by_node() {
    for_every_case!(|case, node| {
        for part in parts(case.kind == Kind::Compat) {
            println!("{part}");
            rust_spoils(node, case, part).await;
        }
    });
}

async fn rust_spoils(node: &mut Node, case: Case, part: &'static str) {
    let context = format!("{part}, {case}");
    let ours = Ours::new(case.kind);
    ours.extend(5, 20);
    node_reads(node, &context, ours.core.key()).await;
    let socket = connect(node, case.is_initiator).await;
    let core = ours.core.clone();
    let peer = tokio::spawn(async move {
        serve_spoiled(socket, case.is_initiator, core, part).await;
    });
    node.ask("want", json!({ "core": context, "index": 2 }))
        .await;
    let refused = loop {
        let refused = node.event("verificationError").await;
        if refused["core"] == context {
            break refused;
        }
    };
    assert_eq!(refused["code"], code(part), "{context}: {refused}");
    let input = json!({ "core": context, "index": 2 });
    let has = node.ask("has", input).await;
    assert_eq!(has["has"], false, "{context}");
    peer.abort();
    node.ask("disconnect", json!({})).await;
    close(node, &context).await;
}
