//! `exec` at a node. The node makes a plan of the command (`system.run.prepare`), with its own policy beside it; of that
//! policy and the gateway's the stricter one counts. If people are to decide, they are asked about the plan, and the node
//! is sent that plan and nothing else. It keeps its own gate: what it does not allow it denies, so what it cannot plan
//! runs only where the gateway asks nobody.
//!
//! The gateway's allowlist is of the gateway's programs and says nothing of a node's: there the node's own list counts,
//! held against the programs that the node says the command runs.

use super::consent::{decided, question_id};
use super::venue::{self, RUN};
use super::{Args, MAX_TIMEOUT};
use crate::approvals::policy::{self, Policy};
use crate::approvals::{ApprovalsMsg, Ask, Asked, CommandAsked, Outcome as Decided, ask};
use crate::nodes::NodesMsg;
use crate::nodes::invoke::MAX_BUDGET;
use crate::settings::{ExecAsk, ExecSecurity, ExecSettings};
use crate::store;
use crate::tools::nodes::{Errand, listed};
use crate::tools::{Call, MAX_RESULT, ToolResult};
use crate::tree::Slot;
use crabtree_protocol::params::approvals::ApprovalDecision;
use crabtree_protocol::params::nodes::NodeRow;
use globset::GlobBuilder;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a node may take to make a plan of a command, or to tell its rules.
const PLANNING: Duration = Duration::from_secs(15);
/// What the way to the node and back may cost beyond the command's own time.
const WAY: Duration = Duration::from_secs(5);
/// What a node says that asks people about a command, as recorded; and what the model is told beside it, since it is not
/// said before the node has made a plan, unless it could make none.
const UNAGREED: &str = "approval required";
const UNPLANNED: &str = ". The node asks people about this command and cannot plan it for them to see: call again with \
    one program by its bare name and no shell syntax.";
const PREPARE: &str = "system.run.prepare";
const RULES: &str = "system.execApprovals.get";

/// Runs commands at nodes.
#[derive(Clone)]
pub(super) struct Remote {
    pub settings: ExecSettings,
    pub approvals: Slot<ApprovalsMsg>,
    pub nodes: Slot<NodesMsg>,
}

/// What a node makes of a command.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prepared {
    plan: Value,
    #[serde(default)]
    exec_policy: Option<NodePolicy>,
    #[serde(default)]
    allow_always_coverage: Option<Coverage>,
}

/// Its own policy. A word that is not known is the strictest one.
#[derive(Deserialize)]
struct NodePolicy {
    security: Option<Value>,
    ask: Option<Value>,
}

/// The entries of the node's allowlist that would allow the command for good.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Coverage {
    complete: bool,
    patterns: Vec<Pattern>,
}

/// An entry: a program, and what its words must be.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Pattern {
    pattern: String,
    #[serde(default)]
    arg_pattern: Option<String>,
}

impl Prepared {
    fn policy(&self, of_gateway: Policy) -> Policy {
        let Some(own) = &self.exec_policy else { return of_gateway };
        let word = |word: &Option<Value>| word.clone();
        let security =
            word(&own.security).map(|word| serde_json::from_value(word).unwrap_or(ExecSecurity::Deny));
        let ask = word(&own.ask).map(|word| serde_json::from_value(word).unwrap_or(ExecAsk::Always));
        of_gateway.and(security, ask)
    }

    /// Whether a node's rules have everything on their list that the command runs.
    fn is_listed(&self, rules: &Value, agent_id: &str) -> bool {
        let Some(coverage) = self.allow_always_coverage.as_ref().filter(|coverage| coverage.complete) else {
            return false;
        };
        let agents = &rules["file"]["agents"];
        let entries: Vec<Pattern> = [agent_id, "*"]
            .into_iter()
            .filter_map(|section| agents[section]["allowlist"].as_array())
            .flatten()
            .filter_map(|entry| serde_json::from_value(entry.clone()).ok())
            .collect();
        let has = |wanted: &Pattern| entries.iter().any(|entry| entry.covers(wanted));
        !coverage.patterns.is_empty() && coverage.patterns.iter().all(has)
    }
}

impl Pattern {
    fn covers(&self, wanted: &Self) -> bool {
        let words = self.arg_pattern.is_none() || self.arg_pattern == wanted.arg_pattern;
        let glob = GlobBuilder::new(self.pattern.trim()).literal_separator(true).build();
        let program = self.pattern.contains('/')
            && glob.is_ok_and(|glob| glob.compile_matcher().is_match(&wanted.pattern));
        words && (program || self.pattern.trim() == "**")
    }
}

