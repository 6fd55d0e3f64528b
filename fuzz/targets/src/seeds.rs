//! Inputs for the targets from the vectors: data that Node sent, and data that it refused.

use std::collections::BTreeMap;
use std::path::Path;

use hypercore_conformance::vectors::{self, Case, Group};
use hypercore_protocol::noise::Pattern;
use hypercore_protocol::schema::MessageType;
use serde_json::Value;

/// The longest seed, in bytes: a fuzzer is slow with longer ones.
pub const MAX_SEED: usize = 4096;

/// The seeds of each target, by the ids of the cases that they come from.
pub type Seeds = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

/// Reads the vectors in `folder`.
///
/// # Errors
/// When they cannot be read.
pub fn seeds(folder: &Path) -> Result<Seeds, String> {
    let mut seeds = Seeds::new();
    let files = vectors::load(folder).map_err(|error| error.to_string())?;
    for group in files.iter().flat_map(|file| &file.groups) {
        for case in &group.cases {
            for (target, seed) in of_case(group, case) {
                if seed.len() <= MAX_SEED {
                    let of_target = seeds.entry(target).or_default();
                    of_target.insert(case.id.to_string(), seed);
                }
            }
        }
    }
    Ok(seeds)
}

/// The seeds of a case for the targets of its layer. The bytes before it are the choices that lead there: see each
/// target.
fn of_case(group: &Group, case: &Case) -> Vec<(&'static str, Vec<u8>)> {
    let Ok(input) = vectors::expand(&case.input) else {
        return Vec::new();
    };
    let bytes = || hex_of(&input["bytes"]);
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    match group.op.as_str() {
        "compact.decode" => {
            let kinds = [
                "uint",
                "uint8",
                "uint16",
                "uint24",
                "uint32",
                "uint64",
                "buffer",
                "optionalBuffer",
                "string",
                "fixed32",
                "uint32array",
            ];
            let item = text("type").trim_start_matches("array:");
            let array = if item == text("type") { 0 } else { 16 };
            let kind = kinds
                .iter()
                .position(|kind| *kind == item)
                .unwrap_or_default();
            vec![("encoding", prefixed(&[array | kind as u8], &bytes()))]
        }
        "message.decode" => {
            let kind = MessageType::from_name(text("message"));
            let kind = kind.map_or(10, |kind| kind.id() as u8);
            let mut seeds = vec![
                ("messages", prefixed(&[kind], &bytes())),
                ("suite_dissector", prefixed(&[kind << 1 | 1], &bytes())),
            ];
            if kind == 3 {
                // A reader of five blocks gets it unchanged.
                seeds.push(("proofs", [vec![4, 0], chunk(&[1], &bytes())].concat()));
            }
            seeds
        }
        "manifest.decode" => vec![
            ("manifest", bytes()),
            ("suite_dissector", prefixed(&[11 << 1 | 1], &bytes())),
        ],
        "multisig.decode" => {
            let version = input["version"].as_u64().unwrap_or_default();
            vec![("multisig", prefixed(&[version as u8], &bytes()))]
        }
        "mux.decode" => vec![
            ("record", prefixed(&[64], &bytes())),
            ("suite_dissector", prefixed(&[0], &chunk(&[1], &bytes()))),
        ],
        "mux.session" => vec![("mux", prefixed(&[0], &records(&input, &[0, 0], &[])))],
        // On a connection without encryption.
        "channel.session" => {
            vec![(
                "connection_keyed",
                prefixed(&[8], &records(&input, &[0, 0], &[0, 0])),
            )]
        }
        "frame.decode" => {
            let chunks = input["chunks"].as_array().into_iter().flatten();
            let chunks: Vec<u8> = chunks.flat_map(hex_of).collect();
            vec![("frames", prefixed(&[5], &chunks))]
        }
        "connection.replay" => {
            let pattern = pattern(text("pattern"));
            let role = u8::from(input["isInitiator"] == true);
            let received: Vec<u8> = steps(&input, "receive").flat_map(hex_of).collect();
            vec![(
                "connection_bytes",
                prefixed(&[role | 4, pattern, 200], &received),
            )]
        }
        "noise.handshake" => {
            let pattern = pattern(text("pattern"));
            let read = steps(&input, "read").flat_map(|read| chunk(&[0, 3], &hex_of(read)));
            vec![("noise", prefixed(&[pattern], &read.collect::<Vec<_>>()))]
        }
        "stream.pull" => {
            let sealed = input["records"].as_array().into_iter().flatten();
            let sealed = sealed.flat_map(|record| chunk(&[0], &hex_of(record)));
            vec![(
                "secretstream",
                prefixed(&[0x40], &sealed.collect::<Vec<_>>()),
            )]
        }
        "datagram.open" => vec![("datagrams", chunk(&[1], &hex_of(&input["datagram"])))],
        _ => Vec::new(),
    }
}

fn prefixed(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    [prefix, bytes].concat()
}

/// Choices, and bytes preceded by their number: `Input::bytes` of more than 255.
fn chunk(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
    [prefix, &length, bytes].concat()
}

fn records(input: &Value, before: &[u8], after: &[u8]) -> Vec<u8> {
    let records =
        steps(input, "receive").map(|record| [&chunk(before, &hex_of(record)), after].concat());
    records.flatten().collect()
}

fn steps<'a>(input: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let steps = input["steps"].as_array().into_iter().flatten();
    steps.filter_map(move |step| step.get(name))
}

fn pattern(name: &str) -> u8 {
    let pattern = Pattern::ALL
        .iter()
        .position(|pattern| pattern.name() == name);
    pattern.unwrap_or_default() as u8
}

fn hex_of(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    hex::decode(text).unwrap_or_default()
}
