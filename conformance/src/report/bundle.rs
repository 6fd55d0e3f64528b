//! A folder for each failed check with everything needed to investigate it. Only written if something failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::adapter::{PROTOCOLS, request_line};
use crate::dissect::explain;
use crate::foreign::file_name;
use crate::live::Recording;
use crate::out::write_file;
use crate::report::Rerun;
use crate::report::terminal;
use crate::run::Check;
use crate::run::expected::Expected;
use crate::term::Paint;

/// The maximum number of failures written: when everything fails, more folders do not help.
const MAX_CHECKS: usize = 200;

/// The bundle of one run.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    rerun: Rerun,
    expected: Option<Expected>,
    written: usize,
    left_out: usize,
    fault: Option<io::Error>,
}

impl Bundle {
    /// A bundle in `folder`, which is created when the first check fails.
    ///
    /// Failures listed in `expected` are left out.
    ///
    /// # Errors
    /// If the folder is not empty: files of an earlier run would look like failures of this one.
    pub fn create(folder: &Path, rerun: Rerun, expected: Option<Expected>) -> io::Result<Self> {
        match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(io::Error::other("the folder is not empty")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            folder: folder.to_owned(),
            rerun,
            expected,
            written: 0,
            left_out: 0,
            fault: None,
        })
    }

    /// Adds a failed case, with its full input and answer.
    pub fn add_case(&mut self, check: &Check, input: &Value, answer: &Value) {
        let op = check.op.as_deref().unwrap_or_default();
        let request = json!({ "op": op, "input": input });
        let output = answer.get("ok").unwrap_or(&Value::Null);
        let decoded = explain::text(&explain::exchange(op, input, output), &Paint::plain());
        let hello = request_line(0, "hello", &json!({ "protocols": PROTOCOLS }));
        let script = hello + &request_line(1, op, input);
        self.add(
            check,
            &[
                ("request.json", pretty(&request)),
                ("answer.json", pretty(answer)),
                ("decoded.txt", decoded),
                ("script.jsonl", script),
            ],
        );
    }

    /// Adds a failed scenario: the recorded wire with its keys, and the reports of both ends.
    pub fn add_scenario(&mut self, check: &Check, recording: &Recording) {
        let mut files = Vec::new();
        for (end, who) in ["implementation", "node"].into_iter().enumerate() {
            let log = recording.log[end].iter();
            files.push((
                format!("{who}.log"),
                log.map(|line| format!("{line}\n")).collect(),
            ));
            files.push((format!("{who}.stderr.txt"), recording.stderr[end].clone()));
        }
        for (at, connection) in recording.connections.iter().enumerate() {
            let transcript = connection.transcript();
            files.push((format!("connection-{at}.decoded.txt"), decoded(&transcript)));
            files.push((
                format!("connection-{at}.transcript.json"),
                pretty(&transcript),
            ));
        }
        let files: Vec<(&str, String)> = files
            .iter()
            .map(|(name, text): &(String, String)| (name.as_str(), text.clone()))
            .collect();
        self.add(check, &files);
    }

    /// Adds a failed conversation or deviation: the recorded wire with its keys, and the steps and observations of both
    /// ends.
    pub fn add_scripted(&mut self, check: &Check) {
        let lines = |lines: &Value| -> String {
            let lines = lines.as_array().into_iter().flatten();
            lines
                .filter_map(Value::as_str)
                .map(|line| format!("{line}\n"))
                .collect()
        };
        let mut files = Vec::new();
        let input = check.input.as_ref();
        if let Some(script) = input.and_then(|input| input["script"].as_str()) {
            files.push(("script.txt", format!("{script}\n")));
        }
        if let Some(kept) = &check.transcript {
            files.push(("peer.log", lines(&kept["trace"])));
            files.push(("implementation.log", lines(&kept["adapter"])));
            let transcript = scripted_transcript(kept);
            files.push(("connection-0.decoded.txt", decoded(&transcript)));
            files.push(("connection-0.transcript.json", pretty(&transcript)));
        }
        self.add(check, &files);
    }

    /// Whether to add a failed check: it is not listed, and there is room.
    pub fn wants(&self, check: &Check) -> bool {
        let listed = self.expected.as_ref();
        self.written < MAX_CHECKS && !listed.is_some_and(|expected| expected.lists(&check.id))
    }

    fn add(&mut self, check: &Check, files: &[(&str, String)]) {
        let listed = self.expected.as_ref();
        if listed.is_some_and(|expected| expected.lists(&check.id)) {
            return;
        }
        if self.written >= MAX_CHECKS {
            self.left_out += 1;
            return;
        }
        match self.write(check, files) {
            Ok(()) => self.written += 1,
            Err(error) => {
                self.fault.get_or_insert(error);
            }
        }
    }

    fn write(&self, check: &Check, files: &[(&str, String)]) -> io::Result<()> {
        // An id consists of text from files and adapters, and names a folder here.
        let folder = self.folder.join(file_name(&check.id));
        fs::create_dir_all(&folder)?;
        let write =
            |name: &str, text: &str| write_file(&folder.join(name), text).map_err(io::Error::other);
        write(
            "failure.txt",
            &terminal::failure(check, &self.rerun, &Paint::plain()),
        )?;
        write("rerun.txt", &(self.rerun.line(&check.id) + "\n"))?;
        write("check.json", &pretty(&json!(check)))?;
        if let Some(stderr) = &check.stderr {
            write("stderr.txt", stderr)?;
        }
        for (name, text) in files.iter().filter(|(_, text)| !text.is_empty()) {
            write(name, text)?;
        }
        Ok(())
    }

    /// A summary of what was written, in a line.
    ///
    /// # Errors
    /// The first write error.
    pub fn finish(&self) -> Result<String, String> {
        if let Some(fault) = &self.fault {
            return Err(format!("{}: {fault}", self.folder.display()));
        }
        let failures = match self.written {
            0 => return Ok("Nothing failed that is not listed, so there is no bundle.".into()),
            1 => "1 failure".to_owned(),
            count => format!("{count} failures"),
        };
        let more = match self.left_out {
            0 => String::new(),
            more => format!("; {more} more were left out"),
        };
        Ok(format!(
            "Bundle: {failures} in {}{more}",
            self.folder.display()
        ))
    }
}

