//! `channels.<name>.streaming`: whether people see an answer while it is written.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// See the module. None if nothing is said of it. OpenClaw's modes but `off` are one here: the text of the answer is
/// shown, and neither what the model thinks nor what its tools do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streaming(pub Option<bool>);

impl<'de> Deserialize<'de> for Streaming {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = Value::deserialize(deserializer)?;
        // Answers in several messages, as they become ready, would be there beside it: then they come when they are
        // whole.
        if said["block"]["enabled"] == true {
            return Ok(Self(Some(false)));
        }
        let mode = said.get("mode").unwrap_or(&said);
        match mode {
            Value::Bool(is_on) => Ok(Self(Some(*is_on))),
            Value::String(mode) => match mode.as_str() {
                "off" => Ok(Self(Some(false))),
                "partial" | "block" | "progress" => Ok(Self(Some(true))),
                other => Err(serde::de::Error::custom(format!(
                    "streaming.mode: expected off, partial, block or progress, not {other:?}"
                ))),
            },
            _ => Ok(Self(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_write_it_is_understood() {
        for (said, is_on) in [
            (json!("off"), Some(false)),
            (json!("partial"), Some(true)),
            (json!(true), Some(true)),
            (json!({ "mode": "progress", "progress": { "toolProgress": true } }), Some(true)),
            (json!({ "mode": "off" }), Some(false)),
            (json!({ "mode": "partial", "block": { "enabled": true } }), Some(false)),
            (json!({ "chunkMode": "newline" }), None),
            (json!(null), None),
        ] {
            assert_eq!(Streaming::deserialize(&said).unwrap(), Streaming(is_on), "{said}");
        }
        let wrong = Streaming::deserialize(json!({ "mode": "loud" })).unwrap_err();
        assert!(wrong.to_string().contains("partial"), "{wrong}");
    }
}
