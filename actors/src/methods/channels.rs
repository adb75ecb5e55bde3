//! Channels: how their accounts are, starting and stopping them, who is let in, and sending.

pub(super) mod acts;
pub(super) mod conversations;
pub(super) mod login;
pub(super) mod logout;
pub(super) mod own;

use super::{Call, store_refusal};
use crate::channels::{self, AccountName, ChannelsMsg, Fate, Wish, send as send_wish};
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::settings::{ChannelSettings, DEFAULT_ACCOUNT, DmPolicy};
use crate::store::{self, CONTACT_WAITING_MS, ContactRow, MAX_WAITING_CONTACTS, WriteOp};
use crate::tree::{Ctx, Reply};
use chrono::{DateTime, SecondsFormat};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::channels::{
    AccountParams, PairingAccount, PairingApproveParams, PairingApproved, PairingDismissParams,
    PairingDismissed, PairingLimits, PairingList, PairingListParams, PairingRequest, Presence, SendParams,
    SendResult, StatusParams, Switched,
};
use crabtree_protocol::params::core::Empty;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said to who was let in.
const LET_IN: &str = "✅ You are let in. Write to me whenever you like.";

pub(super) fn status(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<StatusParams>() else { return };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        match status_of(&wiring, params.channel.as_deref()).await {
            Ok(status) => responder.ok(&status),
            Err(e) => responder.refuse(store_refusal(&e)),
        }
    });
}

fn configured(wiring: &Wiring, channel: Option<&str>) -> Vec<AccountName> {
    channels::configured(&wiring.store.estate.config.load().settings.channels, channel)
}

