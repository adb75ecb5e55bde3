//! What clients ask to be allowed: a command, or something a plugin wants to do.

use super::tell;
use crate::approvals::asking::{exec_request, fits, plugin_request};
use crate::approvals::request::PLUGIN_PREFIX;
use crate::approvals::shown::visible;
use crate::approvals::{ApprovalsMsg, EXEC_WAIT_MS, Kind, MAX_WAIT_MS, PLUGIN_WAIT_MS, Request, Requester};
use crate::methods::Call;
use crate::settings::{ExecAsk, ExecSecurity};
use crate::store::ApprovalRow;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::{
    ApprovalDecision, ExecRequestParams, PluginRequestParams, Severity, SystemRunPlan,
};
use crabtree_protocol::value::Maybe;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Bytes of an id a client makes up.
const MAX_ID: usize = 256;
/// Bytes of a request with everything in it.
const MAX_REQUEST: usize = 256 * 1024;

/// A text with something in it.
fn said(text: &Maybe<impl AsRef<str>>) -> Option<String> {
    let text = text.as_option().flatten()?.as_ref().trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn seen(text: &Maybe<impl AsRef<str>>) -> Option<String> {
    said(text).map(|text| visible(&text))
}

/// A word the settings know.
fn known<T: DeserializeOwned + serde::Serialize>(word: &Maybe<String>) -> Option<T> {
    serde_json::from_value(json!(said(word)?)).ok()
}

pub fn exec(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ExecRequestParams>() else { return };
    let silent = params.suppress_delivery == Some(true);
    let made = exec_row(&params);
    let routeless = params.require_delivery_route == Some(false);
    hand_over(call, made, silent, routeless, params.two_phase == Some(true));
}

pub fn plugin(call: Call<'_>) {
    let Some((params, call)) = call.parse::<PluginRequestParams>() else { return };
    let id = format!("{PLUGIN_PREFIX}{}", Uuid::new_v4());
    let wait =
        params.timeout_ms.map_or(PLUGIN_WAIT_MS, |ms| i64::try_from(ms.get()).unwrap_or(PLUGIN_WAIT_MS));
    let made = plugin_body(&params).map(|request| (Kind::Plugin, id, request, wait));
    hand_over(call, made, false, false, params.two_phase == Some(true));
}

/// Kind, id, what is asked, and how long it waits.
type Made = (Kind, String, Value, i64);

/// Hands a request to the actor, if it could be made. It is `silent` if nobody is told, `routeless` if it waits even if
/// nobody can be asked.
pub(super) fn hand_over(
    call: Call<'_>,
    made: Result<Made, Refusal>,
    silent: bool,
    routeless: bool,
    two_phase: bool,
) {
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    let (kind, id, request, wait) = match made {
        Ok(made) => made,
        Err(refusal) => return responder.refuse(refusal),
    };
    if request.to_string().len() > MAX_REQUEST {
        let words = format!("what people are asked has at most {MAX_REQUEST} bytes");
        return responder.refuse(Refusal::invalid_request(words));
    }
    let now = wiring.store.estate.clock.now_ms();
    let row = ApprovalRow {
        kind: kind.name().into(),
        id,
        nonce: Uuid::new_v4().to_string(),
        request,
        requester: Some(json!(Requester::of(responder.conn(), silent))),
        created_at: now,
        expires_at: now + wait.clamp(1, MAX_WAIT_MS),
        ..ApprovalRow::default()
    };
    tell(&wiring, ApprovalsMsg::Request(Box::new(Request { row, routeless, two_phase, responder })));
}

fn exec_row(params: &ExecRequestParams) -> Result<Made, Refusal> {
    let request = Planned::of(params)?.request();
    let id = match &params.id {
        None => Uuid::new_v4().to_string(),
        Some(id) if id.starts_with(PLUGIN_PREFIX) => {
            return Err(Refusal::approval_id_reserved(PLUGIN_PREFIX));
        }
        Some(id) => checked_id(id)?,
    };
    let wait = params.timeout_ms.map_or(EXEC_WAIT_MS, |ms| i64::try_from(ms.get()).unwrap_or(MAX_WAIT_MS));
    Ok((Kind::Exec, id, request, wait))
}

/// An id a client makes up, if it can be part of an address.
pub(super) fn checked_id(id: &str) -> Result<String, Refusal> {
    let fits = id.len() <= MAX_ID && id != "." && id != "..";
    fits.then(|| id.to_owned()).ok_or_else(|| Refusal::approval_id_malformed(MAX_ID))
}

/// A command that can be asked about: on a node as it was planned there, elsewhere as it was sent.
struct Planned<'a> {
    params: &'a ExecRequestParams,
    node_id: Option<String>,
    plan: Option<&'a SystemRunPlan>,
    command: String,
    argv: Option<&'a Vec<String>>,
}

impl<'a> Planned<'a> {
    /// The recorded order of complaints: the node, its plan, the command, its words.
    fn of(params: &'a ExecRequestParams) -> Result<Self, Refusal> {
        let on_node = said(&params.host).as_deref() == Some("node");
        let node_id = said(&params.node_id).filter(|_| on_node);
        let plan = params.system_run_plan.as_ref().filter(|_| on_node);
        if on_node && node_id.is_none() {
            return Err(Refusal::needed_for_node("nodeId"));
        }
        if on_node && plan.is_none() {
            return Err(Refusal::needed_for_node("systemRunPlan"));
        }
        let sent = params.command.as_deref().unwrap_or_default();
        let command = visible(plan.map_or(sent, |plan| &plan.command_text));
        if command.trim().is_empty() {
            return Err(Refusal::command_required());
        }
        let argv = plan.map(|plan| &plan.argv).or(params.command_argv.as_ref());
        if on_node && argv.is_none_or(Vec::is_empty) {
            return Err(Refusal::needed_for_node("commandArgv"));
        }
        if !fits(&command) {
            return Err(Refusal::command_too_long());
        }
        Ok(Self { params, node_id, plan, command, argv })
    }