/// A transcript of the scripted peer as the input of `transcript.decode`.
fn scripted_transcript(kept: &Value) -> Value {
    let initiates = kept["peerIsInitiator"] == true;
    let (initiator, responder) = match initiates {
        true => ("peerKey", "implementationKey"),
        false => ("implementationKey", "peerKey"),
    };
    let chunks = kept["chunks"].as_array().into_iter().flatten();
    let chunks = chunks.map(|chunk| {
        let from = match (chunk["from"] == "peer") == initiates {
            true => "initiator",
            false => "responder",
        };
        json!({ "from": from, "bytes": chunk["bytes"] })
    });
    let keys = &kept["keys"];
    json!({
        "handshakeHash": keys["handshakeHash"],
        "coreKeys": kept["coreKeys"],
        "initiator": { "key": keys[initiator], "handshakeRecords": 2 },
        "responder": { "key": keys[responder], "handshakeRecords": 1 },
        "chunks": chunks.collect::<Vec<_>>(),
    })
}

/// The records of a transcript, field by field.
fn decoded(transcript: &Value) -> String {
    let explained = explain::transcript(transcript);
    let nothing = transcript["chunks"].as_array().is_none_or(Vec::is_empty);
    if nothing || !explained.is_empty() {
        return explain::text(&explained, &Paint::plain());
    }
    "The handshake was not completed, so there are no keys to open the records with.\n".into()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Kind;

    #[test]
    fn nothing_is_written_beside_the_folder_whatever_an_id_says() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("bundle");
        let outside = root.path().join("outside");
        let mut bundle = Bundle::create(&folder, Rerun::default(), None).expect("a bundle");
        let ids = ["../x", "../../x", "a/../../y", "/", "..", "message.sync.a"];
        for id in ids.into_iter().chain([outside.to_str().expect("a path")]) {
            let check = Check::new(Kind::Vector, id, "l", "s").failed("why");
            bundle.add_case(&check, &json!({}), &json!({}));
        }
        assert!(
            bundle
                .finish()
                .is_ok_and(|told| told.contains("7 failures"))
        );
        let names = |path: &Path| -> Vec<String> {
            let entries = fs::read_dir(path).expect("a folder");
            let entries = entries.map(|entry| entry.expect("an entry").file_name());
            entries
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names(root.path()), ["bundle"]);
        assert_eq!(names(&folder).len(), 7);
        assert!(folder.join("message.sync.a/failure.txt").is_file());
    }
}
