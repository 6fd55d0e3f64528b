//! A store on files that fail, and that lose unsynced data as a machine does at a loss of power.
//!
//! `POWER_LOSSES=…` sets how often power is lost, and `SEED=…` repeats a run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use sqlite_vfs::{DatabaseHandle, LockKind, OpenAccess, OpenOptions, Vfs, WalDisabled};

use super::*;
use crate::keys::KeyPair;
use crate::replication::{Core, CoreError, CoreInfo, CoreOptions, Memory};
use crate::wire::{Request, RequestBlock, RequestUpgrade};

const POWER_LOSSES: u64 = 150;

/// The unit that a disk writes atomically, in bytes.
const SECTOR: usize = 512;

/// The name of the file system in SQLite.
const NAME: &str = "power";

/// Its machines, by the number at the start of their paths.
static MACHINES: Mutex<Option<HashMap<u64, Machine>>> = Mutex::new(None);

/// The files of a machine.
#[derive(Clone, Default)]
struct Machine {
    files: HashMap<String, File>,
    /// Writes, truncations and syncs so far.
    operations: u64,
    /// The operation from which on they fail.
    fails_from: Option<u64>,
    /// How many fail.
    failures: u64,
    /// Whether they fail as on a full disk.
    is_full: bool,
}

#[derive(Clone, Default)]
struct File {
    /// The contents that the machine reads.
    now: Vec<u8>,
    /// The contents that are certainly on the disk.
    synced: Vec<u8>,
    /// Operations since, any part of which may be on the disk.
    pending: Vec<Pending>,
    /// Whether the name is certainly on the disk.
    has_name: bool,
}

#[derive(Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

impl Machine {
    fn count(&mut self) -> io::Result<()> {
        self.operations += 1;
        let fails = |from: u64| self.operations > from && self.operations <= from + self.failures;
        if self.fails_from.is_some_and(fails) {
            let kind = match self.is_full {
                // sqlite-vfs reports this as a full disk.
                true => ErrorKind::WriteZero,
                false => ErrorKind::Other,
            };
            return Err(kind.into());
        }
        Ok(())
    }

    /// The contents of the disk after a loss of power: any part of the unsynced operations, in any order.
    fn lose_power(self, random: &mut Random) -> Self {
        let mut files = HashMap::new();
        for (name, file) in self.files {
            if !file.has_name && random.below(2) == 0 {
                continue;
            }
            let mut bytes = file.synced;
            // Runs in which all, none, or half of the operations reached the disk.
            let chance = random.below(5);
            for pending in file.pending {
                match pending {
                    Pending::Write(offset, data) => {
                        let mut at = 0;
                        while at < data.len() {
                            let step = SECTOR - (offset + at) % SECTOR;
                            let end = data.len().min(at + step);
                            if random.below(4) < chance {
                                let part = data[at..end].to_vec();
                                Pending::Write(offset + at, part).apply(&mut bytes);
                            }
                            at = end;
                        }
                    }
                    Pending::SetLen(_) if random.below(4) < chance => pending.apply(&mut bytes),
                    Pending::SetLen(_) => {}
                }
            }
            let file = File {
                now: bytes.clone(),
                synced: bytes,
                pending: Vec::new(),
                has_name: true,
            };
            files.insert(name, file);
        }
        Self {
            files,
            ..Self::default()
        }
    }
}

struct Files;

struct Handle {
    machine: u64,
    name: String,
    lock: LockKind,
}

fn with<T>(machine: u64, act: impl FnOnce(&mut Machine) -> T) -> T {
    let mut machines = MACHINES.lock().unwrap();
    act(machines.get_or_insert_default().entry(machine).or_default())
}

/// The machine and the file of a path, `/7/core`.
fn place(path: &str) -> (u64, String) {
    let (machine, name) = path[1..].split_once('/').expect("two names");
    (machine.parse().expect("a number"), name.to_owned())
}

impl Vfs for Files {
    type Handle = Handle;

