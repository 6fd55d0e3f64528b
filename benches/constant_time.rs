//! Operations on secrets whose instructions `.ci/constant-time` counts under valgrind: the number must not depend on
//! the secrets, or on the position at which received data differs from them.
//!
//!     constant-time                  lists the cases, and the variants of each that must cost the same
//!     constant-time CASE VARIANT     runs one once

#![allow(missing_docs)]

use std::hint::black_box;

use hypercore_protocol::datagram::Datagrams;
use hypercore_protocol::keys::{Secret, capability, verify_capability};
use hypercore_protocol::noise::{Handshake, HandshakeConfig};
use hypercore_protocol::secret_stream::{ABYTES, Pull, Push, Tag};
use hypercore_protocol::{Key, KeyPair, Pattern};

/// Position of the first differing byte.
const PLACES: [&str; 3] = ["first", "middle", "last"];
/// Few set bits, many, and some.
const SEEDS: [&str; 4] = ["zeros", "ones", "low", "mixed"];

const CASES: [(&str, &[&str]); 8] = [
    ("capability", &PLACES),
    ("record-of-64-bytes", &PLACES),
    ("record-of-1-kib", &PLACES),
    ("datagram", &PLACES),
    ("secret", &PLACES),
    ("key-pair", &SEEDS),
    ("static-key", &SEEDS),
    ("ephemeral-key", &SEEDS),
];

/// Everything counted happens in here.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    for _ in 0..20 {
        work();
    }
}

fn place(variant: &str, len: usize) -> usize {
    match variant {
        "first" => 0,
        "middle" => len / 2,
        "last" => len - 1,
        other => panic!("no such variant: {other}"),
    }
}

fn seed(variant: &str) -> [u8; 32] {
    match variant {
        "zeros" => [0; 32],
        "ones" => [0xff; 32],
        "low" => std::array::from_fn(|at| u8::from(at == 0)),
        "mixed" => std::array::from_fn(|at| (at as u8).wrapping_mul(167)),
        other => panic!("no such variant: {other}"),
    }
}

fn record(len: usize, variant: &str) {
    let (key, header) = ([1; 32], [2; 24]);
    let mut sealed = vec![7; len + ABYTES];
    Push::new(&key, &header)
        .seal(Tag::MESSAGE, &mut sealed)
        .expect("it is long enough");
    // The MAC is the last 16 bytes.
    sealed[len + ABYTES - 16 + place(variant, 16)] ^= 1;
    let mut copies = vec![sealed; 20].into_iter();
    counted(&mut || {
        let mut copy = copies.next().expect("one a turn");
        let mut pull = Pull::new(&key, &header);
        black_box(pull.open(&mut copy)).expect_err("the MAC is wrong");
        std::mem::forget(copy);
    });
}

/// The first message of an IK initiator: multiplications with its static and its ephemeral key.
fn handshake(static_seed: [u8; 32], ephemeral_seed: [u8; 32]) {
    let remote = *KeyPair::from_seed(&[9; 32]).public_key();
    let ready = || {
        let mut config = HandshakeConfig::new(Pattern::IK, true);
        config.key_pair = Some(KeyPair::from_seed(&static_seed));
        config.remote_public_key = Some(remote);
        config.fixed_ephemeral_for_testing_only = Some(ephemeral_seed);
        Handshake::new(config).expect("it has all it needs")
    };
    let mut ready: Vec<Handshake> = (0..20).map(|_| ready()).collect();
    let mut out = Vec::with_capacity(1024);
    counted(&mut || {
        let mut handshake = ready.pop().expect("one a turn");
        out.clear();
        handshake.write(&[], &mut out).expect("it is its turn");
        std::mem::forget(black_box(handshake));
    });
}

fn run(case: &str, variant: &str) {
    match case {
        "capability" => {
            let (key, hash) = ([3; 32], [4; 64]);
            let mut received = capability(true, &Key::new(key), &hash);
            received[place(variant, 32)] ^= 1;
            counted(&mut || {
                assert!(!verify_capability(
                    true,
                    &Key::new(key),
                    &hash,
                    black_box(&received)
                ))
            });
        }
        "record-of-64-bytes" => record(64, variant),
        "record-of-1-kib" => record(1024, variant),
        "datagram" => {
            let counter = [7, 0, 0, 0, 0, 0, 0, 0];
            let ours = Datagrams::with_counter_for_testing_only(&[4; 64], true, counter);
            let theirs = Datagrams::with_counter_for_testing_only(&[4; 64], false, counter);
            let mut sealed = ours.seal(&[7; 100]).expect("it is counted");
            // The counter's 8 bytes come first, then the MAC of 16.
            sealed[8 + place(variant, 16)] ^= 1;
            counted(&mut || {
                black_box(theirs.open(black_box(&sealed))).expect_err("the MAC is wrong");
            });
        }
        "secret" => {
            let (right, mut wrong) = ([5; 32], [5; 32]);
            wrong[place(variant, 32)] ^= 1;
            let (right, wrong): (Secret<32>, Secret<32>) = (right.into(), wrong.into());
            counted(&mut || assert!(black_box(&right) != black_box(&wrong)));
        }
        "key-pair" => {
            let seed = seed(variant);
            counted(&mut || {
                black_box(KeyPair::from_seed(black_box(&seed)));
            });
        }
        "static-key" => handshake(seed(variant), [6; 32]),
        "ephemeral-key" => handshake([6; 32], seed(variant)),
        other => panic!("no such case: {other}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for (case, variants) in CASES {
                println!("{case} {}", variants.join(" "));
            }
        }
        [case, variant] => run(case, variant),
        _ => panic!("usage: constant-time [CASE VARIANT]"),
    }
}