impl Remote {
    /// The node at which a call runs.
    async fn node(&self, call: &Call, args: &Args) -> Result<NodeRow, String> {
        let nodes =
            listed(&self.nodes).await.ok_or("The nodes are being restarted. Try again in a moment.")?;
        let config = call.place.store.estate.config.load();
        let bound = venue::bound(&config.settings, &call.place.agent_id);
        venue::node(&nodes, bound, args.node.as_deref()).cloned()
    }

    async fn ask_node(
        &self,
        call: &Call,
        node: &NodeRow,
        command: &str,
        params: Value,
    ) -> Result<Value, String> {
        let errand = Errand { call, node_id: &node.node_id, command, params, budget: PLANNING };
        errand.run(&self.nodes).await.map(|done| done.payload).map_err(|undone| undone.words(&node.node_id))
    }

    /// The node's plan of a call.
    async fn prepared(&self, call: &Call, args: &Args, node: &NodeRow) -> Result<Prepared, String> {
        let id = &node.node_id;
        if !has(node, PREPARE) {
            return Err(format!(
                "A person has to agree to it, and the node {id} has no {PREPARE} to show them what."
            ));
        }
        let mut params = words(call, args, node);
        if !args.env.is_empty() {
            params["env"] = json!(args.env);
        }
        let payload = self.ask_node(call, node, PREPARE, params).await?;
        let prepared = serde_json::from_value(payload).ok();
        prepared
            .filter(|prepared: &Prepared| prepared.plan["argv"].is_array())
            .ok_or_else(|| format!("The node {id} made no plan of the command that can be read."))
    }

    /// Asks whoever has to be asked.
    ///
    /// # Errors
    /// Why it may not run, for the model.
    pub(super) async fn consent(self, call: Call) -> Result<(), String> {
        let args: Args = serde_json::from_value(call.args.clone()).map_err(|e| e.to_string())?;
        let document = call.place.store.estate.exec_approvals.load().clone();
        if let Some(policy::Verdict::Deny(why)) = policy::unusable(&document) {
            return Err(why);
        }
        let of_gateway = Policy::of(&document, &self.settings, &call.place.agent_id);
        if let policy::Verdict::Deny(why) = of_gateway.verdict(true) {
            return Err(why);
        }
        let node = self.node(&call, &args).await?;
        let prepared = match self.prepared(&call, &args, &node).await {
            Ok(prepared) => prepared,
            // Without a plan nobody can agree to it. Where nobody has to, it is the node's own gate that decides.
            Err(_) if of_gateway.verdict(false) == policy::Verdict::Allow => return Ok(()),
            Err(why) => return Err(why),
        };
        let in_force = prepared.policy(of_gateway);
        let mut is_listed = false;
        if in_force.security == ExecSecurity::Allowlist && has(&node, RULES) {
            let rules = self.ask_node(&call, &node, RULES, json!({})).await?;
            is_listed = prepared.is_listed(&rules, &call.place.agent_id);
        }
        match in_force.verdict(is_listed) {
            policy::Verdict::Allow => return Ok(()),
            policy::Verdict::Deny(why) => return Err(why),
            policy::Verdict::Ask => {}
        }
        if !args.env.is_empty() {
            return Err(
                "A person has to agree to it, and cannot to variables of its own: leave env out.".into()
            );
        }
        let decision = ask(&self.approvals, question(&call, &node, &prepared, in_force)).await;
        decided(decision, || in_force.unanswered(is_listed))
    }

    /// Runs it: the plan that people agreed to, or, if none was asked, the line as it is.
    pub(super) async fn run(self, call: Call, usual: Duration) -> ToolResult {
        let args: Args = match serde_json::from_value(call.args.clone()) {
            Ok(args) => args,
            Err(error) => return ToolResult::error(format!("Invalid arguments for exec: {error}")),
        };
        let limit = args.timeout.and_then(|secs| Duration::try_from_secs_f64(secs).ok()).unwrap_or(usual);
        let limit = limit.min(MAX_TIMEOUT).min(MAX_BUDGET - WAY);
        let (node_id, mut params) = match self.order(&call, &args).await {
            Ok(order) => order,
            Err(why) => return ToolResult::error(why),
        };
        params["timeoutMs"] = json!(limit.as_millis() as u64);
        // The model is told the end as the result.
        params["suppressNotifyOnExit"] = json!(true);
        let (start, cwd) = (Instant::now(), params["cwd"].clone());
        let errand = Errand { call: &call, node_id: &node_id, command: RUN, params, budget: limit + WAY };
        match errand.run(&self.nodes).await {
            Ok(done) => shown(&node_id, &done.payload, start.elapsed(), cwd),
            Err(undone) => {
                let words = undone.words(&node_id);
                let hint = if words.contains(UNAGREED) { UNPLANNED } else { "" };
                ToolResult::error(words + hint)
            }
        }
    }