    fn open(&self, path: &str, options: OpenOptions) -> io::Result<Handle> {
        let (machine, name) = place(path);
        with(machine, |machine| {
            if options.access != OpenAccess::Read && options.access != OpenAccess::Write {
                machine.files.entry(name.clone()).or_default();
            }
            match machine.files.contains_key(&name) {
                true => Ok(()),
                false => Err(io::Error::from(ErrorKind::NotFound)),
            }
        })?;
        Ok(Handle {
            machine,
            name,
            lock: LockKind::None,
        })
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        let (machine, name) = place(path);
        with(machine, |machine| {
            machine.count()?;
            machine.files.remove(&name);
            Ok(())
        })
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let (machine, name) = place(path);
        Ok(with(machine, |machine| machine.files.contains_key(&name)))
    }

    fn temporary_name(&self) -> String {
        panic!("no temporary files are needed")
    }

    fn random(&self, buffer: &mut [i8]) {
        let mut bytes = vec![0; buffer.len()];
        getrandom::fill(&mut bytes).unwrap();
        for (to, byte) in buffer.iter_mut().zip(bytes) {
            *to = byte as i8;
        }
    }

    fn sleep(&self, duration: Duration) -> Duration {
        duration
    }

    fn full_pathname<'a>(&self, path: &'a str) -> io::Result<Cow<'a, str>> {
        Ok(path.into())
    }
}

impl Handle {
    fn file<T>(&self, act: impl FnOnce(&mut File) -> T) -> T {
        with(self.machine, |machine| {
            act(machine.files.entry(self.name.clone()).or_default())
        })
    }

    fn change(&mut self, pending: Pending) -> io::Result<()> {
        with(self.machine, Machine::count)?;
        self.file(|file| {
            pending.apply(&mut file.now);
            file.pending.push(pending);
        });
        Ok(())
    }
}

impl DatabaseHandle for Handle {
    type WalIndex = WalDisabled;

