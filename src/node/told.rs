//! What a node tells whoever started it.

use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It tries to reach the gateway.
    Connecting {
        /// Where.
        url: String,
    },
    /// The gateway does not know the device yet.
    DeviceWaits {
        /// What a person has to approve.
        request_id: Option<String>,
    },
    /// It is connected.
    Connected {
        /// Who it is.
        node_id: String,
    },
    /// It is connected, but nobody has agreed yet to what it offers.
    SurfaceWaits {
        /// What a person has to approve.
        request_id: Option<String>,
    },
    /// What it offers may be used.
    Approved,
    /// It carried a command out, or refused to.
    Done {
        /// Which.
        command: String,
        /// Why not, if it did not.
        error: Option<String>,
        /// How long that took.
        took: Duration,
    },
    /// It ended a command that nobody waits for any more.
    Cancelled {
        /// Which.
        command: String,
    },
    /// It is not connected, and tries again.
    Disconnected {
        /// Why.
        why: String,
        /// When it tries again.
        retry_in: Duration,
    },
}

/// How a node's life ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It was stopped.
    Stopped,
    /// The gateway knows it no more.
    Removed {
        /// In the gateway's words.
        reason: String,
    },
    /// The gateway refused it for good.
    Refused(
        /// What it said.
        Value,
    ),
}

/// What a person does about a device that waits.
fn device(request_id: Option<&str>) -> String {
    request_id.map_or_else(|| "crabtree devices list".into(), |id| format!("crabtree devices approve {id}"))
}

/// What a person does about a surface that waits.
fn surface(request_id: Option<&str>) -> String {
    request_id.map_or_else(|| "crabtree node status".into(), |id| format!("crabtree node approve {id}"))
}

impl Told {
    /// For programs.
    pub fn json(&self) -> Value {
        match self {
            Self::Connecting { url } => json!({"state": "connecting", "url": url}),
            Self::DeviceWaits { request_id } => json!({
                "state": "waiting", "for": "device", "requestId": request_id, "next": device(request_id.as_deref()),
            }),
            Self::Connected { node_id } => json!({"state": "connected", "nodeId": node_id}),
            Self::SurfaceWaits { request_id } => json!({
                "state": "waiting", "for": "commands", "requestId": request_id,
                "next": surface(request_id.as_deref()),
            }),
            Self::Approved => json!({"state": "approved"}),
            Self::Done { command, error, took } => {
                let mut line = json!({"state": "done", "command": command, "ok": error.is_none(),
                    "tookMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX)});
                if let Some(error) = error {
                    line["error"] = error.as_str().into();
                }
                line
            }
            Self::Cancelled { command } => json!({"state": "cancelled", "command": command}),
            Self::Disconnected { why, retry_in } => json!({
                "state": "disconnected", "why": why,
                "retryInMs": u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting { url } => write!(f, "connecting to {url}"),
            Self::DeviceWaits { request_id } => write!(
                f,
                "this device is not approved yet; on the gateway's machine: {}",
                device(request_id.as_deref())
            ),
            Self::Connected { node_id } => write!(f, "connected as {node_id}"),
            Self::SurfaceWaits { request_id } => write!(
                f,
                "nobody has approved yet what this node offers; on the gateway's machine: {}",
                surface(request_id.as_deref())
            ),
            Self::Approved => write!(f, "approved: this node works"),
            Self::Done { command, error: None, took } => {
                write!(f, "{command}: done in {} ms", took.as_millis())
            }
            Self::Done { command, error: Some(error), .. } => write!(f, "{command}: refused: {error}"),
            Self::Cancelled { command } => write!(f, "{command}: cancelled"),
            Self::Disconnected { why, retry_in } => {
                write!(f, "not connected: {why}; trying again in {:.1} s", retry_in.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_says_what_to_do() {
        let device = Told::DeviceWaits { request_id: Some("r1".into()) };
        assert!(device.to_string().ends_with("crabtree devices approve r1"));
        assert_eq!(device.json()["next"], "crabtree devices approve r1");
        let surface = Told::SurfaceWaits { request_id: Some("r2".into()) };
        assert!(surface.to_string().ends_with("crabtree node approve r2"));
        assert_eq!(Told::SurfaceWaits { request_id: None }.json()["next"], "crabtree node status");
    }
}