    /// The node, and what it is sent.
    async fn order(&self, call: &Call, args: &Args) -> Result<(String, Value), String> {
        let id = question_id(call);
        let name = id.clone();
        let row = call.place.store.read(move |c| store::approval(c, "exec", &name)).await;
        let row = row.map_err(|e| format!("Not begun: what people decided could not be read: {e}"))?;
        let agreed = row.and_then(|row| {
            let word = match Decided::stored(&row)?.decision? {
                ApprovalDecision::AllowOnce => "allow-once",
                ApprovalDecision::AllowAlways => "allow-always",
                ApprovalDecision::Deny => return None,
            };
            let node_id = row.request["nodeId"].as_str()?.to_owned();
            // The rest comes from the plan.
            let params = json!({
                "command": row.request["systemRunPlan"]["argv"], "cwd": row.request["systemRunPlan"]["cwd"],
                "runId": id, "approved": true, "approvalDecision": word,
            });
            Some((node_id, params))
        });
        if let Some(agreed) = agreed {
            return Ok(agreed);
        }
        let node = self.node(call, args).await?;
        let mut params = words(call, args, &node);
        params["runId"] = json!(Uuid::new_v4().to_string());
        if !args.env.is_empty() {
            params["env"] = json!(args.env);
        }
        Ok((node.node_id, params))
    }
}

fn has(node: &NodeRow, command: &str) -> bool {
    node.commands.iter().any(|known| known == command)
}

/// What is sent of a command before anybody has made a plan of it. Its directory is the node's, as it is given.
fn words(call: &Call, args: &Args, node: &NodeRow) -> Value {
    let mut params = json!({
        "command": venue::shell(node.platform.as_deref(), &args.command),
        "rawCommand": args.command,
        "agentId": call.place.agent_id,
        "sessionKey": call.place.session.to_string(),
    });
    if let Some(dir) = &args.workdir {
        params["cwd"] = json!(dir);
    }
    params
}

fn question(call: &Call, node: &NodeRow, prepared: &Prepared, in_force: Policy) -> Ask {
    let (place, plan) = (&call.place, &prepared.plan);
    let text = |name: &str| plan[name].as_str().map(str::to_owned);
    let argv: Option<Vec<String>> = serde_json::from_value(plan["argv"].clone()).ok();
    Ask {
        id: question_id(call),
        about: Asked::Command(CommandAsked {
            command: text("commandText")
                .or_else(|| argv.as_ref().map(|argv| argv.join(" ")))
                .unwrap_or_default(),
            argv,
            cwd: text("cwd"),
            at_node: Some((node.node_id.clone(), plan.clone())),
            resolved_path: None,
            security: in_force.security,
            ask: in_force.ask,
            warning: None,
            // The node adds it to its own list.
            may_always: prepared.allow_always_coverage.as_ref().is_some_and(|coverage| coverage.complete),
            agent_id: Some(place.agent_id.clone()),
            session_key: Some(place.session.to_string()),
            run_id: Some(place.run_id.to_string()),
            tool_call_id: Some(call.id.clone()),
        }),
        wait: None,
    }
}

/// What a node says of the end of a command, for the model and for clients. A code other than 0 is for the model to
/// judge.
fn shown(node_id: &str, payload: &Value, took: Duration, cwd: Value) -> ToolResult {
    let Some(success) = payload["success"].as_bool() else {
        return ToolResult::error(format!(
            "It is not known what became of the command: the node {node_id} did not say. Look before you try again."
        ));
    };
    let text = |name: &str| payload[name].as_str().unwrap_or_default().trim_end().to_owned();
    let (code, timed_out) = (payload["exitCode"].as_i64(), payload["timedOut"] == true);
    let remark = match code {
        _ if timed_out => {
            "Command timed out and was killed. If it needs longer, call again with a larger timeout".into()
        }
        Some(code) if !success => format!("(Command exited with code {code})"),
        _ => String::new(),
    };
    let parts = [text("stdout"), text("stderr"), text("error"), remark];
    let written = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let completed = success || (code.is_some() && !timed_out);
    let mut details = json!({
        "status": if completed { "completed" } else { "failed" },
        "exitCode": code,
        "durationMs": took.as_millis() as u64,
        "aggregated": ToolResult::text(&*written).cut(MAX_RESULT).as_text(),
        "nodeId": node_id,
        "cwd": cwd,
    });
    if timed_out {
        details["timedOut"] = json!(true);
    }
    let written = if written.is_empty() { "(no output)" } else { &written };
    let text = format!("Node: {node_id}\n{written}");
    ToolResult { is_error: !completed, ..ToolResult::text(text) }.with_details(details)
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
