//! A core in a file.
//!
//! The file is an SQLite database, by way of [rusqlite](https://docs.rs/rusqlite), which compiles SQLite and so needs a
//! C compiler. It was weighed against others (`docs/robustness.md`):
//! - redb is pure Rust, but trusts its file: a damaged page makes it panic, which `catch_unwind` would
//!   only hide (and not at all with `panic = "abort"`). After one failed read or write it refuses everything until it is
//!   opened again, which reads the whole file. A commit costs an fsync or is lost when the process ends.
//! - fjall starts threads, needs a folder of files for each store, and has no layer for simulating a loss of power.
//! - LMDB maps its file into memory, where a truncated file kills the process.
//!
//! SQLite reports damage as an error and still reads the rest, stays usable after a failed write, and its write-ahead
//! log keeps each commit beyond the end of the process without an fsync. It does not detect changed bytes in a value,
//! so nodes, pages and state carry a checksum here, and [`Core`](super::Core) verifies blocks against the tree.
//!
//! Tables, each of an integer key and a blob: `nodes` (flat-tree index; size in 8 bytes little-endian, hash), `blocks`
//! (index; value), `pages` (number; 4096 bytes of the bitfield), `state` and `secret` (key 0). All but blocks end with
//! 8 bytes of checksum. Each checksum covers a random number of the store, kept in its schema, so that a page from
//! another store counts as damage.
//! store is damage, too.

mod log;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ffi};
use zeroize::Zeroizing;

use crate::buffer::Buffer;
use crate::keys::blake2b256;
use crate::wire::Node;

use super::bitfield::PAGE_BYTES;
use super::storage::{Batch, Durability, Header, Storage, StorageError, StorageErrorKind};

/// SQLite's `application_id`: `hcor`.
const APPLICATION: i32 = 0x6863_6f72;

/// SQLite's `user_version`: the format of this module.
const FORMAT: i32 = 1;

/// The first bytes of files of earlier versions of this crate, which redb wrote.
const REDB: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Bytes of checksum behind a value.
const CHECK: usize = 8;

/// How long a batch may wait to be written together with others.
const DELAY: Duration = Duration::from_millis(50);

/// Maximum size of waiting batches, in bytes.
const MAX_PENDING: usize = 4 * 1024 * 1024;

/// How long the writing thread stays alive without work.
const IDLE: Duration = Duration::from_secs(1);

/// Pages of 4 KiB in the log before a checkpoint: after a crash the whole log is read.
const LOG_PAGES: u32 = 4096;

/// The tables, and which part of key and value each checksum covers.
#[derive(Debug, Clone, Copy)]
enum Table {
    Nodes = 1,
    Pages = 2,
    State = 3,
    Secret = 4,
}

/// All tables except the last.
const SCHEMA: [&str; 4] = [
    "CREATE TABLE blocks (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE nodes (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE pages (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE secret (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
];

/// The random number that makes a store's checksums its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Salt(u128);

impl Salt {
    fn new() -> Result<Self, StorageError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(without_random)?;
        Ok(Self(u128::from_le_bytes(random)))
    }

    /// The definition of the last table, which contains the salt and a check digit for it: inside the schema's page it
    /// needs no page of its own, and without that page nothing could be read anyway.
    fn table(self) -> String {
        let check = blake2b256(&[&self.0.to_le_bytes()], None)[0];
        let salt = self.0;
        format!(
            "CREATE TABLE state (id INTEGER PRIMARY KEY, value BLOB NOT NULL /* {salt} {check} */)"
        )
    }

    fn of_table(sql: &str) -> Option<Self> {
        let (_, comment) = sql.split_once("/* ")?;
        let (salt, _) = comment.split_once(' ')?;
        let salt = Self(salt.parse().ok()?);
        (salt.table() == sql).then_some(salt)
    }
}

