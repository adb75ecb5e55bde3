//! Sending without being asked: `send`, and whoever in the gateway has something to say.

use super::account::AccountMsg;
use super::contract::{Address, Kind};
use super::ordered::Enclosure;
use super::outgoing::Answer;
use super::roster::AccountName;
use crate::estate::Estate;
use crate::settings::DEFAULT_ACCOUNT;
use crate::store::{self, DeliveryRow, DeliveryState, Store, WriteOp};
use serde_json::{Value, json};
use std::time::Duration;

/// How long is waited for a message to be sent; it is sent later then.
const LIMIT: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be sent.
pub struct Wish {
    /// The same again is one message.
    pub id: String,
    /// The channel; the only one if none is named.
    pub channel: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The chat, as people write it.
    pub to: String,
    /// The thread in it.
    pub thread: Option<String>,
    /// The message it replies to.
    pub reply_to: Option<String>,
    /// What it says, in Markdown.
    pub text: String,
    /// What goes after that, a message each.
    pub files: Vec<Enclosure>,
}

/// What became of it.
#[derive(Debug)]
pub enum Fate {
    /// The platform has it: the last of its messages.
    Sent(Box<DeliveryRow>),
    /// It waits for the platform.
    Waits,
    /// It will not be sent, or nobody knows whether it was.
    Failed(String),
}

/// A message in one piece, with what goes with it.
pub struct Parcel {
    /// The same again is one message.
    pub id: String,
    /// The account.
    pub name: AccountName,
    /// The chat.
    pub to: Address,
    /// What it says, in Markdown.
    pub text: String,
    /// What goes with it: `replyTo`, `edits`, `buttons`, `poll`.
    pub extra: Value,
}

/// Sends it, and waits for what becomes of it.
///
/// # Errors
/// What is wrong with the wish, and what to do.
pub async fn send(store: &Store, wish: Wish) -> Result<Fate, String> {
    let estate = &store.estate;
    let name = the_account(estate, wish.channel.as_deref(), wish.account.as_deref())?;
    let answer = Answer {
        id: format!("send-{}", wish.id),
        channel: name.channel.clone(),
        account: name.account.clone(),
        to: address(wish.channel.as_deref(), &wish.to, wish.thread.clone()),
        reply_to: wish.reply_to.clone(),
        capabilities: estate.channels.capabilities(&name.channel).into(),
    };
    if !wish.files.is_empty() && !estate.channels.capabilities(&name.channel).files {
        return Err(format!("{} takes no files: send the text alone", name.channel));
    }
    let mut rows = answer.rows(&wish.text, estate.clock.now_ms());
    rows.extend(answer.enclosures(&wish.files, estate.clock.now_ms()));
    sent(store, &name, rows).await
}

/// The same with a parcel.
///
/// # Errors
/// The store does not take it.
pub async fn deliver(store: &Store, parcel: Parcel) -> Result<Fate, String> {
    let now = store.estate.clock.now_ms();
    let row = DeliveryRow {
        extra: parcel.extra,
        ..DeliveryRow::queued(
            parcel.id,
            (&parcel.name.channel, &parcel.name.account),
            json!(parcel.to),
            parcel.text,
            now,
        )
    };
    sent(store, &parcel.name, vec![row]).await
}

async fn sent(store: &Store, name: &AccountName, rows: Vec<DeliveryRow>) -> Result<Fate, String> {
    let Some(last) = rows.last().map(|row| row.id.clone()) else {
        return Err("there is nothing to say".into());
    };
    store.write(WriteOp::Deliver(rows)).await.map_err(|e| e.to_string())?;
    let _ = store.estate.channels.slot(name).send(AccountMsg::Deliver);
    fate(store, &last).await
}

/// What becomes of a message that is in the store; it is waited for.
///
/// # Errors
/// The store cannot be read, or has no such message.
pub async fn fate(store: &Store, id: &str) -> Result<Fate, String> {
    let until = tokio::time::Instant::now() + LIMIT;
    while tokio::time::Instant::now() < until {
        let id = id.to_owned();
        let row = store.read(move |c| store::delivery_by_id(c, &id)).await.map_err(|e| e.to_string())?;
        let Some(row) = row else { return Err("the message is gone".into()) };
        match row.state {
            DeliveryState::Sent => return Ok(Fate::Sent(Box::new(row))),
            DeliveryState::Failed => return Ok(Fate::Failed(row.error.unwrap_or_default())),
            DeliveryState::Uncertain => {
                return Ok(Fate::Failed("nobody knows whether it was sent; it is not sent again".into()));
            }
            DeliveryState::Queued | DeliveryState::Sending => tokio::time::sleep(LOOK).await,
        }
    }
    Ok(Fate::Waits)
}

/// The account that is meant.
///
/// # Errors
/// There is none, or more than one could be.
pub fn the_account(
    estate: &Estate,
    channel: Option<&str>,
    account: Option<&str>,
) -> Result<AccountName, String> {
    let config = estate.config.load();
    let channels = &config.settings.channels;
    let configured: Vec<&String> =
        channels.0.keys().filter(|name| !channels.accounts(name).is_empty()).collect();
    let channel = match (channel, &configured[..]) {
        (Some(channel), configured) => match configured.iter().find(|name| **name == channel) {
            Some(found) => *found,
            None => return Err(format!("channel {channel} is not configured")),
        },
        (None, [only]) => only,
        (None, []) => return Err("Channel is required (no configured channels detected).".into()),
        (None, many) => {
            let names = many.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(format!("Channel is required when several are configured: {names}."));
        }
    };
    let accounts = channels.accounts(channel);
    let account = match account.filter(|account| !account.is_empty()) {
        Some(wanted) => accounts.iter().find(|(id, _)| id == wanted),
        None => accounts.iter().find(|(id, _)| id == DEFAULT_ACCOUNT).or(accounts.first()),
    };
    let (account, _) = account.ok_or_else(|| format!("channel {channel} has no such account"))?;
    Ok(AccountName { channel: channel.clone(), account: account.clone() })
}

/// A chat as people write it: `group:ID`, `channel:ID`, `user:ID`, or an id alone, which is a person's; the channel may
/// stand before it.
pub fn address(channel: Option<&str>, to: &str, thread: Option<String>) -> Address {
    let to = to.trim();
    let to = channel.and_then(|channel| to.strip_prefix(channel)?.strip_prefix(':')).unwrap_or(to);
    let (chat_type, chat) = match to.split_once(':') {
        Some(("group", id)) => (Kind::Group, id),
        Some(("channel", id)) => (Kind::Channel, id),
        Some(("user" | "direct" | "dm", id)) => (Kind::Direct, id),
        _ => (Kind::Direct, to),
    };
    Address { chat_type, chat: chat.to_owned(), thread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_written_with_its_kind_or_is_a_persons() {
        let at = |to: &str| {
            let address = address(Some("telegram"), to, None);
            (address.chat_type, address.chat)
        };
        assert_eq!(at("123"), (Kind::Direct, "123".into()));
        assert_eq!(at("telegram:123"), (Kind::Direct, "123".into()));
        assert_eq!(at("group:-100:7"), (Kind::Group, "-100:7".into()));
        assert_eq!(at("telegram:channel:@news"), (Kind::Channel, "@news".into()));
    }
}
