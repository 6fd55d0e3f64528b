//! A soak over real sockets: see `.ci/soak`.
//!
//! This process holds three cores and is under test. A Node process and one of ours dial it; each of the three writes
//! one core and reads the others, through this process. Another process attacks it throughout. A seed determines
//! operations and faults; a model has the expected state of each core. At the end all three must hold all of every
//! core, and this process must not have grown.

mod child;
mod hostile;
mod peer;
mod samples;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hypercore_protocol::ProtocolBuilder;
use hypercore_protocol::replication::{Replicator, Session};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use child::Peer;
use samples::Samples;

/// The error that ends the soak.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The maximum length of a core; longer ones are truncated.
const MAX_BLOCKS: usize = 300;

/// The time-out of operations that need other peers, which may be stopped or down meanwhile.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often Node may exit by itself.
const MAX_ENDED: u64 = 5;

/// The interval of memory and descriptor samples.
const SAMPLE: Duration = Duration::from_secs(2);

/// The writers of the cores, by the cores' names.
const CORES: [&str; 3] = ["ours", "node", "rust"];

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, stream).hash(&mut hasher);
        Self(hasher.finish() | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit.max(1)
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("it is below a usize")
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| self.below(256).to_le_bytes()[0])
            .collect()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    let digits = text.as_bytes().chunks(2);
    let digits = digits.filter_map(|pair| std::str::from_utf8(pair).ok());
    digits
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect()
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["--peer", options] => match serde_json::from_str(options) {
            Ok(options) => peer::run(&options).await,
            Err(error) => Err(error.into()),
        },
        ["--hostile", port, keys, seed] => attack(port, keys, seed).await,
        [minutes] => soak(minutes, "").await,
        [minutes, seed] => soak(minutes, seed).await,
        _ => Err("usage: soak MINUTES [SEED]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn attack(port: &str, keys: &str, seed: &str) -> Result<(), Failure> {
    let keys = keys.split(',').map(|key| unhex(&key.into()).try_into());
    let keys = keys
        .collect::<Result<_, _>>()
        .map_err(|_| "a key has 32 bytes")?;
    hostile::run(port.parse()?, keys, seed.parse()?).await;
    Ok(())
}

async fn soak(minutes: &str, seed: &str) -> Result<(), Failure> {
    let minutes: f64 = minutes.parse()?;
    let seed = match seed {
        "" => std::time::UNIX_EPOCH.elapsed()?.as_secs(),
        seed => seed.parse()?,
    };
    println!("soak of {minutes} minutes, seed {seed}");
    let folder = std::env::temp_dir().join(format!("hypercore-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = Soak::run(minutes, seed, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome.map_err(|error| {
        format!("{error}\nThe operations of this run come again with: .ci/soak {minutes} {seed}")
            .into()
    })
}

/// The expected state of a core.
#[derive(Default)]
struct Model {
    /// Digests of its blocks, and their sizes.
    blocks: Vec<(u64, u64)>,
    fork: u64,
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Faults for a connection of this process.
#[derive(Default)]
struct Grip {
    /// Resets it.
    reset: Notify,
    /// Closes the channel of a core, and opens it again.
    reopen: Notify,
}

type Grips = Arc<Mutex<Vec<std::sync::Weak<Grip>>>>;

struct Soak {
    random: Random,
    folder: PathBuf,
    port: u16,
    ours: BTreeMap<String, Replicator>,
    keys: BTreeMap<String, String>,
    models: BTreeMap<String, Model>,
    peers: BTreeMap<String, Peer>,
    grips: Grips,
    done: BTreeMap<String, u64>,
    log: Vec<String>,
}

impl Soak {
    async fn run(minutes: f64, seed: u64, folder: &Path) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut soak = Self {
            random: Random::new(seed, 0),
            folder: folder.to_owned(),
            port,
            ours: BTreeMap::new(),
            keys: BTreeMap::new(),
            models: CORES
                .iter()
                .map(|name| ((*name).to_owned(), Model::default()))
                .collect(),
            peers: BTreeMap::new(),
            grips: Grips::default(),
            done: BTreeMap::new(),
            log: Vec::new(),
        };
        soak.open().await?;
        let cores = soak.ours.values().cloned().collect::<Vec<_>>();
        // Other readers fetch through this process.
        for core in &cores {
            let everything = core.download_all();
            tokio::spawn(async move { everything.await.map_err(|error| eprintln!("{error}")) });
        }
        tokio::spawn(accept(listener, cores, Arc::clone(&soak.grips)));
        let keys = CORES.map(|name| soak.keys[name].as_str()).join(",");
        let hostile = ["--hostile", &port.to_string(), &keys, &seed.to_string()].map(str::to_owned);
        let hostile = tokio::process::Command::new(std::env::current_exe()?)
            .args(hostile)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;

