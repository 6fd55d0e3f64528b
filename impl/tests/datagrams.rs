//! Datagrams beside the stream, with a Node secret stream over UDX: `examples-nodejs/interop/datagram.js`.
//!
//! Node's side is a real UDX stream. Ours is reached through a relay that forwards TCP bytes as the UDX stream's, and
//! UDP datagrams as UDX's, and has no keys.
#![cfg(feature = "js_interop_tests")]

mod node;

use hypercore_protocol::datagram::{DatagramError, Datagrams, OVERHEAD_BYTES};
use hypercore_protocol::{Error, Event, ProtocolBuilder};
use node::{Node, hex, soon};
use serde_json::json;
use tokio::net::{TcpStream, UdpSocket};

/// An empty one, a short one, and one that fills a UDX packet.
fn messages() -> [Vec<u8>; 3] {
    [Vec::new(), b"hello".to_vec(), vec![0x5a; 1100]]
}

async fn send(socket: &UdpSocket, datagram: &[u8]) {
    let sent = soon(socket.send(datagram)).await.expect("a socket");
    assert_eq!(sent, datagram.len());
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 2048];
    let length = soon(socket.recv(&mut datagram)).await.expect("a datagram");
    datagram.truncate(length);
    datagram
}

async fn exchange(is_initiator: bool) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let our_port = socket.local_addr().expect("an address").port();
    let options = json!({ "isInitiator": !is_initiator, "udpPort": our_port });
    let mut node = Node::start("interop/datagram.js", &options);
    let listening = node.event("listening").await;
    let port = |name: &str| listening[name].as_u64().expect("a port") as u16;
    socket
        .connect(("127.0.0.1", port("udpPort")))
        .await
        .expect("a socket");
    let stream = TcpStream::connect(("127.0.0.1", port("port"))).await;

    let mut protocol = ProtocolBuilder::new(is_initiator)
        .keep_alive(None)
        .connect(stream.expect("a connection"));
    let early = protocol.datagrams().unwrap_err();
    assert!(matches!(early, Error::Datagram(DatagramError::NoHandshake)));
    match soon(protocol.next()).await {
        Some(Ok(Event::Handshake(_))) => {}
        other => panic!("no handshake: {other:?}"),
    }
    let datagrams: Datagrams = protocol.datagrams().expect("datagrams");
    protocol.drive(node.event("open")).await;

    for message in messages() {
        let datagram = datagrams.seal(&message).expect("a datagram");
        assert_eq!(datagram.len(), message.len() + OVERHEAD_BYTES);
        // Node drops what it cannot open, and so do we.
        let mut forged = datagram.clone();
        *forged.last_mut().expect("a MAC") ^= 1;
        send(&socket, &forged).await;
        send(&socket, &datagram[..OVERHEAD_BYTES - 1]).await;
        send(&socket, &datagram).await;
        let event = node.event("message").await;
        assert_eq!(event["data"], hex(&message), "initiator {is_initiator}");
        assert_eq!(datagrams.open(&forged), Err(DatagramError::BadMac));
    }

    // Unordered, and with duplicates: there is no replay window.
    let [first, second] = [b"first", b"other"].map(|text| datagrams.seal(text).expect("sealed"));
    for (datagram, text) in [(&second, "other"), (&first, "first"), (&second, "other")] {
        send(&socket, datagram).await;
        assert_eq!(node.event("message").await["data"], hex(text));
    }

    for message in messages() {
        node.write_line(&json!({ "send": hex(&message) }).to_string())
            .await;
        let datagram = receive(&socket).await;
        assert_eq!(datagrams.open(&datagram), Ok(message));
        // A datagram of ours does not open here.
        let ours = datagrams.seal(b"ours").expect("sealed");
        assert_eq!(datagrams.open(&ours), Err(DatagramError::BadMac));
    }

    // The stream continues meanwhile.
    protocol.send_keep_alive().expect("a keep-alive");
    protocol.drive(node.event("data")).await;
}

#[tokio::test]
async fn datagrams_pass_both_ways_as_initiator() {
    exchange(true).await;
}

#[tokio::test]
async fn datagrams_pass_both_ways_as_responder() {
    exchange(false).await;
}
