//! Changing sessions: `sessions.patch` and `sessions.patchMany`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::chat::{FastMode, PermissionMode, ToolOverrides};
use super::record;
use super::session_entry::{Resolved, SessionEntry};
use super::sessions::BoardFace;
use crate::refusal::Refusal;
use crate::session_key::SessionKey;
use crate::value::{Int, List, Maybe, Number, Text, string_enum};

string_enum! {
    /// What a session asks a person for.
    one_of pub enum Attention {
        /// A hand.
        Hand = "hand",
        /// A key.
        Key = "key",
        /// A look.
        Alert = "alert",
        /// A decision.
        Flag = "flag",
        /// A permission.
        Lock = "lock",
        /// Patience.
        Hourglass = "hourglass",
    }
}

string_enum! {
    /// Whether answers tell their usage.
    any_of pub enum ResponseUsage {
        /// They do not.
        Off = "off",
        /// Tokens.
        Tokens = "tokens",
        /// Everything.
        Full = "full",
        /// As `tokens`.
        On = "on",
    }
}

string_enum! {
    /// Whether a session may send.
    any_of pub enum SendPolicy {
        /// It may.
        Allow = "allow",
        /// It may not.
        Deny = "deny",
    }
}

string_enum! {
    /// When a session answers in a group.
    any_of pub enum GroupActivation {
        /// When it is mentioned.
        Mention = "mention",
        /// Always.
        Always = "always",
    }
}

/// The changes are the same for one session and for many; unknown properties are refused in both, which
/// rules out one type flattened into the other.
macro_rules! changes {
    ($($(#[$meta:meta])* $field:ident: $type:ty,)+) => {
        /// What to change of a session; `null` takes a value away.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[schemars(extend("minProperties" = 1))]
        pub struct Changes { $($(#[$meta])* pub $field: $type,)+ }

        /// Parameters of `sessions.patch`.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct PatchParams {
            /// The session; one that does not exist is created.
            pub key: Text,
            /// The agent.
            pub agent_id: Option<Text>,
            /// The id the session must have.
            pub expected_session_id: Option<Text>,
            /// The revision the session must have.
            pub expected_lifecycle_revision: Option<Text>,
            /// What tools must be allowed to do; null for the default.
            #[serde(default)]
            pub expected_permission_mode: Maybe<PermissionMode>,
            /// Which tools must be switched; null for none.
            #[serde(default)]
            pub expected_tool_overrides: Maybe<ToolOverrides>,
            /// When it must have been marked as unread; null for never.
            #[serde(default)]
            pub expected_marked_unread_at: Maybe<Number>,
            $($(#[$meta])* pub $field: $type,)+
        }

        impl PatchParams {
            /// What to change, whatever is expected of whichever session.
            pub fn changes(&self) -> Changes {
                Changes { $($field: self.$field.clone(),)+ }
            }
        }
    };
}

changes! {
    /// Its name, which no other session has.
    #[serde(default)]
    label: Maybe<Text<512>>,
    /// Its icon.
    #[serde(default)]
    icon: Maybe<String>,
    /// Its color.
    #[serde(default)]
    color: Maybe<String>,
    /// Its group.
    #[serde(default)]
    category: Maybe<Text<512>>,
    /// What it shows first.
    board_face: Option<BoardFace>,
    /// What it is at, for a while; null also clears `attention`.
    #[serde(default)]
    status_note: Maybe<Text<120, 0>>,
    /// What it asks a person for.
    #[serde(default)]
    attention: Maybe<Attention>,
    /// Minutes the two stand.
    ttl_minutes: Option<Int<1, 120>>,
    /// Whether it is archived.
    archived: Option<bool>,
    /// Whether it is pinned.
    pinned: Option<bool>,
    /// Whether it is marked as unread; false marks it as read.
    unread: Option<bool>,
    /// How much of the model's window to use.
    #[serde(default)]
    context_window: Maybe<Text>,
    /// How hard to think.
    #[serde(default)]
    thinking_level: Maybe<Text>,
    /// Faster answers.
    #[serde(default)]
    fast_mode: Maybe<FastMode>,
    /// Tools that are switched on or off.
    #[serde(default)]
    tool_overrides: Maybe<ToolOverrides>,
    /// How much it tells.
    #[serde(default)]
    verbose_level: Maybe<Text>,
    /// How much it tells of its steps.
    #[serde(default)]
    trace_level: Maybe<Text>,
    /// How much it tells of its thoughts.
    #[serde(default)]
    reasoning_level: Maybe<Text>,
    /// Whether answers tell their usage.
    #[serde(default)]
    response_usage: Maybe<ResponseUsage>,
    /// Whether commands run with more rights.
    #[serde(default)]
    elevated_level: Maybe<Text>,
    /// Where commands run.
    #[serde(default)]
    exec_host: Maybe<Text>,
    /// Which commands may run; retired for `permissionMode`.
    #[serde(default)]
    exec_security: Maybe<Text>,
    /// When a person is asked first; retired for `permissionMode`.
    #[serde(default)]
    exec_ask: Maybe<Text>,
    /// The node commands run on.
    #[serde(default)]
    exec_node: Maybe<Text>,
    /// What tools may do.
    #[serde(default)]
    permission_mode: Maybe<PermissionMode>,
    /// The model.
    #[serde(default)]
    model: Maybe<Text>,
    /// The session that is told of its end.
    #[serde(default)]
    completion_owner_session_key: Maybe<Text>,
    /// How the next two are read: 1.
    #[serde(default)]
    inherited_tool_policy_version: Maybe<Int<1, 1>>,
    /// Tools its parent may use.
    #[serde(default)]
    inherited_tool_allow: Maybe<Vec<Text>>,
    /// Tools its parent may not use.
    #[serde(default)]
    inherited_tool_deny: Maybe<Vec<Text>>,
    /// Whether it may send.
    #[serde(default)]
    send_policy: Maybe<SendPolicy>,
    /// When it answers in a group.
    #[serde(default)]
    group_activation: Maybe<GroupActivation>,
}

record! {
    /// Result of `sessions.patch`.
    pub struct Patched {
        /// Always true.
        ok: bool,
        /// Where sessions are stored.
        path: String,
        /// The session.
        key: SessionKey,
        /// What is kept of it.
        entry: SessionEntry,
        /// What it runs on.
        resolved: Resolved,
    }
}

/// One session of `sessions.patchMany`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchTarget {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The id the session must have.
    pub expected_session_id: Option<Text>,
    /// The revision the session must have.
    pub expected_lifecycle_revision: Option<Text>,
}

/// Most sessions changed at once.
pub const MAX_PATCH_TARGETS: usize = 100;

/// Parameters of `sessions.patchMany`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchManyParams {
    /// The sessions.
    pub targets: List<PatchTarget, 1, MAX_PATCH_TARGETS>,
    /// What to change of each.
    #[serde(deserialize_with = "some_change")]
    pub patch: Changes,
}

fn some_change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Changes, D::Error> {
    let changes = Changes::deserialize(deserializer)?;
    if changes == Changes::default() { Err(de::Error::custom("nothing to change")) } else { Ok(changes) }
}

record! {
    /// Result of `sessions.patchMany`.
    pub struct PatchedMany {
        /// One for each target, in their order.
        outcomes: Vec<PatchOutcome>,
    }
}

record! {
    /// What became of one target.
    pub struct PatchOutcome {
        /// Whether it was changed.
        ok: bool,
        /// The session.
        key: String,
        ; optional
        /// The agent, if the target named one.
        agent_id: String,
        /// Why it was not.
        error: Refusal,
    }
}
