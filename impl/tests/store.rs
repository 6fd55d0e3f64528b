//! Cores in damaged files, and on a full disk: nothing panics, no wrong data is returned as right, and a peer can fill
//! the result of a repair.
//!
//! `DAMAGES=…` sets how many files are damaged, and `SEED=…` repeats a run.
#![cfg(feature = "replication")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hypercore_protocol::KeyPair;
use hypercore_protocol::replication::{
    Core, CoreError, CoreOptions, Disk, Memory, StorageErrorKind, repair,
};
use hypercore_protocol::schema::{Request, RequestBlock, RequestUpgrade};
use rand_core::{OsRng, RngCore};

const DAMAGES: u64 = 600;
const PAGE: usize = 4096;
const LENGTH: u64 = 60;

fn key_pair() -> KeyPair {
    KeyPair::from_seed(&[3; 32])
}

fn block(index: u64) -> Vec<u8> {
    vec![index as u8; (index * 37 % 900) as usize]
}

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// A store after a writer's operations.
fn write(path: &Path) -> Core {
    let disk = Disk::create(path).unwrap();
    let mut core = Core::create(disk, CoreOptions::writer(key_pair())).unwrap();
    for index in 0..LENGTH {
        core.append(&[block(index)]).unwrap();
    }
    core.clear(3..5).unwrap();
    core.truncate(LENGTH - 5, None).unwrap();
    for index in LENGTH - 5..LENGTH {
        core.append(&[block(index)]).unwrap();
    }
    core
}

fn damage(bytes: &mut Vec<u8>, foreign: &[u8], random: &mut Random) -> String {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut what = String::new();
    for _ in 0..1 + random.below(3) {
        if bytes.len() < PAGE {
            break;
        }
        let pages = bytes.len() / PAGE;
        let mut page = || {
            let at = random.below(pages) * PAGE;
            at..at + PAGE
        };
        let (one, two) = (page(), page());
        let at = used[random.below(used.len())].min(bytes.len() - 1);
        match random.below(10) {
            0..=2 => {
                bytes[at] ^= 1 << random.below(8);
                what += &format!("bit of {at}; ");
            }
            3 => {
                bytes[at] = random.below(256) as u8;
                what += &format!("byte {at}; ");
            }
            4 => {
                let at = random.below(bytes.len().min(3 * PAGE));
                bytes[at] = random.below(256) as u8;
                what += &format!("early byte {at}; ");
            }
            5 => {
                what += &format!("zeroed {one:?}; ");
                bytes[one].fill(0);
            }
            6 => {
                what += &format!("exchanged {one:?} {two:?}; ");
                let kept = bytes[one.clone()].to_vec();
                bytes.copy_within(two.clone(), one.start);
                bytes[two].copy_from_slice(&kept);
            }
            7 if one.end <= foreign.len() => {
                what += &format!("foreign {one:?}; ");
                bytes[one.clone()].copy_from_slice(&foreign[one]);
            }
            8 => {
                let len = random.below(bytes.len());
                what += &format!("cut to {len}; ");
                bytes.truncate(len);
            }
            _ => {
                let from = random.below(bytes.len());
                what += &format!("zeroed from {from}; ");
                bytes[from..].fill(0);
            }
        }
    }
    what
}

