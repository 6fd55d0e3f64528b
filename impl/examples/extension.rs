//! Two peers talk over an extension of the whole stream. Either can be Node.
//!
//! ```text
//! cargo run --example extension -- listen 127.0.0.1:8000
//! cargo run --example extension -- dial 127.0.0.1:8000
//! ```
//!
//! In Node an extension of the stream is a protomux channel with one raw message:
//!
//! ```js
//! const mux = Protomux.from(new SecretStream(true, net.connect(8000)))
//! const channel = mux.createChannel({ protocol: 'example/lines', messages: [{ encoding: c.raw, onmessage: console.log }] })
//! channel.open()
//! channel.messages[0].send(Buffer.from('hello from Node\n'))
//! ```
//!
//! `Channel::register_extension` is the same on a core's channel, as Node's `core.registerExtension`.

use std::error::Error;

use hypercore_protocol::{Extension, ProtocolBuilder};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["listen", address] => {
            let listener = TcpListener::bind(address).await?;
            println!("listening on {}", listener.local_addr()?);
            let (socket, _) = listener.accept().await?;
            run(socket, false).await
        }
        ["dial", address] => run(TcpStream::connect(address).await?, true).await,
        _ => Err("usage: extension listen|dial ADDRESS".into()),
    }
}

async fn run(socket: TcpStream, is_initiator: bool) -> Result<(), Box<dyn Error>> {
    // Send small messages at once, rather than after earlier ones are acknowledged.
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(is_initiator).connect(socket);
    // It opens as soon as the other side registers the same name, in whichever order.
    let extension = protocol.register_extension("example/lines")?;
    protocol.drive(talk(extension, is_initiator)).await?;
    protocol.close().await?;
    Ok(())
}

async fn talk(extension: Extension, is_initiator: bool) -> std::io::Result<()> {
    // As a duplex stream of bytes: whatever speaks over AsyncRead and AsyncWrite can speak over it. `send` and `recv` of
    // the extension itself carry messages.
    let mut lines = BufReader::new(extension.into_io());
    let name = if is_initiator { "dialler" } else { "listener" };
    let greeting = format!("hello from the {name}\n");
    lines.write_all(greeting.as_bytes()).await?;
    lines.flush().await?;
    let mut answer = String::new();
    lines.read_line(&mut answer).await?;
    print!("{answer}");
    Ok(())
}
