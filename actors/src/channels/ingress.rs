//! In: a message of a channel becomes an input of the session it belongs to, or something else, or nothing. Whatever
//! becomes of it is durable when this has resolved, and the same message again changes nothing. (What `/compact` answers
//! takes a model's time, and comes later.)

use super::access::{self, Verdict};
use super::activation::{self, Manners};
use super::bindings::{self, From};
use super::contract::{Attachment, Envelope, Kind};
use super::outgoing::{self, Answer};
use super::roster::AccountName;
use super::route::route;
use crate::agents::Catalog;
use crate::approvals::words;
use crate::gateway::Wiring;
use crate::methods::chat::{Spoken, Taken, said_on_channel};
use crate::routing::{self, Scopes, Source};
use crate::settings::{ChannelSettings, Settings};
use crate::store::{self, ContactRow, OverheardRow, SessionRecord, WriteOp};
use crabtree_protocol::{Refusal, RunId, SessionKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a session that takes nothing is waited for. Whoever else writes to the account waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is not waited for after that.
const WORN_OUT: Duration = Duration::from_secs(60);
/// How much of what was overheard is told, unless `historyLimit` says otherwise.
const HISTORY: usize = 50;
/// Letters of a pairing code, without those that look like others.
const CODE_LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Letters of the name of an answer: as good as unique.
const ID_LETTERS: usize = 32;
/// Letters of one code.
const CODE_LENGTH: usize = 8;

/// The account a message came in at.
#[derive(Clone)]
pub struct Desk {
    /// The gateway.
    pub wiring: Arc<Wiring>,
    /// Which account.
    pub name: AccountName,
    /// What all channels have.
    pub settings: Arc<ChannelSettings>,
    /// Sessions that took nothing for as long as anybody waited, and since when: the next one is not waited for.
    pub worn_out: Arc<Mutex<HashMap<SessionKey, Instant>>>,
}

impl Desk {
    /// Whether a message may take its time, as commands do; others are taken in one after another.
    pub fn may_wait(envelope: &Envelope) -> bool {
        envelope.text.trim_start().starts_with('/')
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// The store does not take it: it has to come again.
    pub async fn take_in(&self, envelope: &Envelope) -> Result<(), String> {
        if let Some(words) = words::said(&envelope.text) {
            return self.approve(envelope, words).await;
        }
        match self.verdict(envelope).await? {
            Verdict::Ignored(why) => {
                tracing::debug!(target: "crabtree::channels", account = %self.name.path(), "not heard: {why}");
                Ok(())
            }
            Verdict::Pair => self.pair(envelope).await,
            Verdict::Heard { owner } => self.hear(envelope, owner).await,
        }
    }

    pub(super) async fn verdict(&self, envelope: &Envelope) -> Result<Verdict, String> {
        let verdict = access::verdict(&self.settings, envelope, false);
        if matches!(verdict, Verdict::Ignored(_) | Verdict::Heard { owner: true }) {
            return Ok(verdict);
        }
        let known = self.contact(&envelope.from.id).await?;
        let paired = known.is_some_and(|contact| contact.approved_at.is_some());
        Ok(access::verdict(&self.settings, envelope, paired))
    }

    pub(super) async fn contact(&self, id: &str) -> Result<Option<ContactRow>, String> {
        let (name, id) = (self.name.clone(), id.to_owned());
        self.read(move |c| store::contact(c, &name.channel, &name.account, &id)).await
    }

    /// Gives somebody a code, the same one for as long as it is good, and says it once.
    async fn pair(&self, envelope: &Envelope) -> Result<(), String> {
        let now = self.now();
        let known = self.contact(&envelope.from.id).await?;
        let fresh = known.is_none();
        let mut contact = known.unwrap_or_else(|| ContactRow {
            channel: self.name.channel.clone(),
            account: self.name.account.clone(),
            id: envelope.from.id.clone(),
            code: Some(code()),
            meta: json!(envelope.from),
            created_at: now,
            last_seen_at: now,
            approved_at: None,
        });
        contact.last_seen_at = now;
        let code = contact.code.clone().unwrap_or_default();
        let mut ops = vec![WriteOp::PutContact(contact)];
        if fresh {
            let text = format!(
                "You are not known here yet. Your {} id is {}.\n\nPairing code: {code}\n\nThe owner lets you in with:\n\
                 crabtree channels approve {} {code}",
                self.name.channel, envelope.from.id, self.name.channel
            );
            ops.push(WriteOp::Deliver(self.answer(envelope, "pair").rows(&text, now)));
        }
        self.write(WriteOp::All(ops)).await?;
        self.poke();
        Ok(())
    }

    async fn hear(&self, envelope: &Envelope, owner: bool) -> Result<(), String> {
        self.report_uncertain(envelope).await?;
        for key in self.sessions(envelope)? {
            self.say(envelope, owner, key).await?;
        }
        Ok(())
    }

    /// The sessions it belongs to: one, or that of each agent of a broadcast group.
    pub(super) fn sessions(&self, envelope: &Envelope) -> Result<Vec<SessionKey>, String> {
        let estate = &self.wiring.store.estate;
        let (config, catalog) = (estate.config.load(), estate.catalog.load());
        let settings = &config.settings;
        let from = From { channel: &self.name.channel, account: &self.name.account, envelope };
        let binding = bindings::binding(&settings.bindings, from);
        let mut scopes = Scopes::from(&settings.session);
        if let Some(binding) = binding {
            scopes.dm = binding.session.dm_scope.unwrap_or(scopes.dm);
            scopes.group = binding.session.group_scope.unwrap_or(scopes.group);
        }
        let mut agents = settings.broadcast.of(&envelope.at.chat);
        agents.retain(|id| catalog.agent(id).is_some());
        if agents.is_empty() {
            agents.push(self.agent(binding.map(|binding| &*binding.agent_id), &catalog));
        }
        agents.iter().map(|agent| self.key(agent, scopes, settings, envelope)).collect()
    }

    fn agent(&self, bound: Option<&str>, catalog: &Catalog) -> String {
        if let Some(bound) = bound
            && catalog.agent(bound).is_none()
        {
            tracing::warn!(target: "crabtree::channels", agent = bound,
                "a binding names an agent that does not exist; the default one answers");
        }
        bound.filter(|id| catalog.agent(id).is_some()).unwrap_or(&catalog.default_agent().id).to_owned()
    }

    fn key(
        &self,
        agent: &str,
        scopes: Scopes,
        settings: &Settings,
        envelope: &Envelope,
    ) -> Result<SessionKey, String> {
        let thread = envelope.at.thread.as_deref();
        let is_direct = envelope.at.chat_type == Kind::Direct;
        let own = thread.filter(|_| envelope.place.own_sessions);
        let source = Source {
            channel: &self.name.channel,
            account: Some(&self.name.account),
            chat_type: envelope.at.chat_type.into(),
            peer: if is_direct { &envelope.from.id } else { &envelope.at.chat },
            topic: own.filter(|_| !is_direct),
            thread: own.filter(|_| is_direct),
        };
        let key = routing::session_key(agent, scopes, &settings.session.identity_links, &source);
        key.map_err(|refusal| refusal.message)
    }

    async fn say(&self, envelope: &Envelope, owner: bool, key: SessionKey) -> Result<(), String> {
        let answer = self.answer(envelope, key.as_str());
        // Under a name of its own: the answer's is for the answer.
        let refused = Answer { id: format!("{}:refused", answer.id), ..answer.clone() };
        let source = (self.name.source(), format!("{} {key}", envelope.id));
        let (name, prefix, seen) = (key.to_string(), refused.id.clone(), source.clone());
        let seen = move |c: &store::Connection| {
            let was_refused = !store::deliveries_like(c, &prefix)?.is_empty();
            let is_over = was_refused || store::input_by_source(c, &seen.0, &seen.1)?.is_some();
            Ok((store::session(c, &name)?, store::overheard(c, &name)?, is_over))
        };
        let (record, overheard, is_over) = self.read(seen).await?;
        if is_over {
            return Ok(());
        }
        let Some(priority) = self.priority(envelope, &key, record.as_ref()) else {
            return self.overhear(envelope, &key).await;
        };
        if envelope.from.is_bot && !self.answers_program(envelope, &key) {
            return Ok(());
        }
        let route = route(&self.settings, envelope, &key, &answer);
        let told: Vec<i64> = overheard.iter().map(|(seq, _)| *seq).collect();
        let spoken = Spoken {
            run_id: RunId::from(answer.id.as_str()),
            source: source.clone(),
            text: text(envelope, owner, overheard.iter().map(|(_, heard)| heard)),
            command: owner.then(|| envelope.text.trim().to_owned()),
            sender: self.sender(envelope, owner),
            who: format!("{} ({} {})", who(envelope), self.name.channel, envelope.from.id),
            extra: json!({ "channel": answer, "route": route, "overheard": told, "stranger": !owner }),
            priority,
            files: files(envelope),
            patience: self.patience(&key),
            key,
        };
        let asked = Instant::now();
        let said = said_on_channel(&self.wiring, &spoken).await;
        self.note(&spoken.key, asked, said.is_ok());
        match said {
            Ok(Taken::In) => Ok(()),
            Ok(Taken::Answered(text)) => self.say_back(&answer, Ok(text)).await,
            Ok(Taken::Answering(answering)) => {
                let desk = self.clone();
                tokio::spawn(async move {
                    if let Err(why) = desk.say_back(&answer, answering.await).await {
                        tracing::warn!(target: "crabtree::channels", account = %desk.name.path(),
                            "a command's answer was not kept: {why}");
                    }
                });
                Ok(())
            }
            Err(refusal) => {
                let taken = self.read(move |c| store::input_by_source(c, &source.0, &source.1)).await?;
                // Or else the session took it, and was lost before it could say so.
                if taken.is_none() { self.say_back(&refused, Err(refusal)).await } else { Ok(()) }
            }
        }
    }

    /// How long a session is waited for that takes nothing.
    fn patience(&self, key: &SessionKey) -> Duration {
        let worn_out = self.worn_out.lock().get(key).is_some_and(|since| since.elapsed() < WORN_OUT);
        if worn_out { Duration::ZERO } else { PATIENCE }
    }

    /// Notes whether a session has taken something, or was waited for in vain.
    fn note(&self, key: &SessionKey, asked: Instant, has_taken: bool) {
        let mut worn_out = self.worn_out.lock();
        worn_out.retain(|_, since| since.elapsed() < WORN_OUT);
        if has_taken {
            worn_out.remove(key);
        } else if asked.elapsed() >= PATIENCE {
            worn_out.insert(key.clone(), Instant::now());
        }
    }

    /// Sends what a command has answered, or why nothing became of a message.
    async fn say_back(&self, answer: &Answer, told: Result<String, Refusal>) -> Result<(), String> {
        let text = told.unwrap_or_else(|refusal| {
            tracing::warn!(target: "crabtree::channels", account = %self.name.path(),
                "a message was refused: {}", refusal.message);
            format!("⚠️ {}", refusal.message)
        });
        self.write(WriteOp::Deliver(answer.rows(&text, self.now()))).await?;
        self.poke();
        Ok(())
    }

    fn priority(&self, envelope: &Envelope, key: &SessionKey, record: Option<&SessionRecord>) -> Option<i64> {
        let catalog = self.wiring.store.estate.catalog.load();
        let agent = catalog.agent(key.agent_id());
        let name = agent.and_then(|agent| agent.name.as_deref());
        let manners = Manners {
            activation: record.and_then(|record| record.entry.get("groupActivation")?.as_str()),
            require_mention: access::group_entry(&self.settings, envelope)
                .and_then(|entry| entry.require_mention),
            names: [Some(key.agent_id()), name].into_iter().flatten().collect(),
        };
        activation::priority(envelope, &manners)
    }

    /// It is told with the next message that is for the agent.
    async fn overhear(&self, envelope: &Envelope, key: &SessionKey) -> Result<(), String> {
        let most = self.settings.history_limit.unwrap_or(HISTORY);
        let row = OverheardRow {
            session_key: key.to_string(),
            source: self.name.source(),
            source_id: envelope.id.clone(),
            from: who(envelope),
            text: envelope.text.clone(),
            at: self.now(),
        };
        self.write(WriteOp::Overhear { row, most: u32::try_from(most).unwrap_or(u32::MAX) }).await
    }

    /// People hear of what may not have reached them when they are next in contact.
    async fn report_uncertain(&self, envelope: &Envelope) -> Result<(), String> {
        let (name, address) = (self.name.clone(), json!(envelope.at));
        let lost = self.read(move |c| store::unreported(c, &name.channel, &name.account, &address)).await?;
        let Some(first) = lost.first() else { return Ok(()) };
        let ids: Vec<String> = lost.iter().map(|row| row.id.clone()).collect();
        let answer =
            Answer { id: format!("{}:report", first.id), reply_to: None, ..self.answer(envelope, "report") };
        let with = answer.rows(&outgoing::report(&lost), self.now()).swap_remove(0);
        self.write(WriteOp::ReportUncertain { ids, with }).await?;
        self.poke();
        Ok(())
    }

    /// Where answers to a message go, under a name that is the same for the same message.
    pub(super) fn answer(&self, envelope: &Envelope, about: &str) -> Answer {
        let told = format!("{}\n{}\n{about}", self.name.source(), envelope.id);
        let id = &blake3::hash(told.as_bytes()).to_hex()[..ID_LETTERS];
        Answer {
            id: format!("in-{id}"),
            channel: self.name.channel.clone(),
            account: self.name.account.clone(),
            to: envelope.at.clone(),
            // In a direct chat everybody knows what is answered.
            reply_to: (envelope.at.chat_type != Kind::Direct).then(|| envelope.id.clone()),
            capabilities: self.wiring.store.estate.channels.capabilities(&self.name.channel).into(),
        }
    }

    fn sender(&self, envelope: &Envelope, owner: bool) -> Value {
        json!({
            "senderIsOwner": owner,
            "senderId": envelope.from.id,
            "senderName": envelope.from.name,
            "senderUsername": envelope.from.username,
            "channel": self.name.channel,
            "accountId": self.name.account,
            "messageId": envelope.id,
            "transport": { "clients": [{ "id": self.name.channel, "mode": "channel" }] },
        })
    }

    /// There is something to send.
    pub(super) fn poke(&self) {
        let slot = self.wiring.store.estate.channels.slot(&self.name);
        let _ = slot.send(super::account::AccountMsg::Deliver);
    }

    pub(super) fn now(&self) -> i64 {
        self.wiring.store.estate.clock.now_ms()
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&store::Connection) -> Result<T, store::StoreError> + Send + 'static,
    ) -> Result<T, String> {
        self.wiring.store.read(query).await.map_err(|e| e.to_string())
    }

    pub(super) async fn write(&self, op: WriteOp) -> Result<(), String> {
        self.wiring.store.write(op).await.map(|_| ()).map_err(|e| e.to_string())
    }
}

fn code() -> String {
    let letter = |byte: &u8| char::from(CODE_LETTERS[usize::from(*byte) % CODE_LETTERS.len()]);
    Uuid::new_v4().as_bytes()[..CODE_LENGTH].iter().map(letter).collect()
}

fn files(envelope: &Envelope) -> Vec<(String, Option<String>, Vec<u8>)> {
    let one = |a: &Attachment| (a.mime_type.clone(), a.file_name.clone(), a.bytes.clone());
    envelope.attachments.iter().map(one).collect()
}

fn who(envelope: &Envelope) -> String {
    let from = &envelope.from;
    from.name.clone().or_else(|| from.username.clone()).unwrap_or_else(|| from.id.clone())
}

/// What the agent reads: who says it, where there may be others; what it answers to; and what was said meanwhile.
fn text<'a>(envelope: &Envelope, owner: bool, overheard: impl Iterator<Item = &'a OverheardRow>) -> String {
    let mut text = String::new();
    let mut heard = overheard.peekable();
    if heard.peek().is_some() {
        text.push_str("[Said in this chat since your last answer, for context]\n");
        heard.for_each(|row| text.push_str(&format!("{}: {}\n", row.from, row.text)));
        text.push_str("[The message for you]\n");
    }
    if let Some(quote) = &envelope.quote {
        let from = quote.from.as_deref().map(|from| format!(" to {from}")).unwrap_or_default();
        text.push_str(&format!("[In reply{from}: {}]\n", quote.text));
    }
    if envelope.at.chat_type != Kind::Direct || !owner {
        text.push_str(&format!("{}: ", who(envelope)));
    }
    text.push_str(&envelope.text);
    text
}

