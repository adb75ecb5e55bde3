//! Commands that show or change a setting of the session. Without an argument they tell what holds and what may
//! be chosen; with a wrong one, what is allowed.

use super::Answer;
use crate::agents::Catalog;
use crate::sessions::model_of;
use crate::settings::{
    DropPolicy, MAX_CAP, MAX_DEBOUNCE_MS, QueueModeSetting, QueueOverrides, QueueSection, QueueSettings,
    Thinking,
};
use crate::store::SessionRecord;
use crabtree_protocol::SessionKey;
use crabtree_protocol::params::chat::QueueMode;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) const THINKING: &[&str] = &["default", "off", "minimal", "low", "medium", "high"];
pub(super) const VERBOSE: &[&str] = &["on", "off", "full"];
pub(super) const USAGE: &[&str] = &["off", "tokens", "full"];
pub(super) const ACTIVATION: &[&str] = &["mention", "always"];
pub(super) const QUEUE: &[&str] = &["steer", "followup", "collect", "interrupt", "default"];

/// Characters of a session's name, as for `sessions.patch`.
const MAX_NAME: usize = 512;
/// The word that takes a choice back.
const DEFAULT: &str = "default";

/// A word of the session's entry.
fn chosen<'a>(record: Option<&'a SessionRecord>, name: &str) -> Option<&'a str> {
    record?.entry.get(name)?.as_str()
}

fn not_one_of(what: &str, given: &str, choices: &str) -> Answer {
    Answer::says(format!("There is no {what} “{given}”.\nOptions: {choices}."))
}

/// `is_taken`: another session of the agent is called so.
pub(super) fn name(name: &str, record: Option<&SessionRecord>, is_taken: bool) -> Answer {
    if name.is_empty() {
        let now = record.and_then(|record| record.label.as_deref());
        let now = now.map_or("This session has no name.".to_owned(), |now| format!("Current name: “{now}”."));
        return Answer::says(format!("{now}\nSet one with /name <name>."));
    }
    if is_taken {
        return Answer::says(format!("Another session is called “{name}”. Nothing was changed."));
    }
    let length = name.chars().count();
    if length > MAX_NAME {
        return Answer::says(format!(
            "A name has up to {MAX_NAME} characters, this one has {length}. Nothing was changed."
        ));
    }
    let text = format!("Session renamed to “{name}”.");
    Answer { text, label: Some(name.to_owned()), ..Answer::default() }
}

pub(super) fn model(args: &str, record: Option<&SessionRecord>, catalog: &Catalog) -> Answer {
    let names: Vec<&str> = catalog.model_names().collect();
    let options = format!("{DEFAULT}, {}", names.join(", "));
    let wanted = args.strip_suffix("-s").unwrap_or(args).trim();
    if wanted.is_empty() {
        return Answer::says(format!("Current: {}\nOptions: {options}.", model_of(record, catalog)));
    }
    if wanted.eq_ignore_ascii_case(DEFAULT) {
        let none = json!({ "providerOverride": null, "modelOverride": null, "modelOverrideSource": null });
        return Answer::sets(format!("Model reset to the default, {}.", catalog.primary), none);
    }
    let is_meant =
        |name: &&&str| **name == wanted || name.split_once('/').is_some_and(|(_, id)| id == wanted);
    let Some((provider, id)) = names.iter().find(is_meant).and_then(|name| name.split_once('/')) else {
        return not_one_of("model", wanted, &options);
    };
    let patch = json!({ "providerOverride": provider, "modelOverride": id, "modelOverrideSource": "user" });
    let said = format!("Model set to {provider}/{id} for this session only; configured default unchanged.");
    Answer::sets(said, patch)
}

pub(super) fn think(args: &str, record: Option<&SessionRecord>, agent: &str, catalog: &Catalog) -> Answer {
    let model = model_of(record, catalog);
    let levels = catalog.thinking_levels(&model);
    let names = levels.iter().map(|level| level.name());
    let options = [DEFAULT].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    let default = catalog.thinking(agent, &model, None);
    match Thinking::from_name(args).filter(|level| levels.contains(level)) {
        Some(level) => {
            let level = level.name();
            Answer::sets(format!("Thinking level set to {level}."), json!({ "thinkingLevel": level }))
        }
        None if args.is_empty() => {
            let chosen = chosen(record, "thinkingLevel").and_then(Thinking::from_name);
            let now = catalog.thinking(agent, &model, chosen).name();
            Answer::says(format!("Current thinking level: {now}.\nOptions: {options}."))
        }
        None if args.eq_ignore_ascii_case(DEFAULT) => {
            let said = format!("Thinking level reset to the default, {}.", default.name());
            Answer::sets(said, json!({ "thinkingLevel": null }))
        }
        None => not_one_of(&format!("thinking level of {model}"), args, &options),
    }
}

