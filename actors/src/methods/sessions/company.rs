//! Who else is here: what a connection looks at, whether it is seen, and whether its person writes.

use crate::connection::ConnectionMsg;
use crate::event::{Audience, Event};
use crate::methods::{Call, store_refusal};
use crate::store;
use crate::tree::Ctx;
use crabtree_protocol::params::core::Ok as Done;
use crabtree_protocol::params::events::SessionTypingEvent;
use crabtree_protocol::params::session_reads::{
    ObserverVisibilityParams, Typed, TypingParams, ViewersSet, ViewersSetParams,
};
use crabtree_protocol::{Event as Name, Refusal, SessionKey};
use serde_json::{Value, json};

/// Tells the others who have the session open; nobody is told of a session that is another one by now.
pub(in crate::methods) fn typing(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<TypingParams>() else { return };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let estate = &store.estate;
        let name = key.to_string();
        let record = match store.read(move |c| store::session(c, &name)).await {
            Ok(Some(record)) => record,
            Ok(None) => return responder.refuse(Refusal::session_not_found(key.as_str())),
            Err(e) => return responder.refuse(store_refusal(&e)),
        };
        let audience = Audience::Others(key.clone(), *responder.conn_id());
        let is_heard = || estate.conns.all().iter().any(|conn| audience.admits(conn));
        let broadcast = record.session_id == *params.session_id && is_heard();
        if broadcast {
            let payload = SessionTypingEvent {
                agent_id: key.agent_id().to_owned(),
                session_key: key,
                session_id: record.session_id,
                actor: actor(&responder),
                typing: params.typing,
                ts: estate.clock.now_ms().unsigned_abs(),
                preview: params.preview.map(|preview| preview.trim().to_owned()).filter(|p| !p.is_empty()),
            };
            estate.conns.publish(Event::new(Name::SessionTyping, audience, &payload).droppable());
        }
        responder.ok(&Typed { ok: true, broadcast });
    });
}

/// Who is at a connection: its device, else its client.
fn actor(responder: &crate::responder::Responder) -> Value {
    let grant = responder.conn().grant();
    let client = grant.map(|grant| &grant.params.client);
    let device = grant.and_then(|grant| grant.device.as_ref()).map(ToString::to_string);
    let id = device.or(client.map(|client| client.id.name().to_owned())).unwrap_or_default();
    let mut actor = json!({ "type": "human", "id": id });
    if let Some(name) = client.and_then(|client| client.display_name.as_deref()) {
        actor["label"] = json!(name);
    }
    actor
}

pub(in crate::methods) fn viewers(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ViewersSetParams>() else { return };
    let keys = params.session_keys.iter().map(|key| call.key_of(key, params.agent_id.as_deref()));
    let keys = keys.collect::<Result<Vec<SessionKey>, _>>();
    if let Ok(keys) = &keys {
        call.responder.conn().look_at(keys.iter().cloned().collect());
    }
    call.responder.settle(keys.map(|session_keys| ViewersSet { session_keys }));
}

pub(in crate::methods) fn visibility(call: Call<'_>) {
    let Some((ObserverVisibilityParams { .. }, call)) = call.parse() else { return };
    call.responder.ok(&Done::TRUE);
}
