//! Cores in files. A process that writes a core, or fills one from a peer, is killed at random moments, and the file is
//! opened again: every returned append and everything flushed is there, and nothing is there in part.
//!
//! The seed of the moments is printed; `SEED=…` repeats it, and `KILLS=…` sets how often each process is killed. The
//! killed process is this test, selected by `CRASH`.
#![cfg(feature = "replication")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hypercore_protocol::KeyPair;
use hypercore_protocol::replication::{Core, CoreOptions, Disk, Memory, Replicator};
use hypercore_protocol::schema::{Request, RequestBlock, RequestUpgrade};
use rand_core::{OsRng, RngCore};

const KILLS: usize = 15;
const READER_BLOCKS: u64 = 700;
/// How many blocks the reader fetches between flushes.
const FLUSHED: u64 = 7;
const READER_BLOCK_SIZE: usize = 16 * 1024;

fn block(index: u64, size: usize) -> Vec<u8> {
    let byte = |at: usize| (index * 31 + at as u64 * 7 + (at as u64 >> 8)) as u8;
    (0..size).map(byte).collect()
}

/// A block of the writer's core; every 64th is large.
fn written(index: u64) -> Vec<u8> {
    let size = if index % 64 == 63 {
        200_000
    } else {
        index * 7919 % 3000
    };
    block(index, size as usize)
}

/// The writer's next operation on a core of this length and fork, as the resulting length and fork. Truncations lead to
/// lengths that it had before.
fn next(length: u64, fork: u64) -> (u64, u64) {
    if length <= 400 {
        return (length + 1 + length * 37 % 20, fork);
    }
    let mut at = 0;
    while next(at, 0).0 <= 150 {
        (at, _) = next(at, 0);
    }
    (at, fork + 1)
}

/// The block that the reader requests at this turn.
fn wanted(turn: u64) -> u64 {
    turn * 367 % READER_BLOCKS
}

fn key_pair() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn open(path: &Path, options: CoreOptions) -> Core {
    Core::open(Disk::open(path).unwrap(), options).unwrap()
}

/// Reports that an operation has returned.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone, and will kill this process.
    let _ = writeln!(out, "did {line}").and_then(|()| out.flush());
}

fn write(path: &Path) {
    let mut core = open(path, CoreOptions::writer(key_pair()));
    loop {
        let (length, fork) = next(core.length(), core.fork());
        if fork == core.fork() {
            let blocks: Vec<_> = (core.length()..length).map(written).collect();
            core.append(&blocks).unwrap();
        } else {
            core.truncate(length, Some(fork)).unwrap();
        }
        say(format_args!("{length} {fork}"));
    }
}

/// The reader's source.
fn source() -> Core {
    let mut core = Core::open(Memory::new(), CoreOptions::writer(key_pair())).unwrap();
    let blocks = (0..READER_BLOCKS).map(|index| block(index, READER_BLOCK_SIZE));
    core.append(&blocks.collect::<Vec<_>>()).unwrap();
    core
}

fn fetch(source: &Core, core: &mut Core, index: u64) {
    let upgrade = (core.length() == 0).then_some(RequestUpgrade {
        start: 0,
        length: READER_BLOCKS,
    });
    let request = Request {
        manifest: upgrade.is_some(),
        upgrade,
        block: Some(RequestBlock {
            index,
            nodes: core.missing_nodes(2 * index).unwrap(),
        }),
        ..Request::default()
    };
    let data = source.create_proof(&request).unwrap().unwrap();
    assert_eq!(core.verify_and_apply(&data).unwrap().block, Some(index));
}

fn read(path: &Path) {
    let source = source();
    let mut core = open(path, CoreOptions::reader(*source.key()));
    for turn in 0..READER_BLOCKS {
        if !core.has(wanted(turn)) {
            fetch(&source, &mut core, wanted(turn));
            if turn % FLUSHED == FLUSHED - 1 {
                core.flush().unwrap();
                say(format_args!("{turn} 0"));
            }
        }
    }
}

