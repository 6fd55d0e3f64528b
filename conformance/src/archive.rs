//! The folder of vectors as people ship it alone: an archive that is the same bytes wherever it is built, and the check
//! that what was unpacked is whole.
//!
//! The archive holds one folder, `hypercore-vectors-<version>`: all files of `vectors/`, the licences, and `SHA256SUMS`, which
//! `sha256sum -c` reads too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::check::{self, Checked};

/// The file with the version of the vectors.
const VERSION: &str = "VERSION";

/// The file with the checksum of every other file; only archives have it.
const SUMS: &str = "SHA256SUMS";

/// Files beside the folder that go along.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// When every file was changed, as far as the archive says: the first moment that zip knows too.
const MODIFIED: u64 = 315_532_800;

/// A folder of vectors that is whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The version of the vectors.
    pub version: String,
    /// What was checked of the vectors themselves.
    pub checked: Checked,
    /// How many files have the checksum that is written down; `None` where no checksums are.
    pub sums: Option<usize>,
}

/// An archive that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Archived {
    /// The archive.
    pub path: PathBuf,
    /// Its checksum, which stands in a file beside it too.
    pub sha256: String,
    /// How many files are in it.
    pub files: usize,
}

/// Checks a folder of vectors: checksums, schema, canonical form, ids, clauses and flags.
///
/// # Errors
/// What does not hold, one line each.
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
    match check::check_vectors(folder) {
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
/// If the folder has no version, or something cannot be read or written.
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
        // In an archive that was unpacked they stand in the folder itself.
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