/// A store in a file, for one core and one process at a time.
///
/// Until the store is dropped, its log lies beside the file, with the suffix `-wal`. Both belong together: copy the
/// file alone only after [`Storage::flush`], or when no process has it open.
///
/// What can be lost:
///
/// - When the process ends, in any way: nothing committed with [`Durability::Now`] or flushed; of commits with
///   [`Durability::Later`], the last 50 milliseconds at most. Batches in quick succession are written
///   together, when one has waited for 50 milliseconds (a thread runs while any waits) or when they
///   reach 4 MiB.
/// - When the machine loses power: nothing committed with [`Durability::Now`] or flushed; of later commits
///   with [`Durability::Later`], some of the latest batches, each in whole.
/// - When the log of a killed process is damaged before it is opened again: all batches after the damage, and
///   opening does not report it. [`Core::check`](super::Core::check) does, until the store is closed, if whole parts of
///   the log lie behind the damage. It cannot detect that a log was removed or cut off. **A writer that lost appends must not
///   append**: it would sign a second history. Where that may happen, check a core after a crash before the first append.
///
/// On Unix the file has mode 0600: it contains the seed of the core's key pair in the clear, once. SQLite caches what
/// it reads from the file in memory, and does not wipe it.
pub struct Disk(Arc<Shared>);

/// State shared with the thread that writes waiting batches.
struct Shared {
    path: Arc<Path>,
    salt: Salt,
    /// The lost part of the log, found when the store was opened.
    lost: Option<StorageError>,
    inner: Mutex<Inner>,
    /// Notified when the store is closed.
    closed: Condvar,
}

struct Inner {
    /// `None` once the store is closed.
    connection: Option<Connection>,
    /// Whether commits sync the log.
    is_full_sync: bool,
    /// Whether some commits are only in the log.
    is_logged: bool,
    /// The error after which nothing can be written any more.
    broken: Option<StorageError>,
    pending: Pending,
    /// How long a change may wait.
    delay: Duration,
    /// Time of the last write.
    written: Instant,
    has_thread: bool,
}

/// Changes not written yet. They contain no deletions except of pages, so everything else is as in the file.
#[derive(Default)]
struct Pending {
    nodes: BTreeMap<u64, Node>,
    blocks: BTreeMap<u64, Buffer>,
    pages: BTreeMap<u64, Option<Vec<u8>>>,
    header: Option<Header>,
    bytes: usize,
    /// Start of the wait.
    since: Option<Instant>,
}

impl Pending {
    fn take_in(&mut self, batch: Batch) {
        self.bytes += weight(&batch);
        self.nodes
            .extend(batch.nodes.into_iter().map(|node| (node.index, node)));
        self.blocks.extend(batch.blocks);
        self.pages.extend(batch.pages);
        self.header = batch.header.or(self.header.take());
        self.since.get_or_insert_with(Instant::now);
    }

    fn as_batch(&self) -> Batch {
        Batch {
            nodes: self.nodes.values().copied().collect(),
            blocks: self
                .blocks
                .iter()
                .map(|(index, value)| (*index, value.clone()))
                .collect(),
            pages: self.pages.clone(),
            header: self.header.clone(),
            ..Batch::default()
        }
    }
}

/// Approximate memory of a waiting batch. Pages count once, since they replace each other.
fn weight(batch: &Batch) -> usize {
    let blocks = batch.blocks.iter().map(|(_, value)| value.len() + 64);
    batch.nodes.len() * 64 + blocks.sum::<usize>()
}

