//! Reads a core that a peer serves over TCP, and verifies every block, message by message. The peer can be Node, or
//! `examples/server.rs`. `examples/replication.rs` leaves the messages to a `Replicator`.
//!
//! ```text
//! cargo run --features replication --example client -- 127.0.0.1:8000 <key in hex or as an id>
//! ```
//!
//! In Node:
//!
//! ```js
//! const core = new Hypercore('./a-core')
//! await core.append(['first', 'second'])
//! console.log(core.key.toString('hex'))
//! net.createServer((socket) => core.replicate(new SecretStream(false, socket))).listen(8000)
//! ```

use std::error::Error;

use hypercore_protocol::replication::{Core, CoreOptions, Memory};
use hypercore_protocol::schema::{Request, RequestBlock, RequestUpgrade, Sync};
use hypercore_protocol::{Channel, Event, Key, Message, ProtocolBuilder};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key] = &arguments[..] else {
        return Err("usage: client ADDRESS KEY".into());
    };
    let key: Key = key.parse()?;

    let socket = TcpStream::connect(address).await?;
    // Without it the system keeps small messages back until earlier ones were acknowledged: some 40 ms for each answer.
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(true).connect(socket);
    protocol.open(key)?;
    while let Some(event) = protocol.next().await {
        match event? {
            Event::Channel(channel) => {
                // One task does both here: `drive` polls the protocol while the core is read.
                protocol.drive(read(channel, key)).await?;
                protocol.close().await?;
                return Ok(());
            }
            Event::Close { reason, .. } => return Err(format!("closed: {reason:?}").into()),
            _ => {}
        }
    }
    Err("the stream ended before the channel was open".into())
}

async fn read(channel: Channel, key: Key) -> Result<(), Box<dyn Error>> {
    let mut core = Core::open(Memory::new(), CoreOptions::reader(key))?;
    // Tells the peer that we want what it has.
    let ours = Sync {
        can_upgrade: true,
        downloading: true,
        ..Sync::default()
    };
    channel.sync(ours).await?;
    let theirs = loop {
        match channel.recv().await.ok_or("the channel was closed")? {
            Message::Sync(sync) if sync.length > 0 => break sync,
            _ => {}
        }
    };

    // The first answer proves the length, and brings the manifest with which the signature is verified.
    let upgrade = RequestUpgrade {
        start: 0,
        length: theirs.length,
    };
    let request = Request {
        id: 1,
        fork: theirs.fork,
        upgrade: Some(upgrade),
        manifest: true,
        ..Request::default()
    };
    ask(&channel, &mut core, request).await?;
    println!("{} blocks, {} bytes", core.length(), core.byte_length());

    for index in 0..core.length() {
        // Which hashes we lack tells the peer how many it has to send.
        let nodes = core.missing_nodes(2 * index)?;
        let request = Request {
            id: 2 + index,
            fork: theirs.fork,
            block: Some(RequestBlock { index, nodes }),
            ..Request::default()
        };
        ask(&channel, &mut core, request).await?;
        let block = core.get(index)?.ok_or("an answer without the block")?;
        println!("{index}: {}", String::from_utf8_lossy(&block));
    }
    Ok(())
}

/// Sends a request and applies the answer; an invalid one is an error.
async fn ask(channel: &Channel, core: &mut Core, request: Request) -> Result<(), Box<dyn Error>> {
    let id = request.id;
    channel.request(request).await?;
    loop {
        match channel.recv().await.ok_or("the channel was closed")? {
            Message::Data(data) if data.request == id => {
                core.verify_and_apply(&data)?;
                return Ok(());
            }
            Message::NoData(no_data) => return Err(format!("{no_data:?}").into()),
            _ => {}
        }
    }
}
