//! A peer in a separate process, of Node or of ours, controlled by lines of JSON.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Failure;

/// The time-out of an operation.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time-out of the start of a process, on a busy machine.
const START: Duration = Duration::from_secs(240);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    waiting: Waiting,
    last: u64,
}

impl Peer {
    /// Starts a process, and waits until its cores are open.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[String],
    ) -> Result<(Self, Value), Failure> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        let (sender, opened) = oneshot::channel();
        answers.lock().expect("sound").insert(0, sender);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let id = answer["id"].as_u64().unwrap_or_default();
                let waiter = answers.lock().expect("sound").remove(&id);
                if let Some(waiter) = waiter {
                    // The waiter may be gone.
                    let _ = waiter.send(answer);
                }
            }
            // Remaining waiters learn of the end.
            answers.lock().expect("sound").clear();
        });
        let opened = timeout(START, opened).await;
        let opened =
            opened.map_err(|_| format!("{} did not start in {START:?}", program.display()))??;
        let peer = Self {
            child,
            stdin,
            waiting,
            last: 0,
        };
        Ok((peer, opened["ok"].clone()))
    }

    /// Requests an operation. The answer comes through the future, which may be dropped.
    pub(crate) async fn ask(
        &mut self,
        op: &str,
        core: &str,
        input: Value,
    ) -> Result<impl Future<Output = Result<Value, Failure>> + use<>, Failure> {
        self.last += 1;
        let id = self.last;
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().expect("sound").insert(id, sender);
        let line = json!({ "id": id, "op": op, "core": core, "input": input });
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        let what = format!("{op} of core {core}");
        Ok(async move {
            let answer = timeout(PATIENCE, answer).await;
            let mut answer = answer.map_err(|_| format!("{what}: no answer"))??;
            match answer["error"].as_str() {
                Some(error) => Err(format!("{what}: {error}").into()),
                None => Ok(answer["ok"].take()),
            }
        })
    }

    /// Sends the process a signal, by its name for `kill`.
    pub(crate) async fn signal(&self, name: &str) -> Result<(), Failure> {
        let id = self.child.id().ok_or("the process is gone")?;
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id.to_string()])
            .status();
        if status.await?.success() {
            Ok(())
        } else {
            Err("kill failed".into())
        }
    }

    /// Kills the process, like a loss of power that keeps the system's caches.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        Ok(())
    }

    /// How the process exited, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}
