//! The scripted peer's end of the wire: a TCP socket, and the crate's own layers one by one, so that each can be
//! skipped or corrupted.
//!
//! [`Transport`](hypercore_protocol::Transport) does not allow that: it enforces the order of the layers.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hypercore_protocol::frame::{FrameDecoder, frame_header};
use hypercore_protocol::noise::{Handshake, HandshakeConfig, HandshakeResult};
use hypercore_protocol::secret_stream::{
    MAC_BYTES, Pull, Push, State, Tag, header_record, parse_header_record,
};
use hypercore_protocol::{Buffer, KeyPair, Pattern};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::fixed::{EPHEMERAL_SEED, HEADER, STATIC_SEED};
use super::transcript::{Sender, Transcript};
use crate::drain::drained;

/// How many chunks may wait to be read; beyond it the peer stops reading.
const WAITING_CHUNKS: usize = 1024;

/// The longest message of a Noise handshake, in bytes: the Noise Protocol Framework, section 3.
const MAX_MESSAGE_BYTES: usize = 65_535;

/// The time-out of a write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A point of order 8, which libsodium and all its ports refuse.
pub(super) const SMALL_ORDER: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
    0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

/// Why nothing more can be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum WireError {
    /// The other end closed the connection, by an end or a reset, which count the same.
    #[error("the other end closed the connection")]
    Closed,
    /// The time-out passed.
    #[error("nothing came within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// Received bytes violate the protocol.
    #[error("what came makes no sense: {0}")]
    Nonsense(String),
    /// The script's step is impossible now.
    #[error("{0}")]
    Script(String),
}

/// The fault of the peer's own handshake, if any.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum NoiseFault {
    #[default]
    None,
    /// Random bytes in place of its first message.
    Garbage,
    /// Its ephemeral key is a point of small order.
    SmallOrder,
    /// Its first message lacks its last byte.
    Short,
    /// Its first message has a payload.
    Payload,
    /// It uses a prologue that was not agreed on.
    Prologue,
    /// It speaks the pattern NN, under another protocol name.
    OtherPattern,
    /// Its last message has one bit flipped.
    Flipped,
    /// It sends its first message twice.
    Twice,
}

/// Changes to a record after encryption.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Edit {
    /// The tag, 0 by default.
    pub(super) tag: u8,
    /// The byte, counted from the end, with a flipped bit.
    pub(super) flip: Option<usize>,
    /// The number added to the announced length.
    pub(super) claim: i32,
    /// The number of bytes at the end that are not sent.
    pub(super) cut: usize,
}

/// One connection of the scripted peer.
#[derive(Debug)]
pub(super) struct Wire {
    is_initiator: bool,
    /// `None` once the connection was reset.
    stream: Option<Arc<TcpStream>>,
    chunks: mpsc::Receiver<Vec<u8>>,
    reader: tokio::task::JoinHandle<()>,
    frames: FrameDecoder,
    unread: Vec<u8>,
    result: Option<HandshakeResult>,
    push: Option<Push>,
    pull: Option<Pull>,
    /// The sending state before the last record, and that record's MAC.
    before: Option<(State, [u8; MAC_BYTES])>,
    /// Writes are split into pieces of this size.
    pub(super) piece: Option<usize>,
    transcript: Transcript,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Wire {
    /// Dials, as the initiator.
    pub(super) async fn dial(address: impl tokio::net::ToSocketAddrs) -> std::io::Result<Self> {
        Self::new(TcpStream::connect(address).await?, true)
    }

    /// Accepts a connection as the responder.
    pub(super) fn accepted(stream: TcpStream) -> std::io::Result<Self> {
        Self::new(stream, false)
    }

    fn new(stream: TcpStream, is_initiator: bool) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let stream = Arc::new(stream);
        let (came, chunks) = mpsc::channel(WAITING_CHUNKS);
        Ok(Self {
            is_initiator,
            reader: tokio::spawn(read_all(Arc::clone(&stream), came)),
            stream: Some(stream),
            chunks,
            frames: FrameDecoder::new(),
            unread: Vec::new(),
            result: None,
            push: None,
            pull: None,
            before: None,
            piece: None,
            transcript: Transcript::new(is_initiator),
        })
    }

    pub(super) fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    pub(super) fn handshake_hash(&self) -> Option<[u8; 64]> {
        self.result.as_ref().map(|result| result.hash)
    }

