//! Devices: who is paired, who asks to be, their tokens, and setup codes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::questions::True;
use super::record;
use crate::scope::Role;
use crate::value::{List, Text, string_enum};

/// Parameters of `device.pair.approve`, `device.pair.reject` and `device.scopes.waitUpgrade`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestParams {
    /// The request.
    pub request_id: Text,
}

/// Parameters of `device.pair.remove`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceParams {
    /// The device.
    pub device_id: Text,
}

/// Parameters of `device.pair.rename`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameParams {
    /// The device.
    pub device_id: Text,
    /// What people call it.
    pub label: Text<64>,
}

/// Parameters of `device.token.rotate`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateParams {
    /// The device.
    pub device_id: Text,
    /// The role the token is for.
    pub role: Text,
    /// What the new token may do; the same as the last one when absent.
    pub scopes: Option<Vec<Text>>,
}

/// Parameters of `device.token.revoke`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeParams {
    /// The device.
    pub device_id: Text,
    /// The role the token is for.
    pub role: Text,
}

/// Parameters of `device.scopes.requestUpgrade`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeParams {
    /// All scopes the device is to have, those of the connection among them.
    pub scopes: List<Text, 1, 8>,
}

string_enum! {
    /// What whoever uses a setup code is given.
    any_of pub enum SetupProfile {
        /// A node, and an operator without administration: the default of this gateway.
        Limited = "limited",
        /// A node alone.
        Node = "node",
        /// A node and an administrator (ours, in this place; elsewhere it is the default).
        Full = "full",
    }
}

/// Parameters of `device.pair.setupCode`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetupCodeParams {
    /// Where the device reaches this gateway; by default what the configuration says.
    pub public_url: Option<Text>,
    /// Whether `gateway.remote.url` goes before all else that the configuration says.
    pub prefer_remote_url: Option<bool>,
    /// Whether a picture of the code is wanted; it is unless this says no.
    pub include_qr: Option<bool>,
    /// What the device is given.
    pub bootstrap_profile: Option<SetupProfile>,
    /// Asks for a link that hands the code out; there is none.
    pub join_url: Option<True>,
}

/// Parameters of `device.pair.setupStatus`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetupStatusParams {
    /// The setup, as `device.pair.setupCode` named it.
    pub setup_id: Text<128>,
}

/// A request to pair that waits; also the event `device.pair.requested`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingDevice {
    /// The request.
    pub request_id: String,
    /// The device.
    pub device_id: String,
    /// Its public key, base64url.
    pub public_key: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Its platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Its kind of device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What its program is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// The role it asked for last.
    pub role: Role,
    /// All roles it asks for.
    pub roles: Vec<Role>,
    /// All scopes it asks for.
    pub scopes: Vec<String>,
    /// Where it is, if elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// Whether a device on this machine would have been approved without being asked about.
    pub silent: bool,
    /// Whether the device is paired already.
    pub is_repair: bool,
    /// When it asked, ms.
    pub ts: i64,
}

record! {
    /// What is known of a device's token.
    pub struct TokenShown {
        /// The role it is for.
        role: String,
        /// What it may do.
        scopes: Vec<String>,
        /// When the first one was made, ms.
        created_at_ms: i64,
        ; optional
        /// When this one was made, ms.
        rotated_at_ms: i64,
        /// When it was revoked, ms.
        revoked_at_ms: i64,
        /// When it was shown last, ms.
        last_used_at_ms: i64,
    }
}

