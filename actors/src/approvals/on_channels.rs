//! People are asked on channels, too: what waits is a message with a button for each decision, which becomes the outcome
//! when it is over, wherever it was decided. The messages are rows under ids of the request, so that asking and telling
//! again changes nothing.

use super::card::{card, digest, handle};
use super::request::{Kind, Outcome};
use super::words::ending;
use crate::channels::contract::{Address, Kind as ChatKind};
use crate::channels::{AccountMsg, AccountName, Answer, address, approvers};
use crate::estate::Estate;
use crate::settings::{
    ApprovalFilter, ApprovalTarget, ChannelSettings, Forwarding, ForwardingMode, Settings,
};
use crate::store::{self, ApprovalRow, DeliveryRow, Store, StoreError, WriteOp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Chats in which one request is shown; the others are left out.
const MAX_TARGETS: usize = 20;

/// Whether one of these messages stands in a chat.
pub(super) fn shown_at(shown: &[DeliveryRow], name: &AccountName, at: &Address) -> bool {
    let here = |row: &&DeliveryRow| (&row.channel, &row.account) == (&name.channel, &name.account);
    shown.iter().filter(here).any(|row| row.address == json!(at))
}

/// Shows a request where it is to be.
pub(super) fn ask(store: &Store, kind: Kind, row: &ApprovalRow) {
    if kind == Kind::Question || !is_wanted(&store.estate.config.load().settings) {
        return;
    }
    let (store, row) = (store.clone(), row.clone());
    tokio::spawn(async move {
        if let Err(e) = show(&store, kind, &row).await {
            tracing::warn!(target: "crabtree::approvals", "a request was not shown on channels: {e}");
        }
    });
}

/// Tells what became of it, where it was shown.
pub(super) fn over(store: &Store, kind: Kind, row: &ApprovalRow) {
    if kind == Kind::Question {
        return;
    }
    let (store, row) = (store.clone(), row.clone());
    tokio::spawn(async move {
        if let Err(e) = settle(&store, &row).await {
            tracing::warn!(target: "crabtree::approvals", "the end of a request was not told on channels: {e}");
        }
    });
}

/// Whether somebody is reached on channels, as far as the configuration tells.
pub(super) fn is_route(estate: &Estate, kind: Kind, row: &ApprovalRow) -> bool {
    let settings = &estate.config.load().settings;
    let about = About::of(row);
    let forwarding = forwarding(settings, kind);
    let is_forwarded = forwarding.enabled
        && about.is_meant(&forwarding.filter)
        && forwarding.mode != ForwardingMode::Session
        && !forwarding.targets.is_empty();
    let asks = |(name, own): (AccountName, ChannelSettings)| {
        own.exec_approvals.asks(&name.channel)
            && about.is_meant(&own.exec_approvals.filter)
            && estate.channels.capabilities(&name.channel).buttons
            && estate.channels.status(&name).connected
            && !approvers(settings, &name, &own).ids.0.is_empty()
    };
    kind != Kind::Question && (is_forwarded || accounts(settings).into_iter().any(asks))
}

fn is_wanted(settings: &Settings) -> bool {
    let approvals = &settings.approvals;
    approvals.exec.enabled
        || approvals.plugin.enabled
        || accounts(settings).iter().any(|(name, own)| own.exec_approvals.asks(&name.channel))
}

fn accounts(settings: &Settings) -> Vec<(AccountName, ChannelSettings)> {
    let channels = &settings.channels;
    let of = |channel: &String| {
        let one = |(account, own): (String, Value)| {
            let name = AccountName { channel: channel.clone(), account };
            Some((name, ChannelSettings::deserialize(own).ok()?))
        };
        channels.accounts(channel).into_iter().filter_map(one).collect::<Vec<_>>()
    };
    channels.0.keys().filter(|name| *name != "defaults").flat_map(of).collect()
}

fn forwarding(settings: &Settings, kind: Kind) -> &Forwarding {
    if kind == Kind::Plugin { &settings.approvals.plugin } else { &settings.approvals.exec }
}

/// What a request is about, for filters.
struct About<'a> {
    agent: Option<&'a str>,
    session: Option<&'a str>,
}

