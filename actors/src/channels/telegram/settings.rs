//! The settings of an account, as OpenClaw names them.

use crate::channels::contract::Account;
use crate::settings::expanded;
use reqwest::Url;
use serde_json::Value;
use std::path::PathBuf;

/// Where bots are served unless `apiRoot` says otherwise.
const CLOUD: &str = "https://api.telegram.org";
/// The largest file in either direction unless `mediaMaxMb` says otherwise: more than this the cloud lets no bot
/// download.
const MEDIA_MAX_MB: f64 = 20.0;
/// Where Telegram's updates are taken, unless `webhookHost`, `webhookPort` and `webhookPath` say otherwise.
const HOOK_HOST: &str = "127.0.0.1";
const HOOK_PORT: u64 = 8787;
const HOOK_PATH: &str = "/telegram-webhook";
/// The path that is asked whether the listener is there.
pub(super) const HEALTH: &str = "/healthz";
/// The longest secret that Telegram takes.
const MAX_SECRET: usize = 256;

/// What an account needs. It has no Debug: the token is a secret.
pub(super) struct Settings {
    pub token: String,
    pub root: Url,
    pub link_preview: bool,
    /// The largest file, bytes.
    pub media_max: usize,
    /// Set where Telegram brings its updates, rather than having them fetched.
    pub hook: Option<Hook>,
}

/// `webhook…`: where Telegram brings its updates.
pub(super) struct Hook {
    /// As Telegram knows it.
    pub url: Url,
    /// What it says with each.
    pub secret: String,
    pub host: String,
    pub port: u16,
    pub path: String,
    /// The certificate of the address, where nobody else vouches for it.
    pub certificate: Option<PathBuf>,
}

impl Hook {
    fn of(account: &Account, key: impl Fn(&str) -> String) -> Result<Option<Self>, String> {
        let Some(url) = account.text("webhookUrl") else { return Ok(None) };
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| format!("{} is no http or https address", key("webhookUrl")))?;
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let secret = account.text("webhookSecret").unwrap_or_default();
        if secret.is_empty() || secret.len() > MAX_SECRET || !secret.bytes().all(is_safe) {
            return Err(format!(
                "{} has to be set beside webhookUrl: 1 to {MAX_SECRET} letters, digits, _ and -, best made by \
                 openssl rand -hex 32",
                key("webhookSecret")
            ));
        }
        let path = account.text("webhookPath").unwrap_or(HOOK_PATH);
        if !path.starts_with('/') || path == HEALTH {
            return Err(format!("{} has to begin with / and not to be {HEALTH}", key("webhookPath")));
        }
        let port = account.settings.get("webhookPort").filter(|port| !port.is_null());
        let port = port.map_or(Some(HOOK_PORT), Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let port = port.filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("{} is no number from 1 to 65535", key("webhookPort")))?;
        Ok(Some(Self {
            url,
            secret: secret.into(),
            host: account.text("webhookHost").unwrap_or(HOOK_HOST).into(),
            port,
            path: path.into(),
            certificate: account.text("webhookCertPath").map(expanded),
        }))
    }
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
            hook: Hook::of(account, key)?,
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
    fn a_webhook_is_where_openclaw_has_it() {
        let hook = |more: Value| {
            let mut settings = json!({ "botToken": "1:x", "webhookUrl": "https://bot.example/tg", "webhookSecret": "s3cret" });
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(settings).map(|settings| settings.hook.unwrap())
        };
        let own = hook(json!({})).ok().unwrap();
        assert_eq!((&*own.host, own.port, &*own.path), ("127.0.0.1", 8787, "/telegram-webhook"));
        assert!(of(json!({ "botToken": "1:x" })).ok().unwrap().hook.is_none());
        for (wrong, key) in [
            (json!({ "webhookUrl": "s3cret" }), "webhookUrl"),
            (json!({ "webhookSecret": null }), "webhookSecret"),
            (json!({ "webhookSecret": "not s3cret" }), "webhookSecret"),
            (json!({ "webhookPath": "/healthz" }), "webhookPath"),
            (json!({ "webhookPort": 0 }), "webhookPort"),
        ] {
            let why = hook(wrong).err().unwrap();
            assert!(why.contains(&format!("channels.telegram.{key}")) && !why.contains("s3cret"), "{why}");
        }
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
