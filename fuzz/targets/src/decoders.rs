//! Decoders over complete bytes.

use std::fmt::Debug;

use hypercore_protocol::encoding::{
    Decode, DecodeError, Decoded, Decoder, Encode, EncodeError, Encoder,
};
use hypercore_protocol::manifest::Manifest;
use hypercore_protocol::multisig::{MultiSignature, MultiSignatureV0};
use hypercore_protocol::mux::{Batch, Packet, RecordReader};
use hypercore_protocol::replication::{Core, CoreOptions, Memory};
use hypercore_protocol::schema::{ExtensionNames, Handshake};
use hypercore_protocol::{Buffer, Key, Message, MessageType};

use crate::input::Input;

/// The value must be the same from bytes and from a shared buffer, and after a round trip.
fn agree<T: Decode + Encode + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let shared = Buffer::copy_from(bytes);
    let decoded = T::decode(bytes);
    assert_eq!(decoded, T::decode_shared(&shared));
    let decoded = sound(decoded, bytes.len())?;
    let _ = format!("{:?}", decoded.value);
    again(&decoded.value);
    Some(decoded.value)
}

fn sound<T>(decoded: Result<Decoded<T>, DecodeError>, len: usize) -> Option<Decoded<T>> {
    match decoded {
        Ok(decoded) => {
            assert_eq!(decoded.consumed + decoded.trailing, len);
            Some(decoded)
        }
        Err(error) => {
            assert!(error.offset <= len, "{error} of {len} bytes");
            let _ = (error.to_string(), error.class());
            None
        }
    }
}

fn again<T: Decode + Encode + Debug>(value: &T) {
    // Not every decoded value can be encoded: a count of bytes may stand for more items than an array may have.
    let Ok(bytes) = value.encode() else { return };
    let again = T::decode(&bytes).expect("what was encoded decodes");
    assert_eq!(again.trailing, 0);
    assert_eq!(again.long_uints, 0, "the shortest form is written");
    assert_eq!(again.value.encode().as_ref(), Ok(&bytes));
}

/// An item of an array of some type.
enum Item {
    Uint(u64),
    Word(u32),
    Bytes(Buffer),
    Optional(Option<Buffer>),
    Text(String),
    Fixed([u8; 32]),
}

impl Item {
    fn read(kind: u8, decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            0 => Self::Uint(decoder.uint("value")?),
            1 => Self::Word(u32::from(decoder.u8("value")?)),
            2 => Self::Word(u32::from(decoder.u16("value")?)),
            3 => Self::Word(decoder.u24("value")?),
            4 => Self::Word(decoder.u32("value")?),
            5 => Self::Uint(decoder.u64("value")?),
            6 => Self::Bytes(decoder.buffer("value")?),
            7 => Self::Optional(decoder.optional_buffer("value")?),
            8 => Self::Text(decoder.string("value")?),
            _ => Self::Fixed(decoder.fixed("value")?),
        })
    }

    fn write(&self, kind: u8, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Uint(value) if kind == 0 => encoder.uint(*value, "value")?,
            Self::Uint(value) => encoder.u64(*value, "value")?,
            Self::Word(value) => match kind {
                1 => encoder.u8(*value as u8),
                2 => encoder.u16(*value as u16),
                3 => encoder.u24(*value),
                _ => encoder.u32(*value),
            },
            Self::Bytes(bytes) => encoder.buffer(bytes, "value")?,
            Self::Optional(bytes) => encoder.optional_buffer(bytes.as_deref(), "value")?,
            Self::Text(text) => encoder.string(text, "value")?,
            Self::Fixed(bytes) => encoder.raw(bytes),
        }
        Ok(())
    }
}

pub(crate) fn encoding(input: &[u8]) -> usize {
    let Some((&kind, bytes)) = input.split_first() else {
        return 0;
    };
    let (is_array, kind) = (kind & 16 != 0, (kind & 15) % 11);
    let mut decoder = Decoder::new(bytes);
    if kind == 10 {
        if let Ok(words) = decoder.uint32array("value") {
            let mut out = Vec::new();
            assert!(Encoder::new(&mut out).uint32array(&words, "value").is_ok());
            let read = Decoder::new(&out).uint32array("value");
            assert_eq!(read.as_ref(), Ok(&words));
        }
        return bytes.len();
    }
    let items = if is_array {
        let min_len = if kind == 9 { 32 } else { 1 };
        decoder.array_with(min_len, "count", |decoder| Item::read(kind, decoder))
    } else {
        Item::read(kind, &mut decoder).map(|item| vec![item])
    };
    match items {
        Ok(items) => {
            assert!(decoder.offset() <= bytes.len());
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out);
            for item in &items {
                assert!(item.write(kind, &mut encoder).is_ok());
            }
            // Invalid text is replaced, and integers may have had a longer form: a second round trip changes nothing.
            let mut second = Vec::new();
            let mut decoder = Decoder::new(&out);
            for _ in &items {
                let item = Item::read(kind, &mut decoder).expect("what was encoded decodes");
                assert!(item.write(kind, &mut Encoder::new(&mut second)).is_ok());
            }
            assert!(decoder.is_empty());
            assert_eq!(out, second);
        }
        Err(error) => assert!(error.offset <= bytes.len()),
    }
    bytes.len()
}

