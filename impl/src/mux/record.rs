//! One plaintext record: a message, or a batch of them.
//!
//! Layout, from protomux 3.12.1, `index.js` (`_decode`, `_oncontrolsession`, `_onbatch`, `_sendBatch`):
//! - a message is `uint channel`, `uint type` and a body that ends with the record; channel 0 is control.
//! - control types: 0 batch, 1 open (`uint id`, `string protocol`, `optionalBuffer id`, handshake), 2 reject (`uint`),
//!   3 close (`uint`); others are ignored.
//! - a batch is `uint channel` and items: a `uint` length and that many bytes of a message without its channel (type,
//!   body). A length of 0 says that another `uint channel` follows. A length beyond the batch is clamped to it.

use crate::buffer::Buffer;
use crate::encoding::{
    DecodeError, Decoder, Encode, EncodeError, Encoder, Reading, ReadingKind, Readings,
};

use super::error::MuxError;

/// The control channel.
pub(super) const CONTROL: u64 = 0;

pub(super) const BATCH: u64 = 0;
pub(super) const OPEN: u64 = 1;
pub(super) const REJECT: u64 = 2;
pub(super) const CLOSE: u64 = 3;

/// A message or control message of a record, outside of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet {
    /// A message on a channel.
    Message {
        /// The sender's id of the channel, from 1.
        channel: u64,
        /// The message's number on that channel.
        kind: u64,
        /// The message.
        body: Buffer,
    },
    /// Channel 0, type 1: the sender opens a channel.
    Open {
        /// The sender's id of the channel.
        id: u64,
        /// The protocol's name.
        protocol: String,
        /// The id of the channel among those of its protocol; for hypercore the discovery key. An empty one counts as none.
        channel_id: Option<Buffer>,
        /// The protocol's own handshake.
        handshake: Buffer,
    },
    /// Channel 0, type 2: the sender rejects a channel.
    Reject {
        /// The receiver's id of the channel.
        id: u64,
    },
    /// Channel 0, type 3: the sender closes its channel.
    Close {
        /// The sender's id of the channel.
        id: u64,
    },
    /// Channel 0, an unknown type; receivers ignore it.
    UnknownControl {
        /// The type, above 3.
        kind: u64,
        /// What follows it.
        body: Buffer,
    },
}

impl Packet {
    /// The channel id that stands before the packet: 0 for control.
    pub fn channel(&self) -> u64 {
        match self {
            Self::Message { channel, .. } => *channel,
            _ => CONTROL,
        }
    }

    /// The packet without its channel, as it stands in a batch.
    fn encode_item(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Message { kind, body, .. } | Self::UnknownControl { kind, body } => {
                encoder.uint(*kind, "type")?;
                encoder.raw(body);
                Ok(())
            }
            Self::Open {
                id,
                protocol,
                channel_id,
                handshake,
            } => {
                encoder.uint(OPEN, "type")?;
                OpenBody {
                    id: *id,
                    protocol,
                    channel_id: channel_id.as_deref(),
                    handshake: &Raw(handshake),
                }
                .encode_to(encoder)
            }
            Self::Reject { id } => {
                encoder.uint(REJECT, "type")?;
                encoder.uint(*id, "id")
            }
            Self::Close { id } => {
                encoder.uint(CLOSE, "type")?;
                encoder.uint(*id, "id")
            }
        }
    }
}

/// One record with this packet alone.
impl Encode for Packet {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.channel(), "channel")?;
        self.encode_item(encoder)
    }
}

/// One record with many packets, as Node lays out what was corked: a channel id is written where it changes.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a>(pub &'a [Packet]);

impl Encode for Batch<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(CONTROL, "channel")?;
        encoder.uint(BATCH, "type")?;
        let mut last = None;
        for packet in self.0 {
            let channel = packet.channel();
            if last.is_some_and(|last| last != channel) {
                encoder.u8(0);
            }
            if last != Some(channel) {
                encoder.uint(channel, "channel")?;
            }
            last = Some(channel);
            let mut measure = Encoder::measure();
            packet.encode_item(&mut measure)?;
            encoder.uint(measure.len() as u64, "length")?;
            packet.encode_item(encoder)?;
        }
        Ok(())
    }
}

