//! Channels: how their accounts are, starting and stopping them, who is let in, and sending.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::params::record;
use crate::value::{Int, Text, string_enum};

/// Parameters of `channels.status`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusParams {
    /// Whether the platforms are asked now; they are always asked.
    pub probe: Option<bool>,
    /// How long that may take, ms.
    pub timeout_ms: Option<Int<0>>,
    /// One channel only.
    pub channel: Option<Text>,
}

/// Parameters of `channels.start` and `channels.stop`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccountParams {
    /// The channel.
    pub channel: Text,
    /// One account only.
    pub account_id: Option<String>,
}

record! {
    /// Result of `channels.start` and `channels.stop`.
    pub struct Switched {
        /// The channel.
        channel: String,
        /// How many accounts were started or stopped.
        accounts: usize,
    }
}

/// Parameters of `channels.pairing.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairingListParams {
    /// One channel only.
    pub channel: Option<Text>,
    /// One account only.
    pub account_id: Option<Text>,
}

record! {
    /// Result of `channels.pairing.list`.
    pub struct PairingList {
        /// Accounts at which people may ask to be let in.
        accounts: Vec<PairingAccount>,
        /// Who asks.
        requests: Vec<PairingRequest>,
        /// Whether somebody may give commands.
        command_owner_configured: bool,
        /// How many may ask, and for how long.
        limits: PairingLimits,
    }
}

record! {
    /// An account at which people may ask to be let in.
    pub struct PairingAccount {
        /// The channel.
        channel: String,
        /// Its name for people.
        channel_label: String,
        /// The account.
        account_id: String,
        /// Whether who is let in can be told.
        notify_supported: bool,
    }
}

record! {
    /// Somebody who asks to be let in.
    pub struct PairingRequest {
        /// Names the request.
        request_id: String,
        /// The channel.
        channel: String,
        /// Its name for people.
        channel_label: String,
        /// The account.
        account_id: String,
        /// Who asks.
        sender_id: String,
        /// What that id is.
        sender_label: String,
        /// Their names, and the code they were given.
        metadata: BTreeMap<String, String>,
        /// When they wrote first, ISO 8601.
        created_at: String,
        /// When they wrote last.
        last_seen_at: String,
        /// Until when they may be let in.
        expires_at: String,
        /// Whether they can be told.
        notify_supported: bool,
    }
}

record! {
    /// How many may ask to be let in, and for how long.
    pub struct PairingLimits {
        /// At one account.
        pending_per_account: u32,
        /// ms.
        ttl_ms: i64,
    }
}

/// Parameters of `channels.pairing.approve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairingApproveParams {
    /// The channel.
    pub channel: Text,
    /// The account.
    pub account_id: Text,
    /// The request.
    pub request_id: Text,
    /// Whether they are told.
    pub notify: Option<bool>,
    /// Whether they may give commands: who is let in always may.
    pub bootstrap_command_owner: Option<bool>,
}

record! {
    /// Result of `channels.pairing.approve`.
    pub struct PairingApproved {
        /// The request.
        request_id: String,
        /// Who was let in.
        sender_id: String,
        /// Whether they are told: `sent` or `not-requested`.
        notification: String,
        /// `already-configured`: who is let in may give commands.
        command_owner_bootstrap: String,
    }
}

/// Parameters of `channels.pairing.dismiss`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairingDismissParams {
    /// The channel.
    pub channel: Text,
    /// The account.
    pub account_id: Text,
    /// The request.
    pub request_id: Text,
}

record! {
    /// Result of `channels.pairing.dismiss`.
    pub struct PairingDismissed {
        /// The request.
        request_id: String,
        /// Who is not let in.
        sender_id: String,
    }
}

record! {
    /// Result of `channels.presence` (ours).
    pub struct Presence {
        /// Who is there on channels.
        people: Vec<Value>,
    }
}

/// Parameters of `web.login.start`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginStartParams {
    /// Whether an account that is logged in logs in anew: it has to be stopped and forgotten for that, which is not
    /// done here.
    pub force: Option<bool>,
    /// How long a code is waited for, ms.
    pub timeout_ms: Option<Int<0>>,
    /// Whether more is logged.
    pub verbose: Option<bool>,
    /// The account.
    pub account_id: Option<String>,
}

/// Parameters of `web.login.wait`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginWaitParams {
    /// How long the login is waited for, ms.
    pub timeout_ms: Option<Int<0>>,
    /// The account.
    pub account_id: Option<String>,
    /// The code that is shown: another one is told at once.
    pub current_qr_data_url: Option<String>,
}

record! {
    /// Result of `web.login.start` and `web.login.wait`.
    pub struct Login {
        /// Whether the account is logged in.
        connected: bool,
        /// What to do, in words.
        message: String,
        ; optional
        /// The code to scan, a picture.
        qr_data_url: String,
    }
}

/// Parameters of `send`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendParams {
    /// Where to: the platform's id of a chat; `group:` and `channel:` in front of those that are no persons.
    pub to: Text,
    /// What it says.
    pub message: Option<String>,
    /// The channel; not needed if there is only one.
    pub channel: Option<String>,
    /// The account.
    pub account_id: Option<String>,
    /// The agent in whose name it is sent.
    pub agent_id: Option<String>,
    /// The message it replies to.
    pub reply_to_id: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
    /// Whether nobody is woken by it: not told to platforms yet.
    pub silent: Option<bool>,
    /// A file: not sent yet, and refused.
    pub media_url: Option<String>,
    /// Files.
    pub media_urls: Option<Vec<String>>,
    /// A file's content.
    pub buffer: Option<String>,
    /// A file's name.
    pub filename: Option<String>,
    /// A file's MIME type.
    pub content_type: Option<String>,
    /// How a file is shown.
    pub as_voice: Option<bool>,
    /// How a file is shown.
    pub gif_playback: Option<bool>,
    /// How a file is shown.
    pub force_document: Option<bool>,
    /// How the text is written: it is read as Markdown.
    pub parse_mode: Option<ParseMode>,
    /// The session it belongs to.
    pub session_key: Option<String>,
    /// The same again is one message.
    pub idempotency_key: Text,
}

string_enum! {
    /// How a text is written.
    any_of pub enum ParseMode {
        /// Telegram's HTML.
        Html = "HTML",
    }
}

record! {
    /// Result of `send`.
    pub struct SendResult {
        /// The idempotency key.
        run_id: String,
        /// What the platform calls the message, or the last of several.
        message_id: String,
        /// The channel.
        channel: String,
        /// The chat.
        chat_id: String,
    }
}
