//! `explain` for its users: its output for bytes, cases, transcripts, traces and invalid input.

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM)
        .arg("explain")
        .args(arguments)
        .output()
        .expect("the program");
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

fn snapshot(name: &str, arguments: &[&str]) {
    let (code, stdout, stderr) = explain(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("explain");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, stdout));
}

const BLOCK: &str = "0103010100000568656c6c6f010205993ec5ef8bbc7f1d174f00e650b8d51599124a9bf93885f33cec5b9060b75c1c";

#[test]
fn a_record_is_guessed_and_the_guess_is_said() {
    snapshot("record", &[BLOCK]);
    snapshot("batch", &["00 00 01 05 00 0f 00 03 00 04 08 00 00 03"]);
}

#[test]
fn a_message_is_named() {
    snapshot("sync", &["4f0003fd0000ff", "--message", "sync"]);
    snapshot(
        "bitfield",
        &["0002ffffffff01000000", "--message", "bitfield"],
    );
}

#[test]
fn bad_bytes_are_shown_as_far_as_they_decode_with_the_error_at_its_offset() {
    snapshot("cut-off", &[&BLOCK[..32]]);
    snapshot("batch-without-channel", &["0000", "--layer", "mux"]);
    snapshot(
        "cut-off-stream",
        &["0200000102ffff000a", "--layer", "frame"],
    );
}

#[test]
fn cases_of_each_layer_are_explained() {
    for id in [
        "message.request.decode.none",
        "mux.session.batch.one-channel",
        "channel.session.message.sync",
        "tree.signables.signable.length-0",
        "connection.conversation.open.xx.initiator",
    ] {
        snapshot(id, &[id]);
    }
}

#[test]
fn a_transcript_is_explained_from_the_wire_to_the_messages() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../vectors/transcript/hypercore.json"
    );
    let id = "transcript.hypercore.decode.11-11.writer-initiates";
    snapshot("transcript", &[file, "--id", id]);
    let wrong = "transcript.hypercore.refused.core-key";
    snapshot("transcript-wrong-key", &[file, "--id", wrong]);
}

#[test]
fn the_json_form_has_offset_length_and_bytes_of_each_field() {
    snapshot("json", &["01020304", "--message", "sync", "--json"]);
}

/// Every case of every layer has some explanation, and its fields cover its bytes without gap or overlap.
#[test]
fn every_case_is_explained_and_its_fields_cover_its_bytes() {
    use hypercore_conformance::dissect::Field;
    use hypercore_conformance::dissect::explain::{Question, explain};
    use hypercore_conformance::vectors;

    fn cover(field: &Field, at: &mut usize, id: &str) {
        assert_eq!(field.offset, *at, "{id}: {}", field.name);
        if field.fields.is_empty() {
            *at += field.length;
        } else {
            for part in &field.fields {
                cover(part, at, id);
            }
            assert_eq!(*at, field.offset + field.length, "{id}: {}", field.name);
        }
    }
    let folder = vectors::default_folder();
    let mut explained_cases = 0;
    for path in vectors::paths(&folder).expect("vectors") {
        let question = Question {
            input: path.display().to_string(),
            vectors: folder.clone(),
            ..Question::default()
        };
        for explained in explain(&question).expect("an explanation") {
            let shown = &explained.shown;
            let mut at = shown.fields.first().map_or(0, |first| first.offset);
            let start = at;
            for field in &shown.fields {
                cover(field, &mut at, &explained.title);
            }
            let covered = at - start;
            assert!(
                shown.fields.is_empty() || covered == shown.length,
                "{}: {covered} of {} bytes are covered",
                explained.title,
                shown.length
            );
            explained_cases += 1;
        }
    }
    assert!(explained_cases > 5000, "{explained_cases}");
}

#[test]
fn nonsense_is_wrong_usage() {
    for (arguments, wanted) in [
        (&["xyz"][..], "neither hex, nor the id of a case"),
        (
            &["00", "--message", "nothing"],
            "there is no message nothing",
        ),
        (
            &["00", "--layer", "message"],
            "--message says which message",
        ),
        (
            &["00", "--layer", "mux", "--message", "sync"],
            "does not go with",
        ),
    ] {
        let (code, stdout, stderr) = explain(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(wanted), "{stderr}");
    }
}
