//! What is done at set times. Pure.

use serde_json::{Map, Value, json};

/// Jobs that OpenClaw makes for its own parts begin with these.
const OWN: &[&str] = &["heartbeat:", "memory-core:", "skill-collection-review:"];

/// A job of the other gateway.
#[derive(Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Itself, as OpenClaw writes it, with its state.
    pub value: Value,
}

/// A job out of a row of `cron_jobs`.
///
/// # Errors
/// What it is called, and why it is left out.
pub fn of_row(row: &Map<String, Value>) -> Result<Job, (String, String)> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let read = |name: &str| serde_json::from_str::<Value>(text(name)).ok().filter(Value::is_object);
    let Some(mut value) = read("job_json") else {
        return Err((text("job_id").to_owned(), "it is no JSON".into()));
    };
    value["state"] = read("state_json").unwrap_or_else(|| json!({}));
    if let Some(at) = row.get("updated_at") {
        value["updatedAtMs"] = at.clone();
    }
    job(value)
}

/// A job out of the list of older versions, `cron/jobs.json`.
///
/// # Errors
/// What it is called, and why it is left out.
pub fn job(mut value: Value) -> Result<Job, (String, String)> {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    // The oldest lists name jobs otherwise.
    let id = Some(text("id")).filter(|id| !id.is_empty()).unwrap_or_else(|| text("jobId"));
    let name = Some(text("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone());
    if id.is_empty() {
        return Err((name, "it has no id".into()));
    }
    let own = |key: &str| OWN.iter().any(|own| key.starts_with(own));
    if value["payload"]["kind"] == "heartbeat" || own(&text("declarationKey")) {
        return Err((name, "OpenClaw made it for a part of its own".into()));
    }
    value["id"] = json!(id);
    value["name"] = json!(name);
    if value["updatedAtMs"].is_null() {
        value["updatedAtMs"] = value["createdAtMs"].clone();
    }
    if value["state"].get("runningAtMs").is_some() {
        // Its run did not outlive its gateway.
        value["state"]["runningAtMs"].take();
    }
    Ok(Job { id, name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_job_with_its_state() {
        let row = json!({
            "job_id": "a", "job_json": "{\"id\":\"a\",\"name\":\"morning\",\"schedule\":{\"kind\":\"cron\"},\"state\":{}}",
            "state_json": "{\"nextRunAtMs\":7}", "updated_at": 5,
        });
        let job = of_row(row.as_object().unwrap()).unwrap();
        assert_eq!((job.id.as_str(), job.name.as_str()), ("a", "morning"));
        assert_eq!((&job.value["state"]["nextRunAtMs"], &job.value["updatedAtMs"]), (&json!(7), &json!(5)));
    }

    #[test]
    fn what_openclaw_made_for_itself_is_left_out() {
        let own = job(json!({ "id": "a", "name": "Dreaming", "declarationKey": "memory-core:dreaming" }));
        assert_eq!(own.unwrap_err().0, "Dreaming");
        let beat = job(json!({ "id": "a", "payload": { "kind": "heartbeat" } }));
        assert!(beat.unwrap_err().1.contains("of its own"));
        assert_eq!(job(json!({ "name": "x" })).unwrap_err().1, "it has no id");
        assert_eq!(of_row(&Map::new()).unwrap_err().1, "it is no JSON");
    }
}
