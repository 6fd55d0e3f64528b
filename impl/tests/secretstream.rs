//! Records compared with libsodium's, through Node: `examples-nodejs/interop/secretstream.js`. Every length, with
//! rekeys.
#![cfg(feature = "js_interop_tests")]

mod node;

use hypercore_protocol::secret_stream::{ABYTES, MAC_BYTES, Pull, Push, State, Tag};
use node::{Node, hex, unhex};
use serde_json::json;

const LONGEST: usize = 4096;

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + length * 7) as u8).collect()
}

fn tag(length: usize) -> Tag {
    match length {
        _ if length % 50 == 7 => Tag::REKEY,
        _ if length % 70 == 9 => Tag::FINAL,
        _ if length % 11 == 3 => Tag::PUSH,
        _ => Tag::MESSAGE,
    }
}

/// The memory layout of `crypto_secretstream_xchacha20poly1305_state`: key, counter, inner nonce, padding.
fn laid_out(state: &State) -> String {
    hex([
        &state.key[..],
        &state.counter.to_le_bytes(),
        &state.nonce,
        &[0; 8],
    ]
    .concat())
}

#[tokio::test]
async fn every_length_is_sealed_and_opened_as_libsodium_does() {
    let mut node = Node::start("interop/secretstream.js", &json!({ "longest": LONGEST }));
    let start = node.event("start").await;
    let key = unhex(&start["key"]).try_into().expect("32 bytes");
    let header = unhex(&start["header"]).try_into().expect("24 bytes");
    let (mut push, mut pull) = (Push::new(&key, &header), Pull::new(&key, &header));

    let mut sealed = Vec::new();
    for length in 0..=LONGEST {
        let mut ours = vec![0; length + ABYTES];
        ours[1..=length].copy_from_slice(&text(length));
        push.seal(tag(length), &mut ours).expect("long enough");

        let theirs = node.event("record").await;
        let mut record = unhex(&theirs["data"]);
        assert_eq!(ours, record, "sealing {length} bytes");
        assert_eq!(theirs["state"], laid_out(push.state_for_testing_only()));
        sealed.push(hex(&ours));

        assert_eq!(pull.open(&mut record), Ok(tag(length)), "{length} bytes");
        assert_eq!(record[1..record.len() - MAC_BYTES], text(length));
        assert_eq!(pull.state_for_testing_only(), push.state_for_testing_only());
    }
    node.write_line(&json!({ "sealed": sealed }).to_string())
        .await;
    let opened = node.event("opened").await;
    assert_eq!(opened["count"], LONGEST + 1);
    assert_eq!(opened["state"], laid_out(push.state_for_testing_only()));
}
