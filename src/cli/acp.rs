//! `crabtree acp`: the gateway's agent for editors, which speak the Agent Client Protocol over stdin and stdout.
//!
//! What the editor calls a session is a conversation of the gateway. Everything waits in one place, [`Bridge::run`], for
//! what comes from either side. When the gateway goes away, the prompts under way fail and the bridge waits for it to
//! come back: the conversations are the gateway's, so nothing of them is lost.

mod editor;
mod prompt;
mod turn;

use std::{collections::HashMap, path::PathBuf, process::ExitCode, time::Duration};

use agent_client_protocol::{
    Client as Editor, Error,
    v1::{
        ConnectionTo, Responder,
        schema::{
            LoadSessionRequest, LoadSessionResponse, NewSessionRequest, NewSessionResponse, PromptRequest,
            PromptResponse, SessionId, SessionNotification, SessionUpdate,
        },
    },
};
use crabtree_protocol::Scope;
use editor::Ask;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep},
};
use turn::Turn;
use uuid::Uuid;

use super::{
    Failure, Global,
    client::{Client, Incoming, Target},
};

const SCOPES: [Scope; 2] = [Scope::Read, Scope::Write];
/// What is heard of a run's tools.
const CAPS: [&str; 1] = ["tool-events"];
/// How long a gateway that went away is waited for: a restart, an upgrade.
const AWAY: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Messages of a conversation that an editor is shown again.
const REPLAYED: u32 = 200;

pub(super) async fn run(global: &Global, session: Option<String>) -> Result<ExitCode, Failure> {
    let ended = serve(global, session).await;
    // Standard output is the editor's, whatever the command line says of errors.
    Ok(ended.map_or_else(|failure| failure.report(false), |()| ExitCode::SUCCESS))
}

async fn serve(global: &Global, fixed: Option<String>) -> Result<(), Failure> {
    let target = global.target()?;
    let gateway = Client::connect(&target, &SCOPES, &CAPS).await?;
    let served = editor::serve(async move |editor, asks| {
        let bridge =
            Bridge { target, gateway, editor, fixed, threads: HashMap::new(), asked: HashMap::new() };
        bridge.run(asks).await
    });
    served.await.unwrap_or_else(|error| Err(Failure::failed(format!("the editor was lost: {error}"))))
}

struct Bridge {
    target: Target,
    gateway: Client,
    editor: ConnectionTo<Editor>,
    /// The one conversation, if the user named it.
    fixed: Option<String>,
    threads: HashMap<SessionId, Thread>,
    /// Requests that the gateway has not answered, by their ids.
    asked: HashMap<String, Asked>,
}

/// A session, as the editor knows it.
struct Thread {
    /// Of the conversation.
    key: String,
    /// Where the editor works.
    cwd: PathBuf,
    turn: Option<Turn>,
}

enum Asked {
    /// To take a prompt.
    Prompt(SessionId),
    /// To stop answering it.
    Abort,
    /// What was said in a conversation.
    History(SessionId, Box<Responder<LoadSessionResponse>>),
}

impl Bridge {
    /// Until the editor has gone, or the gateway for good.
    async fn run(mut self, mut asks: Receiver<Ask>) -> Result<(), Failure> {
        let editor = self.editor.clone();
        loop {
            let done = tokio::select! {
                () = editor.incoming_closed() => return Ok(()),
                ask = asks.recv() => match ask {
                    Some(ask) => self.carry_out(ask).await,
                    None => return Ok(()),
                },
                incoming = self.gateway.next() => match incoming {
                    Ok(Incoming::Response { id, result }) => self.answered(&id, result).await,
                    Ok(Incoming::Event { name, payload }) => {
                        self.heard(&name, &payload);
                        Ok(())
                    }
                    Err(failure) => Err(failure),
                },
            };
            if let Err(failure) = done {
                tokio::select! {
                    () = editor.incoming_closed() => return Ok(()),
                    back = self.reconnect(failure) => back?,
                }
            }
        }
    }

    async fn carry_out(&mut self, ask: Ask) -> Result<(), Failure> {
        match ask {
            Ask::New(request, responder) => self.open(request, responder),
            Ask::Load(request, responder) => return self.load(request, responder).await,
            Ask::Prompt(request, responder) => return self.prompt(request, responder).await,
            Ask::Cancel(id) => return self.cancel(&id).await,
        }
        Ok(())
    }

    fn open(&mut self, request: NewSessionRequest, responder: Responder<NewSessionResponse>) {
        let id = SessionId::new(Uuid::new_v4().to_string());
        self.remember(id.clone(), request.cwd, request.mcp_servers.len());
        tell(responder.respond(NewSessionResponse::new(id)));
    }

    fn remember(&mut self, id: SessionId, cwd: PathBuf, servers: usize) {
        if servers > 0 {
            eprintln!(
                "crabtree: the editor's {servers} MCP server(s) are left alone: the agent has those that the gateway \
                 is configured with"
            );
        }
        let key = self.fixed.clone().unwrap_or_else(|| format!("acp-bridge:{id}"));
        self.threads.insert(id, Thread { key, cwd, turn: None });
    }

    async fn load(
        &mut self,
        request: LoadSessionRequest,
        responder: Responder<LoadSessionResponse>,
    ) -> Result<(), Failure> {
        let id = request.session_id;
        if self.threads.get(&id).is_some_and(|thread| thread.turn.is_some()) {
            tell(responder.respond_with_error(refused("a prompt of this session is under way")));
            return Ok(());
        }
        self.remember(id.clone(), request.cwd, request.mcp_servers.len());
        let params = json!({"sessionKey": self.threads[&id].key, "limit": REPLAYED});
        self.ask("chat.history", params, Asked::History(id, Box::new(responder))).await
    }

