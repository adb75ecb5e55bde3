//! Devices and their tokens as Rust sees them.

use serde::{Deserialize, Serialize};

/// A paired device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Fingerprint of the public key.
    pub device_id: String,
    /// ed25519 public key, base64url.
    pub public_key: String,
    /// Its name, as it says.
    pub display_name: Option<String>,
    /// Its name, as people say.
    pub label: Option<String>,
    /// E.g. `linux`.
    pub platform: Option<String>,
    /// E.g. `Mac`.
    pub device_family: Option<String>,
    /// E.g. `cli`.
    pub client_id: Option<String>,
    /// E.g. `cli`, `node`.
    pub client_mode: Option<String>,
    /// Approved roles.
    pub roles: Vec<String>,
    /// Approved scopes.
    pub scopes: Vec<String>,
    /// How it was approved: `owner`, `silent`, `bootstrap` …
    pub approved_via: Option<String>,
    /// When pairing was asked for, ms.
    pub created_at: i64,
    /// When it was approved, ms.
    pub approved_at: i64,
    /// ms; never goes back.
    pub last_seen_at: Option<i64>,
    /// E.g. `connect`.
    pub last_seen_reason: Option<String>,
    /// Address it paired from.
    pub remote_ip: Option<String>,
}

/// What is known of one device token, one per device and role. The token itself is never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The device, which must be stored.
    pub device_id: String,
    /// The role it speaks for.
    pub role: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Grows with each rotation and is never used again; a row with a lower one than stored is ignored.
    pub rotation: i64,
    /// ms.
    pub created_at: i64,
    /// ms.
    pub rotated_at: Option<i64>,
    /// ms.
    pub last_used_at: Option<i64>,
    /// ms; a revoked token is refused.
    pub revoked_at: Option<i64>,
}

/// A setup code: whoever shows its token first may pair with it. The token itself is never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupRow {
    /// Its id; tells nothing about the token.
    pub setup_id: String,
    /// Keyed hash of the token.
    pub token_hash: String,
    /// What is given for it: `limited`, `node`, `full`.
    pub access: String,
    /// ms.
    pub created_at: i64,
    /// ms; later the token is refused.
    pub expires_at: i64,
    /// The device that showed the token first.
    pub device_id: Option<String>,
    /// Its name.
    pub device_name: Option<String>,
    /// When the device was paired with it, ms; later the token is refused.
    pub completed_at: Option<i64>,
}