async fn status_of(wiring: &Wiring, channel: Option<&str>) -> Result<Value, store::StoreError> {
    let estate = &wiring.store.estate;
    let names = configured(wiring, channel);
    let counted = names.clone();
    let counts = wiring.store.read(move |c| {
        counted
            .iter()
            .map(|name| store::delivery_counts(c, &name.channel, &name.account))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut accounts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut issues = Vec::new();
    for (name, counts) in names.iter().zip(counts.await?) {
        let row = row(wiring, name, counts);
        if let Some(error) = row["lastError"].as_str().filter(|_| row["connected"] == false) {
            issues.push(json!({
                "channel": name.channel, "accountId": name.account, "kind": "runtime", "message": error,
                "fix": "Look at the error, change what it names, and start it: channels.start.",
            }));
        }
        accounts.entry(name.channel.clone()).or_default().push(row);
    }
    let label = |name: &str| {
        estate.channels.channel(name).map_or_else(|| name.to_owned(), |channel| channel.label().to_owned())
    };
    let labels: BTreeMap<&String, String> = accounts.keys().map(|name| (name, label(name))).collect();
    let summary = |rows: &Vec<Value>| {
        let any = |what: &str| rows.iter().any(|row| row[what] == true);
        json!({ "configured": true, "running": any("running"), "connected": any("connected") })
    };
    let order: Vec<&String> = accounts.keys().collect();
    Ok(json!({
        "ts": estate.clock.now_ms(),
        "channelOrder": order,
        "channelLabels": labels,
        "channelDetailLabels": labels,
        "channelSystemImages": {},
        "channelMeta": order.iter().map(|name| json!({ "id": name, "label": label(name), "detailLabel": label(name) })).collect::<Vec<_>>(),
        "channels": accounts.iter().map(|(name, rows)| (name.clone(), summary(rows))).collect::<Map<_, _>>(),
        "channelDefaultAccountId": accounts.iter().map(|(name, rows)| (name.clone(), default_of(rows))).collect::<Map<_, _>>(),
        "channelAccounts": accounts,
        "statusIssues": issues,
    }))
}

fn default_of(rows: &[Value]) -> Value {
    let default = rows.iter().find(|row| row["accountId"] == DEFAULT_ACCOUNT);
    default.or(rows.first()).map_or(Value::Null, |row| row["accountId"].clone())
}

fn row(wiring: &Wiring, name: &AccountName, counts: Vec<(String, i64)>) -> Value {
    let condition = channels::condition(&wiring.store.estate, name);
    let mut row = condition.shown();
    row["user"] = json!(condition.status.user);
    row["dmPolicy"] = json!(settings(wiring, name).dm_policy);
    row["deliveries"] = counts.into_iter().map(|(state, n)| (state, json!(n))).collect::<Map<_, _>>().into();
    if let Some((messages, until)) = wiring.store.estate.channels.left_out(name) {
        row["botLoop"] = json!({ "leftOut": messages, "until": iso(until) });
    }
    row
}

fn settings(wiring: &Wiring, name: &AccountName) -> ChannelSettings {
    let config = wiring.store.estate.config.load();
    let accounts = config.settings.channels.accounts(&name.channel);
    let own = accounts.into_iter().find(|(account, _)| *account == name.account);
    own.and_then(|(_, own)| ChannelSettings::deserialize(own).ok()).unwrap_or_default()
}

pub(super) fn start(call: Call<'_>) {
    switch(call, "channels.start", ChannelsMsg::Start);
}

pub(super) fn stop(call: Call<'_>) {
    switch(call, "channels.stop", ChannelsMsg::Stop);
}

fn switch(call: Call<'_>, method: &str, make: fn(Vec<AccountName>, Reply<usize>) -> ChannelsMsg) {
    let Some((params, call)) = call.parse::<AccountParams>() else { return };
    let mut names = configured(call.wiring, Some(&params.channel));
    names.retain(|name| params.account_id.as_ref().is_none_or(|account| name.account == *account));
    if names.is_empty() {
        return call.responder.refuse(Refusal::invalid_request(format!("invalid {method} channel")));
    }
    let (channel, responder) = (params.channel.to_string(), call.responder);
    let done = Reply::new(move |accounts: Option<usize>| {
        // Without an answer the responder is dropped here, and says so.
        if let Some(accounts) = accounts {
            responder.ok(&Switched { channel, accounts });
        }
    });
    let _ = call.wiring.channels.send(make(names, done));
}

pub(super) fn presence(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let people = call.estate().people.all(call.estate().clock.now_ms());
    call.responder.ok(&Presence { people: people.iter().map(|person| json!(person)).collect() });
}

pub(super) fn pairing_list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PairingListParams>() else { return };
    let mut names = configured(call.wiring, params.channel.as_deref());
    names.retain(|name| params.account_id.as_deref().is_none_or(|account| account == name.account));
    names.retain(|name| settings(call.wiring, name).dm_policy == DmPolicy::Pairing);
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let wanted = names.clone();
        let contacts = wiring.store.read(move |c| {
            wanted.iter().map(|name| store::contacts(c, &name.channel)).collect::<Result<Vec<_>, _>>()
        });
        let contacts = match contacts.await {
            Ok(contacts) => contacts,
            Err(e) => return responder.refuse(store_refusal(&e)),
        };
        let label = |name: &AccountName| {
            wiring
                .store
                .estate
                .channels
                .channel(&name.channel)
                .map_or_else(|| name.channel.clone(), |c| c.label().to_owned())
        };
        let account = |name: &AccountName| PairingAccount {
            channel: name.channel.clone(),
            channel_label: label(name),
            account_id: name.account.clone(),
            notify_supported: true,
        };
        let of = |name: &AccountName, contact: &ContactRow| {
            (contact.account == name.account && contact.approved_at.is_none())
                .then(|| request(contact, label(name)))
        };
        let requests = names
            .iter()
            .zip(&contacts)
            .flat_map(|(name, contacts)| contacts.iter().filter_map(|c| of(name, c)));
        let requests: Vec<_> = requests.collect();
        responder.ok(&PairingList {
            accounts: names.iter().map(account).collect(),
            requests,
            command_owner_configured: true,
            limits: PairingLimits { pending_per_account: MAX_WAITING_CONTACTS, ttl_ms: CONTACT_WAITING_MS },
        });
    });
}

fn request(contact: &ContactRow, label: String) -> PairingRequest {
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    for name in ["name", "username"] {
        if let Some(text) = contact.meta.get(name).and_then(Value::as_str) {
            metadata.insert(name.into(), text.into());
        }
    }
    metadata.extend(contact.code.clone().map(|code| ("code".to_owned(), code)));
    PairingRequest {
        request_id: request_id(contact),
        channel: contact.channel.clone(),
        channel_label: label,
        account_id: contact.account.clone(),
        sender_id: contact.id.clone(),
        sender_label: "id".into(),
        metadata,
        created_at: iso(contact.created_at),
        last_seen_at: iso(contact.last_seen_at),
        expires_at: iso(contact.created_at + CONTACT_WAITING_MS),
        notify_supported: true,
    }
}