pub(super) fn verbose(args: &str, record: Option<&SessionRecord>) -> Answer {
    let level = args.to_ascii_lowercase();
    let said = match level.as_str() {
        "" => {
            let now = chosen(record, "verboseLevel").unwrap_or("off");
            return Answer::says(format!("Current verbose level: {now}.\nOptions: {}.", VERBOSE.join(", ")));
        }
        "on" => "⚙️ Verbose logging enabled.",
        "off" => "⚙️ Verbose logging disabled.",
        "full" => "⚙️ Verbose logging set to full.",
        _ => return not_one_of("verbose level", args, &VERBOSE.join(", ")),
    };
    Answer::sets(said, json!({ "verboseLevel": level }))
}

pub(super) fn usage(args: &str, record: Option<&SessionRecord>) -> Answer {
    let mode = args.to_ascii_lowercase();
    match mode.as_str() {
        "" => {
            let now = chosen(record, "responseUsage").unwrap_or("off");
            let count = |name: &str| record.and_then(|r| r.entry.get(name)?.as_u64()).unwrap_or(0);
            let (input, output, total) = (count("inputTokens"), count("outputTokens"), count("totalTokens"));
            Answer::says(format!(
                "Tokens: {input} in, {output} out; the last prompt had {total}.\n\
                 Answers tell their usage: {now}.\nOptions: {}.",
                USAGE.join(", ")
            ))
        }
        known if USAGE.contains(&known) => {
            Answer::sets(format!("⚙️ Usage told with answers: {known}."), json!({ "responseUsage": known }))
        }
        _ => not_one_of("usage mode", args, &USAGE.join(", ")),
    }
}

pub(super) fn activation(args: &str, record: Option<&SessionRecord>) -> Answer {
    let mode = args.to_ascii_lowercase();
    match mode.as_str() {
        "" => {
            let now = chosen(record, "groupActivation").unwrap_or("mention");
            Answer::says(format!("Current group activation: {now}.\nOptions: {}.", ACTIVATION.join(", ")))
        }
        known if ACTIVATION.contains(&known) => {
            Answer::sets(format!("⚙️ Group activation set to {known}."), json!({ "groupActivation": known }))
        }
        _ => not_one_of("group activation", args, &ACTIVATION.join(", ")),
    }
}

pub(super) fn queue(
    args: &str,
    record: Option<&SessionRecord>,
    key: &SessionKey,
    section: &QueueSection,
) -> Answer {
    if args.is_empty() {
        let own = record.and_then(|record| QueueOverrides::deserialize(&record.entry).ok());
        let channel = key.place().and_then(|place| place.channel);
        let now = QueueSettings::resolve(section, channel, &own.unwrap_or_default());
        return Answer::says(format!(
            "Current queue settings: mode={}, debounce={}ms, cap={}, drop={}.\n{}",
            now.mode.name(),
            now.debounce.as_millis(),
            now.cap,
            json!(now.drop).as_str().unwrap_or_default(),
            queue_options()
        ));
    }
    let mut patch = json!({});
    let mut said = Vec::new();
    for word in args.split_whitespace() {
        let Some((sentence, change)) = queue_word(&word.to_ascii_lowercase()) else {
            return Answer::says(format!(
                "“{word}” is no queue setting. Nothing was changed.\n{}",
                queue_options()
            ));
        };
        said.push(sentence);
        for (name, value) in change {
            patch[name] = value;
        }
    }
    Answer::sets(format!("⚙️ {}", said.join(" ")), patch)
}

fn queue_options() -> String {
    let modes: Vec<_> = QueueMode::ALL.iter().map(|mode| mode.name()).collect();
    format!("Options: modes {}; debounce:<ms|s|m>, cap:<n>, drop:old|new|summarize.", modes.join(", "))
}

