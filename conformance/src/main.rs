//! The `hypercore-conformance` command.

fn main() -> std::process::ExitCode {
    hypercore_conformance::cli::main()
}