/// The same request for as long as somebody waits, and another one if they come again later.
fn request_id(contact: &ContactRow) -> String {
    let ContactRow { channel, account, id, created_at, .. } = contact;
    blake3::hash(format!("{channel}\n{account}\n{id}\n{created_at}").as_bytes()).to_hex()[..32].to_owned()
}

fn iso(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Who waits under this request.
async fn waiting(wiring: &Wiring, channel: String, account: &str, id: &str) -> Result<ContactRow, Refusal> {
    let contacts =
        wiring.store.read(move |c| store::contacts(c, &channel)).await.map_err(|e| store_refusal(&e))?;
    let mut waiting =
        contacts.into_iter().filter(|contact| contact.account == account && contact.approved_at.is_none());
    let gone = || Refusal::invalid_request("pending DM access request no longer exists");
    waiting.find(|contact| request_id(contact) == id).ok_or_else(gone)
}

pub(super) fn pairing_approve(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PairingApproveParams>() else { return };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move { responder.settle(approve(&wiring, params).await) });
}

async fn approve(wiring: &Arc<Wiring>, params: PairingApproveParams) -> Result<PairingApproved, Refusal> {
    let now = wiring.store.estate.clock.now_ms();
    let request_id = params.request_id.to_string();
    let contact = waiting(wiring, params.channel.to_string(), &params.account_id, &request_id).await?;
    let sender_id = contact.id.clone();
    let approved = ContactRow { code: None, approved_at: Some(now), last_seen_at: now, ..contact };
    let written = wiring.store.write(WriteOp::PutContact(approved)).await;
    written.map_err(|e| Refusal::failed(format!("nobody was let in: {e}")))?;
    let notify = params.notify == Some(true);
    if notify {
        let wish = Wish {
            id: format!("let-in-{request_id}"),
            channel: Some(params.channel.to_string()),
            account: Some(params.account_id.to_string()),
            to: sender_id.clone(),
            thread: None,
            reply_to: None,
            text: LET_IN.into(),
            files: Vec::new(),
        };
        let wiring = wiring.clone();
        // It is in the outbox at once; nobody waits for the platform.
        tokio::spawn(async move { send_wish(&wiring.store, wish).await });
    }
    Ok(PairingApproved {
        request_id,
        sender_id,
        notification: if notify { "sent" } else { "not-requested" }.into(),
        command_owner_bootstrap: "already-configured".into(),
    })
}

pub(super) fn pairing_dismiss(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PairingDismissParams>() else { return };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let dismissed = async {
            let contact =
                waiting(&wiring, params.channel.to_string(), &params.account_id, &params.request_id).await?;
            let sender_id = contact.id.clone();
            let remove =
                WriteOp::RemoveContact { channel: contact.channel, account: contact.account, id: contact.id };
            wiring.store.write(remove).await.map_err(|e| Refusal::failed(e.to_string()))?;
            Ok(PairingDismissed { request_id: params.request_id.to_string(), sender_id })
        };
        responder.settle(dismissed.await);
    });
}

pub(super) fn send(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<SendParams>() else { return };
    if params.media_url.is_some() || params.media_urls.is_some() || params.buffer.is_some() {
        return call.responder.refuse(Refusal::invalid_request("files cannot be sent yet; send text alone"));
    }
    let Some(text) = params.message.filter(|text| !text.trim().is_empty()) else {
        return call.responder.refuse(Refusal::message_required());
    };
    let key = params.idempotency_key.to_string();
    let wish = Wish {
        id: key.clone(),
        channel: params.channel.filter(|channel| !channel.is_empty()),
        account: params.account_id,
        to: params.to.to_string(),
        thread: params.thread_id,
        reply_to: params.reply_to_id,
        text,
        files: Vec::new(),
    };
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        match send_wish(&wiring.store, wish).await {
            Ok(Fate::Sent(row)) => responder.ok(&SendResult {
                run_id: key,
                message_id: row.platform_id.clone().unwrap_or_default(),
                channel: row.channel.clone(),
                chat_id: row.address["chat"].as_str().unwrap_or_default().to_owned(),
            }),
            Ok(Fate::Waits) => responder.refuse(
                Refusal::failed("the message waits for its channel, and is sent when that is there")
                    .with_retry(5_000),
            ),
            Ok(Fate::Failed(why)) => {
                responder.refuse(Refusal::failed(format!("the message was not sent: {why}")))
            }
            Err(why) => responder.refuse(Refusal::invalid_request(format!("Error: {why}"))),
        }
    });
}
