//! The layers below records: frames, handshake messages, encrypted records, datagrams.

use hypercore_protocol::datagram::{self, Datagrams};
use hypercore_protocol::frame::{FrameDecoder, HEADER_BYTES, MAX_RECORD_BYTES};
use hypercore_protocol::keys::KeyPair;
use hypercore_protocol::noise::{Handshake, HandshakeConfig, Pattern};
use hypercore_protocol::secret_stream::{self, ABYTES, Pull, Push, Tag};

use crate::input::Input;

/// The bytes after the first, in chunks of sizes chosen by the first byte, and in one piece.
pub(crate) fn frames(input: &[u8]) -> usize {
    let Some((&step, bytes)) = input.split_first() else {
        return 0;
    };
    let mut whole = FrameDecoder::new();
    let mut rest = bytes;
    let mut expected = Vec::new();
    while let Some(record) = whole.decode(&mut rest) {
        assert!(record.len() <= MAX_RECORD_BYTES);
        expected.push(record);
    }
    assert!(rest.is_empty());
    assert_eq!(whole.offset(), bytes.len() as u64);
    assert_eq!(whole.records(), expected.len() as u64);
    let held: usize = expected
        .iter()
        .map(|record| HEADER_BYTES + record.len())
        .sum();
    assert_eq!(held + whole.pending(), bytes.len());
    assert_eq!(whole.end().is_ok(), whole.pending() == 0);

    let mut chunked = FrameDecoder::new();
    let mut expected = expected.into_iter();
    for mut chunk in bytes.chunks(usize::from(step).max(1)) {
        while let Some(record) = chunked.decode(&mut chunk) {
            assert_eq!(Some(record), expected.next());
        }
    }
    assert_eq!(expected.next(), None);
    assert_eq!(chunked.end(), whole.end());
    bytes.len()
}

/// As in the vectors.
const SEED: [[u8; 32]; 4] = [[0x21; 32], [0x11; 32], [0x22; 32], [0x12; 32]];

fn handshake(pattern: Pattern, is_initiator: bool) -> Handshake {
    let side = usize::from(is_initiator);
    let mut config = HandshakeConfig::new(pattern, is_initiator);
    config.key_pair = Some(KeyPair::from_seed(&SEED[side]));
    config.fixed_ephemeral_for_testing_only = Some(SEED[2 + side]);
    config.psk = pattern.needs_psk().then(|| [0x77; 32].into());
    if pattern.needs_remote_public_key() && is_initiator {
        config.remote_public_key = Some(*KeyPair::from_seed(&SEED[0]).public_key());
    }
    Handshake::new(config).expect("it has all that the pattern needs")
}

/// A handshake between two sides with messages corrupted, truncated, extended or replaced in transit.
pub(crate) fn noise(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let pattern = choices.pick(&Pattern::ALL);
    let mut sides = [handshake(pattern, true), handshake(pattern, false)];
    let mut spoilt = false;
    let mut size = 0;
    for turn in 0..4 {
        let sender = turn % 2;
        if !sides[sender].is_our_turn() {
            break;
        }
        let payload = choices.bytes(64);
        let mut message = Vec::new();
        if sides[sender].write(payload, &mut message).is_err() {
            break;
        }
        let honest = message.clone();
        match choices.below(6) {
            0 => {
                let at = choices.below(message.len());
                if let Some(byte) = message.get_mut(at) {
                    *byte ^= choices.byte();
                }
            }
            1 => message.truncate(choices.below(message.len() + 1)),
            2 => message.extend_from_slice(choices.bytes(64)),
            3 => message = choices.bytes(1024).to_vec(),
            _ => {}
        }
        spoilt |= message != honest;
        size += message.len();
        let receiver = &mut sides[1 - sender];
        match receiver.read(&message) {
            Ok(read) => {
                if message == honest {
                    assert_eq!(read, payload);
                }
            }
            Err(error) => {
                let _ = (error.to_string(), error.class());
                assert!(message != honest || spoilt, "an honest message is read");
                assert!(receiver.result().is_none());
                assert!(receiver.read(&honest).is_err(), "a failed side stays so");
                return size;
            }
        }
    }
    if let [Some(one), Some(other)] = sides.each_ref().map(Handshake::result) {
        assert_eq!(one.hash == other.hash, !spoilt);
        if !spoilt {
            assert_eq!((one.tx, one.rx), (other.rx, other.tx));
        }
    }
    size
}

/// Records in order, some of them corrupted: those are refused and change nothing.
pub(crate) fn secretstream(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let header: [u8; 24] = [choices.byte(); 24];
    let (mut push, mut pull) = (Push::new(&[9; 32], &header), Pull::new(&[9; 32], &header));
    let hash = [5; 64];
    let mut size = 0;
    while !choices.is_empty() {
        match choices.below(4) {
            0 => {
                let mut record = choices.bytes(1024).to_vec();
                let honest = record.clone();
                size += record.len();
                let before = pull.state_for_testing_only().clone();
                assert!(pull.open(&mut record).is_err(), "nobody sealed it");
                assert_eq!((record, pull.state_for_testing_only()), (honest, &before));
            }
            1 => {
                let record = choices.bytes(80);
                size += record.len();
                let initiator = choices.flag();
                if let Ok(read) = secret_stream::parse_header_record(&hash, initiator, record) {
                    let honest = secret_stream::header_record(&hash, !initiator, &read);
                    assert_eq!(record, honest);
                }
            }
            _ => {
                let tag = Tag(choices.byte());
                let plaintext = choices.bytes(1024);
                let mut record = vec![0; plaintext.len() + ABYTES];
                record[1..=plaintext.len()].copy_from_slice(plaintext);
                push.seal(tag, &mut record).expect("it has room");
                size += record.len();
                let (at, bit) = (usize::from(choices.short()) % record.len(), choices.byte());
                if bit != 0 && choices.flag() {
                    let mut spoilt = record.clone();
                    spoilt[at] ^= bit;
                    let before = pull.state_for_testing_only().clone();
                    assert!(pull.open(&mut spoilt).is_err(), "a changed bit is seen");
                    assert_eq!(pull.state_for_testing_only(), &before);
                }
                assert_eq!(pull.open(&mut record), Ok(tag));
                assert_eq!(&record[1..=plaintext.len()], plaintext);
                assert!(pull.state_for_testing_only() == push.state_for_testing_only());
            }
        }
    }
    size
}

pub(crate) fn datagrams(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let hash = [6; 64];
    let side = |is_initiator| {
        Datagrams::with_counter_for_testing_only(
            &hash,
            is_initiator,
            [0xff; datagram::COUNTER_BYTES],
        )
    };
    let (sender, receiver) = (side(true), side(false));
    let mut size = 0;
    while !choices.is_empty() {
        if choices.flag() {
            let bytes = choices.bytes(1024);
            size += bytes.len();
            assert!(receiver.open(bytes).is_err(), "nobody sealed it");
            continue;
        }
        let plaintext = choices.bytes(1024);
        let mut sealed = sender.seal(plaintext).expect("the counter has room");
        size += sealed.len();
        assert_eq!(receiver.open(&sealed).as_deref(), Ok(plaintext));
        assert!(
            sender.open(&sealed).is_err(),
            "it is of the other direction"
        );
        let (at, bit) = (usize::from(choices.short()) % sealed.len(), choices.byte());
        if bit != 0 {
            sealed[at] ^= bit;
            assert!(receiver.open(&sealed).is_err(), "a changed bit is seen");
        }
    }
    size
}
