//! Commands for nodes: who may give them, what of them reaches the node, and what comes back.

use super::actions::can_wait;
use super::gate::{self, Wish};
use super::invoke::{Answer, Call, DEFAULT_BUDGET, Heard, MAX_BUDGET, MAX_OPEN, NodeError};
use super::{Nodes, NodesMsg, push};
use crate::conns::Conn;
use crate::responder::Responder;
use crate::store::{self, StoreError, WriteOp};
use crate::tree::*;
use crabtree_protocol::params::nodes::{Invoked, ResultParams, Taken};
use crabtree_protocol::{Event as Name, Refusal};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bytes of a command's parameters; a node's outbox holds several such.
const MAX_PARAMS: usize = 4 << 20;
/// Runs whose end nodes may tell of; the oldest is forgotten first.
const MAX_RUNS: usize = 1_000;
/// How commands begin that change what may run at a node.
const EXEC_APPROVALS: &str = "system.execApprovals.";
/// How commands begin whose failures are told in the node's own words, as recorded.
const PLAIN: [&str; 5] = ["camera.", "canvas.", "computer.", "location.", "ollama."];

/// A command for a node.
pub struct Invocation {
    /// The node.
    pub node_id: String,
    /// The command.
    pub command: String,
    /// With what.
    pub params: Option<Value>,
    /// How long it may take.
    pub budget: Option<Duration>,
    /// Handed on to the node.
    pub idempotency_key: Option<String>,
    /// The client that gives it; the gateway itself by default.
    pub caller: Option<Arc<Conn>>,
    /// Cancelled when nobody waits for it any more.
    pub gone: Option<CancellationToken>,
    /// Who waits.
    pub reply: Reply<Result<Invoked, Refusal>>,
}

/// Who waits for a call.
pub struct Asker {
    number: u64,
    reply: Reply<Result<Invoked, Refusal>>,
    /// Whether it is a client.
    client: bool,
    gone: Option<CancellationToken>,
    timer: Option<Timer>,
}

/// Answers a client with what comes of a call; not at all, if that is lost.
pub fn answer<T: serde::Serialize + Send + 'static>(responder: Responder) -> Reply<Result<T, Refusal>> {
    Reply::new(move |outcome: Option<Result<T, Refusal>>| {
        // Dropped unanswered, the responder says so.
        if let Some(outcome) = outcome {
            responder.settle(outcome);
        }
    })
}

impl Nodes {
    pub(super) fn invoke(&mut self, ctx: &mut Ctx<NodesMsg>, mut invocation: Box<Invocation>) {
        if invocation.caller.is_some() && invocation.command.starts_with(EXEC_APPROVALS) {
            let refusal = Refusal::node_exec_approvals_apart(&invocation.command);
            return invocation.reply.send(Err(refusal));
        }
        let arrives = self.arriving.values_mut().find(|(node_id, _)| *node_id == invocation.node_id);
        if let Some((_, waiting)) = arrives {
            return waiting.push(NodesMsg::Invoke(invocation));
        }
        if let Err(refusal) = self.authorize(&invocation.node_id, &invocation.command) {
            return invocation.reply.send(Err(refusal));
        }
        if invocation.command != gate::COMMAND {
            return self.send(ctx, *invocation);
        }
        match gate::wish(invocation.params.take()) {
            Err(refusal) => invocation.reply.send(Err(refusal)),
            Ok(Wish::Plain(params)) => {
                invocation.params = Some(params);
                self.send(ctx, *invocation);
            }
            Ok(Wish::Agreed(run_id, said)) => {
                let (store, now) = (self.args.store.clone(), ctx.now_ms());
                let (node_id, caller) = (invocation.node_id.clone(), invocation.caller.clone());
                let clear = async move {
                    let (id, name) = (run_id.clone(), run_id.clone());
                    let row = store.read(move |c| store::approval(c, "exec", &id)).await;
                    let row = row.map_err(|e| crate::methods::store_refusal(&e))?;
                    let agreed =
                        gate::agreement(&run_id, said, row.as_ref(), &node_id, caller.as_deref(), now)?;
                    if !agreed.once {
                        return Ok(agreed.params);
                    }
                    let by = Uuid::new_v4().to_string();
                    match store.write(WriteOp::UseApproval { kind: "exec".into(), id: run_id, by }).await {
                        Ok(_) => Ok(agreed.params),
                        Err(StoreError::Conflict { .. }) => Err(gate::used(&name)),
                        Err(e) => Err(crate::methods::store_refusal(&e)),
                    }
                };
                ctx.task(clear, move |cleared| NodesMsg::Cleared(invocation, Box::new(cleared)));
            }
        }
    }