/// Reads and uses a store as far as possible. Returns how far, or the wrong data that was returned as right.
fn try_out(path: &Path) -> Result<String, String> {
    let told = |error: CoreError| match &error {
        CoreError::Storage(error) if error.path().is_some() => {
            Ok(format!("refused: {:?}", error.kind()))
        }
        // A file whose log is lost may date from before the core was made.
        CoreError::Storage(error) if error.kind() == StorageErrorKind::NotFound => {
            Ok("refused: NotFound".to_owned())
        }
        _ => Err(error.to_string()),
    };
    let disk = match Disk::open(path) {
        Ok(disk) => disk,
        Err(error) => return told(error.into()),
    };
    let mut core = match Core::open_existing(disk, CoreOptions::default()) {
        Ok(core) => core,
        Err(error) => return told(error),
    };
    let mut said = None;
    for index in 0..core.length() {
        match core.get(index) {
            Ok(Some(value)) if value != block(index) => return Err(format!("wrong block {index}")),
            Ok(_) => {}
            Err(error) => said = Some(told(error)?),
        }
        let request = Request {
            fork: core.fork(),
            block: Some(RequestBlock { index, nodes: 3 }),
            ..Request::default()
        };
        match core.create_proof(&request) {
            Ok(Some(data)) => {
                let served = data.block.is_none_or(|served| served.value == block(index));
                if !served {
                    return Err(format!("wrong block {index} is served"));
                }
            }
            // A core shortened by a lost log has fewer levels.
            Ok(None) | Err(CoreError::Request(_)) => {}
            Err(error) => said = Some(told(error)?),
        }
    }
    let report = core.check().map_err(|error| error.to_string())?;
    if said.as_deref() == Some("refused: Damaged") && report.is_intact() {
        return Err(format!("{said:?}, and the check finds nothing"));
    }
    if let Err(error) = core.append(&["x"]) {
        said = Some(told(error)?);
    }
    Ok(said.unwrap_or_else(|| "usable".to_owned()))
}

/// After a repair every held block is right, and a peer fills the rest.
fn repair_and_fill(path: &Path, source: &Core) -> Result<(), String> {
    let key = CoreOptions::reader(*source.key());
    let report = match repair(path, &key) {
        Ok(report) => report,
        Err(CoreError::Storage(error)) if error.kind() == StorageErrorKind::Damaged => {
            return Ok(());
        }
        Err(CoreError::Storage(error)) if error.kind() == StorageErrorKind::Foreign => {
            return Ok(());
        }
        Err(CoreError::Storage(error)) if error.kind() == StorageErrorKind::Version => {
            return Ok(());
        }
        Err(CoreError::Conflict(_)) => return Ok(()),
        Err(error) => return Err(format!("repair: {error}")),
    };
    let disk = Disk::open_existing(path).map_err(|error| error.to_string())?;
    let mut core = Core::open_existing(disk, key).map_err(|error| error.to_string())?;
    let check = core.check().map_err(|error| error.to_string())?;
    if !check.is_intact() || check.intact != report.intact {
        return Err(format!("{check:?} after {report:?}"));
    }
    if core.fork() != source.fork() {
        // A lost log may leave the state from before the truncation: then a peer's fork brings the rest.
        return Ok(());
    }
    for index in 0..source.length() {
        if core.has(index) || !source.has(index) {
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
                nodes: core
                    .missing_nodes(2 * index)
                    .map_err(|error| error.to_string())?,
            }),
            upgrade,
            manifest: core.manifest().is_none(),
            ..Request::default()
        };
        let data = source.create_proof(&request).unwrap().unwrap();
        core.verify_and_apply(&data)
            .map_err(|error| format!("block {index}: {error}, after {report:?}"))?;
    }
    for index in 0..core.length() {
        let held = core.get(index).map_err(|error| error.to_string())?;
        // A fork of the source may be shorter than the rest of a lost log.
        if held.is_some_and(|held| held != block(index)) {
            return Err(format!("wrong block {index} after the repair"));
        }
        if source.has(index) && !core.has(index) {
            return Err(format!("block {index} is not filled"));
        }
    }
    Ok(())
}

