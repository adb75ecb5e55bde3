use super::*;

#[test]
fn a_setup_code_says_where_and_with_what() {
    let text = json!({"url": "wss://h:1", "bootstrapToken": "b", "expiresAtMs": 5}).to_string();
    let code = URL_SAFE_NO_PAD.encode(text);
    for code in [code.clone(), format!("oc-pair://{code}"), format!(" {code}==\n")] {
        let read = SetupCode::read(&code).map_err(|failure| failure.told()).expect("it is read");
        assert_eq!((read.url.as_str(), read.bootstrap_token.as_str()), ("wss://h:1", "b"));
    }
    assert!(SetupCode::read("abc").is_err_and(|failure| failure.told().contains("devices invite")));
}

#[test]
fn the_beginning_of_an_id_is_enough_if_it_is_one_ones() {
    let pending = json!([{"requestId": "ab1", "displayName": "attic", "commands": ["system.which"]},
        {"requestId": "ac2", "nodeId": "n", "commands": []}]);
    let pending = pending.as_array().expect("rows");
    let found = |said: &str| meant(pending, said).map(name).map_err(|failure| failure.told());
    assert_eq!(found("ab"), Ok("attic"));
    assert_eq!(found("ac2"), Ok("n"));
    assert!(found("a").is_err_and(|why| why.contains("2 ids")));
    assert!(found("x").is_err_and(|why| why.contains("crabtree node approve")) && found("").is_err());
    assert_eq!(asking(pending), "ab1  attic  offers system.which\nac2  n  offers ");
    assert_eq!(asking(&[]), "no node asks");
}

#[test]
fn a_report_says_how_it_is_and_what_to_do() {
    let devices = json!({"pending": [{"deviceId": "n", "requestId": "d1"}]});
    let unknown = report("n", &json!({"nodes": []}), &devices);
    assert_eq!(
        (&unknown["paired"], &unknown["next"]),
        (&json!(false), &json!("crabtree devices approve d1"))
    );
    let row = json!({"nodeId": "n", "displayName": "attic", "paired": true, "connected": true,
        "approvalState": "pending-approval", "pendingRequestId": "r1", "commands": []});
    let waits = report("n", &json!({"nodes": [row]}), &json!({}));
    let text = shown(&waits);
    assert!(text.contains("not approved for all") && text.contains("crabtree node approve r1"));
    let row = json!({"nodeId": "n", "paired": true, "connected": true, "approvalState": "approved",
        "commands": ["system.which"]});
    let works = report("n", &json!({"nodes": [row]}), &json!({}));
    assert!(shown(&works).contains("connected and approved\ncommands  system.which"));
    assert!(works.get("next").is_none());
}
