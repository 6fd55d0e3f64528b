//! The archive of the vectors: it is reproducible, and an unpacked one is verified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("the program")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Writes the archive of a folder of vectors to another folder; returns its path.
fn archive(from: &Path, to: &Path) -> PathBuf {
    let output = program(&[
        "vectors",
        "archive",
        "--vectors",
        path(from),
        "--out",
        path(to),
    ]);
    assert!(output.status.success(), "{}", text(&output));
    PathBuf::from(text(&output).lines().next().expect("a path"))
}

fn unpack(archive: &Path, to: &Path) -> PathBuf {
    let file = fs::File::open(archive).expect("the archive");
    tar::Archive::new(GzDecoder::new(file))
        .unpack(to)
        .expect("unpacks");
    let name = archive.file_name().expect("a name").to_str().expect("text");
    to.join(name.strip_suffix(".tar.gz").expect("its ending"))
}

fn verify(folder: &Path) -> (bool, String) {
    let output = program(&["vectors", "verify", "--vectors", path(folder)]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        text(&output)
    );
    (output.status.success(), text(&output))
}

#[test]
fn an_archive_is_the_same_each_time_and_what_is_unpacked_is_whole_or_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = archive(&vectors(), &folder.path().join("a"));
    let second = archive(&vectors(), &folder.path().join("b"));
    let bytes = fs::read(&first).expect("the first");
    assert!(
        bytes == fs::read(&second).expect("the second"),
        "not the same bytes"
    );
    let sum = fs::read_to_string(
        folder.path().join("a").join(
            first
                .file_name()
                .expect("a name")
                .to_str()
                .expect("text")
                .to_owned()
                + ".sha256",
        ),
    );
    let version = fs::read_to_string(vectors().join("VERSION")).expect("the version");
    let name = format!("hypercore-vectors-{}.tar.gz", version.trim());
    assert!(sum.expect("its checksum").ends_with(&format!("  {name}\n")));

    let unpacked = unpack(&first, folder.path());
    let (fine, told) = verify(&unpacked);
    assert!(fine, "{told}");
    assert!(told.contains(" files have their checksums."), "{told}");
    // An unpacked archive can be packed again.
    let again = archive(&unpacked, &folder.path().join("c"));
    assert!(
        bytes == fs::read(again).expect("the third"),
        "not the same bytes"
    );

    let notes = unpacked.join("CHANGELOG.md");
    let mut bytes = fs::read(&notes).expect("a file");
    bytes[2] ^= 1;
    fs::write(&notes, &bytes).expect("written");
    let (fine, told) = verify(&unpacked);
    assert!(!fine);
    assert_eq!(
        told.trim(),
        "CHANGELOG.md: its checksum is not the one in SHA256SUMS"
    );
    fs::remove_file(unpacked.join("COVERAGE.md")).expect("removed");
    fs::write(unpacked.join("frame/more.txt"), "more").expect("written");
    fs::write(unpacked.join("VERSION"), "one\n").expect("written");
    let (fine, told) = verify(&unpacked);
    assert!(!fine);
    for fault in [
        "COVERAGE.md: is missing",
        "frame/more.txt: is not in SHA256SUMS",
        "VERSION: \"one\" is not of the form 1.2.3",
    ] {
        assert!(told.contains(fault), "{fault}: {told}");
    }
}

#[test]
fn the_folder_of_the_repository_is_in_order_and_says_that_it_has_no_checksums() {
    let (fine, told) = verify(&vectors());
    assert!(fine, "{told}");
    assert!(told.contains("no bytes were compared"), "{told}");
    let nowhere = program(&["vectors", "verify", "--vectors", "/no/such/folder"]);
    assert_eq!(nowhere.status.code(), Some(3));
}