impl<'a> About<'a> {
    fn of(row: &'a ApprovalRow) -> Self {
        let word = |name: &str| row.request.get(name).and_then(Value::as_str);
        Self { agent: word("agentId"), session: word("sessionKey") }
    }

    fn is_meant(&self, filter: &ApprovalFilter) -> bool {
        filter.admits(self.agent, self.session)
    }
}

/// Where the session that asks is talked to.
#[derive(Clone, Debug)]
struct Origin {
    name: AccountName,
    to: Address,
}

/// The chat the request says it comes from, or that of the message that is being answered.
async fn origin(store: &Store, row: &ApprovalRow) -> Result<Option<Origin>, StoreError> {
    let word = |name: &str| row.request.get(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(channel), Some(to)) = (word("turnSourceChannel"), word("turnSourceTo")) {
        let account = word("turnSourceAccountId").unwrap_or_else(|| crate::settings::DEFAULT_ACCOUNT.into());
        let to = address(Some(&channel), &to, word("turnSourceThreadId"));
        return Ok(Some(Origin { name: AccountName { channel, account }, to }));
    }
    let Some(run) = word("runId") else { return Ok(None) };
    let inputs = store.read(move |c| store::inputs_of_turn(c, &run)).await?;
    let last = inputs.iter().rev().find_map(Answer::of);
    Ok(last.map(|answer| Origin {
        name: AccountName { channel: answer.channel, account: answer.account },
        to: answer.to,
    }))
}

async fn show(store: &Store, kind: Kind, row: &ApprovalRow) -> Result<(), StoreError> {
    let origin = origin(store, row).await?;
    let targets = targets(store, kind, row, origin).await?;
    if targets.is_empty() {
        return Ok(());
    }
    let now = store.estate.clock.now_ms();
    let rows: Vec<_> = targets.iter().map(|(name, to)| message(&store.estate, row, name, to, now)).collect();
    deliver(store, rows).await?;
    let (kind, id) = (row.kind.clone(), row.id.clone());
    // Decided meanwhile, it has been told of before there was anything to be changed.
    match store.read(move |c| store::approval(c, &kind, &id)).await? {
        Some(row) if row.outcome.is_some() => settle(store, &row).await,
        _ => Ok(()),
    }
}

async fn targets(
    store: &Store,
    kind: Kind,
    row: &ApprovalRow,
    origin: Option<Origin>,
) -> Result<Vec<(AccountName, Address)>, StoreError> {
    let config = store.estate.config.load_full();
    let (settings, about) = (&config.settings, About::of(row));
    let mut targets = Vec::new();
    for (name, own) in accounts(settings) {
        let asks = own.exec_approvals.asks(&name.channel)
            && about.is_meant(&own.exec_approvals.filter)
            && store.estate.channels.capabilities(&name.channel).buttons
            // What is asked from elsewhere is decided there.
            && origin.as_ref().is_none_or(|origin| origin.name == name);
        if !asks {
            continue;
        }
        let target = own.exec_approvals.target;
        let here = origin.as_ref().filter(|_| target != ApprovalTarget::Dm);
        targets.extend(here.map(|origin| (name.clone(), origin.to.clone())));
        if target != ApprovalTarget::Channel || here.is_none() {
            let people = people(store, settings, &name, &own).await?;
            targets.extend(people.into_iter().map(|to| (name.clone(), to)));
        }
    }
    let forwarding = forwarding(settings, kind);
    if forwarding.enabled && about.is_meant(&forwarding.filter) {
        if forwarding.mode != ForwardingMode::Targets {
            targets.extend(origin.map(|origin| (origin.name, origin.to)));
        }
        if forwarding.mode != ForwardingMode::Session {
            targets.extend(forwarding.targets.iter().map(forwarded));
        }
    }
    let mut seen = BTreeSet::new();
    targets.retain(|target| seen.insert(target.clone()));
    targets.truncate(MAX_TARGETS);
    Ok(targets)
}

