use super::*;
use crate::frame::Close;

const CLI: &str = r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"cli","version":"2026.9.6","platform":"linux","mode":"cli"},"caps":[],"role":"operator","scopes":["operator.admin"],"auth":{"token":"t"}}"#;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn parse(text: &str) -> Result<ConnectParams, ConnectRefusal> {
    ConnectParams::parse(Some(&raw(text)))
}

/// The recorded parameters with a value put in, taken out (null), or replaced.
fn changed(pointer: &str, value: Value) -> String {
    let mut params: Value = serde_json::from_str(CLI).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = params.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.shift_remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    params.to_string()
}

#[test]
fn recorded_connects_are_read() {
    let node = r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"node-host","version":"2026.9.6","platform":"linux","mode":"node","deviceFamily":"Linux","displayName":"Probe node","instanceId":"i","modelIdentifier":"m","timeZone":"Europe/Vienna"},"caps":["system","canvas"],"role":"node","scopes":[],"auth":{"token":"t","deviceToken":"d"},"commands":["system.run"],"permissions":{"system.run":true},"pathEnv":"/bin","device":{"id":"f3","publicKey":"0U","signature":"lb","signedAt":1795138780541,"nonce":"n"},"locale":"en-US","userAgent":"x"}"#;
    let control_ui = r#"{"minProtocol":4,"maxProtocol":4,"client":{"id":"openclaw-control-ui","version":"2026.9.6","platform":"linux","mode":"webchat","buildId":"b"},"caps":["tool-events"],"auth":{"password":"p"},"modelCatalog":{"agentId":"main","sessionKey":"agent:main:main"}}"#;
    for text in [CLI, node, control_ui] {
        parse(text).unwrap();
    }
    let node = parse(node).unwrap();
    assert_eq!(node.check().unwrap(), Role::Node);
    assert!(node.requested_scopes().is_empty() && node.has_cap("canvas"));
    let control_ui = parse(control_ui).unwrap();
    assert_eq!(control_ui.check().unwrap(), Role::Operator);
    assert!(control_ui.is_operator_ui());
}

#[test]
fn bad_parameters_are_refused_as_recorded() {
    let device =
        serde_json::json!({ "id": "a", "publicKey": "b", "signature": "c", "signedAt": 1, "nonce": "n" });
    let device_with = |name: &str, value: Value| {
        let mut device = device.clone();
        let device = device.as_object_mut().unwrap();
        if value.is_null() {
            device.shift_remove(name);
        } else {
            device.insert(name.into(), value);
        }
        changed("/device", Value::Object(device.clone()))
    };
    for (text, what) in [
        (changed("/minProtocol", Value::Null), "must have required property 'minProtocol'"),
        (changed("/client", Value::Null), "must have required property 'client'"),
        (changed("/client/version", Value::Null), "at /client: must have required property 'version'"),
        (
            changed("/client/id", "ios-node".into()),
            "at /client/id: must be equal to one of the allowed values",
        ),
        (
            changed("/client/mode", "operator".into()),
            "at /client/mode: must be equal to one of the allowed values",
        ),
        (changed("/zzz", 1.into()), "at root: unexpected property 'zzz'"),
        (changed("/minProtocol", "4".into()), "at /minProtocol: must be integer"),
        (changed("/scopes", "operator.read".into()), "at /scopes: must be array"),
        (changed("/role", "".into()), "at /role: must not have fewer than 1 characters"),
        (device_with("signature", Value::Null), "at /device: must have required property 'signature'"),
        (device_with("zzz", 1.into()), "at /device: unexpected property 'zzz'"),
        (device_with("signedAt", "1".into()), "at /device/signedAt: must be integer"),
        (device_with("signedAt", (-1).into()), "at /device/signedAt: must be >= 0"),
        ("{}".into(), "must have required property 'minProtocol'"),
    ] {
        let refused = parse(&text).unwrap_err();
        let message = format!("invalid connect params: {what}");
        assert_eq!(refused.refusal.unwrap().message, message, "{text}");
        assert_eq!(refused.close, Close::policy(message));
    }
    let refused = ConnectParams::parse(None).unwrap_err();
    assert_eq!(refused.refusal.unwrap().message, "invalid connect params: must be object");
}

#[test]
fn protocols_are_matched_as_recorded() {
    let verdict = |mode: &str, role: &str, min: u64, max: u64| {
        let text = changed("/client/mode", mode.into());
        let mut params = parse(&text).unwrap();
        params.role = Text::new(role);
        params.min_protocol = Int::new(min).unwrap();
        params.max_protocol = Int::new(max).unwrap();
        params.check().map_err(|refused| refused.close.code)
    };
    for (min, max) in [(4, 4), (3, 4), (4, 9)] {
        assert_eq!(verdict("cli", "operator", min, max), Ok(Role::Operator));
    }
    for (min, max) in [(3, 3), (5, 5), (5, 4)] {
        assert_eq!(verdict("cli", "operator", min, max), Err(1002));
    }
    assert_eq!(verdict("node", "node", 3, 3), Ok(Role::Node));
    assert_eq!(verdict("probe", "operator", 3, 3), Ok(Role::Operator));
    assert_eq!(verdict("cli", "node", 3, 3), Err(1002));
    assert_eq!(verdict("node", "node", 2, 2), Err(1002));
    assert_eq!(verdict("node", "node", 5, 5), Err(1002));
}

#[test]
fn roles_are_judged_after_the_protocol() {
    assert_eq!(
        parse(&changed("/role", "admin".into())).unwrap().check(),
        Err(ConnectRefusal::invalid_role())
    );
    for worker in [changed("/role", "worker".into()), changed("/client/mode", "worker".into())] {
        let refused = parse(&worker).unwrap().check().unwrap_err();
        assert_eq!((refused.refusal, refused.close.reason.as_str()), (None, "invalid-handshake"));
    }
    assert_eq!(parse(&changed("/role", Value::Null)).unwrap().check(), Ok(Role::Operator));
}

#[test]
fn an_empty_token_is_signed_rather_than_the_next_one() {
    let auth: ConnectAuth = serde_json::from_str(r#"{"token":"","deviceToken":"d"}"#).unwrap();
    assert_eq!(auth.signed_token(), "");
    let auth: ConnectAuth = serde_json::from_str(r#"{"bootstrapToken":"b","password":"p"}"#).unwrap();
    assert_eq!(auth.signed_token(), "b");
    assert!(!format!("{auth:?}").contains('p') || !format!("{auth:?}").contains("\"p\""));
}

#[test]
fn what_we_write_we_read() {
    let params = parse(CLI).unwrap();
    assert_eq!(serde_json::to_string(&params).unwrap(), CLI);
}