impl Disk {
    /// Opens the store in a file, or makes one if there is none. The folder must exist.
    ///
    /// # Errors
    /// When the file cannot be opened or made, is open elsewhere, or is not an intact store of this version. An empty
    /// file counts as damaged. Each error names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = absolute(path.as_ref());
        match Self::open_at(&path, None) {
            Err(error) if error.kind() == StorageErrorKind::NotFound => {
                match make(&path) {
                    // Another process made it first.
                    Err(error) if error.kind() == StorageErrorKind::Exists => {}
                    made => made?,
                }
                Self::open_at(&path, None)
            }
            opened => opened,
        }
    }

    /// Makes a new store in a file.
    ///
    /// # Errors
    /// [`StorageErrorKind::Exists`] when the file exists, else as [`Disk::open`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = absolute(path.as_ref());
        make(&path)?;
        Self::open_at(&path, None)
    }

    /// Opens the store in an existing file.
    ///
    /// # Errors
    /// [`StorageErrorKind::NotFound`] when the file does not exist, else as [`Disk::open`].
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_at(&absolute(path.as_ref()), None)
    }

    /// Replaces a store by the one that `write` fills. The old file is kept unchanged, under its name with `.damaged`
    /// and a number.
    pub(crate) fn replace<T, E: From<StorageError>>(
        path: &Path,
        write: impl FnOnce(&Self, &mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = absolute(path);
        let before = Self::open_at(&path, None)?;
        let draft = Draft::new(&path)?;
        let mut after = Self::open_at(&draft.0, None)?;
        let written = write(&before, &mut after)?;
        drop(after);
        drop(before);
        exchange(&path, &draft.0).map_err(|error| of_system(error).at(&path))?;
        Ok(written)
    }

    fn open_at(path: &Path, file_system: Option<&str>) -> Result<Self, StorageError> {
        // The file is not opened here: closing any descriptor of it drops SQLite's locks on it in this process.
        if file_system.is_none() {
            let found = fs::metadata(path).map_err(|error| of_system(error).at(path))?;
            if !found.is_file() {
                let reason = "it is no file";
                return Err(StorageError::new(StorageErrorKind::Foreign, reason).at(path));
            }
            if found.len() == 0 {
                return Err(StorageError::damaged("the file is empty").at(path));
            }
        }
        // Before SQLite opens the log: it overwrites the damage.
        let lost = match file_system {
            None => log::lost(&beside(path, "-wal")),
            Some(_) => None,
        };
        let lost = lost.map(|what| {
            let what = format!("the log was damaged when the store was opened: {what}");
            StorageError::damaged(what).at(path)
        });
        let opened = connect(path, file_system).and_then(|connection| {
            let salt = examine(&connection)?;
            Ok((connection, salt))
        });
        let (connection, salt) = opened.map_err(|error| match error.kind() {
            StorageErrorKind::Foreign if begins_with(path, REDB) => {
                let reason = "the store is of an earlier version of this crate, which cannot be read any more";
                StorageError::new(StorageErrorKind::Version, reason).at(path)
            }
            _ => error.at(path),
        })?;
        let inner = Inner {
            connection: Some(connection),
            is_full_sync: false,
            // A killed process may have left a log.
            is_logged: true,
            broken: None,
            pending: Pending::default(),
            delay: DELAY,
            written: Instant::now()
                .checked_sub(DELAY)
                .unwrap_or_else(Instant::now),
            has_thread: false,
        };
        Ok(Self(Arc::new(Shared {
            path: path.into(),
            salt,
            lost,
            inner: Mutex::new(inner),
            closed: Condvar::new(),
        })))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere does not affect SQLite's connection.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: rusqlite::Error) -> StorageError {
        of_sqlite(error).at(&self.path)
    }

    /// Reads a value, verifies and strips its checksum, and passes it to `take`.
    fn value<T>(
        &self,
        connection: &Connection,
        table: Table,
        id: u64,
        sql: &str,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        let Ok(key) = i64::try_from(id) else {
            return Ok(None);
        };
        let mut statement = connection
            .prepare_cached(sql)
            .map_err(|error| self.failed(error))?;
        let mut take = Some(take);
        let found = statement.query_row([key], |row| {
            let take = take.take().expect("there is one row");
            Ok(checked(self.salt, table, id, blob(row, 0)?).map(take))
        });
        let found = found.optional().map_err(|error| self.failed(error))?;
        let found = found.transpose();
        found.map_err(|error| error.at(&self.path))
    }

    fn is_empty(&self, connection: &Connection) -> Result<bool, StorageError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM nodes) OR EXISTS (SELECT 1 FROM blocks) \
                   OR EXISTS (SELECT 1 FROM pages) OR EXISTS (SELECT 1 FROM secret)";
        let any = connection.query_row(sql, [], |row| row.get(0));
        any.map(|any: bool| !any)
            .map_err(|error| self.failed(error))
    }

    /// Writes the waiting batches and then this one. If that fails, they keep waiting.
    fn write(
        &self,
        inner: &mut Inner,
        batch: &Batch,
        durability: Durability,
    ) -> Result<(), StorageError> {
        inner.written = Instant::now();
        inner.is_logged = true;
        let written = inner.transact(self.salt, batch, durability);
        written.map_err(|error| inner.note(self.failed(error)))?;
        inner.pending = Pending::default();
        Ok(())
    }

    fn move_log(&self, connection: &Connection) -> Result<(), StorageError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_busy: i64 = connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|error| self.failed(error))?;
        if is_busy != 0 {
            let reason = "the log is in use";
            return Err(StorageError::new(StorageErrorKind::Locked, reason).at(&self.path));
        }
        Ok(())
    }

    /// Has a thread write the waiting batches in time. Returns whether such a thread runs.
    fn write_later(self: &Arc<Self>, inner: &mut Inner) -> bool {
        if !inner.has_thread {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("hypercore-disk".to_owned());
            inner.has_thread = thread.spawn(move || shared.run()).is_ok();
        }
        inner.has_thread
    }

    fn run(&self) {
        let mut inner = self.lock();
        loop {
            let left = match inner.pending.since {
                Some(since) => inner.delay.saturating_sub(since.elapsed()),
                // Starting another thread is cheap.
                None if inner.written.elapsed() > IDLE => break,
                None => IDLE,
            };
            if inner.connection.is_none() {
                break;
            }
            if left.is_zero() {
                // If that fails the batches keep waiting, and the next write reports the error.
                if self
                    .write(&mut inner, &Batch::default(), Durability::Later)
                    .is_err()
                {
                    break;
                }
                continue;
            }
            let waited = self.closed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.has_thread = false;
    }
}

