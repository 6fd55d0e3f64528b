//! npm packages built on protomux and independent of this crate, against its public channels: protomux-rpc,
//! protomux-wakeup and corestore, in `examples-nodejs/interop/packages`.
//!
//! The head of each module describes the package's wire format. Every test runs with each side as initiator, over TCP.
#![cfg(feature = "js_interop_tests")]

#[path = "../node/mod.rs"]
mod node;

mod corestore;
mod rpc;
mod wakeup;

use hypercore_protocol::{Event, ProtocolBuilder, ProtocolHandle, RemoteOpen};
use node::{Node, soon};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// This crate and a Node peer, connected. A task polls the protocol.
struct Pair {
    node: Node,
    handle: ProtocolHandle,
    events: mpsc::UnboundedReceiver<Event>,
    /// Our role, for failed assertions.
    role: &'static str,
}

impl Pair {
    /// Connects, and waits until the handshake is complete on both sides.
    async fn connect(is_initiator: bool) -> Self {
        Self::connect_with(is_initiator, json!([]), |_| ()).await.0
    }

    /// As [`Pair::connect`], with set-up on both sides before the first byte.
    async fn connect_with<T>(
        is_initiator: bool,
        node_first: Value,
        first: impl FnOnce(&ProtocolHandle) -> T,
    ) -> (Self, T) {
        let mut node = Node::start("interop/packages/index.js", &json!({}));
        let socket = if is_initiator {
            let input = json!({ "first": node_first });
            let port = node.ask("peer.listen", input).await["port"].as_u64();
            let port = u16::try_from(port.expect("a port")).expect("a port");
            TcpStream::connect(("127.0.0.1", port)).await
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let port = listener.local_addr().expect("an address").port();
            let input = json!({ "port": port, "first": node_first });
            node.ask("peer.dial", input).await;
            listener.accept().await.map(|(socket, _)| socket)
        };
        let socket = socket.expect("a connection");
        socket.set_nodelay(true).expect("a live socket");
        let mut protocol = ProtocolBuilder::new(is_initiator).connect(socket);
        let handle = protocol.handle();
        let done = first(&handle);
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = protocol.next().await {
                // A test that expects an error checks its effect on channels.
                let Ok(event) = event else { continue };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let mut pair = Self {
            node,
            handle,
            events,
            role: if is_initiator {
                "initiator"
            } else {
                "responder"
            },
        };
        match pair.event().await {
            Event::Handshake(_) => {}
            other => panic!("{}: no handshake: {other:?}", pair.role),
        }
        pair.node.event("handshake").await;
        (pair, done)
    }

    async fn event(&mut self) -> Event {
        match soon(self.events.recv()).await {
            Some(event) => event,
            None => panic!("{}: the stream is over", self.role),
        }
    }

    async fn remote_open(&mut self) -> RemoteOpen {
        match self.event().await {
            Event::RemoteOpen(open) => open,
            other => panic!("{}: {other:?}", self.role),
        }
    }

    async fn ask(&mut self, op: &str, input: Value) -> Value {
        self.node.ask(op, input).await
    }

    /// The number of records that Node has sent and received since `before`.
    async fn records_since(&mut self, before: &Value) -> (u64, u64) {
        let now = self.ask("peer.records", json!({})).await;
        let count = |name: &str| now[name].as_u64().zip(before[name].as_u64());
        let passed = |name| {
            let (now, before) = count(name).expect("numbers");
            now - before
        };
        (passed("sent"), passed("received"))
    }
}

/// Runs a test in both roles.
async fn in_each_role(test: impl AsyncFn(Pair)) {
    for is_initiator in [true, false] {
        test(Pair::connect(is_initiator).await).await;
    }
}
