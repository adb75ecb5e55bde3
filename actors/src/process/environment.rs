//! What a process inherits of the gateway's environment: all but what looks like a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Names with one of these in them are secrets.
const TELLING: [&str; 8] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "CREDENTIAL", "PRIVATEKEY"];
/// So are names of which one of these is a word, as in `OPENAI_API_KEY`; in others it may be part of another word.
const TELLING_WORDS: [&str; 5] = ["KEY", "KEYS", "PASS", "PAT", "DSN"];
/// The gateway's own; also what systemd wants to be told by it, and by nobody else.
const OURS: [&str; 4] = ["CRABTREE_", "OPENCLAW_", "NOTIFY_SOCKET", "WATCHDOG_"];

/// The gateway's environment without its secrets and its own settings.
pub fn inherited() -> BTreeMap<OsString, OsString> {
    harmless(std::env::vars_os())
}

fn harmless(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    // What cannot be read cannot be judged.
    all.filter(|(name, _)| name.to_str().is_some_and(|name| !is_private(name))).collect()
}

/// Whether a variable of this name stays with the gateway.
fn is_private(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    OURS.iter().any(|prefix| name.starts_with(prefix))
        || TELLING.iter().any(|part| name.contains(part))
        || name.split('_').any(|word| TELLING_WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_and_the_rest_goes_along() {
        let private = [
            "OPENCLAW_GATEWAY_PORT",
            "CRABTREE_STATE_DIR",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "OPENAI_API_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SESSION_TOKEN",
            "GITHUB_TOKEN",
            "GH_PAT",
            "PGPASSWORD",
            "SENTRY_DSN",
            "client_secret",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SMTP_PASS",
        ];
        let public = ["COMPASS", "HOME", "LANG", "PATH", "SSH_ASKPASS", "SSH_AUTH_SOCK", "XKB_KEYMAP"];
        let all = private.iter().chain(&public).map(|name| (name.into(), "x".into()));
        assert_eq!(harmless(all).into_keys().collect::<Vec<_>>(), public);
    }
}
