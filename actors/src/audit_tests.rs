use super::*;

fn book() -> Arc<Book> {
    Book::new(Clock::system())
}

fn act(action: &str) -> Act {
    Act { at: 1, action: action.into(), ..Act::default() }
}

fn told(book: &Book) -> Vec<(String, String)> {
    book.take().into_iter().map(|act| (act.action, act.status)).collect()
}

fn row(action: &str, status: &str) -> (String, String) {
    (action.into(), status.into())
}

#[test]
fn what_ends_before_it_is_written_is_one_row_and_else_two() {
    let book = book();
    let (quick, slow) = (book.begin(act("quick")), book.begin(act("slow")));
    quick.end(Ok(()));
    assert_eq!(told(&book), [row("quick", "succeeded"), row("slow", "started")]);
    slow.end(Err(&Refusal::invalid_request("no")));
    let rows = book.take();
    assert_eq!((rows[0].status.as_str(), rows[0].code.as_deref()), ("blocked", Some("INVALID_REQUEST")));
    drop(book.begin(act("lost")));
    assert_eq!(told(&book), [row("lost", "unknown")], "whoever was to answer is gone");
    assert!(book.is_empty());
}

#[test]
fn refusals_are_noted_one_by_one_only_so_many_times_a_minute() {
    let book = book();
    for at in 0..100 {
        book.refused(Act { at: 1_000_000 + at, ..act("connect") });
    }
    let rows = told(&book);
    assert_eq!(rows.iter().filter(|row| row.0 == "connect").count(), MAX_REFUSED as usize);
    book.refused(Act { at: 1_000_000 + 2 * WINDOW_MS, ..act("connect") });
    let rest: Vec<_> = rows.into_iter().chain(told(&book)).filter(|row| row.0 == "audit.refused").collect();
    assert_eq!(rest, [row("audit.refused", "blocked")]);
}

#[test]
fn past_its_limit_acts_are_counted_and_the_number_is_told() {
    let book = book();
    for _ in 0..MAX_WAITING + 7 {
        book.add(act("a"));
    }
    let rows = book.take();
    assert_eq!(rows.len(), MAX_WAITING + 1);
    let last = rows.last().unwrap();
    assert_eq!(
        (last.action.as_str(), last.summary.as_ref().unwrap()),
        ("audit.missed", &json!({ "notWritten": 7 }))
    );
    book.put_back(rows);
    assert_eq!(book.take().len(), MAX_WAITING + 1, "the last one had no room, and is told as missing");
}
