//! Runs single inputs without a fuzzer: `once TARGET FILE…`.

use std::process::ExitCode;

use hypercore_fuzz_targets::Target;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next().and_then(|name| Target::named(&name)) else {
        eprintln!("usage: once TARGET FILE…");
        return ExitCode::from(2);
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(input) => target.check(&input),
            Err(error) => {
                eprintln!("once: {path}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