fn forwarded(target: &crate::settings::ForwardingTarget) -> (AccountName, Address) {
    let account = target.account_id.clone().unwrap_or_else(|| crate::settings::DEFAULT_ACCOUNT.into());
    let thread =
        target.thread_id.as_ref().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    let to = address(Some(&target.channel), &target.to, thread);
    (AccountName { channel: target.channel.clone(), account }, to)
}

/// The direct chats of those who may decide. A name alone is no chat.
async fn people(
    store: &Store,
    settings: &Settings,
    name: &AccountName,
    own: &ChannelSettings,
) -> Result<Vec<Address>, StoreError> {
    let who = approvers(settings, name, own);
    let mut ids: Vec<String> = who.ids.0.iter().map(|id| plain(id)).collect();
    if who.paired {
        let channel = name.channel.clone();
        let known = store.read(move |c| store::contacts(c, &channel)).await?;
        let paired = known.into_iter().filter(|one| one.account == name.account && one.approved_at.is_some());
        ids.extend(paired.map(|contact| contact.id));
    }
    let ids = ids.into_iter().filter(|id| !id.is_empty() && !id.starts_with('@'));
    Ok(ids.map(|chat| Address { chat_type: ChatKind::Direct, chat, thread: None }).collect())
}

fn plain(id: &str) -> String {
    id.rsplit_once(':').map_or(id, |(_, id)| id).trim().to_owned()
}

fn message(estate: &Estate, row: &ApprovalRow, name: &AccountName, to: &Address, now: i64) -> DeliveryRow {
    let (text, extra) = card(row, estate.channels.capabilities(&name.channel));
    let target = digest(&format!("{}\n{}", name.path(), json!(to)));
    fresh(format!("{}-{target}", handle(row)), (name, json!(to)), text, extra, now)
}

fn fresh(
    id: String,
    (name, address): (&AccountName, Value),
    text: String,
    extra: Value,
    now: i64,
) -> DeliveryRow {
    let place = (&*name.channel, &*name.account);
    DeliveryRow { extra, ..DeliveryRow::queued(id, place, address, text, now) }
}

/// Puts the outcome in the place of the buttons.
async fn settle(store: &Store, row: &ApprovalRow) -> Result<(), StoreError> {
    if Outcome::stored(row).is_none() {
        return Ok(());
    }
    let (handle, now) = (handle(row), store.estate.clock.now_ms());
    let begins = format!("{handle}-");
    let shown = store.read(move |c| store::deliveries_like(c, &begins)).await?;
    let end = ending(row.clone());
    let told = |asked: &DeliveryRow| {
        let name = AccountName { channel: asked.channel.clone(), account: asked.account.clone() };
        let id = format!("over-{}", asked.id);
        let (text, extra) = match store.estate.channels.capabilities(&asked.channel).edits {
            Some(_) => (format!("{}\n\n{end}", asked.text), json!({ "editsDelivery": asked.id })),
            None => (format!("{end}\nID: `{handle}`"), json!({})),
        };
        fresh(id, (&name, asked.address.clone()), text, extra, now)
    };
    deliver(store, shown.iter().map(told).collect()).await
}

async fn deliver(store: &Store, rows: Vec<DeliveryRow>) -> Result<(), StoreError> {
    let names: BTreeSet<AccountName> = rows
        .iter()
        .map(|row| AccountName { channel: row.channel.clone(), account: row.account.clone() })
        .collect();
    if !rows.is_empty() {
        store.write(WriteOp::Deliver(rows)).await?;
    }
    for name in names {
        // One that is not there reads its rows when it is.
        let _ = store.estate.channels.slot(&name).send(AccountMsg::Deliver);
    }
    Ok(())
}