/// The number of message kinds that the first byte of an input of [`messages`] selects; 10 is the channel's handshake.
pub(crate) const MESSAGE_KINDS: u8 = 11;

pub(crate) fn messages(input: &[u8]) -> usize {
    let Some((&kind, bytes)) = input.split_first() else {
        return 0;
    };
    let kind = kind % MESSAGE_KINDS;
    if kind == 10 {
        agree::<Handshake>(bytes);
        return bytes.len();
    }
    let body = Buffer::copy_from(bytes);
    let message_type = MessageType::from_id(u64::from(kind)).expect("types 0 to 9 are known");
    let Some(decoded) = sound(Message::decode_as(message_type, &body), bytes.len()) else {
        return bytes.len();
    };
    let message = decoded.value;
    assert_eq!(message.message_type(), message_type);
    let _ = format!("{message:?}");
    if let Message::Extension(extension) = &message {
        let mut names = ExtensionNames::default();
        assert_eq!(names.receive(&extension.name), &*extension.name);
        assert_eq!(names.receive(""), &*extension.name);
    }
    if let Ok(bytes) = message.encode() {
        let bytes = Buffer::from(bytes);
        let again = Message::decode_as(message_type, &bytes).expect("what was encoded decodes");
        assert_eq!((again.trailing, again.long_uints), (0, 0));
        assert_eq!(again.value.encode().as_deref(), Ok(bytes.as_slice()));
    }
    bytes.len()
}

pub(crate) fn manifest(input: &[u8]) -> usize {
    let Some(manifest) = agree::<Manifest>(input) else {
        return input.len();
    };
    let _ = manifest.is_compat(&Key::new([0; 32]));
    if manifest.is_exact() {
        let bytes = manifest.encode().expect("a decoded manifest encodes");
        let again = Manifest::decode(&bytes).expect("what was encoded decodes");
        assert_eq!(again.value, manifest);
    }
    let key = manifest.hash().expect("a decoded manifest encodes");
    let options = CoreOptions {
        manifest: Some(manifest.clone()),
        ..CoreOptions::default()
    };
    let opened = Core::open(Memory::new(), options);
    match opened {
        Ok(core) => {
            assert!(manifest.check().is_ok());
            assert!(core.is_compat() || core.key() == &key);
            assert!(!core.is_writable());
        }
        Err(error) => drop(error.to_string()),
    }
    input.len()
}

pub(crate) fn multisig(input: &[u8]) -> usize {
    let Some((&version, bytes)) = input.split_first() else {
        return 0;
    };
    if version & 1 == 0 {
        agree::<MultiSignatureV0>(bytes);
    } else {
        agree::<MultiSignature>(bytes);
    }
    bytes.len()
}

pub(crate) fn record(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let nesting = choices.below(70);
    let bytes = choices.rest();
    let mut plain = RecordReader::new(Buffer::copy_from(bytes), nesting);
    let mut observed = RecordReader::observed(Buffer::copy_from(bytes), nesting);
    let mut packets = Vec::new();
    let mut failed = false;
    loop {
        let packet = plain.next_packet();
        assert_eq!(packet, observed.next_packet());
        for reading in observed.take_readings() {
            assert!(reading.offset + reading.length <= bytes.len());
        }
        match packet {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => break,
            Err(error) => {
                let _ = (error.to_string(), error.class());
                failed = true;
                break;
            }
        }
        assert!(
            packets.len() <= bytes.len(),
            "each packet takes a byte at least"
        );
    }
    assert_eq!(plain.next_packet(), Ok(None), "the reader is at its end");
    if !failed && !packets.is_empty() {
        rebatch(&packets);
    }
    bytes.len()
}

/// The packets of a record, written as a batch, are read back the same.
fn rebatch(packets: &[Packet]) {
    let Ok(batch) = Batch(packets).encode() else {
        return;
    };
    let mut reader = RecordReader::new(Buffer::from(batch), 2);
    for packet in packets {
        // A control message of type 0 in a batch is a nested batch.
        if matches!(packet, Packet::Message { channel: 0, .. }) {
            return;
        }
        assert_eq!(reader.next_packet().as_ref(), Ok(&Some(packet.clone())));
    }
    assert_eq!(reader.next_packet(), Ok(None));
}