/// Runs this test in another process as `role`, kills it after `lines` lines and `micros`, and returns its reports.
fn kill(role: &str, path: &Path, lines: u32, micros: u64) -> Vec<(u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_tears_nothing", "--nocapture"])
        .env("CRASH", role)
        .env("CRASH_FILE", path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in stdout.lines() {
            let line = line.unwrap();
            // The child's test harness prints something too, in front of the first report.
            let Some((_, did)) = line.split_once("did ") else {
                continue;
            };
            let (one, two) = did.split_once(' ').expect("two numbers");
            let _ = sender.send((one.parse().unwrap(), two.parse().unwrap()));
        }
    });
    let mut said = Vec::new();
    while said.len() < lines as usize {
        match receiver.recv_timeout(Duration::from_secs(60)) {
            Ok(did) => said.push(did),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the writer hangs"),
        }
    }
    // During the next change, but not at its beginning.
    if let Ok(did) = receiver.recv_timeout(Duration::from_micros(micros)) {
        said.push(did);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    said.extend(receiver.iter());
    said
}

fn check_writer(path: &Path, before: (u64, u64), said: &[(u64, u64)]) -> (u64, u64) {
    let core = open(path, CoreOptions::writer(key_pair()));
    // A kill must not make the log look damaged.
    assert!(core.check().unwrap().is_intact());
    let now = (core.length(), core.fork());
    let last = said.last().copied().unwrap_or(before);
    assert!(
        now == last || now == next(last.0, last.1),
        "{now:?} after {last:?}"
    );
    assert_eq!(core.contiguous_length(), core.length());
    let mut same = Core::open(Memory::new(), CoreOptions::writer(key_pair())).unwrap();
    let blocks: Vec<_> = (0..core.length()).map(written).collect();
    same.append(&blocks).unwrap();
    assert_eq!(core.tree_hash().unwrap(), same.tree_hash().unwrap());
    assert_eq!(core.get(core.length()).unwrap(), None);
    for (index, block) in (0..).zip(&blocks) {
        assert_eq!(core.get(index).unwrap().unwrap(), *block);
        assert_eq!(
            core.byte_offset(index).unwrap(),
            same.byte_offset(index).unwrap()
        );
    }
    // The stored signature is the one of this tree.
    if core.length() > 0 {
        let request = Request {
            fork: core.fork(),
            manifest: true,
            upgrade: Some(RequestUpgrade {
                start: 0,
                length: core.length(),
            }),
            ..Request::default()
        };
        let data = core.create_proof(&request).unwrap().unwrap();
        let mut reader = Core::open(Memory::new(), CoreOptions::reader(*core.key())).unwrap();
        let applied = reader.verify_and_apply(&data).unwrap();
        if let Some(reorg) = applied.reorg {
            reader.apply_reorg(reorg).unwrap();
        }
        assert_eq!(reader.length(), core.length());
    }
    now
}

/// Returns the number of held blocks.
fn check_reader(path: &Path, source: &Core, before: u64, said: &[(u64, u64)]) -> u64 {
    let core = open(path, CoreOptions::reader(*source.key()));
    assert!(core.check().unwrap().is_intact());
    let held = core.bitfield().count(0..READER_BLOCKS);
    let last = said.last().map_or(before, |(turn, _)| turn + 1);
    assert!(held >= last, "{held} after {last}");
    // Unflushed blocks, and flushed ones that were not reported yet.
    assert!(held <= last + 2 * FLUSHED, "{held} after {last}");
    // They are the first requested ones: no change is there without those before it.
    for turn in 0..READER_BLOCKS {
        let index = wanted(turn);
        assert_eq!(
            core.has(index),
            turn < held,
            "block {index}, turn {turn}, {held} held"
        );
        assert_eq!(
            core.get(index).unwrap(),
            source.get(index).unwrap().filter(|_| turn < held)
        );
    }
    held
}

#[test]
fn what_a_replicator_flushes_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let source = source();
    let mut core = open(&path, CoreOptions::reader(*source.key()));
    fetch(&source, &mut core, 5);
    let replicator = Replicator::new(core);
    let is_in_file = |copy: &str| {
        let copy = folder.path().join(copy);
        std::fs::copy(&path, &copy).unwrap();
        let copy = open(&copy, CoreOptions::reader(*source.key()));
        copy.length() == READER_BLOCKS && copy.get(5).unwrap().is_some()
    };
    replicator.flush().unwrap();
    assert!(is_in_file("after"));
}

