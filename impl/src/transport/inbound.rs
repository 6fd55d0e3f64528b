//! The incoming direction: bytes to frames to plaintexts.

use std::collections::VecDeque;
use std::fmt;

use zeroize::Zeroizing;

use crate::buffer::Buffer;
use crate::datagram::{DatagramError, Datagrams};
use crate::frame::{self, FrameDecoder};
use crate::keys::KeyPair;
use crate::noise::{self, Handshake, HandshakeConfig, HandshakeResult, NoiseError, NoiseErrorKind};
use crate::secret_stream::{self, Pull, Push, SecretStreamError};

use super::{
    End, HandshakeInfo, Mode, Outbound, Position, TransportConfig, TransportError,
    TransportErrorKind,
};

/// The kind of the next incoming record.
enum Phase {
    /// A Noise message.
    Noise(Box<Handshake>),
    /// The remote's header; its key is ours to receive with.
    Header(Zeroizing<[u8; secret_stream::KEY_BYTES]>),
    /// A sealed record.
    Records(Pull),
    /// A plaintext.
    Plain,
    /// No record: the incoming stream has ended.
    Ended,
    /// No record: the transport has failed.
    Failed(TransportError),
}

/// The incoming direction of a [`Transport`](super::Transport), which makes the handshake as well: what it sends goes into the
/// [`Outbound`] that each call is given, always the same one.
pub(crate) struct Inbound {
    is_initiator: bool,
    public_key: [u8; 32],
    header: Option<[u8; secret_stream::HEADER_BYTES]>,
    phase: Phase,
    /// Whether incoming records are sealed; fixed from the start.
    sealed: bool,
    handshake: Option<HandshakeInfo>,
    datagrams: Option<Datagrams>,
    /// The remote's header has arrived.
    established: bool,
    frames: FrameDecoder,
    received: VecDeque<Buffer>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Noise(_) => "noise",
            Phase::Header(_) => "header",
            Phase::Records(_) => "records",
            Phase::Plain => "unencrypted",
            Phase::Ended => "ended",
            Phase::Failed(_) => "failed",
        };
        f.debug_struct("Inbound")
            .field("is_initiator", &self.is_initiator)
            .field("phase", &phase)
            .field("bytes", &self.frames.offset())
            .finish_non_exhaustive()
    }
}

impl Inbound {
    /// Both directions of a transport. The initiator's first message is in the outgoing one at once.
    pub(super) fn start(config: TransportConfig) -> Result<(Self, Outbound), TransportError> {
        match &config.mode {
            Mode::Noise => Self::with_noise(config),
            Mode::HandshakeDone { public_key, result } => {
                let expected = config.remote_public_key;
                if expected.is_some() && expected != result.remote_public_key {
                    return Err(NoiseError {
                        pattern: config.pattern,
                        message: config.pattern.messages().len(),
                        expected: "end",
                        kind: NoiseErrorKind::UnexpectedRemotePublicKey,
                    }
                    .into());
                }
                let header = config.header_for_testing_only;
                Self::after_handshake(config.is_initiator, *public_key, result, header)
            }
            Mode::Unencrypted { handshake_hash } => {
                let key_pair = config.key_pair.as_ref();
                Ok(Self::unencrypted(HandshakeInfo {
                    is_initiator: config.is_initiator,
                    public_key: key_pair.map_or([0; 32], |pair| *pair.public_key()),
                    remote_public_key: config.remote_public_key,
                    hash: *handshake_hash,
                }))
            }
        }
    }

    fn with_noise(config: TransportConfig) -> Result<(Self, Outbound), TransportError> {
        let key_pair = config.key_pair.unwrap_or_else(KeyPair::generate);
        let public_key = *key_pair.public_key();
        let handshake = Handshake::new(HandshakeConfig {
            pattern: config.pattern,
            is_initiator: config.is_initiator,
            key_pair: Some(key_pair),
            remote_public_key: config.remote_public_key,
            psk: config.psk,
            prologue: config.prologue,
            fixed_ephemeral_for_testing_only: config.fixed_ephemeral_for_testing_only,
        })?;
        let phase = Phase::Noise(Box::new(handshake));
        let header = config.header_for_testing_only;
        let mut inbound = Self::in_phase(config.is_initiator, public_key, header, phase);
        let mut outbound = Outbound::waiting();
        inbound.continue_handshake(&mut outbound)?;
        Ok((inbound, outbound))
    }

    pub(super) fn after_handshake(
        is_initiator: bool,
        public_key: [u8; 32],
        result: &HandshakeResult,
        header_for_testing_only: Option<[u8; secret_stream::HEADER_BYTES]>,
    ) -> Result<(Self, Outbound), TransportError> {
        let phase = Phase::Ended;
        let mut inbound = Self::in_phase(is_initiator, public_key, header_for_testing_only, phase);
        let mut outbound = Outbound::waiting();
        inbound.start_records(result, &mut outbound)?;
        Ok((inbound, outbound))
    }

