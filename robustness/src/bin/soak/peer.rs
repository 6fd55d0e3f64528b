//! A process of ours that dials the one under test, writes a core and reads the others, controlled by lines of JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hypercore_protocol::replication::{Core, CoreOptions, Disk, Replicator, Session};
use hypercore_protocol::{KeyPair, ProtocolBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::{Failure, hex, unhex};

type Cores = BTreeMap<String, Replicator>;

/// The cores of a peer, in files of a folder.
pub(crate) fn open(folder: &Path, cores: &Value) -> Result<Cores, Failure> {
    let mut opened = Cores::new();
    for core in cores.as_array().into_iter().flatten() {
        let name = core["name"].as_str().unwrap_or_default().to_owned();
        let bytes = |field: &str| <[u8; 32]>::try_from(unhex(&core[field])).ok();
        let options = match (bytes("key"), bytes("seed")) {
            (Some(key), _) => CoreOptions::reader(key),
            (_, Some(seed)) => CoreOptions::writer(KeyPair::from_seed(&seed)),
            _ => return Err("a core needs a key or a seed".into()),
        };
        let core = Core::open(Disk::open(folder.join(&name))?, options)?;
        opened.insert(name, Replicator::new(core));
    }
    Ok(opened)
}

/// Performs one operation on a core.
pub(crate) async fn operate(core: &Replicator, op: &str, input: &Value) -> Result<Value, Failure> {
    let number = |field: &str| input[field].as_u64().unwrap_or_default();
    let state = || Ok(json!({ "length": core.length(), "fork": core.with_core(Core::fork) }));
    match op {
        "append" => {
            let blocks = input["blocks"].as_array().into_iter().flatten();
            core.append(&blocks.map(unhex).collect::<Vec<_>>())?;
            state()
        }
        "truncate" => {
            core.truncate(number("length"), None)?;
            state()
        }
        "clear" => {
            core.clear(number("start")..number("end"))?;
            Ok(Value::Null)
        }
        "get" => Ok(hex(&core.get(number("index")).await?).into()),
        "download" => {
            core.download(number("start")..number("end")).await?;
            Ok(Value::Null)
        }
        "seek" => {
            let (block, offset) = core.seek(number("bytes")).await?;
            Ok(json!([block, offset]))
        }
        "state" => state(),
        _ => Err(format!("no such operation: {op}").into()),
    }
}

/// The process: dials, and dials again whenever the connection is lost.
pub(crate) async fn run(options: &Value) -> Result<(), Failure> {
    let folder = Path::new(options["folder"].as_str().unwrap_or_default());
    let cores = Arc::new(open(folder, &options["cores"])?);
    let keys = cores
        .iter()
        .map(|(name, core)| (name.clone(), hex(&core.key()).into()));
    println!(
        "{}",
        json!({ "id": 0, "ok": keys.collect::<serde_json::Map<_, _>>() })
    );
    let port = u16::try_from(options["port"].as_u64().unwrap_or_default())?;
    let reconnect = Arc::new(Notify::new());
    tokio::spawn(keep_connected(
        port,
        Arc::clone(&cores),
        Arc::clone(&reconnect),
    ));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        let (cores, reconnect) = (Arc::clone(&cores), Arc::clone(&reconnect));
        tokio::spawn(async move {
            let op = request["op"].as_str().unwrap_or_default();
            let core = cores.get(request["core"].as_str().unwrap_or_default());
            let answer = match (op, core) {
                ("reconnect", _) => {
                    reconnect.notify_one();
                    Ok(Value::Null)
                }
                ("extension", _) => Ok(Value::Null),
                (_, Some(core)) => operate(core, op, &request["input"]).await,
                _ => Err("no such core".into()),
            };
            let id = &request["id"];
            match answer {
                Ok(ok) => println!("{}", json!({ "id": id, "ok": ok })),
                Err(error) => println!("{}", json!({ "id": id, "error": error.to_string() })),
            }
        });
    }
    Ok(())
}

async fn keep_connected(port: u16, cores: Arc<Cores>, reconnect: Arc<Notify>) {
    loop {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", port)).await {
            // Otherwise each answer waits for the acknowledgement of the one before.
            let _ = socket.set_nodelay(true);
            let builder = ProtocolBuilder::new(true).idle_timeout(Some(Duration::from_secs(20)));
            let mut session = Session::new(builder.connect(socket));
            let run = async {
                for core in cores.values() {
                    session.add(core)?;
                }
                session.run().await?;
                Ok::<_, Failure>(())
            };
            tokio::select! {
                // However it ended, dial again.
                _ = run => {}
                () = reconnect.notified() => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
