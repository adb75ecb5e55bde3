use super::*;
use serde_json::json;

const HOUR: i64 = 3_600_000;

fn job(more: Value) -> Job {
    let mut job = json!({
        "id": "j", "name": "news", "createdAtMs": 1, "updatedAtMs": 1,
        "schedule": { "kind": "every", "everyMs": HOUR }, "sessionTarget": "isolated", "wakeMode": "now",
        "payload": { "kind": "agentTurn", "message": "m" },
        "delivery": { "mode": "announce", "channel": "telegram", "to": "7" },
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Job::read(job).unwrap()
}

fn failed(job: &Job, times: u64, general: Option<&FailureAlert>, now: i64) -> Option<News> {
    let mut job = job.clone();
    job.state.consecutive_errors = Some(times - 1);
    news(&job, general, End::Failed("401 from the provider"), now)
}

fn chat(news: Option<News>) -> Option<String> {
    news.map(|news| news.to.to.as_deref().unwrap_or("last").to_owned())
}

fn general(written: Value) -> FailureAlert {
    read(&written).unwrap().unwrap()
}

#[test]
fn the_second_failure_is_told_where_answers_go_and_once_for_one_cause() {
    let mut job = job(json!({}));
    assert_eq!(failed(&job, 1, None, 0), None);
    let told = failed(&job, 2, None, 0).unwrap();
    assert!(
        told.text.contains("\"news\" failed 2 times in a row") && told.text.contains("401 from"),
        "{}",
        told.text
    );
    assert_eq!(told.to.to.as_deref(), Some("7"));
    job.state.failure_incident = told.incident;
    assert_eq!(failed(&job, 5, None, 9 * HOUR), None, "the same cause, however long");
    job.state.consecutive_errors = Some(5);
    assert_eq!(news(&job, None, End::Failed("another"), HOUR - 1), None, "too soon");
    assert!(news(&job, None, End::Failed("another"), HOUR).is_some());
    let well = news(&job, None, End::Well, 1).unwrap();
    assert_eq!((well.incident, well.to.to.as_deref()), (None, Some("7")));
    job.state.failure_incident = None;
    assert_eq!(news(&job, None, End::Well, 1), None, "nobody was worried");
}

#[test]
fn a_job_and_the_configuration_say_who_hears_of_it_and_when() {
    let quiet = json!({ "delivery": { "mode": "none" } });
    assert_eq!(failed(&job(quiet.clone()), 5, None, 0), None, "nobody would hear of it");
    let wanted = general(json!({ "after": 1 }));
    assert_eq!(chat(failed(&job(quiet.clone()), 1, Some(&wanted), 0)).as_deref(), Some("last"));
    let elsewhere = general(json!({ "channel": "discord", "to": "ops" }));
    assert_eq!(chat(failed(&job(json!({})), 2, Some(&elsewhere), 0)).as_deref(), Some("ops"));
    let own = job(json!({ "failureAlert": { "after": 3, "to": "mine" } }));
    assert_eq!(failed(&own, 2, Some(&wanted), 0), None);
    assert_eq!(chat(failed(&own, 3, Some(&elsewhere), 0)).as_deref(), Some("mine"));
    let off = general(json!({ "enabled": false }));
    assert_eq!(failed(&job(json!({})), 5, Some(&off), 0), None);
    assert!(failed(&own, 3, Some(&off), 0).is_some(), "the job wants it");
    assert_eq!(failed(&job(json!({ "failureAlert": false })), 5, None, 0), None);
    let best_effort = json!({ "delivery": { "mode": "announce", "to": "7", "bestEffort": true } });
    assert_eq!(failed(&job(best_effort), 5, None, 0), None);
}

#[test]
fn that_a_job_is_turned_off_is_told_in_any_case() {
    let job = job(json!({ "failureAlert": false }));
    let told = failed(&job, MOST_FAILURES, None, 0).unwrap();
    assert!(told.text.contains("was turned off after 10 failures") && told.text.contains("cron enable j"));
}

#[test]
fn what_did_not_reach_its_chat_is_told_in_another_one_only() {
    let untold = |job: &Job| news(job, None, End::Untold("the chat is gone"), 0);
    assert_eq!(untold(&job(json!({}))), None);
    let failures = json!({ "mode": "announce", "to": "ops" });
    let delivery = json!({ "mode": "announce", "to": "7", "failureDestination": failures });
    assert_eq!(chat(untold(&job(json!({ "delivery": delivery })))).as_deref(), Some("ops"));
}

#[test]
fn what_cannot_be_read_is_said() {
    assert!(read(&json!({ "after": 0 })).unwrap_err().starts_with("failureAlert: "));
    assert!(read(&json!({ "afer": 1 })).unwrap_err().contains("afer"));
    assert!(read(&json!({ "mode": "webhook", "to": "http://x" })).unwrap_err().contains("webhook"));
}