    fn unencrypted(info: HandshakeInfo) -> (Self, Outbound) {
        let mut inbound = Self::in_phase(info.is_initiator, info.public_key, None, Phase::Plain);
        inbound.sealed = false;
        inbound.established = true;
        inbound.handshake = Some(info);
        (inbound, Outbound::bare())
    }

    /// Of a transport that could not be started: they only report why.
    pub(super) fn failed(is_initiator: bool, error: TransportError) -> (Self, Outbound) {
        let mut outbound = Outbound::waiting();
        outbound.fail(error.clone());
        let inbound = Self::in_phase(is_initiator, [0; 32], None, Phase::Failed(error));
        (inbound, outbound)
    }

    fn in_phase(
        is_initiator: bool,
        public_key: [u8; 32],
        header: Option<[u8; secret_stream::HEADER_BYTES]>,
        phase: Phase,
    ) -> Self {
        Self {
            is_initiator,
            public_key,
            header,
            phase,
            sealed: true,
            handshake: None,
            datagrams: None,
            established: false,
            frames: FrameDecoder::new(),
            received: VecDeque::new(),
        }
    }

    pub(crate) fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    pub(crate) fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    pub(crate) fn handshake(&self) -> Option<&HandshakeInfo> {
        self.handshake.as_ref()
    }

    pub(crate) fn datagrams(&mut self) -> Result<Datagrams, DatagramError> {
        if !self.sealed {
            return Err(DatagramError::Unencrypted);
        }
        let info = self.handshake.as_ref().ok_or(DatagramError::NoHandshake)?;
        if let Some(datagrams) = &self.datagrams {
            return Ok(datagrams.clone());
        }
        let datagrams = Datagrams::new(&info.hash, info.is_initiator)?;
        Ok(self.datagrams.insert(datagrams).clone())
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established && !matches!(self.phase, Phase::Failed(_))
    }

