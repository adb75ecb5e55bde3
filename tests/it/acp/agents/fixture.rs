//! A small agent: this very program, started in another way, speaking the protocol on its stdin and a pipe that is its
//! stdout as the gateway sees it.
//!
//! What it does is what it is asked: `say WORDS` in pieces, with a thought before and a tool beside them; `… leave` and
//! be gone after that; `crash once` in the middle; `hang` until it is cancelled; `may I` do something; `fail`.

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, CancelNotification, ContentBlock, ContentChunk, Implementation, InitializeRequest,
    InitializeResponse, LoadSessionRequest, LoadSessionResponse, NewSessionRequest, NewSessionResponse,
    PermissionOption, PermissionOptionKind, PromptRequest, PromptResponse, RequestPermissionOutcome,
    RequestPermissionRequest, SessionId, SessionNotification, SessionUpdate, StopReason, TextContent,
    ToolCall, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, Usage,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{Agent, ByteStreams, Client, Error, on_receive_notification, on_receive_request};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

/// How long it may take until a process is gone: two graces of its guard and some.
const GONE_WITHIN: Duration = Duration::from_secs(6);

/// The agent, from the gateway's side.
pub struct Fixture(TempDir);

/// A prompt that it got.
pub struct Told {
    pub pid: i64,
    pub session: String,
    pub text: String,
}

impl Fixture {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A gateway with these settings has an agent that thinks with it.
    pub fn settings(&self) -> Value {
        // The test harness writes to stdout, too.
        let line = "exec 3>&1 >/dev/null; exec \"$0\" --exact acp::agents::fixture::an_agent --ignored";
        let program = std::env::current_exe().unwrap();
        json!({
            "acp": { "agents": { "fix": {
                "command": "sh", "args": ["-c", line, program], "env": { "FIXTURE_DIR": self.0.path() },
            } } },
            "agents": { "defaults": { "model": "acp/fix" } },
        })
    }

