//! Cores in damaged files: SQLite databases and their logs.
//!
//! The fuzzer chooses the bytes and pages to change. SQLite itself is not instrumented, so the fuzzer learns only from
//! the crate's reactions.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use hypercore_protocol::KeyPair;
use hypercore_protocol::replication::{
    Core, CoreError, CoreOptions, Disk, Memory, Storage, StorageErrorKind, repair,
};
use hypercore_protocol::schema::{Request, RequestBlock, RequestUpgrade};
use tempfile::TempDir;

use crate::input::Input;

const PAGE: usize = 4096;
const LENGTH: u64 = 20;

/// A log begins with this header, followed by a frame for each page: a header and the page.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + PAGE;

/// A store as left by its process.
struct Files {
    /// The file and its log, after a kill.
    killed: (Vec<u8>, Vec<u8>),
    /// The file alone, after a clean exit.
    ended: Vec<u8>,
    /// The file of another core.
    foreign: Vec<u8>,
    /// The core, with all blocks that are not cleared.
    source: Core,
}

fn block(index: u64) -> Vec<u8> {
    vec![index as u8; (index * 37 % 300) as usize]
}

/// The writer's operations. Truncated blocks come again with the same values, so that an old page has no wrong ones.
fn write(store: impl Storage + 'static, seed: u8, shift: u64) -> Core {
    let options = CoreOptions::writer(KeyPair::from_seed(&[seed; 32]));
    let mut core = Core::create(store, options).expect("the store is empty");
    for index in 0..LENGTH {
        core.append(&[block(index + shift)])
            .expect("a store that works");
    }
    core.clear(3..5).expect("a store that works");
    core.truncate(LENGTH - 5, None).expect("it is longer");
    for index in LENGTH - 5..LENGTH {
        core.append(&[block(index + shift)])
            .expect("a store that works");
    }
    core
}

/// In memory if there is such a folder, since nothing here tests the disk.
fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder for the files")
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = folder();
        let (path, other) = (folder.path().join("core"), folder.path().join("other"));
        let read = |path: &Path| fs::read(path).expect("a file of the store");
        let core = write(Disk::create(&path).expect("a folder that works"), 3, 0);
        let mut log = read(&folder.path().join("core-wal"));
        seal(&mut log);
        let killed = (read(&path), log);
        drop(core);
        drop(write(
            Disk::create(&other).expect("a folder that works"),
            4,
            1,
        ));
        Files {
            killed,
            ended: read(&path),
            foreign: read(&other),
            source: write(Memory::new(), 3, 0),
        }
    })
}

pub(crate) fn prepare() {
    files();
}

/// Recomputes the log's checksums, so that SQLite accepts it, with the same salt in each run.
fn seal(log: &mut [u8]) {
    let Some((header, frames)) = log.split_at_mut_checked(LOG_HEADER) else {
        return;
    };
    let salt = [7; 8];
    header[16..24].copy_from_slice(&salt);
    let is_big = header[3] & 1 == 1;
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("chunks of 4");
        if is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let sum = |(mut one, mut two): (u32, u32), bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            one = one.wrapping_add(word(&pair[..4])).wrapping_add(two);
            two = two.wrapping_add(word(&pair[4..])).wrapping_add(one);
        }
        (one, two)
    };
    let put = |bytes: &mut [u8], (one, two): (u32, u32)| {
        bytes[..4].copy_from_slice(&one.to_be_bytes());
        bytes[4..8].copy_from_slice(&two.to_be_bytes());
    };
    let mut sums = sum((0, 0), &header[..24]);
    put(&mut header[24..], sums);
    for frame in frames.chunks_exact_mut(FRAME) {
        let (header, page) = frame.split_at_mut(FRAME_HEADER);
        header[8..16].copy_from_slice(&salt);
        sums = sum(sum(sums, &header[..8]), page);
        put(&mut header[16..], sums);
    }
}

