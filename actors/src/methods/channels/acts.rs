//! `poll`, and `message.action`: what clients do to messages of channels beside sending. What makes a message is a row
//! of the outbox, under the key of the request; what only changes one is done at once, and again it is the same.

use crate::channels::contract::{Act, Address, Capabilities, Poll, SendError};
use crate::channels::{
    AccountName, Doing, Fate, Parcel, Wish, act, address, deliver, send as send_wish, the_account,
};
use crate::connection::ConnectionMsg;
use crate::methods::Call;
use crate::store::{DeliveryRow, Store};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::channel_acts::{ActionParams, PollParams, PollResult};
use serde_json::{Map, Value, json};

/// How often what only waits for the platform is asked for again.
const WAITS_MS: u64 = 5_000;

pub(in crate::methods) fn poll(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PollParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move { responder.settle(polled(&store, params).await) });
}

async fn polled(store: &Store, params: PollParams) -> Result<PollResult, Refusal> {
    let key = params.idempotency_key.to_string();
    let channel = params.channel.as_deref().map(str::trim).filter(|channel| !channel.is_empty());
    if let Some(channel) = channel.filter(|channel| store.estate.channels.channel(channel).is_none()) {
        return Err(Refusal::invalid_request(format!("unsupported poll channel: {channel}")));
    }
    let account = params.account_id.as_deref();
    let name = the_account(&store.estate, channel, account).map_err(in_error)?;
    let asked = Asked {
        question: params.question.trim().to_owned(),
        options: params.options.iter().map(|option| option.trim().to_owned()).collect(),
        most: params.max_selections.map_or(1, |most| most.get()),
        seconds: params.duration_seconds.map(|seconds| seconds.get()),
        hours: params.duration_hours.map(|hours| hours.get()),
        anonymous: params.is_anonymous,
        silent: params.silent == Some(true),
    };
    let to = address(Some(&name.channel), &params.to, params.thread_id);
    let row = asked.send(store, &key, name, to).await?;
    Ok(PollResult {
        run_id: key,
        message_id: row.platform_id.clone().unwrap_or_default(),
        channel: row.channel.clone(),
        chat_id: chat(&row),
    })
}

/// A poll as somebody wants it.
struct Asked {
    question: String,
    options: Vec<String>,
    most: u64,
    seconds: Option<u64>,
    hours: Option<u64>,
    anonymous: Option<bool>,
    silent: bool,
}

impl Asked {
    /// What is wrong with it, and else the poll as a channel takes it.
    fn poll(self, id: String, channel: &str, can: Capabilities) -> Result<Poll, Refusal> {
        let unsupported = |what: &str| {
            Err(Refusal::invalid_request(format!("{what} is not supported for {channel} polls")))
        };
        let failed = |why: String| Err(Refusal::failed(format!("Error: {why}")));
        let Some(limits) = can.polls else {
            return Err(Refusal::invalid_request(format!("unsupported poll channel: {channel}")));
        };
        if self.seconds.is_some() && !limits.seconds {
            return unsupported("durationSeconds");
        }
        if self.anonymous.is_some() && !limits.anonymous {
            return unsupported("isAnonymous");
        }
        let options: Vec<String> = self.options.into_iter().filter(|option| !option.is_empty()).collect();
        if self.question.is_empty() {
            return failed("Poll question is required".into());
        }
        if options.len() < 2 {
            return failed("Poll requires at least 2 options".into());
        }
        if options.len() > limits.options {
            return failed(format!("Poll supports at most {} options", limits.options));
        }
        if self.most > options.len() as u64 {
            return failed("maxSelections cannot exceed option count".into());
        }
        if self.seconds.is_some() && self.hours.is_some() {
            return failed("durationSeconds and durationHours are mutually exclusive".into());
        }
        Ok(Poll {
            id,
            question: self.question,
            options,
            several: self.most > 1,
            seconds: self.seconds.or(self.hours.map(|hours| hours.saturating_mul(3600))),
            anonymous: self.anonymous,
            silent: self.silent,
        })
    }

    async fn send(
        self,
        store: &Store,
        key: &str,
        name: AccountName,
        to: Address,
    ) -> Result<DeliveryRow, Refusal> {
        let id = format!("poll-{key}");
        let can = store.estate.channels.capabilities(&name.channel);
        let poll = self.poll(id.clone(), &name.channel, can)?;
        let (text, extra) = (poll.question.clone(), json!({ "poll": poll }));
        made(deliver(store, Parcel { id, name, to, text, extra }).await)
    }
}

