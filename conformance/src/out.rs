//! Output of the command: on stdout, on stderr, and in files.
//!
//! Each write is checked. A full disk, or a file that can't be written, is an error that names the target. A pipe
//! closed by its reader, such as `head`, is not: nothing more is written, and the exit code reports the result. stderr
//! is for people and its errors cannot be reported, so a failed write there is ignored.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::foreign::{json, safe_output};

/// A failed write.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {what}: {reason}")]
pub struct WriteError {
    /// `stdout`, or the path of the file.
    pub what: String,
    /// The operating system's error.
    pub reason: io::Error,
}

/// Writes text to stdout, without terminal control sequences except colours.
///
/// # Errors
/// If stdout fails, unless its reader has closed it.
pub fn print(text: &str) -> Result<(), WriteError> {
    write_stdout(safe_output(text).as_bytes())
}

/// The same with a line break.
///
/// # Errors
/// As [`print()`].
pub fn say(line: impl std::fmt::Display) -> Result<(), WriteError> {
    print(&format!("{line}\n"))
}

/// Writes lines of JSON to stdout: control characters are written as JSON escapes, so that a program reads the same.
///
/// # Errors
/// As [`print()`].
pub fn print_json(text: &str) -> Result<(), WriteError> {
    write_stdout(json(text).as_bytes())
}

fn write_stdout(bytes: &[u8]) -> Result<(), WriteError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(WriteError {
            what: "stdout".into(),
            reason: error,
        }),
        _ => Ok(()),
    }
}

/// Writes a line to stderr.
pub fn note(line: impl std::fmt::Display) {
    let text = format!("{line}\n");
    drop(io::stderr().lock().write_all(safe_output(&text).as_bytes()));
}

/// An output file, opened before the work begins: a path that can't be written is reported at once, not after minutes.
/// Its contents stay until [`ReportFile::write`]; a new file that is never written is removed again.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
    is_new: bool,
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if self.is_new {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl ReportFile {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// If it can't be opened for writing.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(false);
        let (opened, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (options.create(true).open(path), false)
            }
            opened => (opened, true),
        };
        Ok(Self {
            file: opened.map_err(|reason| fault(path, reason))?,
            path: path.to_owned(),
            is_new,
        })
    }

    /// As [`ReportFile::open`], if there is a path.
    ///
    /// # Errors
    /// As [`ReportFile::open`].
    pub fn open_if(path: Option<&PathBuf>) -> Result<Option<Self>, WriteError> {
        path.map(|path| Self::open(path)).transpose()
    }

    /// Replaces the contents of the file.
    ///
    /// # Errors
    /// If the write fails.
    pub fn write(mut self, text: &str) -> Result<(), WriteError> {
        self.is_new = false;
        let written = self.replace(text.as_bytes());
        written.map_err(|reason| fault(&self.path, reason))
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Only a regular file can be truncated, and needs a sync.
        let is_file = self.file.metadata()?.is_file();
        if is_file {
            self.file.set_len(0)?;
        }
        self.file.write_all(bytes)?;
        self.file.flush()?;
        if is_file {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }
}

/// Writes a whole file.
///
/// # Errors
/// If it can't be opened or written.
pub fn write_file(path: &Path, text: &str) -> Result<(), WriteError> {
    ReportFile::open(path)?.write(text)
}

fn fault(path: &Path, reason: io::Error) -> WriteError {
    WriteError {
        what: path.display().to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_what_was_there_until_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        std::fs::write(&path, "the old report, which is longer").expect("written");
        let report = ReportFile::open(&path).expect("opens");
        assert!(
            std::fs::read_to_string(&path)
                .expect("read")
                .starts_with("the old")
        );
        report.write("new").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "new");
        let other = folder.path().join("other");
        drop(ReportFile::open(&other).expect("opens"));
        assert!(!other.exists(), "it was not written");
        drop(ReportFile::open(&path).expect("opens"));
        assert!(path.exists(), "it was there");
        let error = ReportFile::open(&folder.path().join("no/such/folder")).expect_err("no folder");
        assert!(error.to_string().contains("no/such/folder"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let error = write_file(Path::new("/dev/full"), "text").expect_err("full");
        assert!(
            error.to_string().starts_with("cannot write /dev/full: "),
            "{error}"
        );
    }
}