/// Changes a file in one place. A page of the log is a frame. At most one page of another store is copied into a file,
/// since several could form a core with another's values.
fn damage(choices: &mut Input<'_>, bytes: &mut Vec<u8>, is_log: bool, foreign: &mut Option<&[u8]>) {
    let (start, size) = if is_log {
        (LOG_HEADER, FRAME)
    } else {
        (0, PAGE)
    };
    let pages = bytes.len().saturating_sub(start) / size;
    if pages == 0 {
        return;
    }
    let page = |choice: usize| -> Range<usize> {
        let at = start + choice % pages * size;
        at..at + size
    };
    let kind = choices.below(16);
    let one = page(choices.below(256));
    // Headers come first in a page.
    let within = if choices.flag() {
        usize::from(choices.byte())
    } else {
        usize::from(choices.short()) % size
    };
    let at = if is_log && kind == 15 {
        within % LOG_HEADER
    } else {
        one.start + within
    };
    match kind {
        0..=2 => bytes[at] ^= 1 << choices.below(8),
        3..=5 => bytes[at] = choices.byte(),
        6 | 7 | 15 => {
            let with = choices.bytes(64);
            let end = (at + with.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        8 => bytes[one].fill(0),
        9 => bytes.copy_within(page(choices.below(256)), one.start),
        10 => {
            let other = page(choices.below(256));
            let kept = bytes[one.clone()].to_vec();
            bytes.copy_within(other.clone(), one.start);
            bytes[other].copy_from_slice(&kept);
        }
        11 if !is_log => {
            if let Some(foreign) = foreign.take_if(|foreign| one.end <= foreign.len()) {
                bytes[one.clone()].copy_from_slice(&foreign[one]);
            }
        }
        11 | 12 => bytes.truncate(at),
        13 => bytes[at..].fill(0),
        _ => bytes.resize(bytes.len() + usize::from(choices.short()), choices.byte()),
    }
}

pub(crate) fn files_damaged(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let files = files();
    let shape = choices.byte();
    let mut file = files.ended.clone();
    let mut log = None;
    if shape & 1 != 0 {
        file.clone_from(&files.killed.0);
        log = Some(files.killed.1.clone());
    }
    let mut foreign = Some(&*files.foreign);
    for _ in 0..8 {
        if choices.is_empty() {
            break;
        }
        match &mut log {
            Some(log) if choices.flag() => damage(&mut choices, log, true, &mut foreign),
            _ => damage(&mut choices, &mut file, false, &mut foreign),
        }
    }
    let folder = folder();
    let path = folder.path().join("core");
    fs::write(&path, &file).expect("a folder that works");
    let mut size = input.len() + file.len();
    if let Some(mut log) = log {
        if shape & 2 == 0 {
            seal(&mut log);
        }
        size += log.len();
        fs::write(folder.path().join("core-wal"), log).expect("a folder that works");
    }
    if shape & 12 == 12 {
        repair_and_fill(&path, &files.source);
    } else {
        try_out(&path);
    }
    size
}

/// Asserts that an error is one that damage may cause, and returns whether it names damage.
fn told(error: &CoreError) -> bool {
    drop(error.to_string());
    match error {
        CoreError::Storage(error) => {
            // A file whose log is lost may date from before the core was made.
            let named = error.path().is_some() || error.kind() == StorageErrorKind::NotFound;
            assert!(named, "{error} does not name the file");
            error.kind() == StorageErrorKind::Damaged
        }
        // A page of another store may hold the state or the key pair of another core.
        CoreError::Conflict(_) | CoreError::NotWritable(_) | CoreError::Signature(_) => false,
        other => panic!("damage of a file shows as {other}"),
    }
}

/// Reads and uses a store as far as possible.
fn try_out(path: &Path) {
    let disk = match Disk::open(path) {
        Ok(disk) => disk,
        Err(error) => {
            told(&error.into());
            return;
        }
    };
    let mut core = match Core::open_existing(disk, CoreOptions::default()) {
        Ok(core) => core,
        Err(error) => {
            told(&error);
            return;
        }
    };
    let mut is_damaged = false;
    for index in 0..core.length().min(2 * LENGTH) {
        match core.get(index) {
            Ok(Some(value)) => assert_eq!(value, block(index), "block {index}"),
            Ok(None) => {}
            Err(error) => is_damaged |= told(&error),
        }
        let request = Request {
            fork: core.fork(),
            block: Some(RequestBlock { index, nodes: 3 }),
            ..Request::default()
        };
        match core.create_proof(&request) {
            Ok(Some(data)) => {
                let served = data.block.map(|served| served.value);
                assert!(
                    served.is_none_or(|served| served == block(index)),
                    "block {index} is served"
                );
            }
            // A core shortened by a lost log has fewer levels.
            Ok(None) | Err(CoreError::Request(_)) => {}
            Err(error) => is_damaged |= told(&error),
        }
    }
    let report = core.check().expect("what is wrong is in the report");
    assert!(
        !(is_damaged && report.is_intact()),
        "the check finds no damage"
    );
    if let Err(error) = core.append(&["x"]) {
        told(&error);
    }
}

/// After a repair every held block is right, and a peer fills the rest.
fn repair_and_fill(path: &Path, source: &Core) {
    let key = CoreOptions::reader(*source.key());
    let report = match repair(path, &key) {
        Ok(report) => report,
        Err(error) => {
            told(&error);
            return;
        }
    };
    let disk = Disk::open_existing(path).expect("it is repaired");
    let mut core = Core::open_existing(disk, key).expect("it is repaired");
    let check = core.check().expect("it is repaired");
    assert!(check.is_intact(), "{check:?} after {report:?}");
    assert_eq!(check.intact, report.intact);
    // A lost log may leave the state from before the truncation: then a peer's later fork brings the rest.
    if core.fork() != source.fork() {
        return;
    }
    for index in (0..source.length()).filter(|index| source.has(*index)) {
        if core.has(index) {
            continue;
        }
        let upgrade = (core.length() < source.length()).then(|| RequestUpgrade {
            start: core.length(),
            length: source.length() - core.length(),
        });
        let request = Request {
            fork: core.fork(),
            block: Some(RequestBlock {
                index,
                nodes: core.missing_nodes(2 * index).expect("it is repaired"),
            }),
            upgrade,
            manifest: core.manifest().is_none(),
            ..Request::default()
        };
        let data = source.create_proof(&request).expect("it makes sense");
        let applied = core.verify_and_apply(&data.expect("the source has it"));
        applied.unwrap_or_else(|error| panic!("block {index}: {error}, after {report:?}"));
    }
    for index in 0..core.length() {
        let held = core.get(index).expect("it is repaired");
        assert!(
            held.is_none_or(|held| held == block(index)),
            "block {index} after the repair"
        );
        assert!(
            core.has(index) || !source.has(index),
            "block {index} is not filled"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_taken_once_it_is_sealed() {
        let length = |log: &[u8]| {
            let folder = folder();
            let path = folder.path().join("core");
            fs::write(&path, &files().killed.0).unwrap();
            fs::write(folder.path().join("core-wal"), log).unwrap();
            let disk = Disk::open(&path).unwrap();
            let core = Core::open_existing(disk, CoreOptions::default());
            core.map_or(0, |core| core.length())
        };
        let mut log = files().killed.1.clone();
        assert_eq!(length(&log), LENGTH);
        // The first written page does not end a commit, so nothing is left.
        log[LOG_HEADER + FRAME_HEADER + 200] ^= 1;
        assert_eq!(length(&log), 0);
        seal(&mut log);
        assert_ne!(length(&log), 0);
    }
}
