//! datrs's crates, the bare primitives, and the arithmetic that a handshake needs at least.

use std::hint::black_box;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use compact_encoding::CompactEncoding;
use crypto_secretstream::{Header, Key, PullStream, PushStream, Tag};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use datrs::{Channel, Event, Message, Protocol, schema};
use futures::StreamExt;
use hypercore_handshake::Cipher;
use hypercore_handshake::state_machine::SecStream;
use hypercore_handshake::state_machine::hc_specific::generate_keypair;
use hypercore_schema::{DataBlock, Node, RequestBlock};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use rand_core::OsRng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha512};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, LocalSet};
use tokio_util::compat::TokioAsyncReadCompatExt;
use uint24le_framing::Uint24LELengthPrefixedFraming;

use crate::{KEY, Load};

/// Three exchanges and two key pairs on each side, and nothing else: the curve arithmetic of a handshake of the pattern
/// XX, including libsodium's checks of the points.
pub fn curve_of_handshakes(count: usize) {
    let scalar = |seed: [u8; 32]| -> [u8; 32] {
        let hash = Sha512::digest(seed);
        let mut half = [0; 32];
        half.copy_from_slice(&hash[..32]);
        half
    };
    let public = EdwardsPoint::mul_base_clamped(scalar([9; 32])).compress();
    for _ in 0..2 * count {
        for seed in 0..2 {
            black_box(EdwardsPoint::mul_base_clamped(scalar(black_box([seed; 32]))).compress());
        }
        for seed in 0..3 {
            let point = CompressedEdwardsY(black_box(public.0))
                .decompress()
                .expect("is a point");
            assert!(!point.is_small_order() && point.is_torsion_free());
            black_box(point.mul_clamped(scalar(black_box([seed; 32]))).compress());
        }
    }
}

pub fn crypto_secretstream_seal(size: usize, count: usize) {
    let (_, mut push) = PushStream::init(OsRng, &Key::from([1; 32]));
    let mut record = Vec::with_capacity(size + 17);
    for _ in 0..count {
        record.resize(size, 7);
        push.push(black_box(&mut record), &[], Tag::Message)
            .expect("is short enough");
    }
}

pub fn crypto_secretstream(size: usize, count: usize) {
    let key = Key::from([1; 32]);
    let (header, mut push) = PushStream::init(OsRng, &key);
    let header = Header::try_from(&header.as_ref()[..]).expect("24 bytes");
    let mut pull = PullStream::init(header, &key);
    let mut record = Vec::with_capacity(size + 17);
    for _ in 0..count {
        record.resize(size, 7);
        push.push(black_box(&mut record), &[], Tag::Message)
            .expect("is short enough");
        pull.pull(black_box(&mut record), &[]).expect("is right");
    }
}

fn ring_key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).expect("32 bytes"))
}

