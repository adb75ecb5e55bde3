//! Conversations: the chats in which somebody has talked to an agent, under names that are no addresses.

use crate::channels::contract::{Address, Kind};
use crate::channels::{AccountName, Fate, Parcel, deliver};
use crate::connection::ConnectionMsg;
use crate::methods::{Call, store_refusal};
use crate::store::{self, ConversationRow, Store};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::channel_acts::{
    Conversation, ConversationSendParams, ConversationSent, Conversations, ConversationsParams,
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Conversations of an agent that are looked at.
const MOST: u32 = 1_000;
/// Conversations that are listed if nothing is said.
const LISTED: usize = 50;
/// Digits of a name.
const DIGITS: usize = 32;

/// A conversation as it is written to.
struct Known {
    name: AccountName,
    to: Address,
    reference: String,
    row: ConversationRow,
}

pub(in crate::methods) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ConversationsParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let known = match known(&store, &params.agent_id).await {
            Ok(known) => known,
            Err(refusal) => return responder.refuse(refusal),
        };
        let query = params.query.map(|query| query.trim().trim_start_matches('@').to_lowercase());
        let limit = params.limit.map_or(LISTED, |limit| usize::try_from(limit.get()).unwrap_or(LISTED));
        let is_meant = |one: &&Known| {
            let stands = |query: &String| {
                one.reference.contains(query.as_str())
                    || target(&one.to).to_lowercase().contains(query.as_str())
            };
            params.channel.as_deref().is_none_or(|channel| channel == one.name.channel)
                && query.as_ref().is_none_or(stands)
        };
        let conversations = known.iter().filter(is_meant).take(limit).map(shown).collect();
        responder.ok(&Conversations { conversations });
    });
}

pub(in crate::methods) fn send(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ConversationSendParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move { responder.settle(sent(&store, &params).await) });
}

async fn sent(store: &Store, params: &ConversationSendParams) -> Result<ConversationSent, Refusal> {
    let reference = params.conversation_ref.as_str();
    let found = known(store, &params.agent_id).await?.into_iter().find(|one| one.reference == reference);
    let Some(Known { name, to, .. }) = found else {
        let text = format!("Conversation not found: {reference} (use conversations_list)");
        return Err(Refusal::invalid_request(text));
    };
    let operation = format!("{}\n{}", params.agent_id.as_str(), params.operation_id.as_str());
    let id = format!("conversation-{}", &blake3::hash(operation.as_bytes()).to_hex()[..DIGITS]);
    let (known_id, address) = (id.clone(), json!(to));
    let earlier = store.read(move |c| store::delivery_by_id(c, &known_id)).await;
    let is_other = |row: store::DeliveryRow| row.text != params.message.as_str() || row.address != address;
    if earlier.map_err(|e| store_refusal(&e))?.is_some_and(is_other) {
        return Err(Refusal::invalid_request(format!(
            "conversation send {} was already used with different input",
            params.operation_id.as_str()
        )));
    }
    let limits = store.estate.channels.capabilities(&name.channel);
    if limits.unit.of(&params.message) > limits.text_limit {
        let text = format!("the message is longer than {} takes in one: send two", name.channel);
        return Err(Refusal::invalid_request(text));
    }
    let channel = name.channel.clone();
    let text = params.message.to_string();
    let parcel = Parcel { id: id.clone(), name, to, text, extra: json!({}) };
    let (status, message_id) = match deliver(store, parcel).await.map_err(Refusal::failed)? {
        Fate::Sent(row) => ("sent", row.platform_id),
        Fate::Waits => ("queued", None),
        Fate::Failed(why) => return Err(Refusal::failed(format!("the message was not sent: {why}"))),
    };
    Ok(ConversationSent {
        status: status.into(),
        conversation_ref: reference.to_owned(),
        channel,
        message_id,
        queue_id: (status == "queued").then_some(id),
    })
}

async fn known(store: &Store, agent: &str) -> Result<Vec<Known>, Refusal> {
    let agent = agent.to_owned();
    let rows = store.read(move |c| store::conversations(c, &agent, MOST)).await;
    let one = |row: ConversationRow| {
        let to = Address::deserialize(&row.address).ok()?;
        let name = AccountName { channel: row.channel.clone(), account: row.account.clone() };
        Some(Known { reference: reference(&name, &to), name, to, row })
    };
    Ok(rows.map_err(|e| store_refusal(&e))?.into_iter().filter_map(one).collect())
}

fn kind(to: &Address) -> &'static str {
    match to.chat_type {
        Kind::Direct => "direct",
        Kind::Group => "group",
        Kind::Channel => "channel",
    }
}

/// As clients have it: a hash of what makes an address.
fn reference(name: &AccountName, to: &Address) -> String {
    let thread = to.thread.as_deref().unwrap_or_default();
    let parts = json!([name.channel, name.account, kind(to), to.chat, "", thread]);
    let hash = Sha256::digest(parts.to_string().as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("conv_{}", &hex[..DIGITS])
}

/// As `send` takes it.
fn target(to: &Address) -> String {
    match to.chat_type {
        Kind::Direct => to.chat.clone(),
        _ => format!("{}:{}", kind(to), to.chat),
    }
}

fn shown(known: &Known) -> Conversation {
    let ms = |at: i64| at.max(0).unsigned_abs();
    Conversation {
        conversation_ref: known.reference.clone(),
        channel: known.name.channel.clone(),
        account_id: known.name.account.clone(),
        kind: kind(&known.to).into(),
        target: target(&known.to),
        first_seen_at: ms(known.row.first_seen_at),
        last_seen_at: ms(known.row.last_seen_at),
        thread_id: known.to.thread.clone(),
    }
}
