//! Calls and answers over protomux-rpc: a custom protocol on a channel of its own. The other side can be this program, or
//! Node with the npm package protomux-rpc.
//!
//! ```text
//! cargo run --example rpc -- listen 127.0.0.1:8000
//! cargo run --example rpc -- call 127.0.0.1:8000 shout "good morning"
//! cargo run --example rpc -- tell 127.0.0.1:8000 shout "good morning"
//! ```
//!
//! A server in Node that both can be tried with:
//!
//! ```js
//! const net = require('net')
//! const SecretStream = require('@hyperswarm/secret-stream')
//! const RPC = require('protomux-rpc')
//! net.createServer((socket) => {
//!   const rpc = new RPC(new SecretStream(false, socket))
//!   rpc.respond('shout', (value) => Buffer.from(value.toString().toUpperCase()))
//! }).listen(8000)
//! ```

mod rpc;

use std::error::Error;

use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::{Protocol, ProtocolBuilder};
use rpc::{Cause, Methods, Rpc, from_optional, optional};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["listen", address] => listen(address).await,
        ["call", address, method, value] => call(address, method, value).await,
        ["tell", address, method, value] => tell(address, method, value).await,
        _ => Err("usage: rpc listen ADDRESS | rpc call|tell ADDRESS METHOD VALUE".into()),
    }
}

async fn listen(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(socket).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn serve(socket: TcpStream) -> Result<(), hypercore_protocol::Error> {
    // Send small messages at once, rather than after earlier ones are acknowledged.
    socket.set_nodelay(true)?;
    let mut protocol = ProtocolBuilder::new(false).connect(socket);
    let methods = Methods::default().on("shout", |value| async move {
        let value = from_optional(&value).map_err(|error| Cause {
            message: error.to_string(),
            ..Cause::default()
        })?;
        let text = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).to_uppercase();
        Ok(optional(Some(text.as_bytes())))
    });
    // It may be used at once, and opens when the other side opens it too.
    let rpc = Rpc::new(protocol.open_channel(rpc::options())?, methods);
    tokio::spawn(rpc.run());
    while let Some(event) = protocol.next().await {
        event?;
    }
    Ok(())
}

/// Calls a method and shows its answer.
async fn call(address: &str, method: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let mut protocol = connect(address).await?;
    let rpc = open(&mut protocol)?;
    let request = rpc.request(method, optional(Some(value.as_bytes())));
    let answer = from_optional(&protocol.drive(request).await?)?.unwrap_or_default();
    println!("{}", String::from_utf8_lossy(&answer));
    rpc.channel().close();
    Ok(protocol.close().await?)
}

/// Calls a method that gives no answer.
async fn tell(address: &str, method: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let mut protocol = connect(address).await?;
    let rpc = open(&mut protocol)?;
    let event = rpc.event(method, optional(Some(value.as_bytes())));
    protocol.drive(event).await?;
    // Accepted messages are sent before the end.
    Ok(protocol.close().await?)
}

async fn connect(address: &str) -> Result<Protocol<Tokio<TcpStream>>, Box<dyn Error>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(ProtocolBuilder::new(true).connect(socket))
}

fn open(protocol: &mut Protocol<Tokio<TcpStream>>) -> Result<Rpc, hypercore_protocol::Error> {
    let rpc = Rpc::new(protocol.open_channel(rpc::options())?, Methods::default());
    tokio::spawn(rpc.clone().run());
    Ok(rpc)
}