    async fn prompt(
        &mut self,
        request: PromptRequest,
        responder: Responder<PromptResponse>,
    ) -> Result<(), Failure> {
        let id = request.session_id;
        let Some(thread) = self.threads.get_mut(&id) else {
            let unknown = agent_client_protocol::v1::schema::Error::session_not_found(id);
            tell(responder.respond_with_error(unknown.into()));
            return Ok(());
        };
        let said = if thread.turn.is_some() {
            Err("the prompt before this one is still being answered".to_owned())
        } else {
            prompt::text(&request.prompt, &thread.cwd)
        };
        let message = match said {
            Ok(message) => message,
            Err(why) => {
                tell(responder.respond_with_error(refused(&why)));
                return Ok(());
            }
        };
        let run = Uuid::new_v4().to_string();
        let params = json!({"sessionKey": thread.key, "message": message, "idempotencyKey": run});
        thread.turn = Some(Turn::new(run, responder));
        self.ask("chat.send", params, Asked::Prompt(id)).await
    }

    async fn cancel(&mut self, id: &SessionId) -> Result<(), Failure> {
        let Some(thread) = self.threads.get_mut(id) else { return Ok(()) };
        let Some(turn) = &mut thread.turn else { return Ok(()) };
        turn.cancelled = true;
        let params = json!({"sessionKey": thread.key, "runId": turn.run});
        self.ask("chat.abort", params, Asked::Abort).await
    }

    async fn ask(&mut self, method: &str, params: Value, asked: Asked) -> Result<(), Failure> {
        // Noted even if it is not sent: the gateway is lost then, and who asked is told.
        let sent = self.gateway.send(method, params).await;
        self.asked.insert(sent.as_ref().map_or_else(|_| String::new(), String::clone), asked);
        sent.map(drop)
    }

    async fn answered(&mut self, request: &str, result: Result<Value, Failure>) -> Result<(), Failure> {
        match self.asked.remove(request) {
            Some(Asked::Prompt(id)) => match result {
                // What was cancelled before it was taken, perhaps.
                Ok(taken) if taken["runId"].is_string() => {
                    if self.threads.get(&id).and_then(|t| t.turn.as_ref()).is_some_and(|turn| turn.cancelled)
                    {
                        return self.cancel(&id).await;
                    }
                }
                // A command that the gateway has carried out at once, such as /stop.
                Ok(_) => self.end(&id, |turn| turn.done()),
                Err(failure) => self.end(&id, |turn| turn.failed(&failure.told())),
            },
            Some(Asked::History(id, responder)) => match result {
                Ok(history) => self.replay(&id, &history, *responder),
                Err(failure) => tell(responder.respond_with_error(internal(&failure.told()))),
            },
            Some(Asked::Abort) | None => {}
        }
        Ok(())
    }

    fn end(&mut self, id: &SessionId, how: impl FnOnce(Turn)) {
        if let Some(turn) = self.threads.get_mut(id).and_then(|thread| thread.turn.take()) {
            how(turn);
        }
    }

    fn replay(&self, id: &SessionId, history: &Value, responder: Responder<LoadSessionResponse>) {
        for message in history["messages"].as_array().into_iter().flatten() {
            self.update(id, prompt::replayed(message));
        }
        tell(responder.respond(LoadSessionResponse::new()));
    }

    fn update(&self, id: &SessionId, updates: impl IntoIterator<Item = SessionUpdate>) {
        for update in updates {
            tell(self.editor.send_notification(SessionNotification::new(id.clone(), update)));
        }
    }

    fn heard(&mut self, name: &str, payload: &Value) {
        let Some(run) = payload["runId"].as_str() else { return };
        let mine = |thread: &Thread| thread.turn.as_ref().is_some_and(|turn| turn.run == run);
        let Some((id, thread)) = self.threads.iter_mut().find(|(_, thread)| mine(thread)) else { return };
        let (id, Some(turn)) = (id.clone(), &mut thread.turn) else { return };
        let updates = turn.updates(name, payload);
        self.update(&id, updates);
        if name == "chat" && matches!(payload["state"].as_str(), Some("final" | "aborted" | "error")) {
            self.end(&id, |turn| turn.ended(payload));
        }
    }

    /// The gateway is gone: who waits for it is told, and it is waited for.
    async fn reconnect(&mut self, lost: Failure) -> Result<(), Failure> {
        let told = format!("the connection was lost while this was answered: {}", lost.told());
        for thread in self.threads.values_mut() {
            if let Some(turn) = thread.turn.take() {
                turn.failed(&told);
            }
        }
        for (_, asked) in self.asked.drain() {
            if let Asked::History(_, responder) = asked {
                tell(responder.respond_with_error(internal(&told)));
            }
        }
        eprintln!("crabtree: {}; it is tried again for {} s", lost.told(), AWAY.as_secs());
        let deadline = Instant::now() + AWAY;
        loop {
            match Client::connect(&self.target, &SCOPES, &CAPS).await {
                Ok(gateway) => {
                    self.gateway = gateway;
                    return Ok(());
                }
                Err(failure) if !failure.is_unreachable() || Instant::now() > deadline => {
                    return Err(failure);
                }
                Err(_) => sleep(ATTEMPT).await,
            }
        }
    }
}

/// Sends to the editor. That it has gone is seen elsewhere.
fn tell(sent: Result<(), Error>) {
    drop(sent);
}

/// What cannot be done as it was asked.
fn refused(why: &str) -> Error {
    let mut error = Error::invalid_params();
    why.clone_into(&mut error.message);
    error
}

/// What did not work.
fn internal(why: &str) -> Error {
    let mut error = Error::internal_error();
    why.clone_into(&mut error.message);
    error
}
