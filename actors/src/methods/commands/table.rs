//! The table of commands: what they are called, what they take, and how help and `commands.list` show them.

use crate::agents::Catalog;
use crate::reset::after_reset_trigger;
use crate::settings::SessionSettings;
use serde_json::{Value, json};
use std::fmt::Write;

use Choices::{Any, Models, Of};
use Takes::Argument;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::methods) enum Command {
    Help,
    Status,
    Whoami,
    Sessions,
    Tree,
    New,
    Reset,
    Name,
    Stop,
    Compact,
    Model,
    Think,
    Verbose,
    Usage,
    Queue,
    Activation,
    Approve,
}

/// What stands after a command's name.
enum Takes {
    /// Nothing: with something after it, it is a message like any other.
    Nothing,
    /// An argument: its name, what it means, and what it may be.
    Argument(&'static str, &'static str, Choices),
}

/// What an argument may be.
enum Choices {
    Any,
    Of(&'static [&'static str]),
    Models,
}

struct Row {
    command: Command,
    name: &'static str,
    aliases: &'static [&'static str],
    category: &'static str,
    description: &'static str,
    takes: Takes,
}

const fn plain(
    command: Command,
    name: &'static str,
    category: &'static str,
    description: &'static str,
) -> Row {
    Row { command, name, aliases: &[], category, description, takes: Takes::Nothing }
}

const fn taking(
    command: Command,
    name: &'static str,
    category: &'static str,
    description: &'static str,
    takes: Takes,
) -> Row {
    Row { command, name, aliases: &[], category, description, takes }
}

const COMMANDS: [Row; 17] = [
    plain(Command::Help, "help", "status", "Show available commands."),
    plain(Command::Status, "status", "status", "Show how the gateway and this session are."),
    Row {
        aliases: &["id"],
        ..plain(Command::Whoami, "whoami", "status", "Show who the gateway takes you for.")
    },
    plain(Command::Sessions, "sessions", "status", "List the latest sessions."),
    plain(Command::Tree, "tree", "status", "Show the actors of the gateway and how they are."),
    taking(
        Command::New,
        "new",
        "session",
        "Begin a new conversation in this session.",
        Argument("message", "The first message of the new conversation", Any),
    ),
    taking(
        Command::Reset,
        "reset",
        "session",
        "Forget the conversation of this session.",
        Argument("message", "A message to go on with", Any),
    ),
    taking(
        Command::Name,
        "name",
        "session",
        "Show or set the name of this session.",
        Argument("name", "What to call it", Any),
    ),
    plain(Command::Stop, "stop", "session", "Stop the running answer and drop what waits behind it."),
    taking(
        Command::Compact,
        "compact",
        "session",
        "Put a summary in place of the older turns.",
        Argument("instructions", "What the summary is to heed", Any),
    ),
    taking(
        Command::Model,
        "model",
        "options",
        "Show or choose the model of this session.",
        Argument("model", "provider/model, or default", Models),
    ),
    Row {
        aliases: &["thinking", "t"],
        ..taking(
            Command::Think,
            "think",
            "options",
            "Show or set how hard the model thinks.",
            Argument("level", "A level, or default", Of(super::settings::THINKING)),
        )
    },
    Row {
        aliases: &["v"],
        ..taking(
            Command::Verbose,
            "verbose",
            "options",
            "Show or set how much is told of the steps of a run.",
            Argument("level", "How much", Of(super::settings::VERBOSE)),
        )
    },
    taking(
        Command::Usage,
        "usage",
        "options",
        "Show tokens used; show or set what answers tell of them.",
        Argument("mode", "What answers tell", Of(super::settings::USAGE)),
    ),
    taking(
        Command::Queue,
        "queue",
        "options",
        "Show or set what becomes of messages that come while an answer is under way.",
        Argument("settings", "A mode, debounce:, cap:, drop:, or default", Of(super::settings::QUEUE)),
    ),
    taking(
        Command::Activation,
        "activation",
        "management",
        "Show or set when a group is answered.",
        Argument("mode", "When", Of(super::settings::ACTIVATION)),
    ),
    taking(
        Command::Approve,
        "approve",
        "management",
        "Decide on what waits for approval.",
        Argument("decision", "An id, and allow-once, allow-always or deny", Any),
    ),
];

