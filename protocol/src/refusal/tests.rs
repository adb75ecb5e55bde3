use super::*;
use crate::connect::{ClientId, ClientMode};
use crate::frame::Close;

fn json_of(refusal: &Refusal) -> String {
    let mut out = Vec::new();
    refusal.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

/// Checks the answer byte for byte and the reason of the 1008 close.
#[track_caller]
fn check(refused: ConnectRefusal, error: &str, reason: &str) {
    assert_eq!(json_of(&refused.refusal.unwrap()), error);
    assert_eq!(refused.close, Close { code: 1008, reason: reason.to_owned() });
}

#[test]
fn method_refusals_are_the_recorded_ones() {
    let cases = [
        (
            Refusal::missing_scope(Scope::Write),
            r#"{"code":"FORBIDDEN","message":"missing scope: operator.write","details":{"code":"MISSING_SCOPE","missingScope":"operator.write","requiredScopes":["operator.write"]}}"#,
        ),
        (
            Refusal::missing_scope_of(Scope::TalkSecrets, &[Scope::Read, Scope::TalkSecrets]),
            r#"{"code":"FORBIDDEN","message":"missing scope: operator.talk.secrets","details":{"code":"MISSING_SCOPE","missingScope":"operator.talk.secrets","requiredScopes":["operator.read","operator.talk.secrets"]}}"#,
        ),
        (
            Refusal::draining("chat.send", "accepting"),
            r#"{"code":"UNAVAILABLE","message":"chat.send unavailable during gateway restart","retryable":true,"retryAfterMs":1000,"details":{"method":"chat.send","reason":"gateway-restarting","phase":"accepting"}}"#,
        ),
        (
            Refusal::expected_profile_mismatch(),
            r#"{"code":"INVALID_REQUEST","message":"Selected account changed or is unavailable. Select the account again before retrying.","details":{"reason":"EXPECTED_PROFILE_MISMATCH","execution":"not_started"}}"#,
        ),
        (
            Refusal::chat_request_conflict(),
            r#"{"code":"INVALID_REQUEST","message":"This message ID was already used for different input. Check the conversation history and use a new message ID to send again.","details":{"reason":"chat-request-conflict"}}"#,
        ),
        (
            Refusal::unknown_agent("ghost"),
            r#"{"code":"INVALID_REQUEST","message":"invalid agent params: unknown agent id \"ghost\""}"#,
        ),
        (
            Refusal::groups_in_use(&[("grp1", 1), ("grp2", 1)]),
            r#"{"code":"INVALID_REQUEST","message":"sessions.groups.put cannot drop groups that still have member sessions: \"grp1\" (1), \"grp2\" (1); include them in names or remove them via sessions.groups.delete"}"#,
        ),
        (
            Refusal::session_changed("agent:main:t5msg", "reset"),
            r#"{"code":"INVALID_REQUEST","message":"Session agent:main:t5msg changed before reset. Retry.","details":{"reason":"session-changed"}}"#,
        ),
        (
            Refusal::thinking_unsupported("high", "mock", "mock-1", &["off"]),
            r#"{"code":"INVALID_REQUEST","message":"thinkingLevel \"high\" is not supported for mock/mock-1 (use off)"}"#,
        ),
        (
            Refusal::unknown_provider("nope"),
            r#"{"code":"INVALID_REQUEST","message":"Unknown provider \"nope\". Use /models to list providers."}"#,
        ),
        (
            Refusal::unauthorized_role(Role::Node),
            r#"{"code":"INVALID_REQUEST","message":"unauthorized role: node"}"#,
        ),
    ];
    for (refusal, expected) in cases {
        assert_eq!(json_of(&refusal), expected);
        assert_eq!(serde_json::from_str::<Refusal>(expected).unwrap(), refusal);
    }
}

#[test]
fn a_gateway_that_starts_says_when_to_come_back() {
    let refused = ConnectRefusal::starting();
    assert_eq!(
        json_of(&refused.refusal.unwrap()),
        r#"{"code":"UNAVAILABLE","message":"gateway starting; retry shortly","retryable":true,"retryAfterMs":500,"details":{"reason":"startup-sidecars"}}"#
    );
    assert_eq!(refused.close, Close { code: 1013, reason: "gateway starting".into() });
}

#[test]
fn a_protocol_mismatch_closes_with_1002() {
    let refused = ConnectRefusal::protocol_mismatch(5, 5);
    assert_eq!(
        json_of(&refused.refusal.unwrap()),
        r#"{"code":"INVALID_REQUEST","message":"protocol mismatch","details":{"code":"PROTOCOL_MISMATCH","clientMinProtocol":5,"clientMaxProtocol":5,"expectedProtocol":4,"minimumProbeProtocol":3}}"#
    );
    assert_eq!(refused.close.code, 1002);
}

#[test]
fn credential_refusals_carry_the_hint_for_the_client() {
    let cli = Hint::of(ClientId::Cli, ClientMode::Cli, true);
    check(
        ConnectRefusal::credential_mismatch(Credential::Token, cli, true),
        r#"{"code":"INVALID_REQUEST","message":"unauthorized: gateway token mismatch (use this gateway's gateway.auth.token or pair the device)","details":{"code":"AUTH_TOKEN_MISMATCH","authReason":"token_mismatch","canRetryWithDeviceToken":true,"recommendedNextStep":"retry_with_device_token"}}"#,
        "unauthorized: gateway token mismatch (use this gateway's gateway.auth.token or pair the device)",
    );
    check(
        ConnectRefusal::credential_missing(Credential::Password, cli),
        r#"{"code":"INVALID_REQUEST","message":"unauthorized: gateway password missing (use this gateway's gateway.auth.password)","details":{"code":"AUTH_PASSWORD_MISSING","authReason":"password_missing","canRetryWithDeviceToken":false,"recommendedNextStep":"update_auth_configuration"}}"#,
        "unauthorized: gateway password missing (use this gateway's gateway.auth.password)",
    );
    let message = |id, mode, local, missing| {
        let hint = Hint::of(id, mode, local);
        let refused = if missing {
            ConnectRefusal::credential_missing(Credential::Token, hint)
        } else {
            ConnectRefusal::credential_mismatch(Credential::Token, hint, false)
        };
        refused.refusal.unwrap().message
    };
    use ClientId::{Cli, ControlUi, GatewayClient, NodeHost};
    for (id, mode, local, missing, hint) in [
        (
            Cli,
            ClientMode::Cli,
            false,
            false,
            "mismatch (set gateway.remote.token to match gateway.auth.token)",
        ),
        (
            ControlUi,
            ClientMode::Webchat,
            true,
            false,
            "mismatch (open the dashboard URL and paste the token in Control UI settings)",
        ),
        (
            ControlUi,
            ClientMode::Webchat,
            true,
            true,
            "missing (paste in Control UI settings or openclaw doctor --generate-gateway-token; restart)",
        ),
        (GatewayClient, ClientMode::Backend, true, false, "mismatch (provide gateway auth token)"),
        (NodeHost, ClientMode::Node, true, true, "missing (provide gateway auth token)"),
    ] {
        assert_eq!(message(id, mode, local, missing), format!("unauthorized: gateway token {hint}"));
    }
}

#[test]
fn a_lockout_is_retryable() {
    check(
        ConnectRefusal::rate_limited(3982),
        r#"{"code":"INVALID_REQUEST","message":"unauthorized: too many failed authentication attempts (retry later)","retryable":true,"retryAfterMs":3982,"details":{"code":"AUTH_RATE_LIMITED","authReason":"rate_limited","canRetryWithDeviceToken":false,"recommendedNextStep":"wait_then_retry"}}"#,
        "unauthorized: too many failed authentication attempts (retry later)",
    );
}

#[test]
fn a_proxy_without_an_identity_is_unauthorized() {
    check(
        ConnectRefusal::trusted_proxy("trusted_proxy_missing_header_x-forwarded-proto"),
        r#"{"code":"INVALID_REQUEST","message":"unauthorized","details":{"code":"AUTH_IDENTITY_HEADER_REQUIRED","authReason":"trusted_proxy_missing_header_x-forwarded-proto","canRetryWithDeviceToken":false,"recommendedNextStep":"review_auth_configuration"}}"#,
        "unauthorized",
    );
}

#[test]
fn pairing_names_the_request_and_cuts_the_reason() {
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (asked, roles) = (strings(&["operator.read", "operator.admin"]), strings(&["operator"]));
    let approved = strings(&["operator.read", "operator.write"]);
    let pairing = PairingRequired {
        reason: PairingReason::ScopeUpgrade,
        request_id: "fdf336da-abc2-4da8-917e-b820cf09c825",
        wait_then_retry: false,
        device_id: "246d",
        requested_role: "operator",
        requested_scopes: &asked,
        approved_roles: &roles,
        approved_scopes: &approved,
    };
    check(
        ConnectRefusal::pairing_required(&pairing),
        r#"{"code":"NOT_PAIRED","message":"pairing required: device is asking for more scopes than currently approved","details":{"code":"PAIRING_REQUIRED","reason":"scope-upgrade","requestId":"fdf336da-abc2-4da8-917e-b820cf09c825","remediationHint":"Review the requested scopes, then approve the pending upgrade.","deviceId":"246d","requestedRole":"operator","requestedScopes":["operator.read","operator.admin"],"approvedRoles":["operator"],"approvedScopes":["operator.read","operator.write"]}}"#,
        "pairing required: device is asking for more scopes than currently approved (requestId: fdf336da-abc2-4da8-917e-b820cf09c",
    );
    let waiting = PairingRequired {
        reason: PairingReason::MetadataUpgrade,
        wait_then_retry: true,
        requested_scopes: &[],
        ..pairing
    };
    let details = ConnectRefusal::pairing_required(&waiting).refusal.unwrap().details.unwrap();
    assert_eq!(
        details.to_string(),
        r#"{"code":"PAIRING_REQUIRED","reason":"metadata-upgrade","requestId":"fdf336da-abc2-4da8-917e-b820cf09c825","remediationHint":"Review the refreshed device details, then approve the pending request.","recommendedNextStep":"wait_then_retry","retryable":true,"pauseReconnect":false,"deviceId":"246d","requestedRole":"operator","approvedRoles":["operator"],"approvedScopes":["operator.read","operator.write"]}"#
    );
}

#[test]
fn devices_and_origins_are_refused_with_a_code() {
    check(
        ConnectRefusal::device_required(),
        r#"{"code":"NOT_PAIRED","message":"device identity required","details":{"code":"DEVICE_IDENTITY_REQUIRED"}}"#,
        "device identity required",
    );
    check(
        ConnectRefusal::device_signature_expired(),
        r#"{"code":"INVALID_REQUEST","message":"device signature expired","details":{"code":"DEVICE_AUTH_SIGNATURE_EXPIRED","reason":"device-signature-stale"}}"#,
        "device signature expired",
    );
    check(
        ConnectRefusal::origin(false),
        r#"{"code":"INVALID_REQUEST","message":"origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)","details":{"code":"CONTROL_UI_ORIGIN_NOT_ALLOWED","reason":"origin not allowed"}}"#,
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
    );
}
