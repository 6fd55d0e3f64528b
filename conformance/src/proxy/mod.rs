//! The command `proxy`: terminates both encrypted streams of a connection and forwards every record, as typed messages.
//!
//! ```text
//! dialling peer ── stream ── [open, decode, trace, tamper, encode, seal] ── stream ── upstream peer
//! ```
//!
//! Both peers keep their own channel ids, in the same order, so that protomux's control messages pass unchanged. Only
//! the capability in the open of a core is bound to a stream: it is checked for one and recomputed for the other. A
//! record leaves in the form in which it came, a message or a batch of the same messages.
//!
//! A direction reads no more until everything it has read is written, so that backpressure is passed on, and holds no
//! more than one record and the bytes read with it.

pub mod inject;
mod keys;
mod pair;
mod rewrite;
mod trace;

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hypercore_protocol::{Key, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use inject::Injection;
use keys::Keys;
use pair::Shared;
use trace::Trace;

use crate::out;

/// How long connections may take to write what they have read when the proxy ends.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The options of a proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on: an address and a port, which may be 0.
    pub listen: String,
    /// The address to dial for each connection.
    pub upstream: String,
    /// Core keys known from the start.
    pub keys: Vec<[u8; 32]>,
    /// How long an open waits for an unknown key.
    pub key_wait: Duration,
    /// The file for the JSON lines.
    pub trace: Option<PathBuf>,
    /// Records up to this many bytes are in the trace in full, in addition to their fields.
    pub trace_bytes: usize,
    /// No lines on stderr.
    pub quiet: bool,
    /// Tampering.
    pub inject: Vec<Injection>,
    /// The seed of the static key pair that dialling peers see; a random one without.
    pub seed_listen: Option<[u8; 32]>,
    /// The seed of the static key pair that the upstream peer sees; a random one without.
    pub seed_upstream: Option<[u8; 32]>,
    /// Whether the dialling peer is the responder of the handshake, and the upstream peer the initiator.
    pub reversed: bool,
}

/// A line on stdin.
#[derive(Debug)]
enum Control {
    Key([u8; 32]),
    Wrong(String),
}

/// Runs until stdin ends.
///
/// # Errors
/// If it cannot listen, or fails to write the trace.
pub async fn run(config: Config) -> std::io::Result<()> {
    let (trace, writers) = Trace::start(config.trace.as_deref(), config.quiet, config.trace_bytes)?;
    let listener = TcpListener::bind(&config.listen).await?;
    announce(listener.local_addr()?)?;
    let (stopping, stop) = watch::channel(false);
    let shared = Arc::new(Shared {
        keys: Keys::new(&config.keys),
        key_wait: config.key_wait,
        injections: config.inject.clone(),
        trace: trace.clone(),
        reversed: config.reversed,
        listen_key_pair: key_pair(config.seed_listen.as_ref()),
        upstream_key_pair: key_pair(config.seed_upstream.as_ref()),
    });
    let mut control = read_stdin();
    let mut pairs = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((dialer, _)) = accepted else { continue };
                number += 1;
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                pairs.spawn(carry(shared, number, dialer, config.upstream.clone(), stop));
            }
            line = control.recv() => match line {
                None => break,
                Some(Control::Key(key)) => {
                    shared.keys.add(key);
                    let short = hex::encode(&hypercore_protocol::discovery_key(&Key::new(key))[..4]);
                    trace.event(None, None, format!("knows the key of {short}…")).await;
                }
                Some(Control::Wrong(what)) => out::note(format!("proxy: {what}")),
            },
            Some(_) = pairs.join_next(), if !pairs.is_empty() => {}
        }
    }
    drop(listener);
    trace.event(None, None, "stdin ended: the proxy ends").await;
    let _ = stopping.send(true);
    let all = async { while pairs.join_next().await.is_some() {} };
    drop(tokio::time::timeout(STOP_LIMIT, all).await);
    pairs.abort_all();
    while pairs.join_next().await.is_some() {}
    drop((shared, trace));
    tokio::task::spawn_blocking(|| writers.finish())
        .await
        .unwrap_or(Ok(()))
}

async fn carry(
    shared: Arc<Shared>,
    number: u64,
    dialer: TcpStream,
    upstream: String,
    stop: watch::Receiver<bool>,
) {
    pair::run(shared, number, dialer, &upstream, stop).await;
}

/// The first line on stdout, so that a script can start the proxy on port 0.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    out::say(address).map_err(std::io::Error::other)
}

fn key_pair(seed: Option<&[u8; 32]>) -> KeyPair {
    seed.map_or_else(KeyPair::generate, KeyPair::from_seed)
}

/// The lines of stdin until it ends; a thread reads them, since a read of stdin cannot be cancelled.
fn read_stdin() -> mpsc::Receiver<Control> {
    let (lines, control) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let parsed = match line.split_once(char::is_whitespace) {
                Some(("key", key)) => match parse_key(key.trim()) {
                    Ok(key) => Control::Key(key),
                    Err(error) => Control::Wrong(error),
                },
                _ => Control::Wrong(format!("{line:?} is not a line of the form: key HEX")),
            };
            if lines.blocking_send(parsed).is_err() {
                return;
            }
        }
    });
    control
}

/// A key or a seed: 32 bytes in hex.
///
/// # Errors
/// Describes the input that is not one.
pub fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let bytes = hex::decode(text).map_err(|error| format!("no key in hex: {error}"))?;
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| format!("a key has 32 bytes, not {length}"))
}
