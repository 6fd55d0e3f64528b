mod power;

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_file_is_open_once_and_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let kind = |opened: Result<Disk, StorageError>| {
        let error = opened.unwrap_err();
        assert_eq!(error.path(), Some(&*absolute(&path)), "{error}");
        let named = error.to_string().starts_with(path.to_str().unwrap());
        assert!(named, "{error}");
        error.kind()
    };
    assert_eq!(kind(Disk::open_existing(&path)), StorageErrorKind::NotFound);
    let disk = Disk::create(&path).unwrap();
    assert_eq!(kind(Disk::open(&path)), StorageErrorKind::Locked);
    assert_eq!(kind(Disk::create(&path)), StorageErrorKind::Exists);
    drop(disk);
    drop(Disk::open(&path).unwrap());
    drop(Disk::open_existing(&path).unwrap());
    assert_eq!(kind(Disk::create(&path)), StorageErrorKind::Exists);

    let intact = fs::read(&path).unwrap();
    let mut version = intact.clone();
    // SQLite's user_version.
    version[60..64].copy_from_slice(&2_u32.to_be_bytes());
    let mut foreign = intact.clone();
    // SQLite's application_id.
    foreign[68..72].copy_from_slice(&2_u32.to_be_bytes());
    let mut earlier = REDB.to_vec();
    earlier.resize(8192, 0);
    let cases = [
        (Vec::new(), StorageErrorKind::Damaged),
        (
            intact[..intact.len() - 4096].to_vec(),
            StorageErrorKind::Damaged,
        ),
        (intact[..100].to_vec(), StorageErrorKind::Damaged),
        (
            b"Tell the store from a text.".repeat(400),
            StorageErrorKind::Foreign,
        ),
        (vec![0; 8192], StorageErrorKind::Foreign),
        (version, StorageErrorKind::Version),
        (foreign, StorageErrorKind::Foreign),
        (earlier, StorageErrorKind::Version),
    ];
    for (at, (bytes, expected)) in cases.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert_eq!(kind(Disk::open(&path)), expected, "case {at}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(kind(Disk::open(&path)), StorageErrorKind::Foreign);
    let missing = Disk::open(path.join("missing/core")).unwrap_err();
    assert_eq!(missing.kind(), StorageErrorKind::NotFound);
}

#[test]
fn the_checksums_of_two_stores_differ() {
    let folder = tempfile::tempdir().unwrap();
    let stored = |name: &str| {
        let path = folder.path().join(name);
        let mut disk = Disk::create(&path).unwrap();
        let batch = Batch {
            secret: Some(Header::new(vec![7; 32])),
            ..Batch::default()
        };
        disk.commit(batch, Durability::Now).unwrap();
        drop(disk);
        let connection = connect(&path, None).unwrap();
        let sql = "SELECT value FROM secret";
        connection
            .query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))
            .unwrap()
    };
    let (one, other) = (stored("one"), stored("other"));
    assert_eq!(one[..32], other[..32]);
    assert_ne!(one[32..], other[32..]);
    // The check digit of the salt detects damage to it.
    let salt = Salt::new().unwrap();
    let table = salt.table();
    assert_eq!(Salt::of_table(&table), Some(salt));
    let at = table.find("/* ").unwrap() + 5;
    let found = (b'0'..=b'9').filter(|digit| {
        let mut table = table.clone().into_bytes();
        table[at] = *digit;
        Salt::of_table(std::str::from_utf8(&table).unwrap()).is_some()
    });
    assert!(found.count() <= 2);
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path().join("core")).unwrap();
    let batch = Batch {
        secret: Some(Header::new(vec![7; 32])),
        ..Batch::default()
    };
    disk.commit(batch, Durability::Now).unwrap();
    let files = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let files: BTreeMap<_, _> = files
        .map(|file| (file.file_name(), file.metadata().unwrap().permissions()))
        .collect();
    let names: Vec<_> = files.keys().collect();
    assert_eq!(names, ["core", "core-wal"]);
    for (name, permissions) in &files {
        assert_eq!(permissions.mode() & 0o777, 0o600, "{name:?}");
    }
}

