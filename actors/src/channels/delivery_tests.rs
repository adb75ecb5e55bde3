use super::*;
use serde_json::json;

fn row(id: &str, chat: &str) -> DeliveryRow {
    DeliveryRow {
        id: id.into(),
        channel: "c".into(),
        account: "a".into(),
        address: json!({ "chat": chat }),
        session_key: None,
        run_id: None,
        text: id.into(),
        extra: json!({}),
        state: DeliveryState::Queued,
        attempts: 0,
        platform_id: None,
        error: None,
        created_at: 0,
        updated_at: 0,
    }
}

fn sent(row: DeliveryRow) -> Delivered {
    Delivered { row: DeliveryRow { state: DeliveryState::Sent, ..row }, wait: None }
}

fn next(due: &mut Due, now: i64) -> Option<String> {
    due.next(2, now).map(|row| row.id)
}

#[test]
fn each_chat_has_its_order_and_chats_go_side_by_side() {
    let mut due = Due::default();
    due.add(vec![row("a1", "a"), row("a2", "a"), row("b1", "b"), row("c1", "c")]);
    assert_eq!(
        [next(&mut due, 0), next(&mut due, 0), next(&mut due, 0)].map(|id| id.unwrap_or_default()),
        ["a1", "b1", ""]
    );
    due.came_back(sent(row("a1", "a")), 0);
    assert_eq!(next(&mut due, 0).as_deref(), Some("a2"));
    due.came_back(sent(row("b1", "b")), 0);
    assert_eq!(next(&mut due, 0).as_deref(), Some("c1"));
}

#[test]
fn a_chat_that_cannot_be_sent_to_waits_longer_each_time_and_keeps_its_order() {
    let mut due = Due::default();
    due.add(vec![row("a1", "a"), row("a2", "a")]);
    let mut now = 0;
    for wait in [1_000, 2_000, 4_000] {
        assert_eq!(next(&mut due, now).as_deref(), Some("a1"));
        due.came_back(Delivered { row: row("a1", "a"), wait: Some(Wait::Longer) }, now);
        assert_eq!((next(&mut due, now), due.wait(now)), (None, Some(Duration::from_millis(wait))));
        now += wait as i64;
    }
    assert_eq!(next(&mut due, now).as_deref(), Some("a1"));
    due.came_back(Delivered { row: row("a1", "a"), wait: Some(Wait::Exactly(50)) }, now);
    assert_eq!(due.wait(now), Some(Duration::from_millis(50)));
}

/// The store is read while a message is being sent: what was read of it is old when it comes.
#[test]
fn what_was_read_before_a_message_was_sent_does_not_send_it_again() {
    let mut due = Due::default();
    due.add(vec![row("a1", "a")]);
    let first = due.next(2, 0).unwrap();
    due.will_read();
    due.came_back(sent(first), 0);
    due.add(vec![row("a1", "a"), row("a2", "a")]);
    assert_eq!([next(&mut due, 0), next(&mut due, 0)], [Some("a2".into()), None]);
}

#[test]
fn what_becomes_of_a_message() {
    use DeliveryState::{Failed, Queued, Sent as Done, Uncertain};
    let capabilities = Capabilities::texts(100);
    let idempotent = Capabilities { idempotent: true, ..capabilities };
    let (report, resend) = (OnUncertain::Report, OnUncertain::Resend);
    let later = || SendError::Later { why: "busy".into(), after: Some(Duration::from_secs(7)) };
    let unknown = || SendError::Unknown("cut".into());
    let became = |result, terms, now| {
        let Delivered { row, wait } = became(row("a", "a"), result, terms, now);
        (row.state, wait)
    };
    assert_eq!(became(Ok(Sent { id: "7".into() }), (capabilities, report), 1), (Done, None));
    assert_eq!(became(Err(SendError::Refused("no".into())), (capabilities, report), 1), (Failed, None));
    assert_eq!(became(Err(later()), (capabilities, report), 1), (Queued, Some(Wait::Exactly(7_000))));
    assert_eq!(became(Err(later()), (capabilities, report), GIVE_UP_AFTER + 1), (Failed, None));
    assert_eq!(became(Err(unknown()), (capabilities, report), 1), (Uncertain, None));
    assert_eq!(became(Err(unknown()), (idempotent, report), 1), (Queued, Some(Wait::Longer)));
    assert_eq!(became(Err(unknown()), (capabilities, resend), 1), (Queued, Some(Wait::Longer)));
    // Tried again and again, a message is as old as the first time that the platform may have it from.
    let forgets = Capabilities { known_for: Duration::from_millis(100), ..idempotent };
    for (tried, state) in [(900, Queued), (899, Uncertain)] {
        let mut row = row("a", "a");
        row.extra["triedAt"] = json!(tried);
        assert_eq!(after_a_loss(row, forgets, report, 1_000).state, state);
    }
}