/// Data from peers is soon in the files, without any other operation on the core.
#[test]
fn what_was_read_comes_into_the_files_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let source = source();
    let mut core = open(
        &folder.path().join("core"),
        CoreOptions::reader(*source.key()),
    );
    let fetched = Instant::now();
    for turn in 0..20 {
        fetch(&source, &mut core, wanted(turn));
    }
    // The files that another process would find if this one ended now.
    let held = |number: u32| {
        let copy = folder.path().join(format!("copy{number}"));
        for (from, to) in [("core", ""), ("core-wal", "-wal")] {
            let to = format!("{}{to}", copy.display());
            std::fs::copy(folder.path().join(from), to).unwrap();
        }
        let copy = open(&copy, CoreOptions::reader(*source.key()));
        assert!(copy.check().unwrap().is_intact());
        copy.bitfield().count(0..READER_BLOCKS)
    };
    let mut copies = 0..;
    while held(copies.next().unwrap()) < 20 {
        assert!(fetched.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_killed_process_tears_nothing() {
    if let Ok(role) = std::env::var("CRASH") {
        let path = std::env::var_os("CRASH_FILE").expect("the parent names a file");
        match role.as_str() {
            "write" => write(path.as_ref()),
            _ => read(path.as_ref()),
        }
        return;
    }
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => OsRng.next_u64(),
    };
    let kills = match std::env::var("KILLS") {
        Ok(kills) => kills.parse().expect("a number"),
        Err(_) => KILLS,
    };
    println!("SEED={seed} KILLS={kills}");
    let mut state = seed | 1;
    let mut random = |below: u64| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let folder = tempfile::tempdir().unwrap();
    let (file, source) = (folder.path().join("writer"), source());
    let mut at = (0, 0);
    let mut changes = 0;
    for _ in 0..kills {
        let said = kill("write", &file, random(12) as u32, random(20_000));
        changes += said.len();
        at = check_writer(&file, at, &said);
    }
    assert!(changes > 0, "nothing was written in any round");

    let file = folder.path().join("reader");
    let mut held = 0;
    for _ in 0..kills {
        if held == READER_BLOCKS {
            std::fs::remove_file(&file).unwrap();
            held = 0;
        }
        let said = kill("read", &file, random(15) as u32, random(2000));
        held = check_reader(&file, &source, held, &said);
    }
    // The missing blocks can still be fetched.
    let mut core = open(&file, CoreOptions::reader(*source.key()));
    for index in 0..READER_BLOCKS {
        if !core.has(index) {
            fetch(&source, &mut core, index);
        }
    }
    assert_eq!(core.contiguous_length(), READER_BLOCKS);
    assert_eq!(core.tree_hash().unwrap(), source.tree_hash().unwrap());
    drop(core);
    let core = open(&file, CoreOptions::reader(*source.key()));
    assert_eq!(core.contiguous_length(), READER_BLOCKS);
}

/// 100,000 blocks and one of 8 MiB, opened again, read and proven from the file.
#[test]
fn a_large_core_is_kept_in_a_file() {
    const COUNT: u64 = 100_000;
    const LARGE: usize = 8 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let mut core = open(&path, CoreOptions::writer(key_pair()));
    for start in (0..COUNT).step_by(10_000) {
        let blocks: Vec<_> = (start..start + 10_000).map(|at| block(at, 20)).collect();
        core.append(&blocks).unwrap();
    }
    core.append(&[block(COUNT, LARGE)]).unwrap();
    drop(core);

    let source = open(&path, CoreOptions::writer(key_pair()));
    assert_eq!(source.contiguous_length(), COUNT + 1);
    assert_eq!(source.byte_length(), COUNT * 20 + LARGE as u64);
    assert_eq!(source.get(COUNT).unwrap().unwrap(), block(COUNT, LARGE));
    let mut reader = open(
        &folder.path().join("reader"),
        CoreOptions::reader(*source.key()),
    );
    let mut request = Request {
        manifest: true,
        upgrade: Some(RequestUpgrade {
            start: 0,
            length: COUNT + 1,
        }),
        ..Request::default()
    };
    for index in [COUNT, 77_777, 0] {
        request.block = Some(RequestBlock {
            index,
            nodes: reader.missing_nodes(2 * index).unwrap(),
        });
        let data = source.create_proof(&request).unwrap().unwrap();
        reader.verify_and_apply(&data).unwrap();
        assert_eq!(reader.get(index).unwrap(), source.get(index).unwrap());
        request.upgrade = None;
    }
    drop(reader);
    let reader = open(
        &folder.path().join("reader"),
        CoreOptions::reader(*source.key()),
    );
    assert_eq!(reader.bitfield().count(0..COUNT + 1), 3);
    assert_eq!(reader.get(COUNT).unwrap().unwrap(), block(COUNT, LARGE));
}
