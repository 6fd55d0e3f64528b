//! The command line.

use std::io::{stdin, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::adapter::serve;
use crate::reference::Reference;

/// Checks an implementation of the hypercore wire protocol against recorded vectors and live Node peers.
#[derive(Debug, Parser)]
#[command(name = "hypercore-conformance", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the reference implementation as an adapter, on stdin and stdout.
    #[command(hide = true)]
    Adapter,
}

/// Reads the arguments, does what they ask for and says how it went.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Some(Command::Adapter) => {
            match serve(&mut Reference::new(), stdin().lock(), stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("hypercore-conformance adapter: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        None => ExitCode::SUCCESS,
    }
}