#[cfg(test)]
mod tests {
    use super::super::contract::{Quote, Sender};
    use super::super::testing::envelope;
    use super::*;

    #[test]
    fn the_agent_reads_who_speaks_and_what_was_said_meanwhile() {
        let mut message = envelope(Kind::Group, "G");
        message.from = Sender { id: "7".into(), name: Some("Ann".into()), ..Sender::default() };
        message.quote = Some(Quote { id: "0".into(), from: Some("Bob".into()), text: "lunch?".into() });
        let row = OverheardRow {
            session_key: String::new(),
            source: String::new(),
            source_id: String::new(),
            from: "Bob".into(),
            text: "lunch?".into(),
            at: 0,
        };
        assert_eq!(
            text(&message, true, [&row].into_iter()),
            "[Said in this chat since your last answer, for context]\nBob: lunch?\n[The message for you]\n\
             [In reply to Bob: lunch?]\nAnn: hello"
        );
        let direct = envelope(Kind::Direct, "7");
        assert_eq!(text(&direct, true, [].into_iter()), "hello");
        let stranger = Envelope { text: "/tool exec {}".into(), ..direct };
        assert_eq!(
            text(&stranger, false, [].into_iter()),
            "7: /tool exec {}",
            "no command of the offline model"
        );
    }

    #[test]
    fn a_pairing_code_is_short_and_cannot_be_misread() {
        let code = code();
        assert_eq!(code.len(), CODE_LENGTH);
        assert!(code.bytes().all(|letter| CODE_LETTERS.contains(&letter)), "{code}");
    }
}
