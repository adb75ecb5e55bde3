//! Sessions: who hears of them. Below it: lists, single ones, groups, and what they used.

mod archive;
pub(super) mod branches;
pub(super) mod changes;
pub(super) mod cleanup;
pub(super) mod compact;
pub(super) mod company;
pub(super) mod create;
pub(super) mod entry;
mod groups;
pub(super) mod inject;
pub(super) mod lifecycle;
mod list;
mod marks;
mod reads;
pub(super) mod reset;
pub(super) mod talk;
mod usage;

pub(super) use groups::{
    defaults as groups_defaults, delete as groups_delete, list as groups_list, put as groups_put,
    rename as groups_rename, update as groups_update,
};
pub(super) use list::{defaults, list};
pub(super) use reads::{describe, get, preview, resolve, search};
pub(super) use usage::{cost, logs, status as usage_status, timeseries, usage};

use super::{ANSWER_LIMIT, Call};
use crate::broadcast::{BroadcastMsg, Topic};
use crate::connection::ConnectionMsg;
use crate::responder::Responder;
use crate::tree::Ctx;
use crabtree_protocol::params::sessions::{
    MessagesSubscribeParams, MessagesUnsubscribeParams, SubscribeParams,
};
use crabtree_protocol::{Refusal, SessionKey};
use serde_json::json;

pub(super) fn subscribe(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let bare = call.params.is_none_or(|raw| raw.get().trim() == "{}");
    let Some((params, call)) = call.parse::<SubscribeParams>() else { return };
    let store = call.wiring.store.clone();
    ask(ctx, call, Topic::Sessions, move |responder| async move {
        if bare {
            return responder.ok(&json!({ "subscribed": true }));
        }
        let list = list::page(&store, &params).await;
        responder.settle(list.map(|list| json!({ "subscribed": true, "list": list })));
    });
}

pub(super) fn subscribe_messages(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<MessagesSubscribeParams>() else { return };
    match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => subscribed(ctx, call, Topic::Messages(key.clone()), key, true),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

pub(super) fn unsubscribe_messages(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<MessagesUnsubscribeParams>() else { return };
    match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => subscribed(ctx, call, Topic::NotMessages(key.clone()), key, false),
        Err(refusal) => call.responder.refuse(refusal),
    }
}

fn subscribed(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, topic: Topic, key: SessionKey, on: bool) {
    ask(ctx, call, topic, move |responder| async move {
        responder.ok(&json!({ "subscribed": on, "key": key }));
    });
}

/// Puts a subscription into force before it is answered: what is published after the answer is heard.
fn ask<F: Future<Output = ()> + Send + 'static>(
    ctx: &mut Ctx<ConnectionMsg>,
    call: Call<'_>,
    topic: Topic,
    then: impl FnOnce(Responder) -> F + Send + 'static,
) {
    let (broadcast, responder) = (call.wiring.broadcast.clone(), call.responder);
    ctx.detached(async move {
        let conn = responder.conn().clone();
        let put = |reply| BroadcastMsg::Subscribe(conn.clone(), topic.clone(), reply);
        match broadcast.ask_within(ANSWER_LIMIT, put).await {
            Some(true) => then(responder).await,
            Some(false) => {
                responder.refuse(Refusal::invalid_request("too many subscriptions on this connection"));
            }
            // Nobody is there: the responder says so.
            None => {}
        }
    });
}