impl Inner {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is not closed")
    }

    fn transact(
        &mut self,
        salt: Salt,
        batch: &Batch,
        durability: Durability,
    ) -> rusqlite::Result<()> {
        let connection = self.connection.as_mut().expect("it is not closed");
        let is_full_sync = durability == Durability::Now;
        if is_full_sync != self.is_full_sync {
            let synchronous = if is_full_sync { "FULL" } else { "NORMAL" };
            connection.pragma_update(None, "synchronous", synchronous)?;
            self.is_full_sync = is_full_sync;
        }
        let transaction = connection.transaction()?;
        if self.pending.since.is_some() {
            write_batch(&transaction, salt, &self.pending.as_batch())?;
        }
        write_batch(&transaction, salt, batch)?;
        transaction.commit()
    }

    fn check_broken(&self) -> Result<(), StorageError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// After a failed fsync the contents of the disk are unknown, and the next fsync may claim success.
    fn note(&mut self, error: StorageError) -> StorageError {
        if is_failed_sync(&error) {
            self.broken = Some(error.clone());
        }
        error
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        if inner.pending.since.is_some() && inner.broken.is_none() {
            // There is no caller to report an error to; at worst, data is lost that peers would send again.
            let _ = self
                .0
                .write(&mut inner, &Batch::default(), Durability::Later);
        }
        inner.pending = Pending::default();
        inner.connection = None;
        drop(inner);
        self.0.closed.notify_all();
    }
}

