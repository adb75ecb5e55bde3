//! What a webhook asks for, out of the body of a request to one of the two paths that are not mapped. Pure.

use super::Wrong;
use crate::settings::{ChannelsSettings, HookSessionMode, HookWake};
use serde_json::Value;

/// Characters of an idempotency key; a longer one is none (as recorded).
const MAX_KEY: usize = 256;
/// What a run is called that has no name.
const NAME: &str = "Hook";
/// Characters of a name.
const MAX_NAME: usize = 120;

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An agent is told something.
    Wake(Wake),
    /// An agent is asked something.
    Run(Box<Run>),
}

/// Something an agent is told in its main session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wake {
    /// What.
    pub text: String,
    /// When.
    pub mode: HookWake,
    /// The agent.
    pub agent: Agent,
    /// Another session.
    pub session: Option<Named>,
}

/// Something an agent is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// What.
    pub message: String,
    /// What it is called.
    pub name: String,
    /// The agent.
    pub agent: Agent,
    /// The session.
    pub session: Option<Named>,
    /// Whether it goes on in that session.
    pub session_mode: HookSessionMode,
    /// When the main session hears of it.
    pub wake: HookWake,
    /// Who else does.
    pub deliver: Deliver,
    /// The model.
    pub model: Option<String>,
    /// How hard it thinks.
    pub thinking: Option<String>,
    /// How long it may take.
    pub timeout_seconds: Option<u64>,
    /// Whether the model is not told that strangers wrote what it reads.
    pub trusted: bool,
    /// The same again is the same run.
    pub key: Option<String>,
}

/// Which agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Agent {
    /// The one that answers when nobody is named.
    #[default]
    Default,
    /// A request says so: there has to be one.
    Asked(String),
    /// A mapping says so: the default one, if there is none.
    Mapped(String),
}

/// A session's key, and who has chosen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// It.
    pub key: String,
    /// Whether it stands in the configuration as it is.
    pub fixed: bool,
}

/// Who is told what came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// Nobody, if it went well.
    Nobody,
    /// The main session.
    #[default]
    Main,
    /// A chat.
    Chat(Chat),
}

/// A chat, as far as it is named: what is not is where the main session was spoken to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// The channel.
    pub channel: Option<String>,
    /// The chat on it.
    pub to: Option<String>,
    /// The account.
    pub account: Option<String>,
}

