//! A protocol of one's own over protomux: a handshake and two message types. Either side can be Node.
//!
//! ```text
//! cargo run --example custom_protocol -- serve 127.0.0.1:8000
//! cargo run --example custom_protocol -- ask 127.0.0.1:8000 20 21
//! ```
//!
//! The same server in Node:
//!
//! ```js
//! const mux = Protomux.from(new SecretStream(false, socket))
//! mux.pair({ protocol: 'example/double' }, (id) => {
//!   const channel = mux.createChannel({
//!     protocol: 'example/double',
//!     id,
//!     handshake: c.string,
//!     messages: [{ encoding: c.uint, onmessage: (n) => answer.send(2 * n) }, { encoding: c.uint }]
//!   })
//!   const answer = channel.messages[1]
//!   channel.open('doubles what it gets')
//! })
//! ```
//!
//! `examples/rpc` is a whole protocol of an npm package, protomux-rpc.

use std::error::Error;

use hypercore_protocol::encoding::{Decoder, Encoder};
use hypercore_protocol::{ChannelOptions, Event, MuxChannel, MuxMessage, ProtocolBuilder};
use tokio::net::{TcpListener, TcpStream};

const PROTOCOL: &str = "example/double";
/// The message types: the position of each in the list that both sides agree on.
const QUESTION: u64 = 0;
const ANSWER: u64 = 1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["serve", address] => {
            let listener = TcpListener::bind(address).await?;
            println!("listening on {}", listener.local_addr()?);
            let (socket, _) = listener.accept().await?;
            serve(socket).await
        }
        ["ask", address, numbers @ ..] => {
            let numbers: Result<Vec<u64>, _> = numbers.iter().map(|text| text.parse()).collect();
            ask(TcpStream::connect(address).await?, &numbers?).await
        }
        _ => Err("usage: custom_protocol serve ADDRESS | ask ADDRESS NUMBER ...".into()),
    }
}

async fn serve(socket: TcpStream) -> Result<(), Box<dyn Error>> {
    // Send small messages at once, rather than after earlier ones are acknowledged.
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(false).connect(socket);
    // Without this, channels of the protocol would be rejected.
    protocol.pair(PROTOCOL, None);
    while let Some(event) = protocol.next().await {
        if let Event::RemoteOpen(open) = event? {
            println!("the peer says: {}", text(&open.handshake)?);
            let handshake = bytes(|encoder| encoder.string("doubles what it gets", "about"))?;
            let channel = protocol.open_channel(open.options().handshake(handshake))?;
            tokio::spawn(async move {
                while let Some(message) = channel.recv().await {
                    if let Err(error) = answer(&channel, message).await {
                        eprintln!("{error}");
                    }
                }
            });
        }
    }
    Ok(())
}

async fn answer(
    channel: &MuxChannel,
    message: MuxMessage,
) -> Result<(), hypercore_protocol::Error> {
    if message.kind == QUESTION {
        if let Ok(number) = Decoder::new(&message.body).uint("number") {
            let doubled = bytes(|encoder| encoder.uint(2 * number, "number"))?;
            channel.send(ANSWER, doubled).await?;
        }
    }
    Ok(())
}

async fn ask(socket: TcpStream, numbers: &[u64]) -> Result<(), Box<dyn Error>> {
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(true).connect(socket);
    let handshake = bytes(|encoder| encoder.string("here are numbers", "about"))?;
    // The id tells channels of one protocol apart.
    let options = ChannelOptions::new(PROTOCOL).id("a").handshake(handshake);
    let channel = protocol.open_channel(options)?;
    let asked = async {
        // A channel can be sent on before the other side has opened it.
        for number in numbers {
            let number = bytes(|encoder| encoder.uint(*number, "number"))?;
            channel.send(QUESTION, number).await?;
        }
        let about = channel
            .opened()
            .await
            .map_err(|reason| format!("closed: {reason:?}"))?;
        println!("the peer says: {}", text(&about)?);
        for number in numbers {
            let message = channel.recv().await.ok_or("the channel was closed")?;
            let doubled = Decoder::new(&message.body).uint("number")?;
            println!("{number} doubled is {doubled}");
        }
        Ok::<_, Box<dyn Error>>(())
    };
    protocol.drive(asked).await?;
    protocol.close().await?;
    Ok(())
}

/// Compact encoding, which Node's protocols use.
fn bytes(
    write: impl FnOnce(&mut Encoder<'_>) -> Result<(), hypercore_protocol::EncodeError>,
) -> Result<Vec<u8>, hypercore_protocol::Error> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes))?;
    Ok(bytes)
}

fn text(handshake: &[u8]) -> Result<String, hypercore_protocol::DecodeError> {
    Decoder::new(handshake).string("about")
}
