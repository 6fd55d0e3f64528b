//! Times a whole core's way from one process to another. `examples-nodejs/bench/replication.js` compares this with Node.
//!
//! ```text
//! cargo run --release --features replication --example transfer -- serve BLOCKS BYTES [FILE]    a core of so many blocks of so many bytes
//! cargo run --release --features replication --example transfer -- read ADDRESS KEY BLOCKS [FILE]
//! ```
//!
//! Without a file for the core it is kept in memory. What is read into a file is in it when the time is taken.

use std::error::Error;
use std::time::Instant;

use hypercore_protocol::replication::{Core, CoreOptions, Disk, Memory, Replicator, Session};
use hypercore_protocol::{Key, ProtocolBuilder};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", count, size, ref file @ ..] if file.len() < 2 => {
            let core = open(file.first().copied(), CoreOptions::default())?;
            serve(core, count.parse()?, size.parse()?).await
        }
        ["read", address, key, count, ref file @ ..] if file.len() < 2 => {
            let key: Key = key.parse()?;
            let core = open(file.first().copied(), CoreOptions::reader(key))?;
            read(core, address, count.parse()?).await
        }
        _ => Err(
            "usage: transfer [serve BLOCKS BYTES [FILE] | read ADDRESS KEY BLOCKS [FILE]]".into(),
        ),
    }
}

fn open(file: Option<&str>, options: CoreOptions) -> Result<Replicator> {
    Ok(Replicator::new(match file {
        None => Core::open(Memory::new(), options)?,
        Some(file) => Core::open(Disk::open(file)?, options)?,
    }))
}

async fn serve(core: Replicator, count: usize, size: usize) -> Result<()> {
    core.append(&vec![vec![7; size]; count])?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let key: String = core
        .key()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("serving on {}, key {key}", listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let mut session = Session::new(ProtocolBuilder::new(false).connect(socket));
            session.add(&core)?;
            session.run().await?;
            session.close().await?;
        }
        #[allow(unreachable_code, reason = "it says what the errors are")]
        Result::Ok(())
    });
    // The parent process closes our stdin.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn read(core: Replicator, address: &str, count: u64) -> Result<()> {
    let started = Instant::now();
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
    session.add(&core)?;
    session.drive(core.download(..count)).await??;
    core.flush()?;
    println!("{} ms", started.elapsed().as_millis());
    session.close().await?;
    Ok(())
}