/// Makes an empty store. The file appears at its path complete, so that a crash never leaves half of it there.
fn make(path: &Path) -> Result<(), StorageError> {
    if fs::symlink_metadata(path).is_ok() {
        let reason = "the file exists";
        return Err(StorageError::new(StorageErrorKind::Exists, reason).at(path));
    }
    let at = |error| of_system(error).at(path);
    let draft = Draft::new(path)?;
    // Unlike a rename, a link fails if another process has made a store meanwhile.
    match fs::hard_link(&draft.0, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(at(error)),
        // Some file systems have no hard links.
        Err(_) => fs::rename(&draft.0, path).map_err(at)?,
    }
    drop(draft);
    sync_folder(path).map_err(at)
}

/// An empty store in a temporary file beside its path. Dropping it removes the temporary name.
struct Draft(PathBuf);

impl Draft {
    fn new(path: &Path) -> Result<Self, StorageError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| without_random(error).at(path))?;
        let draft = Self(beside(
            path,
            &format!(".{:016x}.new", u64::from_le_bytes(random)),
        ));
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let made = options.open(&draft.0);
        made.map_err(|error| of_system(error).at(path))?;
        lay_out(&draft.0, None).map_err(|error| error.at(path))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Renames a file and its log, and puts another file in its place. The path always has a store.
fn exchange(path: &Path, by: &Path) -> io::Result<()> {
    let is_free = |number: &u32| !beside(path, &format!(".damaged{number}")).exists();
    let number = (1..).find(is_free).unwrap_or(u32::MAX);
    let kept = beside(path, &format!(".damaged{number}"));
    fs::hard_link(path, &kept).or_else(|_| fs::copy(path, &kept).map(|_| ()))?;
    // SQLite would replay the old log into the new file.
    match fs::rename(beside(path, "-wal"), beside(&kept, "-wal")) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(by, path)?;
    sync_folder(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// Syncs a file's folder, so that a loss of power does not lose its name.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Writes the tables of an empty store into an empty file.
fn lay_out(path: &Path, file_system: Option<&str>) -> Result<(), StorageError> {
    let salt = Salt::new()?;
    let connection = connect(path, file_system)?;
    let write = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        // A write-ahead log would not be renamed with the file.
        connection.pragma_update(None, "journal_mode", "MEMORY")?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        for table in SCHEMA {
            connection.execute_batch(table)?;
        }
        connection.execute_batch(&salt.table())?;
        connection.pragma_update(None, "journal_mode", "WAL")
    };
    write().map_err(of_sqlite)?;
    connection.close().map_err(|(_, error)| of_sqlite(error))
}

fn connect(path: &Path, file_system: Option<&str>) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match file_system {
        None => Connection::open_with_flags(path, flags),
        Some(file_system) => {
            let flags = flags | OpenFlags::SQLITE_OPEN_CREATE;
            Connection::open_with_flags_and_vfs(path, flags, file_system)
        }
    };
    let configure = |connection: Connection| {
        connection.busy_timeout(Duration::ZERO)?;
        // Never run code from a file of unknown origin.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        // Set before the first access: the log then needs no shared memory, and the lock is held until the end.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "secure_delete", "FAST")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        Ok(connection)
    };
    connection.and_then(configure).map_err(of_sqlite)
}

/// Checks that the file is a store of this version, takes the lock, and returns the salt.
fn examine(connection: &Connection) -> Result<Salt, StorageError> {
    let number = |name: &str| -> Result<i32, StorageError> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(of_sqlite)
    };
    if number("application_id")? != APPLICATION {
        let reason = "it is a database of something else";
        return Err(StorageError::new(StorageErrorKind::Foreign, reason));
    }
    let format = number("user_version")?;
    if format != FORMAT {
        let reason = format!("the store is of format {format}, and this version reads {FORMAT}");
        return Err(StorageError::new(StorageErrorKind::Version, reason));
    }
    if connection.is_readonly("main").map_err(of_sqlite)? {
        let reason = "the file may not be written";
        return Err(StorageError::new(StorageErrorKind::ReadOnly, reason));
    }
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(of_sqlite)?;
    if mode != "wal" {
        return Err(StorageError::damaged("the file has no write-ahead log"));
    }
    let sql = "SELECT sql FROM sqlite_schema ORDER BY name";
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    };
    let tables = read().map_err(of_sqlite)?;
    let salt = match tables.split_last() {
        Some((last, tables)) if tables == SCHEMA => Salt::of_table(last),
        _ => None,
    };
    salt.ok_or_else(|| StorageError::damaged("the tables are not those of a store"))
}

