//! The proxy's output: a line per message on stderr, and a JSON line per record in a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::dissect::explain::{Explained, TraceLine};
use crate::dissect::{Dissection, Side};
use crate::foreign::{self, safe_output};
use crate::out::note;

/// How many lines may wait for a file; beyond it traffic waits.
const FILE_LINES: usize = 32;

/// How many lines may wait for stderr; beyond it lines are dropped, since an unread stderr must not stop the proxy.
const TERMINAL_LINES: usize = 4096;

/// How many messages of one record are shown on stderr.
const TOLD_MESSAGES: usize = 64;

/// The destinations of the lines.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    began: Instant,
    file: Option<mpsc::Sender<String>>,
    terminal: Option<mpsc::Sender<String>>,
    kept_bytes: usize,
}

/// The threads that write; they end once all clones of the [`Trace`] are gone.
#[derive(Debug, Default)]
pub(super) struct Writers(
    Option<JoinHandle<std::io::Result<()>>>,
    Option<JoinHandle<()>>,
);

impl Writers {
    /// Waits until the file is written.
    ///
    /// # Errors
    /// If the write failed.
    pub(super) fn finish(self) -> std::io::Result<()> {
        let written = match self.0.map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(_)) => Err(std::io::Error::other(
                "the trace was not written to its end",
            )),
            None => Ok(()),
        };
        // stderr may not be read: unwritten lines are given up with the process.
        if let Some(terminal) = self.1
            && terminal.is_finished()
        {
            drop(terminal.join());
        }
        written
    }
}

/// The name of a side, in traces and `--inject`.
pub(super) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Left => "dialer",
        Side::Right => "upstream",
    }
}

impl Trace {
    pub(super) fn start(
        file: Option<&Path>,
        quiet: bool,
        kept_bytes: usize,
    ) -> std::io::Result<(Self, Writers)> {
        let mut writers = Writers::default();
        let file = match file {
            None => None,
            Some(path) => {
                let mut out = BufWriter::new(File::create(path)?);
                let (lines, mut more) = mpsc::channel::<String>(FILE_LINES);
                writers.0 = Some(std::thread::spawn(move || {
                    let mut write = || {
                        while let Some(line) = more.blocking_recv() {
                            out.write_all(line.as_bytes())?;
                            if more.is_empty() {
                                out.flush()?;
                            }
                        }
                        out.flush()
                    };
                    write().inspect_err(|error| {
                        note(format!("proxy: the trace cannot be written: {error}"));
                    })
                }));
                Some(lines)
            }
        };
        let terminal = (!quiet).then(|| {
            let (lines, mut more) = mpsc::channel::<String>(TERMINAL_LINES);
            writers.1 = Some(std::thread::spawn(move || {
                while let Some(line) = more.blocking_recv() {
                    let line = safe_output(&line);
                    if std::io::stderr().lock().write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            }));
            lines
        });
        let trace = Self {
            began: Instant::now(),
            file,
            terminal,
            kept_bytes,
        };
        Ok((trace, writers))
    }

    /// Whether the records' contents are needed at all.
    pub(super) fn is_on(&self) -> bool {
        self.file.is_some() || self.has_room()
    }

    fn has_room(&self) -> bool {
        self.terminal
            .as_ref()
            .is_some_and(|terminal| terminal.capacity() > 0)
    }

    fn line(&self, connection: Option<u64>) -> TraceLine {
        TraceLine {
            ms: self.began.elapsed().as_millis() as u64,
            connection,
            ..TraceLine::default()
        }
    }

    /// An event of a connection, or of the proxy itself.
    pub(super) async fn event(
        &self,
        connection: Option<u64>,
        from: Option<Side>,
        event: impl Into<String>,
    ) {
        let mut line = self.line(connection);
        line.event = Some(event.into());
        line.explained.from = from.map(|side| side_name(side).to_owned());
        if let Some(terminal) = &self.terminal {
            let event = line.event.as_deref().unwrap_or_default();
            let text = format!("{}{}\n", head(&line), foreign::line(event));
            drop(terminal.try_send(text));
        }
        self.write(&line).await;
    }

    /// A forwarded record, and the actions on it.
    pub(super) async fn record(
        &self,
        connection: u64,
        from: Side,
        number: u64,
        bytes: &[u8],
        shown: Dissection,
        injected: Vec<String>,
    ) {
        let mut line = self.line(Some(connection));
        line.explained = Explained {
            from: Some(side_name(from).to_owned()),
            record: Some(number),
            shown,
            ..Explained::default()
        };
        line.injected = injected;
        if self.has_room() {
            self.tell(&line);
        }
        if self.file.is_some() {
            line.bytes = (bytes.len() <= self.kept_bytes).then(|| hex::encode(bytes));
            self.write(&line).await;
        }
    }

    /// Prints a line per message.
    fn tell(&self, line: &TraceLine) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let shown = &line.explained.shown;
        let mut text = String::new();
        let head = head(line);
        let messages: Vec<_> = shown
            .fields
            .iter()
            .filter(|field| field.hex.is_none())
            .collect();
        if messages.is_empty() {
            text += &format!("{head}{}, {} bytes\n", shown.what, shown.length);
        }
        for (at, message) in messages.iter().enumerate().take(TOLD_MESSAGES) {
            let batch = match (messages.len(), at) {
                (1, _) => String::new(),
                (count, at) => format!(" [{}/{count}]", at + 1),
            };
            let meaning = foreign::line(&message.meaning);
            text += &format!("{head}{}{batch} {meaning}\n", message.name);
        }
        if messages.len() > TOLD_MESSAGES {
            let more = messages.len() - TOLD_MESSAGES;
            text += &format!("{head}  … and {more} messages more\n");
        }
        let errors = shown
            .errors
            .iter()
            .map(|error| format!("error at byte {}: {}", error.offset, error.message));
        let injected = line.injected.iter().map(|done| format!("injected: {done}"));
        let notes = shown.notes.iter().map(|note| format!("note: {note}"));
        for more in errors.chain(notes).chain(injected) {
            text += &format!("{head}  {more}\n");
        }
        drop(terminal.try_send(text));
    }

    async fn write(&self, line: &TraceLine) {
        if let Some(file) = &self.file
            && let Ok(line) = serde_json::to_string(line)
        {
            drop(file.send(line + "\n").await);
        }
    }
}

fn head(line: &TraceLine) -> String {
    let connection = line
        .connection
        .map(|connection| format!("#{connection} "))
        .unwrap_or_default();
    let arrow = match line.explained.from.as_deref() {
        Some("dialer") => "dialer   → ",
        Some(_) => "upstream ← ",
        None => "",
    };
    format!("{:>8.3} {connection}{arrow}", line.ms as f64 / 1000.0)
}
