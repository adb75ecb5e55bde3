use super::*;
use crate::settings::{QueueOverrides, QueueSection};
use crate::store::InputState;

fn row(seq: i64, priority: i64, mode: &str) -> InputRow {
    let mut body = json!({ "queueMode": mode });
    if mode != "steer" {
        body["detached"] = json!(true);
    }
    InputRow {
        seq,
        id: format!("i{seq}"),
        source: "rpc".into(),
        source_id: format!("k{seq}"),
        session_key: "agent:main:main".into(),
        run_id: format!("k{seq}"),
        kind: "chat.send".into(),
        text: format!("text {seq}"),
        digest: String::new(),
        body,
        created_at: seq * 1_000,
        priority,
        turn: None,
        state: InputState::Queued,
        attempts: 0,
        outcome: None,
        started_at: None,
        settled_at: None,
    }
}

fn settings(own: Value) -> QueueSettings {
    let own: QueueOverrides = serde_json::from_value(own).unwrap();
    QueueSettings::resolve(&QueueSection::default(), None, &own)
}

fn backlog(rows: impl IntoIterator<Item = InputRow>) -> Backlog {
    let mut backlog = Backlog::default();
    rows.into_iter().for_each(|row| backlog.push(row));
    backlog
}

fn text(batch: &Batch) -> String {
    batch.text(&batch.rows.iter().collect::<Vec<_>>())
}

fn seqs(next: Next) -> Vec<i64> {
    let Next::Turn(batch) = next else { panic!("{next:?}") };
    batch.rows.iter().map(|row| row.seq).collect()
}

/// accepts: I6, C7
#[test]
fn mentions_come_first_then_replies_then_the_rest_each_by_age() {
    let rows = [(1, 1), (2, 5), (3, 10), (4, 1), (5, 10), (6, 5)];
    let mut backlog = backlog(rows.map(|(seq, priority)| row(seq, priority, "followup")));
    let settings = settings(json!({}));
    let order: Vec<_> = (0..6).flat_map(|_| seqs(backlog.next(&settings, 60_000))).collect();
    assert_eq!(order, [3, 5, 2, 6, 1, 4]);
    assert_eq!(backlog.next(&settings, 60_000), Next::Rest);
}

#[test]
fn a_queued_turn_waits_until_it_is_quiet() {
    let mut backlog = backlog([row(1, 1, "followup"), row(2, 1, "followup")]);
    let settings = settings(json!({}));
    assert_eq!(backlog.next(&settings, 2_100), Next::Wait(Duration::from_millis(400)));
    assert_eq!(seqs(backlog.next(&settings, 2_500)), [1]);
    let mut steered = super::tests::backlog([row(1, 1, "steer")]);
    assert_eq!(seqs(steered.next(&settings, 1_000)), [1], "nobody has been told that it is settled");
}

/// accepts: C7
#[test]
fn collected_ones_are_asked_together() {
    let mut backlog =
        backlog([row(1, 1, "collect"), row(2, 1, "collect"), row(3, 1, "followup"), row(4, 1, "collect")]);
    let settings = settings(json!({}));
    let Next::Turn(batch) = backlog.next(&settings, 60_000) else { panic!() };
    assert_eq!(
        text(&batch),
        "[Queued messages while agent was busy]\n\n---\nQueued #1 (from unknown)\ntext 1\n\n---\nQueued #2 (from unknown)\ntext 2"
    );
    assert!(batch.turn() != RunId::from("k1"));
    assert_eq!(seqs(backlog.next(&settings, 60_000)), [3]);
    assert_eq!(seqs(backlog.next(&settings, 60_000)), [4]);
}

#[test]
fn what_has_no_room_stands_in_the_summary_of_the_next_turn() {
    let mut backlog = backlog((1..=5).map(|seq| row(seq, 1, "followup")));
    let settings = settings(json!({ "queueCap": 2 }));
    let Next::Turn(batch) = backlog.next(&settings, 60_000) else { panic!() };
    assert_eq!(batch.dropped.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(text(&batch).contains("3 messages") && text(&batch).contains("- text 2\n"));
    assert!(text(&batch).ends_with("\n\ntext 4"));
    assert_eq!(seqs(backlog.next(&settings, 60_000)), [5]);
}

#[test]
fn a_lost_turn_comes_first_under_its_old_name() {
    let mut backlog = backlog([row(1, 10, "followup")]);
    let lost = InputRow { turn: Some("t".into()), ..row(2, 1, "followup") };
    backlog.push_lost(vec![lost]);
    let Next::Turn(batch) = backlog.next(&settings(json!({})), 0) else { panic!() };
    assert_eq!(batch.turn(), RunId::from("t"));
    assert_eq!(batch.rows[0].seq, 2);
    assert_eq!(backlog.take_named(Some(&RunId::from("k1"))).len(), 1);
    assert!(backlog.is_empty());
}

#[test]
fn those_of_a_turn_that_was_given_up_are_answered_together_and_not_asked_again() {
    let mut backlog = backlog([row(5, 1, "steer")]);
    backlog.push_again(vec![row(2, 1, "steer"), row(3, 1, "steer")]);
    let Next::Turn(batch) = backlog.next(&settings(json!({})), 60_000) else { panic!() };
    assert_eq!(batch.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(batch.messages("s", |_| panic!("it stands in the transcript")).is_empty());
    assert_eq!(seqs(backlog.next(&settings(json!({})), 60_000)), [5]);
}

#[test]
fn steered_ones_are_taken_out_of_the_middle() {
    let mut backlog = backlog([row(1, 1, "steer"), row(2, 1, "followup"), row(3, 1, "steer")]);
    assert_eq!(backlog.take_steered().iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(backlog.len(), 1);
}

#[test]
fn what_came_with_messages_that_are_put_together_comes_with_the_whole() {
    let file = |kind: &str, name: &str| json!({ "kind": kind, "url": format!("media://inbound/{name}") });
    let with = |seq, files: Value| {
        let mut row = row(seq, 1, "collect");
        row.body["sender"] = json!({ "media": files });
        row
    };
    let (note, dot) = (file("document", "a"), file("image", "b"));
    let rows = vec![with(1, json!([note])), with(2, json!([])), with(3, json!([dot]))];
    let batch = Batch { rows, dropped: Vec::new() };
    let said = |row: &InputRow| NewMessage {
        id: row.id.clone(),
        session_key: row.session_key.clone(),
        session_id: String::new(),
        parent: None,
        kind: "user".into(),
        idempotency_key: None,
        run_id: None,
        hidden: false,
        message: json!({ "__openclaw": row.body["sender"] }),
        created_at: 0,
    };
    let messages = batch.messages("s", said);
    let meta = &messages[0].message["__openclaw"];
    assert_eq!(meta["media"], json!([note, dot]));
    assert_eq!(meta["mediaImageLayout"]["slots"], json!([{ "kind": "inline", "factIndex": 1 }]));
}
