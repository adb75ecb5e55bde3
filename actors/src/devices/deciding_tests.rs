//! Who may decide what, and what comes of it.

use super::*;
use crate::pairing::Ask;
use crate::store::TokenRow;

const OPERATOR: &str = "operator";

fn caller(device: Option<&str>, scopes: &[Scope]) -> Caller {
    Caller { device: device.map(Into::into), scopes: Scopes::of(scopes) }
}

fn admin() -> Caller {
    caller(None, &[Scope::Admin])
}

/// A device with its own token that may see to pairing.
fn own(device: &str) -> Caller {
    caller(Some(device), &[Scope::Read, Scope::Pairing])
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}

fn ask(device_id: &str, role: Role, scopes: &[&str]) -> Ask {
    let device = DeviceRow { device_id: device_id.into(), ..DeviceRow::default() };
    Ask { device, role, scopes: strings(scopes), silent: false, is_repair: false }
}

/// The devices `a`, an operator who reads, and `n`, which is a node as well; `b` asks to read.
fn book() -> (Book, String) {
    let mut book = Book::new([7; 32], "secret".into());
    for (id, roles) in [("a", &[OPERATOR][..]), ("n", &[OPERATOR, "node"])] {
        let scopes = strings(&["operator.read", "operator.pairing"]);
        let device = DeviceRow { device_id: id.into(), roles: strings(roles), scopes, ..Default::default() };
        book.renew(id, Role::Operator, &device.scopes, 1);
        book.devices.insert(id.into(), device);
    }
    book.renew("n", Role::Node, &[], 1);
    let request = book.ask(ask("b", Role::Operator, &["operator.read"]), 1).request.request_id;
    book.change = Default::default();
    (book, request)
}

fn refused<T>(answer: Result<T, Refusal>) -> String {
    answer.err().expect("a refusal").message
}

#[test]
fn an_administrator_approves_and_the_request_is_gone() {
    let (mut book, request) = book();
    assert_eq!(refused(book.approve(&admin(), "nope", 2)), "unknown requestId");
    let approved = book.approve(&admin(), &request, 2).unwrap();
    assert_eq!(approved.device.approved_via.as_deref(), Some("owner"));
    assert_eq!(approved.device.tokens[0].scopes, ["operator.read"]);
    assert_eq!(book.change.decided, [(request.clone(), true)]);
    assert!(book.change.devices.contains_key("b") && book.change.cut.is_empty());
    assert_eq!(refused(book.approve(&admin(), &request, 2)), "unknown requestId");
}

#[test]
fn whoever_is_no_administrator_approves_what_it_could_give_itself() {
    let (mut book, request) = book();
    let denied = "device pairing approval denied";
    assert_eq!(refused(book.approve(&own("a"), "nope", 2)), denied);
    assert_eq!(refused(book.approve(&own("a"), &request, 2)), denied, "another device's");
    let poor = caller(None, &[Scope::Pairing]);
    assert_eq!(refused(book.approve(&poor, &request, 2)), "missing scope: operator.read");
    let node = book.ask(ask("c", Role::Node, &[]), 2).request.request_id;
    assert_eq!(refused(book.approve(&caller(None, &[Scope::Pairing, Scope::Read]), &node, 2)), denied);
    assert!(book.approve(&caller(None, &[Scope::Pairing, Scope::Read]), &request, 2).is_ok());
    let more = book.ask(ask("a", Role::Operator, &["operator.write"]), 2).request.request_id;
    assert_eq!(refused(book.approve(&own("a"), &more, 2)), "missing scope: operator.write");
    let greedy = book.ask(ask("c2", Role::Node, &["operator.read"]), 2).request.request_id;
    let words = "invalid scope for requested roles: operator.read";
    assert_eq!(refused(book.approve(&admin(), &greedy, 2)), words);
}

#[test]
fn an_approval_adds_to_what_a_device_had_and_its_old_token_is_dead() {
    let (mut book, _) = book();
    let before = book.derive(book.active("a", Role::Operator).unwrap());
    let request = book.ask(ask("a", Role::Operator, &["operator.write"]), 2).request.request_id;
    book.approve(&admin(), &request, 3).unwrap();
    let token = book.active("a", Role::Operator).unwrap();
    assert_eq!(token.scopes, ["operator.pairing", "operator.read", "operator.write"]);
    assert_ne!(book.derive(token), before);
    // A node that is approved again starts anew; the operator stays connected.
    let request = book.ask(ask("n", Role::Node, &[]), 4).request.request_id;
    book.approve(&admin(), &request, 5).unwrap();
    assert_eq!(book.change.cut, [("n".to_owned(), Some(Role::Node))]);
}

#[test]
fn a_token_that_was_revoked_lends_its_scopes_to_no_later_one() {
    let (mut book, _) = book();
    book.revoke(&admin(), "a", OPERATOR, 2).unwrap();
    let request = book.ask(ask("a", Role::Operator, &["operator.read"]), 3).request.request_id;
    book.approve(&admin(), &request, 4).unwrap();
    assert_eq!(book.active("a", Role::Operator).unwrap().scopes, ["operator.read"]);
}

#[test]
fn rejecting_forgets_the_request() {
    let (mut book, request) = book();
    assert_eq!(refused(book.reject(&own("a"), &request, 2)), "device pairing rejection denied");
    assert_eq!(refused(book.reject(&own("a"), "nope", 2)), "device pairing rejection denied");
    assert_eq!(refused(book.reject(&admin(), "nope", 2)), "unknown requestId");
    assert_eq!(book.reject(&admin(), &request, 2).unwrap().device_id, "b");
    assert!(book.pending.find(&request, 2).is_none() && !book.change.is_durable());
}