fn write_batch(connection: &Connection, salt: Salt, batch: &Batch) -> rusqlite::Result<()> {
    let delete = |sql: &str, range: &Range<u64>| -> rusqlite::Result<()> {
        let (start, end) = (clamp(range.start), clamp(range.end));
        if start < end {
            connection.prepare_cached(sql)?.execute([start, end])?;
        }
        Ok(())
    };
    let insert = |sql: &str, id: u64, value: &[u8]| -> rusqlite::Result<()> {
        let id =
            i64::try_from(id).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX))?;
        connection.prepare_cached(sql)?.execute((id, value))?;
        Ok(())
    };
    for range in &batch.delete_nodes {
        delete("DELETE FROM nodes WHERE id >= ?1 AND id < ?2", range)?;
    }
    for node in &batch.nodes {
        let mut value = [0; 40];
        value[..8].copy_from_slice(&node.size.to_le_bytes());
        value[8..].copy_from_slice(&node.hash);
        let value = with_check(salt, Table::Nodes, node.index, &value);
        insert(
            "INSERT OR REPLACE INTO nodes VALUES (?1, ?2)",
            node.index,
            &value,
        )?;
    }
    for range in &batch.delete_blocks {
        delete("DELETE FROM blocks WHERE id >= ?1 AND id < ?2", range)?;
    }
    for (index, value) in &batch.blocks {
        insert(
            "INSERT OR REPLACE INTO blocks VALUES (?1, ?2)",
            *index,
            value,
        )?;
    }
    for (page, bytes) in &batch.pages {
        match bytes {
            Some(bytes) => {
                let value = with_check(salt, Table::Pages, *page, bytes);
                insert(
                    "INSERT OR REPLACE INTO pages VALUES (?1, ?2)",
                    *page,
                    &value,
                )?;
            }
            None => {
                let mut statement = connection.prepare_cached("DELETE FROM pages WHERE id = ?1")?;
                statement.execute([clamp(*page)])?;
            }
        }
    }
    if let Some(header) = &batch.header {
        let value = with_check(salt, Table::State, 0, header.as_bytes());
        insert("INSERT OR REPLACE INTO state VALUES (?1, ?2)", 0, &value)?;
    }
    if let Some(secret) = &batch.secret {
        let value = with_check(salt, Table::Secret, 0, secret.as_bytes());
        insert("INSERT OR REPLACE INTO secret VALUES (?1, ?2)", 0, &value)?;
    }
    Ok(())
}

/// SQLite's integers are signed, and no index is above 2^53.
fn clamp(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn check_of(salt: Salt, table: Table, id: u64, value: &[u8]) -> [u8; CHECK] {
    let salt = salt.0.to_le_bytes();
    let hash = blake2b256(&[&salt, &[table as u8], &id.to_le_bytes(), value], None);
    hash[..CHECK].try_into().expect("8 of 32 bytes")
}

/// A value with its checksum. Wiped, since it may be the secret.
fn with_check(salt: Salt, table: Table, id: u64, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len() + CHECK));
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(&check_of(salt, table, id, value));
    bytes
}

/// A stored value without its checksum.
fn checked(salt: Salt, table: Table, id: u64, stored: &[u8]) -> Result<&[u8], StorageError> {
    let intact = stored
        .split_last_chunk::<CHECK>()
        .filter(|(value, check)| check_of(salt, table, id, value) == **check);
    intact.map(|(value, _)| value).ok_or_else(|| {
        StorageError::damaged(match table {
            Table::Nodes => format!("tree node {id} is damaged"),
            Table::Pages => format!("page {id} of the bitfield is damaged"),
            Table::State => "the state is damaged".to_owned(),
            Table::Secret => "the key pair is damaged".to_owned(),
        })
    })
}

