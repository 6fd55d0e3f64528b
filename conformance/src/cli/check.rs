//! `check` and `smoke`: the command of an adapter is given word by word, after `--`.

use clap::Args;

use super::run::{HELLO_TIMEOUT, Options, Target, run_target, timeout};
use super::{End, FolderArguments, Trouble, print};
use crate::adapter::{AdapterCommand, AdapterProcess, Reach};
use crate::report::Rerun;
use crate::run::smoke::smoke as try_adapter;
use crate::term::Paint;

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    adapter: AdapterArguments,
    #[command(flatten)]
    options: Options,
}

#[derive(Args, Debug)]
pub(super) struct SmokeArguments {
    #[command(flatten)]
    adapter: AdapterArguments,
    #[command(flatten)]
    folder: FolderArguments,
    /// How long each answer may take; the answer to hello, before which the program starts, 5 at least
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f32>,
}

#[derive(Args, Debug)]
struct AdapterArguments {
    /// Ask an adapter that runs already, and listens at this address
    #[arg(long, value_name = "ADDR", conflicts_with = "command")]
    attach: Option<String>,
    /// The command that starts the adapter
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl AdapterArguments {
    fn reach(&self) -> Result<(Reach, Rerun), Trouble> {
        match (&self.attach, self.command.as_slice()) {
            (Some(address), _) => Ok((
                Reach::Attach(address.clone()),
                Rerun {
                    target: vec!["--attach".into(), address.clone()],
                    command: Vec::new(),
                },
            )),
            (None, [program, arguments @ ..]) => Ok((
                AdapterCommand::new(program, arguments).into(),
                Rerun {
                    target: Vec::new(),
                    command: self.command.clone(),
                },
            )),
            (None, []) => Err(Trouble::usage(
                "no adapter: give its command after `--`, or --attach ADDR",
            )),
        }
    }
}

/// Runs everything on an adapter.
pub(super) fn check(arguments: &CheckArguments) -> Result<End, Trouble> {
    let (reach, rerun) = match arguments.adapter.reach() {
        // A script for an adapter can be had without one.
        Err(_) if arguments.options.emit_script.is_some() => {
            let command = AdapterCommand::reference().map_err(Trouble::environment)?;
            (command.into(), Rerun::default())
        }
        reach => reach?,
    };
    run_target(Target::Adapter(reach), rerun, &arguments.options)
}

/// Asks an adapter little, and says whether it, or what is behind it, is at fault.
pub(super) fn smoke(arguments: &SmokeArguments) -> Result<End, Trouble> {
    let (reach, rerun) = arguments.adapter.reach()?;
    let files = arguments.folder.load()?;
    let mut adapter = AdapterProcess::new(reach).with_validation(true);
    if let Some(timeout) = timeout(arguments.timeout)? {
        adapter = adapter
            .with_timeout(timeout)
            .with_hello_timeout(timeout.max(HELLO_TIMEOUT));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    let came = runtime.block_on(async {
        let came = try_adapter(&mut adapter, &files).await;
        adapter.kill().await;
        came
    });
    let next = rerun.with("hypercore-conformance", &[]);
    print(&came.text(&next, &Paint::stdout()))?;
    Ok(match came.blame() {
        None => End::Expected,
        Some(_) if came.could_not_start => End::Environment,
        Some(_) => End::Regression,
    })
}
