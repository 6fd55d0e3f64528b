//! Dropping any handle at any moment is safe, and loses nothing that was accepted for sending.
//!
//! The stream is an in-memory pipe that takes a few bytes at a time, so that a count of polls reaches every moment:
//! within the handshake, within a record, between the channel's open and its answer.

use std::pin::pin;
use std::task::Poll;

use futures::future::{join, poll_fn};
use hypercore_protocol::{Channel, Event, Message, Protocol};

use crate::local::{KEY, block, builder, channels, run};
use crate::node::soon;
use crate::pipe::{Pipe, pipe};
use crate::rt::{Runtime, Task};

/// Polls a future at most `polls` times, and drops it.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                // Nothing else may wake it.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

/// Reads messages to the end, and drops every other future that waits for one.
fn read<R: Runtime>(channel: Channel) -> Task<Vec<u64>> {
    R::spawn(async move {
        let mut indexes = Vec::new();
        loop {
            let message = match cut(channel.recv(), 1).await {
                Some(message) => message,
                None => channel.recv().await,
            };
            match message {
                Some(Message::Data(data)) => {
                    assert_eq!(data, block(data.request, 300));
                    indexes.push(data.request);
                }
                Some(other) => panic!("{other:?}"),
                None => return indexes,
            }
        }
    })
}

/// Sends while futures are dropped after some polls; returns the accepted messages.
pub(crate) async fn send_with_drops<S: hypercore_protocol::runtime::Io>(
    protocol: &mut Protocol<S>,
    channel: &Channel,
    moment: usize,
) -> Vec<u64> {
    let mut accepted = Vec::new();
    for index in 0..40 {
        let polls = 1 + (moment + index as usize) % 5;
        match index % 4 {
            0 => {
                // A future that was never polled does nothing.
                drop(channel.data(block(index, 300)));
            }
            1 => {
                let sent = protocol.drive(cut(channel.data(block(index, 300)), polls));
                if let Some(sent) = soon(sent).await {
                    sent.expect("the channel is open");
                    accepted.push(index);
                }
            }
            2 => {
                // The driving future is dropped as well.
                let mut sent = None;
                let driven = protocol.drive(async {
                    sent = Some(channel.data(block(index, 300)).await);
                });
                soon(cut(driven, polls)).await;
                if let Some(sent) = sent {
                    sent.expect("the channel is open");
                    accepted.push(index);
                }
            }
            _ => {
                drop(channel.clone());
                drop(soon(cut(channel.recv(), 1)).await);
                let _ = soon(cut(channel.closed(), 1)).await;
                if let Some(Some(Err(error))) = soon(cut(protocol.next(), polls)).await {
                    panic!("{error}");
                }
            }
        }
    }
    accepted
}

fn protocols(moment: usize) -> (Protocol<Pipe>, Protocol<Pipe>) {
    let (one, two) = pipe(1 + moment * 7 % 97);
    let builder = |is_initiator| {
        let builder = builder(is_initiator).send_buffer(1000);
        builder.receive_buffer(1000)
    };
    (
        builder(true).connect_with(one),
        builder(false).connect_with(two),
    )
}

pub(crate) async fn dropped_futures_and_handles_lose_nothing_that_was_accepted<R: Runtime>() {
    let mut total = 0;
    for moment in 0..60 {
        let (mut a, mut b) = protocols(moment);
        let (here, there) = channels(&mut a, &mut b).await;
        let b = run::<R, _>(b);
        let reader = read::<R>(there);
        let accepted = send_with_drops(&mut a, &here, moment).await;
        let kept = match moment % 3 {
            0 => {
                drop(here);
                None
            }
            1 => {
                here.close();
                Some(here)
            }
            _ => Some(here),
        };
        soon(a.close()).await.expect("all is sent");
        assert_eq!(reader.join().await, accepted, "at moment {moment}");
        assert!(kept.is_none_or(|channel| channel.is_closed()));
        let events = b.join().await;
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Ok(Event::End(_)))),
            "{events:?}"
        );
        total += accepted.len();
    }
    assert!(total >= 60, "only {total} were accepted");
}

pub(crate) async fn a_half_polled_close_or_a_dropped_protocol_harms_nobody<R: Runtime>() {
    for moment in 0..150 {
        // Starting with the first poll of the handshake.
        let (mut a, b) = protocols(moment);
        let b = R::spawn(async move {
            let mut b = b;
            let mut channels = Vec::new();
            b.open(KEY).expect("an open channel");
            while let Some(event) = b.next().await {
                // The received part of the stream ends cleanly or truncated: no panic, and no endless wait.
                if let Ok(Event::Channel(channel)) = event {
                    channels.push(channel);
                }
            }
            for channel in channels {
                while channel.recv().await.is_some() {}
                assert!(channel.is_closed());
            }
        });
        a.open(KEY).expect("an open channel");
        let opened = soon(cut(
            async {
                loop {
                    match a.next().await {
                        Some(Ok(Event::Channel(channel))) => break channel,
                        Some(Ok(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            },
            1 + moment,
        ));
        let opened = opened.await;
        if let Some(channel) = &opened {
            let _ = channel.try_send(&block(1, 300).into());
        }
        let waiting = opened
            .clone()
            .map(|channel| R::spawn(async move { join(channel.recv(), channel.closed()).await }));
        if moment % 2 == 0 {
            drop(cut(a.close(), 1 + moment / 2 % 7).await);
        } else {
            drop(a);
        }
        if let Some(waiting) = waiting {
            assert_eq!(waiting.join().await.0, None);
        }
        assert!(opened.is_none_or(|channel| channel.is_closed()));
        b.join().await;
    }
}
