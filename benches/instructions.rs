//! Operations whose instructions `.ci/instructions` counts under valgrind: each function with `counted` in its name is
//! a figure.
//!
//! Keys are fixed, so that each run does the same; only the seeds of hash maps are random.

#![allow(missing_docs)]

mod common;

use std::hint::black_box;

use common::Pair;
use hypercore_protocol::encoding::Encode;
use hypercore_protocol::frame::{FrameDecoder, write_frame_header};
use hypercore_protocol::mux::{ChannelId, Limits, Mux, OpenOptions, Raw};
use hypercore_protocol::secret_stream::{ABYTES, Pull, Push, Tag};
use hypercore_protocol::{Buffer, Message};

#[inline(never)]
fn counted_encode(messages: &[(&str, Message)], out: &mut Vec<u8>) {
    for _ in 0..200 {
        for (_, message) in messages {
            out.clear();
            black_box(message).append_to(out).expect("encodes");
        }
    }
}

#[inline(never)]
fn counted_decode(bodies: &[(&Message, Buffer)]) {
    for _ in 0..200 {
        for (message, body) in bodies {
            black_box(Message::decode_as(message.message_type(), body)).expect("decodes");
        }
    }
}

#[inline(never)]
fn counted_deframe(stream: &[u8]) {
    let mut decoder = FrameDecoder::new();
    for mut chunk in stream.chunks(65_536) {
        while let Some(record) = decoder.decode(&mut chunk) {
            black_box(record);
        }
    }
}

fn records(push: &mut Push, pull: &mut Pull, size: usize, count: usize) {
    let mut record = vec![7; size + ABYTES];
    for _ in 0..count {
        push.seal(Tag::MESSAGE, &mut record).expect("long enough");
        pull.open(&mut record).expect("right");
    }
}

#[inline(never)]
fn counted_records_of_64_kib(push: &mut Push, pull: &mut Pull) {
    records(push, pull, 65_536, 16);
}

#[inline(never)]
fn counted_records_of_1_kib(push: &mut Push, pull: &mut Pull) {
    records(push, pull, 1024, 1000);
}

#[inline(never)]
fn counted_records_of_64_bytes(push: &mut Push, pull: &mut Pull) {
    records(push, pull, 64, 1000);
}

#[inline(never)]
fn counted_handshakes() {
    for _ in 0..5 {
        black_box(Pair::new());
    }
}

#[inline(never)]
fn counted_mux(a: &mut Mux, b: &mut Mux, channels: &[ChannelId]) {
    for at in 0..2000 {
        let channel = channels[at * 7919 % channels.len()];
        a.send(channel, 0, &Raw(b"a message of 24 bytes..."))
            .expect("sends");
        deliver(a, b);
    }
}

/// Moves all records to the other end, and reads them there.
fn deliver(from: &mut Mux, to: &mut Mux) {
    while let Some(record) = from.poll_transmit() {
        to.receive(record);
        while let Some(event) = to.poll_event().expect("no error") {
            black_box(event);
        }
    }
}

fn send(pair: &mut Pair, messages: &[Message], rounds: usize) {
    for _ in 0..rounds {
        for message in messages {
            pair.a.send(pair.channel, message).expect("sends");
        }
        assert_eq!(pair.carry(), messages.len());
    }
}

#[inline(never)]
fn counted_connection_64_kib(pair: &mut Pair, messages: &[Message]) {
    send(pair, messages, 4);
}

#[inline(never)]
fn counted_connection_1_kib(pair: &mut Pair, messages: &[Message]) {
    send(pair, messages, 40);
}

#[inline(never)]
fn counted_connection_batches(pair: &mut Pair, messages: &[Message]) {
    for _ in 0..40 {
        pair.a.send_batch(pair.channel, messages).expect("sends");
        assert_eq!(pair.carry(), messages.len());
    }
}

fn open(mux: &mut Mux, id: u32) -> ChannelId {
    let options = OpenOptions {
        protocol: "bench",
        aliases: &[],
        id: Some(&id.to_le_bytes()),
        unique: true,
        handshake: &Raw(b""),
    };
    mux.open(&options).expect("opens")
}

fn main() {
    let mut messages = common::messages();
    // Copying its bytes, in libc, would dominate everything else.
    messages.retain(|(name, _)| *name != "block of 64 KiB");
    counted_encode(&messages, &mut Vec::with_capacity(1 << 17));
    let bodies: Vec<_> = messages
        .iter()
        .map(|(_, message)| (message, common::encoded(message)))
        .collect();
    counted_decode(&bodies);

    let mut stream = Vec::new();
    for size in [1024, 64, 65_536, 5].into_iter().cycle().take(64) {
        write_frame_header(size, &mut stream).expect("short enough");
        stream.resize(stream.len() + size, 7);
    }
    counted_deframe(&stream);

    let (mut push, mut pull) = (Push::new(&[1; 32], &[2; 24]), Pull::new(&[1; 32], &[2; 24]));
    counted_records_of_64_kib(&mut push, &mut pull);
    counted_records_of_1_kib(&mut push, &mut pull);
    counted_records_of_64_bytes(&mut push, &mut pull);
    counted_handshakes();

    let (mut a, mut b) = (Mux::new(Limits::default()), Mux::new(Limits::default()));
    let channels: Vec<_> = (0..500).map(|id| open(&mut a, id)).collect();
    for id in 0..500 {
        open(&mut b, id);
    }
    deliver(&mut a, &mut b);
    deliver(&mut b, &mut a);
    counted_mux(&mut a, &mut b, &channels);

    let mut pair = Pair::new();
    let blocks =
        |count: u64, size| -> Vec<_> { (0..count).map(|at| common::block(at, size)).collect() };
    counted_connection_64_kib(&mut pair, &blocks(4, 65_536));
    counted_connection_1_kib(&mut pair, &blocks(32, 1024));
    counted_connection_batches(&mut pair, &blocks(32, 1024));
}
