//! `chat.inject`: an answer that no model gave.

use crate::connection::ConnectionMsg;
use crate::event::{Audience, Event};
use crate::methods::Call;
use crate::sessions::{Told, change, gateway_message};
use crate::store::{NewMessage, SessionRecord, SessionUpdate, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::session_reads::{InjectParams, Injected};
use crabtree_protocol::{Event as Name, Refusal};
use serde_json::json;
use uuid::Uuid;

pub(in crate::methods) fn answer(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((InjectParams { session_key, agent_id, message, label }, call)) = call.parse() else { return };
    let key = match call.key_of(&session_key, agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let text = match label.as_deref().map(str::trim).filter(|label| !label.is_empty()) {
        Some(label) => format!("[{label}]\n\n{}", &*message),
        None => message.to_string(),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let estate = &wiring.store.estate;
        let id = Uuid::new_v4().to_string();
        let row = gateway_message(&text, estate.clock.now_ms());
        let (name, of, said) = (key.to_string(), id.clone(), row.clone());
        let make = move |record: Option<&SessionRecord>, now| {
            record.ok_or_else(Refusal::no_session)?;
            let update = SessionUpdate { at: now, ..SessionUpdate::default() };
            let message = NewMessage {
                id: of,
                session_key: name.clone(),
                session_id: String::new(),
                parent: None,
                kind: "assistant".into(),
                idempotency_key: None,
                run_id: None,
                hidden: false,
                message: said,
                created_at: now,
            };
            Ok(WriteOp::All(vec![
                WriteOp::UpdateSession { key: name, update },
                WriteOp::AppendMessage(message),
            ]))
        };
        let injected = change(&wiring.sessions, key.clone(), None, Told::Nothing, make).await;
        responder.settle(injected.map(|_| {
            let told = json!({
                "runId": format!("inject-{id}"), "sessionKey": key, "agentId": key.agent_id(), "seq": 0,
                "state": "final", "message": row,
            });
            estate.conns.publish(Event::new(Name::Chat, Audience::Turn(key.clone()), &told));
            Injected { ok: true, message_id: id }
        }));
    });
}