/// A column, which is a blob unless damaged.
fn blob<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_blob()?)
}

/// Whether SQLite can represent all keys of a batch. A batch that waits must not fail later because of its contents.
fn is_writable(batch: &Batch) -> bool {
    let nodes = batch.nodes.iter().map(|node| node.index);
    let blocks = batch.blocks.iter().map(|(index, _)| *index);
    let mut all = nodes.chain(blocks).chain(batch.pages.keys().copied());
    all.all(|id| i64::try_from(id).is_ok())
}

impl Storage for Disk {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        let inner = self.0.lock();
        if let Some(header) = &inner.pending.header {
            return Ok(Some(header.clone()));
        }
        let sql = "SELECT value FROM state WHERE id = ?1";
        let take = |value: &[u8]| Header::new(value.to_vec());
        let connection = inner.connection();
        let header = self.0.value(connection, Table::State, 0, sql, take)?;
        // A store that lost only its state would look like a new one.
        if header.is_none() && !self.0.is_empty(connection)? {
            return Err(StorageError::damaged("the state is missing").at(&self.0.path));
        }
        Ok(header)
    }

    fn secret(&self) -> Result<Option<Header>, StorageError> {
        let inner = self.0.lock();
        let sql = "SELECT value FROM secret WHERE id = ?1";
        let take = |value: &[u8]| Header::new(value.to_vec());
        self.0
            .value(inner.connection(), Table::Secret, 0, sql, take)
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        let inner = self.0.lock();
        if let Some(node) = inner.pending.nodes.get(&index) {
            return Ok(Some(*node));
        }
        let sql = "SELECT value FROM nodes WHERE id = ?1";
        let take = |value: &[u8]| {
            let (size, hash) = value.split_first_chunk()?;
            Some(Node {
                index,
                size: u64::from_le_bytes(*size),
                hash: hash.try_into().ok()?,
            })
        };
        let connection = inner.connection();
        let node = self.0.value(connection, Table::Nodes, index, sql, take)?;
        node.map(|node| {
            node.ok_or_else(|| {
                StorageError::damaged(format!("tree node {index} is cut")).at(&self.0.path)
            })
        })
        .transpose()
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        let Ok(key) = i64::try_from(index) else {
            return Ok(None);
        };
        let inner = self.0.lock();
        if let Some(block) = inner.pending.blocks.get(&index) {
            return Ok(Some(block.clone()));
        }
        let connection = inner.connection();
        let read = || -> rusqlite::Result<Option<Buffer>> {
            let mut statement =
                connection.prepare_cached("SELECT value FROM blocks WHERE id = ?1")?;
            statement
                .query_row([key], |row| Ok(Buffer::copy_from(blob(row, 0)?)))
                .optional()
        };
        read().map_err(|error| self.0.failed(error))
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        let inner = self.0.lock();
        let pending = &inner.pending.pages;
        let mut read = || -> rusqlite::Result<Result<(), StorageError>> {
            let mut statement = inner.connection().prepare("SELECT id, value FROM pages")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let page = row.get::<_, i64>(0)? as u64;
                match checked(self.0.salt, Table::Pages, page, blob(row, 1)?) {
                    Ok(_) if pending.contains_key(&page) => {}
                    Ok(bytes) if bytes.len() == PAGE_BYTES => take(page, bytes),
                    Ok(_) => {
                        let what = format!("page {page} of the bitfield is cut");
                        return Ok(Err(StorageError::damaged(what)));
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(()))
        };
        let read = read().map_err(|error| self.0.failed(error))?;
        read.map_err(|error| error.at(&self.0.path))?;
        for (page, bytes) in pending {
            if let Some(bytes) = bytes {
                take(*page, bytes);
            }
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let mut inner = self.0.lock();
        inner.check_broken()?;
        let deletes = !batch.delete_nodes.is_empty() || !batch.delete_blocks.is_empty();
        let waited = match inner.pending.since {
            Some(since) => since.elapsed(),
            // The first batch after a pause is written at once.
            None => inner.written.elapsed(),
        };
        let can_wait = durability == Durability::Later
            && !deletes
            && batch.secret.is_none()
            && is_writable(&batch)
            && waited < inner.delay
            && inner.pending.bytes + weight(&batch) <= MAX_PENDING;
        if can_wait && self.0.write_later(&mut inner) {
            inner.pending.take_in(batch);
            return Ok(());
        }
        self.0.write(&mut inner, &batch, durability)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut inner = self.0.lock();
        inner.check_broken()?;
        if inner.pending.since.is_some() {
            self.0
                .write(&mut inner, &Batch::default(), Durability::Later)?;
        }
        if !inner.is_logged {
            return Ok(());
        }
        let moved = self.0.move_log(inner.connection());
        moved.map_err(|error| inner.note(error))?;
        inner.is_logged = false;
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.0.path)
    }

    fn check(&self) -> Result<(), StorageError> {
        let inner = self.0.lock();
        let found: String = inner
            .connection()
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.0.failed(error))?;
        if found == "ok" {
            return self.0.lost.clone().map_or(Ok(()), Err);
        }
        let what = format!("the database is damaged: {found}");
        Err(StorageError::damaged(what).at(&self.0.path))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

/// SQLite may parse a relative path as a URI.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn begins_with(path: &Path, start: &[u8]) -> bool {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; start.len()];
        io::Read::read_exact(&mut fs::File::open(path)?, &mut bytes)?;
        Ok(bytes)
    };
    read().is_ok_and(|bytes| bytes == start)
}

