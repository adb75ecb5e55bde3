//! `crabtree agent`: one turn with an agent, printed as it streams.

use std::{process::ExitCode, time::Duration};

use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::{signal::ctrl_c, time::timeout};
use uuid::Uuid;

use super::{
    AgentArgs, Failure, Global,
    client::{Client, Incoming},
    print_json, print_line, print_text, printable,
    shown::Shown,
};

/// What a shell expects of a command that was interrupted.
const INTERRUPTED: u8 = 130;
/// How long the gateway may take beyond the run itself.
const GRACE: Duration = Duration::from_secs(30);
/// How long to wait for the end of a run that was aborted.
const ABORT: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, arguments: AgentArgs) -> Result<ExitCode, Failure> {
    let limit = Duration::from_millis(global.timeout_ms.unwrap_or(600_000));
    let mut client = global.connect(&[Scope::Read, Scope::Write]).await?;
    let session = session_key(&arguments, &client.hello);
    let run = Uuid::new_v4().to_string();
    let mut params = json!({
        "message": arguments.message,
        "sessionKey": session,
        "deliver": false,
        "timeout": limit.as_secs().max(1),
        "idempotencyKey": run,
    });
    if let Some(agent) = &arguments.agent {
        params["agentId"] = agent.as_str().into();
    }
    let id = client.send("agent", params).await?;
    let mut turn = Turn { id, run, shown: (!global.json).then(Shown::default) };
    tokio::select! {
        result = timeout(limit + GRACE, turn.follow(&mut client)) => {
            let result = result.unwrap_or_else(|_| Err(Failure::timeout("agent", limit.as_millis())))?;
            turn.finish(&result)
        }
        _ = ctrl_c() => turn.abort(&mut client, &session).await,
    }
}

/// The conversation: the one named, or the main session of the agent.
fn session_key(arguments: &AgentArgs, hello: &Value) -> String {
    let defaults = &hello["snapshot"]["sessionDefaults"];
    match (&arguments.session_key, &arguments.agent) {
        (Some(key), _) => key.clone(),
        (None, Some(agent)) => format!("agent:{agent}:{}", defaults["mainKey"].as_str().unwrap_or("main")),
        (None, None) => defaults["mainSessionKey"].as_str().unwrap_or("agent:main:main").to_owned(),
    }
}

struct Turn {
    /// Of the request.
    id: String,
    run: String,
    /// Absent when the final response is all that is wanted.
    shown: Option<Shown>,
}

impl Turn {
    /// Prints what streams, until the final response.
    async fn follow(&mut self, client: &mut Client) -> Result<Value, Failure> {
        loop {
            match client.next().await? {
                Incoming::Response { id, result } if id == self.id => match result {
                    Ok(payload) if payload["status"] == "accepted" => {}
                    result => return result.inspect_err(|_| self.end_line()),
                },
                Incoming::Event { name, payload }
                    if name == "chat" && payload["runId"] == self.run.as_str() =>
                {
                    self.show(&payload);
                }
                _ => {}
            }
        }
    }

    fn show(&mut self, event: &Value) {
        let Some(shown) = &mut self.shown else { return };
        print_text(&printable(&shown.hear(event)));
    }

    fn end_line(&mut self) {
        if self.shown.as_ref().is_some_and(|shown| !shown.is_empty()) {
            print_line("");
        }
    }

    fn finish(&mut self, result: &Value) -> Result<ExitCode, Failure> {
        let status = result["status"].as_str().unwrap_or_default();
        match &mut self.shown {
            Some(shown) => print_line(&printable(&shown.advance(&final_text(result)))),
            None => print_json(result),
        }
        match status {
            "ok" => Ok(ExitCode::SUCCESS),
            _ if self.shown.is_none() => Ok(ExitCode::FAILURE),
            "in_flight" => Err(Failure::failed("the same run is under way already")),
            _ => {
                let summary = result["summary"].as_str().unwrap_or(status);
                Err(Failure::failed(format!("the run ended early: {summary}")).or_next("see `crabtree logs`"))
            }
        }
    }

    async fn abort(&mut self, client: &mut Client, session: &str) -> Result<ExitCode, Failure> {
        client.send("chat.abort", json!({"sessionKey": session, "runId": self.run})).await?;
        let ended = tokio::select! {
            ended = timeout(ABORT, self.follow(client)) => ended,
            _ = ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        self.end_line();
        match (ended, &self.shown) {
            (Ok(Ok(result)), None) => print_json(&result),
            (Ok(_), _) => eprintln!("crabtree: aborted"),
            (Err(_), _) => eprintln!("crabtree: abort requested; the run has not ended yet"),
        }
        Ok(ExitCode::from(INTERRUPTED))
    }
}

fn final_text(result: &Value) -> String {
    let payloads = result["result"]["payloads"].as_array().into_iter().flatten();
    payloads.filter_map(|payload| payload["text"].as_str()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_the_one_named_or_the_main_one() {
        let key = |session: Option<&str>, agent: Option<&str>| {
            let arguments = AgentArgs {
                message: String::new(),
                session_key: session.map(Into::into),
                agent: agent.map(Into::into),
            };
            let defaults = json!({"mainKey": "home", "mainSessionKey": "agent:ops:home"});
            session_key(&arguments, &json!({"snapshot": {"sessionDefaults": defaults}}))
        };
        assert_eq!(key(Some("k"), Some("a")), "k");
        assert_eq!(key(None, Some("a")), "agent:a:home");
        assert_eq!(key(None, None), "agent:ops:home");
    }

    #[test]
    fn texts_are_found() {
        assert_eq!(
            final_text(&json!({"result": {"payloads": [{"text": "a"}, {"mediaUrl": 1}, {"text": "b"}]}})),
            "a\n\nb"
        );
    }
}
