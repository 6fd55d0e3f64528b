//! A wire between the two peers that can be observed and tampered with: a TCP relay that parses records.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The receive buffer of the relay's sockets, in bytes: small, so that a blocked wire is noticed.
const RECEIVE_BUFFER: u32 = 64 << 10;

/// The direction of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Direction {
    /// From the end that dialled, the initiator.
    FromInitiator,
    /// From the end that listened, the responder.
    FromResponder,
}

/// The relay's manipulation of the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tampering {
    /// The most bytes in one write.
    pub chunk: Option<usize>,
    /// Inverts the lowest bit of one byte: direction, index of the record, offset in its body.
    pub flip: Option<(Direction, usize, usize)>,
}

/// The most recorded bytes of one connection, over both directions.
const RECORDED: usize = 8 << 20;

/// Everything that crossed a wire, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    chunks: Mutex<Vec<(Direction, Vec<u8>)>>,
}

impl Recorder {
    fn keep(&self, from: Direction, bytes: &[u8]) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        let room = RECORDED.saturating_sub(kept);
        if room > 0 {
            chunks.push((from, bytes[..bytes.len().min(room)].to_vec()));
        }
    }

    /// Each chunk: its sender and its bytes.
    pub(super) fn chunks(&self) -> Vec<(Direction, Vec<u8>)> {
        let chunks = self.chunks.lock();
        chunks.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running relay; it ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// The port to dial instead of the real listener.
    pub port: u16,
    lanes: [Arc<Lane>; 2],
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Lane {
    state: Mutex<LaneState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Lengths of the bodies of the relayed records.
    lengths: Vec<usize>,
    counted_from: usize,
    holding: bool,
    held: Vec<Vec<u8>>,
    blocked: bool,
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Relays one connection to the listener at `target` on this machine.
    ///
    /// A recorder gets everything that each end sends.
    pub(super) async fn start(
        target: u16,
        tampering: Tampering,
        recorder: Option<Arc<Recorder>>,
    ) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1)?;
        let port = listener.local_addr()?.port();
        let lanes = [Arc::<Lane>::default(), Arc::<Lane>::default()];
        let [up, down] = lanes.clone();
        let task = tokio::spawn(async move {
            let Ok((dialer, _)) = listener.accept().await else {
                return;
            };
            let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
            let Ok(socket) = TcpSocket::new_v4() else {
                return;
            };
            drop(socket.set_recv_buffer_size(RECEIVE_BUFFER));
            let Ok(target) = socket.connect(target).await else {
                return;
            };
            drop((dialer.set_nodelay(true), target.set_nodelay(true)));
            let (from_dialer, to_dialer) = dialer.into_split();
            let (from_target, to_target) = target.into_split();
            tokio::join!(
                carry(
                    from_dialer,
                    to_target,
                    Direction::FromInitiator,
                    tampering,
                    up,
                    recorder.clone()
                ),
                carry(
                    from_target,
                    to_dialer,
                    Direction::FromResponder,
                    tampering,
                    down,
                    recorder
                ),
            );
        });
        Ok(Self { port, lanes, task })
    }

    fn lane(&self, direction: Direction) -> &Lane {
        &self.lanes[direction as usize]
    }

    /// Restarts [`Relay::lengths`] in this direction.
    pub(super) fn count_from_here(&self, direction: Direction) {
        let mut state = self.lane(direction).state();
        state.counted_from = state.lengths.len();
    }

    /// The lengths of the records' bodies since the restart, in bytes.
    pub(super) fn lengths(&self, direction: Direction) -> Vec<usize> {
        let state = self.lane(direction).state();
        state.lengths[state.counted_from..].to_vec()
    }

    /// Waits until `enough` accepts the lengths since the restart; false on a time-out.
    pub(super) async fn wait(
        &self,
        direction: Direction,
        limit: Duration,
        enough: impl Fn(&[usize]) -> bool,
    ) -> bool {
        let lane = self.lane(direction);
        tokio::time::timeout(limit, async {
            loop {
                let changed = lane.changed.notified();
                if enough(&self.lengths(direction)) {
                    return;
                }
                changed.await;
            }
        })
        .await
        .is_ok()
    }

    /// Stops or resumes reading: the sender finds that the wire takes nothing more.
    pub(super) fn block(&self, direction: Direction, blocked: bool) {
        self.lane(direction).state().blocked = blocked;
        self.lane(direction).changed.notify_waiters();
    }

    /// Holds whole records back until [`Relay::let_go`].
    pub(super) fn hold(&self, direction: Direction) {
        self.lane(direction).state().holding = true;
    }

    /// Once `count` records are held, writes them in one piece; false on a time-out.
    pub(super) async fn let_go(&self, direction: Direction, count: usize, limit: Duration) -> bool {
        let lane = self.lane(direction);
        let held = tokio::time::timeout(limit, async {
            loop {
                let changed = lane.changed.notified();
                if lane.state().held.len() >= count {
                    return;
                }
                changed.await;
            }
        })
        .await;
        lane.state().holding = false;
        lane.changed.notify_waiters();
        held.is_ok()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    tampering: Tampering,
    lane: Arc<Lane>,
    recorder: Option<Arc<Recorder>>,
) {
    let mut pending = Vec::new();
    let mut index = 0;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let released = lane.changed.notified();
        let ready = {
            let mut state = lane.state();
            if state.holding {
                Vec::new()
            } else {
                state.held.drain(..).flatten().collect()
            }
        };
        if !ready.is_empty() && to.write_all(&ready).await.is_err() {
            return;
        }
        if lane.state().blocked {
            released.await;
            continue;
        }
        let count = tokio::select! {
            read = from.read(&mut chunk) => match read {
                Ok(count) => count,
                Err(_) => return,
            },
            () = released => continue,
        };
        if count == 0 {
            break;
        }
        if let Some(recorder) = &recorder {
            recorder.keep(direction, &chunk[..count]);
        }
        pending.extend_from_slice(&chunk[..count]);
        while let Some(end) = record_end(&pending) {
            let mut record: Vec<u8> = pending.drain(..end).collect();
            if let Some((way, at, offset)) = tampering.flip
                && (way, at) == (direction, index)
                && let Some(byte) = record.get_mut(3 + offset)
            {
                *byte ^= 1;
            }
            index += 1;
            let holding = {
                let mut state = lane.state();
                state.lengths.push(record.len() - 3);
                if state.holding {
                    state.held.push(std::mem::take(&mut record));
                }
                state.holding
            };
            lane.changed.notify_waiters();
            if !holding && write(&mut to, &record, tampering.chunk).await.is_err() {
                return;
            }
        }
    }
    if write(&mut to, &pending, tampering.chunk).await.is_ok() {
        drop(to.shutdown().await);
    }
}

/// The end of the first record, if it is complete.
fn record_end(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = *bytes else { return None };
    let end = 3 + u32::from_le_bytes([a, b, c, 0]) as usize;
    (bytes.len() >= end).then_some(end)
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8], chunk: Option<usize>) -> std::io::Result<()> {
    for piece in bytes.chunks(chunk.unwrap_or(usize::MAX)) {
        to.write_all(piece).await?;
        to.flush().await?;
    }
    Ok(())
}