fn without_random(error: getrandom::Error) -> StorageError {
    let reason = "the system gives no random numbers";
    StorageError::new(StorageErrorKind::Other, reason).with_source(error)
}

fn of_system(error: io::Error) -> StorageError {
    let (kind, reason) = match error.kind() {
        ErrorKind::NotFound => (StorageErrorKind::NotFound, "there is no such file"),
        ErrorKind::AlreadyExists => (StorageErrorKind::Exists, "the file exists"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            (StorageErrorKind::Full, "the disk is full")
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => (
            StorageErrorKind::ReadOnly,
            "the file or its folder may not be written",
        ),
        _ => (StorageErrorKind::Other, "the file cannot be used"),
    };
    StorageError::new(kind, reason).with_source(error)
}

fn of_sqlite(error: rusqlite::Error) -> StorageError {
    use StorageErrorKind::{Damaged, Foreign, Full, Locked, Other, ReadOnly};
    let (kind, reason) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => (Full, "the disk is full"),
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => (Locked, "the store is open elsewhere"),
            ErrorCode::ReadOnly => (ReadOnly, "the file may not be written"),
            ErrorCode::DatabaseCorrupt => (Damaged, "the database is damaged"),
            ErrorCode::NotADatabase => (Foreign, "it is no store of this crate"),
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
                (Other, "the file or its log cannot be opened")
            }
            ErrorCode::SystemIoFailure => (Other, "the file cannot be read or written"),
            _ => (Other, "the database failed"),
        },
        // Columns of unexpected types, and text that is not UTF-8.
        _ => (Damaged, "the database holds what no store writes"),
    };
    StorageError::new(kind, reason).with_source(error)
}

fn is_failed_sync(error: &StorageError) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|error| error.downcast_ref::<rusqlite::Error>());
    matches!(
        source,
        Some(rusqlite::Error::SqliteFailure(failure, _))
            if matches!(failure.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    )
}

#[cfg(test)]
mod tests;