pub(super) struct OpenBody<'a> {
    pub(super) id: u64,
    pub(super) protocol: &'a str,
    pub(super) channel_id: Option<&'a [u8]>,
    pub(super) handshake: &'a dyn Encode,
}

impl Encode for OpenBody<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.id, "id")?;
        encoder.string(self.protocol, "protocol")?;
        encoder.optional_buffer(self.channel_id, "channelId")?;
        self.handshake.encode_to(encoder)
    }
}

/// The body of a reject and of a close.
pub(super) struct IdBody(pub(super) u64);

impl Encode for IdBody {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.0, "id")
    }
}

/// Bytes that are already encoded.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a>(pub &'a [u8]);

impl Encode for Raw<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.raw(self.0);
        Ok(())
    }
}

/// Unpacks one record, a packet at a time, so that a record of millions of items costs no memory beyond its own bytes.
///
/// Batches within batches are kept on a stack of at most the given depth, where Node recurses until its stack ends.
#[derive(Debug)]
pub struct RecordReader {
    record: Buffer,
    position: usize,
    started: bool,
    batches: Vec<OpenBatch>,
    max_nesting: usize,
    max_open: usize,
    oversized: bool,
    trailing: u64,
    readings: Option<Readings>,
}

#[derive(Debug)]
struct OpenBatch {
    channel: u64,
    end: usize,
}

impl RecordReader {
    /// Reads `record`; a batch within a batch is the second of `max_nesting`.
    pub fn new(record: Buffer, max_nesting: usize) -> Self {
        Self {
            record,
            position: 0,
            started: false,
            batches: Vec::new(),
            max_nesting,
            max_open: usize::MAX,
            oversized: false,
            trailing: 0,
            readings: None,
        }
    }

    /// Of an open of more than `max_open` bytes only the id is read: a name that is no UTF-8 takes three times its bytes.
    pub(super) fn with_max_open(self, max_open: usize) -> Self {
        Self { max_open, ..self }
    }

    /// Whether the packet that was returned last is such an open.
    pub(super) fn take_oversized(&mut self) -> bool {
        std::mem::take(&mut self.oversized)
    }

    /// How many rejects and closes so far had bytes after their last field, which Node ignores.
    pub fn trailing(&self) -> u64 {
        self.trailing
    }

    /// As [`RecordReader::new`], and notes each value: see [`RecordReader::take_readings`].
    pub fn observed(record: Buffer, max_nesting: usize) -> Self {
        Self {
            readings: Some(Readings::default()),
            ..Self::new(record, max_nesting)
        }
    }

    /// Where the values stood that were read since the last call, in bytes from the start of the record, the ids and
    /// lengths of batches among them; a message's body is one value. Nothing unless [`RecordReader::observed`] made it.
    pub fn take_readings(&self) -> Vec<Reading> {
        self.readings
            .as_ref()
            .map(Readings::take)
            .unwrap_or_default()
    }

    /// How many values were read since the last call of this that are not among the readings, for there were more than
    /// [`Readings::MAX`] since they were taken.
    pub fn take_left_out(&self) -> u64 {
        self.readings.as_ref().map_or(0, Readings::take_left_out)
    }

    /// Stops recording values.
    pub fn stop_observing(&mut self) {
        self.readings = None;
    }

    /// Bytes of the whole record, which stays in memory while any body of it does.
    pub fn record_len(&self) -> usize {
        self.record.len()
    }

