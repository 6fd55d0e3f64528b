//! Reads one block from a hypercore that a Node peer, or any other, serves over TCP.
//!
//! ```text
//! cargo run --example read_block -- 127.0.0.1:8000 <key in hex> [block]
//! ```
//!
//! In Node: `net.createServer((socket) => { const s = core.replicate(false); socket.pipe(s).pipe(socket) }).listen(8000)`.
//! The block's proof is not verified here.

use std::error::Error;

use hypercore_protocol::schema::{Request, RequestBlock, Sync};
use hypercore_protocol::{Channel, Event, Key, Message, ProtocolBuilder};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: read_block ADDRESS KEY [BLOCK]";
    let address = arguments.next().ok_or(usage)?;
    let key = parse_key(&arguments.next().ok_or(usage)?).ok_or(usage)?;
    let index = arguments.next().map_or(Ok(0), |index| index.parse())?;

    let socket = TcpStream::connect(address).await?;
    let mut protocol = ProtocolBuilder::new(true).connect(socket);
    protocol.open(key).await?;
    while let Some(event) = protocol.next().await {
        match event? {
            Event::Channel(channel) => {
                let block = protocol.drive(read(channel, index)).await?;
                println!("{}", String::from_utf8_lossy(&block));
                protocol.close().await?;
                return Ok(());
            }
            Event::Close { reason, .. } => return Err(format!("closed: {reason:?}").into()),
            _ => {}
        }
    }
    Err("the stream ended".into())
}

async fn read(channel: Channel, index: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    // A peer that does not download may be let go.
    let sync = Sync {
        downloading: true,
        ..Sync::default()
    };
    let request = Request {
        id: 1,
        block: Some(RequestBlock { index, nodes: 0 }),
        ..Request::default()
    };
    channel.send_batch(&[sync.into(), request.into()]).await?;
    while let Some(message) = channel.recv().await {
        match message {
            Message::Data(data) if data.request == 1 => {
                let block = data.block.ok_or("an answer without a block")?;
                return Ok(block.value.to_vec());
            }
            Message::NoData(_) => return Err("the peer does not have that block".into()),
            other => eprintln!("{other:?}"),
        }
    }
    Err("the channel was closed".into())
}

fn parse_key(text: &str) -> Option<Key> {
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}
