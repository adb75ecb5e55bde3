use serde_json::{Value, json};

use super::*;

fn actor(path: &str, children: Value) -> Value {
    let name = path.rsplit('/').next().expect("a name");
    json!({"path": path, "name": name, "kind": name, "state": "running", "sinceMs": 0, "restarts": 0,
           "mailbox": {"depth": 0}, "children": children})
}

fn tree(sessions: &[&str]) -> Value {
    let sessions: Vec<Value> =
        sessions.iter().map(|name| actor(&format!("gateway/sessions/{name}"), json!([]))).collect();
    let children = json!([actor("gateway/store", json!([])), actor("gateway/sessions", json!(sessions))]);
    json!({"ts": 1, "root": actor("gateway", children)})
}

fn model(admin: bool) -> (Model, Instant) {
    let (mut model, at) = (Model::new(admin), Instant::now());
    model.hear(Heard::Tree { tree: tree(&["a", "b", "c"]), changed: None }, at);
    (model, at)
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// Presses one key after the other; what the last one does.
fn press(model: &mut Model, keys: &str, at: Instant) -> Option<Action> {
    keys.chars().map(|c| model.press(&key(KeyCode::Char(c)), at)).last().flatten()
}

fn ids(model: &Model, at: Instant) -> Vec<String> {
    model.rows(at).iter().map(|row| row.id.clone()).collect()
}

fn selected(model: &Model, at: Instant) -> String {
    let rows = model.rows(at);
    rows[model.selected(&rows)].id.clone()
}

fn order(verb: Verb, path: &str) -> Option<Action> {
    Some(Action::Ask(Ask::Order(Order { verb, path: path.into() })))
}

#[test]
fn the_selection_moves_and_stays_with_its_row_while_others_come_and_go() {
    let (mut model, at) = model(true);
    assert_eq!(selected(&model, at), "gateway");
    press(&mut model, "jjjj", at);
    assert_eq!(selected(&model, at), "gateway/sessions/b");
    model.hear(Heard::Tree { tree: tree(&["b", "c"]), changed: None }, at);
    assert_eq!(selected(&model, at), "gateway/sessions/b");
    model.hear(Heard::Tree { tree: tree(&[]), changed: None }, at);
    assert_eq!(selected(&model, at), "gateway/sessions", "the last one, when it is gone");
    press(&mut model, "kkkkkkkk", at);
    assert_eq!(selected(&model, at), "gateway");
    model.press(&key(KeyCode::End), at);
    model.press(&key(KeyCode::PageUp), at);
    assert_eq!(selected(&model, at), "gateway");
}

#[test]
fn left_and_right_fold_and_go_up_and_down() {
    let (mut model, at) = model(true);
    press(&mut model, "jjj", at);
    model.press(&key(KeyCode::Left), at);
    assert_eq!(selected(&model, at), "gateway/sessions");
    model.press(&key(KeyCode::Left), at);
    assert_eq!(ids(&model, at), ["gateway", "gateway/store", "gateway/sessions"]);
    model.press(&key(KeyCode::Right), at);
    model.press(&key(KeyCode::Right), at);
    assert_eq!(selected(&model, at), "gateway/sessions/a");
    model.press(&key(KeyCode::Home), at);
    model.press(&key(KeyCode::Enter), at);
    assert_eq!(ids(&model, at), ["gateway"]);
}

#[test]
fn park_and_restart_ask_first_and_mean_what_was_selected_then() {
    let (mut model, at) = model(true);
    assert_eq!(press(&mut model, "jjjp", at), None);
    model.hear(Heard::Tree { tree: tree(&["b"]), changed: None }, at);
    assert_eq!(press(&mut model, "y", at), order(Verb::Park, "gateway/sessions/a"));
    assert_eq!(press(&mut model, "rn", at), None);
    assert_eq!(model.notice(at), Some("nothing done"));
    assert_eq!(press(&mut model, "ry", at), order(Verb::Restart, "gateway/sessions/b"));
    assert_eq!(press(&mut model, "u", at), order(Verb::Resume, "gateway/sessions/b"), "it harms nobody");
}

#[test]
fn who_may_only_look_is_told_why_the_keys_do_nothing() {
    let (mut model, at) = model(false);
    for keys in ["r", "p", "u"] {
        assert_eq!(press(&mut model, keys, at), None);
        assert!(
            model.mode == Mode::Normal
                && model.notice(at).is_some_and(|text| text.contains("operator.admin"))
        );
    }
    assert_eq!(model.notice(at + NOTICE), None);
}

#[test]
fn nothing_is_done_while_the_gateway_is_lost() {
    let (mut model, at) = model(true);
    press(&mut model, "p", at);
    model.hear(Heard::Lost { why: "gone".into(), unanswered: true }, at);
    assert!(model.notice(at).is_some_and(|text| text.contains("unknown")));
    assert_eq!(press(&mut model, "y", at), None, "not even what was asked before");
    assert!(model.notice(at).is_some_and(|text| text.contains("not reachable")));
}

#[test]
fn a_session_that_is_not_in_memory_has_no_actor() {
    let (mut model, at) = model(true);
    model.hear(Heard::Sessions(json!({"sessions": [{"key": "agent:x:y"}, {"key": "a"}]})), at);
    assert_eq!(press(&mut model, "2", at), Some(Action::Ask(Ask::Show(View::Sessions))));
    assert_eq!(press(&mut model, "p", at), None);
    assert!(model.notice(at).is_some_and(|text| text.contains("not in memory")));
    press(&mut model, "jp", at);
    assert_eq!(model.mode, Mode::Confirm(Order { verb: Verb::Park, path: "gateway/sessions/a".into() }));
}

#[test]
fn a_filter_is_typed_shows_what_it_is_below_and_is_taken_back() {
    let (mut model, at) = model(true);
    press(&mut model, "/S/Bq", at);
    model.press(&key(KeyCode::Backspace), at);
    assert_eq!(ids(&model, at), ["gateway", "gateway/sessions", "gateway/sessions/b"]);
    model.press(&key(KeyCode::Enter), at);
    assert_eq!((model.mode.clone(), &*model.filter), (Mode::Normal, "S/B"));
    model.press(&key(KeyCode::Esc), at);
    assert_eq!(ids(&model, at).len(), 6);
    press(&mut model, &format!("/{}", "x".repeat(500)), at);
    assert_eq!(model.filter.len(), MAX_FILTER);
}

#[test]
fn escape_and_a_key_at_once_are_two_keys() {
    let (mut model, at) = model(true);
    press(&mut model, "?", at);
    let both = KeyEvent::new(KeyCode::Char('2'), KeyModifiers::ALT);
    assert_eq!(model.press(&both, at), Some(Action::Ask(Ask::Show(View::Sessions))));
    assert_eq!(model.mode, Mode::Normal);
}

#[test]
fn q_quits_unless_it_is_typed_and_ctrl_c_always() {
    let (mut model, at) = model(true);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut model, "q", at), Some(Action::Quit));
    assert_eq!(press(&mut model, "/q", at), None);
    assert_eq!(model.press(&interrupt, at), Some(Action::Quit));
    model.press(&key(KeyCode::Esc), at);
    assert_eq!(press(&mut model, "?q", at), Some(Action::Quit));
    press(&mut model, "p", at);
    assert_eq!(model.press(&interrupt, at), Some(Action::Quit));
}

#[test]
fn a_change_is_told_unless_something_else_is_being_said() {
    let (mut model, at) = model(true);
    let change = |state: &str| {
        json!({"path": "gateway/store", "state": state,
        "lastExit": {"kind": "panic", "reason": "boom\n"}})
    };
    let heard = |state: &str| Heard::Tree { tree: tree(&[]), changed: Some(change(state)) };
    model.hear(heard("restarting"), at);
    assert_eq!(model.notice(at), Some("gateway/store: restarting (panic: boom )"));
    model.hear(Heard::Done("gateway/x: parked".into()), at);
    model.hear(heard("running"), at);
    assert_eq!(model.notice(at), Some("gateway/x: parked"));
}
