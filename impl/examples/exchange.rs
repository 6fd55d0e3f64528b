//! Two peers open a channel with the same key over TCP and talk.
//!
//! `cargo run --example exchange` runs both in one process. With `-- listen 127.0.0.1:8000` and
//! `-- dial 127.0.0.1:8000` each runs in its own.

use std::error::Error;

use hypercore_protocol::schema::Want;
use hypercore_protocol::{Channel, Event, Key, Message, ProtocolBuilder};
use tokio::net::{TcpListener, TcpStream};

/// A core's key, which both peers know beforehand. Here any 32 bytes will do.
const KEY: Key = [3; 32];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let dialled = TcpStream::connect(listener.local_addr()?).await?;
            let (accepted, _) = listener.accept().await?;
            tokio::try_join!(run(dialled, true), run(accepted, false))?;
        }
        ["listen", address] => {
            let (socket, _) = TcpListener::bind(address).await?.accept().await?;
            run(socket, false).await?;
        }
        ["dial", address] => run(TcpStream::connect(address).await?, true).await?,
        _ => return Err("usage: exchange [listen ADDRESS | dial ADDRESS]".into()),
    }
    Ok(())
}

async fn run(socket: TcpStream, is_initiator: bool) -> Result<(), hypercore_protocol::Error> {
    let name = if is_initiator { "dialer" } else { "listener" };
    let mut protocol = ProtocolBuilder::new(is_initiator).connect(socket);
    // Polling the protocol is what moves everything, so it has its own loop and the channel its own task.
    while let Some(event) = protocol.next().await {
        match event? {
            Event::Handshake(_) => {
                println!("{name}: the handshake is complete");
                protocol.open(KEY).await?;
            }
            Event::Channel(channel) => {
                println!("{name}: the channel is open on both sides");
                tokio::spawn(talk(channel, name, is_initiator));
            }
            // Both sides let go of the channel: nothing is left to be said.
            Event::Close { .. } => break,
            _ => {}
        }
    }
    protocol.close().await
}

async fn talk(channel: Channel, name: &'static str, asks: bool) {
    if asks {
        let want = Want {
            start: 0,
            length: 4,
            any: false,
        };
        if let Err(error) = channel.want(want).await {
            eprintln!("{name}: {error}");
        }
    }
    while let Some(message) = channel.recv().await {
        println!("{name}: received {message:?}");
        match message {
            Message::Want(want) => {
                if let Err(error) = channel.have(want.start, 2).await {
                    eprintln!("{name}: {error}");
                }
            }
            // That was the answer. Dropping the last handle closes the channel.
            _ => break,
        }
    }
}
