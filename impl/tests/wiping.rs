//! Secrets are gone from memory once their holders are dropped: searches the whole memory of the process, including
//! freed parts of the heap. Linux only, where a process can read its own memory as a file.
#![cfg(target_os = "linux")]

use std::cell::Cell;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use hypercore_protocol::noise::{Handshake, HandshakeConfig};
use hypercore_protocol::secret_stream::{Push, Tag};
use hypercore_protocol::{KeyPair, Pattern};

/// Tests take turns, since each searches what the others may be using.
static TURN: Mutex<()> = Mutex::new(());

/// A secret of 32 bytes, masked so that the search does not find this copy.
struct Masked([u8; 32]);

const MASK: u8 = 0x5a;

impl Masked {
    fn new(secret: &[u8; 32]) -> Self {
        let mut masked = [MASK; 32];
        for (masked, byte) in masked.iter_mut().zip(secret) {
            *masked ^= byte;
        }
        Self(masked)
    }

    /// The number of occurrences in memory. Half of it counts: a saved register holds 16 bytes.
    fn count(&self) -> usize {
        let half: Vec<u8> = self.0[..16].to_vec();
        let maps = File::open("/proc/self/maps").expect("Linux has it");
        let mut memory = File::open("/proc/self/mem").expect("Linux has it");
        let mut found = 0;
        let mut buffer = vec![0; 1 << 20];
        for line in BufReader::new(maps).lines() {
            let line = line.expect("it is text");
            let mut fields = line.split_whitespace();
            let (range, access) = (
                fields.next().expect("a range"),
                fields.next().expect("access"),
            );
            // Unreadable regions hold none of our data.
            if !access.starts_with("rw") || line.ends_with("[vvar]") {
                continue;
            }
            let (start, end) = range.split_once('-').expect("two addresses");
            let address = |text| u64::from_str_radix(text, 16).expect("it is hexadecimal");
            let (start, end) = (address(start), address(end));
            // Reading the buffer into itself would multiply its contents.
            let own = buffer.as_ptr() as u64;
            let own = own..own + buffer.len() as u64;
            for part in [
                start..end.min(own.start.max(start)),
                own.end.clamp(start, end)..end,
            ] {
                let mut at = part.start;
                while at < part.end {
                    let len = buffer.len().min((part.end - at) as usize);
                    memory.seek(SeekFrom::Start(at)).expect("it can be sought");
                    if memory.read_exact(&mut buffer[..len]).is_err() {
                        break;
                    }
                    let is_it =
                        |window: &[u8]| window.iter().zip(&half).all(|(a, b)| *a ^ MASK == *b);
                    let windows = buffer[..len].windows(16);
                    found += windows.filter(|window| is_it(window)).count();
                    at += len as u64;
                }
            }
        }
        // The buffer itself is no leftover copy.
        buffer.fill(0);
        black_box(&buffer);
        found
    }
}

/// Overwrites leftovers of returned functions on the stack, which are never guaranteed to be wiped: the compiler moves
/// values there freely.
#[inline(never)]
fn clear_stack() {
    let zeros = [0_u8; 256 * 1024];
    black_box(&zeros);
}

/// Random bytes that exist only here.
fn random() -> Box<[u8; 32]> {
    let mut bytes = Box::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the system has randomness");
    bytes
}

/// Uses a secret, and counts its occurrences during the use and afterwards.
fn search(hold: fn(&[u8; 32], &dyn Fn())) -> (usize, usize) {
    let mut secret = random();
    let masked = Masked::new(&secret);
    let during = Cell::new(0);
    // In a separate frame, since this function's own is not cleared.
    black_box(hold)(&secret, &|| during.set(masked.count()));
    secret.fill(0);
    black_box(&secret);
    clear_stack();
    (during.get(), masked.count())
}

#[test]
fn the_search_finds_what_was_not_wiped() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (during, after) = search(|secret, look| {
        let copy = secret.to_vec();
        look();
        // Forgotten, not wiped: the secret remains, except where the allocator overwrites it.
        std::mem::forget(copy);
    });
    assert!(during >= 2, "{during}");
    assert!(after >= 1, "{after}");
}

#[test]
fn a_key_pair_leaves_no_seed_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (during, after) = search(|seed, look| {
        let key_pair = Box::new(KeyPair::from_seed(seed));
        let clone = Box::new((*key_pair).clone());
        look();
        drop((key_pair, clone));
    });
    assert!(
        during >= 3,
        "the argument, the key pair and its clone: {during}"
    );
    assert_eq!(after, 0);
}

/// Both ends of a handshake with a pre-shared key, and the split keys of one.
fn handshakes(seed: &[u8; 32], psk: &[u8; 32]) -> [Handshake; 2] {
    let side = |is_initiator, key_pair| {
        let mut config = HandshakeConfig::new(Pattern::XXpsk0, is_initiator);
        config.key_pair = Some(key_pair);
        config.psk = Some((*psk).into());
        Handshake::new(config).expect("it has all it needs")
    };
    let mut ends = [
        side(true, KeyPair::from_seed(seed)),
        side(false, KeyPair::generate()),
    ];
    let mut message = Vec::new();
    for turn in 0..3 {
        let [initiator, responder] = &mut ends;
        let (from, to) = if turn % 2 == 0 {
            (initiator, responder)
        } else {
            (responder, initiator)
        };
        message.clear();
        from.write(&[], &mut message).expect("it is its turn");
        to.read(&message).expect("it is right");
    }
    ends
}

#[test]
fn a_handshake_leaves_neither_static_key_nor_psk_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (during, after) = search(|seed, look| {
        let ends = handshakes(seed, &random());
        look();
        drop(ends);
    });
    assert!(during >= 1, "{during}");
    assert_eq!(after, 0, "the seed of the static key pair");
    let (during, after) = search(|psk, look| {
        let ends = handshakes(&random(), psk);
        look();
        drop(ends);
    });
    assert!(during >= 1, "{during}");
    assert_eq!(after, 0, "the pre-shared key");
}

/// The split keys of a handshake, and the number of occurrences of one during its use.
#[inline(never)]
fn split_keys() -> ([Masked; 2], usize) {
    let ends = handshakes(&random(), &random());
    let result = ends[0].result().expect("it is complete").clone();
    let masked = [Masked::new(&result.tx), Masked::new(&result.rx)];
    let mut push = Push::new(&result.tx, &[1; 24]);
    let mut record = vec![7; 100];
    push.seal(Tag::MESSAGE, &mut record)
        .expect("it is long enough");
    let during = masked[0].count();
    drop((ends, result, push));
    (masked, during)
}

#[test]
fn a_stream_leaves_no_split_key_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (masked, during) = split_keys();
    assert!(during >= 1, "{during}");
    clear_stack();
    assert_eq!(masked.map(|masked| masked.count()), [0, 0]);
}

#[cfg(feature = "replication")]
#[test]
fn a_core_in_memory_leaves_no_seed_behind() {
    use hypercore_protocol::replication::{Core, CoreOptions, Memory};

    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (during, after) = search(|seed, look| {
        let options = CoreOptions::writer(KeyPair::from_seed(seed));
        let mut core = Core::open(Memory::new(), options).expect("a core");
        core.append(&["a", "b"]).expect("it is writable");
        core.truncate(1, None).expect("it is writable");
        look();
        drop(core);
    });
    assert!(during >= 2, "{during}");
    assert_eq!(after, 0);
}