record! {
    /// A paired device.
    pub struct PairedDevice {
        /// The device.
        device_id: String,
        /// Its public key, base64url.
        public_key: String,
        /// Its first role.
        role: String,
        /// Its roles.
        roles: Vec<String>,
        /// What it may be granted.
        scopes: Vec<String>,
        /// When it asked first, ms.
        created_at_ms: i64,
        /// When it was approved last, ms.
        approved_at_ms: i64,
        /// Its tokens.
        tokens: Vec<TokenShown>,
        ; optional
        /// Its name.
        display_name: String,
        /// What people call it.
        operator_label: String,
        /// Its platform.
        platform: String,
        /// Its kind of device.
        device_family: String,
        /// Its program.
        client_id: String,
        /// What its program is.
        client_mode: String,
        /// Where it was when it was approved, if elsewhere.
        remote_ip: String,
        /// How it was approved: `owner`, `silent`, `bootstrap` …
        approved_via: String,
        /// When it was seen last, ms.
        last_seen_at_ms: i64,
        /// Doing what.
        last_seen_reason: String,
        /// Whether it is connected; in lists.
        connected: bool,
    }
}

record! {
    /// Result of `device.pair.list`.
    pub struct Devices {
        /// Who asks, the latest first.
        pending: Vec<PendingDevice>,
        /// Who is paired, the latest first.
        paired: Vec<PairedDevice>,
    }
}

record! {
    /// Result of `device.pair.approve`.
    pub struct Approved {
        /// The request.
        request_id: String,
        /// The device.
        device: PairedDevice,
    }
}

record! {
    /// Result of `device.pair.reject`.
    pub struct Rejected {
        /// The request.
        request_id: String,
        /// The device.
        device_id: String,
    }
}

record! {
    /// Result of `device.pair.remove`.
    pub struct Removed {
        /// The device.
        device_id: String,
    }
}

record! {
    /// Result of `device.pair.rename`.
    pub struct Renamed {
        /// The device.
        device_id: String,
        /// What people call it.
        label: String,
    }
}

record! {
    /// Result of `device.token.rotate`.
    pub struct Rotated {
        /// The device.
        device_id: String,
        /// The role the token is for.
        role: String,
        /// What it may do.
        scopes: Vec<String>,
        /// When it was made, ms.
        rotated_at_ms: i64,
        /// `in-band`, or `withheld-cross-device`: another device's token is told to nobody.
        token_delivery: String,
        ; optional
        /// The token, for the device itself.
        token: String,
    }
}

record! {
    /// Result of `device.token.revoke`.
    pub struct Revoked {
        /// The device.
        device_id: String,
        /// The role the token was for.
        role: String,
        /// When it was revoked, ms.
        revoked_at_ms: i64,
    }
}

record! {
    /// Result of `device.scopes.requestUpgrade`.
    pub struct UpgradeRequested {
        /// The request.
        request_id: String,
    }
}

record! {
    /// Result of `device.scopes.waitUpgrade`.
    pub struct Upgraded {
        /// `approved`, `rejected` or `expired`.
        status: String,
        /// The request.
        request_id: String,
        ; optional
        /// The new token; the last one is dead.
        device_token: String,
        /// What it may do.
        scopes: Vec<String>,
    }
}

record! {
    /// Result of `device.pair.setupCode`.
    pub struct SetupCode {
        /// The setup.
        setup_id: String,
        /// How long the code is good, ms.
        expires_at_ms: i64,
        /// The code: base64url of what is in it.
        setup_code: String,
        /// Where the device will look for this gateway.
        gateway_url: String,
        /// How the gateway authenticates others: `token`, `password` …
        auth: String,
        /// Who says where the gateway is.
        url_source: String,
        /// What the device is given.
        access: SetupProfile,
        ; optional
        /// A picture of the code, as a data URL.
        qr_data_url: String,
        /// Whether less is given than was asked for, since the way to the gateway is not encrypted.
        access_downgraded: bool,
    }
}

record! {
    /// A setup code was used; also the event `device.pair.setup.completed`.
    pub struct SetupCompleted {
        /// The setup.
        setup_id: String,
        /// The device.
        device_id: String,
        /// What it was given.
        access: SetupProfile,
        /// When, ms.
        ts: i64,
        ; optional
        /// Its name.
        device_name: String,
    }
}

record! {
    /// Result of `device.pair.setupStatus`.
    pub struct SetupStatus {
        ; optional
        /// That the code was used, if it was.
        completion: SetupCompleted,
    }
}
