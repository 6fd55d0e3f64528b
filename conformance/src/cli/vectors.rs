//! `vectors verify` and `vectors archive`, for people who ship the vectors alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{End, FolderArguments, Trouble, say, tell_faults};
use crate::vectors::archive;

#[derive(Debug, Subcommand)]
pub(super) enum VectorsCommand {
    /// Check a folder of vectors: checksums, schema, canonical form, ids, clauses and flags
    Verify(FolderArguments),
    /// Write an archive of the vectors, the same bytes wherever it is built, and its checksum
    Archive(ArchiveArguments),
}

#[derive(Args, Debug)]
pub(super) struct ArchiveArguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

pub(super) fn run(command: &VectorsCommand) -> Result<End, Trouble> {
    match command {
        VectorsCommand::Verify(folder) => verify(folder),
        VectorsCommand::Archive(arguments) => {
            let written = archive::archive(&arguments.folder.path(), &arguments.out)
                .map_err(Trouble::environment)?;
            say(written.path.display())?;
            say(format!(
                "{} files, SHA-256 {}",
                written.files, written.sha256
            ))?;
            Ok(End::Expected)
        }
    }
}

fn verify(folder: &FolderArguments) -> Result<End, Trouble> {
    let path = folder.path();
    if !path.is_dir() {
        return Err(Trouble::environment(format!(
            "there is no folder {}",
            path.display()
        )));
    }
    match archive::verify(&path) {
        Ok(verified) => {
            say(format!(
                "Vectors {}: {} cases in {} files are in order.",
                verified.version, verified.checked.cases, verified.checked.files
            ))?;
            say(match verified.sums {
                Some(count) => format!("{count} files have their checksums."),
                None => "There is no SHA256SUMS here, so no bytes were compared; archives have it."
                    .into(),
            })?;
            Ok(End::Expected)
        }
        Err(faults) => Ok(tell_faults(&faults)),
    }
}
