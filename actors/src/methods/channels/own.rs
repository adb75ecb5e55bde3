//! Methods that channels bring: looked up before the gateway's own while an account of the channel runs.

use crate::audit;
use crate::connection::ConnectionMsg;
use crate::conns::Grant;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::tree::Ctx;
use crabtree_protocol::{Refusal, Role};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// How long a channel may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Has a channel answer that brings this method; otherwise the responder comes back. Nodes have methods of their own.
pub fn brought(
    ctx: &mut Ctx<ConnectionMsg>,
    wiring: &Arc<Wiring>,
    grant: &Grant,
    (method, params): (&str, Option<&RawValue>),
    responder: Responder,
) -> Option<Responder> {
    let estate = &wiring.store.estate;
    let found = (grant.role == Role::Operator).then(|| estate.channels.offering(method)).flatten();
    let Some((channel, offered)) = found else { return Some(responder) };
    if !grant.scopes.allows(offered.scope) {
        responder.refuse(Refusal::missing_scope(offered.scope));
        return None;
    }
    let asked = (offered.name, Some(offered.scope));
    let note = audit::request(estate, responder.conn(), asked, params);
    let responder = responder.noted(note);
    let params = params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or(Value::Null);
    let answer = channel.call(method.to_owned(), params);
    ctx.detached(async move {
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(answer) => responder.settle(answer),
            // The responder is dropped, and says that it was not answered.
            Err(_) => {
                tracing::warn!(target: "crabtree::channels", "{} was not answered in time", offered.name)
            }
        }
    });
    None
}