#[test]
fn the_secret_is_in_the_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let mut disk = Disk::open(&path).unwrap();
    let mut batch = Batch {
        secret: Some(Header::new(vec![7; 32])),
        ..Batch::default()
    };
    for count in 0..50 {
        batch.header = Some(Header::new(vec![count; 100]));
        disk.commit(std::mem::take(&mut batch), Durability::Now)
            .unwrap();
    }
    drop(disk);
    let bytes = fs::read(&path).unwrap();
    let copies = bytes.windows(32).filter(|bytes| *bytes == [7; 32]).count();
    assert_eq!(copies, 1);
    let disk = Disk::open(&path).unwrap();
    assert_eq!(disk.secret().unwrap().unwrap().as_bytes(), [7; 32]);
}

#[test]
fn what_is_committed_is_in_the_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let mut disk = Disk::open(&path).unwrap();
    let node = Node {
        index: 4,
        size: 1,
        hash: [1; 32],
    };
    let batch = Batch {
        nodes: vec![node],
        blocks: vec![(2, Buffer::from("a")), (3, Buffer::from(""))],
        pages: BTreeMap::from([(0, Some(vec![1; 4096]))]),
        header: Some(Header::new(vec![7])),
        ..Batch::default()
    };
    let check = |disk: &Disk| {
        assert_eq!(disk.node(4).unwrap(), Some(node));
        assert_eq!(disk.node(5).unwrap(), None);
        assert_eq!(disk.node(u64::MAX).unwrap(), None);
        assert_eq!(disk.block(2).unwrap().unwrap(), b"a");
        assert_eq!(disk.block(3).unwrap().unwrap(), b"");
        assert_eq!(disk.block(4).unwrap(), None);
        assert_eq!(disk.header().unwrap().unwrap().as_bytes(), [7]);
        let mut pages = Vec::new();
        let mut take = |page, bytes: &[u8]| pages.push((page, bytes.to_vec()));
        disk.pages(&mut take).unwrap();
        assert_eq!(pages, [(0, vec![1; 4096])]);
        disk.check().unwrap();
    };
    disk.commit(batch, Durability::Later).unwrap();
    check(&disk);
    // The files that another process would find if this one ended now.
    for name in ["core", "core-wal"] {
        let from = folder.path().join(name);
        fs::copy(from, folder.path().join(name.replace("core", "copy"))).unwrap();
    }
    check(&Disk::open_existing(folder.path().join("copy")).unwrap());
    disk.flush().unwrap();
    fs::copy(&path, folder.path().join("alone")).unwrap();
    check(&Disk::open_existing(folder.path().join("alone")).unwrap());

    let mut batch = Batch::default();
    batch.delete_nodes.push(0..9);
    batch.delete_blocks.push(0..u64::MAX);
    batch.pages.insert(0, None);
    disk.commit(batch, Durability::Later).unwrap();
    assert_eq!(disk.node(4).unwrap(), None);
    assert_eq!(disk.block(2).unwrap(), None);
    disk.pages(&mut |_, _| panic!("the page is gone")).unwrap();
    assert_eq!(disk.header().unwrap().unwrap().as_bytes(), [7]);

    let mut batch = Batch::default();
    batch.blocks.push((u64::MAX, Buffer::from("a")));
    disk.commit(batch, Durability::Later).unwrap_err();
}

/// A store that lost its state must not pass for an empty one, in which a new core would be made.
#[test]
fn a_store_without_its_state_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path().join("core")).unwrap();
    assert_eq!(disk.header().unwrap(), None);
    let mut batch = Batch::default();
    batch.blocks.push((0, Buffer::from("a")));
    disk.commit(batch, Durability::Now).unwrap();
    let error = disk.header().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Damaged);
}