    fn word(
        &self,
        of_plan: fn(&SystemRunPlan) -> &Maybe<String>,
        sent: fn(&ExecRequestParams) -> &Maybe<String>,
    ) -> Option<String> {
        said(self.plan.map_or_else(|| sent(self.params), of_plan))
    }

    fn request(&self) -> Value {
        let params = self.params;
        let cwd = self.word(|plan| &plan.cwd, |params| &params.cwd);
        let agent_id = self.word(|plan| &plan.agent_id, |params| &params.agent_id);
        let session_key = self.word(|plan| &plan.session_key, |params| &params.session_key);
        let mut request = exec_request();
        let members = [
            ("command", json!(self.command)),
            ("systemRunPlan", json!(self.plan)),
            ("cwd", json!(cwd.as_deref().map(visible))),
            ("nodeId", json!(self.node_id)),
            ("host", json!(seen(&params.host))),
            ("security", json!(known::<ExecSecurity>(&params.security))),
            ("ask", json!(known::<ExecAsk>(&params.ask))),
            ("warningText", json!(seen(&params.warning_text))),
            ("scope", json!(params.scope)),
            ("allowedDecisions", json!(allowed(params))),
            ("agentId", json!(agent_id)),
            ("resolvedPath", json!(seen(&params.resolved_path))),
            ("sessionKey", json!(session_key)),
            ("sessionId", json!(said(&params.session_id))),
            ("runId", json!(said(&params.run_id))),
            ("toolCallId", json!(said(&params.tool_call_id))),
            ("turnSourceChannel", json!(said(&params.turn_source_channel))),
            ("turnSourceTo", json!(said(&params.turn_source_to))),
            ("turnSourceAccountId", json!(said(&params.turn_source_account_id))),
            ("turnSourceThreadId", json!(params.turn_source_thread_id)),
        ];
        members.into_iter().for_each(|(name, value)| request[name] = value);
        if self.plan.is_some() {
            let (argv, env_hash) = (self.argv, env_hash(params));
            request["systemRunBinding"] = json!({
                "argv": argv, "cwd": cwd, "agentId": agent_id, "sessionKey": session_key, "envHash": env_hash,
            });
        } else if let Some(argv) = self.argv {
            request["commandArgv"] = json!(argv);
        }
        // Of the environment only the names are kept: values may be secrets.
        if let Some(env) = params.env.as_ref().filter(|env| !env.is_empty()) {
            request["envKeys"] = json!(env.keys().collect::<Vec<_>>());
        }
        if let Some(spans) = &params.command_spans
            && params.command.as_deref() == Some(&self.command)
        {
            request["commandSpans"] = json!(spans);
        }
        request
    }
}

/// What ties an approval to the environment it was given for.
fn env_hash(params: &ExecRequestParams) -> Option<String> {
    let env = params.env.as_ref().filter(|env| !env.is_empty())?;
    let text = json!(env.iter().collect::<Vec<_>>()).to_string();
    Some(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Who is asked every time, or about a command that must not be allowed for good, cannot say "always".
fn allowed(params: &ExecRequestParams) -> Vec<ApprovalDecision> {
    let once = params.unavailable_decisions.is_some() || known(&params.ask) == Some(ExecAsk::Always);
    let offered = |decision: &ApprovalDecision| !once || *decision != ApprovalDecision::AllowAlways;
    ApprovalDecision::ALL.iter().copied().filter(offered).collect()
}

fn plugin_body(params: &PluginRequestParams) -> Result<Value, Refusal> {
    let (title, description) = (visible(&params.title), visible(&params.description));
    if title.chars().count() > 80 || description.chars().count() > 512 {
        let words = "approval title or description exceeds the display limit after sanitization";
        return Err(Refusal::invalid_request(words));
    }
    let severity = params.severity.as_option().flatten().copied();
    let mut request = plugin_request();
    let members = [
        ("pluginId", json!(seen(&params.plugin_id))),
        ("title", json!(title)),
        ("description", json!(description)),
        ("scope", json!(params.scope)),
        ("detail", json!(seen(&params.detail))),
        ("severity", json!(severity.map(Severity::name))),
        ("toolName", json!(seen(&params.tool_name))),
        ("toolCallId", json!(params.tool_call_id)),
        ("agentId", json!(seen(&params.agent_id))),
        ("sessionKey", json!(said(&params.session_key))),
        ("turnSourceChannel", json!(said(&params.turn_source_channel))),
        ("turnSourceTo", json!(said(&params.turn_source_to))),
        ("turnSourceAccountId", json!(said(&params.turn_source_account_id))),
        ("turnSourceThreadId", json!(params.turn_source_thread_id)),
    ];
    members.into_iter().for_each(|(name, value)| request[name] = value);
    if let Some(some) = params.allowed_decisions.as_option().flatten() {
        let kept: Vec<_> = ApprovalDecision::ALL.iter().filter(|decision| some.contains(decision)).collect();
        request["allowedDecisions"] = json!(kept);
    }
    Ok(request)
}