    pub(super) fn cleared(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        mut invocation: Invocation,
        params: Result<Value, Refusal>,
    ) {
        match params {
            Ok(params) => {
                invocation.params = Some(params);
                self.send(ctx, invocation);
            }
            Err(refusal) => invocation.reply.send(Err(refusal)),
        }
    }

    /// In the recorded order: the node is approved, it is there, it may be asked for that.
    fn authorize(&self, node_id: &str, command: &str) -> Result<Arc<super::Link>, Refusal> {
        let kept = self.nodes.get(node_id).filter(|kept| kept.node.approved.is_some());
        let node = &kept.ok_or_else(Refusal::node_pairing_changed)?.node;
        let link = self.link(node_id).ok_or_else(Refusal::node_not_connected)?;
        node.allows(command, &link, &self.estate.config.load().settings.gateway.nodes.commands)?;
        Ok(link)
    }

    fn send(&mut self, ctx: &mut Ctx<NodesMsg>, invocation: Invocation) {
        let Invocation { node_id, command, params, budget, idempotency_key, caller, gone, reply } =
            invocation;
        // The agent's own tool tells it the end of what it runs.
        let told = command == gate::COMMAND && caller.is_some();
        let run = params.as_ref().filter(|_| told).and_then(|p| p["runId"].as_str());
        let run = run.map(|run| (node_id.clone(), run.to_owned()));
        let params = params.map(|params| params.to_string());
        if params.as_ref().is_some_and(|params| params.len() > MAX_PARAMS) {
            let words = format!("the parameters of a node's command have at most {MAX_PARAMS} bytes");
            return reply.send(Err(Refusal::invalid_request(words)));
        }
        if self.calls.len() >= MAX_OPEN {
            let words = format!("{MAX_OPEN} commands wait for nodes already; try again later");
            return reply.send(Err(Refusal::failed(words).with_retry(1_000)));
        }
        self.asked += 1;
        let number = self.asked;
        if let Some(gone) = gone.clone() {
            ctx.task(async move { gone.cancelled().await }, move |()| NodesMsg::Abandoned(number));
        }
        if let Some(run) = run {
            if self.runs.len() >= MAX_RUNS {
                self.runs.pop_front();
            }
            self.runs.push_back(run);
        }
        let deadline = self.estate.clock.uptime() + budget.unwrap_or(DEFAULT_BUDGET).min(MAX_BUDGET);
        let asker = Asker { number, reply, client: caller.is_some(), gone, timer: None };
        self.dispatch(ctx, Call { node_id, command, params, idempotency_key, deadline, tries: 0, asker });
    }