    pub(crate) fn failure(&self) -> Option<&TransportError> {
        match &self.phase {
            Phase::Failed(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        out: &mut Outbound,
    ) -> Result<(), TransportError> {
        match &self.phase {
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Ended if bytes.is_empty() => return Ok(()),
            Phase::Ended => return Err(self.fail(TransportErrorKind::Ended, out)),
            _ => {}
        }
        loop {
            let limit = self.record_limit();
            let Some(record) = self.frames.decode_within(limit, &mut bytes) else {
                return Ok(());
            };
            // What a Noise message may have is refused only once some of it arrives: until then an end is a cut record.
            if matches!((&self.phase, &record), (Phase::Noise(_), Err(len)) if *len <= noise::MAX_MESSAGE_BYTES)
                && bytes.is_empty()
            {
                return Ok(());
            }
            // One that is refused is neither counted nor taken beyond its length.
            let (whole, len) = match &record {
                Ok(record) => (1, record.len()),
                Err(_) => (0, 0),
            };
            let position = Position {
                record: self.frames.records() - whole,
                offset: self.frames.offset() - (len + frame::HEADER_BYTES) as u64,
            };
            let outcome = match record {
                Ok(record) => self.on_record(record, out),
                Err(len) => Err(self.too_long(len)),
            };
            if let Err(kind) = outcome {
                return Err(self.fail_at(kind, position, out));
            }
        }
    }

    pub(crate) fn receive_end(&mut self, out: &mut Outbound) -> Result<End, TransportError> {
        if let Phase::Failed(error) = &self.phase {
            return Err(error.clone());
        }
        if let Err(error) = self.frames.end() {
            return Err(self.fail(error.into(), out));
        }
        let end = match self.phase {
            Phase::Noise(_) | Phase::Header(_) => End::BeforeHandshake,
            _ => End::Clean,
        };
        self.phase = Phase::Ended;
        Ok(end)
    }

    pub(crate) fn poll_record(&mut self) -> Option<Buffer> {
        self.received.pop_front()
    }

    pub(crate) fn has_records(&self) -> bool {
        !self.received.is_empty()
    }

    /// Whole records that arrived so far, those of the handshake included.
    pub(crate) fn records(&self) -> u64 {
        self.frames.records()
    }

    /// Whether a part of a record has arrived, and the bytes that it announces, 0 while that is not known.
    pub(crate) fn begun(&self) -> Option<usize> {
        (self.frames.pending() > 0).then(|| self.frames.announced().unwrap_or(0))
    }

    /// Bytes of what [`Inbound::poll_record`] returns next, if there is one.
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.received.front().map(|record| record.len())
    }

    /// Where the record begins that [`Inbound::poll_record`] returns next; of one that is not whole yet, or waits.
    pub(crate) fn next_position(&self) -> Position {
        Position {
            record: self.frames.records() - self.received.len() as u64,
            offset: self.position_of_next(),
        }
    }

    fn position_of_next(&self) -> u64 {
        let overhead = frame::HEADER_BYTES
            + if self.sealed {
                secret_stream::ABYTES
            } else {
                0
            };
        let waiting: usize = self.received.iter().map(|it| it.len() + overhead).sum();
        self.frames.offset() - (self.frames.pending() + waiting) as u64
    }

    /// The most plaintext that a record of this length can carry.
    pub(crate) fn plaintext_len(&self, record: usize) -> usize {
        record.saturating_sub(if self.sealed {
            secret_stream::ABYTES
        } else {
            0
        })
    }

    fn on_record(
        &mut self,
        mut record: Vec<u8>,
        out: &mut Outbound,
    ) -> Result<(), TransportErrorKind> {
        match &mut self.phase {
            Phase::Noise(handshake) => {
                // Streams ignore the content of the payload (secret-stream, lib/handshake.js).
                handshake.read(&record)?;
                self.continue_handshake(out)
            }
            Phase::Header(key) => {
                let Some(info) = &self.handshake else {
                    return Err(TransportErrorKind::Ended);
                };
                let header =
                    secret_stream::parse_header_record(&info.hash, self.is_initiator, &record)?;
                self.phase = Phase::Records(Pull::new(key, &header));
                self.established = true;
                Ok(())
            }
            Phase::Records(pull) => {
                // Any tag is a message (sodium-secretstream 1.2.0, index.js).
                pull.open(&mut record)?;
                let end = record.len() - secret_stream::MAC_BYTES;
                let record = Buffer::from(record);
                self.received
                    .push_back(record.slice(secret_stream::TAG_BYTES..end));
                Ok(())
            }
            Phase::Plain => {
                self.received.push_back(record.into());
                Ok(())
            }
            Phase::Ended | Phase::Failed(_) => Err(TransportErrorKind::Ended),
        }
    }

    /// Writes our next handshake message if it is our turn, and starts the records after the last.
    fn continue_handshake(&mut self, out: &mut Outbound) -> Result<(), TransportErrorKind> {
        let Phase::Noise(handshake) = &mut self.phase else {
            return Ok(());
        };
        if handshake.is_our_turn() {
            let mut message = Vec::new();
            handshake.write(&[], &mut message)?;
            out.put_handshake(&message)?;
        }
        if let Some(result) = handshake.result().cloned() {
            self.start_records(&result, out)?;
        }
        Ok(())
    }

    /// Sends our header, after which the records that waited for the keys can be sent.
    fn start_records(
        &mut self,
        result: &HandshakeResult,
        out: &mut Outbound,
    ) -> Result<(), TransportErrorKind> {
        let header = match self.header.take() {
            Some(header) => header,
            None => {
                let mut header = [0; secret_stream::HEADER_BYTES];
                getrandom::fill(&mut header).map_err(|_| TransportErrorKind::Random)?;
                header
            }
        };
        let record = secret_stream::header_record(&result.hash, self.is_initiator, &header);
        out.put_handshake(&record)?;
        out.start(Push::new(&result.tx, &header));
        self.phase = Phase::Header(Zeroizing::new(result.rx));
        self.handshake = Some(HandshakeInfo {
            is_initiator: self.is_initiator,
            public_key: self.public_key,
            remote_public_key: result.remote_public_key,
            hash: result.hash,
        });
        Ok(())
    }

    /// The longest record that can be right here. A longer one is refused when it is announced, where Node waits until
    /// it is whole: a stranger cannot make us hold 16 MiB, nor wait for them.
    fn record_limit(&self) -> usize {
        match &self.phase {
            Phase::Noise(handshake) => handshake.stream_limit(),
            Phase::Header(_) => secret_stream::HEADER_RECORD_BYTES,
            _ => frame::MAX_RECORD_BYTES,
        }
    }

    fn too_long(&self, actual: usize) -> TransportErrorKind {
        match &self.phase {
            Phase::Noise(handshake) if self.frames.records() == 0 => {
                TransportErrorKind::NotTheProtocol {
                    first: self.frames.header(),
                    announced: actual,
                    limit: handshake.stream_limit(),
                }
            }
            Phase::Noise(handshake) => handshake.too_long(actual).into(),
            _ => SecretStreamError::HeaderLength { actual }.into(),
        }
    }

    /// Fails at the record that is incomplete or due.
    fn fail(&mut self, kind: TransportErrorKind, out: &mut Outbound) -> TransportError {
        let position = Position {
            record: self.frames.records(),
            offset: self.frames.offset() - self.frames.pending() as u64,
        };
        self.fail_at(kind, position, out)
    }

    fn fail_at(
        &mut self,
        kind: TransportErrorKind,
        position: Position,
        out: &mut Outbound,
    ) -> TransportError {
        let error = TransportError {
            kind,
            position: Some(position),
        };
        out.fail(error.clone());
        self.phase = Phase::Failed(error.clone());
        error
    }

    /// Capacity of the record in progress.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.frames.kept()
    }
}