    /// The next packet, or `None` at the end of the record. An empty record has none.
    ///
    /// # Errors
    /// Where the record breaks off within a field; packets before that were returned. The reader is at its end then.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, MuxError> {
        let result = self.advance();
        if result.is_err() {
            self.position = self.record.len();
            self.started = true;
            self.batches.clear();
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Packet>, MuxError> {
        loop {
            let (channel, end) = match self.batches.last().map(|batch| (batch.channel, batch.end)) {
                None if self.started || self.record.is_empty() => return Ok(None),
                None => {
                    self.started = true;
                    let end = self.record.len();
                    (self.uint(end, "channel")?, end)
                }
                Some((_, end)) if self.position >= end => {
                    self.batches.pop();
                    continue;
                }
                Some((channel, end)) => {
                    let length = self.uint(end, "length")?;
                    if length == 0 {
                        let channel = self.uint(end, "channel")?;
                        if let Some(batch) = self.batches.last_mut() {
                            batch.channel = channel;
                        }
                        continue;
                    }
                    let left = end - self.position;
                    let length = usize::try_from(length).map_or(left, |length| length.min(left));
                    (channel, self.position + length)
                }
            };
            if let Some(packet) = self.packet(channel, end)? {
                return Ok(Some(packet));
            }
        }
    }

    /// Reads a packet that ends at `end`; a batch is opened instead, and none returned.
    fn packet(&mut self, channel: u64, end: usize) -> Result<Option<Packet>, MuxError> {
        let kind = self.uint(end, "type")?;
        let packet = match (channel, kind) {
            (CONTROL, BATCH) => {
                if self.batches.len() >= self.max_nesting {
                    return Err(MuxError::NestingTooDeep {
                        limit: self.max_nesting,
                    });
                }
                let channel = self.uint(end, "channel")?;
                self.batches.push(OpenBatch { channel, end });
                return Ok(None);
            }
            (CONTROL, OPEN) if end - self.position > self.max_open => {
                self.oversized = true;
                Packet::Open {
                    id: self.uint(end, "id")?,
                    protocol: String::new(),
                    channel_id: None,
                    handshake: Buffer::new(),
                }
            }
            (CONTROL, OPEN) => self.fields(end, |decoder| {
                Ok(Packet::Open {
                    id: decoder.uint("id")?,
                    protocol: decoder.string("protocol")?,
                    channel_id: decoder.optional_buffer("channelId")?,
                    handshake: decoder.raw(),
                })
            })?,
            (CONTROL, REJECT) => self.fields(end, |decoder| {
                let id = decoder.uint("id")?;
                Ok(Packet::Reject { id })
            })?,
            (CONTROL, CLOSE) => self.fields(end, |decoder| {
                let id = decoder.uint("id")?;
                Ok(Packet::Close { id })
            })?,
            (CONTROL, kind) => Packet::UnknownControl {
                kind,
                body: self.body(end),
            },
            (channel, kind) => Packet::Message {
                channel,
                kind,
                body: self.body(end),
            },
        };
        self.position = end;
        Ok(Some(packet))
    }

    fn body(&self, end: usize) -> Buffer {
        let start = self.position;
        if let Some(readings) = &self.readings {
            readings.note(Reading::new("body", start, end - start, ReadingKind::Bytes));
        }
        self.record.slice(start..end)
    }

    fn uint(&mut self, end: usize, field: &'static str) -> Result<u64, DecodeError> {
        let start = self.position;
        let mut decoder = Decoder::new(&self.record[start..end]);
        let value = decoder.uint(field).map_err(|error| at(error, start))?;
        self.position += decoder.offset();
        if let Some(readings) = &self.readings {
            let kind = ReadingKind::Uint(value);
            readings.note(Reading::new(field, start, decoder.offset(), kind));
        }
        Ok(value)
    }

    fn fields(
        &mut self,
        end: usize,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<Packet, DecodeError>,
    ) -> Result<Packet, DecodeError> {
        let rest = self.record.slice(self.position..end);
        let within = Readings::default();
        let mut decoder = match &self.readings {
            Some(_) => Decoder::observed(&rest, &within),
            None => Decoder::shared(&rest),
        };
        let packet = read(&mut decoder).map_err(|error| at(error, self.position));
        if packet.is_ok() && !decoder.is_empty() {
            self.trailing += 1;
            let (start, length) = (decoder.offset(), decoder.remaining());
            within.note(Reading::new(
                "(trailing)",
                start,
                length,
                ReadingKind::Bytes,
            ));
        }
        if let Some(readings) = &self.readings {
            for mut reading in within.take() {
                reading.offset += self.position;
                readings.note(reading);
            }
        }
        packet
    }
}

/// The offset counts from the start of the record.
fn at(mut error: DecodeError, start: usize) -> DecodeError {
    error.offset += start;
    error
}