    /// Everything is looked at anew: since the last try the node may have gone, or been forbidden.
    pub(super) fn dispatch(&mut self, ctx: &mut Ctx<NodesMsg>, mut call: Call<Asker>) {
        if call.asker.gone.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return;
        }
        let link = match self.authorize(&call.node_id, &call.command) {
            Ok(link) => link,
            Err(refusal) => return call.asker.reply.send(Err(refusal)),
        };
        let left = call.left(self.estate.clock.uptime());
        if left.is_zero() {
            return timed_out(call, false);
        }
        // In the order in which they went out: in that they end if the node goes.
        let id = Uuid::now_v7().to_string();
        let mut request = json!({
            "id": id, "nodeId": call.node_id, "command": call.command, "timeoutMs": left.as_millis() as u64,
        });
        for (name, text) in [("paramsJSON", &call.params), ("idempotencyKey", &call.idempotency_key)] {
            if let Some(text) = text {
                request[name] = json!(text);
            }
        }
        push(&link.conn, Name::NodeInvokeRequest, &request);
        call.asker.timer = Some(ctx.after(left, NodesMsg::TimedOut(id.clone())));
        self.calls.opened(id, *link.conn.id(), call);
    }

    pub(super) fn result(&mut self, ctx: &mut Ctx<NodesMsg>, params: ResultParams, responder: Responder) {
        let own = responder.conn().grant().and_then(|grant| grant.device.as_ref());
        if own.is_none_or(|own| *params.node_id != *own.as_str()) {
            return responder.refuse(Refusal::node_id_mismatch());
        }
        let answer = match (params.ok, params.payload_json) {
            (true, Some(text)) if !text.trim().is_empty() => {
                let payload = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "payloadJSON": text }));
                Answer::Done(payload, Some(text))
            }
            (true, _) => Answer::Done(params.payload.unwrap_or_default(), None),
            (false, _) => {
                let error = params.error.unwrap_or_default();
                let text = |text: Option<crabtree_protocol::value::Text>| text.map(String::from);
                Answer::Failed(NodeError { code: text(error.code), message: text(error.message) })
            }
        };
        let now = self.estate.clock.uptime();
        match self.calls.result(&params.id, *responder.conn_id(), answer, now) {
            Heard::Ignored => responder.ok(&Taken { ok: true, ignored: Some(true) }),
            Heard::Over(call, answer) => {
                responder.ok(&Taken { ok: true, ignored: None });
                self.over(ctx, call, answer);
            }
            Heard::Again(call, wait) => {
                responder.ok(&Taken { ok: true, ignored: None });
                let wait = async move { tokio::time::sleep(wait).await };
                ctx.task(wait, move |()| NodesMsg::Again(Box::new(call)));
            }
        }
    }

    /// Nobody here wants the pieces; that there are any says that the node has begun.
    pub(super) fn progress(&mut self, id: &str, responder: Responder) {
        self.calls.progress(id, *responder.conn_id());
        responder.ok(&Taken { ok: true, ignored: Some(true) });
    }

    pub(super) fn timed_out(&mut self, id: &str) {
        if let Some((conn, call)) = self.calls.close(id) {
            self.cancel(id, conn, &call.node_id);
            timed_out(call, true);
        }
    }

    pub(super) fn abandoned(&mut self, number: u64) {
        let Some(id) = self.calls.find(|asker| asker.number == number) else { return };
        if let Some((conn, call)) = self.calls.close(&id) {
            self.cancel(&id, conn, &call.node_id);
        }
    }

    /// The node need not go on.
    fn cancel(&self, id: &str, conn: crabtree_protocol::ConnId, node_id: &str) {
        if let Some(link) = self.estate.nodes.of(&conn) {
            push(&link.conn, Name::NodeInvokeCancel, &json!({ "invokeId": id, "nodeId": node_id }));
        }
    }

    fn over(&self, ctx: &Ctx<NodesMsg>, call: Call<Asker>, answer: Answer) {
        let Call { node_id, command, params, idempotency_key, asker, .. } = call;
        let NodeError { code, message } = match answer {
            Answer::Done(payload, payload_json) => {
                return asker.reply.send(Ok(Invoked { ok: true, node_id, command, payload, payload_json }));
            }
            Answer::Failed(error) => error,
        };
        let (code, message) = (code.as_deref(), message.as_deref());
        let mut refusal = Refusal::node_failed(is_plain(&command), code, message, true);
        let platform = self.nodes.get(&node_id).map_or("", |kept| kept.node.platform());
        if asker.client && can_wait(platform, &command, code, message) {
            let key = idempotency_key.unwrap_or_default();
            let action = self.estate.nodes.actions.lock().add(&node_id, &command, params, &key, ctx.now_ms());
            refusal = Refusal::node_command_queued(&node_id, &command, &action, &refusal);
        }
        asker.reply.send(Err(refusal));
    }

    pub(super) fn disconnected(&self, call: Call<Asker>) {
        let message = format!("node disconnected ({})", call.command);
        let refusal =
            Refusal::node_failed(is_plain(&call.command), Some("DISCONNECTED"), Some(&message), true);
        call.asker.reply.send(Err(refusal));
    }
}

fn is_plain(command: &str) -> bool {
    PLAIN.iter().any(|beginning| command.starts_with(beginning))
}

fn timed_out(call: Call<Asker>, dispatched: bool) {
    let refusal = Refusal::node_failed(false, Some("TIMEOUT"), Some("node invoke timed out"), dispatched);
    call.asker.reply.send(Err(refusal));
}
