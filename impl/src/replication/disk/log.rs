//! SQLite's write-ahead log, read to detect lost parts.
//!
//! After the end of a process, SQLite accepts the log up to its last intact transaction and ignores the rest silently.
//! That is right for a transaction that was being written when the process ended. Damage looks the same to it.
//!
//! Read from <https://www.sqlite.org/fileformat2.html#walformat>: a header of 32 bytes, then frames of 24 bytes and a
//! page. A frame has the two salts of the header, unless it is of an earlier use of the file, and a checksum over
//! everything before it. A frame that carries the size of the database in pages ends a transaction.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// The lowest bit says that checksums are over big-endian words.
const MAGIC: u32 = 0x377f_0682;

const VERSION: u32 = 3_007_000;

/// Describes the lost part of a log that no process has open; `None` if all of it is intact or there is no log.
pub(super) fn lost(log: &Path) -> Option<String> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("it cannot be read: {error}")),
    };
    look(BufReader::new(file)).unwrap_or_else(|error| Some(format!("it cannot be read: {error}")))
}

fn look(mut log: impl Read) -> io::Result<Option<String>> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let magic = word(&header, 0);
    let mut sum = Sum {
        is_big_endian: magic & 1 == 1,
        sums: (0, 0),
    };
    sum.add(&header[..24]);
    let page = word(&header, 8) as usize;
    let is_header = magic & !1 == MAGIC
        && word(&header, 4) == VERSION
        && page.is_power_of_two()
        && (512..=65_536).contains(&page)
        && sum.is(&header, 24);
    if !is_header {
        return Ok(Some("its header is damaged".to_owned()));
    }
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME + page];
    let mut intact = 0u64;
    while fill(&mut log, &mut frame)? {
        let is_of_log = &frame[8..16] == salts && word(&frame, 0) != 0;
        sum.add(&frame[..8]);
        sum.add(&frame[FRAME..]);
        if is_of_log && sum.is(&frame, 16) {
            intact += 1;
            continue;
        }
        // The first frame that SQLite rejects. If a transaction ends after it, that transaction was once complete.
        loop {
            if &frame[8..16] == salts && word(&frame, 4) != 0 {
                let what = format!("it is damaged after {intact} frames, and transactions follow");
                return Ok(Some(what));
            }
            if !fill(&mut log, &mut frame)? {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Returns whether the whole buffer could be read.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The running checksum of a log.
struct Sum {
    is_big_endian: bool,
    sums: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let read = |at: usize| match self.is_big_endian {
                true => word(pair, at),
                false => word(pair, at).swap_bytes(),
            };
            let (one, two) = (read(0), read(4));
            self.sums.0 = self.sums.0.wrapping_add(one).wrapping_add(self.sums.1);
            self.sums.1 = self.sums.1.wrapping_add(two).wrapping_add(self.sums.0);
        }
    }

    fn is(&self, bytes: &[u8], at: usize) -> bool {
        self.sums == (word(bytes, at), word(bytes, at + 4))
    }
}