/// The row of a message that was made.
fn made(fate: Result<Fate, String>) -> Result<DeliveryRow, Refusal> {
    match fate {
        Ok(Fate::Sent(row)) => Ok(*row),
        Ok(Fate::Waits) => {
            Err(Refusal::failed("it waits for its channel, and is sent when that is there")
                .with_retry(WAITS_MS))
        }
        Ok(Fate::Failed(why)) => Err(Refusal::failed(format!("Error: {why}"))),
        Err(why) => Err(in_error(why)),
    }
}

fn in_error(why: String) -> Refusal {
    Refusal::invalid_request(format!("Error: {why}"))
}

fn chat(row: &DeliveryRow) -> String {
    row.address["chat"].as_str().unwrap_or_default().to_owned()
}

pub(in crate::methods) fn action(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ActionParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move { responder.settle(acted(&store, params).await) });
}

async fn acted(store: &Store, params: ActionParams) -> Result<Value, Refusal> {
    let channel = params.channel.trim();
    if channel == "webchat" {
        return Err(Refusal::invalid_request(
            "unsupported channel: webchat (internal-only). Use `chat.send` for WebChat UI messages or choose a \
             deliverable channel.",
        ));
    }
    if store.estate.channels.channel(channel).is_none() {
        return Err(Refusal::invalid_request(format!("unsupported channel: {channel}")));
    }
    let given = Given(&params.params);
    let account = match (params.account_id.as_deref(), given.text("accountId")) {
        (Some(one), Some(other)) if one != other => {
            return Err(Refusal::invalid_request("message.action accountId does not match params.accountId"));
        }
        (one, other) => one.map(str::to_owned).or(other),
    };
    let name = the_account(&store.estate, Some(channel), account.as_deref())
        .map_err(|why| Refusal::failed(format!("Error: {why}")))?;
    let doing = Action { store, name, given, key: &params.idempotency_key };
    match params.action.as_str() {
        "send" | "reply" => doing.say(params.reply.as_ref().map(|reply| reply.message().to_owned())).await,
        "poll" => doing.poll().await,
        "react" => doing.react().await,
        "edit" => doing.edit().await,
        "delete" | "unsend" => doing.delete().await,
        "pin" => doing.pin(true).await,
        "unpin" => doing.pin(false).await,
        other => Err(doing.unknown(other)),
    }
}

/// What an action is given, whatever it is called.
struct Given<'a>(&'a Map<String, Value>);

impl Given<'_> {
    /// A text, or a number written as one; nothing if it is empty.
    fn text(&self, name: &str) -> Option<String> {
        let text = match self.0.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    fn needed(&self, names: &[&str]) -> Result<String, Refusal> {
        self.first(names).ok_or_else(|| Refusal::failed(format!("Error: {} required", names[0])))
    }

    fn is(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == true || value == "true")
    }

    fn number(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let all = match self.0.get(name) {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::trim).collect(),
            Some(Value::String(one)) => vec![one.trim()],
            _ => Vec::new(),
        };
        all.into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }
}

/// An action on its way.
struct Action<'a> {
    store: &'a Store,
    name: AccountName,
    given: Given<'a>,
    key: &'a str,
}

