//! The crate `hypercore-protocol` 0.7.2 of datrs as an adapter of the conformance suite (see ../../ADAPTER.md).
//!
//! It calls the crates' public interface and nothing else, and hides nothing: a panic aborts, a hang hangs, and an
//! allocation of what a peer merely claims fails, for the process may not have more than [`MEMORY`].

mod codec;
mod frame;
mod live;
mod session;
// The suite's own, which needs nothing of the suite.
#[allow(dead_code, reason = "it serves the reference, too")]
#[path = "../../../src/reference/socket.rs"]
mod socket;
mod tap;

use std::io::{BufRead, Write, stdin, stdout};

use serde_json::{Value, json};

/// The bytes of address space that this process may have, so that the machine outlives what a case makes the crate ask for.
const MEMORY: u64 = 4 << 30;

/// What an operation answers: an output, or a refusal.
type Answer = Result<Value, Value>;

/// A refusal by a layer.
fn refused(layer: &str, class: &str, message: impl ToString) -> Value {
    json!({ "layer": layer, "class": class, "message": message.to_string() })
}

/// A request that the crate has nothing for, or that makes no sense.
fn bad_input(message: impl ToString) -> Value {
    refused("adapter", "bad-input", message)
}

const OPS: &[&str] = &[
    "channel.session",
    "compact.decode",
    "compact.encode",
    "frame.decode",
    "frame.encode",
    "key.discoveryKey",
    "message.decode",
    "message.encode",
];

fn answer(live: &mut live::Live, op: &str, input: &Value) -> Option<Answer> {
    Some(match op {
        "hello" => Ok(json!({
            "protocol": 1,
            "name": "datrs hypercore-protocol",
            "version": "0.7.2",
            "language": "rust",
            "release": null,
            "ops": OPS.iter().chain(live::OPS).collect::<Vec<_>>(),
            "live": true,
        })),
        "channel.session" => session::run(input),
        "compact.decode" => codec::compact_decode(input),
        "compact.encode" => codec::compact_encode(input),
        "frame.decode" => frame::decode(input),
        "frame.encode" => frame::encode(input),
        "key.discoveryKey" => codec::bytes(input, "key").map(
            |key| json!({ "discoveryKey": hex::encode(hypercore_protocol::discovery_key(&key)) }),
        ),
        "message.decode" => codec::message_decode(input),
        "message.encode" => codec::message_encode(input),
        op if live::OPS.contains(&op) => live.call(op, input),
        _ => return None,
    })
}

fn main() -> std::io::Result<()> {
    rlimit::Resource::AS.set(MEMORY, MEMORY)?;
    let mut live = live::Live::default();
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let op = request["op"].as_str().unwrap_or_default();
        let answer = match answer(&mut live, op, &request["input"]) {
            Some(Ok(output)) => json!({ "id": request["id"], "ok": output }),
            Some(Err(error)) => json!({ "id": request["id"], "error": error }),
            None => json!({ "id": request["id"], "unsupported": true }),
        };
        let mut out = stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}
