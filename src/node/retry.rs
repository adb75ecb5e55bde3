//! What follows from a refusal or a lost connection. Pure but for its dice.

use crabtree_protocol::Close;
use crabtree_protocol::connect::ConnectAuth;
use serde_json::Value;
use std::time::Duration;

/// The code a socket is closed with when the gateway takes the rights of its client back.
const REVOKED: u16 = 4001;
/// The first pause, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double from 1 to 30 s, each up to a fifth longer or shorter, so that many nodes do not come at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(5)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(rand::random_range(0.8..1.2)).clamp(FIRST, LONGEST)
    }

    /// It works again: the next pause is the first one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Whether a close means that the gateway does not want this node any more. That its shared secret was changed does
/// not: the node has a token of its own.
pub(super) fn is_removal(code: u16, reason: &str) -> bool {
    code == REVOKED && reason != Close::auth_changed().reason
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing helps but a person: this is what the gateway said.
    End(Value),
    /// The node's own token is worth nothing any more, but there is something else that lets it in.
    WithoutToken,
    /// A person has to approve the device; then it works.
    Approval {
        /// What is to be approved.
        request_id: Option<String>,
    },
    /// Try again.
    Again {
        /// What went wrong.
        why: String,
        /// When, if the gateway said so.
        wait: Option<Duration>,
    },
}

/// What follows when `connect` was refused; `has_other` says whether there is something to show instead of the token.
pub(super) fn after_refusal(error: &Value, has_other: bool) -> Next {
    let code = error["code"].as_str().unwrap_or_default();
    let detail = error["details"]["code"].as_str().unwrap_or_default();
    let again = || Next::Again {
        why: error["message"].as_str().unwrap_or("the gateway refused the connection").to_owned(),
        wait: error["retryAfterMs"].as_u64().map(Duration::from_millis),
    };
    match (code, detail) {
        (_, "PAIRING_REQUIRED") => {
            let request_id = error["details"]["requestId"].as_str().map(str::to_owned);
            Next::Approval { request_id }
        }
        (_, "AUTH_DEVICE_TOKEN_MISMATCH" | "AUTH_SCOPE_MISMATCH") if has_other => Next::WithoutToken,
        (_, "AUTH_RATE_LIMITED") => again(),
        ("UNAVAILABLE", detail) if detail != "PROTOCOL_MISMATCH" => again(),
        _ => Next::End(error.clone()),
    }
}

/// Whether anything is shown at all.
pub(super) fn lets_in(auth: &ConnectAuth) -> bool {
    auth.token.is_some() || auth.bootstrap_token.is_some() || auth.password.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        for whole in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = backoff.next().as_secs_f64();
            assert!((1.0..=30.0).contains(&pause), "{pause}");
            assert!((whole * 0.8..=whole * 1.2).contains(&pause), "{pause} for {whole}");
        }
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(1_201));
    }

    #[test]
    fn what_only_a_person_can_mend_ends_or_waits() {
        let refused =
            |code: &str, detail: &str| json!({ "code": code, "message": "m", "details": { "code": detail } });
        let pairing = json!({
            "code": "NOT_PAIRED", "message": "pairing required: device is not approved yet",
            "details": { "code": "PAIRING_REQUIRED", "requestId": "r" },
        });
        assert_eq!(after_refusal(&pairing, false), Next::Approval { request_id: Some("r".into()) });
        for detail in ["AUTH_TOKEN_MISMATCH", "AUTH_BOOTSTRAP_TOKEN_INVALID", "AUTH_DEVICE_TOKEN_MISMATCH"] {
            let error = refused("INVALID_REQUEST", detail);
            assert_eq!(after_refusal(&error, false), Next::End(error.clone()), "{detail}");
        }
        let stale = refused("INVALID_REQUEST", "AUTH_DEVICE_TOKEN_MISMATCH");
        assert_eq!(after_refusal(&stale, true), Next::WithoutToken);
        let mismatch = refused("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH");
        assert_eq!(after_refusal(&mismatch, true), Next::End(mismatch.clone()));
    }

    #[test]
    fn only_a_removal_is_for_good() {
        let means = |close: Close| is_removal(close.code, &close.reason);
        assert!(means(Close::device_removed()));
        for close in [Close::auth_changed(), Close::restart(), Close::starting(), Close::slow_consumer()] {
            assert!(!means(close));
        }
    }

    #[test]
    fn what_passes_is_tried_again_when_the_gateway_says() {
        let starting = json!({ "code": "UNAVAILABLE", "message": "gateway starting", "retryAfterMs": 500 });
        let wait = Some(Duration::from_millis(500));
        assert_eq!(after_refusal(&starting, false), Next::Again { why: "gateway starting".into(), wait });
        let limited = json!({ "code": "INVALID_REQUEST", "message": "m", "retryAfterMs": 9, "details": { "code": "AUTH_RATE_LIMITED" } });
        let wait = Some(Duration::from_millis(9));
        assert_eq!(after_refusal(&limited, true), Next::Again { why: "m".into(), wait });
    }
}
