//! A process that knows a core's key and dials the one under test again and again, to do harm.

use std::time::Duration;

use hypercore_protocol::schema::{
    Data, DataBlock, Extension, NoData, Range, Request, RequestBlock, Sync, Want,
};
use hypercore_protocol::{Channel, Event, Key, Message, ProtocolBuilder};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{Failure, Random};

/// How long one connection may go on.
const LONGEST: Duration = Duration::from_secs(12);

/// Connections at once.
const AT_ONCE: u64 = 4;

/// Messages that a flood sends on one connection.
const FLOOD: u64 = 40_000;

pub(crate) async fn run(port: u16, key: Key, seed: u64) {
    for at in 0..AT_ONCE {
        let mut random = Random::new(seed, at);
        tokio::spawn(async move {
            loop {
                let kind = random.below(12);
                // Whatever ends it, the next one comes.
                let _ = timeout(LONGEST, attack(port, key, kind, &mut random)).await;
                sleep(Duration::from_millis(random.below(500))).await;
            }
        });
    }
    // Until the one that started it closes our standard input.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

async fn attack(port: u16, key: Key, kind: u64, random: &mut Random) -> Result<(), Failure> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    match kind {
        0 => {
            sleep(LONGEST).await;
            return Ok(());
        }
        1 => {
            socket.write_all(&random.bytes(4000)).await?;
            sleep(LONGEST).await;
            return Ok(());
        }
        _ => {}
    }
    let mut protocol = ProtocolBuilder::new(true).connect(socket);
    if kind != 2 {
        protocol.open(key).await?;
    }
    let mut opened = None;
    while let Some(event) = protocol.next().await {
        if let Event::Channel(channel) = event? {
            opened = Some(channel);
            break;
        }
    }
    let Some(channel) = opened else { return Ok(()) };
    if kind == 3 {
        // A storm of closes and opens.
        for _ in 0..2000 {
            protocol.close_channel(channel.id()).await?;
            protocol.open(key).await?;
            let next = timeout(Duration::from_millis(5), protocol.next()).await;
            if let Ok(Some(event)) = next {
                event?;
            }
        }
        return Ok(());
    }
    protocol.drive(on_channel(channel, kind, random)).await
}

async fn on_channel(channel: Channel, kind: u64, random: &mut Random) -> Result<(), Failure> {
    let mut sync = Sync {
        length: 200,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        ..Sync::default()
    };
    match kind {
        4 => sync.length = 1 << 50,
        5 => sync.fork = 1 << 40,
        _ => {}
    }
    channel.sync(sync).await?;
    channel.have(0, sync.length).await?;
    if kind >= 8 {
        // Nothing is read.
        for at in 0..FLOOD {
            let message: Message = match kind {
                8 => Want {
                    start: 0,
                    length: 1_000_000 + at,
                    any: false,
                }
                .into(),
                9 => Request {
                    id: at + 1,
                    block: Some(RequestBlock {
                        index: random.below(200),
                        nodes: 0,
                    }),
                    ..Request::default()
                }
                .into(),
                10 => Extension {
                    name: "x".repeat(2000).into(),
                    message: Vec::new().into(),
                }
                .into(),
                _ => Range {
                    drop: at % 2 == 0,
                    start: random.below(100),
                    length: random.below(1 << 30),
                }
                .into(),
            };
            channel.send(message).await?;
        }
        sleep(LONGEST).await;
        return Ok(());
    }
    while let Some(message) = channel.recv().await {
        let Message::Request(request) = message else {
            continue;
        };
        match kind {
            6 => {
                channel
                    .no_data(NoData {
                        request: request.id,
                        reason: NoData::NOT_AVAILABLE,
                    })
                    .await?;
                channel.have(0, 200).await?;
                channel.sync(sync).await?;
            }
            7 => {
                let block = request.block.map(|block| DataBlock {
                    index: block.index,
                    value: random.bytes(100).into(),
                    nodes: Vec::new(),
                });
                channel
                    .data(Data {
                        request: request.id,
                        fork: request.fork,
                        block,
                        ..Data::default()
                    })
                    .await?;
            }
            // Taken, and never answered.
            _ => {}
        }
    }
    Ok(())
}
