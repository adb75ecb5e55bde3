//! Whether a command may run: as the policy says, and if that leaves it to people, as they do.

use super::command::Rule;
use super::{Args, Call, Verdict, verdict};
use crate::approvals::policy::{self, Policy};
use crate::approvals::{ApprovalsMsg, Ask, Asked, CommandAsked, Decision, Remembered, ask};
use crate::settings::ExecSettings;
use crate::tree::Slot;

/// Asks whoever has to be asked.
///
/// # Errors
/// Why it may not run, for the model.
pub(super) async fn consent(
    call: Call,
    settings: ExecSettings,
    approvals: Slot<ApprovalsMsg>,
) -> Result<(), String> {
    let place = call.place.clone();
    let document = place.store.estate.exec_approvals.load().clone();
    let agent = place.agent_id.as_str();
    let seen = listed(&call, &document).await;
    let is_listed = seen == Verdict::Allowed;
    match policy::verdict(&document, &settings, agent, is_listed) {
        policy::Verdict::Allow => return Ok(()),
        policy::Verdict::Deny(why) => return Err(why),
        policy::Verdict::Ask => {}
    }
    let in_force = Policy::of(&document, &settings, agent);
    let decision = ask(&approvals, question(&call, in_force, &seen)).await;
    if decision == Decision::AllowAlways {
        remember(&call, &seen, &approvals).await;
    }
    decided(decision, || policy::unanswered(&document, &settings, agent, is_listed))
}

/// What follows from a decision; `unanswered` says so if nobody made one.
///
/// # Errors
/// The command may not run; why, for the model.
pub(super) fn decided(
    decision: Decision,
    unanswered: impl FnOnce() -> policy::Verdict,
) -> Result<(), String> {
    match decision {
        Decision::AllowOnce | Decision::AllowAlways => Ok(()),
        Decision::Deny => {
            Err("Denied: a person does not want this command to run. Do not try it again; ask what to \
            do instead."
                .into())
        }
        Decision::Cancelled => Err("The question whether this command may run was taken back.".into()),
        Decision::Expired => match unanswered() {
            policy::Verdict::Deny(why) => Err(why),
            policy::Verdict::Allow | policy::Verdict::Ask => Ok(()),
        },
    }
}

/// What the allowlist says; read on a thread that may wait for the disk.
async fn listed(call: &Call, document: &crate::approvals::ExecApprovals) -> Verdict {
    let rules: Vec<Rule> = document
        .allowlist(&call.place.agent_id)
        .map(|entry| Rule::new(&entry.pattern, entry.arg_pattern.as_deref()))
        .collect();
    let (args, workspace) = (call.args.clone(), call.place.workspace.clone());
    let look = tokio::task::spawn_blocking(move || verdict(&args, &workspace, &rules));
    look.await.unwrap_or(Verdict::Opaque)
}

/// The same for the same call, so that it is one question however often it is put; and another for other arguments,
/// whatever the call is called.
pub(super) fn question_id(call: &Call) -> String {
    let hash = blake3::hash(call.args.to_string().as_bytes()).to_hex();
    format!("{}:{}:{}", call.place.run_id, call.id, &hash[..16])
}

fn question(call: &Call, in_force: Policy, seen: &Verdict) -> Ask {
    let place = &call.place;
    let args = serde_json::from_value::<Args>(call.args.clone()).ok();
    let programs = programs(seen);
    Ask {
        id: question_id(call),
        about: Asked::Command(CommandAsked {
            command: args.as_ref().map(|args| args.command.clone()).unwrap_or_default(),
            argv: None,
            at_node: None,
            cwd: args.map(|args| args.dir(&place.workspace).display().to_string()),
            resolved_path: programs.first().cloned(),
            security: in_force.security,
            ask: in_force.ask,
            warning: None,
            may_always: !programs.is_empty(),
            agent_id: Some(place.agent_id.clone()),
            session_key: Some(place.session.to_string()),
            run_id: Some(place.run_id.to_string()),
            tool_call_id: Some(call.id.clone()),
        }),
        wait: None,
    }
}

/// The programs that an entry each would allow for good.
fn programs(seen: &Verdict) -> &[String] {
    match seen {
        Verdict::Missing(programs) => programs,
        Verdict::Allowed | Verdict::Opaque => &[],
    }
}

async fn remember(call: &Call, seen: &Verdict, approvals: &Slot<ApprovalsMsg>) {
    for program in programs(seen) {
        let entry = Remembered {
            agent_id: call.place.agent_id.clone(),
            pattern: program.clone(),
            arg_pattern: None,
            command: call.args["command"].as_str().map(str::to_owned),
            resolved_path: Some(program.clone()),
        };
        let kept = approvals.ask(|reply| ApprovalsMsg::Remember(Box::new(entry.clone()), reply)).await;
        if let Err(refusal) = kept {
            tracing::warn!(target: "crabtree::tools", "what was allowed for good is not remembered: {refusal:?}");
        }
    }
}