#[test]
fn removing_takes_everything_and_closes_every_connection() {
    let (mut book, _) = book();
    assert_eq!(refused(book.remove(&own("a"), "n")), "device pairing removal denied");
    assert_eq!(refused(book.remove(&own("n"), "n")), "device pairing removal denied", "it is a node");
    assert_eq!(refused(book.remove(&admin(), "x")), "unknown deviceId");
    let request = book.ask(ask("a", Role::Node, &[]), 2).request.request_id;
    book.remove(&own("a"), "a").unwrap();
    assert!(!book.devices.contains_key("a") && book.active("a", Role::Operator).is_none());
    assert!(book.pending.find(&request, 2).is_none(), "it asks for nothing any more");
    assert_eq!(book.change.cut, [("a".to_owned(), None)]);
    assert!(book.devices.contains_key("n") && book.active("n", Role::Node).is_some(), "others stay");
}

#[test]
fn a_name_is_given_by_whoever_may() {
    let (mut book, _) = book();
    assert_eq!(refused(book.rename(&admin(), "a", "  ")), "label required");
    assert_eq!(refused(book.rename(&admin(), "x", "X")), "unknown deviceId");
    assert_eq!(refused(book.rename(&own("a"), "n", "X")), "device pairing rename denied");
    assert_eq!(book.rename(&own("a"), "a", " Mine ").unwrap().label, "Mine");
    assert_eq!(book.shown(&book.devices["a"]).operator_label.as_deref(), Some("Mine"));
}

#[test]
fn a_token_is_told_to_its_own_device_alone() {
    let (mut book, _) = book();
    let other = book.rotate(&admin(), "a", OPERATOR, None, 5).unwrap();
    assert_eq!((other.token_delivery.as_str(), other.token), ("withheld-cross-device", None));
    assert_eq!(other.scopes, ["operator.pairing", "operator.read"]);
    let mine = book.rotate(&own("a"), "a", OPERATOR, None, 6).unwrap();
    assert_eq!((mine.token_delivery.as_str(), mine.rotated_at_ms), ("in-band", 6));
    assert_eq!(mine.token, Some(book.derive(book.active("a", Role::Operator).unwrap())));
    assert_eq!(book.change.cut[1], ("a".to_owned(), Some(Role::Operator)));
    let fewer = book.rotate(&own("a"), "a", OPERATOR, Some(&strings(&["operator.read"])), 7).unwrap();
    assert_eq!(fewer.scopes, ["operator.read"]);
}

#[test]
fn tokens_of_others_of_nodes_and_beyond_what_was_approved_are_denied() {
    let (mut book, _) = book();
    let denied = "device token rotation denied";
    let all = strings(&["operator.admin"]);
    assert_eq!(refused(book.rotate(&own("a"), "n", OPERATOR, None, 2)), denied);
    assert_eq!(refused(book.rotate(&own("n"), "n", "node", None, 2)), denied);
    assert_eq!(refused(book.rotate(&caller(None, &[Scope::Pairing]), "n", "node", None, 2)), denied);
    assert_eq!(refused(book.rotate(&admin(), "a", OPERATOR, Some(&all), 2)), denied);
    assert_eq!(refused(book.rotate(&admin(), "a", "node", None, 2)), denied, "it is no node");
    assert_eq!(refused(book.rotate(&admin(), "nosuch", OPERATOR, None, 2)), denied);
    assert_eq!(refused(book.rotate(&admin(), "a", "queen", None, 2)), denied);
    let poor = caller(None, &[Scope::Pairing]);
    assert_eq!(refused(book.rotate(&poor, "a", OPERATOR, None, 2)), denied, "it could not read itself");
    assert_eq!(refused(book.revoke(&poor, "a", OPERATOR, 2)), "device token revocation denied");
    assert_eq!(refused(book.revoke(&admin(), "nosuch", OPERATOR, 2)), "device token revocation denied");
    assert!(book.rotate(&admin(), "n", "node", None, 2).is_ok());
}

#[test]
fn a_revoked_token_is_no_token() {
    let (mut book, _) = book();
    assert_eq!(book.revoke(&admin(), "n", "node", 9).unwrap().revoked_at_ms, 9);
    assert!(book.active("n", Role::Node).is_none() && book.active("n", Role::Operator).is_some());
    assert_eq!(book.change.cut, [("n".to_owned(), Some(Role::Node))]);
    let rows = book.rows("n", false);
    let revoked = |op: &crate::store::WriteOp| {
        matches!(op, crate::store::WriteOp::PutToken(TokenRow { revoked_at: Some(9), .. }))
    };
    assert!(rows.iter().any(revoked));
}

#[test]
fn a_device_with_its_own_token_sees_itself_alone() {
    let (book, _) = book();
    let ids = |caller: &Caller| {
        let list = book.list(caller, |id| id == "a", 2);
        let paired: Vec<_> = list.paired.into_iter().map(|d| (d.device_id, d.connected)).collect();
        (paired, list.pending.len())
    };
    let (a, n) = (("a".to_owned(), Some(true)), ("n".to_owned(), Some(false)));
    assert_eq!(ids(&admin()), (vec![a.clone(), n.clone()], 1));
    assert_eq!(ids(&own("a")), (vec![a.clone()], 0));
    assert_eq!(ids(&caller(Some("a"), &[Scope::Admin])), (vec![a.clone(), n.clone()], 1));
    assert_eq!(ids(&caller(None, &[Scope::Pairing])), (vec![a, n], 1), "with the shared secret");
}