/// What one word of `/queue` sets: in a sentence, and in members of the entry.
fn queue_word(word: &str) -> Option<(String, Vec<(&'static str, Value)>)> {
    if word == DEFAULT {
        let all = ["queueMode", "queueDebounceMs", "queueCap", "queueDrop"].map(|name| (name, Value::Null));
        return Some(("Queue settings reset to the defaults.".to_owned(), all.into()));
    }
    let Some((name, value)) = word.split_once(':') else {
        let QueueModeSetting(mode) = QueueModeSetting::try_from(word.to_owned()).ok()?;
        let set = vec![("queueMode", json!(mode.name()))];
        return Some((format!("Queue mode set to {}.", mode.name()), set));
    };
    let (shown, set) = match name {
        "debounce" => {
            let ms = milliseconds(value)?;
            (format!("{ms}ms"), ("queueDebounceMs", json!(ms)))
        }
        "cap" => {
            let cap = value.parse::<u64>().ok().filter(|cap| (1..=MAX_CAP).contains(cap))?;
            (cap.to_string(), ("queueCap", json!(cap)))
        }
        "drop" => {
            DropPolicy::deserialize(json!(value)).ok()?;
            (value.to_owned(), ("queueDrop", json!(value)))
        }
        _ => return None,
    };
    Some((format!("Queue {name} set to {shown}."), vec![set]))
}

/// `500`, `500ms`, `2s` or `1m`, up to what a configuration may say.
fn milliseconds(text: &str) -> Option<u64> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let unit = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (digits, unit) = unit.unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|ms| *ms <= MAX_DEBOUNCE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// accepts: C7
    #[test]
    fn a_queue_is_set_word_by_word_or_not_at_all() {
        let key = SessionKey::canonical("main", "main").expect("a key");
        let set = |args: &str| queue(args, None, &key, &QueueSection::default());
        let Answer { text, patch, .. } = set("");
        assert_eq!(
            text,
            "Current queue settings: mode=steer, debounce=500ms, cap=20, drop=summarize.\n\
             Options: modes steer, followup, collect, interrupt; debounce:<ms|s|m>, cap:<n>, drop:old|new|summarize."
        );
        assert_eq!(patch, None);
        let Answer { text, patch, .. } = set("Collect debounce:2s cap:5 drop:old");
        let sentences = "⚙️ Queue mode set to collect. Queue debounce set to 2000ms. Queue cap set to 5. \
             Queue drop set to old.";
        assert_eq!(text, sentences);
        let all =
            json!({ "queueMode": "collect", "queueDebounceMs": 2000, "queueCap": 5, "queueDrop": "old" });
        assert_eq!(patch, Some(all));
        let none = json!({ "queueMode": null, "queueDebounceMs": null, "queueCap": null, "queueDrop": null });
        assert_eq!(set("default").patch, Some(none));
        for wrong in
            ["later", "collect cap:0", "cap:1001", "debounce:2h", "debounce:", "drop:some", "speed:1"]
        {
            let Answer { text, patch, .. } = set(wrong);
            assert!(patch.is_none() && text.contains("Options: modes steer"), "{wrong}: {text}");
        }
        assert_eq!(
            ["7", "7ms", "7s", "7m", "s", "90000000"].map(milliseconds),
            [Some(7), Some(7), Some(7_000), Some(420_000), None, None]
        );
    }

    #[test]
    fn a_model_is_chosen_by_its_name_and_taken_back() {
        let catalog = Catalog::new(&Settings::default(), &[]);
        let set = |args: &str| model(args, None, &catalog);
        assert_eq!(set("").text, "Current: crabtree/offline\nOptions: default, crabtree/offline.");
        for name in ["crabtree/offline", "offline", "offline -s"] {
            let patch = set(name).patch.expect("a change");
            assert_eq!(patch["modelOverride"], "offline", "{name}");
        }
        assert_eq!(set("default").patch.expect("a change")["modelOverride"], Value::Null);
        assert!(set("zzz/qq").patch.is_none() && set("zzz/qq").text.contains("zzz/qq"));
    }

    #[test]
    fn a_name_is_told_and_set_unless_it_is_taken_or_too_long() {
        assert_eq!(name("", None, false).text, "This session has no name.\nSet one with /name <name>.");
        let longest = "é".repeat(MAX_NAME);
        for fits in ["my own", &longest] {
            let Answer { text, label, .. } = name(fits, None, false);
            assert_eq!((text, label), (format!("Session renamed to “{fits}”."), Some(fits.to_owned())));
        }
        for (wrong, is_taken) in [("my own", true), (&*format!("{longest}e"), false)] {
            let Answer { text, label, .. } = name(wrong, None, is_taken);
            assert!(label.is_none() && text.ends_with("Nothing was changed."), "{text}");
        }
    }

    #[test]
    fn wrong_words_change_nothing_and_tell_the_right_ones() {
        let catalog = Catalog::new(&Settings::default(), &[]);
        let wrong = [
            verbose("loud", None),
            usage("all", None),
            activation("never", None),
            think("high", None, "main", &catalog),
        ];
        for Answer { text, patch, .. } in wrong {
            assert!(patch.is_none() && text.contains("Options: "), "{text}");
        }
        assert_eq!(
            think("", None, "main", &catalog).text,
            "Current thinking level: off.\nOptions: default, off."
        );
        assert_eq!(verbose("ON", None).text, "⚙️ Verbose logging enabled.");
    }
}
