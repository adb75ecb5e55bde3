//! Whom a request is for: the agent, the session and the model that thinks, by `model`, `user` and headers.

use super::conversation::Conversation;
use super::{IDEMPOTENCY_KEY, Wrong};
use crabtree_actors::agents::Catalog;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::methods::{Answering, Question, ask};
use crabtree_protocol::{RunId, SessionKey};
use std::sync::Arc;
use uuid::Uuid;
use warp::http::{HeaderMap, StatusCode};

/// The default agent.
pub const ROOT: &str = "openclaw";
/// The same.
pub const DEFAULT: &str = "openclaw/default";
/// Before the id of an agent.
pub const PREFIX: &str = "openclaw/";
/// Other ways to name an agent.
const ALIASES: [&str; 3] = [PREFIX, "openclaw:", "agent:"];

/// See the module.
pub struct Target {
    /// The session.
    pub key: SessionKey,
    /// The run.
    pub run_id: RunId,
    /// `provider/model`, if it is not the agent's own.
    pub model: Option<String>,
    /// Whether the session is one of this request's own: nobody has spoken there before.
    pub is_fresh: bool,
    client: &'static str,
}

/// How an endpoint calls its things.
pub struct Names {
    /// Before the id of an answer.
    pub answer: &'static str,
    /// Before the sessions that it makes.
    pub session: &'static str,
    /// Who asks, as transcripts keep it.
    pub client: &'static str,
}

/// What a request says of whom it is for.
pub struct Said<'a> {
    /// `model`
    pub model: &'a str,
    /// `user`
    pub user: Option<&'a str>,
    /// The session of the answer that this one goes on after.
    pub after: Option<SessionKey>,
}

impl Target {
    /// Whom it is for.
    pub fn of(said: Said<'_>, headers: &HeaderMap, names: &Names, catalog: &Catalog) -> Result<Self, Wrong> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let given = |name| header(name).filter(|value| !value.is_empty());
        let agent = agent(said.model, given("x-openclaw-agent-id"), catalog)?;
        let model = given("x-openclaw-model").map(|name| model(name, catalog)).transpose()?;
        // The same key is the same run in the same session.
        let own = given(IDEMPOTENCY_KEY).map_or_else(Uuid::new_v4, of_key);
        let user = said.user.map(str::trim).filter(|user| !user.is_empty());
        let (named, is_fresh) = match (given("x-openclaw-session-key"), user) {
            (Some(key), _) => (key.to_owned(), false),
            (None, None) => (format!("{}:{own}", names.session), true),
            (None, Some(user)) => (format!("{}-user:{}", names.session, plain(user)), false),
        };
        if SessionKey::is_reserved(&named) {
            return Err(Wrong::request(
                "`x-openclaw-session-key` cannot use reserved internal session namespaces.",
            ));
        }
        let (key, is_fresh) = match said.after {
            Some(key) => (key, false),
            None => (SessionKey::canonical(&named, agent)?, is_fresh),
        };
        let run_id = RunId::from(format!("{}_{own}", names.answer));
        Ok(Self { key, run_id, model, is_fresh, client: names.client })
    }

    /// Puts the question there.
    pub fn ask(self, asked: Conversation, wiring: &Arc<Wiring>) -> Result<Answering, Wrong> {
        let question = Question {
            key: self.key,
            run_id: self.run_id,
            files: asked.files()?,
            text: asked.text,
            model: self.model,
            instructions: asked.instructions,
            client: self.client,
        };
        Ok(ask(wiring, question))
    }
}

fn agent<'a>(model: &'a str, header: Option<&'a str>, catalog: &'a Catalog) -> Result<&'a str, Wrong> {
    let named = ALIASES.iter().find_map(|prefix| model.strip_prefix(prefix)).filter(|id| !id.is_empty());
    let id = match (header, named) {
        (Some(id), _) => id,
        (None, _) if model == ROOT || model == DEFAULT => &catalog.default_agent().id,
        (None, Some(id)) => id,
        (None, None) => {
            return Err(Wrong::request("Invalid `model`. Use `openclaw` or `openclaw/<agentId>`."));
        }
    };
    catalog.agent(id).map(|agent| &*agent.id).ok_or_else(|| Wrong::request(format!("Unknown agent '{id}'.")))
}

fn model(name: &str, catalog: &Catalog) -> Result<String, Wrong> {
    if catalog.model(name).is_some() {
        return Ok(name.to_owned());
    }
    let message = format!("Unknown model: {name}. `models.list` tells which there are.");
    Err(Wrong { status: StatusCode::NOT_FOUND, ..Wrong::request(message) })
}

/// A name that is the same for the same key.
fn of_key(key: &str) -> Uuid {
    let hash = blake3::derive_key("crabtree 2026-11 idempotency key over http", key.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(half).into_uuid()
}

/// What of a person's name may stand in a key; two that differ stay two.
fn plain(user: &str) -> String {
    if user.len() <= 64 && user.chars().all(|c| c.is_ascii_alphanumeric() || "._@-".contains(c)) {
        return user.to_owned();
    }
    blake3::hash(user.as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_is_the_same_run_and_people_are_told_apart() {
        assert_eq!(of_key("a"), of_key("a"));
        assert_ne!(of_key("a"), of_key("b"));
        assert_eq!(plain("Ada@home"), "Ada@home");
        assert_ne!(plain("ada lovelace"), plain("ada/lovelace"));
    }
}
