//! Questions: `question.*`.

use super::requests::{checked_id, hand_over};
use super::tell;
use crate::approvals::{
    ApprovalsMsg, By, Key, Kind, MAX_WAIT_MS, QUESTION_WAIT_MS, Resolve, Said, Shape, questions, shown,
};
use crate::connection::ConnectionMsg;
use crate::methods::{Call, store_refusal};
use crate::store;
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::questions::{
    GetParams, Got, Questions, RequestParams, ResolveParams, WaitParams,
};
use serde_json::json;
use uuid::Uuid;

pub fn request(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    if let Err(refusal) = questions::check(&params.questions) {
        return call.responder.refuse(refusal);
    }
    let mut request = json!({ "questions": params.questions });
    let about = [("agentId", params.agent_id), ("sessionKey", params.session_key), ("runId", params.run_id)];
    for (name, value) in about {
        if let Some(value) = value {
            request[name] = json!(value);
        }
    }
    let wait =
        params.timeout_ms.map_or(QUESTION_WAIT_MS, |ms| i64::try_from(ms.get()).unwrap_or(MAX_WAIT_MS));
    let id = params.id.map_or_else(|| Ok(Uuid::new_v4().to_string()), |id| checked_id(&id));
    let made = id.map(|id| (Kind::Question, id, request, wait));
    hand_over(call, made, false, true, false);
}

pub fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<GetParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let id = params.id.into_string();
        let asked = id.clone();
        let row = store.read(move |c| store::approval(c, Kind::Question.name(), &asked)).await;
        responder.settle(row.map_err(|e| store_refusal(&e)).and_then(|row| {
            let row = row.ok_or_else(|| Refusal::question_not_found(&id))?;
            Ok(Got { question: shown::question(&row) })
        }));
    });
}

pub fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let rows = store.read(store::pending_approvals).await;
        responder.settle(rows.map_err(|e| store_refusal(&e)).map(|rows| {
            let asked = rows.iter().filter(|row| row.kind == Kind::Question.name());
            Questions { questions: asked.map(shown::question).collect() }
        }));
    });
}

pub fn resolve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResolveParams>() else { return };
    let name = |name: Option<crabtree_protocol::value::Text>| name.map(String::from);
    let (id, said) = match params {
        ResolveParams::Answer(p) => (p.id, Said::Answers(p.answers, name(p.resolved_by))),
        ResolveParams::Cancel(p) => (p.id, Said::Decline(name(p.resolved_by))),
    };
    let (key, by) = (Key { kind: Kind::Question, id: id.into() }, By::of(call.responder.conn()));
    let (shape, responder) = (Shape::Question, call.responder);
    let resolve = Resolve { key, prefix: false, said, by, shape, responder };
    tell(call.wiring, ApprovalsMsg::Resolve(Box::new(resolve)));
}

pub fn wait(call: Call<'_>) {
    let Some((params, call)) = call.parse::<WaitParams>() else { return };
    let now = call.estate().clock.now_ms();
    let until_ms =
        params.timeout_ms.map(|ms| now.saturating_add(i64::try_from(ms.get()).unwrap_or(i64::MAX)));
    let key = Key { kind: Kind::Question, id: params.id.into() };
    tell(call.wiring, ApprovalsMsg::Wait { key, until_ms, responder: call.responder });
}