        let started = Instant::now();
        let length = Duration::from_secs_f64(minutes * 60.0);
        let mut samples = Samples::new();
        let mut next_sample = Duration::ZERO;
        while started.elapsed() < length {
            if started.elapsed() >= next_sample {
                samples.take()?;
                next_sample = started.elapsed() + SAMPLE;
            }
            if let Err(error) = soak.step().await {
                samples.take()?;
                soak.report(&samples, started.elapsed());
                let last = soak.log.len().saturating_sub(20);
                return Err(format!("{error}\n{}", soak.log[last..].join("\n")).into());
            }
        }
        // The final comparison runs without attackers, whose connections end with their process. The wait closes their
        // standard input.
        let attacked = timeout(PATIENCE, hostile.wait_with_output()).await??;
        soak.compare().await?;
        samples.take()?;
        soak.report(&samples, started.elapsed());
        let mut failures = samples.failures();
        failures.extend(without_attack(&attacked.stdout));
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; ").into())
        }
    }

    fn report(&self, samples: &Samples, time: Duration) {
        let total: u64 = self.done.values().sum();
        println!(
            "{total} operations and faults in {:.1} minutes: {:?}",
            time.as_secs_f64() / 60.0,
            self.done
        );
        let part = |part: usize| samples.taken[(samples.taken.len() - 1) * part / 4];
        for sample in [part(0), part(1), part(2), part(3), part(4)] {
            println!(
                "after {:4.0} s: {:6.1} MiB resident, {} descriptors",
                sample.at.as_secs_f64(),
                sample.memory as f64 / f64::from(1 << 20),
                sample.descriptors
            );
        }
        println!(
            "slope after the warm-up: {:.1} KiB a minute",
            samples.slope() / 1024.0
        );
    }

    /// Opens all cores: each is made by its writer, and then shared with all by its key.
    async fn open(&mut self) -> Result<(), Failure> {
        for name in CORES {
            self.keys.insert(name.to_owned(), String::new());
        }
        for name in ["node", "rust"] {
            // First alone, to learn its key.
            let (peer, keys) = self.start(name, true).await?;
            peer.kill().await?;
            let key = keys[name].as_str().ok_or("no key")?.to_owned();
            self.keys.insert(name.to_owned(), key);
        }
        let mut cores = vec![json!({ "name": "ours", "seed": hex(&[7; 32]) })];
        for name in ["node", "rust"] {
            cores.push(json!({ "name": name, "key": self.keys[name] }));
        }
        let own = self.folder.join("own");
        std::fs::create_dir_all(&own)?;
        self.ours = peer::open(&own, &cores.into())?;
        self.keys
            .insert("ours".to_owned(), hex(&self.ours["ours"].key()));
        for name in ["node", "rust"] {
            let (peer, _) = self.start(name, false).await?;
            self.peers.insert(name.to_owned(), peer);
        }
        Ok(())
    }

    async fn start(&self, name: &str, alone: bool) -> Result<(Peer, Value), Failure> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let seed = if name == "node" { [8; 32] } else { [9; 32] };
        let cores = CORES
            .iter()
            .filter(|core| !alone || **core == name)
            .map(|core| {
                if *core == name {
                    json!({ "name": core, "seed": hex(&seed) })
                } else {
                    json!({ "name": core, "key": self.keys[*core] })
                }
            });
        let cores = cores.collect::<Vec<_>>();
        // Alone it dials nobody: port 9 discards at best.
        let port = if alone { 9 } else { self.port };
        let options = json!({ "folder": folder, "port": port, "cores": cores }).to_string();
        if name == "node" {
            let script =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples-nodejs/soak-peer.js");
            Peer::start(Path::new("node"), &[script.display().to_string(), options]).await
        } else {
            Peer::start(&std::env::current_exe()?, &["--peer".to_owned(), options]).await
        }
    }

    fn note(&mut self, what: &str, more: String) {
        *self.done.entry(what.to_owned()).or_default() += 1;
        if self.log.len() == 2000 {
            self.log.drain(..1000);
        }
        self.log.push(format!("{what} {more}"));
    }

    /// One operation or fault.
    async fn step(&mut self) -> Result<(), Failure> {
        if let Some(how) = self.peers.get_mut("rust").and_then(Peer::ended) {
            return Err(format!("our process ended: {how}").into());
        }
        if let Some(how) = self.peers.get_mut("node").and_then(Peer::ended) {
            // Tolerated in Node, if rare.
            println!("Node ended by itself: {how}");
            self.note("ended", format!("node: {how}"));
            if self.done["ended"] > MAX_ENDED {
                return Err("Node ended by itself too often".into());
            }
            let (peer, _) = self.start("node", false).await?;
            self.peers.insert("node".to_owned(), peer);
        }
        let core = CORES[self.random.index(3)];
        let reader = CORES[self.random.index(3)];
        let length = self.models[core].blocks.len();
        match self.random.below(100) {
            0..=24 => self.append(core).await?,
            25..=59 if length > 0 => self.get(core, reader).await?,
            60..=66 if length > 0 => self.seek(core, reader).await?,
            67..=71 if length > 0 => self.download(core, reader).await?,
            72..=76 if length > 0 && reader != core => {
                let start = self.random.index(length);
                let end = (start + 1 + self.random.index(8)).min(length);
                self.note("clear", format!("{core} {start}..{end} at {reader}"));
                self.follow(core, reader).await?;
                let input = json!({ "start": start, "end": end });
                self.operate(reader, "clear", core, input).await?;
            }
            77..=79 if length > 2 => self.truncate(core).await?,
            80..=84 => {
                let bytes = self.random.index(2000);
                let message = hex(&self.random.bytes(bytes));
                self.note("extension", String::new());
                self.operate("node", "extension", core, json!({ "message": message }))
                    .await?;
            }
            85..=89 => {
                let name = CORES[1 + self.random.index(2)];
                self.note("reconnect", name.to_owned());
                self.operate(name, "reconnect", core, Value::Null).await?;
            }
            90..=93 => {
                self.note("reset", String::new());
                self.grip(|grip| grip.reset.notify_one());
            }
            94..=95 => {
                self.note("reopen", String::new());
                self.grip(|grip| grip.reopen.notify_one());
            }
            96..=97 => {
                let name = CORES[1 + self.random.index(2)];
                let stop = self.random.below(2000);
                self.note("stop", format!("{name} for {stop} ms"));
                self.peers[name].signal("STOP").await?;
                sleep(Duration::from_millis(stop)).await;
                self.peers[name].signal("CONT").await?;
            }
            98 => self.kill().await?,
            _ => sleep(Duration::from_millis(self.random.below(200))).await,
        }
        Ok(())
    }

    fn grip(&mut self, act: impl Fn(&Grip)) {
        let mut grips = self.grips.lock().expect("sound");
        grips.retain(|grip| grip.strong_count() > 0);
        let count = grips.len();
        if count > 0
            && let Some(grip) = grips[self.random.index(count)].upgrade()
        {
            act(&grip);
        }
    }

    /// Runs an operation at a peer, and waits for it.
    async fn operate(
        &mut self,
        at: &str,
        op: &str,
        core: &str,
        input: Value,
    ) -> Result<Value, Failure> {
        let done = async {
            match self.peers.get_mut(at) {
                Some(peer) => peer.ask(op, core, input).await?.await,
                None => peer::operate(&self.ours[core], op, &input).await,
            }
        };
        let done = timeout(PATIENCE, done).await;
        let done = done.map_err(|_| Failure::from(format!("no answer in {PATIENCE:?}")));
        done.and_then(|done| done)
            .map_err(|error| format!("{op} of core {core} at {at}: {error}").into())
    }

    async fn append(&mut self, core: &str) -> Result<(), Failure> {
        let count = 1 + self.random.index(6);
        let blocks: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let size = self.random.index(1500);
                self.random.bytes(size)
            })
            .collect();
        self.note("append", format!("{core} {count}"));
        let input = json!({ "blocks": blocks.iter().map(|it| hex(it)).collect::<Vec<_>>() });
        let state = self.operate(core, "append", core, input).await?;
        self.appended(core, &blocks);
        self.expect(core, &state)?;
        if self.models[core].blocks.len() > MAX_BLOCKS {
            self.truncate(core).await?;
        }
        Ok(())
    }

    fn appended(&mut self, core: &str, blocks: &[Vec<u8>]) {
        let model = self.models.get_mut(core).expect("a core");
        let blocks = blocks
            .iter()
            .map(|block| (digest(block), block.len() as u64));
        model.blocks.extend(blocks);
    }

    fn expect(&self, core: &str, state: &Value) -> Result<(), Failure> {
        let model = &self.models[core];
        let expected = json!({ "length": model.blocks.len(), "fork": model.fork });
        if *state != expected {
            return Err(format!("core {core} of its writer: {state}, not {expected}").into());
        }
        Ok(())
    }

    async fn truncate(&mut self, core: &str) -> Result<(), Failure> {
        let length = self.models[core].blocks.len();
        let length = 1 + self.random.index(length - 1);
        self.note("truncate", format!("{core} to {length}"));
        // A reader finds the start of the new fork only by blocks that its peer holds.
        let everything = json!({ "start": 0, "end": self.models[core].blocks.len() });
        self.follow(core, "ours").await?;
        self.operate("ours", "download", core, everything).await?;
        let state = self
            .operate(core, "truncate", core, json!({ "length": length }))
            .await?;
        let model = self.models.get_mut(core).expect("a core");
        model.blocks.truncate(length);
        model.fork += 1;
        self.expect(core, &state)
    }

    /// Waits until a reader has caught up with the writer.
    async fn follow(&mut self, core: &str, reader: &str) -> Result<(), Failure> {
        let model = &self.models[core];
        let expected = json!({ "length": model.blocks.len(), "fork": model.fork });
        let started = Instant::now();
        loop {
            let state = self.operate(reader, "state", core, Value::Null).await?;
            if state == expected {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(
                    format!("core {core} at {reader} stays at {state}, not {expected}").into(),
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn get(&mut self, core: &str, reader: &str) -> Result<(), Failure> {
        let block = self.random.index(self.models[core].blocks.len());
        self.note("get", format!("{core} {block} at {reader}"));
        self.follow(core, reader).await?;
        self.check_block(core, reader, block).await
    }

    async fn check_block(&mut self, core: &str, reader: &str, block: usize) -> Result<(), Failure> {
        let got = self
            .operate(reader, "get", core, json!({ "index": block }))
            .await?;
        if digest(&unhex(&got)) != self.models[core].blocks[block].0 {
            return Err(format!("block {block} of core {core} is wrong at {reader}").into());
        }
        Ok(())
    }

    async fn seek(&mut self, core: &str, reader: &str) -> Result<(), Failure> {
        let sizes: Vec<u64> = self.models[core]
            .blocks
            .iter()
            .map(|(_, size)| *size)
            .collect();
        let total: u64 = sizes.iter().sum();
        if total == 0 {
            return Ok(());
        }
        let bytes = 1 + self.random.below(total - 1);
        self.note("seek", format!("{core} {bytes} at {reader}"));
        self.follow(core, reader).await?;
        let found = self
            .operate(reader, "seek", core, json!({ "bytes": bytes }))
            .await?;
        let block = found[0].as_u64().unwrap_or(u64::MAX);
        let before = sizes.iter().take(usize::try_from(block)?).sum::<u64>();
        let offset = bytes.checked_sub(before).ok_or("a seek went too far")?;
        let size = sizes.get(usize::try_from(block)?).copied();
        if found[1] != offset || size.is_none_or(|size| offset > size) {
            return Err(format!("byte {bytes} of core {core} is not at {found}").into());
        }
        Ok(())
    }

    async fn download(&mut self, core: &str, reader: &str) -> Result<(), Failure> {
        let length = self.models[core].blocks.len();
        let start = self.random.index(length);
        let end = (start + 1 + self.random.index(40)).min(length);
        self.note("download", format!("{core} {start}..{end} at {reader}"));
        self.follow(core, reader).await?;
        let input = json!({ "start": start, "end": end });
        self.operate(reader, "download", core, input).await?;
        Ok(())
    }

    /// Kills a process, sometimes during an append, and restarts it.
    async fn kill(&mut self) -> Result<(), Failure> {
        let name = CORES[1 + self.random.index(2)];
        self.note("kill -9", name.to_owned());
        let mut peer = self.peers.remove(name).expect("a peer");
        let size = self.random.index(500);
        let block = self.random.bytes(size);
        let amid = self.random.below(2) == 0;
        if amid {
            let asked = peer
                .ask("append", name, json!({ "blocks": [hex(&block)] }))
                .await?;
            sleep(Duration::from_micros(self.random.below(3000))).await;
            drop(asked);
        }
        peer.kill().await?;
        let (peer, _) = self.start(name, false).await?;
        self.peers.insert(name.to_owned(), peer);
        let state = self.operate(name, "state", name, Value::Null).await?;
        if amid && state["length"] == self.models[name].blocks.len() + 1 {
            // It was not acknowledged, but is there.
            self.appended(name, &[block]);
        }
        self.expect(name, &state)
    }

    /// Requires all three to have all of every core.
    async fn compare(&mut self) -> Result<(), Failure> {
        for core in CORES {
            for at in CORES {
                self.follow(core, at).await?;
                for block in 0..self.models[core].blocks.len() {
                    self.check_block(core, at, block).await?;
                }
            }
        }
        Ok(())
    }
}

/// Prints the attack counts of each core, and returns the cores without any.
fn without_attack(counts: &[u8]) -> Vec<String> {
    let counts: Value = serde_json::from_slice(counts).unwrap_or_default();
    let mut without = Vec::new();
    for (at, name) in CORES.iter().enumerate() {
        let [opened, asked, proofs] = [0, 1, 2].map(|it| counts[at][it].as_u64().unwrap_or(0));
        println!(
            "hostile on core {name}: {opened} channels, {asked} requests taken, {proofs} proofs sent back spoilt or late"
        );
        if opened == 0 {
            without.push(format!("core {name} was never attacked"));
        }
    }
    without
}

async fn accept(listener: TcpListener, cores: Vec<Replicator>, grips: Grips) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Descriptors may be exhausted right now.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let grip = Arc::new(Grip::default());
        grips.lock().expect("sound").push(Arc::downgrade(&grip));
        tokio::spawn(serve(socket, cores.clone(), grip));
    }
}

async fn serve(socket: TcpStream, cores: Vec<Replicator>, grip: Arc<Grip>) {
    // Otherwise each answer waits for the acknowledgement of the one before.
    let _ = socket.set_nodelay(true);
    let builder = ProtocolBuilder::new(false)
        .handshake_timeout(Some(Duration::from_secs(10)))
        .idle_timeout(Some(Duration::from_secs(20)));
    let mut session = Session::new(builder.connect(socket));
    for core in &cores {
        if session.add(core).is_err() {
            return;
        }
    }
    loop {
        tokio::select! {
            // A peer was dropped while nothing else was open, or the stream ended.
            _ = session.run() => return,
            () = grip.reset.notified() => {
                // Closing without lingering sends a reset.
                let socket = session.protocol().io().get_ref();
                let _ = socket.set_zero_linger();
                return;
            }
            () = grip.reopen.notified() => {
                let discovery_key = cores[0].discovery_key();
                session.pause(&discovery_key);
                if session.resume(&discovery_key).is_err() {
                    return;
                }
            }
        }
    }
}
