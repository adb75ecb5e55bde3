use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

use super::super::feed::Heard;
use super::*;

const NOW: u64 = 1_000_000;

fn actor(path: &str, state: &str, children: Value) -> Value {
    let name = path.rsplit('/').next().expect("a name").replace("%2F", "/");
    json!({"path": path, "name": name, "kind": "k", "state": state, "sinceMs": NOW - 61_000, "restarts": 0,
           "mailbox": {"depth": 0}, "children": children})
}

/// A tree with an actor that was parked after a panic, one that is busy, and clients.
fn tree() -> Value {
    let mut parked = actor("gateway/channels/loopback%2Fdefault", "parked", json!([]));
    parked["restarts"] = json!(6);
    parked["lastExit"] = json!({"kind": "panic", "reason": "boom\nat \u{1b}[31mline 1", "at": NOW - 2_000});
    let mut busy = actor("gateway/store", "running", json!([]));
    busy["mailbox"] = json!({"depth": 12, "oldestMs": 7_000});
    busy["busyMs"] = json!(6_500);
    let clients: Vec<Value> =
        (0..3).map(|n| actor(&format!("gateway/connections/c{n}"), "running", json!([]))).collect();
    let mut sessions = actor(
        "gateway/sessions",
        "running",
        json!([actor("gateway/sessions/agent:main:main", "running", json!([]))]),
    );
    sessions["more"] = json!(7);
    let root = actor(
        "gateway",
        "running",
        json!([
            busy,
            sessions,
            actor("gateway/channels", "running", json!([parked])),
            actor("gateway/connections", "running", json!(clients)),
            actor("gateway/listener", "running", json!([])),
        ]),
    );
    json!({"ts": NOW, "root": root})
}

fn model() -> (Model, Instant) {
    let (mut model, at) = (Model::new(true), Instant::now());
    model.hear(Heard::Tree { tree: tree(), changed: None }, at);
    let session = json!({"key": "agent:main:main", "status": "done", "updatedAt": NOW - 5_000, "model": "offline",
        "totalTokens": 42, "displayName": "main"});
    model.hear(Heard::Sessions(json!({"sessions": [session]})), at);
    let account = json!({"accountId": "default", "healthState": "parked", "lastStartAt": NOW - 9_000,
        "lastInboundAt": null, "deliveries": {"queued": 2}, "lastError": "boom"});
    model.hear(Heard::Channels(json!({"channelAccounts": {"loopback": [account]}})), at);
    (model, at)
}

fn press(model: &mut Model, keys: &str, at: Instant) {
    for key in keys.chars() {
        let _ = model.press(&KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE), at);
    }
}

/// The screen at a size, a line each, and its cells.
fn screen(model: &Model, at: Instant, (width, height): (u16, u16), colours: bool) -> (Vec<String>, Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, model, at, colours)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    ((0..height).map(line).collect(), buffer)
}

/// The line with this in it, and where.
fn find(lines: &[String], wanted: &str) -> usize {
    lines
        .iter()
        .position(|line| line.contains(wanted))
        .unwrap_or_else(|| panic!("no {wanted:?} in\n{}", lines.join("\n")))
}

#[test]
fn at_80_by_24_the_tree_has_all_columns_and_the_parked_stand_out() {
    let (mut model, at) = model();
    press(&mut model, "G", at);
    let (lines, buffer) = screen(&model, at, (80, 24), true);
    assert!(
        lines[0].starts_with("[1 Tree] 2 Sessions  3 Channels")
            && lines[0].ends_with("● 18 actors, 1 PARKED"),
        "{}",
        lines[0]
    );
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words, ["ACTOR", "STATE", "FOR", "RST", "BOX", "BUSY", "LAST", "EXIT"]);
    let parked = find(&lines, "loopback/default");
    let row: Vec<&str> = lines[parked].split_whitespace().collect();
    assert_eq!(row[..6], ["│", "└─", "loopback/default", "PARKED", "1", "m"]);
    assert!(lines[parked].contains(" 6 ") && lines[parked].contains("panic: boom"), "{}", lines[parked]);
    let cell = &buffer[(25, u16::try_from(parked).unwrap())];
    assert!(cell.fg == Color::Red && cell.modifier.contains(Modifier::BOLD), "{cell:?}");
    assert!(
        lines[find(&lines, "├─ store")].contains("12 (…") || lines[find(&lines, "├─ store")].contains("6 s")
    );
    assert!(lines[find(&lines, "connections")].contains("connections ▸ 3"), "clients are folded");
    assert!(lines[find(&lines, "… 7 more")].contains("│  └─"));
    let last = find(&lines, "└─ listener");
    assert!(buffer[(0, u16::try_from(last).unwrap())].modifier.contains(Modifier::REVERSED), "selected");
    assert!(lines[23].starts_with("? help  q quit  r restart"), "{}", lines[23]);
}

