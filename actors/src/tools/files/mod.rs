//! Tools over the files of an agent's workspace, and over what the agent remembers in them. All of them reach files
//! through `Workspace`, which cannot be left, and work on threads that may wait for the disk.

mod change;
mod find;
mod grep;
mod memory;
mod read;
mod walk;
pub(crate) mod workspace;

use super::{Call, Definition, Effects, Permission, Place, Sandbox, Tool, ToolResult};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use workspace::Workspace;

/// Calls that work at the same time, of all agents together; others wait, and their time runs.
const AT_ONCE: usize = 4;
/// How long a call may take: a walk through many files is ended then.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Text in one result, bytes. Below what the registry cuts, so that the notes at the end stay.
const MAX_TEXT: usize = 50 * 1024;
/// What is said of a workspace that does not exist yet.
const NOTHING_YET: &str = "The workspace is still empty: `write` makes its first file.";

/// `read`, `write`, `edit`, `ls`, `grep`, `find`, `memory_search`, `memory_get`.
pub fn tools() -> Vec<Arc<dyn Tool>> {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    let all: [(Definition, Work); 8] = [
        (read::definition(), read::read),
        (change::write_definition(), change::write),
        (change::edit_definition(), change::edit),
        (find::ls_definition(), find::ls),
        (find::definition(), find::find),
        (grep::definition(), grep::grep),
        (memory::search_definition(), memory::search),
        (memory::get_definition(), memory::get),
    ];
    let tool = |(definition, work)| Arc::new(FileTool { definition, work, seats: seats.clone() }) as _;
    all.into_iter().map(tool).collect()
}

/// What a tool does, on a thread that may wait; the error is what the model is told.
type Work = fn(&Job) -> Outcome;
type Outcome = Result<ToolResult, String>;

struct FileTool {
    definition: Definition,
    work: Work,
    seats: Arc<Semaphore>,
}

impl Tool for FileTool {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        let (work, seats) = (self.work, self.seats.clone());
        Box::pin(async move {
            let job = Job { args: call.args, place: call.place, cut: CancellationToken::new() };
            let _cut_when_dropped = job.cut.clone().drop_guard();
            let seat = seats.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                // The seat is taken until the work ends, also when nobody waits for it any more.
                let _seat = seat;
                work(&job)
            });
            let fault = |_| Err("The tool failed through a fault of the gateway.".into());
            done.await.unwrap_or_else(fault).unwrap_or_else(ToolResult::error)
        })
    }
}

/// One call at work.
struct Job {
    args: Value,
    place: Arc<Place>,
    /// Nobody waits for the result any more.
    cut: CancellationToken,
}

impl Job {
    fn args<A: DeserializeOwned>(&self) -> Result<A, String> {
        A::deserialize(&self.args).map_err(|e| format!("Invalid arguments: {e}"))
    }

    /// The workspace, if it exists.
    fn workspace(&self) -> Result<Option<Workspace>, String> {
        Workspace::open(&self.place.workspace)
    }

    /// The workspace, to read something that must be in it.
    fn existing_workspace(&self) -> Result<Workspace, String> {
        self.workspace()?.ok_or_else(|| NOTHING_YET.into())
    }
}

/// A reader that fails as soon as nobody waits for what is read.
struct Watched<'a, R>(R, &'a CancellationToken);

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.is_cancelled() {
            return Err(io::Error::other("the call was ended"));
        }
        self.0.read(buffer)
    }
}

/// A tool of the group `fs` that only reads, unless it is said otherwise.
fn define(name: &str, label: &str, description: &str, properties: Value, required: &[&str]) -> Definition {
    Definition {
        name: name.into(),
        label: label.into(),
        description: description.into(),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
        group: "fs".into(),
        permissions: vec![Permission::FsRead],
        timeout: TIMEOUT,
        sandbox: Sandbox::Workspace,
        effects: Effects::None,
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
