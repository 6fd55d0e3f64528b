//! Serves a core over TCP to whoever knows its key, message by message. The peers can be Node, or `examples/client.rs`.
//! `examples/replication.rs` leaves the messages to a `Replicator`.
//!
//! ```text
//! cargo run --features replication --example server -- 127.0.0.1:8000 first second third
//! ```
//!
//! In Node:
//!
//! ```js
//! const core = new Hypercore('./a-copy', key)
//! core.replicate(new SecretStream(true, net.connect(8000)))
//! console.log(await core.get(0))
//! ```

use std::error::Error;
use std::sync::Arc;

use hypercore_protocol::replication::{Core, CoreOptions, Memory};
use hypercore_protocol::schema::{NoData, Sync};
use hypercore_protocol::{Channel, Event, KeyPair, Message, ProtocolBuilder};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, blocks @ ..] = &arguments[..] else {
        return Err("usage: server ADDRESS [BLOCK ...]".into());
    };
    let mut core = Core::open(Memory::new(), CoreOptions::writer(KeyPair::generate()))?;
    core.append(blocks)?;
    let core = Arc::new(core);

    let listener = TcpListener::bind(address).await?;
    println!("{} {:x}", listener.local_addr()?, core.key());
    loop {
        let (socket, peer) = listener.accept().await?;
        let core = Arc::clone(&core);
        // One peer's faults are its own.
        tokio::spawn(async move {
            if let Err(error) = connection(socket, core).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn connection(socket: TcpStream, core: Arc<Core>) -> Result<(), hypercore_protocol::Error> {
    // Without it the system keeps small messages back until earlier ones were acknowledged: some 40 ms for each answer.
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(false).connect(socket);
    // All work happens when the protocol is polled, so it has its own loop and each channel its own task.
    while let Some(event) = protocol.next().await {
        match event? {
            // A peer names a core by its discovery key, and proves to know the key when we open it too.
            Event::DiscoveryKey(wanted) if wanted == *core.discovery_key() => {
                protocol.open(*core.key())?;
            }
            Event::DiscoveryKey(other) => protocol.reject(&other),
            Event::Channel(channel) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    if let Err(error) = serve(channel, &core).await {
                        eprintln!("{error}");
                    }
                });
            }
            _ => {}
        }
    }
    protocol.close().await
}

async fn serve(
    channel: Channel,
    core: &Core,
) -> Result<(), Box<dyn Error + Send + std::marker::Sync>> {
    let mut ours = Sync {
        fork: core.fork(),
        length: core.length(),
        can_upgrade: true,
        uploading: true,
        has_manifest: !core.is_compat(),
        ..Sync::default()
    };
    channel.sync(ours).await?;
    channel.have(0, core.length()).await?;
    while let Some(message) = channel.recv().await {
        match message {
            // A peer asks for no more before it knows that we know its length.
            Message::Sync(theirs) if theirs.length != ours.remote_length => {
                ours.remote_length = theirs.length;
                channel.sync(ours).await?;
            }
            Message::Request(request) => match core.create_proof(&request)? {
                Some(data) => channel.data(data).await?,
                None => {
                    let no_data = NoData {
                        request: request.id,
                        reason: NoData::NOT_AVAILABLE,
                    };
                    channel.no_data(no_data).await?;
                }
            },
            _ => {}
        }
    }
    Ok(())
}