/// A member that says something.
pub fn word(payload: &Value, name: &str) -> Option<String> {
    payload[name].as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A name as it is shown.
pub fn name(given: Option<String>) -> String {
    let given = given.map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
    given.unwrap_or_else(|| NAME.to_owned())
}

/// An idempotency key, if it is one.
pub fn key(given: Option<&str>) -> Option<String> {
    let key = given?.trim();
    (!key.is_empty() && key.chars().count() <= MAX_KEY).then(|| key.to_owned())
}

/// A channel that there is.
pub fn channel(given: Option<String>, channels: &ChannelsSettings) -> Result<Option<String>, Wrong> {
    let Some(given) = given else { return Ok(None) };
    let known = || channels.0.keys().map(String::as_str).filter(|name| *name != "defaults");
    if given == "last" || known().any(|name| name == given) {
        return Ok(Some(given));
    }
    let all: Vec<&str> = ["last"].into_iter().chain(known()).collect();
    Err(Wrong::request(format!("channel must be {}", all.join("|"))))
}

/// `POST /hooks/wake`
pub fn wake(payload: &Value) -> Result<Wake, Wrong> {
    let text = word(payload, "text").ok_or_else(|| Wrong::request("text required"))?;
    let session = word(payload, "sessionKey").map(|key| Named { key, fixed: false });
    let mode = mode(payload, "mode");
    if session.is_some() && mode != HookWake::Now {
        return Err(Wrong::request("sessionKey needs mode \"now\": what waits is told in the main session"));
    }
    Ok(Wake { text, mode, agent: agent(payload), session })
}

/// `POST /hooks/agent`
pub fn run(payload: &Value, channels: &ChannelsSettings) -> Result<Run, Wrong> {
    let message = word(payload, "message").ok_or_else(|| Wrong::request("message required"))?;
    let persistent = payload["sessionMode"] == "persistent";
    let seconds = payload["timeoutSeconds"].as_f64().filter(|seconds| *seconds >= 1.0);
    Ok(Run {
        message,
        name: name(word(payload, "name")),
        agent: agent(payload),
        session: word(payload, "sessionKey").map(|key| Named { key, fixed: false }),
        session_mode: if persistent { HookSessionMode::Persistent } else { HookSessionMode::Isolated },
        wake: mode(payload, "wakeMode"),
        deliver: deliver(payload, channels)?,
        model: word(payload, "model"),
        thinking: word(payload, "thinking"),
        timeout_seconds: seconds.map(|seconds| seconds as u64),
        trusted: false,
        key: key(payload["idempotencyKey"].as_str()),
    })
}

fn agent(payload: &Value) -> Agent {
    word(payload, "agentId").map_or(Agent::Default, Agent::Asked)
}

fn mode(payload: &Value, name: &str) -> HookWake {
    if payload[name] == "next-heartbeat" { HookWake::NextHeartbeat } else { HookWake::Now }
}

fn deliver(payload: &Value, channels: &ChannelsSettings) -> Result<Deliver, Wrong> {
    if payload["deliver"] == false {
        return Ok(Deliver::Nobody);
    }
    let channel = channel(word(payload, "channel"), channels)?;
    let chat = Chat { channel, to: word(payload, "to"), account: word(payload, "accountId") };
    match (chat.channel.as_deref(), &chat.to, &chat.account) {
        (None, None, None) => Ok(Deliver::Main),
        (Some("last"), ..) => Err(Wrong::request(
            "channel \"last\" is for mappings only: name a channel and to, or set deliver to false",
        )),
        (Some(_), Some(_), _) => Ok(Deliver::Chat(chat)),
        _ => Err(Wrong::request("channel and to belong together: name both, or set deliver to false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn channels() -> ChannelsSettings {
        serde_json::from_value(json!({ "telegram": {}, "defaults": {} })).unwrap()
    }

    fn asked(payload: Value) -> Result<Run, String> {
        run(&payload, &channels()).map_err(|wrong| wrong.error)
    }

    #[test]
    fn what_is_missing_is_said_in_the_recorded_words() {
        assert_eq!(wake(&json!({ "text": " " })).unwrap_err(), Wrong::request("text required"));
        assert_eq!(asked(json!({})).unwrap_err(), "message required");
        let none = run(&json!({ "message": "x", "channel": "nope" }), &ChannelsSettings::default());
        assert_eq!(none.unwrap_err().error, "channel must be last");
        assert_eq!(
            asked(json!({ "message": "x", "channel": "nope" })).unwrap_err(),
            "channel must be last|telegram"
        );
    }

    #[test]
    fn a_chat_is_named_whole_or_not_at_all() {
        let deliver = |more: Value| {
            let mut payload = json!({ "message": "x" });
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            asked(payload).map(|run| run.deliver)
        };
        assert_eq!(deliver(json!({})), Ok(Deliver::Main));
        assert_eq!(deliver(json!({ "deliver": false, "channel": "nope" })), Ok(Deliver::Nobody));
        for half in [
            json!({ "channel": "telegram" }),
            json!({ "to": "1" }),
            json!({ "accountId": "a" }),
            json!({ "channel": "last", "to": "1" }),
        ] {
            assert!(deliver(half.clone()).is_err(), "{half}");
        }
        let whole = deliver(json!({ "channel": "telegram", "to": "1" })).unwrap();
        let chat = Chat { channel: Some("telegram".into()), to: Some("1".into()), account: None };
        assert_eq!(whole, Deliver::Chat(chat));
    }

    #[test]
    fn times_and_keys_that_are_none_are_left_out() {
        let seconds =
            |value: Value| asked(json!({ "message": "x", "timeoutSeconds": value })).unwrap().timeout_seconds;
        assert_eq!(
            [json!(2.9), json!(0), json!(-3), json!("5"), json!(null)].map(seconds),
            [Some(2), None, None, None, None]
        );
        assert_eq!(key(Some(" a ")), Some("a".into()));
        assert_eq!([key(Some("")), key(Some(&"k".repeat(257))), key(None)], [None, None, None]);
    }

    #[test]
    fn what_waits_for_a_heartbeat_waits_in_the_main_session() {
        let to = |mode: &str| wake(&json!({ "text": "x", "sessionKey": "hook:a", "mode": mode })).is_ok();
        assert!(to("now") && !to("next-heartbeat"));
    }
}