#[test]
fn a_damaged_file_never_panics_nor_gives_what_is_wrong() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let damages = number("DAMAGES").unwrap_or(DAMAGES);
    let seed = number("SEED").unwrap_or_else(|| OsRng.next_u64());
    println!("SEED={seed} DAMAGES={damages}");
    let mut random = Random(seed | 1);
    // In memory if there is such a folder, since nothing here tests the disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.unwrap();
    let (base, other) = (folder.path().join("base"), folder.path().join("other"));
    let source = write(&base);
    // The files after a kill, and after a clean exit.
    let killed = fs::read(&base).unwrap();
    let log = fs::read(folder.path().join("base-wal")).unwrap();
    drop(source);
    let ended = fs::read(&base).unwrap();
    let disk = Disk::create(&other).unwrap();
    let mut core = Core::create(disk, CoreOptions::default()).unwrap();
    let blocks: Vec<_> = (0..LENGTH).map(|index| block(index + 1)).collect();
    core.append(&blocks).unwrap();
    drop(core);
    let foreign = fs::read(&other).unwrap();
    let disk = Disk::open_existing(&base).unwrap();
    let source = Core::open_existing(disk, CoreOptions::default()).unwrap();

    let mut verdicts = BTreeMap::<String, u64>::new();
    for turn in 0..damages {
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        let path = work.join("core");
        let mut bytes = ended.clone();
        let what = if turn % 4 == 0 {
            bytes.clone_from(&killed);
            let mut log = log.clone();
            let what = match turn % 8 {
                0 => damage(&mut log, &foreign, &mut random),
                _ => damage(&mut bytes, &foreign, &mut random),
            };
            fs::write(work.join("core-wal"), log).unwrap();
            format!("with its log: {what}")
        } else {
            damage(&mut bytes, &foreign, &mut random)
        };
        fs::write(&path, bytes).unwrap();
        let context = format!("SEED={seed}, turn {turn}: {what}");
        if turn % 5 == 0 {
            let repaired = repair_and_fill(&path, &source);
            repaired.unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
        } else {
            let verdict = try_out(&path).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
            *verdicts.entry(verdict).or_default() += 1;
        }
        fs::remove_dir_all(&work).unwrap();
    }
    println!("{verdicts:#?}");
    assert!(verdicts.contains_key("usable"), "{verdicts:?}");
    assert!(verdicts.contains_key("refused: Damaged"), "{verdicts:?}");
}

/// Each page of a store is replaced by the same page of another one, which has as many blocks of the same sizes.
#[test]
fn a_page_of_another_store_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, first: u8| {
        let path = folder.path().join(name);
        let options = CoreOptions::writer(KeyPair::from_seed(&[first; 32]));
        let mut core = Core::create(Disk::create(&path).unwrap(), options).unwrap();
        let blocks: Vec<_> = (0..LENGTH).map(|at| vec![first + at as u8; 400]).collect();
        core.append(&blocks).unwrap();
        let key = *core.key();
        drop(core);
        (fs::read(path).unwrap(), key)
    };
    let ((base, key), (other, _)) = (made("base", 1), made("other", 101));
    assert_eq!(base.len(), other.len());
    let mut refused = 0;
    for at in (0..base.len()).step_by(PAGE) {
        let page = at..at + PAGE;
        if base[page.clone()] == other[page.clone()] {
            continue;
        }
        let mut bytes = base.clone();
        bytes[page.clone()].copy_from_slice(&other[page]);
        let path = folder.path().join("work");
        fs::write(&path, bytes).unwrap();
        let opened = Disk::open_existing(&path)
            .map_err(CoreError::from)
            .and_then(|disk| Core::open_existing(disk, CoreOptions::default()));
        match opened {
            Ok(core) => {
                assert_eq!(*core.key(), key, "page at {at}");
                for index in 0..core.length() {
                    if let Ok(Some(value)) = core.get(index) {
                        assert_eq!(value, vec![1 + index as u8; 400], "page at {at}");
                    }
                }
                let report = core.check().unwrap();
                assert!(!report.is_intact(), "page at {at}: {report:?}");
            }
            Err(CoreError::Storage(error)) => {
                assert_eq!(error.kind(), StorageErrorKind::Damaged, "page at {at}");
                refused += 1;
            }
            Err(error) => panic!("page at {at}: {error}"),
        }
        fs::remove_file(&path).unwrap();
    }
    // At least those of the schema, of the state and of the key pair.
    assert!(refused >= 3, "{refused}");
}