    pub(super) fn remote(&self) -> std::io::Result<SocketAddr> {
        match &self.stream {
            Some(stream) => stream.peer_addr(),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether records can be encrypted.
    pub(super) fn has_keys(&self) -> bool {
        self.push.is_some()
    }

    /// The traffic so far.
    pub(super) fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    pub(super) fn transcript_mut(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    /// Writes raw bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.transcript.bytes(Sender::Peer, bytes);
        let stream = self.stream.as_ref().ok_or(WireError::Closed)?;
        let piece = self.piece.unwrap_or(bytes.len()).max(1);
        for piece in bytes.chunks(piece) {
            match timeout(WRITE_LIMIT, write_all(stream, piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(WireError::Closed),
                Err(_) => return Err(WireError::Silent(WRITE_LIMIT)),
            }
            if self.piece.is_some() {
                // Each piece is sent before the next is written, so that none are joined.
                drop(timeout(WRITE_LIMIT, drained(stream)).await);
            }
        }
        Ok(())
    }

    /// Writes one frame.
    pub(super) async fn frame(&mut self, body: &[u8]) -> Result<(), WireError> {
        let mut frame = frame_header(body.len())
            .map_err(|error| WireError::Script(error.to_string()))?
            .to_vec();
        frame.extend_from_slice(body);
        self.write(&frame).await
    }

    /// Encrypts a plaintext and writes it, changed by `edit`.
    pub(super) async fn record(&mut self, plaintext: &[u8], edit: Edit) -> Result<(), WireError> {
        let push = self
            .push
            .as_mut()
            .ok_or_else(|| WireError::Script("there are no keys yet".into()))?;
        let before = push.state_for_testing_only().clone();
        let mut record = vec![0];
        record.extend_from_slice(plaintext);
        record.resize(record.len() + MAC_BYTES, 0);
        push.seal(Tag(edit.tag), &mut record)
            .map_err(|error| WireError::Script(error.to_string()))?;
        if let Some(mac) = record.last_chunk() {
            self.before = Some((before, *mac));
        }
        self.transcript.plaintext(Sender::Peer, plaintext);
        if let Some(flip) = edit.flip {
            let at = record.len().checked_sub(flip + 1);
            let byte = at.and_then(|at| record.get_mut(at));
            *byte.ok_or_else(|| WireError::Script("there is no such byte".into()))? ^= 1;
        }
        let claimed = record.len().checked_add_signed(edit.claim as isize);
        let claimed = claimed.ok_or_else(|| WireError::Script("a length below 0".into()))?;
        record.truncate(record.len().saturating_sub(edit.cut));
        let mut frame = frame_header(claimed)
            .map_err(|error| WireError::Script(error.to_string()))?
            .to_vec();
        frame.append(&mut record);
        self.write(&frame).await
    }

    /// Continues as if the last record's tag had not requested a new key.
    pub(super) fn undo_rekey(&mut self) -> Result<(), WireError> {
        let (mut state, mac) = self
            .before
            .take()
            .ok_or_else(|| WireError::Script("no record was sent".into()))?;
        for (nonce, mac) in state.nonce.iter_mut().zip(mac) {
            *nonce ^= mac;
        }
        state.counter += 1;
        self.push = Some(Push::from_state_for_testing_only(state));
        Ok(())
    }

    /// Changes the key although no tag requested it.
    pub(super) fn rekey_unasked(&mut self) -> Result<(), WireError> {
        let push = self
            .push
            .as_mut()
            .ok_or_else(|| WireError::Script("there are no keys yet".into()))?;
        let mut unsent = [0; 1 + MAC_BYTES];
        push.seal(Tag::REKEY, &mut unsent)
            .map_err(|error| WireError::Script(error.to_string()))
    }

    /// Performs the Noise handshake, without the header.
    pub(super) async fn noise(
        &mut self,
        fault: NoiseFault,
        limit: Duration,
    ) -> Result<(), WireError> {
        let nonsense =
            |error: hypercore_protocol::noise::NoiseError| WireError::Nonsense(error.to_string());
        let pattern = match fault {
            NoiseFault::OtherPattern => Pattern::NN,
            _ => Pattern::XX,
        };
        let mut config = HandshakeConfig::new(pattern, self.is_initiator);
        config.key_pair = Some(KeyPair::from_seed(&STATIC_SEED));
        config.fixed_ephemeral_for_testing_only = Some(EPHEMERAL_SEED);
        if fault == NoiseFault::Prologue {
            config.prologue = b"another prologue".to_vec();
        }
        let mut handshake = Handshake::new(config).map_err(nonsense)?;
        let mut written = 0;
        loop {
            if let Some(result) = handshake.result() {
                self.transcript.keys(result);
                self.result = Some(result.clone());
                return Ok(());
            }
            if !handshake.is_our_turn() {
                let message = self.next_frame(limit).await?;
                match handshake.read(&message) {
                    Ok(_) => continue,
                    // A corrupted handshake cannot continue; the script may.
                    Err(_) if fault != NoiseFault::None => return Ok(()),
                    Err(error) => return Err(nonsense(error)),
                }
            }
            let first = written == 0;
            let payload: &[u8] = match fault {
                NoiseFault::Payload if first => b"a payload",
                _ => b"",
            };
            let mut message = Vec::new();
            handshake.write(payload, &mut message).map_err(nonsense)?;
            match fault {
                NoiseFault::Garbage if first => message.fill(0x5a),
                NoiseFault::SmallOrder if first => message[..32].copy_from_slice(&SMALL_ORDER),
                NoiseFault::Short if first => drop(message.pop()),
                NoiseFault::Twice if first => self.frame(&message).await?,
                NoiseFault::Flipped if handshake.result().is_some() || !self.is_initiator => {
                    if let Some(last) = message.last_mut() {
                        *last ^= 1;
                    }
                }
                _ => {}
            }
            self.frame(&message).await?;
            written += 1;
        }
    }

    /// Starts to send with the keys of the handshake, and this header record.
    pub(super) async fn header(&mut self, record: &[u8]) -> Result<(), WireError> {
        let result = self
            .result
            .as_ref()
            .ok_or_else(|| WireError::Script("there is no handshake yet".into()))?;
        self.push = Some(Push::new(&result.tx, &HEADER));
        self.frame(record).await
    }

    /// The correct header record.
    pub(super) fn own_header(&self) -> Result<Vec<u8>, WireError> {
        let hash = self
            .handshake_hash()
            .ok_or_else(|| WireError::Script("there is no handshake yet".into()))?;
        Ok(header_record(&hash, self.is_initiator, &HEADER).to_vec())
    }

    /// The next record of the other end, decrypted; reads its header on the way.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<Buffer, WireError> {
        loop {
            let mut frame = self.next_frame(limit).await?;
            let result = self
                .result
                .as_ref()
                .ok_or_else(|| WireError::Script("there is no handshake yet".into()))?;
            let Some(pull) = &mut self.pull else {
                let header = parse_header_record(&result.hash, self.is_initiator, &frame)
                    .map_err(|error| WireError::Nonsense(error.to_string()))?;
                self.pull = Some(Pull::new(&result.rx, &header));
                self.transcript.header(&header);
                continue;
            };
            pull.open(&mut frame)
                .map_err(|error| WireError::Nonsense(error.to_string()))?;
            let plaintext = &frame[1..frame.len() - MAC_BYTES];
            self.transcript.plaintext(Sender::Implementation, plaintext);
            return Ok(Buffer::copy_from(plaintext));
        }
    }

    async fn next_frame(&mut self, limit: Duration) -> Result<Vec<u8>, WireError> {
        let end = Instant::now() + limit;
        loop {
            let mut input = self.unread.as_slice();
            let frame = self.frames.decode(&mut input);
            let left = input.len();
            self.unread.drain(..self.unread.len() - left);
            if let Some(frame) = frame {
                return Ok(frame);
            }
            match timeout_at(end, self.chunks.recv()).await {
                Ok(Some(chunk)) => {
                    self.transcript.bytes(Sender::Implementation, &chunk);
                    if self.result.is_none() && self.frames.pending() == 0 {
                        speaks_noise(&chunk)?;
                    }
                    self.unread = chunk;
                }
                Ok(None) => return Err(WireError::Closed),
                Err(_) => return Err(WireError::Silent(limit)),
            }
        }
    }

    /// Reads the bytes received so far, for the transcript.
    pub(super) fn take_in(&mut self) {
        while let Ok(chunk) = self.chunks.try_recv() {
            self.transcript.bytes(Sender::Implementation, &chunk);
        }
    }

    /// Waits until the other end has closed, ignoring what it sends.
    pub(super) async fn closed(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match timeout_at(end, self.chunks.recv()).await {
                Ok(Some(chunk)) => self.transcript.bytes(Sender::Implementation, &chunk),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Ends the sending direction; reading continues.
    pub(super) fn end(&mut self) {
        self.transcript.note("the scripted peer ends its side");
        if let Some(stream) = &self.stream {
            drop(socket2::SockRef::from(stream).shutdown(Shutdown::Write));
        }
    }

    /// Resets the connection, after all written bytes have left.
    pub(super) async fn reset(&mut self) {
        self.transcript
            .note("the scripted peer resets the connection");
        let Some(stream) = self.stream.take() else {
            return;
        };
        drop(timeout(WRITE_LIMIT, drained(&stream)).await);
        drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        self.reader.abort();
        // Dropping the last handle closes the socket, which sends the reset.
        drop((&mut self.reader).await);
    }
}

/// Whether bytes begin a frame that can be a message of the handshake. An HTTP server's answer would announce five
/// million bytes, which would be waited for until the time-out.
fn speaks_noise(bytes: &[u8]) -> Result<(), WireError> {
    let Some(&[a, b, c]) = bytes.first_chunk() else {
        return Ok(());
    };
    let announced = u32::from_le_bytes([a, b, c, 0]) as usize;
    if announced <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    Err(WireError::Nonsense(format!(
        "its first bytes, {:?}, announce {announced} bytes, and no message of the handshake has more than {MAX_MESSAGE_BYTES}",
        String::from_utf8_lossy(&bytes[..bytes.len().min(16)])
    )))
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_all(stream: Arc<TcpStream>, came: mpsc::Sender<Vec<u8>>) {
    let mut chunk = vec![0; 64 << 10];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut chunk) {
            Ok(count @ 1..) => {
                if came.send(chunk[..count].to_vec()).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // An end and a reset count the same.
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::vectors::{default_folder, expand, load};

    fn bytes<const N: usize>(value: &Value) -> [u8; N] {
        let bytes = hex::decode(value.as_str().expect("hex")).expect("hex");
        bytes.try_into().expect("as many")
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_is_told_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("bound");
        let address = listener.local_addr().expect("an address");
        let mut wire = Wire::dial(address).await.expect("connected");
        let (server, _) = listener.accept().await.expect("accepted");
        let written = write_all(&server, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        written.expect("written");
        // It stays open, and the limit is longer than a test may take.
        let gone = wire
            .noise(NoiseFault::None, Duration::from_secs(3600))
            .await;
        let Err(WireError::Nonsense(why)) = gone else {
            panic!("{gone:?}");
        };
        assert!(
            why.contains("\"HTTP/1.1 400 Bad\", announce 5526600 bytes"),
            "{why}"
        );
    }

    /// The peer shares its secretstream with the implementation that it is mostly tested with: if both were wrong they
    /// would agree. So its records, with each tag and after each rekey, are compared with libsodium's.
    #[tokio::test]
    async fn what_the_peer_seals_is_what_libsodium_seals() {
        let files = load(&default_folder()).expect("the vectors");
        let groups = files.iter().flat_map(|file| &file.groups);
        let cases = groups
            .filter(|group| group.op == "stream.push")
            .flat_map(|group| &group.cases)
            .filter(|case| case.expect.output.is_some());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut rekeyed, mut wrapped, mut kept) = (0, 0, 0);
        for case in cases {
            let input = expand(&case.input).expect("expands");
            let output = expand(case.expect.output.as_ref().expect("filtered")).expect("expands");
            let mut wire = Wire::dial(address).await.expect("a connection");
            let (mut other, _) = listener.accept().await.expect("a connection");
            wire.push = Some(match input.get("state") {
                Some(state) => Push::from_state_for_testing_only(State {
                    key: bytes(&state["key"]),
                    nonce: bytes(&state["nonce"]),
                    counter: state["counter"].as_u64().expect("a number") as u32,
                }),
                None => Push::new(&bytes(&input["key"]), &bytes(&input["header"])),
            });
            let messages = input["messages"].as_array().expect("messages");
            let mut tags = Vec::new();
            for (message, record) in messages
                .iter()
                .zip(output["records"].as_array().expect("records"))
            {
                // Long ones are recorded as their digest, which the vectors' own test compares.
                let Some(record) = record.as_str() else {
                    continue;
                };
                let tag = message["tag"].as_u64().expect("a tag") as u8;
                tags.push(tag);
                let plaintext = message["plaintext"].as_str().expect("hex");
                let edit = Edit {
                    tag,
                    ..Edit::default()
                };
                let plaintext = hex::decode(plaintext).expect("hex");
                wire.record(&plaintext, edit).await.expect("written");
                let mut frame = vec![0; 3 + record.len() / 2];
                other.read_exact(&mut frame).await.expect("a frame");
                assert_eq!(hex::encode(&frame[3..]), record, "{}", case.id);
            }
            let Some(state) = output.get("state").filter(|_| tags.len() == messages.len()) else {
                continue;
            };
            let key: [u8; 32] = bytes(&state["key"]);
            rekeyed += usize::from(tags.len() > 1 && Tag(tags[0]).rekeys());
            wrapped += usize::from(input["state"]["counter"] == u32::MAX);
            // Where no new key was due, there is none to undo.
            if input.get("state").is_none()
                && tags.iter().all(|tag| !Tag(*tag).rekeys())
                && !tags.is_empty()
            {
                kept += 1;
                wire.undo_rekey().expect("a record was sent");
            }
            let own = wire
                .push
                .as_ref()
                .expect("set above")
                .state_for_testing_only();
            assert_eq!(
                (own.key, own.nonce),
                (key, bytes(&state["nonce"])),
                "{}",
                case.id
            );
            assert_eq!(state["counter"], own.counter, "{}", case.id);
        }
        assert!(
            rekeyed >= 8 && wrapped >= 2 && kept >= 8,
            "{rekeyed}, {wrapped}, {kept}"
        );
    }
}
