//! Frames: every record on the wire, the handshake's included, is a little-endian uint24 length and
//! that many bytes (@hyperswarm/secret-stream 6.9.2, index.js).

use thiserror::Error;

use crate::class::ErrorClass;

/// Bytes of the length prefix.
pub const HEADER_BYTES: usize = 3;
/// The largest record: 0xffffff bytes without its length prefix.
pub const MAX_RECORD_BYTES: usize = 0xff_ffff;

/// Minimum capacity of a record in progress, so that small chunks do not reallocate each time.
const GROWTH_BYTES: usize = 4096;

/// What is wrong with a record's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stream ended within a record or its length prefix.
    #[error("the stream ended within a record: {held} bytes arrived, {missing} are missing")]
    Truncated {
        /// Bytes of the record that arrived, including its length prefix.
        held: usize,
        /// Missing bytes, as far as known; for a cut length prefix, the rest of the prefix.
        missing: usize,
    },
    /// The outgoing record is longer than [`MAX_RECORD_BYTES`].
    #[error("a record of {actual} bytes is longer than {MAX_RECORD_BYTES}")]
    TooLarge {
        /// Bytes of the record.
        actual: usize,
    },
}

impl FrameError {
    /// The class of the error, shared with other implementations.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Truncated { .. } => ErrorClass::Truncated,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
        }
    }
}

/// Parses the length prefix.
pub(crate) fn length(header: [u8; HEADER_BYTES]) -> usize {
    let [low, middle, high] = header;
    u32::from_le_bytes([low, middle, high, 0]) as usize
}

/// The length prefix of a record of `len` bytes.
///
/// # Errors
/// [`FrameError::TooLarge`] above [`MAX_RECORD_BYTES`].
pub fn frame_header(len: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    if len > MAX_RECORD_BYTES {
        return Err(FrameError::TooLarge { actual: len });
    }
    Ok([len as u8, (len >> 8) as u8, (len >> 16) as u8])
}

/// Appends the length prefix of a record of `len` bytes.
///
/// # Errors
/// [`FrameError::TooLarge`] above [`MAX_RECORD_BYTES`]; nothing is then appended.
pub fn write_frame_header(len: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.extend_from_slice(&frame_header(len)?);
    Ok(())
}