    fn lines(&self, of: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join(of)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The prompts it got, in all its processes.
    pub fn told(&self) -> Vec<Told> {
        let told = |line: String| {
            let line: Value = serde_json::from_str(&line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            Told { pid: line["pid"].as_i64().unwrap(), session: text("session"), text: text("text") }
        };
        self.lines("told").into_iter().map(told).collect()
    }

    /// Its processes, from the first on.
    pub fn pids(&self) -> Vec<Pid> {
        self.lines("pids").iter().map(|line| Pid::from_raw(line.parse().unwrap()).unwrap()).collect()
    }

    /// How often it was told to stop answering.
    pub fn cancelled(&self) -> usize {
        self.lines("cancelled").len()
    }

    /// Waits until there is no process of it.
    pub async fn gone(&self) {
        let (start, pids) = (Instant::now(), self.pids());
        assert!(!pids.is_empty());
        while let Some(left) = pids.iter().find(|pid| test_kill_process(**pid).is_ok()) {
            assert!(start.elapsed() < GONE_WITHIN, "{left:?} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn note(dir: &Path, of: &str, line: impl std::fmt::Display) {
    let file = OpenOptions::new().create(true).append(true).open(dir.join(of));
    writeln!(file.unwrap(), "{line}").unwrap();
}

/// No test: the agent itself, see the module.
#[tokio::test]
#[ignore = "started by other tests, as a process of its own"]
async fn an_agent() {
    let Some(dir) = std::env::var_os("FIXTURE_DIR").map(PathBuf::from) else { return };
    note(&dir, "pids", std::process::id());
    let out = tokio::fs::OpenOptions::new().write(true).open("/dev/fd/3").await.unwrap();
    let stop = Arc::new(Notify::new());
    let act = Arc::new(Act { dir: dir.clone(), stop: stop.clone() });
    let capabilities = AgentCapabilities::new().load_session(true);
    let _ = Agent
        .v1()
        .on_receive_request(
            async move |_: InitializeRequest, responder: Responder<_>, _| {
                let hello =
                    InitializeResponse::new(ProtocolVersion::V1).agent_capabilities(capabilities.clone());
                responder.respond(hello.agent_info(Implementation::new("Fixture", "9")))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async |_: NewSessionRequest, responder: Responder<_>, _| {
                if std::env::var_os("FIXTURE_STRANGER").is_some() {
                    let mut error = Error::auth_required();
                    error.message = "Who are you?".into();
                    return responder.respond_with_error(error);
                }
                responder.respond(NewSessionResponse::new(SessionId::new(uuid::Uuid::new_v4().to_string())))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async |_: LoadSessionRequest, responder: Responder<_>, _| {
                responder.respond(LoadSessionResponse::new())
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder, client: ConnectionTo<Client>| {
                let (act, to) = (act.clone(), client.clone());
                client.spawn(async move { act.answer(request, responder, to).await })
            },
            on_receive_request!(),
        )
        .on_receive_notification(
            async move |_: CancelNotification, _| {
                note(&dir, "cancelled", "");
                stop.notify_one();
                Ok(())
            },
            on_receive_notification!(),
        )
        .connect_to(ByteStreams::new(out.compat_write(), tokio::io::stdin().compat()))
        .await;
}

struct Act {
    dir: PathBuf,
    stop: Arc<Notify>,
}

impl Act {
    async fn answer(
        &self,
        request: PromptRequest,
        responder: Responder<PromptResponse>,
        client: ConnectionTo<Client>,
    ) -> Result<(), Error> {
        let [ContentBlock::Text(TextContent { text, .. })] = &request.prompt[..] else {
            return responder.respond_with_error(Error::invalid_params());
        };
        let id = request.session_id;
        let told = json!({ "pid": std::process::id(), "session": id, "text": text });
        note(&self.dir, "told", told);
        let tell = |update| client.send_notification(SessionNotification::new(id.clone(), update));
        let words = |text: &str| ContentChunk::new(ContentBlock::Text(TextContent::new(text)));
        let asked = text.lines().last().unwrap_or_default();
        let mut stop = StopReason::EndTurn;
        match asked.split_once(' ').unwrap_or((asked, "")) {
            ("say", said) => {
                tell(SessionUpdate::AgentThoughtChunk(words("hm")))?;
                tell(SessionUpdate::ToolCall(ToolCall::new("t1", "Look around")))?;
                let done = ToolCallUpdateFields::new().status(ToolCallStatus::Completed);
                tell(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new("t1", done)))?;
                for piece in said.split_inclusive(' ') {
                    tell(SessionUpdate::AgentMessageChunk(words(piece)))?;
                }
            }
            ("crash", _) if !self.dir.join("crashed").exists() => {
                note(&self.dir, "crashed", "");
                tell(SessionUpdate::AgentMessageChunk(words("it will")))?;
                leave(3);
                std::future::pending().await
            }
            ("crash", _) => tell(SessionUpdate::AgentMessageChunk(words(asked)))?,
            ("hang", _) => {
                tell(SessionUpdate::AgentMessageChunk(words("just a moment")))?;
                self.stop.notified().await;
                stop = StopReason::Cancelled;
            }
            ("may", _) => tell(SessionUpdate::AgentMessageChunk(words(permitted(&client, &id).await?)))?,
            _ => return responder.respond_with_error(Error::internal_error()),
        }
        let answer = PromptResponse::new(stop).usage(Usage::new(77, 70, 7));
        responder.respond(answer)?;
        if asked.ends_with("leave") {
            leave(0);
        }
        Ok(())
    }
}

/// Ends the process when what was written is on its way.
fn leave(code: i32) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        std::process::exit(code);
    });
}

async fn permitted(client: &ConnectionTo<Client>, id: &SessionId) -> Result<&'static str, Error> {
    let options = [("yes", PermissionOptionKind::AllowOnce), ("no", PermissionOptionKind::RejectOnce)];
    let options = options.map(|(name, kind)| PermissionOption::new(name, name, kind));
    let call = ToolCallUpdate::new("t1", ToolCallUpdateFields::new().title("Do it".to_owned()));
    let asked = RequestPermissionRequest::new(id.clone(), call, options.to_vec());
    let decided = client.send_request(asked).block_task().await?;
    Ok(match decided.outcome {
        RequestPermissionOutcome::Selected(selected) if &*selected.option_id.0 == "no" => "no, thank you",
        _ => "with pleasure",
    })
}
