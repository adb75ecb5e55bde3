//! People that were let in on channels. Pure.

use crabtree_actors::store::ContactRow;
use serde_json::{Map, Value, json};

/// The account of a channel that has only one.
const DEFAULT_ACCOUNT: &str = "default";

/// Somebody out of a row of `channel_pairing_allow_entries`.
pub fn of_row(row: &Map<String, Value>, now: i64) -> Option<ContactRow> {
    let text = |name: &str| row.get(name)?.as_str();
    let at = row.get("updated_at").and_then(Value::as_i64).unwrap_or(now);
    contact(text("channel_key")?, text("account_id").unwrap_or_default(), text("entry")?, at)
}

/// Those of a file of older versions, `credentials/<channel>[-<account>]-allowFrom.json`, by its name and content.
pub fn of_file(name: &str, content: &Value, channels: &[&str], now: i64) -> Vec<ContactRow> {
    let Some(stem) = name.strip_suffix("-allowFrom.json") else { return Vec::new() };
    // Names of channels may hold dashes, too.
    let is_account = |channel: &&&str| stem.strip_prefix(**channel).is_some_and(|rest| rest.starts_with('-'));
    let (channel, account) = match channels.iter().filter(is_account).max_by_key(|channel| channel.len()) {
        Some(channel) if !channels.contains(&stem) => (*channel, &stem[channel.len() + 1..]),
        _ => (stem, ""),
    };
    let entries = content["allowFrom"].as_array().into_iter().flatten().filter_map(Value::as_str);
    entries.filter_map(|entry| contact(channel, account, entry, now)).collect()
}

fn contact(channel: &str, account: &str, entry: &str, at: i64) -> Option<ContactRow> {
    let entry = entry.trim();
    let id = entry.strip_prefix(channel).and_then(|rest| rest.strip_prefix(':')).unwrap_or(entry).trim();
    // Everybody is let in by the configuration, not by a list of people.
    if channel.is_empty() || id.is_empty() || id == "*" {
        return None;
    }
    let account = if account.is_empty() { DEFAULT_ACCOUNT } else { account };
    Some(ContactRow {
        channel: channel.to_owned(),
        account: account.to_owned(),
        id: id.to_owned(),
        code: None,
        meta: json!({}),
        created_at: at,
        last_seen_at: at,
        approved_at: Some(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(row: &ContactRow) -> (&str, &str, &str) {
        (&row.channel, &row.account, &row.id)
    }

    #[test]
    fn rows_and_files_name_the_same_people() {
        let row = json!({ "channel_key": "telegram", "account_id": "default", "entry": "telegram:7", "updated_at": 5 });
        let row = of_row(row.as_object().unwrap(), 9).unwrap();
        assert_eq!((who(&row), row.approved_at), (("telegram", "default", "7"), Some(5)));
        let list = json!({ "version": 1, "allowFrom": ["7", " ", "*", "8"] });
        let known = ["telegram", "synology-chat"];
        let all = of_file("telegram-allowFrom.json", &list, &known, 9);
        assert_eq!(
            all.iter().map(who).collect::<Vec<_>>(),
            [("telegram", "default", "7"), ("telegram", "default", "8")]
        );
        let of = |name: &str| of_file(name, &list, &known, 9)[0].clone();
        assert_eq!(who(&of("telegram-second-allowFrom.json")), ("telegram", "second", "7"));
        assert_eq!(who(&of("synology-chat-allowFrom.json")), ("synology-chat", "default", "7"));
        assert!(of_file("telegram-pairing.json", &list, &known, 9).is_empty());
    }
}
