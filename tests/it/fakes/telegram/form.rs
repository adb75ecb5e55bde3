//! Forms with files, as far as tests send them.

use serde_json::{Map, Value, json};

/// The parts of a form by their names: texts, and of files `{fileName, type, bytes}`.
pub fn parts(body: &[u8], boundary: &str) -> Value {
    let body = String::from_utf8_lossy(body);
    let between = |text: &str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let part = |part: &str| {
        let (head, content) = part.split_once("\r\n\r\n")?;
        let content = content.strip_suffix("\r\n")?;
        let name = between(head, " name=\"", "\"")?;
        let value = match between(head, "filename=\"", "\"") {
            None => json!(content),
            Some(file_name) => {
                let mime_type = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned));
                json!({ "fileName": file_name, "type": mime_type, "bytes": content })
            }
        };
        Some((name, value))
    };
    body.split(&format!("--{boundary}")).filter_map(part).collect::<Map<_, _>>().into()
}
