//! The settings of an account, as OpenClaw names them.

use crate::channels::contract::Account;
use reqwest::Url;
use serde_json::Value;

/// Where bots are served unless `apiRoot` says otherwise.
const CLOUD: &str = "https://api.telegram.org";
/// The largest file in either direction unless `mediaMaxMb` says otherwise: more than this the cloud lets no bot
/// download.
const MEDIA_MAX_MB: f64 = 20.0;

/// What an account needs. It has no Debug: the token is a secret.
pub(super) struct Settings {
    pub token: String,
    pub root: Url,
    pub link_preview: bool,
    /// The largest file, bytes.
    pub media_max: usize,
}

impl Settings {
    /// Those of an account; else what to change. What is wrong is never repeated: it might hold the token.
    pub fn of(account: &Account) -> Result<Self, String> {
        let key = |name: &str| match account.id.as_str() {
            "default" => format!("channels.telegram.{name}"),
            id => format!("channels.telegram.accounts.{id}.{name}"),
        };
        let token = account.text("botToken").ok_or_else(|| {
            format!(
                "{} is not set: put the token there that @BotFather gave for the bot (tokenFile is not read)",
                key("botToken")
            )
        })?;
        if !is_token(token) {
            return Err(format!("{} is no bot token: those look like 123456:ABC…", key("botToken")));
        }
        let root = account.text("apiRoot").unwrap_or(CLOUD).trim_end_matches('/');
        let root = Url::parse(root).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let root = root.ok_or_else(|| format!("{} is no http or https address", key("apiRoot")))?;
        if root.path().contains("/bot") {
            return Err(format!("{} must end before /bot<token>", key("apiRoot")));
        }
        let megabytes = match account.settings.get("mediaMaxMb") {
            None | Some(Value::Null) => MEDIA_MAX_MB,
            Some(value) => value
                .as_f64()
                .filter(|megabytes| *megabytes > 0.0)
                .ok_or_else(|| format!("{} is no number above 0", key("mediaMaxMb")))?,
        };
        Ok(Self {
            token: token.into(),
            root,
            link_preview: account.settings.get("linkPreview").and_then(Value::as_bool).unwrap_or(true),
            media_max: (megabytes * 1024.0 * 1024.0) as usize,
        })
    }
}

/// A number, a colon, and letters that need no escaping in an address.
fn is_token(text: &str) -> bool {
    let Some((bot, secret)) = text.split_once(':') else { return false };
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !bot.is_empty()
        && bot.bytes().all(|byte| byte.is_ascii_digit())
        && !secret.is_empty()
        && secret.bytes().all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(settings: Value) -> Result<Settings, String> {
        Settings::of(&Account { id: "default".into(), settings })
    }

    #[test]
    fn a_token_is_enough() {
        let settings = of(json!({ "botToken": " 12:a-B_c " })).ok().unwrap();
        assert_eq!(settings.token, "12:a-B_c");
        assert_eq!(settings.root.as_str(), "https://api.telegram.org/");
        assert!(settings.link_preview);
        assert_eq!(settings.media_max, 20 << 20);
        let own = json!({ "botToken": "1:x", "apiRoot": "http://[::1]:81/tg/", "linkPreview": false, "mediaMaxMb": 0.5 });
        let own = of(own).ok().unwrap();
        assert_eq!(
            (own.root.as_str(), own.link_preview, own.media_max),
            ("http://[::1]:81/tg", false, 512 << 10)
        );
    }

    #[test]
    fn what_is_wrong_names_its_key_and_never_the_secret() {
        for (settings, key) in [
            (json!({}), "channels.telegram.botToken"),
            (json!({ "botToken": "7:s3cret/../x" }), "channels.telegram.botToken"),
            (json!({ "botToken": "s3cret" }), "channels.telegram.botToken"),
            (json!({ "botToken": "7:s3cret", "apiRoot": "file:///s3cret" }), "channels.telegram.apiRoot"),
            (
                json!({ "botToken": "7:s3cret", "apiRoot": "https://a/bot7:s3cret" }),
                "channels.telegram.apiRoot",
            ),
            (json!({ "botToken": "7:s3cret", "mediaMaxMb": -1 }), "channels.telegram.mediaMaxMb"),
        ] {
            let why = of(settings).err().unwrap();
            assert!(why.contains(key) && !why.contains("s3cret"), "{why}");
        }
        let work = Account { id: "work".into(), settings: json!({}) };
        let why = Settings::of(&work).err().unwrap();
        assert!(why.contains("channels.telegram.accounts.work.botToken"), "{why}");
    }
}
