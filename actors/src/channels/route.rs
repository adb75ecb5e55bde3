//! Where a session was spoken to last: what it has to say to people goes there. Pure.

use super::access::names;
use super::contract::{Address, Envelope, Kind};
use super::outgoing::Answer;
use crate::settings::ChannelSettings;
use crabtree_protocol::SessionKey;
use serde_json::{Value, json};

/// A chat as people write it: `42`, `group:-1001`, `channel:6001`.
pub fn written(at: &Address) -> String {
    match at.chat_type {
        Kind::Direct => at.chat.clone(),
        Kind::Group => format!("group:{}", at.chat),
        Kind::Channel => format!("channel:{}", at.chat),
    }
}

/// The route that a message gives its session (`deliveryContext`). None where several people share their direct
/// messages in the main session, and this is not the one who owns it: nobody else moves where the owner is reached.
pub fn route(
    settings: &ChannelSettings,
    envelope: &Envelope,
    key: &SessionKey,
    answer: &Answer,
) -> Option<Value> {
    let is_shared = envelope.at.chat_type == Kind::Direct && *key == SessionKey::main(key.agent_id());
    if is_shared && settings.allow_from.only().is_some_and(|owner| !names(&owner, &envelope.from)) {
        return None;
    }
    let mut route = json!({
        "channel": answer.channel, "to": written(&envelope.at), "accountId": answer.account,
    });
    if let Some(thread) = &envelope.at.thread {
        route["threadId"] = json!(thread);
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::super::contract::Capabilities;
    use super::super::testing::envelope;
    use super::*;

    fn of(allowed: Value, kind: Kind, chat: &str, key: &str) -> Option<Value> {
        let settings = serde_json::from_value(json!({ "allowFrom": allowed })).unwrap();
        let mut message = envelope(kind, chat);
        message.from.username = Some("Ann".into());
        let answer = Answer {
            id: "1".into(),
            channel: "telegram".into(),
            account: "work".into(),
            to: message.at.clone(),
            reply_to: None,
            capabilities: Capabilities::texts(100).into(),
        };
        route(&settings, &message, &SessionKey::canonical(key, "main").unwrap(), &answer)
    }

    #[test]
    fn a_session_is_reached_where_it_was_spoken_to() {
        let at = |to: &str| Some(json!({ "channel": "telegram", "to": to, "accountId": "work" }));
        assert_eq!(of(json!([]), Kind::Group, "-1", "agent:main:telegram:group:-1"), at("group:-1"));
        assert_eq!(of(json!([]), Kind::Channel, "6", "agent:main:discord:channel:6"), at("channel:6"));
        assert_eq!(of(json!([]), Kind::Direct, "7", "agent:main:main"), at("7"));
    }

    #[test]
    fn nobody_but_the_one_owner_moves_the_route_of_the_main_session() {
        let direct = |allowed| of(allowed, Kind::Direct, "7", "agent:main:main").is_some();
        for owner in [json!(["7"]), json!(["@ann"]), json!(["telegram:7"]), json!([7, "tg:7"])] {
            assert!(direct(owner.clone()), "{owner}");
        }
        assert!(!direct(json!(["8"])));
        // Where it is not said who the one owner is, everybody does.
        for several in [json!(["8", "9"]), json!(["8", "*"]), json!([])] {
            assert!(direct(several.clone()), "{several}");
        }
        assert!(of(json!(["8"]), Kind::Direct, "7", "agent:main:telegram:direct:7").is_some());
        assert!(of(json!(["8"]), Kind::Group, "-1", "agent:main:main").is_some());
    }
}