    fn size(&self) -> io::Result<u64> {
        Ok(self.file(|file| file.now.len() as u64))
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file(|file| {
            let start = file.now.len().min(offset as usize);
            let bytes = &file.now[start..];
            let count = bytes.len().min(buffer.len());
            buffer.fill(0);
            buffer[..count].copy_from_slice(&bytes[..count]);
            match count == buffer.len() {
                true => Ok(()),
                false => Err(ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    fn write_all_at(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.change(Pending::Write(offset as usize, buffer.to_vec()))
    }

    fn sync(&mut self, _: bool) -> io::Result<()> {
        with(self.machine, Machine::count)?;
        self.file(|file| {
            file.synced.clone_from(&file.now);
            file.pending.clear();
            file.has_name = true;
        });
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.change(Pending::SetLen(len as usize))
    }

    fn lock(&mut self, lock: LockKind) -> io::Result<bool> {
        self.lock = lock;
        Ok(true)
    }

    fn reserved(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn current_lock(&self) -> io::Result<LockKind> {
        Ok(self.lock)
    }

    fn wal_index(&self, _: bool) -> io::Result<WalDisabled> {
        Ok(WalDisabled)
    }
}

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Each batch is written at once.
const AT_ONCE: Duration = Duration::ZERO;

/// Batches are written when the store chooses, not after a time.
const TOGETHER: Duration = Duration::MAX;

/// A machine with these files; with an empty store if there are none.
fn start(number: u64, machine: Machine, delay: Duration) -> Result<Disk, StorageError> {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| sqlite_vfs::register(NAME, Files, false).unwrap());
    let is_new = machine.files.is_empty();
    with(number, |at| *at = machine);
    let path = format!("/{number}/core");
    if is_new {
        lay_out(path.as_ref(), Some(NAME))?;
        with(number, |machine| machine.operations = 0);
    }
    let disk = Disk::open_at(path.as_ref(), Some(NAME))?;
    let mut inner = disk.0.lock();
    inner.delay = delay;
    // So that checkpoints happen during the run.
    let small = inner
        .connection()
        .pragma_update(None, "wal_autocheckpoint", 24);
    small.map_err(of_sqlite)?;
    drop(inner);
    Ok(disk)
}

fn stop(number: u64) -> Machine {
    let mut machines = MACHINES.lock().unwrap();
    machines
        .get_or_insert_default()
        .remove(&number)
        .expect("it runs")
}

fn key_pair() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn block(index: u64, fork: u64) -> Vec<u8> {
    vec![(index + 31 * fork) as u8; (index * 397 % 2500) as usize]
}

/// Asserts which fork each of a writer's blocks is of: each truncation cuts what the forks before it left.
fn content(core: &Core) -> Result<(), String> {
    let report = core.check().map_err(|error| error.to_string())?;
    if !report.is_intact() {
        return Err(format!("{report:?}"));
    }
    for index in 0..core.length() {
        if let Some(value) = core.get(index).map_err(|error| error.to_string())? {
            let is_right = (0..=core.fork()).any(|fork| value == *block(index, fork));
            if !is_right {
                return Err(format!("block {index} is wrong"));
            }
        }
    }
    Ok(())
}

/// One step of a writer.
fn write_step(core: &mut Core, random: &mut Random) -> Result<(), CoreError> {
    let (length, fork) = (core.length(), core.fork());
    match random.below(12) {
        0 if length > 2 => core
            .truncate(length - 1 - random.below(length - 1), None)
            .map(drop),
        1 if length > 2 => {
            let start = random.below(length);
            core.clear(start..(start + 2).min(length))
        }
        2 => core.flush(),
        _ => {
            let end = length + 1 + random.below(4);
            let blocks: Vec<_> = (length..end).map(|index| block(index, fork)).collect();
            core.append(&blocks).map(drop)
        }
    }
}

fn source() -> &'static Core {
    static SOURCE: OnceLock<Core> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let options = CoreOptions::writer(key_pair());
        let mut core = Core::open(Memory::new(), options).unwrap();
        let blocks: Vec<_> = (0..60).map(|index| block(index, 0)).collect();
        core.append(&blocks).unwrap();
        core
    })
}

/// Fetches a missing block or flushes. Returns whether it flushed.
fn read_step(core: &mut Core, random: &mut Random) -> Result<bool, CoreError> {
    if random.below(8) == 0 {
        return core.flush().map(|()| true);
    }
    let length = source().length();
    let upgrade = (core.length() < length).then(|| RequestUpgrade {
        start: core.length(),
        length: (length - core.length()).min(1 + random.below(20)),
    });
    let within = upgrade.map_or(length, |upgrade| upgrade.start + upgrade.length);
    let index = random.below(within);
    if core.has(index) && upgrade.is_none() {
        return Ok(false);
    }
    let request = Request {
        manifest: core.manifest().is_none(),
        upgrade,
        block: Some(RequestBlock {
            index,
            nodes: core.missing_nodes(2 * index)?,
        }),
        ..Request::default()
    };
    let data = source().create_proof(&request)?.expect("it has all");
    core.verify_and_apply(&data).map(|_| false)
}

/// Returns whether everything so far is durable.
fn step(core: &mut Core, is_writer: bool, random: &mut Random) -> Result<bool, CoreError> {
    match is_writer {
        true => write_step(core, random).map(|()| true),
        false => read_step(core, random),
    }
}

/// The observable state of a core.
type Seen = (
    CoreInfo,
    crate::replication::Bitfield,
    Option<Vec<u8>>,
    bool,
);

fn seen(core: &Core) -> Seen {
    (
        core.info().unwrap(),
        core.bitfield().clone(),
        core.signature().map(|signature| signature.to_vec()),
        core.manifest().is_some(),
    )
}

fn options(is_writer: bool) -> CoreOptions {
    match is_writer {
        true => CoreOptions::writer(key_pair()),
        false => CoreOptions::reader(*source().key()),
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_said_to_be_safe() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let losses = number("POWER_LOSSES").unwrap_or(POWER_LOSSES);
    let mut random_seed = [0; 8];
    getrandom::fill(&mut random_seed).unwrap();
    let seed = number("SEED").unwrap_or(u64::from_le_bytes(random_seed));
    println!("SEED={seed} POWER_LOSSES={losses}");
    let mut random = Random(seed | 1);
    let mut lost_some = 0;
    for turn in 0..losses {
        let is_writer = turn % 3 != 0;
        let (at, after) = (1_000_000 + 2 * turn, 1_000_001 + 2 * turn);
        let delay = [AT_ONCE, TOGETHER][turn as usize / 3 % 2];
        let disk = start(at, Machine::default(), delay).unwrap();
        let mut core = Core::open(disk, options(is_writer)).unwrap();
        let fails_from = with(at, |machine| machine.operations) + random.below(250);
        with(at, |machine| {
            machine.fails_from = Some(fails_from);
            machine.failures = u64::MAX / 2;
        });
        // The state after each step, and the last durable one.
        let mut history = vec![seen(&core)];
        let mut safe = 0;
        for _ in 0..60 {
            let before = seen(&core);
            match step(&mut core, is_writer, &mut random) {
                Ok(is_safe) => {
                    history.push(seen(&core));
                    if is_safe {
                        safe = history.len() - 1;
                    }
                }
                Err(error) => {
                    assert!(matches!(error, CoreError::Storage(_)), "{error}");
                    assert_eq!(seen(&core), before);
                    break;
                }
            }
        }
        // The failed step may be on the disk all the same: then the state is the one that it would have led to.
        let left = with(at, |machine| machine.clone()).lose_power(&mut random);
        drop(core);
        stop(at);
        let context = format!("turn {turn}, after {fails_from} operations");
        let disk = start(after, left, AT_ONCE).unwrap_or_else(|error| panic!("{context}: {error}"));
        let core = Core::open_existing(disk, options(is_writer));
        let core = core.unwrap_or_else(|error| panic!("{context}: {error}"));
        content(&core).unwrap_or_else(|error| panic!("{context}: {error}"));
        let now = seen(&core);
        let found = history.iter().rposition(|seen| *seen == now);
        let last = &history[history.len() - 1].0;
        let is_next = (now.0.length, now.0.fork) > (last.length, last.fork)
            || now.0.fork > last.fork
            || now.0.held != last.held;
        match found {
            Some(found) => {
                assert!(found >= safe, "{context}: {found} of {safe}");
                lost_some += u64::from(found + 1 < history.len());
            }
            None => assert!(is_next, "{context}: {now:?}"),
        }
        drop(core);
        stop(after);
    }
    assert!(
        losses < 100 || lost_some > 0,
        "no loss of power cost anything"
    );
}

#[test]
fn a_file_that_fails_leaves_memory_as_the_store_is() {
    for is_writer in [true, false] {
        for (is_full, failures) in [(true, 1), (false, 1), (false, u64::MAX / 2)] {
            let mut fails_from = 0;
            loop {
                let number = 2_000_000;
                let mut random = Random(7);
                let disk = start(number, Machine::default(), AT_ONCE).unwrap();
                let mut core = Core::open(disk, options(is_writer)).unwrap();
                with(number, |machine| {
                    machine.fails_from = Some(machine.operations + fails_from);
                    machine.failures = failures;
                    machine.is_full = is_full;
                });
                let mut failed = None;
                for _ in 0..25 {
                    let before = seen(&core);
                    if let Err(error) = step(&mut core, is_writer, &mut random) {
                        assert_eq!(seen(&core), before, "{error}");
                        failed = Some((error, before));
                        break;
                    }
                }
                let Some((error, before)) = failed else {
                    // The scenario is over.
                    stop(number);
                    break;
                };
                let context = format!("{fails_from}, {is_writer}, {is_full}, {failures}: {error}");
                let CoreError::Storage(error) = error else {
                    panic!("{context}");
                };
                assert!(error.path().is_some(), "{context}");
                let is_sync = is_failed_sync(&error);
                if is_full && !is_sync {
                    let is_told = error.kind() == StorageErrorKind::Full
                        || std::error::Error::source(&error).is_some();
                    assert!(is_told, "{context}");
                }
                content(&core).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
                if failures == 1 && !is_sync {
                    // There is space again.
                    for _ in 0..3 {
                        let done = step(&mut core, is_writer, &mut random);
                        done.unwrap_or_else(|error| panic!("{context}, then {error}"));
                    }
                    content(&core).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
                }
                if is_sync {
                    // The contents of the disk are unknown.
                    assert_eq!(seen(&core), before);
                    core.flush().unwrap_err();
                    let again = write_step(&mut core, &mut Random(3));
                    assert!(again.is_err() || !is_writer, "{context}");
                }
                let last = seen(&core);
                with(number, |machine| machine.fails_from = None);
                drop(core);
                let machine = stop(number);
                let disk = start(number, machine, AT_ONCE).unwrap();
                let core = Core::open_existing(disk, options(is_writer)).unwrap();
                content(&core).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
                if !is_sync {
                    assert_eq!(seen(&core), last, "{context}");
                }
                drop(core);
                stop(number);
                fails_from += 1;
            }
            assert!(fails_from > 20, "{fails_from}");
        }
    }
}
