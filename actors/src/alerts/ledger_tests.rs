use super::*;

const SECOND: i64 = 1_000;

fn trouble(event: AlertEvent, subject: &str) -> Trouble {
    Trouble { subject: subject.into(), event, cause: "why".into(), since: 0 }
}

fn parked(subject: &str) -> Trouble {
    trouble(AlertEvent::Parked, subject)
}

/// Looks each two seconds, and tells whatever is due; returns the times of the messages, and what was in each.
fn story(
    ledger: &mut Ledger,
    span: std::ops::Range<i64>,
    wrong: impl Fn(i64) -> Vec<Trouble>,
) -> Vec<(i64, Vec<News>)> {
    let mut told = Vec::new();
    for now in span.step_by(2).map(|second| second * SECOND) {
        let news = ledger.look(wrong(now / SECOND), now);
        if !news.is_empty() {
            ledger.told(&news, now);
            told.push((now / SECOND, news));
        }
    }
    told
}

#[test]
fn a_trouble_is_told_once_and_once_that_it_is_over() {
    let mut ledger = Ledger::default();
    let wrong = |second: i64| if second < 500 { vec![parked("a")] } else { vec![] };
    let told = story(&mut ledger, 10..2_000, wrong);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], (10, vec![News::Wrong(parked("a"))]));
    assert_eq!(told[1], (558, vec![News::Well(parked("a"), 498 * SECOND)]));
    assert_eq!(ledger.open(), 0);
}

#[test]
fn what_comes_and_goes_is_told_every_ten_minutes_at_the_most() {
    let mut ledger = Ledger::default();
    // A minute and a half of trouble, a minute and a half without.
    let wrong = |second: i64| if second / 90 % 2 == 0 { vec![parked("a")] } else { vec![] };
    let told = story(&mut ledger, 0..3_600, wrong);
    let wrong: Vec<i64> =
        told.iter().filter(|(_, news)| matches!(news[0], News::Wrong(_))).map(|(at, _)| *at).collect();
    assert!(wrong.windows(2).all(|pair| pair[1] - pair[0] >= 600), "{wrong:?}");
    assert!((5..=6).contains(&wrong.len()) && told.len() <= 12, "{told:?}");
    // Shorter than what makes it over, it is one trouble.
    let wrong = |second: i64| if second / 20 % 2 == 0 { vec![parked("b")] } else { vec![] };
    assert_eq!(story(&mut Ledger::default(), 0..3_600, wrong).len(), 1);
}

#[test]
fn what_happens_together_is_told_together_and_an_hour_has_its_limit() {
    let mut ledger = Ledger::default();
    // Each second another one.
    let wrong = |second: i64| (0..=second).map(|n| parked(&format!("a{n}"))).collect();
    let told = story(&mut ledger, 0..1_200, wrong);
    assert!(told.len() <= MOST_AN_HOUR, "{}", told.len());
    assert!(told.windows(2).all(|pair| (pair[1].0 - pair[0].0) * SECOND >= GAP));
    let all = |second: i64| {
        if second < 5_000 { (0..400).map(|n| parked(&format!("a{n}"))).collect() } else { vec![] }
    };
    let later = story(&mut ledger, 1_200..4_500, all);
    let named: usize = told.iter().chain(&later).map(|(_, news)| news.len()).sum();
    assert!(named >= 400, "what had to wait is told: {named}");
}

#[test]
fn a_restart_tells_nothing_twice_and_what_was_over_by_then_is_told() {
    let mut ledger = Ledger::default();
    story(&mut ledger, 0..100, |_| vec![parked("a"), parked("b")]);
    let kept = serde_json::to_string(&ledger).expect("plain data");
    let mut again = Ledger::resumed(&kept, 1_000 * SECOND);
    let told =
        story(&mut again, 1_000..1_400, |second| if second > 1_020 { vec![parked("a")] } else { vec![] });
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0], (1_060, vec![News::Well(parked("b"), 1_000 * SECOND)]));
    assert_eq!(Ledger::resumed("no JSON", 0), Ledger::default());
}

#[test]
fn one_that_was_stuck_and_is_parked_is_not_well() {
    let stuck = || trouble(AlertEvent::Stuck, "a");
    let wrong = move |second: i64| match second {
        0..30 => vec![stuck()],
        30..300 => vec![parked("a")],
        _ => vec![],
    };
    let told = story(&mut Ledger::default(), 0..600, wrong);
    let told: Vec<_> = told.into_iter().flat_map(|(_, news)| news).collect();
    let well = told.iter().position(|news| matches!(news, News::Well(..))).expect("it is well in the end");
    assert_eq!((well, told.len()), (2, 4), "{told:?}");
}

#[test]
fn a_clock_that_goes_back_silences_nobody() {
    let mut ledger = Ledger::default();
    story(&mut ledger, 100_000..100_010, |_| vec![parked("a")]);
    let told =
        story(
            &mut ledger,
            100..2_000,
            |second| if second < 200 { vec![parked("a")] } else { vec![parked("b")] },
        );
    assert_eq!(told[0].1, [News::Wrong(parked("b"))]);
    assert!(
        told.iter().any(|(_, news)| matches!(&news[0], News::Well(one, _) if one.subject == "a")),
        "{told:?}"
    );
}
