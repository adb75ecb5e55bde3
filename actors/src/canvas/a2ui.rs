//! A2UI 0.8: messages, one JSON object a line, that describe surfaces. What the page shows is what all lines of
//! `a2ui.jsonl` come to; surfaces that were deleted leave it.

use super::folder::{Folder, MAX_TEXT};
use serde_json::Value;

/// The file.
pub(super) const FILE: &str = "a2ui.jsonl";
/// Lines that are wrong and told at once.
const MAX_WRONGS: usize = 5;
/// What a message has to bring, in words, and whether it does.
type Need = (&'static str, fn(&Value) -> bool);
/// The kinds of messages, and what each has to bring beside `surfaceId`.
const KINDS: [(&str, Option<Need>); 4] = [
    ("surfaceUpdate", Some(("components, an array", |message| message["components"].is_array()))),
    ("dataModelUpdate", Some(("contents, an array", |message| message["contents"].is_array()))),
    ("beginRendering", Some(("root, the id of a component", |message| message["root"].is_string()))),
    ("deleteSurface", None),
];

/// Adds messages: all or none. How many there were.
pub(super) fn push(folder: &Folder, jsonl: &str) -> Result<usize, String> {
    let messages = parse(jsonl)?;
    let _alone = folder.writing.lock();
    let mut lines: Vec<String> = match folder.read(FILE) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    };
    for message in &messages {
        if message.kind == "deleteSurface" {
            lines.retain(|line| surface_of(line).is_none_or(|surface| surface != message.surface));
        } else {
            lines.push(message.line.clone());
        }
    }
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    if text.len() > MAX_TEXT {
        return Err(format!(
            "Nothing was added: all messages together may have {MAX_TEXT} bytes. Delete surfaces, or a2ui_reset."
        ));
    }
    folder.put(FILE, text.as_bytes())?;
    Ok(messages.len())
}

/// Forgets all messages.
pub(super) fn reset(folder: &Folder) -> Result<(), String> {
    let _alone = folder.writing.lock();
    folder.put(FILE, b"").map(drop)
}

struct Message {
    kind: &'static str,
    surface: String,
    line: String,
}

fn parse(jsonl: &str) -> Result<Vec<Message>, String> {
    let lines = jsonl.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut messages, mut wrongs) = (Vec::new(), Vec::new());
    for (at, line) in lines {
        match message(line) {
            Ok(message) => messages.push(message),
            Err(why) => wrongs.push(format!("line {}: {why}", at + 1)),
        }
    }
    if wrongs.is_empty() && messages.is_empty() {
        wrongs.push("there is no message in it".into());
    }
    match wrongs.is_empty() {
        true => Ok(messages),
        false => {
            wrongs.truncate(MAX_WRONGS);
            Err(format!("No A2UI 0.8 messages, one JSON object a line: {}", wrongs.join("; ")))
        }
    }
}

fn message(line: &str) -> Result<Message, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let members = value.as_object().ok_or("not an object")?;
    let (name, body) = match members.iter().next() {
        Some(only) if members.len() == 1 => only,
        _ => return Err(format!("exactly one of {} is expected, and nothing else", names())),
    };
    let known = KINDS.iter().find(|(kind, _)| kind == name);
    let (kind, needs) = known.ok_or_else(|| format!("{name} is none of {}", names()))?;
    let surface = body["surfaceId"].as_str().filter(|id| !id.is_empty());
    let surface = surface.ok_or_else(|| format!("{kind} needs surfaceId"))?;
    if let Some((what, _)) = needs.filter(|(_, is_there)| !is_there(body)) {
        return Err(format!("{kind} needs {what}"));
    }
    Ok(Message { kind, surface: surface.to_owned(), line: value.to_string() })
}

fn names() -> String {
    KINDS.map(|(kind, _)| kind).join(", ")
}

/// The surface that a line is about.
fn surface_of(line: &str) -> Option<String> {
    message(line).ok().map(|message| message.surface)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"surfaceUpdate":{"surfaceId":"a","components":[{"id":"t","component":{}}]}}"#;
    const BEGIN: &str = r#"{"beginRendering":{"surfaceId":"a","root":"t"}}"#;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::at(home.path().join("canvas"));
        (home, folder)
    }

    #[test]
    fn messages_are_kept_in_their_order_until_their_surface_is_deleted() {
        let (_home, folder) = folder();
        assert_eq!(push(&folder, &format!("{TEXT}\n\n{BEGIN}\n")), Ok(2));
        let other = BEGIN.replace("\"a\"", "\"b\"");
        assert_eq!(push(&folder, &other), Ok(1));
        assert_eq!(folder.read(FILE).unwrap(), format!("{TEXT}\n{BEGIN}\n{other}\n"));
        assert_eq!(push(&folder, r#"{"deleteSurface":{"surfaceId":"a"}}"#), Ok(1));
        assert_eq!(folder.read(FILE).unwrap(), format!("{other}\n"));
        reset(&folder).unwrap();
        assert_eq!(folder.read(FILE).unwrap(), "");
    }

    #[test]
    fn what_is_no_message_is_refused_as_a_whole() {
        let (_home, folder) = folder();
        for (wrong, why) in [
            ("", "there is no message"),
            ("nonsense", "line 1: expected"),
            ("[1]", "line 1: not an object"),
            ("{}", "exactly one of surfaceUpdate, dataModelUpdate, beginRendering, deleteSurface"),
            (r#"{"createSurface":{"surfaceId":"a"}}"#, "createSurface is none of"),
            (r#"{"version":"v0.8","deleteSurface":{"surfaceId":"a"}}"#, "exactly one of"),
            (r#"{"deleteSurface":{}}"#, "deleteSurface needs surfaceId"),
            (r#"{"surfaceUpdate":{"surfaceId":"a"}}"#, "surfaceUpdate needs components"),
            (r#"{"beginRendering":{"surfaceId":"a"}}"#, "beginRendering needs root"),
            (r#"{"dataModelUpdate":{"surfaceId":"a","contents":{}}}"#, "dataModelUpdate needs contents"),
        ] {
            let refused = push(&folder, &format!("{wrong}\n")).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            let refused = push(&folder, &format!("{BEGIN}\n{wrong}x\n")).unwrap_err();
            assert!(refused.contains("line 2"), "{refused}");
        }
        assert!(folder.read(FILE).is_err(), "nothing was kept");
    }

    #[test]
    fn more_than_fits_is_refused_and_what_is_there_stays() {
        let (_home, folder) = folder();
        push(&folder, BEGIN).unwrap();
        let long = TEXT.replace("{}", &format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_TEXT / 2)));
        push(&folder, &long).unwrap();
        assert!(push(&folder, &long).unwrap_err().contains("a2ui_reset"));
        assert_eq!(folder.read(FILE).unwrap().lines().count(), 2);
    }
}
