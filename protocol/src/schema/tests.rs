use super::*;
use crate::params::chat::SendParams;
use crate::params::core::{LogsTailParams, WakeParams};
use crate::params::session_lifecycle::ResetParams;
use crate::params::sessions::ListParams;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[track_caller]
fn refused<P: for<'a> Deserialize<'a> + JsonSchema + 'static>(method: &str, text: &str) -> String {
    params::<P>(method, Some(&raw(text))).err().expect("the parameters are refused").message
}

#[test]
fn every_schema_compiles() {
    for method in Method::ALL {
        let (params, result) = method.schemas();
        for schema in [params, result] {
            jsonschema::validator_for(&schema)
                .unwrap_or_else(|error| panic_with(method.name(), &error.to_string()));
        }
        method.complaints(&json!({}));
    }
    fn panic_with(method: &str, error: &str) -> jsonschema::Validator {
        assert_eq!("", error, "{method}");
        unreachable!()
    }
}

#[test]
fn a_list_is_no_object() {
    let connect =
        r#"{"minProtocol":4,"maxProtocol":4,"client":CLIENT,"auth":AUTH,"scopes":["operator.read"]}"#;
    let with = |client: &str, auth: &str| connect.replace("CLIENT", client).replace("AUTH", auth);
    let client = r#"{"id":"cli","version":"1","platform":"linux","mode":"cli"}"#;
    let read = |text: &str| refused::<crate::ConnectParams>("connect", text);
    assert!(params::<crate::ConnectParams>("connect", Some(&raw(&with(client, "{}")))).is_ok());
    assert_eq!(read(&with(client, "[]")), "invalid connect params: at /auth: must be object");
    let listed = r#"["cli",null,"1",null,"linux",null,null,null,"cli",null]"#;
    assert_eq!(read(&with(listed, "{}")), "invalid connect params: at /client: must be object");
}

#[test]
fn no_schema_lets_an_optional_property_be_null() {
    for method in Method::ALL {
        no_null_in(&method.schemas().0, method.name());
    }

    fn no_null_in(schema: &Value, at: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at} {name}");
            if property.get("properties").is_some() {
                no_null_in(property, &at);
                continue;
            }
            let nullable = property.to_string().contains("null");
            assert_eq!(nullable, property.get("nullable").is_some(), "{at}: {property}");
        }
    }
}

#[test]
fn complaints_are_the_recorded_ones() {
    let list = |text| refused::<ListParams>("sessions.list", text);
    assert_eq!(
        list(r#"{"bogus":true}"#),
        "invalid sessions.list params: at root: unexpected property 'bogus'"
    );
    assert_eq!(
        list(r#"{"limit":"x","zzz":1}"#),
        "invalid sessions.list params: at root: unexpected property 'zzz'; at /limit: must be integer"
    );
    let send = |text| refused::<SendParams>("chat.send", text);
    assert_eq!(
        send(r#"{"sessionKey":"agent:main:t4bbm","message":"x"}"#),
        "invalid chat.send params: must have required property 'idempotencyKey'"
    );
    assert_eq!(
        send(r#"{"sessionKey":"","message":"x","idempotencyKey":"k","queueMode":"no","timeoutMs":-1}"#),
        "invalid chat.send params: at /sessionKey: must not have fewer than 1 characters; \
         at /queueMode: must be equal to one of the allowed values; at /timeoutMs: must be >= 0"
    );
    assert_eq!(
        refused::<WakeParams>("wake", r#"{"mode":"bad","text":"x"}"#),
        "invalid wake params: at /mode: must be equal to constant; at /mode: must match a schema in anyOf"
    );
    assert_eq!(
        refused::<LogsTailParams>("logs.tail", r#"{"limit":5001,"maxBytes":1.5}"#),
        "invalid logs.tail params: at /limit: must be <= 5000; at /maxBytes: must be integer"
    );
}

#[test]
fn a_message_without_a_session_is_refused_first() {
    let refusal = params::<SendParams>("chat.send", None).err().unwrap();
    assert_eq!(refusal, Refusal::session_mutation_target("chat.send"));
    let nameless = raw(r#"{"key":5,"reason":"odd"}"#);
    let refusal = params::<ResetParams>("sessions.reset", Some(&nameless)).err().unwrap();
    assert_eq!(refusal, Refusal::session_mutation_target("sessions.reset"));
}

#[test]
fn what_is_no_object_is_refused() {
    for text in ["[]", "null", "5", "\"x\""] {
        assert_eq!(
            refused::<ListParams>("sessions.list", text),
            "invalid sessions.list params: must be object"
        );
    }
}

#[test]
fn absent_params_are_an_empty_object() {
    assert!(params::<ListParams>("sessions.list", None).is_ok());
    assert_eq!(
        params::<WakeParams>("wake", None).err().unwrap().message,
        "invalid wake params: must have required property 'mode'"
    );
}

#[test]
fn null_is_refused_where_it_means_nothing() {
    assert_eq!(
        refused::<ListParams>("sessions.list", r#"{"agentId":null,"archived":null}"#),
        "invalid sessions.list params: at /agentId: must be string; at /archived: must be boolean; \
         at /archived: must be equal to constant; at /archived: must match a schema in anyOf"
    );
    let sent = r#"{"sessionKey":"a","message":"null","idempotencyKey":"k","expectedLeafEntryId":null}"#;
    let sent = raw(sent);
    let parsed = params::<SendParams>("chat.send", Some(&sent)).unwrap();
    assert_eq!(parsed.expected_leaf_entry_id, crate::value::Maybe::Null);
    assert!(parsed.expected_permission_mode.is_absent());
}

#[test]
fn integers_may_be_written_as_floats() {
    let text = raw(r#"{"limit":5.0,"archived":"all"}"#);
    assert_eq!(params::<ListParams>("sessions.list", Some(&text)).unwrap().limit.unwrap().get(), 5);
}

#[test]
fn a_repeated_property_is_refused_in_plain_words() {
    let text = r#"{"limit":1,"limit":2}"#;
    assert!(refused::<ListParams>("sessions.list", text).contains("duplicate field"));
}

#[test]
fn the_document_names_every_method_and_event() {
    let document = document();
    assert_eq!(document["methods"].as_object().unwrap().len(), Method::ALL.len());
    assert_eq!(document["events"].as_object().unwrap().len(), Event::ALL.len());
    assert_eq!(
        document["methods"]["chat.send"]["params"]["required"],
        json!(["sessionKey", "message", "idempotencyKey"])
    );
    assert_eq!(document["methods"]["health"]["scope"], Value::Null);
}