/// Splits a stream of bytes, in chunks of any size, into records.
///
/// Each byte is copied once, from the chunk into its record's own allocation, which grows with the received bytes and
/// never by the claimed length. A record of length 0 is valid here; the layers above refuse it.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    header: [u8; HEADER_BYTES],
    header_held: usize,
    record: Vec<u8>,
    consumed: u64,
    records: u64,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes bytes from the front of `input` up to the end of the current record.
    ///
    /// Returns the record when it is complete, and `None` when `input` is used up before. Call again until `None`.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Vec<u8>> {
        self.decode_within(MAX_RECORD_BYTES, input)
            .map(Result::unwrap_or_default)
    }

    /// As [`FrameDecoder::decode`], but refuses a record that announces more than `limit` bytes at once: its length is
    /// returned, now and by every later call, and none of its bytes are consumed.
    pub(crate) fn decode_within(
        &mut self,
        limit: usize,
        input: &mut &[u8],
    ) -> Option<Result<Vec<u8>, usize>> {
        while self.header_held < HEADER_BYTES {
            let (byte, rest) = input.split_first()?;
            self.header[self.header_held] = *byte;
            self.header_held += 1;
            self.consumed += 1;
            *input = rest;
        }
        let len = self.record_len();
        if len > limit {
            return Some(Err(len));
        }
        let (now, rest) = input.split_at(self.missing().min(input.len()));
        self.reserve(len, now.len());
        self.record.extend_from_slice(now);
        self.consumed += now.len() as u64;
        *input = rest;
        if self.missing() > 0 {
            return None;
        }
        self.header_held = 0;
        self.records += 1;
        Some(Ok(std::mem::take(&mut self.record)))
    }

    /// The announced length of the record in progress; `None` before the length prefix is complete.
    #[must_use]
    pub fn announced(&self) -> Option<usize> {
        (self.header_held == HEADER_BYTES).then(|| self.record_len())
    }

    /// The length prefix of the record in progress.
    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        self.header
    }

    fn missing(&self) -> usize {
        self.record_len() - self.record.len()
    }

    fn record_len(&self) -> usize {
        length(self.header)
    }

    /// Reserves room for `more` bytes: exactly as much as needed if that completes the record, else at most twice the
    /// received size.
    fn reserve(&mut self, len: usize, more: usize) {
        let needed = self.record.len() + more;
        if needed > self.record.capacity() {
            let capacity = len.min((2 * needed).max(GROWTH_BYTES));
            self.record.reserve_exact(capacity - self.record.len());
        }
    }

    /// Bytes held of an incomplete record, including its length prefix.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.header_held + self.record.len()
    }

    /// Capacity of the record in progress.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.record.capacity()
    }

    /// Bytes consumed since the start of the stream.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.consumed
    }

    /// Complete records returned since the start of the stream.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] within a record.
    pub fn end(&self) -> Result<(), FrameError> {
        let missing = match self.header_held {
            0 => return Ok(()),
            HEADER_BYTES => self.missing(),
            held => HEADER_BYTES - held,
        };
        Err(FrameError::Truncated {
            held: self.pending(),
            missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(records: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            write_frame_header(record.len(), &mut out).unwrap();
            out.extend_from_slice(record);
        }
        out
    }

    fn decode_all(decoder: &mut FrameDecoder, mut input: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(record) = decoder.decode(&mut input) {
            records.push(record);
        }
        assert!(input.is_empty());
        records
    }

    #[test]
    fn the_length_is_little_endian() {
        assert_eq!(frame_header(0x03_02_01).unwrap(), [1, 2, 3]);
        assert_eq!(frame_header(MAX_RECORD_BYTES).unwrap(), [0xff; 3]);
        assert_eq!(
            frame_header(MAX_RECORD_BYTES + 1),
            Err(FrameError::TooLarge { actual: 0x100_0000 })
        );
    }

    #[test]
    fn a_record_is_whole_with_its_last_byte_and_not_before() {
        let mut decoder = FrameDecoder::new();
        let bytes = framed(&[vec![7; 5]]);
        for (at, byte) in bytes.iter().enumerate() {
            let records = decode_all(&mut decoder, &[*byte]);
            assert_eq!(records.len(), usize::from(at == bytes.len() - 1));
            assert_eq!(
                decoder.end().is_ok(),
                at == bytes.len() - 1,
                "after {at} bytes"
            );
        }
        assert_eq!(decoder.offset(), 8);
        assert_eq!(decoder.records(), 1);
    }

    #[test]
    fn an_empty_record_needs_only_its_length() {
        let mut decoder = FrameDecoder::new();
        assert_eq!(
            decode_all(&mut decoder, &[0, 0, 0, 0]),
            vec![Vec::<u8>::new()]
        );
        for (held, missing) in [(1, 2), (2, 1)] {
            assert_eq!(decoder.end(), Err(FrameError::Truncated { held, missing }));
            assert!(decode_all(&mut decoder, &[0]).len() == usize::from(missing == 1));
        }
    }

    #[test]
    fn the_largest_record_passes() {
        let records = vec![vec![0xa5; MAX_RECORD_BYTES], vec![1]];
        let bytes = framed(&records);
        let mut decoder = FrameDecoder::new();
        let mut seen = Vec::new();
        for chunk in bytes.chunks(65_536) {
            seen.extend(decode_all(&mut decoder, chunk));
        }
        assert_eq!(seen, records);
        assert_eq!(seen[0].capacity(), MAX_RECORD_BYTES);
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut decoder = FrameDecoder::new();
        assert!(decode_all(&mut decoder, &[0xff, 0xff, 0xff]).is_empty());
        assert_eq!(decoder.record.capacity(), 0);
        assert!(decode_all(&mut decoder, &[0; 10]).is_empty());
        assert!(decoder.record.capacity() <= GROWTH_BYTES);
        assert!(decode_all(&mut decoder, &[0; 10_000]).is_empty());
        assert!(decoder.record.capacity() <= 2 * 10_010);
        assert_eq!(
            decoder.end(),
            Err(FrameError::Truncated {
                held: 10_013,
                missing: MAX_RECORD_BYTES - 10_010
            })
        );
    }

    #[test]
    fn room_is_made_for_what_arrives_and_kept_until_it_is_full() {
        let mut decoder = FrameDecoder::new();
        decode_all(&mut decoder, &frame_header(40_000).unwrap());
        for (arrives, capacity) in [
            (10, GROWTH_BYTES),
            (4086, GROWTH_BYTES),
            (904, 10_000),
            (4900, 10_000),
            (100, 10_000),
            (1, 20_002),
            (10_001, 20_002),
            (1, 40_000),
        ] {
            decode_all(&mut decoder, &vec![0; arrives]);
            assert_eq!(decoder.kept(), capacity, "at {} bytes", decoder.pending());
        }
        let mut decoder = FrameDecoder::new();
        let records = decode_all(&mut decoder, &framed(&[vec![0; 100]]));
        assert_eq!(records[0].capacity(), 100);
    }

    #[test]
    fn a_record_over_the_limit_is_refused_when_it_is_announced() {
        let bytes = framed(&[vec![1; 10], vec![2; 11]]);
        let mut decoder = FrameDecoder::new();
        let (whole, length) = (&mut &bytes[..13], &mut &bytes[13..16]);
        assert_eq!(decoder.decode_within(10, whole), Some(Ok(vec![1; 10])));
        assert_eq!(decoder.announced(), None);
        assert_eq!(decoder.decode_within(10, length), Some(Err(11)));
        assert_eq!((decoder.announced(), decoder.kept()), (Some(11), 0));
        assert_eq!(decoder.offset(), 16);
        let rest = &mut &bytes[16..];
        assert_eq!(decoder.decode_within(10, rest), Some(Err(11)));
        assert_eq!(rest.len(), 11, "nothing of it is taken");
        // A higher limit accepts it after all.
        assert_eq!(decoder.decode_within(11, rest), Some(Ok(vec![2; 11])));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1_usize..97, 1..20),
        ) {
            let bytes = framed(&records);
            let mut decoder = FrameDecoder::new();
            let (mut seen, mut rest) = (Vec::new(), &bytes[..]);
            for size in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                seen.extend(decode_all(&mut decoder, now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(decoder.records(), records.len() as u64);
            prop_assert_eq!(seen, records);
            prop_assert_eq!(decoder.pending(), 0);
            prop_assert_eq!(decoder.offset(), bytes.len() as u64);
        }
    }
}