/// Commits that SQLite drops silently when it opens a damaged log are reported by the check.
#[test]
fn a_damaged_log_is_told_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    // The files as left by a killed process.
    let source = write(&base);
    let (file, log) = (
        fs::read(&base).unwrap(),
        fs::read(folder.path().join("base-wal")).unwrap(),
    );
    drop(source);
    let (frame, header) = (24 + PAGE, 32);
    let frames = (log.len() - header) / frame;
    assert!(frames > 100, "{frames}");
    let opened = |log: &[u8]| {
        let work = tempfile::tempdir_in(folder.path()).unwrap();
        let path = work.path().join("core");
        fs::write(&path, &file).unwrap();
        fs::write(work.path().join("core-wal"), log).unwrap();
        let core = Core::open(Disk::open(&path).unwrap(), CoreOptions::writer(key_pair()));
        let core = core.unwrap();
        let report = core.check().unwrap();
        (core.length(), report, work)
    };
    let (length, report, _work) = opened(&log);
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(length, LENGTH);
    let is_told = |log: &[u8], what: &str| {
        let (length, report, _work) = opened(log);
        let told = report.store.iter().any(|error| {
            error.kind() == StorageErrorKind::Damaged && error.to_string().contains("log")
        });
        assert!(told, "{what}: {report:?}");
        length
    };
    let mut lost = 0;
    for at in [
        // The magic number, a salt and the checksum of the header.
        0,
        17,
        30,
        // A frame's page number, salt, checksum and page.
        header + 1,
        header + 40 * frame + 9,
        header + 60 * frame + 17,
        header + (frames - 2) * frame + 24 + 1000,
        header + (frames - 1) * frame + 24 + 5,
    ] {
        let mut damaged = log.clone();
        damaged[at] ^= 4;
        let length = is_told(&damaged, &format!("byte {at}"));
        lost += u64::from(length < LENGTH);
    }
    assert!(lost >= 6, "{lost}");
    // A partial write of a killed process is no damage, nor are older frames behind the current log.
    let mut cut = log.clone();
    cut.truncate(log.len() - PAGE / 2);
    cut.extend([0; 10]);
    let (_, report, _work) = opened(&cut);
    assert!(report.is_intact(), "{report:?}");
}

/// Runs this test in a process with a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_leaves_the_core_as_it_was() {
    use std::process::Command;

    if let Some(path) = std::env::var_os("FULL_FILE") {
        let disk = Disk::open(path).unwrap();
        let mut core = Core::open(disk, CoreOptions::writer(key_pair())).unwrap();
        let seen = |core: &Core| (core.info().unwrap(), core.bitfield().clone());
        loop {
            let before = seen(&core);
            let block = vec![core.length() as u8; 3000];
            if let Err(error) = core.append(&[block]) {
                let CoreError::Storage(error) = &error else {
                    panic!("{error}");
                };
                assert!(error.path().is_some(), "{error}");
                assert!(std::error::Error::source(error).is_some(), "{error}");
                assert_eq!(seen(&core), before);
                break;
            }
            assert!(core.length() < 1000, "the limit is not there");
        }
        assert!(core.check().unwrap().is_intact());
        // It was the log that could not grow.
        core.flush().unwrap();
        core.append(&["there is space again"]).unwrap();
        println!("did {}", core.length());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    // The signal for exceeding the limit would kill the process before it gets the error.
    let limited = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_file_that_may_not_grow_leaves_the_core_as_it_was",
        ])
        .arg("--nocapture")
        .env("FULL_FILE", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    let (_, length) = said.split_once("did ").expect("it says how far it came");
    let length: u64 = length.split_whitespace().next().unwrap().parse().unwrap();
    assert!(length > 5, "{length}");
    let core = Core::open(Disk::open(&path).unwrap(), CoreOptions::default()).unwrap();
    assert_eq!(core.length(), length);
    assert!(core.check().unwrap().is_intact());
}

#[test]
fn a_core_is_made_and_found_again_as_asked() {
    let key = CoreOptions::reader(*source_key());
    let kind = |opened: Result<Core, CoreError>| match opened.unwrap_err() {
        CoreError::Storage(error) => error.kind(),
        error => panic!("{error}"),
    };
    let missing = Core::open_existing(Memory::new(), CoreOptions::default());
    assert_eq!(kind(missing), StorageErrorKind::NotFound);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let made = Core::create(Disk::create(&path).unwrap(), key.clone()).unwrap();
    let made_key = *made.key();
    drop(made);
    let again = Core::create(Disk::open(&path).unwrap(), key);
    assert_eq!(kind(again), StorageErrorKind::Exists);
    let found = Core::open_existing(Disk::open_existing(&path).unwrap(), CoreOptions::default());
    assert_eq!(*found.unwrap().key(), made_key);
}

fn source_key() -> &'static [u8; 32] {
    &[9; 32]
}