pub fn ring_seal(size: usize, count: usize) {
    let key = ring_key();
    let mut text = vec![7; size];
    for _ in 0..count {
        let nonce = Nonce::assume_unique_for_key([2; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(&mut text));
        let _ = black_box(tag.expect("is short enough"));
    }
}

pub fn ring(size: usize, count: usize) {
    let key = ring_key();
    let mut text = Vec::with_capacity(size + 16);
    for _ in 0..count {
        text.resize(size, 7);
        let nonce = Nonce::assume_unique_for_key([2; 12]);
        key.seal_in_place_append_tag(nonce, Aad::empty(), black_box(&mut text))
            .expect("is short enough");
        let nonce = Nonce::assume_unique_for_key([2; 12]);
        key.open_in_place(nonce, Aad::empty(), black_box(&mut text))
            .expect("is right");
    }
}

pub fn chacha20(size: usize, count: usize) {
    let mut text = vec![7; size];
    for _ in 0..count {
        ChaCha20::new(&[1; 32].into(), &[2; 12].into()).apply_keystream(black_box(&mut text));
    }
}

pub fn poly1305(size: usize, count: usize) {
    let text = vec![7; size];
    for _ in 0..count {
        let mut mac = Poly1305::new(&[1; 32].into());
        mac.update_padded(black_box(&text));
        black_box(mac.finalize());
    }
}

fn block(index: u64, len: usize) -> schema::Data {
    schema::Data {
        request: index,
        fork: 0,
        block: Some(DataBlock {
            index,
            value: vec![index as u8; len],
            nodes: Vec::new(),
        }),
        hash: None,
        seek: None,
        upgrade: None,
    }
}

/// Encodes into allocated memory, and decodes.
fn code<T: CompactEncoding>(value: &T, count: usize) {
    let record = value.to_encoded_bytes().expect("encodes");
    let mut out = vec![0; 1 << 16];
    for _ in 0..count {
        black_box(black_box(value).encode(&mut out).expect("encodes"));
        let (decoded, _) = T::decode(black_box(&record)).expect("decodes");
        black_box(&decoded);
    }
}

/// hypercore_schema on the message of this name.
pub fn codec(name: &str, count: usize) {
    match name {
        "range" => code(
            &schema::Range {
                drop: false,
                start: 70_000,
                length: 300,
            },
            count,
        ),
        "request" => code(
            &schema::Request {
                id: 300,
                fork: 0,
                block: Some(RequestBlock {
                    index: 70_000,
                    nodes: 2,
                }),
                hash: None,
                seek: None,
                upgrade: None,
                manifest: false,
                priority: 0,
            },
            count,
        ),
        "block of 1 KiB" => code(&block(70_000, 1024), count),
        "block with a proof of 17 nodes" => {
            let mut data = block(70_000, 1024);
            if let Some(block) = &mut data.block {
                block.nodes = (0..17)
                    .map(|at| Node::new(1 << at, vec![at as u8; 32], 1000 << at))
                    .collect();
            }
            code(&data, count);
        }
        _ => panic!("no message {name}"),
    }
}

/// Two of datrs's protocols on one thread.
pub struct Datrs {
    runtime: Runtime,
    local: LocalSet,
    here: Channel,
    there: Channel,
}

fn protocols() -> (Protocol, Protocol) {
    let (a, b) = tokio::io::duplex(256 * 1024);
    let (a, b) = (
        Uint24LELengthPrefixedFraming::new(a.compat()),
        Uint24LELengthPrefixedFraming::new(b.compat()),
    );
    let initiator = SecStream::new_initiator_xx(&[]).expect("starts");
    let responder =
        SecStream::new_responder_xx(&generate_keypair().expect("is made"), &[]).expect("starts");
    (
        Protocol::new(Box::new(Cipher::new(Some(Box::new(a)), initiator.into()))),
        Protocol::new(Box::new(Cipher::new(Some(Box::new(b)), responder.into()))),
    )
}

/// Waits until the channel is open; the protocol keeps running until its task is aborted.
async fn open(protocol: Protocol) -> (Channel, JoinHandle<()>) {
    let (tell, told) = futures::channel::oneshot::channel();
    let task = tokio::task::spawn_local(run(protocol, tell));
    (told.await.expect("opens"), task)
}

async fn run(mut protocol: Protocol, tell: futures::channel::oneshot::Sender<Channel>) {
    let mut tell = Some(tell);
    while let Some(event) = protocol.next().await {
        match event.expect("no error") {
            Event::Handshake(_) => protocol.open(KEY).await.expect("opens"),
            Event::Channel(channel) => {
                let tell = tell.take().expect("opens one");
                assert!(tell.send(channel).is_ok());
            }
            _ => {}
        }
    }
}

impl Datrs {
    pub fn new() -> Self {
        let (runtime, local) = (crate::ours::runtime(), LocalSet::new());
        let ((here, _), (there, _)) = local.block_on(&runtime, async {
            let (a, b) = protocols();
            futures::join!(open(a), open(b))
        });
        Self {
            runtime,
            local,
            here,
            there,
        }
    }

    pub fn send(&mut self, load: Load) {
        let messages: Vec<Message> = (0..32)
            .map(|index| Message::Data(block(index, load.size)))
            .collect();
        let (here, there) = (&mut self.here, &mut self.there);
        let send = async move {
            let mut sent = 0;
            while sent < load.count {
                if load.batch > 1 {
                    here.send_batch(&messages[..load.batch])
                        .await
                        .expect("sends");
                } else {
                    let message = messages[sent % messages.len()].clone();
                    here.send(message).await.expect("sends");
                }
                sent += load.batch;
            }
        };
        let receive = async move {
            for _ in 0..load.count {
                there.next().await.expect("a message");
            }
        };
        self.local
            .block_on(&self.runtime, async { futures::join!(send, receive) });
    }

    pub fn handshakes(count: usize) {
        let (runtime, local) = (crate::ours::runtime(), LocalSet::new());
        local.block_on(&runtime, async {
            for _ in 0..count {
                let (a, b) = protocols();
                let ((_, a), (_, b)) = futures::join!(open(a), open(b));
                a.abort();
                b.abort();
            }
        });
    }
}