impl Action<'_> {
    fn can(&self) -> Capabilities {
        self.store.estate.channels.capabilities(&self.name.channel)
    }

    fn unknown(&self, action: &str) -> Refusal {
        let channel = &self.name.channel;
        Refusal::invalid_request(format!("Message action {action} not supported for channel {channel}."))
    }

    /// The chat. Where a message is named with its chat in it, the kind of chat does not matter.
    fn at(&self) -> Result<Address, Refusal> {
        let to = self.given.needed(&["to", "target", "chatId", "channelId"])?;
        let named = self.given.0.contains_key("channelId") && self.given.first(&["to", "target"]).is_none();
        let to = if named && !to.contains(':') { format!("channel:{to}") } else { to };
        Ok(address(Some(&self.name.channel), &to, self.given.text("threadId")))
    }

    async fn say(&self, reply_to: Option<String>) -> Result<Value, Refusal> {
        if ["media", "mediaUrl", "path", "filePath", "buffer"]
            .iter()
            .any(|name| self.given.text(name).is_some())
        {
            return Err(Refusal::invalid_request("files cannot be sent yet; send text alone"));
        }
        let to = self.given.needed(&["to", "target", "chatId", "channelId"])?;
        let wish = Wish {
            id: self.key.to_owned(),
            channel: Some(self.name.channel.clone()),
            account: Some(self.name.account.clone()),
            to: to.clone(),
            thread: self.given.text("threadId"),
            reply_to: reply_to.or_else(|| self.given.first(&["replyTo", "replyToId"])),
            text: self.given.needed(&["message", "text", "content"])?,
            files: Vec::new(),
        };
        let row = made(send_wish(self.store, wish).await)?;
        let result = json!({ "messageId": row.platform_id, "chatId": chat(&row) });
        Ok(json!({
            "ok": true, "channel": row.channel, "to": to, "via": "direct", "mediaUrl": null, "result": result,
            "messageId": row.platform_id, "chatId": chat(&row),
        }))
    }

    async fn poll(&self) -> Result<Value, Refusal> {
        let several = self.given.is("pollMulti");
        let options = self.given.texts("pollOption");
        let asked = Asked {
            question: self.given.needed(&["pollQuestion", "question"])?,
            most: if several { options.len().max(1) as u64 } else { 1 },
            options,
            seconds: self.given.number("pollDurationSeconds"),
            hours: self.given.number("pollDurationHours"),
            anonymous: match (self.given.is("pollAnonymous"), self.given.is("pollPublic")) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            silent: self.given.is("silent"),
        };
        let (to, at) = (self.given.needed(&["to", "target", "chatId", "channelId"])?, self.at()?);
        let row = asked.send(self.store, self.key, self.name.clone(), at).await?;
        let result = json!({ "messageId": row.platform_id, "chatId": chat(&row) });
        Ok(json!({
            "ok": true, "channel": row.channel, "to": to, "via": "direct", "result": result,
            "messageId": row.platform_id, "chatId": chat(&row),
        }))
    }

    async fn react(&self) -> Result<Value, Refusal> {
        if !self.can().reactions {
            return Err(self.unknown("react"));
        }
        let remove = self.given.is("remove");
        let emoji = self.given.text("emoji");
        if remove && emoji.is_none() {
            let label = self.label();
            return Err(Refusal::failed(format!("Error: Emoji is required to remove a {label} reaction.")));
        }
        let shown = if remove { String::new() } else { emoji.unwrap_or_default() };
        let message = self.given.needed(&["messageId"])?;
        self.done(Doing::React { at: self.at()?, message, emoji: shown.clone() }).await?;
        Ok(if shown.is_empty() {
            json!({ "ok": true, "removed": true })
        } else {
            json!({ "ok": true, "added": shown })
        })
    }

    async fn edit(&self) -> Result<Value, Refusal> {
        let can = self.can();
        if can.edits.is_none() {
            return Err(self.unknown("edit"));
        }
        let text = self.given.needed(&["message", "text", "content"])?;
        if can.unit.of(&text) > can.text_limit {
            return Err(Refusal::invalid_request(format!(
                "a message has at most {} characters",
                can.text_limit
            )));
        }
        let extra = json!({ "edits": self.given.needed(&["messageId"])? });
        let (id, name, to) = (format!("edit-{}", self.key), self.name.clone(), self.at()?);
        let row = made(deliver(self.store, Parcel { id, name, to, text, extra }).await)?;
        Ok(json!({ "ok": true, "messageId": row.platform_id, "chatId": chat(&row) }))
    }

    async fn delete(&self) -> Result<Value, Refusal> {
        if !self.can().deletes {
            return Err(self.unknown("delete"));
        }
        let message = self.given.needed(&["messageId"])?;
        self.done(Doing::Act(self.at()?, Act::Delete(message))).await?;
        Ok(json!({ "ok": true, "deleted": true }))
    }

    async fn pin(&self, on: bool) -> Result<Value, Refusal> {
        let action = if on { "pin" } else { "unpin" };
        if !self.can().pins {
            return Err(self.unknown(action));
        }
        let message = self.given.needed(&["messageId"])?;
        let what = if on { Act::Pin(message) } else { Act::Unpin(message) };
        self.done(Doing::Act(self.at()?, what)).await?;
        Ok(json!({ "ok": true, "pinned": on }))
    }

    async fn done(&self, doing: Doing) -> Result<(), Refusal> {
        act(self.store, &self.name, doing).await.map(drop).map_err(|error| match error {
            SendError::Refused(why) => Refusal::failed(format!("Error: {why}")),
            SendError::Later { why, after } => {
                let wait =
                    after.map_or(WAITS_MS, |after| u64::try_from(after.as_millis()).unwrap_or(WAITS_MS));
                Refusal::failed(format!("Error: {why}")).with_retry(wait)
            }
            SendError::Unknown(why) => Refusal::failed(format!("Error: {why}")).with_retry(WAITS_MS),
        })
    }

    fn label(&self) -> String {
        let known = self.store.estate.channels.channel(&self.name.channel);
        known.map_or_else(|| self.name.channel.clone(), |channel| channel.label().to_owned())
    }
}