/// The command that a message is, and what stands after its name. A message that only begins like a command
/// that takes nothing is none.
pub(in crate::methods) fn parse(session: &SessionSettings, message: &str) -> Option<(Command, String)> {
    let said = message.trim();
    if said.eq_ignore_ascii_case("stop") {
        return Some((Command::Stop, String::new()));
    }
    let named = said.strip_prefix('/').and_then(|rest| {
        let (name, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let name = name.to_ascii_lowercase();
        let row = COMMANDS.iter().find(|row| row.name == name || row.aliases.contains(&name.as_str()))?;
        let fits = args.trim().is_empty() || !matches!(row.takes, Takes::Nothing);
        fits.then(|| (row.command, args.trim().to_owned()))
    });
    named.or_else(|| after_reset_trigger(session, said).map(|rest| (Command::New, rest.to_owned())))
}

/// The rows of `commands.list`.
pub(in crate::methods) fn rows(catalog: &Catalog, with_args: bool) -> Vec<Value> {
    let row = |row: &Row| {
        let aliases: Vec<String> =
            [row.name].iter().chain(row.aliases).map(|alias| format!("/{alias}")).collect();
        let mut shown = json!({
            "name": row.name,
            "nativeName": row.name,
            "textAliases": aliases,
            "description": row.description,
            "category": row.category,
            "source": "native",
            "scope": "both",
            "acceptsArgs": !matches!(row.takes, Takes::Nothing),
        });
        if let Takes::Argument(name, meaning, choices) = &row.takes
            && with_args
        {
            shown["args"] = json!([{ "name": name, "description": meaning, "type": "string" }]);
            let choices: Vec<String> = match choices {
                Any => return shown,
                Of(words) => words.iter().map(|word| (*word).to_owned()).collect(),
                Models => catalog.model_names().map(str::to_owned).collect(),
            };
            let choice = |value: &String| json!({ "value": value, "label": value });
            shown["args"][0]["choices"] = choices.iter().map(choice).collect();
        }
        shown
    };
    COMMANDS.iter().map(row).collect()
}

/// What `/help` says.
pub(super) fn help() -> String {
    let mut text = "ℹ️ Help\n".to_owned();
    for Row { name, description, takes, .. } in &COMMANDS {
        let args = match takes {
            Takes::Nothing => String::new(),
            Argument(_, _, Of(words)) if words.len() < 4 => format!(" [{}]", words.join("|")),
            Argument(argument, ..) => format!(" [{argument}]"),
        };
        // Writing to a string does not fail.
        let _ = write!(text, "\n/{name}{args}  {description}");
    }
    text + "\n\nEverything else is answered by the agent."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn parsed(message: &str) -> Option<(Command, String)> {
        parse(&SessionSettings::default(), message)
    }

    fn is(message: &str, command: Command, args: &str) -> bool {
        parsed(message) == Some((command, args.to_owned()))
    }

    #[test]
    fn a_command_is_a_name_and_what_it_takes() {
        assert!(is(" /Status\n", Command::Status, "") && is("/help", Command::Help, ""));
        assert!(is("/stop", Command::Stop, "") && is("Stop", Command::Stop, ""));
        assert!(is("/model\tcrabtree/offline ", Command::Model, "crabtree/offline"));
        assert!(is("/t High", Command::Think, "High") && is("/ID", Command::Whoami, ""));
        assert!(is("/new tell me\nmore", Command::New, "tell me\nmore") && is("/reset", Command::Reset, ""));
        for said in
            ["status", "/bogus", "/status of things", "help", "/", "", "please /stop", "/newer", "/stop it"]
        {
            assert_eq!(parsed(said), None, "{said}");
        }
    }

    #[test]
    fn a_phrase_of_the_configuration_begins_anew() {
        let session =
            SessionSettings { reset_triggers: vec!["fresh start".into()], ..SessionSettings::default() };
        let found = parse(&session, "Fresh Start with this");
        assert_eq!(found, Some((Command::New, "with this".into())));
        assert_eq!(parse(&session, "/reset"), Some((Command::Reset, String::new())));
    }

    #[test]
    fn names_are_unique_and_all_are_in_help() {
        let names: Vec<&str> = COMMANDS
            .iter()
            .flat_map(|row| [row.name].into_iter().chain(row.aliases.iter().copied()))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(COMMANDS.iter().all(|row| help().contains(&format!("\n/{}", row.name))));
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    }
}
