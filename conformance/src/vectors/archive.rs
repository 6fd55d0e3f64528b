//! The archive of the vectors, byte-identical wherever it is built, and the check of an unpacked one.
//!
//! The archive holds one folder, `hypercore-vectors-<version>`: all files of `vectors/`, the licences, and
//! `SHA256SUMS`, which is in the format of `sha256sum -c`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::vectors::lint::{self, Checked};

/// The file with the version of the vectors.
const VERSION: &str = "VERSION";

/// The file with the checksum of every other file; only archives have it.
const SUMS: &str = "SHA256SUMS";

/// Files from outside the folder that are included.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// The modification time of every file in the archive: the earliest that zip can represent.
const MODIFIED: u64 = 315_532_800;

/// A verified folder of vectors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The version of the vectors.
    pub version: String,
    /// The results of checking the vectors themselves.
    pub checked: Checked,
    /// The number of files with a correct checksum; `None` without checksums.
    pub sums: Option<usize>,
}

/// An archive that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Archived {
    /// The archive.
    pub path: PathBuf,
    /// Its checksum, also in a file beside it.
    pub sha256: String,
    /// The number of files in it.
    pub files: usize,
}

/// Checks a folder of vectors: checksums, schema, canonical form, ids, clauses and flags.
///
/// # Errors
/// The faults, one line each.
pub fn verify(folder: &Path) -> Result<Verified, Vec<String>> {
    let mut faults = Vec::new();
    let version = version(folder).unwrap_or_else(|fault| {
        faults.push(fault);
        String::new()
    });
    let sums = check_sums(folder).unwrap_or_else(|more| {
        faults.extend(more);
        None
    });
    match lint::check_vectors(folder) {
        Ok(checked) if faults.is_empty() => Ok(Verified {
            version,
            checked,
            sums,
        }),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Writes `hypercore-vectors-<version>.tar.gz`, and its checksum beside it, to the folder `to`.
///
/// # Errors
/// If the folder has no version, or a file cannot be read or written.
pub fn archive(folder: &Path, to: &Path) -> Result<Archived, String> {
    let version = version(folder)?;
    let files = contents(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = format!("hypercore-vectors-{version}");
    let path = to.join(format!("{name}.tar.gz"));
    let bytes = pack(&name, &files).map_err(|error| error.to_string())?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let fault = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(to).map_err(|error| fault(to, error))?;
    fs::write(&path, &bytes).map_err(|error| fault(&path, error))?;
    let sum = to.join(format!("{name}.tar.gz.sha256"));
    fs::write(&sum, format!("{sha256}  {name}.tar.gz\n")).map_err(|error| fault(&sum, error))?;
    Ok(Archived {
        path,
        sha256,
        files: files.len(),
    })
}

fn version(folder: &Path) -> Result<String, String> {
    let text =
        fs::read_to_string(folder.join(VERSION)).map_err(|error| format!("{VERSION}: {error}"))?;
    let version = text.strip_suffix('\n').unwrap_or(&text);
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number =
        |number: &&str| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    if numbers.len() == 3 && numbers.iter().all(is_number) {
        Ok(version.to_owned())
    } else {
        Err(format!("{VERSION}: {version:?} is not of the form 1.2.3"))
    }
}

/// Every file of the archive by its path, with slashes.
fn contents(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in paths(folder)? {
        if path != SUMS {
            files.insert(path.clone(), fs::read(folder.join(&path))?);
        }
    }
    for name in LICENCES {
        // In an unpacked archive they are in the folder itself.
        if !files.contains_key(name) {
            let path = folder.join("..").join(name);
            files.insert(name.to_owned(), fs::read(path)?);
        }
    }
    let sums: String = files
        .iter()
        .map(|(path, bytes)| format!("{}  {path}\n", hex::encode(Sha256::digest(bytes))))
        .collect();
    files.insert(SUMS.to_owned(), sums.into_bytes());
    Ok(files)
}

/// The paths of all files but hidden ones, with slashes.
fn paths(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    let hidden = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let entries = walkdir::WalkDir::new(folder).into_iter();
    for entry in entries.filter_entry(|entry| !hidden(entry)) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let parts = path
                .components()
                .map(|part| part.as_os_str().to_string_lossy());
            paths.insert(parts.collect::<Vec<_>>().join("/"));
        }
    }
    Ok(paths)
}

fn pack(name: &str, files: &BTreeMap<String, Vec<u8>>) -> io::Result<Vec<u8>> {
    let zipped = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(zipped);
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(MODIFIED);
        tar.append_data(&mut header, format!("{name}/{path}"), bytes.as_slice())?;
    }
    let mut zipped = tar.into_inner()?;
    zipped.flush()?;
    zipped.finish()
}