#[test]
fn the_selected_actor_is_told_of_in_full_and_nothing_of_it_moves_the_terminal() {
    let (mut model, at) = model();
    press(&mut model, "/loopback", at);
    let _ = model.press(&KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE), at);
    press(&mut model, "G", at);
    let (lines, _) = screen(&model, at, (80, 24), true);
    let path = find(&lines, "gateway/channels/loopback%2Fdefault  (k)");
    assert_eq!(lines[path + 1], "parked for 1 m 01 s, 6 restarts, 0 waiting");
    assert_eq!(lines[path + 2], "last exit: panic: boom at \u{fffd}[31mline 1, 2 s ago");
    assert!(lines[23].starts_with("only \"loopback\" (Esc: all)"), "{}", lines[23]);
    assert_eq!(
        lines.iter().filter(|line| line.contains("├─") || line.contains("└─")).count(),
        2,
        "{lines:#?}"
    );
}

#[test]
fn at_40_by_10_name_state_and_duration_are_left() {
    let (model, at) = model();
    let (lines, _) = screen(&model, at, (40, 10), false);
    assert!(lines[0].starts_with("[1 Tree] ") && lines[0].ends_with("● 18 actors, 1 PARKED"), "{}", lines[0]);
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["ACTOR", "STATE", "FOR"]);
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["gateway", "running", "1", "m", "01", "s"]);
    assert!(lines[9].starts_with("? help  q quit"), "{}", lines[9]);
}

#[test]
fn at_200_by_60_everything_is_spelled_out() {
    let (model, at) = model();
    let (lines, _) = screen(&model, at, (200, 60), true);
    assert!(lines[1].contains("RESTARTS") && lines[1].contains("MAILBOX") && lines[1].contains("LAST EXIT"));
    assert!(lines[find(&lines, "├─ store")].contains("12 (oldest 7 s)"));
    assert!(lines[find(&lines, "loopback/default")].contains("panic: boom at \u{fffd}[31mline 1, 2 s ago"));
}

#[test]
fn sessions_and_channels_have_views_of_their_own() {
    let (mut model, at) = model();
    press(&mut model, "2", at);
    let (lines, _) = screen(&model, at, (80, 24), true);
    assert!(lines[0].contains("[2 Sessions]"));
    let row: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(row, ["agent:main:main", "done", "5", "s", "42", "running", "offline", "main"]);
    press(&mut model, "3", at);
    let (lines, _) = screen(&model, at, (80, 24), true);
    assert!(
        lines[2].starts_with("loopback/default")
            && lines[2].contains("PARKED")
            && lines[2].contains("2 queued")
    );
}

#[test]
fn without_colours_the_parked_are_bold_and_spelled_large() {
    let (model, at) = model();
    let (lines, buffer) = screen(&model, at, (80, 24), false);
    let parked = find(&lines, "PARKED  ");
    assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(buffer[(25, u16::try_from(parked).unwrap())].modifier.contains(Modifier::BOLD));
}

#[test]
fn a_lost_gateway_is_said_and_its_durations_stand_still() {
    let (mut model, at) = model();
    model.hear(Heard::Lost { why: "it closed\u{7} the connection".into(), unanswered: false }, at);
    let later = at + std::time::Duration::from_secs(90);
    let (lines, _) = screen(&model, later, (80, 24), true);
    assert!(lines[0].ends_with("○ no gateway for 1 m 30 s, seeking it"), "{}", lines[0]);
    assert!(lines[find(&lines, "listener")].contains("1 m 01 s"));
    assert!(lines[23].contains("it closed\u{fffd} the connection"), "{}", lines[23]);
    model.hear(Heard::Connected { admin: true }, later);
    let (lines, _) = screen(&model, later, (80, 24), true);
    assert!(lines[23].contains("connected again"), "{}", lines[23]);
}

#[test]
fn what_is_asked_stands_on_the_last_line_with_the_end_of_the_path() {
    let (mut model, at) = model();
    press(&mut model, "Gp", at);
    let (lines, _) = screen(&model, at, (80, 24), true);
    assert_eq!(lines[23], "park gateway/listener? y/n");
    let (lines, _) = screen(&model, at, (22, 6), true);
    assert_eq!(lines[5], "park …ay/listener? y/n");
}

#[test]
fn no_size_and_no_state_makes_it_panic() {
    let (mut model, at) = model();
    for keys in ["", "G", "p", "n2", "3", "?", "?1/x", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"]
    {
        press(&mut model, keys, at);
        for width in (0..12).chain([20, 39, 40, 79, 109, 110, 500]) {
            for height in (0..8).chain([13, 14, 24, 100]) {
                let _ = screen(&model, at, (width, height), true);
            }
        }
    }
    let empty = Model::new(false);
    for size in [(1, 1), (80, 24)] {
        let _ = screen(&empty, at, size, true);
    }
}

#[test]
fn names_of_any_width_stay_in_their_column() {
    let (mut model, at) = (Model::new(true), Instant::now());
    let wide =
        actor("gateway/会議会議会議会議会議会議会議会議会議会議会議会議会議会議", "running", json!([]));
    let tree = json!({"ts": NOW, "root": actor("gateway", "running", json!([wide]))});
    model.hear(Heard::Tree { tree, changed: None }, at);
    let (lines, _) = screen(&model, at, (60, 10), true);
    let at_column = |line: &str, word: &str| line.find(word).map(|at| Span::raw(&line[..at]).width());
    assert!(lines[3].contains('…'), "{}", lines[3]);
    assert!(at_column(&lines[1], "STATE").is_some() && lines[2].contains("running"));
}
