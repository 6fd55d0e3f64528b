//! A core of four blocks moves from one peer to another.
//!
//! ```text
//! cargo run --features replication --example replication                        both in one process
//! cargo run --features replication --example replication -- serve               a new core, until stdin ends
//! cargo run --features replication --example replication -- read ADDRESS KEY    prints the core's blocks
//! ```
//!
//! Either peer can as well be Node: `node examples-nodejs/run.js nodeServer` and `rustServer` show that.

use std::error::Error;
use std::time::Duration;

use hypercore_protocol::replication::{Core, CoreOptions, Memory, Replicator, Session};
use hypercore_protocol::{Key, ProtocolBuilder};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What is waited for is near. Elsewhere there may be nothing that a reader could wait for.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            let core = new_core()?;
            let key = core.key();
            tokio::spawn(serve(listener, core));
            read(&address, key).await
        }
        ["serve"] => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let core = new_core()?;
            println!(
                "serving on {}, key {:x}",
                listener.local_addr()?,
                core.key()
            );
            tokio::spawn(serve(listener, core));
            // The parent process closes our stdin, or kills us.
            tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
            Ok(())
        }
        ["read", address, key] => read(address, key.parse()?).await,
        _ => Err("usage: replication [serve | read ADDRESS KEY]".into()),
    }
}

/// A core that is ours to write: a new key pair signs it, and its key says so. The blocks live in memory here; a store
/// on disk keeps them, and the key pair, for the next time.
fn new_core() -> Result<Replicator> {
    let core = Core::open(Memory::new(), CoreOptions::default())?;
    let core = Replicator::new(core);
    core.append(&["hi", "ola", "hello", "mundo"])?;
    Ok(core)
}

/// Serves the core to any peer that connects and knows its key.
async fn serve(listener: TcpListener, core: Replicator) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        let core = core.clone();
        tokio::spawn(async move {
            // Without it the system keeps small messages back until earlier ones were acknowledged: some 40 ms for each
            // answer.
            socket.set_nodelay(true)?;
            // Who listens is not the initiator. A session is what replicates cores, any number of them, on one stream.
            let protocol = ProtocolBuilder::new(false).connect(socket);
            let mut session = Session::new(protocol);
            session.add(&core)?;
            // From here on peers' requests are answered, until the remote ends the stream.
            let ended = session.run().await;
            // What is left to be said is said, whatever the reason was.
            session.close().await?;
            Result::Ok(ended?)
        });
    }
}

/// Reads all blocks of a core that a peer serves.
async fn read(address: &str, key: Key) -> Result<()> {
    let reading = async {
        // Of a core that is not ours the key is all that is needed: everything that peers send is proven by it.
        let core = Core::open(Memory::new(), CoreOptions::reader(key))?;
        let core = Replicator::new(core);

        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
        session.add(&core)?;

        // The session must run for anything to happen; here it does while we read.
        let blocks = session.drive(read_blocks(&core)).await??;
        for (index, block) in blocks.iter().enumerate() {
            println!("{index}: {block}");
        }
        session.close().await?;
        Result::Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await?
}

async fn read_blocks(core: &Replicator) -> Result<Vec<String>> {
    // What the peer says of its core has to arrive first, and is proven: `update` tells whether there was anything new.
    if !core.update().await? {
        return Err("the peer does not have the core, or it is empty".into());
    }
    // All blocks are asked for at once. They could as well be asked for one by one, by `core.get(index).await`.
    let length = core.length();
    core.download(..length).await?;
    let mut blocks = Vec::new();
    for index in 0..length {
        let block = core.get(index).await?;
        blocks.push(String::from_utf8_lossy(&block).into_owned());
    }
    Ok(blocks)
}