/// Compares each file with its checksum; the number of files, or `None` if there are no checksums.
fn check_sums(folder: &Path) -> Result<Option<usize>, Vec<String>> {
    let text = match fs::read_to_string(folder.join(SUMS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(vec![format!("{SUMS}: {error}")]),
    };
    let mut faults = Vec::new();
    let mut listed = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        match line.split_once("  ") {
            Some((sum, path)) => {
                listed.insert(path.to_owned(), sum.to_owned());
            }
            None => faults.push(format!(
                "{SUMS}: line {} is not a checksum and a path",
                at + 1
            )),
        }
    }
    let mut there = paths(folder).map_err(|error| vec![error.to_string()])?;
    there.remove(SUMS);
    for (path, sum) in &listed {
        if !there.contains(path) {
            faults.push(format!("{path}: is missing"));
            continue;
        }
        match fs::read(folder.join(path)) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == *sum => {}
            Ok(_) => faults.push(format!("{path}: its checksum is not the one in {SUMS}")),
            Err(error) => faults.push(format!("{path}: {error}")),
        }
    }
    let extra = there.iter().filter(|path| !listed.contains_key(*path));
    faults.extend(extra.map(|path| format!("{path}: is not in {SUMS}")));
    if faults.is_empty() {
        Ok(Some(listed.len()))
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::default_folder;

    /// A folder of vectors with one small file, as in the repository: the licences are beside it.
    fn small() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let (from, to) = (default_folder(), root.path().join("vectors"));
        for path in [
            "VERSION",
            "SPECIFICATION.md",
            "schema/vectors.schema.json",
            "schema/adapter.schema.json",
            "message/cancel.json",
        ] {
            fs::create_dir_all(to.join(path).parent().expect("a parent")).expect("made");
            fs::copy(from.join(path), to.join(path)).expect(path);
        }
        for name in LICENCES {
            fs::write(root.path().join(name), name).expect("written");
        }
        (root, to)
    }

    fn unpack(archived: &Archived, to: &Path) -> PathBuf {
        let file = fs::File::open(&archived.path).expect("the archive");
        tar::Archive::new(flate2::read::GzDecoder::new(file))
            .unpack(to)
            .expect("unpacks");
        let name = archived.path.file_name().expect("a name").to_string_lossy();
        to.join(name.strip_suffix(".tar.gz").expect("its ending"))
    }

    #[test]
    fn a_version_is_three_numbers() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |text: &str| {
            fs::write(folder.path().join(VERSION), text).expect("written");
            version(folder.path())
        };
        assert_eq!(read("1.20.3\n"), Ok("1.20.3".to_owned()));
        assert_eq!(read("0.0.0"), Ok("0.0.0".to_owned()));
        for text in ["", "1.2", "1.2.3.4", "1..3", "1.2.x", "a.b.c", "1.2.3\n\n"] {
            let fault = read(text).expect_err(text);
            assert!(fault.ends_with(" is not of the form 1.2.3"), "{fault}");
        }
        fs::remove_file(folder.path().join(VERSION)).expect("removed");
        assert!(version(folder.path()).is_err_and(|fault| fault.starts_with("VERSION: ")));
    }

    #[test]
    fn what_was_packed_is_whole_and_can_be_packed_again() {
        let (root, folder) = small();
        let verified = verify(&folder).expect("it is whole");
        assert_eq!((verified.checked.files, verified.sums), (1, None));
        assert_eq!(Ok(&verified.version), version(&folder).as_ref());

        // Hidden files and old checksums are left out.
        fs::create_dir(folder.join(".git")).expect("made");
        fs::write(folder.join(".git/HEAD"), "").expect("written");
        fs::write(folder.join(".DS_Store"), "").expect("written");
        fs::write(folder.join(SUMS), "old").expect("written");
        let archived = archive(&folder, &root.path().join("out")).expect("an archive");
        assert_eq!(archived.files, 8, "five, two licences and the checksums");
        let name = format!("hypercore-vectors-{}.tar.gz", verified.version);
        assert_eq!(archived.path, root.path().join("out").join(&name));
        let bytes = fs::read(&archived.path).expect("the archive");
        assert_eq!(archived.sha256, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(
            fs::read_to_string(root.path().join("out").join(name.clone() + ".sha256"))
                .expect("its checksum"),
            format!("{}  {name}\n", archived.sha256)
        );

        let unpacked = unpack(&archived, root.path());
        assert_eq!(
            paths(&unpacked)
                .expect("paths")
                .into_iter()
                .collect::<Vec<_>>(),
            [
                "LICENSE-APACHE",
                "LICENSE-MIT",
                SUMS,
                "SPECIFICATION.md",
                VERSION,
                "message/cancel.json",
                "schema/adapter.schema.json",
                "schema/vectors.schema.json",
            ]
        );
        assert_eq!(
            fs::read(unpacked.join("LICENSE-MIT")).expect("a licence"),
            b"LICENSE-MIT"
        );
        assert_eq!(verify(&unpacked).expect("it is whole").sums, Some(7));
        // The licences come from the folder, since there are none beside it.
        for name in LICENCES {
            fs::remove_file(root.path().join(name)).expect("removed");
        }
        let again = archive(&unpacked, &root.path().join("again")).expect("an archive");
        assert_eq!(again.sha256, archived.sha256);
        assert!(
            archive(&folder, &root.path().join("none")).is_err(),
            "no licence"
        );
    }

    #[test]
    fn what_is_not_whole_is_told_file_by_file() {
        let (root, folder) = small();
        fs::write(folder.join(VERSION), "one\n").expect("written");
        let faults = verify(&folder).expect_err("no version");
        assert_eq!(faults, ["VERSION: \"one\" is not of the form 1.2.3"]);
        assert!(archive(&folder, root.path()).is_err_and(|fault| fault == faults[0]));

        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let sum = |text: &str| hex::encode(Sha256::digest(text));
        write("a", "a");
        write("b", "b");
        assert_eq!(check_sums(folder.path()), Ok(None));
        write(SUMS, &format!("{}  a\n{}  b\n", sum("a"), sum("b")));
        assert_eq!(check_sums(folder.path()), Ok(Some(2)));
        write(
            SUMS,
            &format!("{}  a\nnonsense\n{}  c\n", sum("b"), sum("c")),
        );
        let faults = check_sums(folder.path()).expect_err("four faults");
        assert_eq!(
            faults,
            [
                "SHA256SUMS: line 2 is not a checksum and a path",
                "a: its checksum is not the one in SHA256SUMS",
                "c: is missing",
                "b: is not in SHA256SUMS",
            ]
        );
        // An unreadable file differs from an absent one.
        fs::remove_file(folder.path().join(SUMS)).expect("removed");
        fs::create_dir(folder.path().join(SUMS)).expect("made");
        let faults = check_sums(folder.path()).expect_err("a folder");
        assert!(faults[0].starts_with("SHA256SUMS: "), "{faults:?}");
    }
}
